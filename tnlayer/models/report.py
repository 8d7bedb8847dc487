"""CompressReport: what became of each module of a model, as a frozen printable value."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from torch import nn

from ..graph.argument_checks import listed
from ..ir.paged_table import paged_table
from ..ir.plan_text import milliseconds
from ..ir.written_table import WrittenTable
from ..support.html import block, heading, html_table, lines
from .module_cost import ModuleCost

# With a larger error a module does about what random weights do.
_ALMOST_NOTHING = 0.9


@dataclass(frozen=True, slots=True)
class ModuleRow:
    """One module.

    Arguments:
        name: of it in the model; of several places the first.
        places: how many there are.
        kind: "Linear", "Conv1D", "Conv2d" or "Embedding".
        in_features, out_features: of its matrix.
        rows: samples that it meets in a call.
        network: label of what took its place; "" where it stays.
        why: why that, or why it stays.
        dense: predicted cost as it was.
        now: as it is now.
        residual: relative error of the matrix; None where it stays.
        whitened_residual: of the outputs on the data; None without.
        method: how the entries were found.
        seconds: what that took.
        measured_dense, measured: seconds of a call, where they were measured.
    """

    name: str
    places: int
    kind: str
    in_features: int
    out_features: int
    rows: int
    network: str
    why: str
    dense: ModuleCost
    now: ModuleCost
    residual: float | None = None
    whitened_residual: float | None = None
    method: str = ""
    seconds: float = 0.0
    measured_dense: float | None = None
    measured: float | None = None

    @property
    def is_replaced(self) -> bool:
        """Whether a network took its place."""
        return bool(self.network)

    @property
    def is_slower(self) -> bool:
        """Whether a network took its place that is predicted to be slower."""
        return self.is_replaced and self.now.seconds > self.dense.seconds

    @property
    def error(self) -> float:
        """The relative error that counts: of the outputs where there was data, or of the matrix."""
        found = self.residual if self.whitened_residual is None else self.whitened_residual
        return found or 0.0


@dataclass(frozen=True, slots=True)
class CompressReport(WrittenTable):
    """What :func:`tnlayer.compress` did, or would do.

    Arguments:
        model: the model; another than was given only if that was replaced as a whole.
        rows: one a module that is a matrix.
        parameters_before, parameters: of the whole model, each array once.
        objective: "train" or "infer": what times are of.
        is_dry: whether nothing was changed.
        measured_before, measured: seconds of the model's forward on the first batch, if measured.
    """

    model: nn.Module = field(repr=False, compare=False)
    rows: tuple[ModuleRow, ...]
    parameters_before: int
    parameters: int
    objective: str
    is_dry: bool
    measured_before: float | None = None
    measured: float | None = None

    @property
    def replaced(self) -> tuple[ModuleRow, ...]:
        """Modules that networks took the place of."""
        return tuple(row for row in self.rows if row.is_replaced)

    @property
    def compression(self) -> float:
        """Parameters of the model as it was for one of the model now."""
        return self.parameters_before / max(1, self.parameters)

    @property
    def dense_seconds(self) -> float:
        """Predicted seconds of all matrices as they were."""
        return sum(row.dense.seconds for row in self.rows)

    @property
    def seconds(self) -> float:
        """Predicted seconds of what stands there now."""
        return sum(row.now.seconds for row in self.rows)

    def numbers(self) -> dict[str, Any]:
        """The report as plain values, for a file."""
        return {
            "parameters_before": self.parameters_before,
            "parameters": self.parameters,
            "compression": self.compression,
            "objective": self.objective,
            "is_dry": self.is_dry,
            "dense_seconds": self.dense_seconds,
            "seconds": self.seconds,
            "measured_before": self.measured_before,
            "measured": self.measured,
            "modules": [_row_numbers(row) for row in self.rows],
        }

    def __str__(self) -> str:
        return "\n".join([*self._remarks(), *paged_table(self._table(), self._groups)])

    def _repr_html_(self) -> str:
        first, *rest = self._remarks()
        return block(heading(first), lines(rest), html_table(self._table()))

    def _remarks(self) -> list[str]:
        """What was done, and what it does to size and time."""
        verb = "would become" if self.is_dry else "are now"
        found = [
            f"{len(self.replaced)} of {len(self.rows)} matrices {verb} networks: "
            f"{self.parameters_before:,} parameters, then {self.parameters:,} "
            f"({self.compression:.3g}x fewer in the whole model)",
            f"predicted ms, {self.objective}: {milliseconds(self.dense_seconds)}, then "
            f"{milliseconds(self.seconds)}",
        ]
        if self.measured is not None and self.measured_before is not None:
            found.append(
                f"measured ms of the model's forward: {milliseconds(self.measured_before)}, then "
                f"{milliseconds(self.measured)}"
            )
        slower = [row.name or "(the model)" for row in self.replaced if row.is_slower]
        if slower:
            found.append(f"slower than dense, as predicted: {listed(slower, ', ')}")
        lost = [
            f"{row.name or '(the model)'} (error {row.error:.3g})"
            for row in self.replaced
            if row.error > _ALMOST_NOTHING
        ]
        if lost:
            found.append(
                f"keeps almost nothing of the weights: train it, or ask for less: "
                f"{listed(lost, ', ')}"
            )
        return found

    def _table(self) -> list[tuple[str, ...]]:
        return [self._heads(), *map(self._cells, self.rows)]

    def _heads(self) -> tuple[str, ...]:
        heads = ("module", "kind", "size", "network", "parameters", "then", "error", "whitened")
        times = ("ms", "then", *(("measured ms", "then") if self._has_times else ()))
        return (*heads, *times, "why")

    @property
    def _groups(self) -> tuple[int, ...]:
        """Columns that stay together: what it is, and numbers before and after."""
        return (3, 2, 2, 2, *((2,) if self._has_times else ()), 1)

    @property
    def _has_times(self) -> bool:
        return any(row.measured is not None for row in self.rows)

    def _cells(self, row: ModuleRow) -> tuple[str, ...]:
        name = row.name or "(the model)"
        measured = (row.measured_dense, row.measured)
        return (
            name if row.places == 1 else f"{name} (in {row.places} places)",
            row.kind,
            f"{row.in_features} x {row.out_features}",
            row.network or "-",
            f"{row.dense.parameters:,}",
            f"{row.now.parameters:,}" if row.is_replaced else "-",
            _share(row.residual),
            _share(row.whitened_residual),
            milliseconds(row.dense.seconds),
            milliseconds(row.now.seconds) if row.is_replaced else "-",
            *(
                "-" if one is None else milliseconds(one)
                for one in (measured if self._has_times else ())
            ),
            row.why,
        )


def _share(value: float | None) -> str:
    return "-" if value is None else f"{value:.3g}"


def _row_numbers(row: ModuleRow) -> dict[str, Any]:
    plain = {
        name: getattr(row, name)
        for name in row.__dataclass_fields__
        if name not in ("dense", "now")
    }
    for name, cost in (("dense", row.dense), ("now", row.now)):
        plain[name] = {key: getattr(cost, key) for key in cost.__dataclass_fields__}
    return plain
