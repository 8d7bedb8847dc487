"""A Profile as readable tables, and its main rates by name."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from ...ir.table_text import table
from .grid import Grid
from .profile import CALLS, Profile

_PAGE_BYTES = 4096
# Share of a call's overhead from which on a time beside it can be told.
_TOLD = 0.1
# Entries of the arrays that the rates of moving data are told for.
_ENTRIES = 2**18

# What each shape class stands for: (rows, columns, summed).
_PRODUCTS: tuple[tuple[str, tuple[int, int, int]], ...] = (
    ("square", (64, 64, 64)),
    ("square", (256, 256, 256)),
    ("skinny K", (2048, 256, 4)),
    ("skinny K", (2048, 256, 16)),
    ("skinny N", (2048, 4, 256)),
    ("skinny N", (2048, 16, 256)),
)
_BATCHED = (2, 4, 8, 16, 64)


def profile_text(
    profile: Profile, source: str = "", caches: Mapping[str, int] | None = None
) -> str:
    """The profile as tables: memory, matrix products, moving data, calls.

    Arguments:
        profile: the rates.
        source: where it comes from, in words.
        caches: bytes of each cache, smallest first, to name the rows by; sizes alone without them.
    """
    versions = ", ".join(f"{name} {version}" for name, version in profile.versions)
    threads = f"{profile.threads} thread{'s' if profile.threads != 1 else ''}"
    lines = [
        f"device profile: {profile.name}, {profile.device}, {profile.dtype}, {threads}, {versions}"
    ]
    if source:
        lines.append(f"source: {source}")
    lines += ["", *table([("contiguous copy of", "GB/s"), *_memory_rows(profile, caches or {})])]
    lines.append("-: lost in what a call takes")
    lines += ["", *table([("matrix product", "rows", "columns", "summed", "GFLOP/s"),
                          *_product_rows(profile)])]  # fmt: skip
    vectors = "not measured"
    if profile.multiply_add is not None:
        vectors = f"{1e9 * profile.multiply_add:.3f} ns a thread"
    lines.append(f"compiled multiply-add of vectors: {vectors}")
    lines += ["", *table([("moving data", "cost", "unit"), *_moving_rows(profile)])]
    calls = [(name, f"{1e6 * profile.call_seconds[name]:.2f}") for name in CALLS]
    lines += ["", *table([("call on a few entries", "us"), *calls])]
    return "\n".join(lines)


def main_rates(profile: Profile) -> dict[str, float]:
    """The rates of the tables by name, in bytes, operations and seconds: for other programs."""
    rates = {
        f"copy of {size // 2} bytes, bytes/s": 1 / seconds
        for (size,), seconds in _points(profile.stream)
        if not _is_lost(profile, size * seconds)
    }
    for name, sizes in _PRODUCTS:
        shape = "x".join(map(str, sizes))
        rates[f"{name} {shape}, flop/s"] = 2 / profile.gemm[0].per_unit(*sizes)
    for size in _BATCHED:
        rates[f"batched {size}x{size}x{size}, flop/s"] = 2 / _batched(profile, size)
    rates["transposed copy, s/entry"] = profile.transposed.per_unit(_ENTRIES)
    rates["page fault, s/byte"] = profile.fault
    if profile.multiply_add is not None:
        rates["compiled multiply-add of vectors, s"] = profile.multiply_add
    return rates | {f"call {name}, s": profile.call_seconds[name] for name in CALLS}


def _memory_rows(profile: Profile, caches: Mapping[str, int]) -> Iterator[tuple[str, str]]:
    """Bytes a second by size; what is read and what is written both have to fit in a cache."""
    for (size,), seconds in _points(profile.stream):
        level = next((name for name, room in caches.items() if size <= room), "memory")
        where = f" ({level})" if caches else ""
        lost = _is_lost(profile, size * seconds)
        yield f"{_bytes(size // 2)}{where}", "-" if lost else f"{1e-9 / seconds:.1f}"


def _product_rows(profile: Profile) -> Iterator[tuple[str, ...]]:
    for name, sizes in _PRODUCTS:
        yield (name, *map(str, sizes), f"{2e-9 / profile.gemm[0].per_unit(*sizes):.2f}")
    for size in _BATCHED:
        yield ("batched small", *(str(size),) * 3, f"{2e-9 / _batched(profile, size):.2f}")


def _moving_rows(profile: Profile) -> Iterator[tuple[str, str, str]]:
    transposed = profile.transposed.per_unit(_ENTRIES)
    yield "transposed copy", f"{1e9 * transposed:.3f}", "ns an entry"
    for lines, stride, entries in ((32, 128, _ENTRIES), (512, 128, _ENTRIES), (2048, 1024, 2**22)):
        seconds = profile.strided.per_unit(lines, stride, entries)
        yield f"copy, {lines} apart by {stride}", f"{1e9 * seconds:.3f}", "ns an entry"
    yield "permuted rows", f"{1e9 * profile.row:.3f}", "ns a row"
    yield "permuted blocks", f"{1e9 * profile.block:.3f}", "ns a block"
    for name, inner in (("sum over the last axis", 1), ("sum over the first axis", 512)):
        yield name, f"{1e9 * profile.reduce.per_unit(inner, 2**20):.4f}", "ns a byte"
    fault = 1e9 * profile.fault * _PAGE_BYTES
    yield "page of a fresh array", f"{fault:.1f}", f"ns, from {_bytes(profile.fault_bytes)} on"


def _is_lost(profile: Profile, seconds: float) -> bool:
    """Whether the bytes of a copy take so little beside its call that no rate can be told."""
    return seconds < _TOLD * profile.call_seconds["copy"]


def _batched(profile: Profile, size: int) -> float:
    """Seconds a multiplication of one of many square matrices."""
    small = size**3 < profile.small_limit
    return (profile.small if small else profile.batched[0]).per_unit(size, size, size)


def _points(grid: Grid) -> Iterator[tuple[tuple[int], float]]:
    """Size and seconds of a grid with one axis."""
    for size, seconds in zip(grid.axes[0], grid.seconds, strict=True):
        yield (size,), seconds


def _bytes(size: int) -> str:
    for unit, name in ((2**20, "MiB"), (2**10, "KiB")):
        if size >= unit:
            return f"{size // unit} {name}"
    return f"{size} B"
