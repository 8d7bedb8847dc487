"""What a call of a kernel allocates: a piece for each thread, and one for all.

In entries, from the start of each piece; everything begins with a whole vector::

    of a thread   sums | carried sums | states | copies of a block where samples are missing
    of the call   addresses of the threads' sums | what steps on parameters make
"""

from __future__ import annotations

from dataclasses import dataclass

from ...hardware.cpu import LINE_BYTES, PAGE_BYTES
from ...ir.loops import LoopProgram
from ...support.dtypes import DTYPES
from .place_buffers import whole_vectors


@dataclass(frozen=True, slots=True)
class CallWorkspace:
    """Where the parts of a thread's piece lie, and the size of both pieces, in entries.

    Arguments:
        partial: entries of all sums; the carried ones are as many and lie behind them.
        thread: where states begin.
        ragged: where the copies of a ragged block begin.
        own: the piece of a thread.
        shared: the piece of the call, beside the addresses of the threads' sums.
    """

    partial: int
    thread: int
    ragged: int
    own: int
    shared: int


def lay_out(program: LoopProgram) -> CallWorkspace:
    """The workspace of a program whose buffers are placed."""
    width = program.width
    partial = whole_vectors(program.size_of("partial"), width)
    thread = 2 * partial if program.carried else partial
    ragged = thread + whole_vectors(program.size_of("thread"), width)
    # Both pieces end with a vector that is written where less than one is left.
    own = ragged + _ragged_entries(program) + width
    return CallWorkspace(partial, thread, ragged, own, program.size_of("shared") + width)


def _ragged_entries(program: LoopProgram) -> int:
    """Entries of copies of a block where samples are missing."""
    batched = (buffer for buffer in program.of("input", "output") if buffer.batched)
    return sum(buffer.size for buffer in batched) * program.block if program.block > 1 else 0


def call_bytes(program: LoopProgram, threads: int) -> int:
    """Bytes of the workspace of a call with so many threads."""
    workspace, itemsize = lay_out(program), DTYPES[program.scalar].itemsize
    # What lies behind the threads' addresses starts with a cache line; memory comes in whole pages.
    addresses = -(-8 * threads // LINE_BYTES) * LINE_BYTES
    pages = [
        -(-size // PAGE_BYTES)
        for size in (workspace.own * itemsize, workspace.shared * itemsize + addresses)
    ]
    return PAGE_BYTES * (threads * pages[0] + pages[1])
