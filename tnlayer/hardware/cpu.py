"""A CPU, as kernels are made for it: its vectors, its memory, and what work on vectors costs.

Cycles and sizes are those of server cores with 512-bit vectors, on which schedules were compared;
they rank schedules of one kernel and predict no times (time_models/cpu_kernels.py does, with rates
of the machine). Where two estimates count on different sizes, both stand here and say why.
"""

from __future__ import annotations

from dataclasses import dataclass

from ..support.dtypes import DTYPES

# -- memory, in bytes ------------------------------------------------------------------------------

# A cache line, and a page, in which memory is allocated.
LINE_BYTES, PAGE_BYTES = 64, 4096
# Places a multiple of this apart share a set of the first cache (32 KiB, 8 ways), and a load waits
# for a store to one that is under way.
SET_BYTES = 4096
# What a schedule may count on of the caches of a core: what is smaller stays there.
FIRST_CACHE, SECOND_CACHE = 32 * 2**10, 2**20
# Up to where traffic ran at the first cache's rate: cores of 32 and of 48 KiB were measured, and a
# state that is a little too large is partly still there.
FIRST_CACHE_RATE_ENDS = 40 * 2**10
# Bytes that come in one cycle from what holds so many: first, second and third cache of one core.
CACHE_RATES = (
    (FIRST_CACHE_RATE_ENDS, 96.0),
    (SECOND_CACHE, 32.0),
    (float("inf"), 11.0),
)

# -- cycles of a core ------------------------------------------------------------------------------

# To load or to store one vector, as part of moving it; and to shuffle two into one.
LOADED_OR_STORED, SHUFFLED = 0.75, 1.0
# To read a vector and write it elsewhere, in a move of a whole state.
READ_AND_WRITTEN = 2 * LOADED_OR_STORED
# To move one entry by itself.
ENTRY_MOVED = 1.25
# A vector's part of a transposition of as many vectors as it has entries: log2(16) rounds of
# shuffles, a load and a store, some of them at once.
TRANSPOSED = 4.5
# The same between rows of samples, which share a few sets of the first cache.
TRANSPOSED_ROWS = 7.5
# To change the places of a vector's lanes by one instruction as it is stored.
REORDERED = 0.7
# A load of a step that rotates lanes, of which multiply-adds hide most.
ROTATED_LOAD = 0.2
# Loads, and multiply-adds, that start in one cycle; so two products of vectors take one.
AT_ONCE, TWO_PRODUCTS = 2.0, 1.0
# Share of the multiply-adds' peak that tiles reach.
PEAK_REACHED = 0.7


@dataclass(frozen=True, slots=True)
class Cpu:
    """What kernels are made for.

    Arguments:
        vector_bytes: of one vector register.
        registers: number of vector registers.
        written_out: products that the code of one contraction may hold.
        threads: that share a batch; a block of samples is no larger than leaves work for each.
    """

    vector_bytes: int = 64
    registers: int = 32
    written_out: int = 900
    threads: int = 4

    def width(self, dtype: str) -> int:
        """Entries of a vector; a complex one takes two registers."""
        return self.vector_bytes // DTYPES[dtype].part_bytes

    def tile_limits(self, dtype: str) -> TileLimits:
        """What tiles are cut for."""
        if DTYPES[dtype].is_complex:
            # A complex number takes two registers, a complex product four multiply-adds.
            return TileLimits(self.registers // 2, self.written_out // 4)
        return TileLimits(self.registers, self.written_out)


@dataclass(frozen=True, slots=True)
class TileLimits:
    """What the tiles are cut for.

    Arguments:
        registers: vector registers.
        written_out: products that the code of one contraction may hold; more of them cost time to
            compile and room in the cache of instructions.
    """

    registers: int = 32
    written_out: int = 900

    @property
    def accumulators(self) -> int:
        """Registers that a tile may use for its results."""
        return self.registers - 6
