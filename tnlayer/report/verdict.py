"""The verdict: whether a network or dense is faster by prediction, in plain words."""

from __future__ import annotations

from collections.abc import Callable

from ..graph.graph import Graph
from ..ir.plan_text import milliseconds
from ..planning.break_even import BreakEven
from ..planning.predictions import Prediction

_NO_DENSE = "no dense layer does the same"

# Predictions that are closer than this are not told apart.
CLOSE = 1.1


def verdict(
    graph: Graph, batch: int, ours: Prediction, dense: Prediction | None, found: BreakEven | None
) -> list[str]:
    """Four lines, two each for training and for inference; one where no dense layer does the same.

    Arguments:
        graph: the network, or the first of several.
        batch: samples of a call.
        ours: predicted times of the network, or of the sum of several.
        dense: those of the dense layer.
        found: the batch sizes at which the network is the faster one.
    """
    if dense is None or found is None:
        return [_why_no_dense(graph)]
    parts: tuple[tuple[str, Callable[[Prediction], float], str], ...] = (
        ("training", lambda one: one.training, found.text(found.training)),
        ("without grad", lambda one: one.inference, found.text(found.inference)),
    )
    lines: list[str] = []
    for name, seconds, where in parts:
        lines.append(f"{name}: {_faster(batch, seconds(ours), seconds(dense))}")
        lines.append(f"{name}, faster than dense: {where}")
    return lines


def kind_of(graph: Graph) -> str:
    """What a network without inputs is called; "" for one that has some."""
    if graph.inputs:
        return ""
    return "closed network" if graph.is_closed else "network without inputs"


def _why_no_dense(graph: Graph) -> str:
    """What is the matter where no dense layer does the same."""
    kind = kind_of(graph)
    if kind:
        return f"contraction of a {kind}: there are no samples, and {_NO_DENSE}"
    return f"{_NO_DENSE}: that needs one batched input that is no product"


def _faster(batch: int, ours: float, dense: float) -> str:
    """Who is faster at a batch size, and by how much."""
    first, second = f"{milliseconds(ours)} ms", f"{milliseconds(dense)} ms"
    ratio = max(ours, dense) / min(ours, dense)
    close = "; too close to be sure" if ratio < CLOSE else f" ({ratio:,.1f} x)"
    if ours < dense:
        return f"faster than dense at batch {batch:,}: predicted {first} against {second}{close}"
    return f"dense is faster at batch {batch:,}: predicted {second} against {first}{close}"
