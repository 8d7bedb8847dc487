"""Results of finished runs as they were committed, and what several seeds say together."""

from __future__ import annotations

import json
import math
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.paper.protocols import PROTOCOLS, Protocol
from benchmarks.paper.rows import ROWS

# Two-sided 95% quantiles of Student's t for 1, 2, ... degrees of freedom.
_QUANTILES = (
    *(12.706, 4.303, 3.182, 2.776, 2.571, 2.447, 2.365, 2.306, 2.262, 2.228),
    *(2.201, 2.179, 2.160, 2.145, 2.131, 2.120, 2.110, 2.101, 2.093, 2.086),
    *(2.080, 2.074, 2.069, 2.064, 2.060, 2.056, 2.052, 2.048, 2.045, 2.042),
)


@dataclass(frozen=True, slots=True)
class Run:
    """One finished run.

    Arguments:
        row: name of the row.
        seed: its seed.
        protocol: name of its protocol.
        data: what it was trained on.
        accuracy: the one that counts: the last test's where the length is fixed, else the best.
        bfloat16: whether its convolutions ran in bfloat16, not in float32.
    """

    row: str
    seed: int
    protocol: str
    data: str
    accuracy: float
    bfloat16: bool


@dataclass(frozen=True, slots=True)
class Difference:
    """Mean accuracy of one row less that of another.

    Arguments:
        mean: of the first less of the second.
        margin: half the 95% interval, or None: fewer than two seeds of one of them.
    """

    mean: float
    margin: float | None


@dataclass(frozen=True, slots=True)
class Results:
    """All runs of one protocol.

    Arguments:
        protocol: its name.
        accuracies: by row, in the order of the seeds.
        data: what all were trained on, or "" where there is no run.
        in_float32: row and seed of the runs whose convolutions were float32, not bfloat16.
    """

    protocol: str
    accuracies: Mapping[str, tuple[float, ...]]
    data: str = ""
    in_float32: tuple[tuple[str, int], ...] = ()

    def mean(self, row: str) -> float | None:
        """Mean accuracy over seeds, None without a run."""
        found = self.accuracies.get(row)
        return statistics.fmean(found) if found else None

    @property
    def deviation(self) -> tuple[float, int]:
        """Standard deviation between seeds, one for all rows, and its degrees of freedom."""
        several = [values for values in self.accuracies.values() if len(values) > 1]
        freedom = sum(len(values) - 1 for values in several)
        squares = sum((len(v) - 1) * statistics.variance(v) for v in several)
        return (math.sqrt(squares / freedom) if freedom else 0.0), freedom

    def difference(self, first: str, second: str) -> Difference | None:
        """One row against another; None unless both have a run.

        Two seeds say little about a row's own deviation. Rows differ in two small layers only, so
        one deviation is taken for all, and Student's t for its degrees of freedom.
        """
        ours, theirs = self.accuracies.get(first, ()), self.accuracies.get(second, ())
        if not ours or not theirs:
            return None
        mean = statistics.fmean(ours) - statistics.fmean(theirs)
        deviation, freedom = self.deviation
        if min(len(ours), len(theirs)) < 2 or not freedom:
            return Difference(mean, None)
        quantile = _QUANTILES[min(freedom, len(_QUANTILES)) - 1]
        return Difference(mean, quantile * deviation * math.sqrt(1 / len(ours) + 1 / len(theirs)))


def read_runs(folder: Path) -> tuple[Run, ...]:
    """The runs below a folder, by protocol, row and seed; smoke runs count for nothing.

    Raises:
        ValueError: a file names a row or a protocol that is none.
    """
    runs: list[Run] = []
    for protocol in PROTOCOLS.values():
        for file in sorted((folder / protocol.name).glob("*.seed*.json")):
            record: dict[str, Any] = json.loads(file.read_text())
            if record["row"] not in ROWS or record["protocol"] != protocol.name:
                msg = f"{file}: no row {record['row']!r} of protocol {protocol.name!r}"
                raise ValueError(msg)
            if protocol.most_steps is None:
                runs.append(_run(record, protocol))
    return tuple(runs)


def _run(record: dict[str, Any], protocol: Protocol) -> Run:
    accuracy = record["final_accuracy" if protocol.patience is None else "best_accuracy"]
    in_bfloat16 = record["bfloat16_convolutions"]
    return Run(record["row"], record["seed"], protocol.name, record["data"], accuracy, in_bfloat16)


def results_of(protocol: str, runs: Sequence[Run]) -> Results:
    """The runs of a protocol together.

    Raises:
        ValueError: they were trained on different data.
    """
    chosen = sorted((r for r in runs if r.protocol == protocol), key=lambda r: r.seed)
    names = {run.data for run in chosen}
    if len(names) > 1:
        msg = f"runs of protocol {protocol!r} on different data: {', '.join(sorted(names))}"
        raise ValueError(msg)
    rows = [name for name in ROWS if any(run.row == name for run in chosen)]
    found = {name: tuple(run.accuracy for run in chosen if run.row == name) for name in rows}
    in_float32 = tuple((run.row, run.seed) for run in chosen if not run.bfloat16)
    return Results(protocol, found, next(iter(names), ""), in_float32)
