"""Sums over the blocks of a grid: who adds up which rows.

Each block leaves a row of partials in global memory; a kernel adds them in order. 32 neighbouring
results are a group, a lane of a warp each, so that a warp reads 32 entries in a row. The warps of a
block share the rows of one group::

    rows 0 4 8 ...   -> warp 0 \\
    rows 1 5 9 ...   -> warp 1  |  added in this order: the same blocks give the same bits
    rows 2 6 10 ...  -> warp 2  |
    rows 3 7 11 ...  -> warp 3 /

The first block may make several groups, for steps that it does after; then fewer warps share each.
codegen/cuda/sums_over_blocks.py prints them.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from ...ir.launches import WARP, Reduction
from ...ir.loops import Threads
from ...support.dtypes import DTYPES

# Threads of a block that sums over blocks: they load one result's partials together.
SUM_THREADS = 512
# Of the first block these take no part in sums: they bring meanwhile what the steps after them
# need. How many they are, and the first of them.
HELPERS = 4 * WARP
FIRST_HELPER = SUM_THREADS - HELPERS
# Loads of a thread that are under way together, and 32-bit registers for what they bring.
MOST_LOADS, LOAD_WORDS = 16, 32


def groups_of(sums: Iterable[Threads]) -> int:
    """Sums over blocks in groups of a warp."""
    return sum(-(-loop.points // WARP) for loop in sums)


def choose_reduction(own: Sequence[Threads]) -> Reduction:
    """How the warps of a kernel's blocks share its sums.

    Arguments:
        own: sums that the first block makes for itself; () if it is like the others.
    """
    groups = groups_of(own)
    return Reduction(groups, FIRST_HELPER // WARP // groups if groups else 0, SUM_THREADS // WARP)


def loads_together(scalar: str) -> int:
    """Rows that a thread loads before it adds the first: as many as its registers hold."""
    return min(MOST_LOADS, LOAD_WORDS // (DTYPES[scalar].itemsize // 4))
