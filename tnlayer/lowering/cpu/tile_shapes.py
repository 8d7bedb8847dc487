"""Shapes of register tiles: which rows, columns and sums a tile may take, as plain offsets.

Loops over legs become rows, columns and sums of a tile, and loops around it. Rows are taken from
one loop, in chunks, and may be all of a short one besides::

    loops of rows        i < 12   j < 2
    rows of a tile       4 of i, all of j: 8 rows         loops around: 3 turns of i
    columns, sums        whole loops from the innermost on, and a part of the next one
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from ...hardware.cpu import TileLimits
from ...ir.loops import Axis, OffsetPairs
from ..loop_nest import Loop, pairs

# Rows that a tile may take from one loop, and a loop that it may take whole beside it.
MOST_ROWS = 8
# Sums written out at least, where there are so many tiles that little room is left for each.
LEAST_SUMS = 2


@dataclass(frozen=True, slots=True)
class RowChoice:
    """Rows of a tile: a chunk of one loop, times another loop as a whole."""

    chunked: int | None
    chunk: int
    whole: int | None
    rows: int
    size: int


@dataclass(frozen=True, slots=True)
class ColumnChoice:
    """Columns of a tile: how many, of how many, the blocks, and loops around all blocks."""

    count: int
    total: int
    blocks: tuple[OffsetPairs, ...]
    outer: tuple[Loop, ...]

    @property
    def written(self) -> int:
        """Columns that stand in the code."""
        return sum(map(len, self.blocks))


@dataclass(frozen=True, slots=True)
class Shape:
    """All that is decided about the tiles of one contraction."""

    outer: tuple[Loop, ...]
    chunked: Loop
    row_blocks: tuple[tuple[Loop, int], ...]
    inner_rows: OffsetPairs
    column_blocks: tuple[OffsetPairs, ...]
    outer_columns: tuple[Loop, ...]
    sums: OffsetPairs
    sum_loops: tuple[Axis, ...]
    keeps_weights: bool


def row_choices(rows: list[Loop]) -> list[RowChoice]:
    """No loop at all, or a chunk of one loop, alone or times a short loop as a whole."""
    found = [RowChoice(None, 1, None, 1, 1)]
    for at, loop in enumerate(rows):
        for chunk in range(1, min(MOST_ROWS * 3, loop.count) + 1):
            found.append(RowChoice(at, chunk, None, chunk, loop.count))
            for other, whole in enumerate(rows):
                if other != at and whole.count <= 4 and chunk * whole.count <= MOST_ROWS:
                    size = chunk * whole.count
                    found.append(RowChoice(at, chunk, other, size, loop.count))
    return found


def aligned_columns(loops: list[Loop], total: int, limits: TileLimits) -> list[ColumnChoice]:
    """Columns of the innermost loops, with plain loops around: any number of them, little code."""
    found: list[ColumnChoice] = []
    inner: list[Loop] = []
    outer = list(loops)
    while True:
        taken = math.prod(loop.count for loop in inner)
        if taken > limits.accumulators:
            break
        block = pairs(inner, "right", "target")
        found.append(ColumnChoice(len(block), total, (block,), tuple(outer)))
        if not outer:
            break
        last = outer.pop()
        # A part of this loop may fit where all of it does not.
        for share in divisors(last.count)[1:-1]:
            if share * taken <= limits.accumulators:
                around, part = last.split(share)
                block = pairs([part, *inner], "right", "target")
                found.append(ColumnChoice(len(block), total, (block,), (*outer, around)))
        inner.insert(0, last)
    return found


def divisors(number: int) -> list[int]:
    return [k for k in range(1, number + 1) if number % k == 0]


def split_sums(
    sums: list[Loop], products: int, limits: TileLimits
) -> tuple[OffsetPairs, tuple[Axis, ...]]:
    """Sums written out while they stay within bounds; the others as loops inside the tile, as is
    that over samples, whose end is known at the call only."""
    limit = max(LEAST_SUMS, limits.written_out // products)
    outer, inner = list(sums), list[Loop]()
    taken = 1
    while outer and outer[-1].count * taken <= limit and not outer[-1].of_samples:
        taken *= outer[-1].count
        inner.insert(0, outer.pop())
    if outer and taken == 1 and not outer[-1].of_samples:
        # One long loop: write out a share of it.
        last = outer[-1]
        share = max(k for k in divisors(last.count) if k <= min(limit, 16))
        if share > 1:
            outer[-1], part = last.split(share)
            inner.insert(0, part)
    axes = tuple(Axis(loop.count, loop.left, loop.right, loop.of_samples) for loop in outer)
    return pairs(inner, "left", "right"), axes
