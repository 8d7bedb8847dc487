"""Layers under torch.compile: eager and compiled, ours and dense, in one process and run.

    python -m benchmarks.compiled [--cases mera-2 tt-3] [--batches 1 64 256] [--output FILE]

For each case: seconds until the first compiled step is done, and the median of a call without
gradients and of a training step. The four take turns. A dense layer of the same features is the
baseline; its compiled time at batch 1 tells what torch.compile itself costs a call.

Then how long a model of 24 layers of 3 shapes takes to compile, beside the same of dense layers:
processor seconds, those of compilers that torch starts included, each in a fresh process with an
empty cache of torch's and with kernels that are built; for a first training step, and for another
one of a second batch size. ``--many`` measures that alone.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import nn

import tnlayer as tn
from benchmarks.common.fresh_process import run_module
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
# What the layers of the large model are, how many there are of each shape, and its batch sizes.
KINDS = ("dense", "auto", "torch")
COPIES, MANY_BATCHES, SECONDS = 8, (16, 24), 1800.0
SHAPES = (((4, 8, 8), (4, 8, 8)), ((4, 8, 8), (8, 8, 8)), ((8, 8, 8), (4, 8, 8)))


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


def many(kind: str, copies: int = COPIES) -> nn.Sequential:
    """A model of layers of three shapes, so many of each: dense, or of tensor trains."""
    layers: list[nn.Module] = []
    for _ in range(copies):
        for ins, outs in SHAPES:
            net = topologies.tensor_train(ins, outs, rank=4)
            if kind == "dense":
                layer: nn.Module = nn.Linear(net.in_features, net.out_features)
            else:
                backend: Any = kind
                layer = tn.Layer(net, bias=True, backend=backend, tiers=False)
            layers += (layer, nn.GELU())
    return nn.Sequential(*layers)


def measure_many(kind: str, copies: int = COPIES) -> dict[str, Any]:
    """Seconds to compile that model; in a process that does nothing else."""
    torch.set_num_threads(1)
    # What torch loads when it compiles for the first time is no part of it, nor are our kernels.
    _step(torch.compile(nn.Sequential(nn.Linear(8, 8), nn.GELU())), torch.randn(2, 8))
    torch.compiler.reset()
    model = many(kind, copies)
    for layer in [*model][: 2 * len(SHAPES)]:
        if isinstance(layer, tn.Layer):
            layer.prepare(MANY_BATCHES)
    module = torch.compile(model, fullgraph=True)
    found: list[dict[str, float]] = []
    for batch in MANY_BATCHES:
        x = torch.randn(batch, 256)
        start, wall = _processor_seconds(), time.perf_counter()
        _step(module, x)
        cpu = _processor_seconds() - start
        found.append({"batch": batch, "cpu": cpu, "wall": time.perf_counter() - wall})
    return {"kind": kind, "steps": found}


def _processor_seconds() -> float:
    """Of this process and of those that it has waited for."""
    return sum(os.times()[:4])


def measure_many_alone(kind: str, copies: int, store: str) -> dict[str, Any]:
    """The same in a fresh process, with an empty cache of torch's and one compiler at a time."""
    with tempfile.TemporaryDirectory() as folder:
        settings = {"TORCHINDUCTOR_CACHE_DIR": folder, "TORCHINDUCTOR_COMPILE_THREADS": "1"}
        before = {name: os.environ.get(name) for name in settings}
        os.environ.update(settings)
        try:
            text = run_module(
                "benchmarks.compiled", ["--one", kind, "--copies", str(copies)], store, SECONDS
            )
        finally:
            for name, value in before.items():
                os.environ.pop(name)
                os.environ.update({} if value is None else {name: value})
    return json.loads(text.splitlines()[-1])


def many_table(records: Sequence[dict[str, Any]]) -> str:
    """Seconds, and over those of the dense model."""
    dense = records[0]["steps"]
    rows = [
        [
            record["kind"],
            str(step["batch"]),
            f"{step['cpu']:.1f}",
            f"{step['cpu'] / base['cpu']:.2f}",
        ]
        for record in records
        for step, base in zip(record["steps"], dense, strict=True)
    ]
    return format_table(["24 layers of 3 shapes", "batch", "s to compile", "over dense"], rows)


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
    parser.add_argument("--many", action="store_true", help="the model of many layers alone")
    parser.add_argument("--copies", type=int, default=COPIES, help="of each shape; 0: none")
    parser.add_argument("--one", choices=KINDS, help="what a process of --many does")
    options = parser.parse_args(arguments)
    if options.one is not None:
        print(json.dumps(measure_many(options.one, options.copies)))
        return 0
    record: dict[str, Any] = provenance(arguments)
    record["load"] = os.getloadavg()
    print(headline(record))
    if not options.many:
        record["cases"] = [measure(case, options.batches, options.budget) for case in options.cases]
        print(table(record["cases"]))
    if options.copies:
        with tempfile.TemporaryDirectory() as store:
            record["many"] = [measure_many_alone(kind, options.copies, store) for kind in KINDS]
        print(many_table(record["many"]))
    write_json(options.output, record)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
