"""The GPU's pipeline: a forward plan becomes the CUDA C++ of its forward and its backward.

``CudaSource`` is what a launcher has to know: the source, its entry points, its workspace.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import Literal

from tnlayer.kernels.cuda_place import Layout, find_race, insert_barriers, merge_kernels, place
from tnlayer.kernels.cuda_prelude import itemsize
from tnlayer.kernels.cuda_printer import print_cuda
from tnlayer.kernels.cuda_steps import Lowering
from tnlayer.kernels.loops import Program
from tnlayer.kernels.recompute import backward_without_saved
from tnlayer.plan.counts import elements
from tnlayer.plan.plan import Memory, Plan
from tnlayer.plan.steps import BATCH


@dataclass(frozen=True, slots=True)
class Gpu:
    """What kernels are made for.

    Arguments:
        arch: as NVRTC names it, "sm_90".
        shared_bytes: shared memory that one block may have.
        registers: 32-bit entries of a sample's state that a thread may hold at any time.
        threads: of a block, at most.
    """

    arch: str = "sm_90"
    shared_bytes: int = 227 * 1024
    registers: int = 32
    threads: int = 256


# Shared memory that one block may have, by architecture (CUDA programming guide, table of compute
# capabilities); what is not listed has what each has.
SHARED_BYTES = {
    "sm_80": 163 * 1024,
    "sm_86": 99 * 1024,
    "sm_87": 163 * 1024,
    "sm_89": 99 * 1024,
    "sm_90": 227 * 1024,
    "sm_100": 227 * 1024,
    "sm_103": 227 * 1024,
    "sm_120": 99 * 1024,
}


def gpu_of(arch: str) -> Gpu:
    """The GPU of an architecture, e.g. "sm_90"."""
    return Gpu(arch, SHARED_BYTES.get(arch, 99 * 1024))


@dataclass(frozen=True, slots=True)
class Argument:
    """A pointer that every entry point takes.

    Arguments:
        name: as in the plan: an input's name, or "out_" + an output's name.
        size: entries; of one sample where it is batched.
        batched: whether it has one row a sample.
        is_output: whether it is written; outputs are never read.
    """

    name: str
    size: int
    batched: bool
    is_output: bool


@dataclass(frozen=True, slots=True)
class Entry:
    """One kernel; they are launched in order on one stream.

    Arguments:
        name: of the ``extern "C"`` function.
        grid: "persistent": as many blocks as the launcher chose; "fixed": ``blocks``.
        blocks: of a fixed grid; 0 else.
        threads: of a block.
        shared_bytes: dynamic shared memory of a block; over 48 KiB needs the function's attribute.
    """

    name: str
    grid: Literal["persistent", "fixed"]
    blocks: int
    threads: int
    shared_bytes: int


@dataclass(frozen=True, slots=True)
class CudaSource:
    """A translation unit for NVRTC and how its kernels are launched.

    Arguments are contiguous and begin at multiples of 16 bytes. Every entry point has one signature: a pointer for each argument in order (entries of
    ``stored``), ``void* workspace``, ``long long batch``, ``int blocks``. With blocks = the size of
    the persistent grid, from 1 to ceil(batch / samples_per_block) (1 for an empty batch), the
    workspace has ``call_entries + blocks * block_entries`` entries of ``scalar``, 16 bytes aligned.
    It needs no clearing. The same blocks give the same bits.

    Arguments:
        text: CUDA C++ without any include.
        entries: kernels in order of launch; one of them is persistent, if samples are touched.
        arguments: inputs, then outputs.
        scalar: dtype of the arithmetic and of the workspace.
        stored: dtype of the arguments.
        samples_per_block: samples that a block takes at once.
        call_entries: entries of the workspace that all blocks share.
        block_entries: entries of the workspace for each block.
        segments: thread loops that a sample passes through in registers.
        program: the loop program that was printed.
    """

    text: str
    entries: tuple[Entry, ...]
    arguments: tuple[Argument, ...]
    scalar: str
    stored: str
    samples_per_block: int
    call_entries: int
    block_entries: int
    segments: int
    program: Program


# Arithmetic of the dtypes that are only stored.
ARITHMETIC = {"float16": "float32", "bfloat16": "float32"}
# Entries of the largest state of all samples that a block takes at once, and samples at most.
MOST_TOGETHER, MOST_SAMPLES = 1024, 16


@dataclass(frozen=True, slots=True)
class Scheduled:
    """A loop program whose buffers are placed."""

    program: Program
    layout: Layout
    stored: str
    segments: int


def forward_source(plan: Plan, gpu: Gpu, name: str = "forward") -> CudaSource:
    """The kernels of a forward plan.

    Arguments:
        plan: a forward plan.
        gpu: what they are made for.
        name: name of the persistent kernel; others begin with it.
    """
    return _printed(schedule_forward(plan, gpu, name))


def backward_source(
    plan: Plan, wanted: Iterable[str], gpu: Gpu, name: str = "backward"
) -> CudaSource:
    """The kernels that give the gradients of a forward plan's inputs.

    Arguments:
        plan: a forward plan.
        wanted: names of the inputs whose gradients are wanted.
        gpu: what they are made for.
        name: name of the persistent kernel; others begin with it.
    """
    return _printed(schedule_backward(plan, wanted, gpu, name))


def schedule_forward(plan: Plan, gpu: Gpu, name: str = "forward") -> Scheduled:
    """The placed program of a forward plan."""
    return _scheduled(_in_arithmetic(plan), gpu, name, plan.dtype)


def schedule_backward(
    plan: Plan, wanted: Iterable[str], gpu: Gpu, name: str = "backward"
) -> Scheduled:
    """The placed program of a forward plan's gradients."""
    backward = backward_without_saved(_in_arithmetic(plan), wanted)
    return _scheduled(backward, gpu, name, plan.dtype)


def _in_arithmetic(plan: Plan) -> Plan:
    """In the dtype of the arithmetic, and without what a memory limit asked for: kernels keep no
    value of the size of the batch at all."""
    return replace(plan, dtype=ARITHMETIC.get(plan.dtype, plan.dtype), memory=Memory())


def _scheduled(plan: Plan, gpu: Gpu, name: str, stored: str) -> Scheduled:
    lowering = Lowering(plan, _samples_together(plan), gpu.threads)
    lowering.start()
    lowering.lower_all()
    program = merge_kernels(lowering.program(name))
    program, layout = place(program, gpu.shared_bytes // itemsize(plan.dtype))
    program = insert_barriers(program).verify()
    assert not find_race(program), find_race(program)
    return Scheduled(program, layout, stored, 0)


def _samples_together(plan: Plan) -> int:
    """Samples that fill a block's threads."""
    values = [step.result for step in plan.steps if BATCH in step.result.legs]
    largest = max((elements(v.legs, plan.sizes).at(1) for v in (*plan.ports, *values)), default=1)
    return max(1, min(MOST_SAMPLES, MOST_TOGETHER // largest))


def _printed(scheduled: Scheduled) -> CudaSource:
    program, layout = scheduled.program, scheduled.layout
    text, kernels = print_cuda(program, layout, scheduled.stored)
    shared = layout.block * itemsize(program.scalar)
    entries = tuple(
        Entry(kernel.name, "fixed", kernel.blocks, program.threads, 0)
        if kernel.blocks
        else Entry(kernel.name, "persistent", 0, program.threads, shared)
        for kernel in kernels
    )
    arguments = tuple(
        Argument(buffer.name, buffer.size, buffer.batched, buffer.space == "output")
        for buffer in program.of("input", "output")
    )
    return CudaSource(
        text,
        entries,
        arguments,
        program.scalar,
        scheduled.stored,
        program.block,
        layout.call,
        layout.row,
        scheduled.segments,
        program,
    )
