"""Profiles of GPUs that nobody measured: tables computed from datasheet figures.

They serve until ``python -m tnlayer profile --device cuda`` has measured the device that is there.
Wherever they are told, it is told that nothing was measured.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable
from functools import cache

from ...support.dtypes import DTYPES
from ..datasheets import RECORDS, GpuRecord
from .grid import Grid
from .profile import VARIANTS, Profile

# Python, torch's dispatcher and the launch of one call; what autograd adds.
CALL_SECONDS = {
    "mm": 6e-6,
    "bmm": 7e-6,
    "copy": 5e-6,
    "product": 5e-6,
    "sum": 6e-6,
    "view": 1e-6,
    "forward": 8e-6,
    "forward_array": 0.3e-6,
    "backward": 20e-6,
    "backward_array": 0.7e-6,
}
# Rows and columns of a tile of the BLAS, and the terms of a sum that it takes at once.
TILE, DEPTH = 64, 16
# Bytes that memory moves at least for an entry that has no neighbours.
SECTOR = 32
_SIDES = (1, 4, 16, 64, 256, 2048, 16384, 131072)
_SMALL_SIDES = (1, 2, 4, 8, 16, 64, 512)
_BYTES = tuple(2**n for n in range(12, 31, 2))
# A profile has no zeros.
_NOTHING = 1e-15


@cache
def derived_profiles() -> tuple[Profile, ...]:
    """A profile for each GPU on record and each dtype of its products; float32 of each first."""
    pairs = [(record, dtype) for record in RECORDS for dtype, _ in record.flops]
    return tuple(derived_profile(record, dtype) for record, dtype in pairs)


def derived_profile(record: GpuRecord, dtype: str) -> Profile:
    """What torch's calls should take on a GPU, by its figures.

    Arguments:
        record: the GPU.
        dtype: of the arithmetic, one of ``record.flops``.
    """
    rate = dict(record.flops)[dtype]

    def moved(size: float) -> float:
        """Seconds for a byte of an array of this many."""
        cached = size <= record.cache_bytes / 2
        return 1 / (record.cache_rate if cached else record.memory_rate)

    def product(rows: int, columns: int, summed: int) -> float:
        """Seconds for a multiplication of one product: tiles that are not full, idle processors."""
        tiles = math.ceil(rows / TILE) * math.ceil(columns / TILE)
        depth = math.ceil(summed / DEPTH) * DEPTH
        # A long sum may be divided between processors.
        parts = max(1, min(record.multiprocessors // max(1, tiles), summed // 256))
        waves = math.ceil(tiles * parts / record.multiprocessors)
        work = waves * record.multiprocessors / parts * TILE * TILE * depth
        return 2 * work / rate / (rows * columns * summed)

    def one_of_many(rows: int, columns: int, summed: int) -> float:
        """The same where other products fill the processors."""
        tile = [math.ceil(n / 16) * 16 for n in (rows, columns)]
        depth = math.ceil(summed / DEPTH) * DEPTH
        return 2 * math.prod(tile) * depth / rate / (rows * columns * summed)

    apart = SECTOR / record.memory_rate
    return Profile(
        device="cuda",
        name=record.name,
        dtype=dtype,
        threads=1,
        versions=(("datasheet", "1"),),
        gemm=(_table((_SIDES,) * 3, product),) * len(VARIANTS),
        batched=(_table((_SMALL_SIDES,) * 3, one_of_many),) * len(VARIANTS),
        small=_table((_SMALL_SIDES,) * 3, one_of_many),
        small_limit=0,
        stream=_table((_BYTES,), moved),
        strided=_table(((2, 2048), (16, 16384), (2**15, 2**22)), lambda *_: apart),
        transposed=_table(
            ((2**15, 2**22),), lambda _: 3 * DTYPES[dtype].itemsize / record.memory_rate
        ),
        row=_NOTHING,
        block=_NOTHING,
        reduce=_table(((1, 512), _BYTES), lambda _, size: moved(size)),
        fault=_NOTHING,
        fault_bytes=2**40,
        calls=tuple(sorted(CALL_SECONDS.items())),
    )


def _table(axes: tuple[tuple[int, ...], ...], seconds: Callable[..., float]) -> Grid:
    return Grid(axes, tuple(seconds(*sizes) for sizes in itertools.product(*axes)))
