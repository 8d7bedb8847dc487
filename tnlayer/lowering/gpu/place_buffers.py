"""Where a GPU program's buffers lie: in shared memory while they are needed, or in global memory.

A block has little shared memory, so arrays of samples that never live at one time share it. What
does not fit goes to the block's row of global memory, the largest array first::

    time        s0   s1   s2   s3         s0 is read by the step that makes s1, s1 by that of s2 ...
    shared      [s0 ]     [s2 ]
                     [s1 ]     [s3 ]      s2 lies where s0 was, s3 where s1 was
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

from ...ir.launches import WARP, MemoryMap
from ...ir.loops import (
    Buffer,
    LoopProgram,
    LoopRegion,
    Mma,
    Statement,
    SumThreads,
    buffers_of,
    statements,
)
from ...support.dtypes import DTYPES
from ..allocate import Life, first_fit, lives_of, one_after_another, rounded

# Entries to which a buffer's place is rounded up: 16 bytes of float32.
UNIT = 4
# Shared memory for what lies between the steps that one block does before or after the samples; a
# block has 48 KiB without asking.
MOST_INSIDE_BYTES = 24 * 1024


def place(program: LoopProgram, most_entries: int) -> tuple[LoopProgram, MemoryMap]:
    """Give each buffer its place; what does not fit shared memory goes to global memory.

    Arguments:
        program: as lowered; arrays of samples in the space "block".
        most_entries: entries of shared memory that a block may have.
    """
    order = (*program.prologue, *program.samples)
    lives = _lives(program.prologue, program.samples)
    copies = _copies(program)
    sizes = {
        buffer.name: rounded(buffer.size * copies.get(buffer.name, 1), UNIT)
        for buffer in program.of("block", "partial")
        if buffer.name in lives
    }
    # A sum goes on from the first group of samples to the last: nothing may lie in its place.
    for buffer in program.of("partial"):
        if buffer.name in lives:
            lives[buffer.name] = (0, len(order))
    inside = dict(sizes)
    while True:
        offsets, entries = _fitted(inside, lives)
        if entries <= most_entries:
            break
        # Copies that warps add to side by side have to be in shared memory. Of all else the largest
        # goes: then fewest arrays are slow.
        movable = [name for name in inside if copies.get(name, 1) == 1]
        del inside[max(movable, key=lambda name: (inside[name], name))]
    outside = {name: size for name, size in sizes.items() if name not in inside}
    partials = {buffer.name for buffer in program.of("partial")}
    # What is outside shares memory in the same way. Partials do not: each has its place in the row,
    # where kernels after the samples find it, even if it lies in shared memory meanwhile.
    in_row, blockspace = _fitted({n: s for n, s in outside.items() if n not in partials}, lives)
    placed: list[Buffer] = []
    lasting, ends = one_after_another(program.buffers, ("shared", "partial"), UNIT)
    for buffer in program.buffers:
        if buffer.name in lasting:
            placed.append(replace(buffer, offset=lasting[buffer.name]))
        elif buffer.space != "block":
            placed.append(buffer)
        elif buffer.name in inside:
            placed.append(replace(buffer, offset=offsets[buffer.name]))
        elif buffer.name in in_row:
            placed.append(replace(buffer, space="blockspace", offset=in_row[buffer.name]))
    layout = MemoryMap(
        entries,
        {n: (offsets[n], copies.get(n, 1)) for n in inside if n in partials},
        blockspace + ends["partial"],
        blockspace,
        ends["shared"],
        _inside(program),
    )
    return replace(program, buffers=tuple(placed)), layout


def _inside(program: LoopProgram) -> frozenset[str]:
    """Buffers of the call that one block of one kernel makes, reads, and nobody else touches."""
    users: dict[str, list[Statement]] = {}
    alone: list[Statement] = []
    for kernel in (*program.before, *program.after):
        assert isinstance(kernel, LoopRegion)
        alone += [inner for inner in kernel.body if isinstance(inner, LoopRegion)]
        for inner in kernel.body:
            for name in buffers_of((inner,)):
                users.setdefault(name, []).append(inner)
    # What the samples touch is for all blocks: it cannot lie in the memory of one.
    for name in buffers_of((*program.prologue, *program.samples)):
        users.setdefault(name, []).extend(program.samples[:1])
    found: set[str] = set()
    for inner in alone:
        left = MOST_INSIDE_BYTES // DTYPES[program.scalar].itemsize
        for buffer in program.of("shared"):
            if users.get(buffer.name) == [inner] and rounded(buffer.size, UNIT) <= left:
                left -= rounded(buffer.size, UNIT)
                found.add(buffer.name)
    return frozenset(found)


def warp_entries(program: LoopProgram) -> int:
    """Entries of shared memory that sums over threads need, which cannot lie elsewhere."""
    sizes = {buffer.name: buffer.size for buffer in program.of("partial")}
    return sum(rounded(sizes[name] * count, UNIT) for name, count in _copies(program).items())


def _copies(program: LoopProgram) -> dict[str, int]:
    """Partials that warps add to side by side, and their copies."""
    found: dict[str, int] = {}
    for statement in statements((*program.prologue, *program.samples)):
        match statement:
            case SumThreads():
                found[statement.target.buffer] = program.threads // WARP
            case Mma() if statement.copies > 1:
                found[statement.target.buffer] = statement.copies
            case _:
                pass
    return found


def _lives(prologue: Sequence[Statement], samples: Sequence[Statement]) -> dict[str, Life]:
    """When each buffer lives; what the prologue touches stays, for each group of samples reads it
    again."""
    end = len(prologue) + len(samples)
    lives = lives_of((*prologue, *samples))
    return {
        name: (0, end) if first < len(prologue) else (first, last)
        for name, (first, last) in lives.items()
    }


def _fitted(sizes: Mapping[str, int], lives: Mapping[str, Life]) -> tuple[dict[str, int], int]:
    """Offsets of buffers and the end of all: in the order in which they begin to live, or the
    largest first, whichever ends lower."""
    by_start = sorted(sizes, key=lambda name: (lives[name][0], -lives[name][1], name))
    by_size = sorted(by_start, key=lambda name: -sizes[name])
    return min(
        (first_fit(order, sizes, lives) for order in (by_start, by_size)), key=lambda one: one[1]
    )
