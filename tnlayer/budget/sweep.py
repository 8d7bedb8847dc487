"""A sweep: one topology at each point of a grid, with sizes, costs and a user's score."""

from __future__ import annotations

import math
from collections.abc import Callable, Generator, Iterable, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import product
from typing import TYPE_CHECKING, Any

import torch

from ..dispatch.tune import random_inputs
from ..errors import BuildError, PlanError, SpecError
from ..graph.argument_checks import check_flag, check_mapping, shown
from ..graph.network import Network
from ..ir.paged_table import paged_table
from ..ir.plan_text import milliseconds
from ..ir.written_table import WrittenTable
from ..measure.median_time import median_seconds
from ..nn.layer import Layer
from ..planning.predictions import DENSE
from ..planning.request import DEFAULT_BATCH
from ..report.cost import Cost
from ..report.cost_of_network import cost
from ..support.html import block, heading, html_table
from ..support.option_words import Backend, Dtype, Effort
from .topology import Topology, name_of

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_MOST_POINTS = 10_000


@dataclass(frozen=True, slots=True)
class SweepRow:
    """One point of a grid.

    Arguments:
        arguments: of the topology, by name.
        cost: what its network costs.
        measured: seconds of a forward and backward call on this machine, or None.
        score: what the user's function gave, or None.
    """

    arguments: tuple[tuple[str, Any], ...]
    cost: Cost
    measured: float | None = None
    score: float | None = None

    def numbers(self) -> dict[str, Any]:
        """The row as plain values, for a file."""
        return {
            **dict(self.arguments),
            "parameters": self.cost.parameters,
            "compression": self.cost.compression,
            "forward_flops": self.cost.forward_flops,
            "predicted_seconds": self.cost.fastest.training,
            "measured_seconds": self.measured,
            "score": self.score,
        }


@dataclass(frozen=True, slots=True)
class Sweep(WrittenTable):
    """What :func:`tnlayer.sweep` found; ``print`` shows a table, ``plot`` a picture.

    Arguments:
        topology: its name.
        batch: samples of one call.
        rows: one a point, in the order of the grid.

    >>> import tnlayer as tn
    >>> found = tn.sweep(tn.topologies.low_rank, {"rank": [1, 2]}, in_features=8, out_features=6)
    >>> [row.cost.parameters for row in found.rows]
    [14, 28]
    >>> found.numbers()[0]["rank"], found.rows[1].arguments
    (1, (('rank', 2),))
    >>> axes = found.plot("parameters", "forward_flops")
    """

    topology: str
    batch: int
    rows: tuple[SweepRow, ...]

    def numbers(self) -> list[dict[str, Any]]:
        """The rows as plain values, for a file or a data frame."""
        return [row.numbers() for row in self.rows]

    def __str__(self) -> str:
        return "\n".join((self._title, *paged_table(self._table())))

    def _repr_html_(self) -> str:
        return block(heading(self._title), html_table(self._table()))

    @property
    def _title(self) -> str:
        return f"{self.topology} at batch {self.batch}, {self.rows[0].cost.plan.dtype}"

    def _table(self) -> list[tuple[str, ...]]:
        names = [name for name, _ in self.rows[0].arguments]
        has_times = any(row.measured is not None for row in self.rows)
        has_scores = any(row.score is not None for row in self.rows)
        has_dense = any(row.cost.predicted(DENSE) is not None for row in self.rows)
        head = (*names, "parameters", "compression", "FLOPs a sample", "predicted ms")
        head += ("of dense",) if has_dense else ()
        head += (("measured ms",) if has_times else ()) + (("score",) if has_scores else ())
        rows: list[tuple[str, ...]] = [head]
        for row in self.rows:
            cells = [str(value) for _, value in row.arguments]
            cells += [f"{row.cost.parameters:,}", f"{row.cost.compression:,.1f}"]
            cells += [f"{row.cost.forward_flops / self.batch:,.0f}"]
            cells += [milliseconds(row.cost.fastest.training)]
            cells += [_share(row.cost)] if has_dense else []
            cells += [_milliseconds(row.measured)] if has_times else []
            cells += [_number(row.score)] if has_scores else []
            rows.append(tuple(cells))
        return rows

    def plot(self, x: str = "parameters", y: str | None = None, ax: Axes | None = None) -> Axes:
        """Draw two of the numbers against one another (``pip install tnlayer[viz]``).

        Arguments:
            x, y: names in :meth:`numbers`; y is by default the score, where there is none the
                measured time, and else the predicted one.
            ax: axes to draw on, or None for a figure of its own.

        Raises:
            BuildError: matplotlib is missing.
            SpecError: there is no such number.
        """
        try:
            from matplotlib.figure import Figure
        except ImportError as error:
            msg = f"drawing needs matplotlib ({error}); install it with `pip install tnlayer[viz]`"
            raise BuildError(msg) from None
        numbers = self.numbers()
        if y is None:
            usual = ("score", "measured_seconds", "predicted_seconds")
            y = next(name for name in usual if all(row[name] is not None for row in numbers))
        for name in (x, y):
            if any(not isinstance(row.get(name), int | float) for row in numbers):
                known = ", ".join(key for key, value in numbers[0].items() if value is not None)
                msg = f"plot: no number {shown(name)} at every point; expected one of {known}"
                raise SpecError(msg)
        if ax is None:
            ax = Figure(layout="constrained").add_subplot()
        ax.plot([row[x] for row in numbers], [row[y] for row in numbers], "o")
        for row, one in zip(numbers, self.rows, strict=True):
            words = ", ".join(f"{name}={value}" for name, value in one.arguments)
            # Beside the mark, and the frame leaves room for it.
            ax.annotate(
                words, (row[x], row[y]), (4, 4), textcoords="offset points", fontsize=7,
                parse_math=False,
            )  # fmt: skip
        ax.margins(0.15)
        ax.set_xlabel(x)
        ax.set_ylabel(y)
        ax.set_title(self._title)
        return ax


def _share(one: Cost) -> str:
    """The predicted time of a training step in that of the dense layer."""
    dense = one.predicted(DENSE)
    return "-" if dense is None else f"{one.fastest.training / dense.training:.2f}"


def _milliseconds(seconds: float | None) -> str:
    return "-" if seconds is None else milliseconds(seconds)


def _number(score: float | None) -> str:
    return "-" if score is None else f"{score:.4g}"


def sweep(
    topology: Topology,
    grid: Mapping[str, Iterable[Any]],
    *,
    batch: int = DEFAULT_BATCH,
    measure: bool = False,
    score: Callable[[Layer], float] | None = None,
    backend: Backend = "auto",
    dtype: Dtype | None = None,
    effort: Effort = "default",
    **arguments: Any,
) -> Sweep:
    """Count, predict and, if asked, time and score a topology at each point of a grid.

    Arguments:
        topology: a function that returns a Network, such as one of tn.topologies.
        grid: values to try by the name of the topology's argument; all combinations are.
        batch: samples of one call.
        measure: whether to time a forward and backward call on this machine (medians).
        score: a function of a fresh layer, such as its accuracy after training.
        backend, dtype, effort: as for :func:`tnlayer.cost`, and of the layers.
        arguments: the topology's other arguments.

    Returns:
        a row a point.

    Raises:
        SpecError: the grid is empty or too large, or the topology refuses a point.

    >>> import tnlayer as tn
    >>> found = tn.sweep(
    ...     tn.topologies.tensor_train, {"rank": [1, 2]}, in_shape=(4, 4), out_shape=(4, 4),
    ...     score=lambda layer: float(layer.parameter_count),
    ... )
    >>> [(row.cost.parameters, row.score) for row in found.rows]
    [(32, 32.0), (64, 64.0)]
    """
    check_mapping(grid, "sweep: grid", "values by the name of an argument")
    check_flag(measure, "sweep: measure")
    lists = {name: _values(name, values) for name, values in grid.items()}
    count = math.prod(map(len, lists.values()))
    if not lists or not 1 <= count <= _MOST_POINTS:
        msg = f"sweep: the grid has {count} points, expected 1 to {_MOST_POINTS}"
        raise SpecError(msg)
    points = [dict(zip(lists, one, strict=True)) for one in product(*lists.values())]
    rows: list[SweepRow] = []
    for point in points:
        with _told_at(point):
            net = topology(**arguments, **point)
            if not isinstance(net, Network):
                msg = f"{name_of(topology)} returned {shown(net)}; expected a tnlayer.Network"
                raise SpecError(msg)
            options: dict[str, Any] = {"backend": backend, "dtype": dtype, "effort": effort}
            counted = cost(net, batch=batch, **options)
            made = None
            if measure or score is not None:
                made = Layer(net, batch=batch, tiers=False, **options)
            measured = _measured(made, batch) if made is not None and measure else None
            given = float(score(made)) if made is not None and score is not None else None
            rows.append(SweepRow(tuple(point.items()), counted, measured, given))
    return Sweep(name_of(topology), batch, tuple(rows))


@contextmanager
def _told_at(point: Mapping[str, Any]) -> Generator[None]:
    """Let errors say at which point of the grid they are."""
    where = ", ".join(f"{name}={shown(value)}" for name, value in point.items())
    try:
        yield
    except (SpecError, PlanError, BuildError) as error:
        # Not the class itself: some of those within take no message.
        kind = next(one for one in (SpecError, PlanError, BuildError) if isinstance(error, one))
        msg = f"sweep: at {where}: {error}"
        raise kind(msg) from error
    except Exception as error:
        # Of a topology or a score of the user's: another class may take other arguments.
        error.add_note(f"in tn.sweep at {where}")
        raise


def _values(name: str, values: Iterable[Any]) -> list[Any]:
    """The values of one argument; a word is one value and no letters."""
    if isinstance(values, str) or not isinstance(values, Iterable):
        msg = (
            f"sweep: grid[{name!r}]: expected a list of values, got {shown(values)}; write "
            f"[{shown(values)}]"
        )
        raise SpecError(msg)
    return list(values)


def _measured(layer: Layer, batch: int) -> float:
    """Median seconds of a forward and backward."""
    layer.prepare((batch,))
    array = next(layer.parameters())
    inputs = random_inputs(layer.graph, batch, layer.dtype, array.device)
    wanted = [p for p in layer.parameters() if p.requires_grad]
    wanted += [x for x in inputs if x.requires_grad]

    def train() -> tuple[torch.Tensor, ...]:
        return torch.autograd.grad(layer(*inputs).abs().sum(), wanted)

    return median_seconds({"layer": train})["layer"]
