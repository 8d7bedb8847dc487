"""Seconds of single operations by their sizes, from a Profile."""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import lru_cache

from ...support.dtypes import DTYPES
from ..half_precision import copies_factors, product_share, wide_products
from .grid import Grid
from .profile import VARIANTS, Profile

# torch transposes matrices of at least so many entries block by block.
_BLOCKED_ENTRIES = 3600
_LINE_BYTES = 64


class OpTimes:
    """What single operations on arrays of one dtype cost on the profiled device.

    Arguments:
        profile: the device's rates, best of the same dtype: another's are scaled by the bytes and
            the real multiplications of an entry.
        dtype: dtype of the arrays.
    """

    def __init__(self, profile: Profile, dtype: str) -> None:
        self.profile = profile
        self.dtype = dtype
        self.itemsize = DTYPES[dtype].itemsize
        self._work = DTYPES[dtype].work / DTYPES[profile.dtype].work
        # Products of 16 bits: in float32, or by instructions of the processor, where the profile
        # has not measured them.
        self.wide = wide_products(dtype, profile.device)
        self.copies_factors = copies_factors(dtype, profile.device)
        if DTYPES[dtype].is_stored_only and profile.device == "cpu" and profile.dtype != dtype:
            self._work *= product_share(dtype) or 1.0
        self._entry = self.itemsize / DTYPES[profile.dtype].itemsize
        self._gemm: dict[str, Grid] = dict(zip(VARIANTS, profile.gemm, strict=True))
        self._batched: dict[str, Grid] = dict(zip(VARIANTS, profile.batched, strict=True))
        self.call = profile.call_seconds
        # Plans ask for the same few sizes thousands of times.
        self.mm = lru_cache(maxsize=None)(self._mm)
        self.bmm = lru_cache(maxsize=None)(self._bmm)
        self._known_copy = lru_cache(maxsize=2**16)(self._copy)

    def fresh(self, entries: float) -> float:
        """Mapping a fresh array of so many entries; nothing for small ones, which are reused."""
        size = entries * self.itemsize
        return size * self.profile.fault if size >= self.profile.fault_bytes else 0.0

    def move(self, entries: float) -> float:
        """Reading or writing so many entries in rows, without the call's overhead."""
        size = entries * self.itemsize
        return size * self.profile.stream.per_unit(size)

    def _mm(self, rows: int, columns: int, summed: int, variant: str = "nn") -> float:
        """One product (rows x summed) x (summed x columns)."""
        products = rows * columns * summed
        if not products:
            return self.call["mm"]
        seconds = products * self._work * self._gemm[variant].per_unit(rows, columns, summed)
        entries = rows * columns + rows * summed + summed * columns
        return max(seconds, self.move(entries), self.call["mm"]) + self._widened(entries)

    def _bmm(
        self,
        count: int,
        rows: int,
        columns: int,
        summed: int,
        variant: str = "nn",
        repeated: bool = False,
    ) -> float:
        """``count`` products; one factor may be repeated, so that it is read once."""
        each = rows * columns * summed
        if not each * count:
            return self.call["bmm"]
        if each < self.profile.small_limit:
            seconds = count * each * self._work * self.profile.small.per_unit(rows, columns, summed)
        else:
            rate = self._batched[variant].per_unit(rows, columns, summed)
            seconds = count * each * self._work * rate
            if count < self.profile.threads:
                seconds *= self.profile.threads / count
        small = min(rows, columns) * summed
        entries = (count * (rows * columns + max(rows, columns) * summed)
                   + small * (1 if repeated else count))  # fmt: skip
        return max(seconds, self.move(entries)) + self.call["bmm"] + self._widened(entries)

    def factor_copy(self, loops: Sequence[tuple[int, int]]) -> float:
        """What torch's own copy of a factor of bmm takes that is repeated, or whose matrices do not
        lie one behind the other; nothing where it reads them as they are.

        Arguments:
            loops: (size, stride in the source) of each axis of the factor, the last one innermost.
        """
        if not self.copies_factors:
            return 0.0
        return self.copy(loops) + self.fresh(math.prod(size for size, _ in loops))

    def _widened(self, entries: float) -> float:
        """What factors and result of a product in float32 cost on their ways."""
        # Each is read in one size and written in the other: three times its own bytes.
        return 3 * self.call["copy"] + self.move(3 * entries) if self.wide else 0.0

    def copy(self, loops: Sequence[tuple[int, int]], *, matrix: bool = False) -> float:
        """A copy into a contiguous array.

        Arguments:
            loops: (size, stride in the source) of each axis of the result, the last one innermost.
            matrix: whether torch sees two axes only, and may take its blocked transposition.
        """
        return self._known_copy(tuple(merge_loops(loops)), matrix)

    def _copy(self, merged: tuple[tuple[int, int], ...], matrix: bool) -> float:
        entries = math.prod(size for size, _ in merged)
        call = self.call["copy"]
        if len(merged) < 2 and (not merged or merged[0][1] == 1):
            return call + self.move(2 * entries)
        if matrix and entries >= _BLOCKED_ENTRIES and len(merged) == 2 and merged[0][1] == 1:
            return call + entries * self._entry * self.profile.transposed.per_unit(entries)
        seconds = self.move(2 * entries)
        if merged[-1][1] not in (0, 1):
            # The lines that are read before the first one is read again have to stay in a cache.
            lines, stride = 1, 0
            for size, step in reversed(merged):
                if step * self.itemsize < _LINE_BYTES:
                    break
                lines, stride = lines * size, min(stride or step, step)
            rate = self.profile.strided.per_unit(lines, stride * self._entry, entries)
            seconds = max(seconds, entries * rate * max(1.0, self._entry))
        return call + seconds + self._loop_overhead([size for size, _ in merged])

    def elementwise(self, sizes: Sequence[int], read: float, kind: str = "product") -> float:
        """An elementwise operation over merged axes that reads so many entries in total."""
        entries = math.prod(sizes)
        # Three arrays are walked where a copy walks two.
        return self.call[kind] + self.move(entries + read) + 1.5 * self._loop_overhead(sizes)

    def reduce(self, outer: int, summed: int, inner: int) -> float:
        """A sum over the middle one of three axes."""
        entries = outer * summed * inner
        size = entries * self.itemsize
        rate = self.profile.reduce.per_unit(inner, size)
        return self.call["sum"] + size * rate + outer * self.profile.row

    def _loop_overhead(self, sizes: Sequence[int]) -> float:
        """What short inner rows and small blocks cost beyond the bytes."""
        entries = math.prod(sizes)
        seconds = 0.0
        if len(sizes) > 1:
            seconds += entries / sizes[-1] * self.profile.row
        if len(sizes) > 2:
            seconds += entries / (sizes[-1] * sizes[-2]) * self.profile.block
        return seconds


def merge_loops(loops: Sequence[tuple[int, int]]) -> list[tuple[int, int]]:
    """Neighbouring axes that one longer row can walk, merged; axes of size 1 are gone.

    >>> merge_loops([(2, 12), (3, 4), (4, 1)])
    [(24, 1)]
    >>> merge_loops([(3, 4), (2, 12), (4, 1)])
    [(3, 4), (2, 12), (4, 1)]
    """
    merged: list[tuple[int, int]] = []
    for size, stride in loops:
        if size == 1:
            continue
        if merged and merged[-1][1] == size * stride:
            merged[-1] = (merged[-1][0] * size, stride)
        else:
            merged.append((size, stride))
    return merged
