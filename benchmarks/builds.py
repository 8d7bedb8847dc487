"""What it takes until a layer's kernels can be called: made anew, and from the store.

``python -m benchmarks.builds`` measures the first calls of a layer, with and without a store
(starts.py), and writes benchmarks/results/starts.json.

``python -m benchmarks.builds CASE`` measures one case with the store that the environment names and
prints a line of JSON a stage. :func:`build_times` runs that twice with a store of its own, each
time in a fresh process: the first one has to plan and to compile, the second one finds everything.
"""

from __future__ import annotations

import json
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from typing import Any

import tnlayer as tn
from benchmarks import starts
from benchmarks.common.fresh_process import FreshProcessError, run_module
from benchmarks.common.report import RESULTS, format_table, headline, provenance, write_json
from benchmarks.common.workloads import KERNEL_WORKLOADS, TINY_WORKLOADS
from tnlayer.backends.cpp_program import CppProgram
from tnlayer.backends.toolchains.find_cpp_compiler import find_compiler

KNOWN = {**KERNEL_WORKLOADS, **TINY_WORKLOADS}
BATCH = 256
SECONDS = 120.0
COLD, STORED = "cold", "stored"
STAGES = ("plan", "forward", "backward")
# Seconds that they may take: made anew, and from the store.
MOST_SECONDS = {
    COLD: {"forward": 2.0, "backward": 5.0},
    STORED: {"forward": 0.02, "backward": 0.02},
}
MOST_COLD_FORWARD = {"mera-2": 1.0}


def stages(case: str, batch: int = BATCH) -> Iterator[dict[str, float]]:
    """Seconds of planning, and until forward and backward can be called."""
    graph = KNOWN[case].build().freeze()
    # A process asks the compiler for its version once, whatever it builds.
    find_compiler()
    start = time.perf_counter()
    program = tn.compile(graph, backend="cpp", batch=batch)
    assert isinstance(program, CppProgram)
    yield {"plan": time.perf_counter() - start}
    start = time.perf_counter()
    program.kernels(program.nothing)
    yield {"forward": time.perf_counter() - start}
    start = time.perf_counter()
    program.prepare()
    yield {"backward": time.perf_counter() - start}


def build_times(case: str, seconds: float = SECONDS) -> dict[str, Any]:
    """The stages of a case in two fresh processes that share a store, empty at first."""
    cell: dict[str, Any] = {"case": case, "batch": BATCH, "failure": ""}
    with tempfile.TemporaryDirectory(prefix="tnlayer-builds-") as folder:
        for which in (COLD, STORED):
            try:
                said = run_module("benchmarks.builds", [case], folder, seconds)
            except FreshProcessError as error:
                cell["failure"] = f"{which}: {error}"
                break
            lines = said.splitlines()
            cell[which] = {name: s for line in lines for name, s in json.loads(line).items()}
    return cell


def misses(cell: dict[str, Any]) -> list[str]:
    """The targets that a case does not keep, as texts; what was not measured is missed."""
    found: list[str] = []
    for which, limits in MOST_SECONDS.items():
        for stage, limit in limits.items():
            most = limit
            if (which, stage) == (COLD, "forward"):
                most = MOST_COLD_FORWARD.get(cell["case"], limit)
            if cell.get(which, {}).get(stage, most) >= most:
                found.append(f"{which} {stage} under {most:g} s")
    return found


def table(cells: Sequence[dict[str, Any]]) -> str:
    """Seconds made anew, milliseconds from the store, and the targets that are missed."""
    header = ["case", *(f"{stage} s" for stage in STAGES), *(f"stored {s} ms" for s in STAGES)]
    rows = [
        [
            cell["case"],
            *(_text(cell.get(COLD, {}).get(stage), 1) for stage in STAGES),
            *(_text(cell.get(STORED, {}).get(stage), 1e3) for stage in STAGES),
        ]
        for cell in cells
    ]
    parts = [f"until kernels can be called, batch {BATCH}\n{format_table(header, rows)}"]
    parts += [f"{c['case']} failed: {c['failure']}" for c in cells if c["failure"]]
    parts += [f"{c['case']}: {miss}: MISSED" for c in cells for miss in misses(c)]
    return "\n".join(parts)


def _text(seconds: float | None, scale: float) -> str:
    return "-" if seconds is None else f"{seconds * scale:.3g}"


def first_calls() -> None:
    """Measure the first calls of every topology, print and keep them."""
    cells: list[dict[str, Any]] = []
    for case in starts.CASES:
        cells.append(starts.start_times(case))
        print(f"{case} done", file=sys.stderr, flush=True)
    record = {**provenance([]), "cells": cells}
    print(f"{headline(record)}\n{starts.table(cells)}")
    write_json(RESULTS / "starts.json", record)


if __name__ == "__main__":
    if len(sys.argv) > 1:
        for measured in stages(sys.argv[1]):
            print(json.dumps(measured), flush=True)
    else:
        first_calls()
