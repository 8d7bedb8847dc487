"""A layer in 16 bits beside the same layer in float32, and beside nn.Linear in 16 bits.

    python -m benchmarks.half_precision [--output FILE]

Layers of 4,096 features as they come, kernels built before. The turns of a cell are in one process:
float32, bfloat16, float16, and nn.Linear in each. In float16 that takes minutes where a processor
has no instructions for it, and is then left out beyond batch 1.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import nn

import tnlayer as tn
from benchmarks.common.module_calls import forward, training_step
from benchmarks.common.report import RESULTS, format_table, headline, provenance, write_json
from benchmarks.common.timing import time_alternating
from tnlayer import topologies
from tnlayer.hardware.half_precision import wide_products

FEATURES = 4096
LAYERS: dict[str, Callable[[], tn.Network]] = {
    "mera-2": lambda: topologies.mera(12, 2, 2),
    "tt-3": lambda: topologies.tensor_train((4,) * 6, (4,) * 6, 3),
    "butterfly": lambda: topologies.butterfly(FEATURES),
    "btt": lambda: topologies.btt((64, 64), (64, 64), 2),
    "tt16-8": lambda: topologies.tensor_train((16,) * 3, (16,) * 3, 8),
    "tt16-32": lambda: topologies.tensor_train((16,) * 3, (16,) * 3, 32),
    "low-rank": lambda: topologies.low_rank(FEATURES, FEATURES, 64),
}
BATCHES = (1, 64, 256)
DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}


def measure(name: str, batches: Sequence[int], budget: float) -> list[dict[str, Any]]:
    """One cell a batch size, and whether gradients are made."""
    net = LAYERS[name]()
    layers = {kind: tn.Layer(net, dtype=dtype) for kind, dtype in DTYPES.items()}
    cells: list[dict[str, Any]] = []
    for layer in layers.values():
        layer.prepare(tuple(batches))
    for batch in batches:
        calls: dict[str, tuple[nn.Module, torch.Tensor]] = {}
        for kind, dtype in DTYPES.items():
            x = torch.randn(batch, FEATURES).to(dtype)
            calls[kind] = (layers[kind], x)
            if batch == 1 or not wide_products(kind, "cpu"):
                dense = nn.Linear(FEATURES, FEATURES, bias=False, dtype=dtype)
                calls[f"dense {kind}"] = (dense, x)
        for mode, call in (("forward", forward), ("training", training_step)):
            works: dict[str, Callable[[], Any]] = {
                kind: partial(call, *pair) for kind, pair in calls.items()
            }
            found = time_alternating(works, budget=budget)
            cells.append(
                {
                    "layer": name,
                    "batch": batch,
                    "mode": mode,
                    "ms": {kind: 1e3 * timing.median for kind, timing in found.items()},
                    "backends": {kind: _backend(layer, batch) for kind, layer in layers.items()},
                }
            )
    return cells


def _backend(layer: tn.Layer, batch: int) -> str:
    """What runs it, from its own report."""
    report = str(layer.explain(batch=batch))
    return next(line for line in report.splitlines() if line.startswith("backend"))


def main(arguments: Sequence[str]) -> int:
    """Measure, print and write."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.half_precision")
    parser.add_argument("--layers", default=",".join(LAYERS), help="names, with commas")
    parser.add_argument("--batches", default=",".join(map(str, BATCHES)), help="with commas")
    parser.add_argument("--budget", type=float, default=4.0, help="seconds a cell")
    parser.add_argument("--output", type=Path, default=RESULTS / "half-precision.json")
    options = parser.parse_args(arguments)
    record: dict[str, Any] = provenance(arguments)
    print(headline(record))
    batches = [int(word) for word in options.batches.split(",")]
    record["cells"] = cells = [
        cell
        for name in options.layers.split(",")
        for cell in measure(name, batches, options.budget)
    ]
    rows: list[list[str]] = []
    for cell in cells:
        ms: dict[str, float] = cell["ms"]
        row = [cell["layer"], str(cell["batch"]), cell["mode"], f"{ms['float32']:.3f}"]
        for kind in ("bfloat16", "float16"):
            dense = ms.get(f"dense {kind}")
            row.append(f"{ms[kind] / ms['float32']:.2f}")
            row.append("-" if dense is None else f"{ms[kind] / dense:.3f}")
        rows.append(row)
    heads = ["layer", "batch", "call", "float32 ms", "bf16/f32", "bf16/dense", "f16/f32",
             "f16/dense"]  # fmt: skip
    print(format_table(heads, rows))
    write_json(options.output, record)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
