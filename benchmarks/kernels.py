"""Fused kernels against chains of einsum calls and against dense.

    python -m benchmarks.kernels --device cpu            # the table: about ten minutes
    python -m benchmarks.kernels --device cpu --cases mera-2 --batches 256
    python -m benchmarks.kernels --device cpu --growth   # MERA-2 from 10 to 20 legs

All methods of a cell are timed in one process in shuffled turns (see benchmarks/timing.py), warm,
medians. "chain" is cotengra's expression on the tree that is fastest at that moment, among those of
five searches and those that earlier runs stored (results/layers-cpu.json and this file's own
result). Each call goes through Python and torch's autograd; the branch is part of it. Shares are of
this machine's multiply-add peak and copy bandwidth, both measured at the start.
"""

from __future__ import annotations

import argparse
import ctypes
import json
import resource
import sys
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch

import tnlayer as tn
from benchmarks.baselines import METHODS, Leaf, Runner
from benchmarks.layers import (
    MODES,
    Method,
    Reference,
    calls_of,
    method_record,
    prepare,
    stored_trees,
)
from benchmarks.problem import Problem
from benchmarks.report import RESULTS, format_table, provenance, write_json
from benchmarks.timing import time_alternating
from benchmarks.workloads import WORKLOADS, Workload
from tnlayer import topologies
from tnlayer.runtime.build import load_library

CASES: dict[str, Workload] = {
    **{name: WORKLOADS[name] for name in ("mera-2", "mera-3", "tt-3", "tt-7", "btt")},
    "tree-2": Workload("tree-2", "tree, 12 legs of 2, bond 2", lambda: topologies.tree(12, 2, 2)),
    "butterfly": Workload("butterfly", "butterfly, 4096", lambda: topologies.butterfly(4096)),
}
BATCHES = (1, 50, 256)
CPP, TORCH, CHAIN, DENSE = "tnlayer cpp", "tnlayer", "cotengra", "dense"
GROWTH_LEGS = (10, 12, 14, 16, 18, 20)


def tnlayer_cpp(problem: Problem) -> Runner:
    """tn.Layer with compiled kernels."""
    layer = tn.Layer(problem.graph, backend="cpp", batch=problem.batch)
    own = dict(layer.named_parameters())
    with torch.no_grad():
        for name, value in problem.parameters.items():
            own[name].copy_(value)
    return Runner(layer, layer, tuple(Leaf(name, own[name]) for name in problem.parameters))


KERNEL_METHODS: dict[str, Method] = {
    DENSE: METHODS[DENSE],
    TORCH: METHODS[TORCH],
    CHAIN: METHODS[CHAIN],
    CPP: tnlayer_cpp,
}


# -- the machine -------------------------------------------------------------------------------

_PEAK = """
#include <omp.h>
#include <cstdlib>
#include <cstring>
typedef float vec __attribute__((vector_size(64)));
extern "C" double multiply_adds(long turns, int threads) {
  double start = 0, seconds = 0;
  #pragma omp parallel num_threads(threads)
  {
    vec x = vec{} + .999f, y = vec{} + .001f;
    vec ACCUMULATORS;
    #pragma omp barrier
    #pragma omp master
    start = omp_get_wtime();
    for (long i = 0; i < turns; i++) { STEPS asm volatile("" : KEPT); }
    #pragma omp barrier
    #pragma omp master
    seconds = omp_get_wtime() - start;
  }
  return seconds;
}
extern "C" double copies(long bytes, int turns, int threads) {
  double start = 0, seconds = 0;
  #pragma omp parallel num_threads(threads)
  {
    char *a = (char*)malloc(bytes), *b = (char*)malloc(bytes);
    memset(a, 1, bytes); memset(b, 1, bytes);
    #pragma omp barrier
    #pragma omp master
    start = omp_get_wtime();
    for (int i = 0; i < turns; i++) { memcpy(b, a, bytes); asm volatile("" : : "r"(b) : "memory"); }
    #pragma omp barrier
    #pragma omp master
    seconds = omp_get_wtime() - start;
    free(a); free(b);
  }
  return seconds;
}
"""


@dataclass(frozen=True, slots=True)
class Peaks:
    """What the machine can do on all threads.

    Arguments:
        flops: float32 multiply-adds in registers, two FLOPs each, a second.
        bandwidth: bytes read plus written a second by copies of 2 MiB, the size of a batch's share.
    """

    flops: float
    bandwidth: float


def measure_peaks() -> Peaks:
    """Best of five runs each."""
    names = [f"a{k}" for k in range(14)]
    source = _PEAK.replace("ACCUMULATORS", ", ".join(f"{n} = x" for n in names))
    source = source.replace("STEPS", " ".join(f"{n} = {n} * x + y;" for n in names * 8))
    source = source.replace("KEPT", ", ".join(f'"+v"({n})' for n in names))
    library = load_library(source)
    library.multiply_adds.restype = library.copies.restype = ctypes.c_double
    library.multiply_adds.argtypes = (ctypes.c_long, ctypes.c_int)
    library.copies.argtypes = (ctypes.c_long, ctypes.c_int, ctypes.c_int)
    threads, turns, size = torch.get_num_threads(), 500_000, 2**21
    flops = max(
        turns * 8 * len(names) * 32 * threads / library.multiply_adds(turns, threads)
        for _ in range(5)
    )
    copied = max(100 * 2 * size * threads / library.copies(size, 100, threads) for _ in range(5))
    return Peaks(flops, copied)


# -- the table ---------------------------------------------------------------------------------


def measure(case: str, batch: int, budget: float, peaks: Peaks) -> list[dict[str, Any]]:
    """Check and time all methods in one case; one record a mode."""
    graph = CASES[case].build().freeze()
    stored: tuple[Any, ...] = ()
    for path in (RESULTS / "layers-cpu.json", RESULTS / "cpu-kernels.json"):
        stored += stored_trees(path).get((case, batch), ())
    problem = Problem.draw(graph, batch, tuple(dict.fromkeys(stored)))
    expected = Reference(problem).expected(problem)
    entries = {name: prepare(method, problem, expected) for name, method in KERNEL_METHODS.items()}
    running = {name: e.runner for name, e in entries.items() if e.runner is not None}
    calls = {name: calls_of(runner, problem) for name, runner in running.items()}
    program = tn.compile(graph, backend="cpp", batch=batch)
    flops = program.plan.counts.flops.at(batch)
    moved = 4 * batch * (graph.in_features + graph.out_features)
    records = []
    for mode in MODES:
        timings = time_alternating(
            {name: call[mode] for name, call in calls.items()},
            budget=budget,
            known={name: entries[name].first_calls[mode] for name in calls},
        )
        methods = {name: method_record(e, timings.get(name)) for name, e in entries.items()}
        seconds = {name: timing.median for name, timing in timings.items()}
        # The backward makes the states again (a forward, but for its last step), then two products.
        work, traffic = (flops, moved) if mode == MODES[0] else (4 * flops, 3 * moved)
        records.append(
            {
                "case": case,
                "batch": batch,
                "mode": mode,
                "methods": methods,
                "times_chain": seconds[CHAIN] / seconds[CPP],
                "times_dense": seconds[DENSE] / seconds[CPP],
                "times_torch": seconds[TORCH] / seconds[CPP],
                "flops": work,
                "share_of_peak": work / seconds[CPP] / peaks.flops,
                "share_of_bandwidth": traffic / seconds[CPP] / peaks.bandwidth,
            }
        )
    return records


def table(cells: Sequence[dict[str, Any]], mode: str) -> str:
    """One table of a mode, as text."""
    header = ["case", "batch", *KERNEL_METHODS, "x chain", "x dense", "x torch", "peak", "copies"]
    rows = []
    for cell in cells:
        if cell["mode"] != mode:
            continue
        times = [_milliseconds(cell["methods"][name]) for name in KERNEL_METHODS]
        ratios = [f"{cell[key]:.2f}" for key in ("times_chain", "times_dense", "times_torch")]
        shares = [f"{100 * cell[key]:.0f}%" for key in ("share_of_peak", "share_of_bandwidth")]
        rows.append([cell["case"], str(cell["batch"]), *times, *ratios, *shares])
    return f"{mode}, median ms\n{format_table(header, rows)}"


def _milliseconds(method: dict[str, Any]) -> str:
    if method["status"] == "cannot":
        return "cannot"
    mark = " WRONG" if method["status"] == "wrong" else ""
    return f"{method['median'] * 1e3:.3g}{mark}"


# -- growth ------------------------------------------------------------------------------------


def grow(legs: int, batch: int) -> dict[str, Any]:
    """MERA-2 of so many legs: build times, a forward, a training step, memory of the process."""
    net = topologies.mera(legs, 2, 2).freeze()
    start = time.perf_counter()
    layer = tn.Layer(net, backend="cpp", batch=batch)
    x = torch.randn(batch, layer.in_features, requires_grad=True)
    with torch.no_grad():
        y = layer(x)
    built = time.perf_counter()
    slope = torch.randn_like(y)
    wanted = [x, *layer.parameters()]
    torch.autograd.grad(layer(x), wanted, slope)
    built_backward = time.perf_counter()

    def forward() -> object:
        with torch.no_grad():
            return layer(x)

    timings = time_alternating(
        {
            MODES[0]: forward,
            MODES[1]: lambda: torch.autograd.grad(layer(x), wanted, slope),
        },
        budget=2.0,
    )
    return {
        "legs": legs,
        "features": layer.in_features,
        "batch": batch,
        "plan_and_build_seconds": built - start,
        "build_backward_seconds": built_backward - built,
        "seconds_a_sample": {mode: t.median / batch for mode, t in timings.items()},
        "peak_memory_bytes": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024,
    }


def growth_table(cells: Sequence[dict[str, Any]]) -> str:
    """Time a sample, memory and build time by the number of legs."""
    rows = [
        [
            str(cell["legs"]),
            str(cell["features"]),
            *(f"{cell['seconds_a_sample'][mode] * 1e6:.1f}" for mode in MODES),
            f"{cell['peak_memory_bytes'] / 2**30:.2f}",
            f"{cell['plan_and_build_seconds']:.1f}",
            f"{cell['build_backward_seconds']:.1f}",
        ]
        for cell in cells
    ]
    header = ["legs", "features", "forward us/sample", "f+b us/sample", "GiB", "build s", "b. s"]
    return f"MERA-2, growth\n{format_table(header, rows)}"


# -- command line ------------------------------------------------------------------------------


def parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.kernels", description=__doc__)
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.add_argument("--device", choices=["cpu"], default="cpu")
    parser.add_argument("--cases", nargs="+", choices=list(CASES), default=list(CASES))
    parser.add_argument("--batches", nargs="+", type=int, default=list(BATCHES))
    parser.add_argument("--budget", type=float, default=1.0, help="seconds a method and cell")
    parser.add_argument("--growth", action="store_true", help="MERA-2 by its number of legs")
    parser.add_argument("--legs", nargs="+", type=int, default=list(GROWTH_LEGS))
    parser.add_argument("--output", type=Path, help="the JSON file; cells join those in it")
    return parser.parse_args(arguments)


def merged(path: Path, fresh: Sequence[dict[str, Any]], keys: Sequence[str]) -> list[Any]:
    """Cells of an earlier file that were not measured again, then the fresh ones."""
    old = json.loads(path.read_text())["cells"] if path.exists() else []
    known = {tuple(cell[key] for key in keys) for cell in fresh}
    return [cell for cell in old if tuple(cell[key] for key in keys) not in known] + list(fresh)


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure, print the tables, write the JSON; 1 if a result is wrong."""
    options = parse(arguments)
    torch.set_float32_matmul_precision("highest")
    given = list(sys.argv[1:] if arguments is None else arguments)
    record: dict[str, Any] = {"schema": 1, **provenance(given)}
    if options.growth:
        output = options.output or RESULTS / "cpu-growth.json"
        cells = [grow(legs, 16) for legs in options.legs]
        record["cells"] = merged(output, cells, ("legs", "batch"))
        write_json(output, record)
        print(growth_table(record["cells"]), f"written: {output}", sep="\n\n")
        return 0
    output = options.output or RESULTS / "cpu-kernels.json"
    peaks = measure_peaks()
    record["peaks"] = asdict(peaks)
    cells = []
    for case in options.cases:
        for batch in options.batches:
            cells += measure(case, batch, options.budget, peaks)
            print(f"{case}, batch {batch}: measured", file=sys.stderr, flush=True)
    record["cells"] = merged(output, cells, ("case", "batch", "mode"))
    write_json(output, record)
    peak = f"peak {peaks.flops / 1e9:.0f} GFLOP/s, copies {peaks.bandwidth / 1e9:.0f} GB/s"
    print(peak, *(table(record["cells"], mode) for mode in MODES), sep="\n\n")
    print(f"written: {output}")
    return int(any(m["status"] == "wrong" for c in cells for m in c["methods"].values()))


if __name__ == "__main__":
    sys.exit(main())
