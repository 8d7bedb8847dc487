"""What a CUDA kernel's launcher has to know: the source, its entry points, its workspace."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from tnlayer.kernels.loops import Program


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

    Every entry point has one signature: a pointer for each argument in order (entries of
    ``stored``), ``void* workspace``, ``long long batch``, ``int blocks``. With blocks = the size of
    the persistent grid, from 1 to ceil(batch / samples_per_block) (1 for an empty batch), the
    workspace has ``call_entries + blocks * block_entries`` entries of ``scalar``, 16 bytes aligned.
    It needs no clearing. The same blocks give the same bits.

    Arguments:
        text: CUDA C++ without any include.
        entries: kernels in order of launch; one of them is persistent.
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
