"""Compiled kernels against the best einsum chain and against dense, cell by cell, with targets.

    python -m benchmarks.kernels --device cpu                     # all of it
    python -m benchmarks.kernels --device cpu --cases mera-2 btt  # a part; its cells join the files
    python -m benchmarks.kernels --device cpu --parts growth      # MERA-2 from 10 to 20 legs alone
    python -m benchmarks.kernels --device cpu --prepare           # first: build, to warm caches

Three parts, each with a file in benchmarks/results that is written after each cell, so that a cut
run keeps what it has: cpu-kernels.json (times at batch 1, 50 and 256), cpu-builds.json
(seconds until kernels can be called) and cpu-growth.json (MERA-2 by its number of legs).

All methods of a cell are timed in one process in shuffled turns (benchmarks/common/timing.py),
warm, medians. The chains are torch.einsum with opt_einsum, cotengra's expression on the stored tree
(benchmarks/cpu/opponents.py) and torch.compile of that; the fastest in a cell is its best chain.
Each call goes through Python and torch's autograd; the branch is part of it. Shares are of this
machine's multiply-add peak and of copies as large as the call's x, both measured before each cell.

A cell takes 15 s with warm caches. Cold ones take what torch.compile takes: at batch 1 it turns
products of one row into loops and fuses them, and the compiler needs 150 s for the C++ of the
butterfly's. ``--compile-limit`` bounds that; ``--prepare --compile-limit 600`` builds it once.
"""

from __future__ import annotations

import argparse
import datetime
import json
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch

import tnlayer as tn
from benchmarks import builds, growth
from benchmarks.common.problem import Problem
from benchmarks.common.report import RESULTS, format_table, headline, provenance, write_json
from benchmarks.common.timing import keep_freed_memory, time_alternating
from benchmarks.common.workloads import KERNEL_WORKLOADS, TINY_WORKLOADS
from benchmarks.cpu import opponents, targets
from benchmarks.cpu.peaks import Peaks, measure_peaks
from benchmarks.cpu.rivals import AUTO, CHAINS, DENSE, OURS, TORCH, loop_programs, methods_of
from benchmarks.cpu.work import bound_of, work_of
from benchmarks.layers import MODES, Entry, Reference, calls_of, method_record, prepare
from tnlayer.backends.cpu_program import this_cpu
from tnlayer.graph.graph import Graph

SCHEMA = 2
BATCHES = (1, 50, 256)
CELLS, BUILDS, GROWTH = PARTS = ("cells", "builds", "growth")
# The file of each part, and what tells its cells apart.
FILES = {CELLS: "cpu-kernels.json", BUILDS: "cpu-builds.json", GROWTH: "cpu-growth.json"}
KEYS = {CELLS: ("case", "batch", "mode"), BUILDS: ("case",), GROWTH: ("legs", "batch")}
KNOWN = {**KERNEL_WORKLOADS, **TINY_WORKLOADS}


@dataclass(frozen=True, slots=True)
class Settings:
    """How cells are measured.

    Arguments:
        backend: which of ours the targets are held against.
        budget: seconds of timed calls a method and cell.
        compile_limit: seconds that torch.compile may take in a cell; 0 leaves it out.
        folder: where the stored trees are.
        kept_memory: whether the C library was told to keep what is freed.
    """

    backend: str = AUTO
    budget: float = 0.5
    compile_limit: float = 60.0
    folder: Path = opponents.OPPONENTS
    kept_memory: bool = False


# -- cells -------------------------------------------------------------------------------------


def build(case: str, batch: int, reference: Reference, settings: Settings) -> dict[str, Entry]:
    """Build all methods of a case at a batch size and check them against float64."""
    problem = Problem.draw(KNOWN[case].build().freeze(), batch)
    stored = opponents.load(case, problem, settings.folder)
    expected = reference.expected(problem)
    methods = methods_of(stored, settings.compile_limit)
    return {name: prepare(method, problem, expected) for name, method in methods.items()}


def measure(
    case: str, batch: int, reference: Reference, settings: Settings
) -> list[dict[str, Any]]:
    """Check and time all methods in one case at one batch size; one record a mode."""
    problem = Problem.draw(KNOWN[case].build().freeze(), batch)
    entries = build(case, batch, reference, settings)
    calls = {name: calls_of(e.runner, problem) for name, e in entries.items() if e.runner}
    share = max(1, problem.x.numel() * problem.x.element_size() // torch.get_num_threads())
    records: list[dict[str, Any]] = []
    for mode in MODES:
        peaks = measure_peaks(share, this_cpu().vector_bytes)
        timings = time_alternating(
            {name: call[mode] for name, call in calls.items()},
            budget=settings.budget,
            known={name: entries[name].first_calls[mode] for name in calls},
        )
        methods = {name: method_record(e, timings.get(name)) for name, e in entries.items()}
        record: dict[str, Any] = {"case": case, "batch": batch, "mode": mode}
        record["kept_freed_memory"] = settings.kept_memory
        record |= {"judged": settings.backend, "peaks": asdict(peaks), "methods": methods}
        record |= judged(record, roofline(problem.graph, record, peaks))
        records.append(record)
    return records


def roofline(graph: Graph, record: Mapping[str, Any], peaks: Peaks) -> dict[str, Any] | None:
    """Work of the judged method and which bound holds; None where it runs no kernels at all."""
    seconds = record["methods"][record["judged"]].get("median")
    program = tn.compile(graph, backend=record["judged"], batch=record["batch"])
    train = record["mode"] == targets.BOTH
    programs, whole = loop_programs(program, train=train)
    if seconds is None or not programs:
        return None
    work = work_of(programs, record["batch"])
    needed = program.plan.counts.flops.at(record["batch"]) * (3 if train else 1)
    return {
        "work": asdict(work),
        # Of the plan, nothing made twice: a backward counts twice the forward.
        "needed_flops": needed,
        # Regions that run as torch calls are not in the work.
        "whole": whole,
        **asdict(bound_of(work, seconds, peaks)),
    }


def judged(record: Mapping[str, Any], bound: dict[str, Any] | None) -> dict[str, Any]:
    """Ratios of a cell, its best chain, and its targets."""
    medians = {n: m["median"] for n, m in record["methods"].items() if m["status"] == "ok"}
    mine = medians.get(record["judged"])
    chains = [name for name in CHAINS if name in medians]
    best = min(chains, key=lambda name: medians[name], default=None)

    def times(name: str | None) -> float | None:
        return medians[name] / mine if name in medians and mine else None

    share = bound["share"] if bound and bound["whole"] else None
    reached = {targets.CHAIN: times(best), targets.DENSE: times(DENSE), targets.BOUND: share}
    verdicts = targets.judge(record["case"], record["batch"], record["mode"], reached)
    return {
        "backend": record["methods"][record["judged"]].get("notes", {}).get("backend"),
        "best_chain": best,
        "ratios": {**reached, "x torch": times(TORCH)},
        "bound": bound,
        "targets": [asdict(verdict) for verdict in verdicts],
    }


# -- tables ------------------------------------------------------------------------------------


def tables(cells: Sequence[dict[str, Any]]) -> str:
    """Times and verdicts of both modes, the reasons of what could not run, and the count."""
    reasons: dict[str, int] = {}
    parts: list[str] = []
    for mode in MODES:
        of_mode = [cell for cell in cells if cell["mode"] == mode]
        if not of_mode:
            continue
        names = list(of_mode[0]["methods"])
        rows = [
            [c["case"], str(c["batch"]), *(_milliseconds(c["methods"][n], reasons) for n in names)]
            for c in of_mode
        ]
        parts.append(f"{mode}, median ms\n{format_table(['case', 'batch', *names], rows)}")
        header = ["case", "batch", "ran", "best chain", *(targets.CHAIN, targets.DENSE, "x torch")]
        rows = [_verdict_row(cell) for cell in of_mode]
        parts.append(
            f"{mode}, against targets\n{format_table([*header, 'bound', 'share of it'], rows)}"
        )
    parts += [f"[{number}] cannot: {reason}" for reason, number in reasons.items()]
    verdicts = [verdict for cell in cells for verdict in cell["targets"]]
    met = sum(verdict["met"] for verdict in verdicts)
    parts.append(f"{met} of {len(verdicts)} targets are met")
    return "\n\n".join(parts)


def _milliseconds(method: Mapping[str, Any], reasons: dict[str, int]) -> str:
    if method["status"] == "cannot":
        return f"cannot[{reasons.setdefault(method['reason'], len(reasons) + 1)}]"
    mark = " WRONG" if method["status"] == "wrong" else "~" if method["slow"] else ""
    return f"{method['median'] * 1e3:.3g}{mark}"


def _verdict_row(cell: Mapping[str, Any]) -> list[str]:
    """One row: each figure, with its target and whether it is met where it has one."""
    verdicts = {verdict["what"]: verdict for verdict in cell["targets"]}

    def text(what: str) -> str:
        value = cell["ratios"].get(what)
        shown = "-" if value is None else f"{value:.2f}"
        if what not in verdicts:
            return shown
        return (
            f"{shown} ({verdicts[what]['target']:g} {'met' if verdicts[what]['met'] else 'MISSED'})"
        )

    ratios = [text(what) for what in (targets.CHAIN, targets.DENSE, "x torch")]
    bound = cell["bound"]["name"] if cell["bound"] else "-"
    ran, best = cell["backend"] or "-", cell["best_chain"] or "-"
    return [cell["case"], str(cell["batch"]), ran, best, *ratios, bound, text(targets.BOUND)]


# -- command line ------------------------------------------------------------------------------


def parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.kernels", description=__doc__)
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    default = Settings()
    parser.add_argument("--device", choices=["cpu"], default="cpu")
    parser.add_argument("--cases", nargs="+", choices=list(KNOWN), default=list(KERNEL_WORKLOADS))
    parser.add_argument("--batches", nargs="+", type=int, default=list(BATCHES))
    parser.add_argument("--backend", choices=OURS, default=default.backend, help="judged")
    parser.add_argument("--budget", type=float, default=default.budget, help="seconds a method")
    parser.add_argument("--compile-limit", type=float, default=default.compile_limit)
    parser.add_argument("--opponents", type=Path, default=default.folder, help="stored trees")
    parser.add_argument(
        "--keep-freed-memory",
        action="store_true",
        help="no method has to map fresh pages: without it chains may take up to twice as long",
    )
    parser.add_argument("--prepare", action="store_true", help="build and check; time nothing")
    parser.add_argument("--parts", nargs="+", choices=PARTS, default=list(PARTS))
    parser.add_argument("--legs", nargs="+", type=int, default=list(growth.LEGS), help="of growth")
    parser.add_argument("--results", type=Path, default=RESULTS, help="folder of the JSON files")
    return parser.parse_args(arguments)


class Recorder:
    """Writes a part's file after each of its cells.

    Arguments:
        part: one of PARTS.
        folder: where the file lies; cells of earlier runs that are not measured again stay in it.
        header: of the file: provenance of this run.
    """

    def __init__(self, part: str, folder: Path, header: Mapping[str, Any]) -> None:
        self.part, self.path, self.header = part, folder / FILES[part], header
        self.fresh: list[dict[str, Any]] = []
        self.cells = merged(self.path, (), KEYS[part])

    def add(self, cells: Sequence[dict[str, Any]], took: float) -> None:
        """Add what was measured in so many seconds, and write the file."""
        stamp = {"commit": self.header["commit"], "date": _now()}
        self.fresh += [{**cell, **stamp} for cell in cells]
        self.cells = merged(self.path, self.fresh, KEYS[self.part])
        write_json(self.path, {"schema": SCHEMA, **self.header, "cells": self.cells})
        names = ", ".join(f"{key} {cells[0][key]}" for key in KEYS[self.part][:2]) if cells else ""
        print(f"{self.part}, {names}: {took:.1f} s", file=sys.stderr, flush=True)


def merged(path: Path, fresh: Sequence[dict[str, Any]], keys: Sequence[str]) -> list[Any]:
    """Cells of an earlier file that were not measured again, then the fresh ones."""
    old: dict[str, Any] = json.loads(path.read_text()) if path.exists() else {}
    if old.get("schema") != SCHEMA:
        return list(fresh)
    known = {tuple(cell[key] for key in keys) for cell in fresh}
    kept = [cell for cell in old["cells"] if tuple(cell[key] for key in keys) not in known]
    return [*kept, *fresh]


def _now() -> str:
    return datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure, print the tables, write the JSON; 1 if a result is wrong or ours cannot run."""
    options = parse(arguments)
    torch.set_float32_matmul_precision("highest")
    torch.backends.opt_einsum.enabled = True
    if options.keep_freed_memory:
        keep_freed_memory()
    settings = Settings(
        options.backend,
        options.budget,
        options.compile_limit,
        options.opponents,
        options.keep_freed_memory,
    )
    if options.prepare:
        return prepare_all(options.cases, options.batches, settings)
    header = provenance(list(sys.argv[1:] if arguments is None else arguments))
    print(headline(header))
    failed = False
    for part in options.parts:
        recorder = Recorder(part, options.results, header)
        start = time.perf_counter()
        for cells in measured(part, options, settings):
            recorder.add(cells, time.perf_counter() - start)
            start = time.perf_counter()
        print(TABLES[part](recorder.cells), f"written: {recorder.path}", sep="\n\n", flush=True)
        failed |= part == CELLS and _failed(recorder.fresh, options.backend)
    return int(failed)


TABLES: Mapping[str, Callable[[Sequence[dict[str, Any]]], str]] = {
    CELLS: tables,
    BUILDS: builds.table,
    GROWTH: growth.table,
}


def measured(
    part: str, options: argparse.Namespace, settings: Settings
) -> Iterator[list[dict[str, Any]]]:
    """The cells of a part, as soon as they are measured."""
    if part == BUILDS:
        yield from ([builds.build_times(case)] for case in options.cases)
    elif part == GROWTH:
        yield from ([growth.grow(legs, growth.BATCH)] for legs in options.legs)
    else:
        for case in options.cases:
            reference = Reference(Problem.draw(KNOWN[case].build().freeze(), 1))
            for batch in options.batches:
                yield measure(case, batch, reference, settings)


def _failed(cells: Sequence[dict[str, Any]], judged_backend: str) -> bool:
    """Whether a result is wrong, or the backend that is judged could not run."""
    statuses = [(n, m["status"]) for c in cells for n, m in c["methods"].items()]
    wrong = any(status == "wrong" for _, status in statuses)
    return wrong or (judged_backend, "cannot") in statuses


def prepare_all(cases: Sequence[str], batches: Sequence[int], settings: Settings) -> int:
    """Fill the caches of plans, kernels and torch.compile; 1 if a result is wrong."""
    wrong = False
    for case in cases:
        reference = Reference(Problem.draw(KNOWN[case].build().freeze(), 1))
        for batch in batches:
            start = time.perf_counter()
            entries = build(case, batch, reference, settings)
            took = time.perf_counter() - start
            wrong |= any(entry.wrong for entry in entries.values())
            states = [
                f"{n}: {e.reason or ('WRONG' if e.wrong else 'ok')}" for n, e in entries.items()
            ]
            print(f"{case}, batch {batch}: {took:.1f} s; {'; '.join(states)}", flush=True)
    return int(wrong)


if __name__ == "__main__":
    sys.exit(main())
