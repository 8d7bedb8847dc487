"""How a GPU's loop program is launched and where its buffers lie: grids, threads, memory."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

# Lanes of a warp: every GPU so far has so many.
WARP = 32


@dataclass(frozen=True, slots=True)
class Spread:
    """Which threads take the points of a loop, one point each and then the next.

    Arguments:
        threads: that take points, of each block; of a sum over blocks the lanes of a group.
        first: number of the first of them.
        blocks: of the grid that share the points; 0 where each block does all of them. Of a sum
            over blocks: groups.
        first_block: number of the first of those.
        turns: points of each thread where they are written out, so that all its loads are under
            way before one is waited for; 0 for a loop.
        rolled: whether a compiler must not write out the turns of the loop: what they hold would
            not fit the registers.
    """

    threads: int
    first: int = 0
    blocks: int = 0
    first_block: int = 0
    turns: int = 0
    rolled: bool = False


@dataclass(frozen=True, slots=True)
class Reduction:
    """How the threads of a kernel share its sums over blocks.

    A group is 32 results next to each other, a lane each; warps share the terms of a group.

    Arguments:
        own: groups of the first block, for the steps that it does after; 0 if it is like others.
        own_warps: of the first block that share a group.
        warps: of any other block, which has one group.
    """

    own: int
    own_warps: int
    warps: int


@dataclass(frozen=True, slots=True)
class Launch:
    """The grid of a kernel.

    Arguments:
        name: of the kernel.
        threads: of a block.
        blocks: of the grid; 0 where the launcher chooses: blocks then walk over the samples.
        clears: of the samples' kernel, for each partial the threads that clear it.
        collects: the same of those that bring it to global memory, if it lies in shared memory.
        reduction: of a kernel that sums over blocks.
    """

    name: str
    threads: int
    blocks: int = 0
    clears: tuple[Spread, ...] = ()
    collects: tuple[Spread, ...] = ()
    reduction: Reduction | None = None


@dataclass(frozen=True, slots=True)
class MemoryMap:
    """Workspace of a placed program.

    Arguments:
        block: entries of shared memory of a block.
        partials: for each partial that lies in shared memory its place there and its copies: one
            for each warp where a SumThreads adds to it, or as many as points share a sum. The
            others lie in the block's row.
        row: entries of global memory of a block: its blockspace, then all its partials.
        partials_at: where partials begin in the row.
        call: entries of global memory that all blocks share.
        inside: of those the buffers that one block alone makes and reads: they lie in its shared
            memory instead.
    """

    block: int
    partials: Mapping[str, tuple[int, int]]
    row: int
    partials_at: int
    call: int
    inside: frozenset[str] = frozenset()
