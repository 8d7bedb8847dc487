"""Layers beside nn.Linear, at every bond and batch size: who is faster, and is it told?

    python -m benchmarks.against_dense [--prepare | --tune] [--output FILE]

Layers of 4,096 features, float32. Each is prepared for all batch sizes before, so predictions have
decided alone what runs; with ``--tune`` plans that are close by prediction were timed before, as
the first calls of a layer do it. ``--prepare`` builds the kernels and times nothing. A profile that
was not measured here is scaled to this machine before; ``TNLAYER_PROFILE=shipped`` leaves it as it
is. Beside it runs the same layer made for that batch size alone, which should never be slower.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import nn

import tnlayer as tn
from benchmarks.common.module_calls import forward, training_step
from benchmarks.common.report import RESULTS, format_table, headline, provenance, write_json
from benchmarks.common.timing import keep_freed_memory, time_alternating
from tnlayer import topologies as T

FEATURES, CUBE, PAIR = 4096, (16, 16, 16), (64, 64)
RANKS = (1, 4, 8, 16, 32, 64, 128)
LAYERS: Mapping[str, Callable[[], tn.Network]] = {
    **{
        f"train rank {r}": partial(T.tensor_train, CUBE, CUBE, r)
        for r in (1, 4, 8, 16, 32, 64, 128)
    },
    **{f"btt rank {r}": partial(T.btt, PAIR, PAIR, r) for r in (1, 4)},
    "tucker rank 8": partial(T.tucker, CUBE, CUBE, 8),
    "kronecker rank 2": partial(T.kronecker, CUBE, CUBE, 2),
    "block term, 4 of rank 4": partial(T.block_term, CUBE, CUBE, terms=4, rank=4),
}
BATCHES = (1, 16, 64, 256, 512, 1024)
# What is called equal, and what was wanted at most.
WANTED = 1.15
# A layer for one batch size should take at most so much of the time of one for all.
ALIKE = 1.10


def measure(
    name: str, batches: Sequence[int], budget: float, *, tune: bool = False
) -> list[dict[str, Any]]:
    """Two cells a batch size: a forward without gradients, and a training step."""
    layer = tn.Layer(LAYERS[name](), tiers=False, tune=tune)
    layer.prepare(tuple(batches))
    dense = nn.Linear(FEATURES, FEATURES, bias=False)
    cells: list[dict[str, Any]] = []
    for batch in batches:
        named = tn.Layer(LAYERS[name](), batch=batch, tiers=False, tune=tune)
        named.prepare((batch,))
        if not budget:
            continue
        x = torch.randn(batch, FEATURES)
        cost = layer.costs(batch)[0]
        other = cost.predicted("dense")
        for mode, call in (("forward", forward), ("training", training_step)):
            modules = {"layer": layer, "for this size": named, "dense": dense}
            calls = {kind: partial(call, module, x) for kind, module in modules.items()}
            for warm in calls.values():
                warm()
            found = time_alternating(calls, budget=budget)
            own = cost.fastest.inference if mode == "forward" else cost.fastest.training
            rival = other and (other.inference if mode == "forward" else other.training)
            cells.append(
                {
                    "layer": name,
                    "parameters": cost.parameters,
                    "batch": batch,
                    "mode": mode,
                    "ms": {kind: 1e3 * timing.median for kind, timing in found.items()},
                    "ratio": found["layer"].median / found["dense"].median,
                    "for_this_size_over_layer": (
                        found["for this size"].median / found["layer"].median
                    ),
                    "predicted_ms": {"layer": 1e3 * own, "dense": rival and 1e3 * rival},
                    "flops_over_dense": _flops(cost, mode),
                    "backend": cost.backend,
                    "ran": layer.running(batch),
                }
            )
    return cells


def _flops(cost: tn.Cost, mode: str) -> float:
    if mode == "forward":
        return cost.forward_flops / cost.dense_forward_flops
    own = cost.forward_flops + cost.backward_flops
    return own / (cost.dense_forward_flops + cost.dense_backward_flops)


def table(cells: Sequence[dict[str, Any]], mode: str, batches: Sequence[int]) -> str:
    """One row a layer: its time over that of dense at each batch size."""
    rows: list[list[str]] = []
    for name in dict.fromkeys(cell["layer"] for cell in cells):
        own = {c["batch"]: c["ratio"] for c in cells if (c["layer"], c["mode"]) == (name, mode)}
        marks = [f"**{own[b]:.2f}**" if own[b] > 1 else f"{own[b]:.2g}" for b in batches]
        rows.append([name, *marks])
    return format_table([mode, *map(str, batches)], rows)


def summary(cells: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Cells beyond what was wanted, and those where the wrong one was called faster."""
    called = [cell for cell in cells if cell["predicted_ms"]["dense"]]
    wrong = [
        cell
        for cell in called
        if (cell["ratio"] > 1) != (cell["predicted_ms"]["layer"] > cell["predicted_ms"]["dense"])
    ]
    return {
        "cells": len(cells),
        "beyond_1.15": sum(cell["ratio"] > WANTED for cell in cells),
        "largest": max(cell["ratio"] for cell in cells),
        "slower_for_one_size": sum(cell["for_this_size_over_layer"] > ALIKE for cell in cells),
        "slowest_for_one_size": max(cell["for_this_size_over_layer"] for cell in cells),
        "called_wrong": len(wrong),
        "called_wrong_by_more_than_1.15": sum(
            max(cell["ratio"], 1 / cell["ratio"]) > WANTED for cell in wrong
        ),
    }


def main(arguments: Sequence[str]) -> int:
    """Measure, print and write."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.against_dense")
    parser.add_argument("--layers", nargs="+", choices=list(LAYERS), default=list(LAYERS))
    parser.add_argument("--batches", nargs="+", type=int, default=list(BATCHES))
    parser.add_argument("--budget", type=float, default=1.0, help="seconds a method and cell")
    parser.add_argument("--prepare", action="store_true", help="build; time nothing")
    parser.add_argument("--tune", action="store_true", help="let close plans be timed before")
    parser.add_argument("--output", type=Path, default=RESULTS / "against-dense.json")
    options = parser.parse_args(arguments)
    keep_freed_memory()
    record: dict[str, Any] = {"schema": 1, **provenance(arguments)}
    print(headline(record), flush=True)
    cells: list[dict[str, Any]] = []
    for name in options.layers:
        budget = 0.0 if options.prepare else options.budget
        cells += measure(name, options.batches, budget, tune=options.tune)
        print(f"{name}: done", file=sys.stderr, flush=True)
    if options.prepare:
        return 0
    record["profile"] = tn.cost(LAYERS[options.layers[0]]()).profile
    record["summary"], record["cells"] = summary(cells), cells
    for mode in ("forward", "training"):
        print(table(cells, mode, options.batches), end="\n\n")
    print(record["summary"])
    write_json(options.output, record)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
