"""The table of a model: topologies and budgets at several compressions, whitened and not, before
and after healing, beside dense and other libraries; losing cells stay in."""

from __future__ import annotations

import argparse
import copy
import json
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from torch import nn

import tnlayer as tn
from benchmarks.common.baselines import CannotRun
from benchmarks.common.report import RESULTS, format_table, provenance
from benchmarks.common.timing import keep_freed_memory

from . import gpt, rapidocr, rxnmapper
from .cases import FIT, Case, cases, compress
from .measures import SECONDS, Times, times, training_memory
from .workload import Workload

MODELS: dict[str, Callable[[], Workload]] = {
    "gpt": lambda: gpt.workload(gpt.Size()),
    "rxnmapper": rxnmapper.workload,
    "rapidocr": rapidocr.workload,
}
HOW = (
    "Times are processor times of one thread, medians of turns with the dense model, layers "
    "prepared before. The machine did other work at the same time: read the ratios. One seed."
)


@dataclass(frozen=True)
class Cell:
    """One row of the table.

    Arguments:
        name, level, whitened: of its case; "dense" for the model as it was.
        parameters: of the whole model.
        replaced: matrices that were replaced.
        flops: of the matrices, for one row of each; None where nothing counts them.
        residual: median relative error of the replaced matrices.
        whitened_residual: median relative error of their outputs on the data.
        before, after: scores, before and after healing.
        fit_seconds, heal_seconds: processor time of all fits, and of the healing.
        ms_1, ms_256: processor time of a forward of 1 and of 256 samples.
        faster_1, faster_256: time of the dense model, in turns with it, for one of this.
        training_bytes: that a training step allocates at once.
        error: what went wrong instead.
    """

    name: str
    level: float
    whitened: bool
    parameters: int = 0
    replaced: int = 0
    flops: float | None = None
    residual: float | None = None
    whitened_residual: float | None = None
    before: dict[str, float] | None = None
    after: dict[str, float] | None = None
    fit_seconds: float = 0.0
    heal_seconds: float = 0.0
    ms_1: float | None = None
    ms_256: float | None = None
    faster_1: float | None = None
    faster_256: float | None = None
    training_bytes: int | None = None
    error: str = ""


def run_case(case: Case, work: Workload, layers: Mapping[str, Any]) -> Cell:
    """Compress a copy of the trained model, time it, heal it."""
    try:
        made = compress(case, work, copy.deepcopy(work.model), layers)
        return _measured(
            Cell(
                *(case.name, case.level, case.whitened, made.parameters, made.replaced),
                *(made.flops, made.residual, made.whitened),
                fit_seconds=made.seconds,
            ),
            work,
            made.model,
        )
    except (CannotRun, tn.SpecError) as error:
        # A cell that cannot be had stays in the table, and says why.
        return Cell(case.name, case.level, case.whitened, error=str(error))


def dense_cell(work: Workload) -> Cell:
    """The model as it was, and trained on as long as the others are healed."""
    model = copy.deepcopy(work.model)
    report = tn.summary(model, batch=256, objective="infer")
    looked_at = {n for n, module in model.named_modules() if work.is_matrix(module, n)}
    flops = sum(row.dense.flops / 256 for row in report.rows if row.name in looked_at)
    count = sum(array.numel() for array in model.parameters())
    return _measured(Cell("dense", 1.0, False, count, 0, flops), work, model)


def _measured(cell: Cell, work: Workload, model: nn.Module) -> Cell:
    """The same cell with scores, times, and memory."""
    before = work.scores(model)
    small, large = times(work, model)
    memory = training_memory(work, model)
    began = time.process_time()
    work.heal(model)
    heal_seconds = time.process_time() - began
    found: dict[str, Any] = {**asdict(cell), "before": before, "after": work.scores(model)}
    found |= {"heal_seconds": heal_seconds, "training_bytes": memory}
    found |= _ms("1", small) | _ms("256", large)
    return Cell(**found)


def _ms(batch: str, found: Times) -> dict[str, float]:
    return {f"ms_{batch}": 1e3 * found.seconds, f"faster_{batch}": found.ratio}


def table(work: Workload, dense: Cell, cells: Sequence[Cell]) -> str:
    """All cells as text."""
    score = next(iter(dense.before or {"score": 0.0}))
    heads = (
        *("matrices", "x fewer", "whitened", "parameters", "of the model", "FLOPs", "error"),
        *(score, "healed", "ms, batch 1", "faster", "batch 256", "faster", "training MB", "fit s"),
    )
    rows = [_row(dense, cell, score) for cell in (dense, *cells)]
    failed = [f"{c.name}, {c.level:g} x: {c.error}" for c in cells if c.error]
    return "\n".join([work.title, format_table(heads, rows), *failed])


def _row(dense: Cell, cell: Cell, score: str) -> tuple[str, ...]:
    start = (cell.name, f"{cell.level:g}", "yes" if cell.whitened else "no")
    if cell.error:
        return (*start, *["-"] * 12)
    flops = "-" if cell.flops is None or not dense.flops else f"{cell.flops / dense.flops:.2f}"
    return (
        *start,
        f"{cell.parameters:,}",
        f"{dense.parameters / cell.parameters:.2f} x",
        flops,
        "-" if cell.residual is None else f"{cell.residual:.3f}",
        f"{(cell.before or {})[score]:.3f}",
        f"{(cell.after or {})[score]:.3f}",
        f"{cell.ms_1:.2f}",
        f"{cell.faster_1:.2f} x",
        f"{cell.ms_256:.0f}",
        f"{cell.faster_256:.2f} x",
        f"{(cell.training_bytes or 0) / 1e6:.0f}",
        f"{cell.fit_seconds:.1f}",
    )


def run_model(
    work: Workload,
    wanted: Callable[[Case], bool],
    layers: Mapping[str, Any],
    output: Path,
    arguments: Sequence[str],
) -> None:
    """All cells of a model, printed and written as they come."""
    record = provenance(arguments)
    dense = dense_cell(work)
    print(table(work, dense, []), flush=True)
    cells: list[Cell] = []
    for case in filter(wanted, cases(work.levels)):
        cells.append(run_case(case, work, layers))
        print(_line(table(work, dense, cells[-1:])), flush=True)
        document = {
            **record,
            "how": HOW,
            "timed_seconds": SECONDS,
            "fit_options": FIT,
            "layer_options": dict(layers),
            "model": {"name": work.name, "title": work.title, "sample": work.sample},
            "notes": dict(work.notes),
            "dense": asdict(dense),
            "cells": [asdict(one) for one in cells],
        }
        output.parent.mkdir(parents=True, exist_ok=True)
        output.write_text(json.dumps(document, indent=1) + "\n", encoding="utf-8")
    print(table(work, dense, cells))


def _line(text: str) -> str:
    """The line of the last cell: after those of the title, the heads, a rule and dense."""
    return text.splitlines()[4]


def main(arguments: Sequence[str] | None = None) -> None:
    """Compress, heal, time; print and write the tables."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.models", description=__doc__)
    parser.add_argument("--model", choices=[*MODELS, "all"], default="all")
    parser.add_argument("--only", help="names of cases, separated by semicolons")
    parser.add_argument("--levels", help="compressions, separated by commas")
    parser.add_argument(
        "--backend", default="auto", help="of the layers; torch: nothing is compiled"
    )
    parser.add_argument("--output", type=Path, default=RESULTS, help="folder of the results")
    asked = parser.parse_args(arguments)
    names = asked.only.split(";") if asked.only else None
    levels = [float(one) for one in asked.levels.split(",")] if asked.levels else None

    def wanted(case: Case) -> bool:
        return (not names or case.name in names) and (not levels or case.level in levels)

    layers: dict[str, Any] = {"backend": asked.backend}
    if asked.backend == "torch":
        # Planned at once, in this process: nothing is timed while another one plans.
        layers |= {"tiers": False, "effort": "fast"}
    keep_freed_memory()
    given = sys.argv[1:] if arguments is None else list(arguments)
    for name in MODELS if asked.model == "all" else [asked.model]:
        try:
            work = MODELS[name]()
        except (CannotRun, tn.SpecError) as error:
            print(f"{name}: cannot run: {error}", flush=True)
            continue
        run_model(work, wanted, layers, asked.output / f"models-{name}.json", given)
