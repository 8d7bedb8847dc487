"""Where the entries of a state lie in shared memory between two segments.

Memory has 32 banks of four bytes; lanes of a warp that touch different words of one bank wait for
each other. A state is stored with padding e + e/32, which is a sum over the legs' indices: every
access is one offset a thread plus a constant. Orders of legs and paddings are tried and the banks
simulated. Tensor cores choose lanes instead (tensor_cores/mma_lanes.py for products, where global
memory counts, too, and thread_loop_lanes.py for the rest), and count by the same ``busiest_bank``.

A square of 32 x 32 entries, lanes going down a column::

    lane                     0   1   2   3        bank = place % 32
    place without padding    0  32  64  96        0  0  0  0    32 words of one bank: 32 cycles
    place e + e/32           0  33  66  99        0  1  2  3    32 banks: one cycle
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence, Set
from itertools import permutations

from ...ir.launches import WARP
from ..array_layout import Sizes
from .padded_strides import Strides, is_injective, padded

# What every GPU so far has.
BANKS = 32
# Warps that are simulated: the others differ by an offset that all lanes share.
MOST_WARPS = 8
# Entries after which one is left out, the likeliest first; 0 for none, which needs least memory.
PERIODS = (0, 32, 16, 64, 8)


def busiest_bank(places: Set[int], words: int = 1) -> int:
    """Words of the busiest bank, of entries at these places that lanes touch at once; 1 is free of
    conflicts. Lanes that read the same word get it together, so places are counted and not lanes.

    Arguments:
        places: of entries.
        words: of an entry.
    """
    banks: dict[int, int] = {}
    for place in places:
        bank = words * place % BANKS
        banks[bank] = banks.get(bank, 0) + 1
    return max(banks.values())


def conflicts(
    strides: Mapping[str, int], points: Sequence[str], sizes: Sizes, itemsize: int = 4
) -> int:
    """Most words of one bank that the lanes of a warp touch at once; 1 is free of conflicts.

    Arguments:
        strides: of the array; legs that are no points add the same to all lanes.
        points: legs whose indices make the number of a point, the last one fastest.
        sizes: size of each leg.
        itemsize: bytes of an entry; entries of 8 bytes are served half a warp at a time.
    """
    words = max(1, itemsize // 4)
    lanes = WARP // words
    count = min(math.prod(sizes[leg] for leg in points), WARP * MOST_WARPS)
    return max(
        busiest_bank(
            {
                _offset(point, strides, points, sizes)
                for point in range(first, min(first + lanes, count))
            },
            words,
        )
        for first in range(0, count, lanes)
    )


def _offset(point: int, strides: Mapping[str, int], points: Sequence[str], sizes: Sizes) -> int:
    found = 0
    for leg in reversed(points):
        point, index = divmod(point, sizes[leg])
        found += index * strides.get(leg, 0)
    return found


def choose_strides(
    legs: Sequence[str], sides: Iterable[Sequence[str]], sizes: Sizes, itemsize: int = 4
) -> Strides:
    """Strides of an exchanged state with the fewest conflicts for its writer and its reader.

    Arguments:
        legs: all legs of the state, the sample's too.
        sides: for the writer and each reader the legs that are its points, the last one fastest.
        sizes: size of each leg.
        itemsize: bytes of an entry.
    """
    sides = [tuple(side) for side in sides]
    best: tuple[int, int, Strides] | None = None
    for order in _orders(legs, sides):
        for period in PERIODS:
            strides = padded(order, sizes, period)
            found = [conflicts(strides, side, sizes, itemsize) for side in sides]
            # The worst side first: barriers part writer and readers, and all wait for the slowest.
            rank = (max(found), sum(found))
            if best is None or rank < best[:2]:
                best = (*rank, strides)
        if best is not None and best[0] == 1:
            break  # free of conflicts: other orders cannot be better
    assert best is not None and is_injective(best[2], sizes)
    return best[2]


def _orders(legs: Sequence[str], sides: Sequence[Sequence[str]]) -> Iterable[Sequence[str]]:
    """Orders worth trying: as it comes, then with the lanes of some side fastest."""
    yield tuple(legs)
    for side in permutations(sides):
        fast: list[str] = []
        for points in side:
            fast = [leg for leg in points if leg in legs and leg not in fast] + fast
        yield (*(leg for leg in legs if leg not in fast), *fast)
        for turn in range(1, min(len(fast), 6)):
            tail = (*fast[turn:], *fast[:turn])
            yield (*(leg for leg in legs if leg not in fast), *tail)
