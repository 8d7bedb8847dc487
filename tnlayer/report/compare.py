"""Comparison: the costs of several networks side by side, as a frozen printable value."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from operator import itemgetter
from typing import Any

from ..errors import SpecError
from ..graph.argument_checks import shown
from ..graph.as_graph import AnyNetwork, as_graph, dtype_asked_for
from ..graph.graph import Graph
from ..graph.sum_of_networks import SumOfNetworks
from ..ir.paged_table import paged_table
from ..ir.plan_text import milliseconds
from ..ir.table_text import wrapped_lines
from ..ir.written_table import WrittenTable
from ..planning.planner import DEFAULT_BATCH, DEFAULT_MINIMIZE
from ..planning.predictions import DENSE
from ..planning.request import dtype_option
from ..support.html import block, heading, html_table, lines
from ..support.option_words import Backend, Device, Dtype, Effort, Minimize, Objective
from ..support.wording import counted
from .cost import LARGEST, Cost
from .cost_of_network import cost
from .costs import Costs, told_remarks
from .verdict import CLOSE


@dataclass(frozen=True, slots=True)
class Comparison(WrittenTable):
    """The costs of several networks at one batch size; ``print`` puts them side by side.

    Arguments:
        batch: samples of one call, where an input has some.
        costs: one a network, in the order given; of a sum its Costs.
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
    costs: tuple[Cost | Costs, ...]
    same_ports: bool

    def numbers(self) -> dict[str, Any]:
        """The counts as plain numbers, for a file: batch, same_ports, and one entry a network."""
        return {
            "batch": self.batch,
            "same_ports": self.same_ports,
            "networks": [one.numbers() for one in self.costs],
        }

    def __str__(self) -> str:
        return "\n".join((self._title, *paged_table(self._table()), *wrapped_lines(self._below())))

    def _below(self) -> list[str]:
        """Where counts are not what runs, and which one is fastest."""
        named = zip(_heads(self.costs), self.costs, strict=True)
        return [*told_remarks(named), *self.verdict()]

    def verdict(self) -> list[str]:
        """Which network is predicted to train fastest, in a line; none for a single network.

        >>> import tnlayer as tn
        >>> T = tn.topologies
        >>> found = tn.compare(T.low_rank(64, 64, rank=4), T.low_rank(64, 64, rank=8), batch=4096)
        >>> print(*found.verdict())  # doctest: +ELLIPSIS
        training: low rank ... is fastest by prediction: ... ms...
        """
        times = [
            (one.fastest.training, name)
            for one, name in zip(self.costs, _heads(self.costs), strict=True)
        ]
        dense = self.costs[0].predicted(DENSE) if self._has_dense else None
        times += [] if dense is None else [(dense.training, DENSE)]
        if len(times) < 2:
            return []
        (least, first), (most, second), *_ = sorted(times, key=lambda one: one[0])
        close = "; too close to be sure" if most < CLOSE * least else f" ({most / least:,.1f} x)"
        return [
            f"training: {first} is fastest by prediction: {milliseconds(least)} ms; next {second}, "
            f"{milliseconds(most)} ms{close}"
        ]

    def _repr_html_(self) -> str:
        return block(heading(self._title), html_table(self._table()), lines(self._below()))

    @property
    def _title(self) -> str:
        """What is compared."""
        dtypes = ", ".join(dict.fromkeys(one.dtype for one in self.costs))
        where = f" at batch {self.batch:,}" if self._is_batched else ""
        return f"{counted(len(self.costs), 'network')}{where}, {dtypes}"

    def _table(self) -> list[tuple[str, ...]]:
        """A row a count with a cell a network."""
        heads = ("", *_heads(self.costs), *((DENSE,) if self._has_dense else ()))
        return [heads, *self._rows()]

    @property
    def _is_batched(self) -> bool:
        """Whether any of them has samples."""
        return any(one.graph.is_batched for one in self.costs)

    @property
    def _has_dense(self) -> bool:
        """Whether one dense map stands for all."""
        return self.same_ports and bool(self.costs[0].graph.inputs)

    def _rows(self) -> list[tuple[str, ...]]:
        first = self.costs[0]
        has_inputs = any(one.graph.inputs for one in self.costs)
        what = " a sample" if self._is_batched else ""
        dense_flops = (first.dense_forward_flops, first.dense_backward_flops)
        rows: list[tuple[str, Iterable[str], str]] = [
            ("parameters", _whole(c.parameters for c in self.costs), f"{first.dense_parameters:,}"),
            *([("compression", map(_compression, self.costs), "1.0")] if has_inputs else []),
            (
                f"FLOPs{what}, forward",
                (f"{c.forward_flops / c.samples:,.0f}" for c in self.costs),
                f"{dense_flops[0] // first.samples:,}",
            ),
            (
                f"FLOPs{what}, backward",
                (f"{c.backward_flops / c.samples:,.0f}" for c in self.costs),
                f"{dense_flops[1] // first.samples:,}",
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
            ("bytes saved for backward", _whole(c.saved.at(self.batch) for c in self.costs), "0"),
            (
                LARGEST,
                _whole(c.largest_intermediate for c in self.costs),
                f"{first.samples * first.graph.out_features:,}",
            ),
            ("calls, forward", _whole(c.forward_calls for c in self.costs), "1"),
            ("calls, backward", _whole(c.backward_calls for c in self.costs), "2"),
            *_time_rows(self.costs),
        ]
        dense = self._has_dense
        return [(name, *cells, *((of_dense,) if dense else ())) for name, cells, of_dense in rows]


def _compression(cost: Cost | Costs) -> str:
    return f"{cost.compression:,.1f}" if cost.graph.inputs else "-"


def _whole(numbers: Iterable[int]) -> Iterable[str]:
    return (f"{number:,}" for number in numbers)


def _heads(costs: Sequence[Cost | Costs]) -> list[str]:
    """A name for each column: the label, with a number where several networks share it."""
    labels = list(map(_head, costs))
    shared = Counter(labels)
    seen: Counter[str] = Counter()
    heads: list[str] = []
    for label in labels:
        seen[label] += 1
        heads.append(f"{label} ({seen[label]})" if shared[label] > 1 else label)
    return heads


def _head(cost: Cost | Costs) -> str:
    """What it is, short enough for a column."""
    if isinstance(cost, Cost):
        return cost.label or "network"
    others = f" + {len(cost) - 1} more" if len(cost) > 1 else ""
    return f"{cost[0].label or 'network'}{others}"


def predicted_seconds(counted: Cost | Costs) -> dict[str, tuple[float, float]]:
    """Predicted seconds of one call, forward and backward, by backend and for dense."""
    return {one.backend: (one.forward, one.backward) for one in counted.predictions}


def _time_rows(costs: Sequence[Cost | Costs]) -> list[tuple[str, Iterable[str], str]]:
    """Predicted milliseconds, three rows a backend."""
    predicted = [predicted_seconds(one) for one in costs]
    backends = dict.fromkeys(backend for times in predicted for backend in times)
    dense = predicted[0].get(DENSE)
    rows: list[tuple[str, Iterable[str], str]] = []
    for backend in (name for name in backends if name != DENSE):
        for name, part in _PARTS.items():
            cells = [_milliseconds(times.get(backend), part) for times in predicted]
            rows.append((f"ms {name}, {backend}", cells, _milliseconds(dense, part)))
    return rows


# What is told of the seconds of a forward and a backward.
_PARTS: Mapping[str, Callable[[tuple[float, float]], float]] = {
    "forward": itemgetter(0),
    "backward": itemgetter(1),
    "training": sum,
}


def _milliseconds(
    seconds: tuple[float, float] | None, part: Callable[[tuple[float, float]], float]
) -> str:
    return "-" if seconds is None else milliseconds(part(seconds))


def compare(
    *nets: AnyNetwork | SumOfNetworks | Sequence[AnyNetwork | SumOfNetworks],
    batch: int = DEFAULT_BATCH,
    device: Device = "cpu",
    objective: Objective = "train",
    memory_limit: int | str | None = None,
    effort: Effort = "default",
    dtype: Dtype | None = None,
    minimize: Minimize = DEFAULT_MINIMIZE,
    backend: Backend = "auto",
) -> Comparison:
    """Count what several networks cost, side by side, without running or allocating anything.

    Arguments:
        nets: the networks, in the order of the columns, or one list of them; of a layer its network
            and dtype. A sum, ``net1 + net2`` or ``tn.energy(...)``, is one column.
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
    is_list = isinstance(several, Sequence) and not isinstance(several, SumOfNetworks)
    listed: Any = several if is_list else nets
    if not listed or isinstance(listed, str):
        got = "none" if not listed else f"the text {shown(listed)}"
        msg = f"compare: expected networks, got {got}; pass compare(net1, net2, ...)"
        raise SpecError(msg)
    checked: list[Any] = [
        net if isinstance(net, SumOfNetworks) and net else as_graph(net, "compare")
        for net in listed
    ]
    costs: tuple[Cost | Costs, ...] = tuple(
        cost(
            one,
            batch=batch,
            device=device,
            objective=objective,
            memory_limit=memory_limit,
            effort=effort,
            dtype=dtype_option(dtype_asked_for(net, dtype)) or None,
            minimize=minimize,
            backend=backend,
        )
        for net, one in zip(listed, checked, strict=True)
    )
    return Comparison(batch, costs, len({_ports(one.graph) for one in costs}) == 1)


def _ports(graph: Graph) -> tuple[object, ...]:
    """What networks must have in common for one dense layer to stand for them."""
    ports = tuple((graph.input_shape(port), port.batched, port.product) for port in graph.inputs)
    return (*ports, graph.out_features)
