"""What GPUs can do, as their datasheets say: for predictions where nothing was measured.

Rates that others saw a GPU reach stand here where they differ from the datasheet's; this package
measured none. ``python -m tnlayer profile --device cuda`` measures what torch's calls take; how
fast our kernels run is foreseen from these figures only.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class GpuRecord:
    """One model of GPU.

    Arguments:
        name: a part of the name that the driver gives it.
        arch: as NVRTC names it.
        multiprocessors: how many.
        clock: cycles a second under load.
        flops: of matrix products by dtype, as the BLAS reaches them, TF32 not allowed.
        memory_rate, cache_rate: bytes a second from and to memory, and the L2 cache.
        cache_bytes: of the L2 cache.
        first_cache: bytes of a multiprocessor that its shared memory and first cache divide.
    """

    name: str
    arch: str
    multiprocessors: int
    clock: float
    flops: tuple[tuple[str, float], ...]
    memory_rate: float
    cache_rate: float
    cache_bytes: int
    first_cache: int


# Datasheets of the SXM models; fp32 and bf16 products and copies of an H100 as commonly seen.
H100 = GpuRecord(
    name="H100",
    arch="sm_90",
    multiprocessors=132,
    clock=1.755e9,
    flops=(("float32", 52e12), ("float64", 50e12), ("bfloat16", 700e12), ("float16", 700e12)),
    memory_rate=3.0e12,
    cache_rate=5.5e12,
    cache_bytes=50 * 2**20,
    first_cache=256 * 1024,
)
A100 = GpuRecord(
    name="A100",
    arch="sm_80",
    multiprocessors=108,
    clock=1.41e9,
    flops=(("float32", 18e12), ("float64", 17e12), ("bfloat16", 250e12), ("float16", 250e12)),
    memory_rate=1.4e12,
    cache_rate=4.0e12,
    cache_bytes=40 * 2**20,
    first_cache=192 * 1024,
)
RECORDS = (H100, A100)


def record_of(arch: str) -> GpuRecord:
    """The GPU that stands for an architecture: one of it if there is one on record, else an H100.

    >>> record_of("sm_80").name, record_of("sm_90a").name, record_of("sm_120").name
    ('A100', 'H100', 'H100')
    """
    plain = arch.rstrip("af")
    return next((record for record in RECORDS if record.arch == plain), H100)
