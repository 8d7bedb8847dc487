"""A Profile scaled by a handful of factors: to another machine, or to what programs take."""

from __future__ import annotations

import itertools
import math
from dataclasses import dataclass, fields, replace

from .grid import Grid
from .profile import AUTOGRAD, CALLS, Profile

# Products whose least size is this are bound by arithmetic alone.
ARITHMETIC = 256
# Products whose factors and result have more entries are bound by memory beside arithmetic: 8 MiB
# of float32 are beyond the caches of a core.
FAR_ENTRIES = 2**21
# What a measurement of a second may say of another machine: beyond it something disturbed it.
LEAST, MOST = 1 / 16, 16.0


@dataclass(frozen=True, slots=True)
class Factors:
    """How many times as long things take on this machine as the profiles of another one say.

    Arguments:
        gemm, batched, small, stream, strided, transposed, row, block, reduce, fault, multiply_add:
            for each entry of a profile, or each of its tables.
        far: of ``gemm``, for products whose arrays no core's caches hold.
        calls: for the start of each kind of call.
        starting, working: what whole programs take beyond that: their calls, and moving data.
    """

    gemm: float = 1.0
    far: float = 1.0
    batched: float = 1.0
    small: float = 1.0
    stream: float = 1.0
    strided: float = 1.0
    transposed: float = 1.0
    row: float = 1.0
    block: float = 1.0
    reduce: float = 1.0
    fault: float = 1.0
    multiply_add: float = 1.0
    calls: tuple[tuple[str, float], ...] = tuple((kind, 1.0) for kind in CALLS)
    starting: float = 1.0
    working: float = 1.0

    def bounded(self) -> Factors:
        """The factors, none of them beyond belief."""
        calls = tuple((kind, _bounded(factor)) for kind, factor in self.calls)
        numbers = {one.name: getattr(self, one.name) for one in fields(self) if one.name != "calls"}
        return Factors(calls=calls, **{name: _bounded(one) for name, one in numbers.items()})


def _bounded(factor: float) -> float:
    return min(MOST, max(LEAST, factor))


def scaled_by(profile: Profile, factors: Factors) -> Profile:
    """The profile with its rates scaled.

    Arguments:
        profile: of another machine.
        factors: of this one.
    """
    starts = dict(factors.calls)
    start, vectors = profile.call_seconds["mm"], profile.multiply_add
    here = replace(
        profile,
        gemm=tuple(
            _with_start(grid, start, starts["mm"], factors.gemm, factors.far)
            for grid in profile.gemm
        ),
        batched=tuple(_times(grid, factors.batched) for grid in profile.batched),
        small=_times(profile.small, factors.small),
        stream=_times(profile.stream, factors.stream),
        strided=_times(profile.strided, factors.strided),
        transposed=_times(profile.transposed, factors.transposed),
        row=profile.row * factors.row,
        block=profile.block * factors.block,
        reduce=_times(profile.reduce, factors.reduce),
        fault=profile.fault * factors.fault,
        calls=tuple((kind, seconds * starts[kind]) for kind, seconds in profile.calls),
        multiply_add=None if vectors is None else vectors * factors.multiply_add,
    )
    return as_in_programs(here, factors.starting, factors.working)


def as_in_programs(profile: Profile, starting: float, working: float) -> Profile:
    """The profile with slower calls and slower moving of data, as whole programs have them.

    Arguments:
        profile: as single operations in a loop take it.
        starting: a factor for the start of calls.
        working: a factor for what moves data; products that arithmetic bounds keep their rates.
    """
    return replace(
        profile,
        gemm=tuple(_times_products(grid, working) for grid in profile.gemm),
        batched=tuple(_times_products(grid, working) for grid in profile.batched),
        small=_times(profile.small, working),
        stream=_times(profile.stream, working),
        strided=_times(profile.strided, working),
        transposed=_times(profile.transposed, working),
        row=profile.row * working,
        block=profile.block * working,
        reduce=_times(profile.reduce, working),
        calls=tuple(
            (name, seconds if name in AUTOGRAD else seconds * starting)
            for name, seconds in profile.calls
        ),
    )


def _times(grid: Grid, factor: float) -> Grid:
    return Grid(grid.axes, tuple(seconds * factor for seconds in grid.seconds))


def _times_products(grid: Grid, factor: float) -> Grid:
    """Products with a short side are bound by moving their factors, others by arithmetic."""
    points = itertools.product(*grid.axes)
    scaled = tuple(
        seconds * factor ** (1 - min(1.0, math.log(min(point)) / math.log(ARITHMETIC)))
        for point, seconds in zip(points, grid.seconds, strict=True)
    )
    return Grid(grid.axes, scaled)


def is_far(rows: int, columns: int, summed: int) -> bool:
    """Whether no core's caches hold what a product of matrices reads and writes."""
    return rows * columns + columns * summed + rows * summed > FAR_ENTRIES


def _with_start(grid: Grid, start: float, starting: float, working: float, far: float) -> Grid:
    """Products whose seconds have the start of their call in them, which scales by itself."""
    points = itertools.product(*grid.axes)
    scaled: list[float] = []
    for point, seconds in zip(points, grid.seconds, strict=True):
        of_start = min(seconds, start / math.prod(point))
        rows, columns, summed = point
        factor = far if is_far(rows, columns, summed) else working
        scaled.append(starting * of_start + factor * (seconds - of_start))
    return Grid(grid.axes, tuple(scaled))
