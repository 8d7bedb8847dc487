"""Accuracy against parameters, as a picture that names the numbers that it was drawn from."""

from __future__ import annotations

import hashlib
import re
from pathlib import Path

from benchmarks.paper.document import LENGTHS, PAPER_ACCURACY, Evidence
from benchmarks.paper.parameters import CONSTANT, table_rows
from benchmarks.paper.rows import ROWS

# One series: name, and of each point its row, parameters, mean accuracy, lowest, highest.
Point = tuple[str, int, float, float, float]


def series(evidence: Evidence) -> dict[str, list[Point]]:
    """The points of the plot, by what they are."""
    paper_counts = {row.name: int(row.paper[0]) for row in table_rows()}
    found: dict[str, list[Point]] = {
        "in the paper": [
            (row, paper_counts[row], value, value, value) for row, value in PAPER_ACCURACY.items()
        ]
    }
    for name in LENGTHS:
        points: list[Point] = []
        for row, values in evidence.results[name].accuracies.items():
            if ROWS[row].group in ("table", "grid"):
                count = sum(graph.parameter_count for graph in ROWS[row].graphs()) + CONSTANT
                points.append((row, count, sum(values) / len(values), min(values), max(values)))
        if points:
            found[f"here, {name} protocol"] = points
    return found


def digest_of(evidence: Evidence) -> str:
    """A short name of the numbers of a plot."""
    return hashlib.sha256(repr(series(evidence)).encode()).hexdigest()[:16]


def drawn_from(file: Path) -> str:
    """The numbers that a picture was drawn from, by their short name; "" where it tells none."""
    found = re.search(r"numbers ([0-9a-f]{16})", file.read_text())
    return found.group(1) if found else ""


def draw(evidence: Evidence, file: Path) -> None:
    """Draw the plot as SVG; the same numbers give the same file."""
    import matplotlib as mpl
    from matplotlib.figure import Figure

    with mpl.rc_context({"svg.hashsalt": "paper", "svg.fonttype": "none"}):
        figure = Figure(figsize=(8, 5), layout="constrained")
        axes = figure.subplots()
        for (name, points), marker in zip(series(evidence).items(), "sov", strict=False):
            counts = [point[1] for point in points]
            means = [100 * point[2] for point in points]
            below = [100 * (point[2] - point[3]) for point in points]
            above = [100 * (point[4] - point[2]) for point in points]
            axes.errorbar(
                counts, means, (below, above), fmt=marker, capsize=3, label=name, alpha=0.8
            )
            for point in points:
                axes.annotate(
                    point[0],
                    (point[1], 100 * point[2]),
                    xytext=(5, 4),
                    textcoords="offset points",
                    fontsize=7,
                )
        axes.set_xscale("log")
        axes.set_xlabel("parameters beside the convolutions")
        axes.set_ylabel("test accuracy, %")
        axes.grid(alpha=0.3)
        axes.legend(loc="lower right")
        figure.savefig(
            file,
            format="svg",
            metadata={"Date": None, "Description": f"numbers {digest_of(evidence)}"},
        )
