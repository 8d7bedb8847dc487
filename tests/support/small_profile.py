"""A small made-up profile with round numbers, the same on every machine."""

from __future__ import annotations

from tnlayer.hardware.profile.grid import Grid
from tnlayer.hardware.profile.profile import CALLS, VARIANTS, Profile

PRODUCTS = Grid(((4, 256),) * 3, (4e-9, 1e-9, 1e-9, 1e-10, 1e-9, 1e-10, 1e-10, 1e-11))


def small_profile(
    *,
    device: str = "cpu",
    name: str = "Model T",
    dtype: str = "float32",
    threads: int = 2,
    torch: str = "2.9.0",
    fault: float = 2.5e-10,
    multiply_add: float | None = None,
) -> Profile:
    """A profile with grids of two points an axis."""
    return Profile(
        device=device,
        name=name,
        dtype=dtype,
        threads=threads,
        versions=(("torch", torch),),
        gemm=(PRODUCTS,) * len(VARIANTS),
        batched=(PRODUCTS,) * len(VARIANTS),
        small=PRODUCTS,
        small_limit=400,
        stream=Grid(((2**12, 2**18, 2**24),), (1e-12, 1e-11, 1e-10)),
        strided=Grid(((8, 512), (16, 1024), (2**15, 2**22)), (1e-10,) * 4 + (1e-9,) * 4),
        transposed=Grid(((2**15, 2**22),), (1e-10, 1e-9)),
        row=2e-9,
        block=2e-8,
        reduce=Grid(((1, 512), (2**12, 2**24)), (1e-11, 1e-10, 1e-11, 1e-10)),
        fault=fault,
        fault_bytes=2**25,
        calls=tuple((call, 1e-6 * (index + 1)) for index, call in enumerate(sorted(CALLS))),
        multiply_add=multiply_add,
    )
