"""Comparison: the costs of several networks side by side, as a frozen printable value."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from ..errors import SpecError
from ..graph.argument_checks import shown
from ..graph.as_graph import AnyNetwork, as_graph, dtype_asked_for
from ..graph.graph import Graph
from ..ir.paged_table import paged_table
from ..ir.plan_text import milliseconds
from ..planning.planner import DEFAULT_BATCH, DEFAULT_MINIMIZE
from ..planning.predictions import DENSE
from ..planning.request import dtype_option
from ..support.html import block, heading, html_table
from ..support.option_words import Backend, Device, Dtype, Effort, Minimize, Objective
from ..support.wording import counted
from .cost import Cost
from .cost_of_network import cost


@dataclass(frozen=True, slots=True)
class Comparison:
    """The costs of several networks at one batch size; ``print`` puts them side by side.

    Arguments:
        batch: samples of one call.
        costs: one a network, in the order given.
        same_ports: whether all take and give the same features, so that one dense layer stands
            for all.

    >>> import tnlayer as tn
    >>> found = tn.compare(tn.topologies.low_rank(8, 6, rank=2), batch=16)
    >>> print(str(found).splitlines()[0])
    1 network at batch 16, float32
    >>> found.costs[0].parameters, found.same_ports, found.numbers()["batch"]
    (28, True, 16)
    """

    batch: int
    costs: tuple[Cost, ...]
    same_ports: bool

    def numbers(self) -> dict[str, Any]:
        """The counts as plain numbers, for a file: batch, same_ports, and one entry a network."""
        return {
            "batch": self.batch,
            "same_ports": self.same_ports,
            "networks": [one.numbers() for one in self.costs],
        }

    def __str__(self) -> str:
        title, rows = self._table()
        return "\n".join((title, *paged_table(rows)))

    def _repr_html_(self) -> str:
        title, rows = self._table()
        return block(heading(title), html_table(rows))

    def _table(self) -> tuple[str, list[tuple[str, ...]]]:
        """What is compared, and a row a count with a cell a network."""
        heads = ("", *_heads(self.costs), *((DENSE,) if self.same_ports else ()))
        dtypes = ", ".join(dict.fromkeys(one.plan.dtype for one in self.costs))
        title = f"{counted(len(self.costs), 'network')} at batch {self.batch}, {dtypes}"
        return title, [heads, *self._rows()]

    def _rows(self) -> list[tuple[str, ...]]:
        batch, first = self.batch, self.costs[0]
        dense_flops = (first.dense_forward_flops, first.dense_backward_flops)
        rows: list[tuple[str, Iterable[str], str]] = [
            ("parameters", _whole(c.parameters for c in self.costs), f"{first.dense_parameters:,}"),
            ("compression", (f"{c.compression:,.1f}" for c in self.costs), "1.0"),
            (
                "FLOPs a sample, forward",
                (f"{c.forward_flops / batch:,.0f}" for c in self.costs),
                f"{dense_flops[0] // batch:,}",
            ),
            (
                "FLOPs a sample, backward",
                (f"{c.backward_flops / batch:,.0f}" for c in self.costs),
                f"{dense_flops[1] // batch:,}",
            ),
            (
                "peak bytes, forward",
                _whole(c.forward_peak for c in self.costs),
                f"{first.dense_forward_peak:,}",
            ),
            (
                "peak bytes, training",
                _whole(c.training_peak for c in self.costs),
                f"{first.dense_training_peak:,}",
            ),
            ("bytes saved for backward", _whole(c.saved.at(batch) for c in self.costs), "0"),
            ("calls, forward", _whole(c.forward_calls for c in self.costs), "1"),
            ("calls, backward", _whole(c.backward_calls for c in self.costs), "2"),
            *_time_rows(self.costs),
        ]
        dense = self.same_ports
        return [(name, *cells, *((of_dense,) if dense else ())) for name, cells, of_dense in rows]


def _whole(numbers: Iterable[int]) -> Iterable[str]:
    return (f"{number:,}" for number in numbers)


def _heads(costs: Sequence[Cost]) -> list[str]:
    """A name for each column: the label, with a number where several networks share it."""
    labels = [one.label or "network" for one in costs]
    shared = Counter(labels)
    seen: Counter[str] = Counter()
    heads: list[str] = []
    for label in labels:
        seen[label] += 1
        heads.append(f"{label} ({seen[label]})" if shared[label] > 1 else label)
    return heads


def predicted_seconds(counted: Cost) -> dict[str, tuple[float, float]]:
    """Predicted seconds of one call, forward and backward, by backend and for dense."""
    return {one.backend: (one.forward, one.backward) for one in counted.predictions}


def _time_rows(costs: Sequence[Cost]) -> list[tuple[str, Iterable[str], str]]:
    """Predicted milliseconds, two rows a backend."""
    predicted = [predicted_seconds(one) for one in costs]
    backends = dict.fromkeys(backend for times in predicted for backend in times)
    dense = predicted[0].get(DENSE)
    rows: list[tuple[str, Iterable[str], str]] = []
    for backend in (name for name in backends if name != DENSE):
        for part, name in enumerate(("forward", "backward")):
            cells = [_milliseconds(times.get(backend), part) for times in predicted]
            rows.append((f"ms {name}, {backend}", cells, _milliseconds(dense, part)))
    return rows


def _milliseconds(seconds: tuple[float, float] | None, part: int) -> str:
    return "-" if seconds is None else milliseconds(seconds[part])


def compare(
    *nets: AnyNetwork | Sequence[AnyNetwork],
    batch: int = DEFAULT_BATCH,
    device: Device = "cpu",
    objective: Objective = "train",
    memory_limit: int | None = None,
    effort: Effort = "default",
    dtype: Dtype | None = None,
    minimize: Minimize = DEFAULT_MINIMIZE,
    backend: Backend = "auto",
) -> Comparison:
    """Count what several networks cost, side by side, without running or allocating anything.

    Arguments:
        nets: the networks, in the order of the columns, or one list of them; of a layer its network
            and dtype.
        batch: samples of one call.
        device, objective, memory_limit, effort, dtype, minimize, backend: as for
            :func:`tnlayer.cost`.

    Raises:
        SpecError: these are no networks, or there is none.

    >>> from tnlayer.topologies import low_rank, tensor_train
    >>> train = tensor_train((8, 8), (8, 8), rank=4)
    >>> found = compare(low_rank(64, 64, rank=4), train, batch=16)
    >>> [one.parameters for one in found.costs], found.same_ports
    ([512, 512], True)
    """
    several = nets[0] if len(nets) == 1 else nets
    listed = several if isinstance(several, Sequence) else nets
    if not listed or isinstance(listed, str):
        got = "none" if not listed else f"the text {shown(listed)}"
        msg = f"compare: expected networks, got {got}; pass compare(net1, net2, ...)"
        raise SpecError(msg)
    graphs = [as_graph(net, "compare") for net in listed]
    costs = tuple(
        cost(
            graph,
            batch=batch,
            device=device,
            objective=objective,
            memory_limit=memory_limit,
            effort=effort,
            dtype=dtype_option(dtype_asked_for(net, dtype)) or None,
            minimize=minimize,
            backend=backend,
        )
        for net, graph in zip(listed, graphs, strict=True)
    )
    return Comparison(batch, costs, len({_ports(graph) for graph in graphs}) == 1)


def _ports(graph: Graph) -> tuple[object, ...]:
    """What networks must have in common for one dense layer to stand for them."""
    ports = tuple((graph.input_shape(port), port.batched, port.product) for port in graph.inputs)
    return (*ports, graph.out_features)
