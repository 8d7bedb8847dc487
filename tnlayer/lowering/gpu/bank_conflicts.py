"""Where the entries of a state lie in shared memory between two segments.

Memory has 32 banks of four bytes; lanes of a warp that touch different words of one bank wait for
each other. A state is stored with padding e + e/32, which is a sum over the legs' indices: every
access is one offset a thread plus a constant. Orders of legs and paddings are tried and the banks
simulated.

A square of 32 x 32 entries, lanes going down a column::

    lane                     0   1   2   3        bank = place % 32
    place without padding    0  32  64  96        0  0  0  0    32 words of one bank: 32 cycles
    place e + e/32           0  33  66  99        0  1  2  3    32 banks: one cycle
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from itertools import permutations

from ...ir.launches import WARP
from ..array_layout import Sizes

# What every GPU so far has.
BANKS = 32
# Warps that are simulated: the others differ by an offset that all lanes share.
MOST_WARPS = 8
# Entries after which one is left out, the likeliest first; 0 for none, which needs least memory.
PERIODS = (0, 32, 16, 64, 8)
Strides = dict[str, int]


def padded(legs: Sequence[str], sizes: Sizes, *periods: int) -> Strides:
    """Strides with the last leg fastest and an entry left out after every so many; 0 for none.

    The stride of a leg is u + u/period + ... with u its stride without padding, which is above the
    sum of all that faster legs can add: no two entries meet.
    """
    strides: Strides = {}
    unit = 1
    for leg in reversed(legs):
        strides[leg] = unit + sum(unit // period for period in periods if period)
        unit *= sizes[leg]
    return dict(reversed(strides.items()))


def extent(strides: Mapping[str, int], sizes: Sizes) -> int:
    """Entries from the first to the last one."""
    return 1 + sum(stride * (sizes[leg] - 1) for leg, stride in strides.items())


def is_injective(strides: Mapping[str, int], sizes: Sizes) -> bool:
    """Whether no two combinations of indices have one place: each stride is above the reach of all
    smaller ones. Sufficient, and what ``padded`` keeps to."""
    reach = 0
    for leg in sorted(strides, key=lambda leg: strides[leg]):
        if sizes[leg] == 1:
            continue
        if strides[leg] <= reach:
            return False
        reach += strides[leg] * (sizes[leg] - 1)
    return True


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
    worst = 1
    for first in range(0, count, lanes):
        # Lanes that read the same word get it together, so words are counted and not lanes.
        touched: dict[int, set[int]] = {}
        for point in range(first, min(first + lanes, count)):
            address = words * _offset(point, strides, points, sizes)
            touched.setdefault(address % BANKS, set()).add(address)
        worst = max(worst, *(len(found) for found in touched.values()))
    return worst


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
