"""First calls: what a layer takes in a fresh process, with an empty store and with a filled one.

``python -m benchmarks.builds`` runs it for every topology at 4096 features, two processes each. The
first finds nothing stored: it makes the layer, calls it forward and backward, and goes on calling
until the kernels from the background have taken over. The second finds all in the store. Processor
seconds of the calling thread stand beside the elapsed ones: they tell what other work on the
machine did to these. Importing torch is no part of it, nor is the garbage collection of what that
has made (a tenth of a second).
"""

from __future__ import annotations

import gc
import json
import sys
import tempfile
import time
from collections.abc import Callable, Iterable
from typing import Any

import torch

import tnlayer as tn
from benchmarks.common.fresh_process import FreshProcessError, run_module
from benchmarks.common.report import format_table
from tnlayer import topologies
from tnlayer.graph.network import Network

BATCH, FEATURES = 256, 4096
BITS = (2,) * 12
SECONDS = 180.0
EMPTY, FILLED = "empty store", "filled store"
STAGES = ("layer", "forward", "backward")
# Seconds that they may take; the first is of the layer alone, the others of all three together.
MOST_LAYER, MOST = 0.2, {EMPTY: 1.0, FILLED: 0.05}

CASES: dict[str, Callable[[], Network]] = {
    "mera-2": lambda: topologies.mera(12, 2, 2),
    "mera-3": lambda: topologies.mera(12, 2, 3),
    "tree-2": lambda: topologies.tree(12, 2, 2),
    "tree-3": lambda: topologies.tree(12, 2, 3),
    "tt-3": lambda: topologies.tensor_train(BITS, BITS, 3),
    "tt-7": lambda: topologies.tensor_train(BITS, BITS, 7),
    "ring-3": lambda: topologies.tensor_ring(BITS, BITS, 3),
    "brickwall": lambda: topologies.brickwall(12, 2, 3),
    "butterfly": lambda: topologies.butterfly(FEATURES),
    "kronecker": lambda: topologies.kronecker((64, 64), (64, 64)),
    "btt": lambda: topologies.btt((64, 64), (64, 64), 2),
    "monarch": lambda: topologies.monarch((64, 64), (64, 64)),
    "tucker": lambda: topologies.tucker((16,) * 3, (16,) * 3, (4,) * 6),
    "low-rank": lambda: topologies.low_rank(FEATURES, FEATURES, 16),
    "tt16-8": lambda: topologies.tensor_train((16,) * 3, (16,) * 3, 8),
}


def stages(case: str, *, to_the_end: bool) -> dict[str, Any]:
    """Seconds of a layer's first steps in this process.

    Arguments:
        case: one of CASES.
        to_the_end: whether to go on until what was built in the background has taken over.
    """
    net = CASES[case]()
    x = torch.randn(BATCH, FEATURES)
    gc.collect()  # what importing torch has made would be looked through at some time in between
    found: dict[str, Any] = {}

    def timed(name: str, work: Callable[[], Any]) -> Any:
        wall, own = time.perf_counter(), time.thread_time()
        result = work()
        found[name] = time.perf_counter() - wall
        found[f"{name} cpu"] = time.thread_time() - own
        return result

    layer = timed("layer", lambda: tn.Layer(net))
    y = timed("forward", lambda: layer(x))
    timed("backward", lambda: y.sum().backward())
    ranged = layer._programs_for(layer.dtype)[0]  # pyright: ignore[reportPrivateUsage]
    found["first tier"] = not ranged.ranges
    began = time.perf_counter()
    calls = 1
    while to_the_end and not ranged.ranges and time.perf_counter() - began < SECONDS / 2:
        layer(x).sum().backward()
        calls += 1
    found["changed after"], found["calls before"] = time.perf_counter() - began, calls
    found["backend"] = [program.backend for _, program in ranged.ranges]
    return found


def start_times(case: str) -> dict[str, Any]:
    """Both processes of a case, which share a store."""
    cell: dict[str, Any] = {"case": case, "batch": BATCH, "failure": ""}
    with tempfile.TemporaryDirectory(prefix="tnlayer-starts-") as folder:
        for which in (EMPTY, FILLED):
            try:
                cell[which] = json.loads(
                    run_module("benchmarks.starts", [case, which], folder, SECONDS)
                )
            except FreshProcessError as error:
                cell["failure"] = f"{which}: {error}"
                break
    return cell


def table(cells: Iterable[dict[str, Any]]) -> str:
    """Milliseconds of both processes, and the targets that are missed."""
    header = [
        "case",
        *(f"{s} ms" for s in (*STAGES, "all")),
        "s to kernels",
        "again: all ms",
        "runs",
    ]
    rows: list[list[str]] = []
    missed: list[str] = []
    for cell in cells:
        if cell["failure"]:
            missed.append(f"{cell['case']} failed: {cell['failure']}")
            continue
        empty, filled = cell[EMPTY], cell[FILLED]
        totals = {which: sum(cell[which][s] for s in STAGES) for which in (EMPTY, FILLED)}
        rows.append(
            [
                cell["case"],
                *(f"{empty[s] * 1e3:.0f}" for s in STAGES),
                f"{totals[EMPTY] * 1e3:.0f}",
                f"{empty['changed after']:.1f}" if empty["first tier"] else "at once",
                f"{totals[FILLED] * 1e3:.0f}",
                ", ".join(filled["backend"]),
            ]
        )
        if empty["layer"] > MOST_LAYER:
            missed.append(f"{cell['case']}: layer under {MOST_LAYER:g} s: MISSED")
        for which, most in MOST.items():
            if totals[which] > most:
                missed.append(f"{cell['case']}, {which}: all under {most:g} s: MISSED")
    return "\n".join([f"first calls, batch {BATCH}", format_table(header, rows), *missed])


if __name__ == "__main__":
    print(json.dumps(stages(sys.argv[1], to_the_end=sys.argv[2] == EMPTY)))
