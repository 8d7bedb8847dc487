"""The table: topologies and budgets at several compressions, whitened and not, before and after
healing, beside dense; losing cells stay in."""

from __future__ import annotations

import argparse
import copy
import json
import statistics
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn

import tnlayer as tn
from benchmarks.common.report import RESULTS, format_table, provenance
from tnlayer.nn.layer import Layer

from .gpt import Gpt, Size, train, validation_loss
from .text import Text, load_text

T = tn.topologies
# One compression for all topologies, and more for those that did best there.
ALL: dict[str, Any] = {
    "low rank (SVD)": T.low_rank,
    "tensor train": T.tensor_train,
    "BTT": T.btt,
    "Monarch": T.monarch,
    "Kronecker": T.kronecker,
    "Tucker": T.tucker,
    "tree": T.tree,
}
MOST = ("low rank (SVD)", "tensor train", "BTT")
LEVELS = (2.0, 4.0, 8.0, 16.0)
MIDDLE = 4.0
BUDGET = "tn.Budget"
# Sweeps behind closed forms, with data: most of what they bring comes with the first.
FIT: dict[str, Any] = {"steps": 2, "starts": 1}


@dataclass(frozen=True)
class Cell:
    """One row of the table.

    Arguments:
        name: of the topology, "dense" or "tn.Budget".
        level: compression asked for: of each matrix, or of the model for a budget.
        whitened: whether data weighted the fits.
        parameters: of the whole model.
        networks: matrices that were replaced.
        before, after: validation loss, before and after healing; None: not healed.
        fit_seconds: for all fits.
        ms_1, ms_256: processor time of a forward of 1 and of 256 sequences.
        predicted_ms_256: of its matrices.
        error: what went wrong instead.
    """

    name: str
    level: float
    whitened: bool
    parameters: int
    networks: int
    before: float
    after: float | None
    fit_seconds: float
    ms_1: float
    ms_256: float
    predicted_ms_256: float
    error: str = ""


def cases() -> Iterator[tuple[str, float, bool]]:
    """Names, compressions, and whether data weights the fits."""
    for level in LEVELS:
        for name in ALL:
            if level == MIDDLE or name in MOST:
                yield name, level, False
                if name in MOST:
                    yield name, level, True
        yield BUDGET, level, True


def is_matrix(module: nn.Module, name: str) -> bool:
    """The matrices of the blocks: the head and the tables are small."""
    return isinstance(module, nn.Linear) and name.startswith("blocks.")


def run_case(
    dense: Gpt, text: Text, size: Size, name: str, level: float, *, whitened: bool, heal: int
) -> Cell:
    """Compress a copy of a trained model, heal it, and time it."""
    model = copy.deepcopy(dense)
    random = torch.Generator().manual_seed(1)
    data = [text.batch(64, size.length, random)[:, :-1] for _ in range(4)] if whitened else None
    rule = tn.Budget(compression=level) if name == BUDGET else ALL[name]
    held_out = text.held_out(512, size.length)
    report = tn.compress(
        model,
        rule,
        data,
        is_matrix,
        compression=level,
        batch=256 * size.length,
        objective="infer",
        fit_options=FIT if whitened else {},
        progress=True,
    )
    before = validation_loss(model, held_out)
    after = None
    if heal:
        train(model, text, size, heal, rate=size.rate / 2, seed=2)
        after = validation_loss(model, held_out)
    ms_1, ms_256 = forward_ms(model, text, size)
    return Cell(
        name=name,
        level=level,
        whitened=whitened,
        parameters=report.parameters,
        networks=len(report.replaced),
        before=before,
        after=after,
        fit_seconds=sum(row.seconds for row in report.rows),
        ms_1=ms_1,
        ms_256=ms_256,
        predicted_ms_256=1e3 * report.seconds,
    )


def forward_ms(model: nn.Module, text: Text, size: Size) -> tuple[float, float]:
    """Processor milliseconds of a forward of 1 and of 256 sequences: with one thread they are the
    elapsed ones of a machine that does nothing else."""
    model.eval()
    found: list[float] = []
    for count in (1, 256):
        x = text.held_out(count, size.length)[:, :-1]
        for module in model.modules():
            if isinstance(module, Layer):
                module.prepare((count * size.length,))
        found.append(1e3 * _processor_seconds(model, x))
    model.train()
    return found[0], found[1]


def _processor_seconds(model: nn.Module, x: torch.Tensor) -> float:
    """The median of a few calls, after one that is not counted."""
    found: list[float] = []
    with torch.no_grad():
        for number in range(6):
            began = time.process_time()
            model(x)
            if number:
                found.append(time.process_time() - began)
    return statistics.median(found)


def table(dense: Cell, cells: Sequence[Cell]) -> str:
    """All cells as text."""
    heads = (
        *("matrices", "x fewer each", "whitened", "parameters", "of the model", "loss"),
        *("healed", "CPU ms, batch 1", "CPU ms, batch 256", "predicted", "fit s"),
    )
    rows: list[tuple[str, ...]] = []
    for cell in (dense, *cells):
        if cell.error:
            rows.append((cell.name, f"{cell.level:g}", *[""] * 8, cell.error))
            continue
        rows.append(
            (
                cell.name,
                f"{cell.level:g}",
                "yes" if cell.whitened else "no",
                f"{cell.parameters:,}",
                f"{dense.parameters / cell.parameters:.2f} x",
                f"{cell.before:.3f}",
                "-" if cell.after is None else f"{cell.after:.3f}",
                f"{cell.ms_1:.2f}",
                f"{cell.ms_256:.0f}",
                f"{cell.predicted_ms_256:.0f}",
                f"{cell.fit_seconds:.1f}",
            )
        )
    return format_table(heads, rows)


def trained(size: Size, text: Text, path: Path | None) -> Gpt:
    """The dense model: from a file, or trained and written there."""
    torch.manual_seed(0)
    model = Gpt(size, len(text.alphabet))
    if path is not None and path.exists():
        tn.load(path, into=model)
        return model

    def watch(step: int, loss: float) -> None:
        if step % 100 == 0:
            print(f"step {step}: loss {loss:.3f}", file=sys.stderr, flush=True)

    train(model, text, size, size.steps, rate=size.rate, seed=0, watch=watch)
    if path is not None:
        tn.save(model, path)
    return model


def size_of(steps: int, width: int) -> Size:
    """Sizes of the model, all but these as they are."""
    return Size(steps=steps, width=width)


def main(arguments: Sequence[str] | None = None) -> None:
    """Train, compress, heal, print and write the table."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.models", description=__doc__)
    parser.add_argument("--steps", type=int, default=Size.steps, help="training steps of the dense")
    parser.add_argument("--width", type=int, default=Size.width)
    parser.add_argument("--dense", type=Path, help="file of the dense model; made if not there")
    parser.add_argument("--only", help="names of cases, separated by commas")
    parser.add_argument("--levels", help="compressions, separated by commas")
    parser.add_argument("--output", type=Path, default=RESULTS / "models-gpt.json")
    asked = parser.parse_args(arguments)
    size = size_of(asked.steps, asked.width)
    text = load_text()
    model = trained(size, text, asked.dense)
    held_out = text.held_out(512, size.length)
    loss = validation_loss(model, held_out)
    ms = forward_ms(model, text, size)
    count = sum(array.numel() for array in model.parameters())
    summed = tn.summary(model, batch=256 * size.length, objective="infer")
    again = copy.deepcopy(model)
    heal = size.steps // 10
    train(again, text, size, heal, rate=size.rate / 2, seed=2)
    longer = validation_loss(again, held_out)
    seconds = 1e3 * summed.total.seconds
    dense = Cell("dense", 1.0, False, count, 0, loss, longer, 0.0, *ms, seconds)
    print(table(dense, []), flush=True)
    names = asked.only.split(",") if asked.only else None
    levels = [float(one) for one in asked.levels.split(",")] if asked.levels else None
    cells: list[Cell] = []
    for name, level, whitened in cases():
        if (names and name not in names) or (levels and level not in levels):
            continue
        try:
            cell = run_case(model, text, size, name, level, whitened=whitened, heal=heal)
        except tn.SpecError as error:  # a cell that cannot be had stays in the table, and says why
            cell = Cell(name, level, whitened, 0, 0, 0, None, 0, 0, 0, 0, str(error))
        cells.append(cell)
        print(table(dense, [cell]).splitlines()[-1], flush=True)
        document = {
            **provenance(sys.argv[1:] if arguments is None else list(arguments)),
            "size": asdict(size),
            "dense": asdict(dense),
            "cells": [asdict(one) for one in cells],
        }
        asked.output.write_text(json.dumps(document, indent=1) + "\n", encoding="utf-8")
    print(table(dense, cells))
