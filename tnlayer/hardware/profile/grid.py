"""Interpolation in tables of measured seconds, linear in the logarithms of all sizes."""

from __future__ import annotations

import bisect
import itertools
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class Grid:
    """Seconds for one unit of work, on a grid of sizes.

    A unit is one multiplication for matrix products and one byte or entry for what moves data. The
    overhead of a call is in the seconds of its units, which falls as one over the size: a straight
    line in logarithms, so that a coarse grid follows it.

    Arguments:
        axes: increasing sizes along each axis.
        seconds: seconds a unit for each point, the last axis fastest; all positive.
    """

    axes: tuple[tuple[int, ...], ...]
    seconds: tuple[float, ...]
    _logs: tuple[tuple[float, ...], ...] = field(init=False, repr=False, compare=False)
    _values: tuple[float, ...] = field(init=False, repr=False, compare=False)
    _strides: tuple[int, ...] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        strides = [1] * len(self.axes)
        for axis in range(len(self.axes) - 2, -1, -1):
            strides[axis] = strides[axis + 1] * len(self.axes[axis + 1])
        object.__setattr__(self, "_logs", tuple(tuple(map(math.log, axis)) for axis in self.axes))
        object.__setattr__(self, "_values", tuple(map(math.log, self.seconds)))
        object.__setattr__(self, "_strides", tuple(strides))

    def per_unit(self, *sizes: float) -> float:
        """Seconds a unit at these sizes; beyond the grid those of its edge.

        >>> grid = Grid(((1, 16),), (1e-6, 1e-8))
        >>> [f"{grid.per_unit(size):.1e}" for size in (0.5, 4, 1000)]
        ['1.0e-06', '1.0e-07', '1.0e-08']
        """
        # The corners of the cell, with the weight of each: at most 2^axes, usually fewer.
        corners: list[tuple[int, float]] = [(0, 1.0)]
        for logs, stride, size in zip(self._logs, self._strides, sizes, strict=True):
            x = math.log(max(size, 1e-9))
            high = bisect.bisect_right(logs, x)
            if high == 0 or high == len(logs):
                edge = stride * (0 if high == 0 else len(logs) - 1)
                corners = [(place + edge, weight) for place, weight in corners]
                continue
            share = (x - logs[high - 1]) / (logs[high] - logs[high - 1])
            low_place, high_place = stride * (high - 1), stride * high
            corners = [
                corner
                for place, weight in corners
                for corner in ((place + low_place, weight * (1 - share)),
                               (place + high_place, weight * share))
            ]  # fmt: skip
        return math.exp(sum(weight * self._values[place] for place, weight in corners))


def fill_grid(
    axes: Sequence[Sequence[int]], measured: Mapping[tuple[int, ...], float]
) -> tuple[float, ...]:
    """Seconds a unit at all points of a grid of which some are measured.

    A point that was left out (too large to time, or of another kind) takes the rate of the nearest
    one by the sum of the logarithms of the ratios of sizes.

    Arguments:
        axes: sizes along each axis.
        measured: seconds a unit by sizes, at least one.

    >>> fill_grid(((1, 2, 8),), {(2,): 3.0, (8,): 4.0})
    (3.0, 3.0, 4.0)
    """
    known = sorted(measured)

    def distance(one: tuple[int, ...], other: tuple[int, ...]) -> float:
        return sum(abs(math.log(a / b)) for a, b in zip(one, other, strict=True))

    return tuple(
        measured[point]
        if point in measured
        else measured[min(known, key=lambda k: distance(point, k))]
        for point in itertools.product(*axes)
    )
