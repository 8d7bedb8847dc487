"""Costs: what several networks cost whose results are added, and what their sum does."""

from __future__ import annotations

import math
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..graph.describe import sum_label
from ..graph.drawing.options import Style
from ..graph.graph import Graph, count_parameters
from ..ir.counts import Amount, amount
from ..ir.plan_text import at_batch, milliseconds
from ..ir.table_text import table
from ..ir.written_table import WrittenTable
from ..planning.break_even import BreakEven, find_break_even
from ..planning.predictions import DENSE, Prediction, added, seconds_by_name
from ..support.html import bars_svg, block, heading, html_of, html_table, lines
from ..support.option_words import Labels
from ..support.wording import counted
from .cost import Cost, frozen_lines
from .cost_drawing import DrawnPlans, draw_plans
from .verdict import kind_of, verdict

if TYPE_CHECKING:
    from matplotlib.figure import Figure

# So many networks have a row of their own; others are summed up in one.
_ROWS = 20
# So many are drawn, as of a sum's networks.
_DRAWN = 12
_HEADS = (
    "",
    "parameters",
    "FLOPs forward",
    "FLOPs backward",
    "largest, entries",
    "ms forward",
    "ms backward",
    "runs on",
)


class Costs(tuple[Cost, ...], WrittenTable):
    """The costs of networks whose results are added: those of a layer, or of a sum.

    Each is a :class:`tnlayer.Cost`; the properties are those of the whole. Printed, of several
    networks it is a row each and the total.

    >>> import tnlayer as tn
    >>> T = tn.topologies
    >>> both = T.low_rank(64, 64, rank=4) + T.tensor_train((8, 8), (8, 8), rank=2)
    >>> costs = tn.cost(both, batch=16, backend="torch", minimize="flops")
    >>> len(costs), costs[0].parameters, costs[1].parameters, costs.parameters
    (2, 512, 256, 768)
    >>> costs.forward_flops == costs[0].forward_flops + costs[1].forward_flops
    True
    >>> costs.backward_flops, costs.forward_calls > 2, costs.backward_calls > 2
    (163840, True, True)
    >>> costs.largest_intermediate, costs.width, costs.saved.at(16) > 0
    (2048, 11.0, True)
    >>> round(costs.compression, 1), costs.dense_parameters, costs.dense_forward_flops
    (5.3, 4096, 131072)
    >>> costs.dense_backward_flops, costs.dense_forward_peak, costs.dense_training_peak
    (262144, 4096, 24576)
    >>> costs.forward_peak < costs.training_peak, costs.dtype, costs.label
    (True, 'float32', 'low rank + tensor train')
    >>> costs.batch, costs.samples, costs.graph == both[0], costs.profile == costs[0].profile
    (16, 16, True, True)
    >>> costs.fastest.training == costs[0].fastest.training + costs[1].fastest.training
    True
    >>> [one.backend for one in costs.predictions], costs.predicted("torch") == costs.fastest
    (['torch', 'dense'], True)
    >>> print(costs.table_lines()[0])
    cost of 2 networks and their sum at batch 16, float32
    >>> costs.numbers()["parameters"], len(costs.graphs), costs.break_even().checked
    (768, 2, 65536)
    """

    __slots__ = ()

    # -- the whole -------------------------------------------------------------------------

    @property
    def graphs(self) -> tuple[Graph, ...]:
        """The networks."""
        return tuple(cost.graph for cost in self)

    @property
    def graph(self) -> Graph:
        """The first of them, whose ports are those of all."""
        return self[0].graph

    @property
    def label(self) -> str:
        """The labels of the networks; of many the first ones and the last."""
        return sum_label(self.graphs)

    @property
    def batch(self) -> int:
        """Samples of one call, where an input has some."""
        return self[0].batch

    @property
    def samples(self) -> int:
        """Of one call: ``batch``; 1 where no input has samples."""
        return self[0].samples

    @property
    def dtype(self) -> str:
        """Of the arithmetic."""
        return self[0].dtype

    @property
    def parameters(self) -> int:
        """Trainable entries; those that networks share by name count once."""
        return count_parameters(self.graphs)

    @property
    def forward_flops(self) -> int:
        """FLOPs of the contractions of one forward call."""
        return sum(cost.forward_flops for cost in self)

    @property
    def backward_flops(self) -> int:
        """FLOPs of the contractions of one backward call."""
        return sum(cost.backward_flops for cost in self)

    @property
    def saved(self) -> Amount:
        """Bytes kept from the forward to the backward, beside the inputs."""
        return amount(cost.saved for cost in self)

    @property
    def forward_peak(self) -> int:
        """Bytes allocated at once by a forward without grad, at most: y is there while the next
        network gives its own."""
        y = self[0].dense_forward_peak if len(self) > 1 else 0
        return y + max(cost.forward_peak for cost in self)

    @property
    def training_peak(self) -> int:
        """Bytes allocated at once by a forward and backward, at most: what each network keeps, what
        one of them takes while it runs, and the results of those before it."""
        if len(self) == 1:
            return self[0].training_peak
        batch = self.batch
        standing = [cost.saved.at(batch) + cost.lowered.room(batch).standing for cost in self]
        running = max(cost.training_peak - own for cost, own in zip(self, standing, strict=True))
        return sum(standing) + running + self._results()

    def _results(self) -> int:
        """Bytes of y, and of all gradients, each once."""
        first, names = self[0], set[str]()
        results = first.dense_forward_peak
        for value, asked in zip(first.plan.ports, first.lowered.mask, strict=False):
            results += first.plan.bytes_of(value).at(self.batch) if asked else 0
        for cost in self:
            for parameter in cost.graph.parameters:
                if parameter.node.trainable and parameter.name not in names:
                    names.add(parameter.name)
                    results += parameter.size * cost.plan.itemsize
        return results

    @property
    def forward_calls(self) -> int:
        """Calls of torch, copies included, or of kernels."""
        return sum(cost.forward_calls for cost in self)

    @property
    def backward_calls(self) -> int:
        """The same of a backward."""
        return sum(cost.backward_calls for cost in self)

    @property
    def largest_intermediate(self) -> int:
        """Entries of the largest value that a step of a forward makes, y included."""
        return max(cost.largest_intermediate for cost in self)

    @property
    def width(self) -> float:
        """The contraction width: log2 of ``largest_intermediate``."""
        return math.log2(self.largest_intermediate)

    @property
    def profile(self) -> str:
        """The device profile that predictions rest on, in words."""
        return self[0].profile

    # -- beside dense ----------------------------------------------------------------------

    @property
    def dense_parameters(self) -> int:
        """Entries of the dense map with the same ports."""
        return self[0].dense_parameters

    @property
    def compression(self) -> float:
        """Dense parameters for one trainable parameter of the networks."""
        return self.dense_parameters / max(1, self.parameters)

    @property
    def dense_forward_flops(self) -> int:
        """FLOPs of the dense layer's forward call."""
        return self[0].dense_forward_flops

    @property
    def dense_backward_flops(self) -> int:
        """FLOPs of the dense layer's backward call."""
        return self[0].dense_backward_flops

    @property
    def dense_forward_peak(self) -> int:
        """Bytes that the dense layer's forward allocates: y."""
        return self[0].dense_forward_peak

    @property
    def dense_training_peak(self) -> int:
        """By a forward and backward of the dense layer."""
        return self[0].dense_training_peak

    # -- predictions -----------------------------------------------------------------------

    @property
    def fastest(self) -> Prediction:
        """The predicted times of one call on the backends of the plans: the sum over networks."""
        return added([cost.fastest for cost in self])

    @property
    def predictions(self) -> tuple[Prediction, ...]:
        """Those, and of dense where one dense layer does the same."""
        dense = self[0].predicted(DENSE)
        return (self.fastest, *(() if dense is None else (dense,)))

    def predicted(self, backend: str) -> Prediction | None:
        """The predicted times on a backend, or of "dense".

        Arguments:
            backend: its name; "mixed" where the networks do not run on one.

        Returns:
            seconds of one call; None where nothing is predicted for it.
        """
        return next((one for one in self.predictions if one.backend == backend), None)

    def break_even(self) -> BreakEven | None:
        """The batch sizes at which the sum is predicted to beat one dense layer; None without one.

        Plans for other batch sizes may have to be searched for.
        """
        one_plan = all(cost.one_plan for cost in self)
        return find_break_even([cost.planned for cost in self], one_plan=one_plan)

    def draw(
        self,
        path: str | Path | None = None,
        *,
        labels: Labels = "all",
        style: Style | None = None,
        title: bool = True,
        legend: bool = True,
    ) -> Figure:
        """Draw the orders of forward and backward of each network, a row a network, with predicted
        ms; of more than 12 networks the first ones. ``costs[0].draw()`` draws one.

        Arguments:
            path, labels, style, title, legend: as for :meth:`tnlayer.Cost.draw`.

        Raises:
            BuildError: matplotlib is missing.
            PlanError: a plan has too many steps for a picture.
            SpecError: a label, a colour, a flag or the format is none.

        >>> import tnlayer as tn
        >>> T = tn.topologies
        >>> costs = tn.cost(T.low_rank(16, 16, rank=2) + T.cp((4, 4), (4, 4), rank=2), batch=16)
        >>> len(costs.draw().axes)
        4
        """
        drawn = [
            DrawnPlans(cost.plans, cost.step_seconds(), cost.label or "network", f"costs[{number}]")
            for number, cost in enumerate(self[:_DRAWN])
        ]
        return draw_plans(drawn, path, labels=labels, style=style, title=title, legend=legend)

    # -- as numbers and text ---------------------------------------------------------------

    def numbers(self, *, break_even: bool = False) -> dict[str, Any]:
        """The totals as plain values, for a file, and those of each network under "networks".

        Arguments:
            break_even: whether to add the batch ranges at which dense is slower, of each network.
        """
        has_inputs = bool(self.graph.inputs)
        return {
            "label": self.label,
            "batch": self.batch if self.graph.is_batched else None,
            "dtype": self.dtype,
            "parameters": self.parameters,
            "dense_parameters": self.dense_parameters if has_inputs else None,
            "compression": self.compression if has_inputs else None,
            "forward_flops": self.forward_flops,
            "backward_flops": self.backward_flops,
            "saved_bytes": self.saved.at(self.batch),
            "forward_peak": self.forward_peak,
            "training_peak": self.training_peak,
            "largest_intermediate": self.largest_intermediate,
            "width": self.width,
            "forward_calls": self.forward_calls,
            "backward_calls": self.backward_calls,
            **seconds_by_name(self.predictions),
            "profile": self.profile,
            "networks": [cost.numbers(break_even=break_even) for cost in self],
        }

    def __repr__(self) -> str:
        return f"<Costs of {self._title}>"

    def __str__(self) -> str:
        if len(self) == 1:
            return str(self[0])
        return "\n".join((*self.table_lines(), *self._verdict()))

    def _repr_html_(self) -> str:
        if len(self) == 1:
            return html_of(self[0])
        title, *_ = self.table_lines()
        bars = bars_svg(
            [(one.backend, (1e3 * one.forward, 1e3 * one.backward)) for one in self.predictions],
            ("ms forward", "ms backward"),
        )
        remarks = (*self._remarks(), *self._verdict())
        return block(heading(title), bars, html_table(self._table()), lines(remarks))

    @property
    def _title(self) -> str:
        kind = kind_of(self.graph) or "network"
        words = counted(len(self), kind, kind.replace("network", "networks"))
        both = " and their sum" if len(self) > 1 else ""
        return f"{words}{both}{at_batch(self[0].plan, self.batch)}, {self.dtype}"

    def table_lines(self) -> list[str]:
        """The table of networks, the total and dense, and what it rests on: without a search."""
        return [f"cost of {self._title}", *table(self._table()), *self._remarks()]

    def _remarks(self) -> list[str]:
        each = sum(cost.parameters for cost in self)
        shared = ["parameters that networks share count once in the total"]
        return [
            *(shared if self.parameters != each else []),
            *told_remarks((cost.label or "network", cost) for cost in self),
            f"peak bytes, at most: {self.forward_peak:,} forward, {self.training_peak:,} training",
            f"times: predicted with the profile {self.profile}",
            *frozen_lines(tuple(dict.fromkeys(name for cost in self for name in cost.frozen))),
        ]

    def _verdict(self) -> list[str]:
        """Whether the sum or one dense layer is faster by prediction, in some lines."""
        dense = self[0].predicted(DENSE)
        found = None if dense is None else self.break_even()
        told = verdict(self.graph, self.batch, self.fastest, dense, found)
        return told if dense is None else ["the sum against one dense layer:", *told]

    def _table(self) -> list[tuple[str, ...]]:
        """A header, a row a network, one of those that have none, the total, and dense."""
        shown = self if len(self) <= _ROWS else self[: _ROWS - 1]
        rest = Costs(self[len(shown) :])
        rows = [_HEADS, *(_cells(cost.label or "network", cost) for cost in shown)]
        if rest:
            rows.append(_cells(f"{len(rest)} more", rest))
        rows.append(_cells("total", self))
        dense = self[0].predicted(DENSE)
        if dense is not None:
            rows.append(_dense_cells(self, dense))
        return rows


def told_remarks(costs: Iterable[tuple[str, Cost | Costs]]) -> list[str]:
    """Where counts are not what runs, a line a remark, each with the names that it holds for.

    Arguments:
        costs: with what stands for each in the table.
    """
    found: dict[str, list[str]] = {}
    for name, one in costs:
        for cost in one if isinstance(one, Costs) else (one,):
            for remark in cost.lowered.remarks:
                names = found.setdefault(remark, [])
                names += [name] if name not in names else []
    return [f"{', '.join(names)}: {remark}" for remark, names in found.items()]


def _cells(name: str, cost: Cost | Costs) -> tuple[str, ...]:
    times = cost.fastest
    return (
        name,
        f"{cost.parameters:,}",
        f"{cost.forward_flops:,}",
        f"{cost.backward_flops:,}",
        f"{cost.largest_intermediate:,}",
        milliseconds(times.forward),
        milliseconds(times.backward),
        times.backend,
    )


def _dense_cells(costs: Costs, dense: Prediction) -> tuple[str, ...]:
    return (
        DENSE,
        f"{costs.dense_parameters:,}",
        f"{costs.dense_forward_flops:,}",
        f"{costs.dense_backward_flops:,}",
        f"{costs.samples * costs.graph.out_features:,}",
        milliseconds(dense.forward),
        milliseconds(dense.backward),
        "",
    )
