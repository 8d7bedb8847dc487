"""An order of contraction of the user's, as opt_einsum, numpy and cotengra write paths.

The other way round of planning/path_of_plan.py: places in a list of operands, of which those of a
step are taken out and their product appended, become pairs of the terms of the canonical network.
"""

from __future__ import annotations

from collections.abc import Iterable
from numbers import Integral
from typing import Any

from ..errors import SpecError
from ..graph.argument_checks import shown
from ..graph.canonical import canonicalise
from ..graph.graph import Graph
from ..passes.lower_graph import make_terms
from .path_of_plan import places_of_terms
from .refine_order import SsaPath


def given_path(path: object, graph: Graph) -> SsaPath:
    """The order of a path as pairs of the canonical network's terms.

    Arguments:
        path: steps, each the places of its operands; more than two are multiplied one after the
            other. Operands are the inputs, of a product input one vector a leg, and behind them the
            tensors in the order in which they were declared.
        graph: the network.

    Raises:
        SpecError: a step names no operands that are there, or some are left over.
    """
    form = canonicalise(graph)
    count = len(make_terms(form.graph, is_complex=False).terms)
    places = places_of_terms(graph, form, count)
    left = sorted(range(count), key=places.__getitem__)
    pairs: list[tuple[int, int]] = []
    for number, step in enumerate(_steps(path)):
        chosen = _operands(step, number, len(left))
        taken = [left[place] for place in chosen]
        left = [one for place, one in enumerate(left) if place not in chosen]
        made = taken[0]
        for other in taken[1:]:
            pairs.append((made, other))
            made = count + len(pairs) - 1
        left.append(made)
    if len(left) != 1:
        msg = (
            f"path={shown(path)} leaves {len(left)} of {count} operands that are not multiplied "
            f"with each other; {_operands_of(graph, count)}"
        )
        raise SpecError(msg)
    return tuple(pairs)


def _steps(path: object) -> list[Any]:
    if isinstance(path, str | bytes) or not isinstance(path, Iterable):
        msg = (
            f"path={shown(path)}: expected steps, each the places of its operands, such as "
            "[(0, 1), (0, 1)]; of cotengra's tree it is tree.get_path()"
        )
        raise SpecError(msg)
    steps: list[Any] = list(path)  # pyright: ignore[reportUnknownArgumentType]
    # numpy writes this word before the steps.
    has_word = bool(steps) and isinstance(steps[0], str) and steps[0] == "einsum_path"
    return steps[1:] if has_word else steps


def _operands(step: object, number: int, count: int) -> list[int]:
    """The places that a step names, checked."""
    named = list(step) if isinstance(step, Iterable) and not isinstance(step, str | bytes) else []  # pyright: ignore[reportUnknownArgumentType, reportUnknownVariableType]
    is_whole = all(isinstance(one, Integral) and not isinstance(one, bool) for one in named)
    if not named or not is_whole or len(set(named)) < len(named):
        msg = f"path: step {number} is {shown(step)}; expected different places, such as (0, 1)"
        raise SpecError(msg)
    for place in named:
        if not 0 <= place < count:
            msg = (
                f"path: step {number} names place {place}, but {count} operands are left there, "
                f"0 to {count - 1}: those of a step are taken out, and their product is appended"
            )
            raise SpecError(msg)
    return [int(place) for place in named]


def _operands_of(graph: Graph, count: int) -> str:
    """What a path speaks of, in words."""
    inputs = count - len(graph.tensors)
    names = ", ".join(tensor.name for tensor in graph.tensors[:8])
    more = ", ..." if len(graph.tensors) > 8 else ""
    return f"operands are {inputs} of the inputs, then {names}{more}"
