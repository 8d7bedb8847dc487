"""How a state enters and leaves a GPU's registers: accesses of global memory, counted.

A warp's access of global memory is served in sectors of 32 bytes, four of them a cycle, from as
many lines of 128 bytes. A thread may take up to 16 bytes with one instruction, if they are a run
at a multiple of that width. Neighbouring threads that take neighbouring entries fill whole lines
already: then wide accesses move no byte less, but take a quarter of the instructions. Where a
thread holds a longer run, lanes lie further apart and touch more lines; then a copy through shared
memory is faster at some point.

Lanes 0, 1, 2 of a warp on float32, each taking 16 bytes (####) with an instruction::

    a thread holds 4 entries     |####|####|####|          8 lanes fill a line of 128 bytes
    a thread holds 32            |####............................|####........
                                 each lane touches a line of its own, 8 times over
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

from ...ir.launches import WARP
from ...ir.loops import Buffer, LoopProgram, LoopRegion, Statement, Threads, Tile, is_wide
from ..array_layout import Sizes, packed
from ..loop_nest import offsets

# Bytes that a thread takes with one instruction, of a sector, of a line; sectors a cycle.
WIDEST, SECTOR, LINE, SECTORS_A_CYCLE = 16, 32, 128, 4
# Instructions that a multiprocessor issues a cycle: what an instruction costs besides its data.
ISSUED = 4


@dataclass(frozen=True, slots=True)
class Traffic:
    """What the warps of a block do to load or store a state of one sample.

    Arguments:
        instructions: accesses of all warps.
        sectors: sectors of 32 bytes that these touch, each counted in every access.
        cycles: that memory is busy, and instructions are issued.
    """

    instructions: int
    sectors: int
    cycles: float


def direct(legs: Sequence[str], registers: Iterable[str], sizes: Sizes, stored: int = 4) -> Traffic:
    """Threads that load or store their own entries of x or y, as wide as runs allow.

    Arguments:
        legs: of the array, the last one fastest; those that are no registers are points, in order.
        registers: legs of which a thread holds all entries.
        sizes: size of each leg.
        stored: bytes of an entry.
    """
    strides, held = packed(legs, sizes), set(registers)
    points = [leg for leg in legs if leg not in held]
    # All accesses of a thread look alike but for a constant, so one is simulated and multiplied.
    width = run_width(legs, held, sizes, stored)
    each = math.prod(sizes[leg] for leg in legs if leg in held) // width
    count = math.prod(sizes[leg] for leg in points)
    lanes = offsets((sizes[leg], strides[leg]) for leg in points)
    sectors = cycles = 0
    for first in range(0, count, WARP):
        found, lines = _touched(lanes[first : first + WARP], width * stored, stored)
        sectors += found
        cycles += max(found / SECTORS_A_CYCLE, lines)
    warps = -(-count // WARP)
    return Traffic(each * warps, each * sectors, each * (cycles + warps / ISSUED))


def _touched(lanes: Sequence[int], width: int, stored: int) -> tuple[int, int]:
    """Sectors and lines that lanes touch, each of them ``width`` bytes."""
    starts = [at * stored for at in lanes]
    ends = [start + width - 1 for start in starts]
    sectors = {at // SECTOR for at in (*starts, *ends)}
    lines = {at // LINE for at in (*starts, *ends)}
    return len(sectors), len(lines)


def staged(legs: Sequence[str], sizes: Sizes, stored: int = 4) -> Traffic:
    """A copy through shared memory: neighbours take neighbouring runs of x or y, and each entry is
    written to shared memory and read from there."""
    entries = math.prod(sizes[leg] for leg in legs)
    whole = direct(legs, run_legs(legs, sizes, stored), sizes, stored)
    # Strides in shared memory are chosen without conflicts: a cycle a warp, written and read.
    shared = 2 * -(-entries // WARP)
    cycles = whole.cycles + shared * (1 + 1 / ISSUED)
    return Traffic(whole.instructions + shared, whole.sectors, cycles)


def run_width(legs: Sequence[str], registers: Iterable[str], sizes: Sizes, stored: int = 4) -> int:
    """Entries that a thread takes at once: its run of the fastest legs, up to 16 bytes."""
    held, run, left = set(registers), 1, list(legs)
    while left and left[-1] in held:
        run *= sizes[left.pop()]
    width = max(1, WIDEST // stored)
    # Only powers of two are instructions, and a wide access has to begin at a multiple of itself.
    while run % width:
        width //= 2
    return width


def run_legs(legs: Sequence[str], sizes: Sizes, stored: int = 4) -> tuple[str, ...]:
    """Fastest legs whose entries are one access, for a copy between x or y and shared memory."""
    found, most = list[str](), max(1, WIDEST // stored)
    for leg in reversed(legs):
        if most % sizes[leg]:
            break
        most //= sizes[leg]
        found.insert(0, leg)
    return tuple(found)


def goes_direct(
    legs: Sequence[str], registers: Iterable[str], sizes: Sizes, stored: int = 4
) -> bool:
    """Whether threads take x or y straight from memory, or a copy through shared memory is
    faster."""
    return direct(legs, registers, sizes, stored).cycles <= staged(legs, sizes, stored).cycles


def edge_cost(
    legs: Sequence[str], registers: Iterable[str], sizes: Sizes, stored: int = 4
) -> float:
    """Cycles to load x or to store y, in exchanges of the same state."""
    # The search for segments counts in exchanges: one is a write and a read of shared memory.
    entries = math.prod(sizes[leg] for leg in legs)
    exchange = 2 * -(-entries // WARP) * (1 + 1 / ISSUED)
    best = min(direct(legs, registers, sizes, stored).cycles, staged(legs, sizes, stored).cycles)
    return best / exchange


# -- wide accesses in a program ----------------------------------------------------------------


def widen_accesses(program: LoopProgram, stored: int) -> LoopProgram:
    """Copies between x or y and a block's own memory as wide as their places allow, at most 16
    bytes.

    Arguments of a kernel begin at multiples of 16 bytes.
    """
    buffers = {buffer.name: buffer for buffer in program.buffers}
    return replace(
        program,
        samples=tuple(
            _widened(step, buffers, max(1, WIDEST // stored)) for step in program.samples
        ),
    )


def _widened(step: Statement, buffers: dict[str, Buffer], most: int) -> Statement:
    if isinstance(step, LoopRegion | Threads):
        return replace(step, body=tuple(_widened(inner, buffers, most) for inner in step.body))
    if not isinstance(step, Tile) or step.right is not None or step.loops or step.adds:
        return step
    spaces = [buffers[at.buffer].space for at in (step.left, step.target)]
    if spaces[0] == "input" and spaces[1] in ("register", "block"):
        side = 0
    elif spaces[0] in ("register", "block") and spaces[1] == "output":
        side = 1
    else:
        return step
    # The widest access that all indices keep aligned; a missing sample leaves out whole runs.
    wide = most
    memory = buffers[(step.left, step.target)[side].buffer]
    while wide > 1 and not (memory.batched and is_wide(step, side, wide, memory.size)):
        wide //= 2
    return replace(step, wide=wide)
