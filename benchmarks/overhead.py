"""What a call costs beside its arithmetic: toy layers beside nn.Linear, in one process and run.

    python -m benchmarks.overhead [--output FILE]

A layer of 16 features has next to no arithmetic, so its time is that of the way to it. For compiled
kernels, for torch's calls, and for isometries that are kept: a call without gradients, and a
forward with its backward, in microseconds beside those of an nn.Linear of the same features. They
take turns of a hundred calls, as a loop would make them. Then the milliseconds to make layers whose
plans are known, beside a dense one.
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
from tnlayer import topologies

FEATURES, BATCH, REPEATS, CALLS = 16, 1, 7, 100
BITS = (2,) * 12
LAYERS: dict[str, Callable[[], nn.Module]] = {
    "nn.Linear": lambda: nn.Linear(FEATURES, FEATURES),
    "compiled, 2 tensors": lambda: _layer(topologies.low_rank(FEATURES, FEATURES, 2), "cpp"),
    "compiled, 5 tensors": lambda: _layer(topologies.mera(4, 2, 2), "cpp"),
    "torch, 2 tensors": lambda: _layer(topologies.low_rank(FEATURES, FEATURES, 2), "torch"),
    "torch, 3 tensors": lambda: _layer(topologies.tensor_train((4, 2, 2), (4, 2, 2), 2), "torch"),
    "compiled, isometries kept": lambda: _layer(topologies.mera(4, 2, 2), "cpp", isometries="keep"),
}
BUILDS: dict[str, Callable[[], tn.Network]] = {
    "mera-2": lambda: topologies.mera(12, 2, 2),
    "tt-3": lambda: topologies.tensor_train(BITS, BITS, 3),
    "tt16-8": lambda: topologies.tensor_train((16,) * 3, (16,) * 3, 8),
    "btt": lambda: topologies.btt((64, 64), (64, 64), 2),
    "low-rank": lambda: topologies.low_rank(4096, 4096, 32),
}
# Microseconds that a call may take beside nn.Linear's, and milliseconds to make a layer.
MOST = {"compiled forward": 4.0, "compiled step": 35.0, "torch step": 15.0, "build": 10.0}


def _layer(net: tn.Network, backend: str, **options: Any) -> tn.Layer:
    return tn.Layer(net, bias=True, backend=backend, tiers=False, **options)


def measure_calls(budget: float) -> list[dict[str, Any]]:
    """Medians of all layers, which take turns."""
    modules = {name: make() for name, make in LAYERS.items()}
    x = torch.randn(BATCH, FEATURES)
    cells: list[dict[str, Any]] = []
    for mode, call in (("forward", _forward), ("step", _step)):
        calls: dict[str, Callable[[], Any]] = {
            name: partial(_repeat, call, module, x) for name, module in modules.items()
        }
        found = time_alternating(calls, budget=budget)
        dense = found["nn.Linear"].median
        for name, timing in found.items():
            cells.append(
                {
                    "layer": name,
                    "mode": mode,
                    "us": 1e6 * timing.median / CALLS,
                    "beside us": 1e6 * (timing.median - dense) / CALLS,
                    "turns of calls": asdict(timing),
                }
            )
    return cells


def measure_builds() -> dict[str, float]:
    """The fastest of a few times that a layer is made, in milliseconds of processor time."""
    found: dict[str, float] = {}
    for name, make in BUILDS.items():
        net = make()
        found[name] = min(_milliseconds(lambda net=net: tn.Layer(net)) for _ in range(REPEATS))
    found["nn.Linear(4096, 4096)"] = min(
        _milliseconds(lambda: nn.Linear(4096, 4096)) for _ in range(3)
    )
    return found


def _milliseconds(work: Callable[[], object]) -> float:
    start = time.process_time()
    work()
    return 1e3 * (time.process_time() - start)


def _repeat(call: Callable[[nn.Module, torch.Tensor], None], module: nn.Module, x: Any) -> None:
    for _ in range(CALLS):
        call(module, x)


def _forward(module: nn.Module, x: torch.Tensor) -> None:
    with torch.no_grad():
        module(x)


def _step(module: nn.Module, x: torch.Tensor) -> None:
    module(x).sum().backward()


def main(arguments: Sequence[str]) -> int:
    """Measure, print and write."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.overhead")
    parser.add_argument("--budget", type=float, default=20.0, help="seconds a kind of call")
    parser.add_argument("--output", type=Path, default=RESULTS / "overhead.json")
    options = parser.parse_args(arguments)
    record: dict[str, Any] = provenance(arguments)
    print(headline(record))
    torch.set_num_threads(1)
    record["cells"] = measure_calls(options.budget)
    record["builds"] = measure_builds()
    record["most"] = MOST
    rows = [
        [cell["layer"], cell["mode"], f"{cell['us']:.1f}", f"{cell['beside us']:+.1f}"]
        for cell in record["cells"]
    ]
    print(format_table(["layer", "call", "us", "beside nn.Linear"], rows))
    builds = [[name, f"{ms:.1f}"] for name, ms in record["builds"].items()]
    print(format_table(["layer", "ms to make"], builds))
    write_json(options.output, record)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
