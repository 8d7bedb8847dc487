"""A small fixed device profile, so that predictions in tests are the same on every machine."""

from __future__ import annotations

import itertools
import math

from tnlayer.hardware.profile.grid import Grid
from tnlayer.hardware.profile.profile import CALLS, VARIANTS, Profile

CALL = 4e-6
# Best rate of a matrix product: 322 GFLOP/s, a multiplication and an addition at a time.
BEST = 2 / 322e9


def _products(overhead: float) -> Grid:
    """Seconds a multiplication: slower where a side is short, with an overhead for the call."""
    sides = (1, 16, 256, 4096)
    seconds = (
        overhead / math.prod(sizes) + BEST * (1 + 15 / min(sizes)) / (1 + 15 / 4096)
        for sizes in itertools.product(sides, repeat=3)
    )
    return Grid((sides,) * 3, tuple(seconds))


def fixed_profile(**changes: object) -> Profile:
    """Rates of a two-core machine, as far as the kernels of decision record 0008 met one."""
    stream = Grid(((2**14, 2**18, 2**22, 2**26),), (1.46e-12, 1.06e-11, 2.8e-11, 5.8e-11))
    fields: dict[str, object] = {
        "device": "cpu",
        "name": "a fixed machine",
        "dtype": "float32",
        "threads": 2,
        "versions": (("torch", "0"),),
        "gemm": (_products(CALL),) * len(VARIANTS),
        "batched": (_products(1e-8),) * len(VARIANTS),
        "small": _products(1e-9),
        "small_limit": 400,
        "stream": stream,
        "strided": Grid(((1, 4096), (64, 4096), (2**10, 2**24)), (1e-10,) * 8),
        "transposed": Grid(((2**12, 2**24),), (1e-10, 2e-10)),
        "row": 5e-9,
        "block": 1e-8,
        "reduce": Grid(((1, 4096), (2**12, 2**24)), (2e-11,) * 4),
        "fault": 2.4e-10,
        "fault_bytes": 2**25,
        "calls": tuple((name, CALL / 40 if "_array" in name else CALL) for name in CALLS),
        **changes,
    }
    return Profile(**fields)  # pyright: ignore[reportArgumentType]
