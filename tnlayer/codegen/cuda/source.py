"""The CUDA C++ of a loop program, and what a launcher has to know of it: its entry points, its
arguments and its workspace."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from ...ir.launches import MemoryMap
from ...ir.loops import LoopProgram
from ...support.dtypes import DTYPES
from .printer import print_cuda


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

    Arguments are contiguous and begin at multiples of 16 bytes. Every entry point has one
    signature: a pointer for each argument in order (entries of ``stored``), ``void* workspace``,
    ``long long batch``, ``int blocks``. With blocks = the size of the persistent grid, from 1 to
    ceil(batch / samples_per_block) (1 for an empty batch), the workspace has ``call_entries +
    blocks * block_entries`` entries of ``scalar`` and begins at a multiple of 16 bytes.
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
    program: LoopProgram


def print_source(
    program: LoopProgram, layout: MemoryMap, stored: str, *, segments: int, together: int
) -> CudaSource:
    """The translation unit of a program.

    Arguments:
        program: with its buffers placed, its barriers and its launches.
        layout: where the buffers lie.
        stored: dtype of the arguments.
        segments: thread loops that a sample passes through in registers.
        together: blocks of the samples' kernel that a multiprocessor should hold.
    """
    shared = layout.block * DTYPES[program.scalar].itemsize
    text, kernels = print_cuda(program, layout, stored, together)
    entries = tuple(
        Entry(kernel.name, "fixed", kernel.blocks, kernel.threads, 0)
        if kernel.blocks
        else Entry(kernel.name, "persistent", 0, kernel.threads, shared)
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
        stored,
        program.block,
        layout.call,
        layout.row,
        segments,
        program,
    )
