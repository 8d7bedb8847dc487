"""The CUDA schedule without a GPU: interpreted, and run by the C++ printer, against the oracle."""

from __future__ import annotations

import ctypes
from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
import torch

import tnlayer as tn
from tests.support.against_oracle import KINDS
from tests.support.cpp_units import has_compiler
from tests.support.cuda_case import CudaCase
from tests.support.emulated import run_source
from tests.support.gpu_as_cpu import as_cpu_program
from tests.support.small_topologies import NETWORKS
from tests.support.strategies import collect
from tnlayer import topologies
from tnlayer.backends.cpp_program import LoadedEntry
from tnlayer.backends.cuda_source import printed
from tnlayer.backends.toolchains.cpp_build import load_library
from tnlayer.backends.toolchains.kernel_store import entry_of
from tnlayer.codegen.cpp.prelude import prelude
from tnlayer.codegen.cpp.printer import print_kernel
from tnlayer.hardware.gpu import Gpu, Tiling, gpu_of
from tnlayer.ir.loops import LoopProgram
from tnlayer.ir.loops_interpret import interpret
from tnlayer.lowering.gpu.chain import find_chain
from tnlayer.lowering.gpu.pipeline import PlanDraft, by_segments
from tnlayer.lowering.gpu.schedule import GpuSchedule

needs_compiler = pytest.mark.skipif(not has_compiler(), reason="no C++ compiler")
GPU = gpu_of("sm_90")
# So little shared memory that most states go to global memory.
SMALL = replace(GPU, shared_bytes=4096)
# Points make many results, of several samples, however few points are left.
LARGE = replace(GPU, tilings=(Tiling(8, 8, 64, 1),))
# Chains of many steps, in several segments.
CIRCUITS: dict[str, Callable[[], tn.Network]] = {
    "mera_8": lambda: topologies.mera(8, 2),
    "deep": lambda: topologies.brickwall(8, dim=2, depth=6),
    "threes_deep": lambda: topologies.brickwall(5, dim=3, depth=3),
    "long_chain": lambda: topologies.tensor_train((2,) * 10, (2,) * 10, rank=3),
    "wide_butterfly": lambda: topologies.butterfly(256),
    "sixteens": lambda: topologies.tensor_train((16, 4), (4, 16), rank=2),
}
CASES, FULL_CASES, FULL_SHARDS, INTERPRETED = 36, 25, 10, 15


def run_compiled(trials: list[CudaCase], optimise: str = "-O1") -> None:
    """Compile the programs of all trials in one unit, run them and check."""
    scalar = trials[0].programs[0].program.scalar
    programs = [s.program for trial in trials for s in trial.programs]
    plain = map(as_cpu_program, programs)
    source = prelude(scalar, 1) + "".join(map(print_kernel, plain))
    library = load_library(source, optimise=optimise)
    for trial in trials:
        for scheduled in trial.programs:
            program = scheduled.program
            trial.check(called(program, library, trial), program.name)


def called(program: LoopProgram, library: ctypes.CDLL, trial: CudaCase) -> dict[str, np.ndarray]:
    dtype = getattr(torch, program.scalar)
    call = LoadedEntry(program.name, entry_of(program), library)
    given = trial.inputs_of(program)
    inputs = [torch.from_numpy(given[buffer.name]).to(dtype) for buffer in program.of("input")]
    outputs = {
        b.name: torch.full((b.size * (trial.batch if b.batched else 1),), torch.nan, dtype=dtype)
        for b in program.of("output")
    }
    call.run([*inputs, *outputs.values()], trial.batch)
    return {name: tensor.numpy() for name, tensor in outputs.items()}


@needs_compiler
@pytest.mark.parametrize(
    "gpu", [pytest.param(GPU, id="sm_90", marks=pytest.mark.full), pytest.param(SMALL, id="small")]
)
def test_topologies_run_by_the_cpp_printer_equal_torch(gpu: Gpu) -> None:
    """Value and all gradients of every topology, by the CUDA schedule on the CPU."""
    nets = {**NETWORKS, **CIRCUITS}
    trials = [CudaCase(net(), "float64", gpu, n, 5) for n, net in enumerate(nets.values())]
    # Compiling takes longest, and what is computed does not depend on how well.
    run_compiled(trials, "-O1" if gpu is GPU else "-O0")
    if gpu is GPU:
        chained = [trial.net.label for trial in trials if all(s.segments for s in trial.programs)]
        # Others could, too: the schedule of the fewest counts is taken (decision 19).
        assert {"tree", "MERA", "brick wall", "tensor train"} <= set(chained), chained


@needs_compiler
@pytest.mark.parametrize("kind", KINDS)
def test_random_networks_run_by_the_cpp_printer_equal_torch(kind: str) -> None:
    """Value and all gradients of 72 random networks by the CUDA schedule on the CPU; of every
    third one with so little shared memory that states lie in global memory, of every third one with
    as many results of a thread as there are."""
    cases = collect(KINDS[kind].is_complex, 7000, CASES)
    gpus = [GPU, LARGE, SMALL] * CASES
    trials = [
        CudaCase(c.net, kind, g, n, 5) for n, (c, g) in enumerate(zip(cases, gpus, strict=False))
    ]
    run_compiled(trials, "-O0")


@needs_compiler
@pytest.mark.full
@pytest.mark.parametrize("shard", range(FULL_SHARDS))
@pytest.mark.parametrize("kind", KINDS)
def test_many_random_networks_run_by_the_cpp_printer_equal_torch(kind: str, shard: int) -> None:
    """The same for 500 other cases, a third of them with little shared memory."""
    cases = collect(KINDS[kind].is_complex, 7200 + shard, FULL_CASES)
    gpu = (GPU, SMALL, LARGE)[shard % 3]
    run_compiled([CudaCase(case.net, kind, gpu, n, 5) for n, case in enumerate(cases)])


@pytest.mark.parametrize("kind", KINDS)
def test_random_networks_interpreted_equal_torch(kind: str) -> None:
    """The interpreter runs the CUDA schedule of random networks, small shared memory or not.

    Among them are steps that contract no leg, which need no register legs but are not large.
    """
    for n, case in enumerate(collect(KINDS[kind].is_complex, 7300, INTERPRETED)):
        trial = CudaCase(case.net, kind, (GPU, SMALL, LARGE)[n % 3], n, 5)
        for scheduled in trial.programs:
            found = interpret(scheduled.program, trial.inputs_of(scheduled.program), trial.batch)
            trial.check(found, scheduled.program.name)


@pytest.mark.parametrize("gpu", [GPU, LARGE], ids=["few", "many"])
@pytest.mark.parametrize("name", ["tensor_train", "low_rank", "cp", "mera", "wide_butterfly"])
def test_missing_samples_are_in_no_sum(name: str, gpu: Gpu) -> None:
    """A block of several samples of which some are missing: no 0 x inf makes a gradient NaN,
    whether a point makes the results of one sample or of all."""
    trial = CudaCase({**NETWORKS, **CIRCUITS}[name](), "float64", gpu, 1, 3)
    given = trial.infinite()
    programs = [scheduled.program for scheduled in trial.programs]
    assert any(trial.batch % program.block for program in programs), "all blocks are full"
    for program in programs:
        with np.errstate(invalid="ignore"):
            found = interpret(program, {b.name: given[b.name] for b in program.of("input")}, 3)
        assert not any(np.isnan(array).any() for array in found.values())


# What is emulated here, beside all topologies in test_cuda_backend.py: circuits in many segments,
# complex entries, and so little shared memory that states lie in global memory.
EMULATED = [
    ("deep", "float32", GPU),
    ("tensor_train", "float32", GPU),
    ("threes_deep", "float32", GPU),
    ("odd", "float32", SMALL),
    ("cp", "complex64", GPU),
    ("cp", "float32", LARGE),
    ("wide_butterfly", "float32", LARGE),
    ("wide_butterfly", "float32", GPU),
    ("wide_butterfly", "complex64", GPU),
    ("odd", "complex64", SMALL),
]


@needs_compiler
@pytest.mark.parametrize(("name", "kind", "gpu"), EMULATED)
def test_printed_cuda_run_thread_by_thread_equals_torch(name: str, kind: str, gpu: Gpu) -> None:
    """The printed text itself, with threads, warps, barriers and shuffles, on several blocks.

    With infinite weights as well: no 0 x inf of a missing sample is in any sum.
    """
    trial = CudaCase({**NETWORKS, **CIRCUITS}[name](), kind, gpu, 0, 3)
    for scheduled in trial.programs:
        source = printed(scheduled)
        blocks = min(2, -(-trial.batch // source.samples_per_block))
        found = run_source(source, trial.given, trial.batch, blocks)
        trial.check(found, f"{trial.net.label} {source.program.name}")
        if kind == "float32":
            found = run_source(source, trial.infinite(), trial.batch, blocks)
            assert not any(np.isnan(array).any() for array in found.values())


def held(trial: CudaCase, samples: int) -> list[GpuSchedule]:
    """Forward and backward in segments whose threads hold so many samples, as far as there are."""
    forward = find_chain(trial.plan, GPU, trains=False, held=samples)
    backward = find_chain(trial.plan, GPU, trains=True, held=samples)
    wanted = tuple(value.name for value in trial.plan.inputs)
    draft = PlanDraft(trial.plan, GPU, "forward", trial.kind)
    adjoint = replace(draft, name="backward", wanted=wanted)
    found = [
        by_segments(draft, forward) if forward else None,
        by_segments(adjoint, backward) if backward else None,
    ]
    return [scheduled for scheduled in found if scheduled is not None]


HOLDING = [
    ("butterfly", "float32"),
    ("wide_butterfly", "complex64"),
    ("mera_8", "float32"),
    ("threes_deep", "float32"),
    ("tree", "complex64"),
]


@needs_compiler
@pytest.mark.parametrize(("name", "kind"), HOLDING)
def test_threads_that_hold_several_samples(name: str, kind: str) -> None:
    """Interpreted and as printed text, in blocks of three samples. Of the last block some are
    missing: they are in no sum, with infinite weights either."""
    trial = CudaCase({**NETWORKS, **CIRCUITS}[name](), kind, GPU, 0, 5)
    programs = held(trial, 3)
    assert programs and all(scheduled.segments for scheduled in programs)
    for scheduled in programs:
        program = scheduled.program
        assert program.block == 3
        trial.check(interpret(program, trial.inputs_of(program), trial.batch), program.name)
        source = printed(scheduled)
        trial.check(run_source(source, trial.given, trial.batch, 2), program.name)
        if kind == "float32":
            found = run_source(source, trial.infinite(), trial.batch, 2)
            assert not any(np.isnan(array).any() for array in found.values())


@needs_compiler
def test_sums_over_many_blocks() -> None:
    """Sums over more blocks than a thread loads at once, by blocks that make one group of results
    and by one that makes several and goes on with them."""
    blocks, several = 300, "The first block makes several groups"
    nets = (
        (topologies.cp((2, 3), (3, 2), rank=2), True),
        (topologies.tree(4, dim=2, bond=2), False),
    )
    for net, goes_on in nets:
        trial = CudaCase(net, "float64", GPU, 0, blocks * 16)
        source = printed(trial.programs[1])
        assert blocks <= -(-trial.batch // source.samples_per_block)
        assert (several in source.text) == goes_on and len(source.entries) == 2
        found = run_source(source, trial.given, trial.batch, blocks)
        trial.check(found, net.label)


@needs_compiler
def test_a_missing_barrier_is_found() -> None:
    """Without its barriers the printed text gives something else: the emulation sees races."""
    trial = CudaCase(CIRCUITS["threes_deep"](), "float32", GPU, 0, 3)
    source = printed(trial.programs[0])
    racing = replace(source, text=source.text.replace("__syncthreads();", ""))
    found = run_source(racing, trial.given, trial.batch, 1)
    with pytest.raises(AssertionError, match="off by"):
        trial.check(found, "without barriers")
