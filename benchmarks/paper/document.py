"""The results part of docs/paper.md: tables and answers, made from the committed files alone."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any

from benchmarks.paper.parameters import CONSTANT, convolution_parameters, table_rows
from benchmarks.paper.protocols import PROTOCOLS
from benchmarks.paper.results import Results, read_runs, results_of
from benchmarks.paper.rows import ROWS, Row
from benchmarks.paper.statements import STATEMENTS, answer, points, time_answer

BEGIN = "<!-- Written by `python -m benchmarks.paper --table` from benchmarks/results/paper. -->"
END = "<!-- End of what is written by it. -->"
BASE = "FC-1"
NONE = "-"
# Table 1, its last column.
PAPER_ACCURACY = {
    "FC-1": 0.8719,
    "FC-2": 0.8114,
    "MERA-2": 0.8579,
    "MERA-3": 0.8620,
    "TT-3": 0.8497,
    "TT-5": 0.8532,
    "TT-7": 0.8629,
}
LENGTHS = ("short", "paper")


@dataclass(frozen=True, slots=True)
class Evidence:
    """All that was committed.

    Arguments:
        results: by protocol.
        flops: FLOPs a sample of the hidden layers, by row.
        times: the record of ``--times``, or an empty one.
    """

    results: dict[str, Results]
    flops: dict[str, int]
    times: dict[str, Any]

    def ratio(self, row: str, kind: str) -> float | None:
        """Time of a training step over FC-1's: of the "hidden" layers or the whole "network"."""
        if row == BASE and self.times:
            return 1.0
        found = self.times.get("times", {}).get(row)
        return None if found is None else found[kind]["ratio"]


def read_evidence(folder: Path) -> Evidence:
    """What lies in the folder of the results."""
    runs = read_runs(folder)
    flops, times = folder / "flops.json", folder / "times.json"
    return Evidence(
        {name: results_of(name, runs) for name in LENGTHS},
        json.loads(flops.read_text())["flops_a_sample"] if flops.is_file() else {},
        json.loads(times.read_text()) if times.is_file() else {},
    )


def rebuilt(text: str, evidence: Evidence) -> str:
    """A document with the part between its two marks written anew.

    Raises:
        ValueError: the marks are not there.
    """
    before, begin, rest = text.partition(BEGIN)
    _, end, after = rest.partition(END)
    if not begin or not end:
        msg = f"the document lacks the lines {BEGIN!r} and {END!r}"
        raise ValueError(msg)
    return f"{before}{BEGIN}\n\n{results_part(evidence)}\n\n{END}{after}"


def results_part(evidence: Evidence) -> str:
    """Tables and answers as Markdown."""
    return "\n\n".join(
        [
            _what_was_run(evidence),
            _main_table(evidence),
            "![Accuracy against parameters](paper-accuracy.svg)",
            "### What the paper states",
            _statements(evidence),
            "### Past the paper",
            _variants(evidence),
        ]
    )


# -- the parts -------------------------------------------------------------------------------------


def _what_was_run(evidence: Evidence) -> str:
    lines: list[str] = []
    for name in LENGTHS:
        results = evidence.results[name]
        count = sum(map(len, results.accuracies.values()))
        text = f"- `{name}` ({PROTOCOLS[name].text}): {count} runs"
        if count:
            deviation, freedom = results.deviation
            text += f" on {results.data}"
            if results.in_float32:
                some = ", ".join(f"{row} seed {seed}" for row, seed in results.in_float32)
                text += f"; convolutions in float32 in {len(results.in_float32)} of them ({some})"
            if freedom:
                text += f"; deviation between seeds {100 * deviation:.2f} points, all rows together"
        lines.append(text)
    times = evidence.times
    if times:
        machine = times["machine"]
        lines.append(
            f"- times: {times['device']}, {machine['torch_threads']} threads, load "
            f"{machine['load_average_at_start']:.1f} at the start, commit {times['commit'][:12]}"
        )
    else:
        lines.append("- times: not measured yet (`--times`, on a quiet machine)")
    return "\n".join(lines)


def _main_table(evidence: Evidence) -> str:
    paper = {row.name: row for row in table_rows()}
    header = (
        "| row | parameters | in the paper | compression | of the network | accuracy in the paper |"
        " accuracy, `short` | accuracy, `paper` | MFLOP a sample | time, hidden layers |"
        " time, network |"
    )
    lines = [header, "| --- |" + " ---: |" * 10]
    for row in ROWS.values():
        if row.group not in ("table", "grid"):
            continue
        count, base = _parameters(row), _parameters(ROWS[BASE])
        convolutions = convolution_parameters()
        theirs = paper.get(row.name)
        cells = [
            row.name,
            f"{count:,}",
            NONE if theirs is None else f"{int(theirs.paper[0]):,}",
            f"{float(Fraction(base, count)):,.0f}",
            f"{float(Fraction(base + convolutions, count + convolutions)):,.2f}",
            _percent(PAPER_ACCURACY.get(row.name)),
            *(_accuracy(evidence.results[name], row.name) for name in LENGTHS),
            f"{evidence.flops[row.name] / 1e6:,.2f}" if row.name in evidence.flops else NONE,
            *(_times(evidence.ratio(row.name, kind)) for kind in ("hidden", "network")),
        ]
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def _statements(evidence: Evidence) -> str:
    lines = [
        "| the paper states | by protocol `short` | by protocol `paper` |",
        "| --- | --- | --- |",
    ]
    for statement in STATEMENTS:
        answers = [answer(statement, evidence.results[name]) for name in LENGTHS]
        lines.append(f"| {statement.text} | {' | '.join(answers)} |")
    answered = time_answer(lambda row: evidence.ratio(row, "network"))
    lines.append(f"| Networks with MERA layers can take longer to train than FC-1 | {answered} | |")
    return "\n".join(lines)


def _variants(evidence: Evidence) -> str:
    short = evidence.results["short"]
    parts: list[str] = []
    titles = {
        "orders": "The order in which features become legs (MERA-3, `short`):",
        "starts": "The start (MERA-3, `short`):",
    }
    for group, title in titles.items():
        lines = [
            title,
            "",
            "| variant | accuracy | less MERA-3 as above |",
            "| --- | ---: | ---: |",
        ]
        usual = ROWS["MERA-3"]
        lines.append(
            f"| {usual.order if group == 'orders' else usual.start} (usual) | "
            f"{_accuracy(short, usual.name)} | |"
        )
        for row in ROWS.values():
            if row.group == group:
                difference = short.difference(row.name, usual.name)
                less = NONE if difference is None else points(difference)
                name = row.name.partition("@")[2]
                lines.append(f"| {name} | {_accuracy(short, row.name)} | {less} |")
        parts.append("\n".join(lines))
    return "\n\n".join(parts)


# -- cells -----------------------------------------------------------------------------------------


def _parameters(row: Row) -> int:
    return sum(graph.parameter_count for graph in row.graphs()) + CONSTANT


def _percent(value: float | None) -> str:
    return NONE if value is None else f"{100 * value:.2f}%"


def _times(value: float | None) -> str:
    return NONE if value is None else f"{value:.2f}"


def _accuracy(results: Results, row: str) -> str:
    """Mean and spread over seeds."""
    found: Sequence[float] = results.accuracies.get(row, ())
    if not found:
        return NONE
    text = _percent(sum(found) / len(found))
    if len(found) == 1:
        return f"{text} (1 seed)"
    return f"{text} ({_percent(min(found))} to {_percent(max(found))}, {len(found)} seeds)"
