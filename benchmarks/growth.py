"""Compiled MERA-2 layers from 10 to 20 legs: build time, time a sample, memory; a process each.

``python -m benchmarks.growth LEGS BATCH`` measures one size and prints a line of JSON a stage, so
that a size that runs out of time or memory still tells how far it came.
"""

from __future__ import annotations

import json
import os
import resource
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import torch

import tnlayer as tn
from benchmarks.common.report import format_table
from benchmarks.common.timing import time_alternating
from benchmarks.layers import MODES
from tnlayer import topologies
from tnlayer.backends.cpp_program import CppProgram
from tnlayer.backends.toolchains.cpp_build import load_library
from tnlayer.codegen.cpp.printer import print_cpp
from tnlayer.lowering.cpu.pipeline import backward_program, forward_program

LEGS = (10, 12, 14, 16, 18, 20)
BATCH = 16
SECONDS = 100.0
BUDGET = 1.0
# What a training step at 20 legs may need.
MOST_BYTES = 8 * 2**30
TARGET_LEGS = 20


def stages(legs: int, batch: int) -> Iterator[dict[str, Any]]:
    """Measure one size; what is known so far after each stage."""
    net = topologies.mera(legs, 2, 2).freeze()
    start = time.perf_counter()
    program = tn.compile(net, backend="cpp", batch=batch)
    yield {"plan_seconds": time.perf_counter() - start, "tensors": len(net.tensors)}
    assert isinstance(program, CppProgram)
    yield _built("forward", program)
    # The kernels are loaded by now: the layer finds them.
    layer = tn.Layer(net, backend="cpp", batch=batch)
    x = torch.randn(batch, layer.in_features, requires_grad=True)

    def forward() -> torch.Tensor:
        with torch.no_grad():
            return layer(x)

    yield _timed(MODES[0], forward, batch)
    yield _built("backward", program)
    slope = torch.randn(batch, layer.out_features)
    wanted = [x, *layer.parameters()]
    yield _timed(MODES[1], lambda: torch.autograd.grad(layer(x), wanted, slope), batch)


def _built(which: str, program: CppProgram) -> dict[str, Any]:
    """Lower and compile one kernel, each timed."""
    start = time.perf_counter()
    if which == "forward":
        loops = forward_program(program.plan, program.cpu)
    else:
        wanted = program.wanted(program.training_mask())
        loops = backward_program(program.plan, wanted, program.cpu)
    source = print_cpp(loops)
    lowered = time.perf_counter()
    load_library(source)
    compiled = time.perf_counter()
    return {
        f"lower_{which}_seconds": lowered - start,
        f"compile_{which}_seconds": compiled - lowered,
    }


def _timed(mode: str, call: Any, batch: int) -> dict[str, Any]:
    """Median time of a sample, and the most memory that the process had until then."""
    call()  # builds the layer's own kernels, which is no part of the time of a call
    timing = time_alternating({mode: call}, budget=BUDGET)[mode]
    return {
        f"{mode}_seconds_a_sample": timing.median / batch,
        f"{mode}_peak_memory_bytes": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024,
    }


def grow(legs: int, batch: int, seconds: float = SECONDS) -> dict[str, Any]:
    """Measure one size in a process of its own that gets so many seconds; kernels and plans are
    made anew."""
    command = [sys.executable, "-m", "benchmarks.growth", str(legs), str(batch)]
    process = subprocess.Popen(
        command,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        cwd=Path(__file__).parent.parent,
        env={**os.environ, "TNLAYER_CACHE": "0"},
        start_new_session=True,
    )
    try:
        printed, errors = process.communicate(timeout=seconds)
        failure = "" if process.returncode == 0 else _failure(process.returncode, errors)
    except subprocess.TimeoutExpired:
        # Its compiler, too.
        os.killpg(process.pid, signal.SIGKILL)
        printed, _ = process.communicate()
        failure = f"stopped after {seconds:g} s"
    cell: dict[str, Any] = {"legs": legs, "features": 2**legs, "batch": batch}
    for line in printed.splitlines():
        cell |= json.loads(line)
    return cell | {"failure": failure}


def _failure(code: int, errors: str) -> str:
    lines = errors.strip().splitlines() or ["no message"]
    return f"exit code {code}: {lines[-1]}"[:300]


def table(cells: Sequence[dict[str, Any]]) -> str:
    """Time a sample, memory and build times by the number of legs; whether the target is met."""
    scales = {
        "legs": ("legs", 1),
        "features": ("features", 1),
        "forward us/sample": (f"{MODES[0]}_seconds_a_sample", 1e6),
        "f+b us/sample": (f"{MODES[1]}_seconds_a_sample", 1e6),
        "forward GiB": (f"{MODES[0]}_peak_memory_bytes", 2**-30),
        "f+b GiB": (f"{MODES[1]}_peak_memory_bytes", 2**-30),
        "plan s": ("plan_seconds", 1),
        "lower s": ("lower_forward_seconds", 1),
        "compile s": ("compile_forward_seconds", 1),
        "lower b. s": ("lower_backward_seconds", 1),
        "compile b. s": ("compile_backward_seconds", 1),
    }
    rows = [
        [f"{cell[key] * scale:.4g}" if key in cell else "-" for key, scale in scales.values()]
        for cell in sorted(cells, key=lambda cell: cell["legs"])
    ]
    parts = [f"MERA-2 at batch {BATCH}, by legs\n{format_table(list(scales), rows)}"]
    parts += [f"{c['legs']} legs failed: {c['failure']}" for c in cells if c["failure"]]
    key = f"{MODES[1]}_peak_memory_bytes"
    for cell in cells:
        if cell["legs"] == TARGET_LEGS:
            met = cell.get(key, MOST_BYTES) < MOST_BYTES
            parts.append(
                f"a training step at {TARGET_LEGS} legs under {MOST_BYTES // 2**30} GiB: "
                f"{'met' if met else 'MISSED'}"
            )
    return "\n".join(parts)


if __name__ == "__main__":
    for stage in stages(int(sys.argv[1]), int(sys.argv[2])):
        print(json.dumps(stage), flush=True)
