"""Layers under torch.compile: eager and compiled, ours and dense, in one process and run.

    python -m benchmarks.compiled [--cases mera-2 tt-3] [--batches 1 64 256] [--output FILE]

For each case: seconds until the first compiled step is done, and the median of a call without
gradients and of a training step. The four take turns. A dense layer of the same features is the
baseline; its compiled time at batch 1 tells what torch.compile itself costs a call.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import nn

import tnlayer as tn
from benchmarks.common.report import RESULTS, format_table, headline, provenance, write_json
from benchmarks.common.timing import time_alternating
from benchmarks.common.workloads import TINY_WORKLOADS, WORKLOADS
from tnlayer import topologies

ALL = {
    **{name: workload.build for name, workload in {**WORKLOADS, **TINY_WORKLOADS}.items()},
    "low-rank": lambda: topologies.low_rank(4096, 4096, rank=32),
}
CASES = ("mera-2", "tt-3", "btt", "low-rank")
BATCHES = (1, 64, 256)
MODES = ("forward", "step")
METHODS = ("eager", "compiled", "dense", "dense compiled")


def measure(case: str, batches: Sequence[int], budget: float) -> dict[str, Any]:
    """All cells of a case."""
    layer = tn.Layer(ALL[case](), bias=True, tiers=False)
    dense = nn.Linear(layer.in_features, layer.out_features)
    cells: list[dict[str, Any]] = []
    firsts: dict[str, float] = {}
    for batch in batches:
        x = torch.randn(batch, layer.in_features)
        torch.compiler.reset()
        modules: dict[str, Any] = {"eager": layer, "dense": dense}
        for name, module in (("compiled", layer), ("dense compiled", dense)):
            modules[name] = torch.compile(module, fullgraph=True)
            start = time.perf_counter()
            _step(modules[name], x)
            firsts.setdefault(name, time.perf_counter() - start)
        for mode, call in zip(MODES, (_forward, _step), strict=True):
            calls: dict[str, Callable[[], Any]] = {
                name: partial(call, modules[name], x) for name in METHODS
            }
            found = time_alternating(calls, budget=budget)
            times = {name: asdict(timing) for name, timing in found.items()}
            ratio = times["compiled"]["median"] / times["eager"]["median"]
            cells.append(
                {"batch": batch, "mode": mode, "methods": times, "compiled_over_eager": ratio}
            )
    return {"case": case, "backend": layer.explain().backend, "first_step": firsts, "cells": cells}


def _forward(module: Any, x: torch.Tensor) -> None:
    with torch.no_grad():
        module(x)


def _step(module: Any, x: torch.Tensor) -> None:
    module(x).sum().backward()


def table(records: Sequence[dict[str, Any]]) -> str:
    """Medians in ms."""
    rows = [
        [
            f"{record['case']} {cell['mode']} {cell['batch']}",
            *(f"{1e3 * cell['methods'][name]['median']:.3f}" for name in METHODS),
            f"{cell['compiled_over_eager']:.2f}",
        ]
        for record in records
        for cell in record["cells"]
    ]
    return format_table(["ms", *METHODS, "compiled/eager"], rows)


def main(arguments: Sequence[str]) -> int:
    """Run, print and write."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--cases", nargs="+", choices=list(ALL), default=list(CASES))
    parser.add_argument("--batches", nargs="+", type=int, default=list(BATCHES))
    parser.add_argument("--budget", type=float, default=0.5)
    parser.add_argument("--output", type=Path, default=RESULTS / "compiled-cpu.json")
    options = parser.parse_args(arguments)
    record: dict[str, Any] = provenance(arguments)
    print(headline(record))
    record["cases"] = [measure(case, options.batches, options.budget) for case in options.cases]
    print(table(record["cases"]))
    write_json(options.output, record)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
