"""Which bits of a matrix product's rows, columns and sums are lanes of a warp.

The lanes of an mma hold 8 rows or columns by 4 sums, and of the result 8 rows by 4 columns: five
bits of offsets each. Any bits of a leg may be those, so they are chosen such that lanes touch
different banks of shared memory, or few sectors of global memory.

A left operand of 16 rows x 8 sums whose rows are 32 entries apart::

    lanes     3 bits of rows    move 32, 64, 128    all in one bank: 8 rows wait for each other
              2 bits of sums    move 1, 2           the other banks of a group of four
    padded    3 bits of rows    move 36, 72, 144    4, 8 and 16 banks further: nobody waits

(36 = 32 + 32/8: an entry is left out after every 8.) Or other bits are taken for rows, which move
by 4, 8 and 16 as they are: a product does not mind which rows a warp does together.
"""

from __future__ import annotations

from collections.abc import Sequence, Set
from dataclasses import dataclass
from functools import lru_cache
from itertools import combinations

from ....ir.launches import WARP
from ..bank_conflicts import busiest_bank

# How far a bit moves in target, left and right.
Bit = tuple[int, int, int]
# Bits that are tried as lanes, the fastest ones: of n there are about n^8 choices.
MOST_BITS = 6
# Words of one bank in an access that may be taken for fewer cycles elsewhere.
FEW = 2
# Entries of a sector of global memory, and sectors that one cycle serves.
SECTOR, SECTORS_A_CYCLE = 8, 4


@dataclass(frozen=True, slots=True)
class Chosen:
    """Bits in the order of the numbers that they make, the fastest first.

    Arguments:
        rows, columns, sums: bits; the first ones are those of lanes and registers.
        cycles: of one access of left, right and target each.
    """

    rows: tuple[Bit, ...]
    columns: tuple[Bit, ...]
    sums: tuple[Bit, ...]
    cycles: tuple[int, int, int]


@lru_cache(maxsize=1024)
def choose_bits(
    rows: tuple[Bit, ...],
    columns: tuple[Bit, ...],
    sums: tuple[Bit, ...],
    *,
    packs: bool,
    in_global: tuple[bool, bool, bool],
) -> Chosen:
    """The bits with the fewest cycles: for the worst access of shared memory down to ``FEW``, then
    for all.

    Arguments:
        rows, columns, sums: bits in an order that decides between equals.
        packs: whether a register holds two sums, of the first bit.
        in_global: whether target, left and right lie in global memory.
    """

    def cycles(side: int, bits: Sequence[Bit]) -> int:
        return access_cycles(tuple(bit[side] for bit in bits), in_global[side])

    def rank(left: int, right: int, target: int) -> tuple[int, int]:
        found = (target, left, right)
        shared = [n for n, is_global in zip(found, in_global, strict=True) if not is_global]
        return max(FEW, *shared), sum(found)

    best: tuple[tuple[int, int], Chosen] | None = None
    of_rows = list(combinations(rows[:MOST_BITS], 3))
    of_columns = list(combinations(columns[:MOST_BITS], 3))
    # Left and right have the lanes of the sums in common, and nothing else: with those fixed, rows
    # and columns are ranked apart.
    for lanes in combinations(sums[:MOST_BITS], 2):
        left = [(cycles(1, (*three, *lanes)), three) for three in of_rows]
        right = [(cycles(2, (*three, *lanes)), three) for three in of_columns]
        # The best first: then the rest of them is left out at once.
        left.sort(key=lambda one: one[0])
        right.sort(key=lambda one: one[0])
        for a, row in left:
            for b, column in right:
                if best is not None and rank(a, b, 1) >= best[0]:
                    break
                for turn in range(3):
                    # The first of the three is the register's, the others are lanes.
                    turned = (*column[turn:], *column[:turn])
                    c = cycles(0, (*row, *turned[1:]))
                    if best is None or rank(a, b, c) < best[0]:
                        pairs = [bit for bit in sums if bit not in lanes]
                        ordered = (*pairs[:packs], *lanes, *pairs[packs:])
                        found = Chosen(
                            (*row, *(bit for bit in rows if bit not in row)),
                            (*turned, *(bit for bit in columns if bit not in column)),
                            ordered,
                            (a, b, c),
                        )
                        best = rank(a, b, c), found
    assert best is not None, "rows, columns and sums fill the instruction"
    return best[1]


@lru_cache(maxsize=4096)
def access_cycles(strides: tuple[int, ...], in_global: bool) -> int:
    """Cycles of an access by lanes that lie at sums of strides."""
    places = {0}
    for stride in strides:
        places |= {place + stride for place in places}
    assert 1 << len(strides) <= WARP
    return cycles_of(places, in_global)


def cycles_of(places: Set[int], in_global: bool) -> int:
    """Cycles in which the places of a warp's lanes are served: words of the busiest bank, or
    sectors of global memory over those of a cycle."""
    if in_global:
        return -(-len({place // SECTOR for place in places}) // SECTORS_A_CYCLE)
    return busiest_bank(places)
