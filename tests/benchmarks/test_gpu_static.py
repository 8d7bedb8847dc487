"""The static report of CUDA kernels: what it counts, and that the figures in hand are kept."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

import benchmarks.gpu_static as gpu_static
from benchmarks.gpu.machine_code import Kernel
from tests.support.nvidia_tools import needs_nvdisasm, needs_nvrtc

NOTHING = ""


def kernel(*lines: tuple[str, str], labels: dict[str, int]) -> Kernel:
    """A kernel of few instructions."""
    return Kernel(lines, labels)


def test_loops_inside_the_loop_over_samples_are_seen() -> None:
    """The loop over samples is the one with a barrier; another one in it makes it not straight."""
    lines = [
        ("MOV", NOTHING),
        ("BAR.SYNC", NOTHING),
        ("FFMA", NOTHING),
        ("BRA", "`(.L_x_1)"),
        ("BRA", "`(.L_x_0)"),
        ("EXIT", NOTHING),
    ]
    nested = kernel(*lines, labels={".L_x_0": 1, ".L_x_1": 2})
    assert nested.loop() == tuple(lines[1:5]) and not nested.is_straight()
    plain = kernel(*lines[:3], lines[4], labels={".L_x_0": 1})
    assert plain.loop() == (*lines[1:3], lines[4]) and plain.is_straight()


@needs_nvrtc
@needs_nvdisasm
def test_the_circuit_of_25_gates_is_within_the_figures(tmp_path: Path) -> None:
    """With 32 entries a thread at most 7 segments, 485 accesses of shared memory and 3850
    instructions of a warp for a sample, as the prototype has; its forward has no spill."""
    output = tmp_path / "static.json"
    arguments = ["--cases", "circuit-25", "--arches", "sm_90", "--output", str(output)]
    assert gpu_static.main(arguments) == 0
    forward, backward = json.loads(output.read_text())["kernels"]
    found = forward["result"]
    counted = found["instructions"]
    assert forward["kernel"] == "forward" and backward["kernel"] == "backward"
    assert found["segments"] <= 7 and found["spill_bytes"] == 0
    assert 0 < counted["LDS"] + counted["STS"] <= 485 and counted["all"] <= 3850
    assert found["lowest_share"] >= 0.6 and backward["result"]["lowest_share"] >= 0.6


def test_tables_tell_what_torch_runs() -> None:
    """A case that is no kernel is a row that says so."""
    entry = {"case": "btt", "arch": "sm_90", "kernel": "", "runs": "torch", "result": None}
    text = gpu_static.table([entry, {**entry, "arch": "sm_80"}], "sm_90")
    assert text.count("btt") == 1 and "torch" in text


@pytest.mark.parametrize(
    ("registers", "threads", "shared", "blocks"), [(128, 256, 1024, 2), (33, 1024, 0, 1),
                                                   (32, 128, 113 * 1024, 2), (32, 64, 0, 32)]
)  # fmt: skip
def test_blocks_of_a_multiprocessor(registers: int, threads: int, shared: int, blocks: int) -> None:
    """Registers, threads and shared memory bound them on sm_90."""
    assert gpu_static._blocks(registers, threads, shared, "sm_90") == blocks
