"""suggest: topologies for a matrix and a budget, by predicted time, dense among them."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from torch import nn

from .. import topologies as all_topologies
from ..budget.fit import Fit, fit_budget
from ..budget.topology import Topology, check_topology, name_of
from ..errors import PlanError, SpecError
from ..graph.argument_checks import check_option, check_whole
from ..graph.told_calls import told
from ..ir.plan_text import milliseconds
from ..ir.table_text import table, with_columns_wrapped, wrapped_lines
from ..ir.written_table import WrittenTable
from ..planning.request import DEFAULT_BATCH, OBJECTIVES, device_option, dtype_option
from ..support.html import bars_svg, block, heading, html_table, lines
from ..support.option_words import Effort, Objective
from .module_cost import ModuleCost, Setting, dense_cost, network_cost

# Those that stand for others, or need sizes that few matrices have, are tried on request.
DEFAULT = (
    all_topologies.low_rank,
    all_topologies.tensor_train,
    all_topologies.tensor_ring,
    all_topologies.btt,
    all_topologies.monarch,
    all_topologies.kronecker,
    all_topologies.tucker,
    all_topologies.cp,
    all_topologies.block_term,
    all_topologies.tree,
    all_topologies.butterfly,
)


_NEAREST = all_topologies.low_rank.__name__


@dataclass(frozen=True, slots=True)
class Suggestion:
    """One topology with the sizes that were chosen; or dense.

    Arguments:
        name: of the topology, or "dense".
        fit: the sizes; None for dense.
        cost: predicted.
        in_features, out_features: of the matrix.
    """

    name: str
    fit: Fit | None
    cost: ModuleCost
    in_features: int
    out_features: int

    @property
    def call(self) -> str:
        """The topology with its arguments, as it can be written; "dense"."""
        return self.name if self.fit is None else self.fit.call

    def layer(self, *, bias: bool = False, **options: Any) -> nn.Module:
        """A module from in_features to out_features: a Layer, or an nn.Linear where this is dense.

        Arguments:
            bias: whether to add a learned vector.
            options: as for :class:`tnlayer.Layer`; of a dense one device and dtype count alone.
        """
        if self.fit is not None:
            return self.fit.layer(bias=bias, **options)
        own = {name: options[name] for name in ("device", "dtype") if name in options}
        return nn.Linear(self.in_features, self.out_features, bias=bias, **own)


@dataclass(frozen=True, slots=True)
class Suggestions(WrittenTable):
    """What :func:`tnlayer.suggest` found, the fastest first: ``print`` it, or take a row by its
    number.

    Arguments:
        in_features, out_features: of the matrix.
        batch: rows of a call.
        budget: in words.
        objective: "train" or "infer": what times are of.
        rows: topologies, dense among them.
        left_out: those that cannot keep the budget, and why.
    """

    in_features: int
    out_features: int
    batch: int
    budget: str
    objective: Objective
    rows: tuple[Suggestion, ...]
    left_out: tuple[tuple[str, str], ...]

    def __len__(self) -> int:
        return len(self.rows)

    def __iter__(self) -> Iterator[Suggestion]:
        return iter(self.rows)

    def __getitem__(self, number: int) -> Suggestion:
        return self.rows[number]

    @property
    def best(self) -> Suggestion:
        """What is predicted to be the fastest; dense, if that is."""
        return self.rows[0]

    def numbers(self) -> dict[str, Any]:
        """The table as plain values, for a file."""
        return {
            "in_features": self.in_features,
            "out_features": self.out_features,
            "batch": self.batch,
            "budget": self.budget,
            "objective": self.objective,
            "rows": [
                {
                    "name": row.name,
                    "fit": None if row.fit is None else row.fit.numbers(),
                    **{key: getattr(row.cost, key) for key in row.cost.__dataclass_fields__},
                }
                for row in self.rows
            ],
            "left_out": dict(self.left_out),
        }

    def __str__(self) -> str:
        return self.text(wrapped_lines(self._in_python()))

    def text(self, last: Sequence[str]) -> str:
        """The table with its remarks, and other lines at the end than what to do in Python.

        Arguments:
            last: those lines, as they shall stand there.
        """
        rows = self._table()
        body = table(with_columns_wrapped(rows, (len(rows[0]) - 1,)))
        return "\n".join((self._title, *body, *wrapped_lines(self._remarks()), *last))

    @property
    def first(self) -> int | None:
        """The number of the first row that is a network; None where there is dense alone."""
        return next((n for n, row in enumerate(self.rows) if row.fit is not None), None)

    def _repr_html_(self) -> str:
        bars = bars_svg([(row.name, (1e3 * row.cost.seconds,)) for row in self.rows], ("ms",))
        remarks = (*self._remarks(), *self._in_python())
        return block(heading(self._title), bars, html_table(self._table()), lines(remarks))

    @property
    def _title(self) -> str:
        return (
            f"{self.in_features} x {self.out_features}, {self.budget}, batch {self.batch}: "
            f"predicted, {self.objective}"
        )

    def _remarks(self) -> list[str]:
        near = "how near to trained weights each comes"
        if any(row.name == _NEAREST for row in self.rows):
            near = f"{_NEAREST} is nearest to trained weights"
        return [
            *(f"left out: {name}: {why}" for name, why in self.left_out),
            f"sorted by predicted time; {near}: docs/compress.md",
        ]

    def _in_python(self) -> list[str]:
        """What one does next."""
        if self.first is None:
            return []
        where = "found.best" if self.first == 0 else f"dense is the fastest; found[{self.first}]"
        return [f"{where}.layer(bias=True) makes {self.rows[self.first].call}"]

    def _table(self) -> list[tuple[str, ...]]:
        """A header and a row a topology."""
        rows = [("parameters", "x fewer", "FLOPs", "ms", "KiB", "network")]
        dense = self.in_features * self.out_features
        for row in self.rows:
            cost = row.cost
            rows.append(
                (
                    f"{cost.parameters:,}",
                    f"{dense / max(1, cost.parameters):,.1f}",
                    f"{cost.flops:,}",
                    milliseconds(cost.seconds),
                    f"{cost.memory / 1024:,.0f}",
                    row.call,
                )
            )
        return list(rows)


@told(
    "tn.suggest(256, 1024, compression=4), of in_features and out_features; for a whole model "
    "tn.compress(model, tn.Budget(compression=4), dry_run=True)"
)
def suggest(
    in_features: int,
    out_features: int,
    *,
    batch: int = DEFAULT_BATCH,
    compression: float | None = None,
    params: float | None = None,
    time: float | None = None,
    flops: float | None = None,
    topologies: Sequence[Topology] | None = None,
    objective: Objective = "train",
    device: str = "cpu",
    dtype: str = "float32",
    effort: Effort = "fast",
) -> Suggestions:
    """Which topologies keep a budget for a matrix, and how fast each is predicted to be.

    Speed and size are all that can be told of a shape. How near a network comes to trained weights
    is what :func:`tnlayer.from_linear` and :func:`tnlayer.compress` tell.

    Arguments:
        in_features, out_features: of the matrix.
        batch: rows of a call.
        compression, params, time, flops: exactly one, as for :func:`tnlayer.fit_budget`.
        topologies: what is tried; by default low_rank, tensor_train, tensor_ring, btt, monarch,
            kronecker, tucker, cp, block_term, tree and butterfly.
        objective: "train" for a forward and backward, "infer" for a forward.
        device, dtype, effort: as for :func:`tnlayer.cost`.

    Raises:
        SpecError: an argument is wrong, or there is not exactly one budget.

    >>> import tnlayer as tn
    >>> found = tn.suggest(256, 256, compression=8, topologies=[tn.topologies.low_rank])
    >>> sorted(row.name for row in found.rows)
    ['dense', 'low_rank']
    >>> len(found), [row.call for row in found if row.fit]
    (2, ['low_rank(256, 256, rank=16)'])
    >>> found[0].layer(bias=True).out_features
    256
    """
    check_option(objective, "objective", OBJECTIVES)
    for size, name in ((in_features, "in_features"), (out_features, "out_features")):
        if check_whole(size, f"suggest: {name}") < 1:
            msg = f"suggest: {name}={size}, expected a number from 1 on"
            raise SpecError(msg)
    tried: Any = DEFAULT if topologies is None else topologies
    wanted: list[Any] = (
        list(tried) if isinstance(tried, Iterable) and not isinstance(tried, str) else [tried]
    )
    for topology in wanted:
        check_topology(topology, "suggest")
    setting = Setting(objective, device_option(device), dtype_option(dtype) or "float32", effort)
    budget = {"compression": compression, "params": params, "time": time, "flops": flops}
    given = {name: value for name, value in budget.items() if value is not None}
    if len(given) != 1:
        got = ", ".join(given) or "none"
        msg = f"suggest: expected exactly one of {', '.join(budget)}, got {got}"
        raise SpecError(msg)
    dense = dense_cost("Linear", in_features, out_features, batch, setting, bias=False)
    sizes = (in_features, out_features)
    rows, left_out = [Suggestion("dense", None, dense, *sizes)], list[tuple[str, str]]()
    for topology in wanted:
        name = name_of(topology)
        options: dict[str, Any] = {"batch": batch, "device": device, "dtype": dtype}
        try:
            fit = fit_budget(topology, in_features, out_features, effort=effort, **given, **options)
            graphs = (fit.network().freeze(),)
            predicted = network_cost("Linear", graphs, batch, setting)
            rows.append(Suggestion(name, fit, predicted, *sizes))
        except (SpecError, PlanError) as error:
            left_out.append((name, str(error)))
    ((kind, amount),) = given.items()
    return Suggestions(
        in_features,
        out_features,
        batch,
        f"{kind}={amount:g}",
        objective,
        tuple(sorted(rows, key=lambda row: row.cost.seconds)),
        tuple(left_out),
    )
