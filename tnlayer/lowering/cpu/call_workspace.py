"""The pieces of memory that a call of a kernel allocates (ir/workspace.py)."""

from __future__ import annotations

from dataclasses import replace

from ...hardware.cpu import LINE_BYTES, PAGE_BYTES
from ...ir.loops import LoopProgram
from ...ir.workspace import CallWorkspace
from ...support.dtypes import DTYPES
from .place_buffers import whole_vectors


def lay_out_workspace(program: LoopProgram) -> LoopProgram:
    """The program with the workspace of a call; its buffers are placed."""
    width = program.width
    partial = whole_vectors(program.size_of("partial"), width)
    thread = 2 * partial if program.carried else partial
    ragged = thread + whole_vectors(program.size_of("thread"), width)
    # Both pieces end with a vector that is written where less than one is left.
    own = ragged + _ragged_entries(program) + width
    widened, end = _widened(program)
    shared = end + width
    workspace = CallWorkspace(partial, thread, ragged, own, shared, LINE_BYTES, widened)
    return replace(program, workspace=workspace)


def _widened(program: LoopProgram) -> tuple[tuple[tuple[str, int], ...], int]:
    """Where unbatched arguments of another dtype have their entries, behind what steps make; and
    where the last one ends."""
    places: list[tuple[str, int]] = []
    end = program.size_of("shared")
    for buffer in program.of("input", "output") if program.arguments else ():
        if not buffer.batched:
            start = whole_vectors(end, program.width)
            places.append((buffer.name, start))
            end = start + buffer.size
    return tuple(places), end


def _ragged_entries(program: LoopProgram) -> int:
    """Entries of copies of a block: where samples are missing, or are of another dtype."""
    batched = (buffer for buffer in program.of("input", "output") if buffer.batched)
    copies = program.block > 1 or bool(program.arguments)
    return sum(buffer.size for buffer in batched) * program.block if copies else 0


def call_bytes(program: LoopProgram, threads: int) -> int:
    """Bytes of the workspace of a call with so many threads."""
    workspace, itemsize = program.workspace, DTYPES[program.scalar].itemsize
    assert workspace is not None, "a pass lays out the workspace"
    # What lies behind the threads' addresses starts with a cache line; memory comes in whole pages.
    line = workspace.line_bytes
    addresses = -(-8 * threads // line) * line
    pages = [
        -(-size // PAGE_BYTES)
        for size in (workspace.own * itemsize, workspace.shared * itemsize + addresses)
    ]
    return PAGE_BYTES * (threads * pages[0] + pages[1])
