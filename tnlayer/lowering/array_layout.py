"""Where the entries of a value lie: strides for each leg, and which legs are the lanes.

A value with legs a b c of sizes 2, 3 and 4, in vectors of 4 with c as lanes::

    legs        a   b   c      entry (1, 2, 3) lies at 1 x 12 + 2 x 4 + 3 x 1
    strides    12   4   1      points a b: 6 vectors; lanes c: the entries of each

Views are other strides on the same buffer and cost nothing: a diagonal has the sum of two strides,
a leg that repeats has stride 0, and a slice begins at another first entry.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

from .loop_nest import offsets

Sizes = Mapping[str, int]
Lanes = tuple[str, ...]


def volume(legs: Iterable[str], sizes: Sizes) -> int:
    """Product of the legs' sizes."""
    return math.prod(sizes[leg] for leg in legs)


@dataclass(frozen=True, slots=True)
class Array:
    """A strided array in a buffer.

    Arguments:
        buffer: name of the buffer.
        strides: distance in entries for each leg; a stride of 0 repeats.
        offset: of the first entry.
        lanes: the legs that fill a vector, the last one fastest; () if none do.
        conj: whether the complex conjugate is meant.
    """

    buffer: str
    strides: tuple[tuple[str, int], ...]
    offset: int = 0
    lanes: Lanes = ()
    conj: bool = False

    @property
    def legs(self) -> tuple[str, ...]:
        """All legs, lanes too."""
        return tuple(leg for leg, _ in self.strides)

    @property
    def points(self) -> tuple[str, ...]:
        """The legs that are no lanes."""
        return tuple(leg for leg, _ in self.strides if leg not in self.lanes)

    def stride(self, leg: str) -> int:
        """Stride of a leg; 0 if the array lacks it."""
        return dict(self.strides).get(leg, 0)

    def offsets(self, legs: Sequence[str], sizes: Sizes) -> tuple[int, ...]:
        """Offset of each combination of indices of some legs, the last leg fastest."""
        strides = dict(self.strides)
        return offsets((sizes[leg], strides.get(leg, 0)) for leg in legs)

    def with_lanes(self, lanes: Lanes) -> Array:
        """The same entries, seen with other legs as lanes (their strides are those of lanes)."""
        return replace(self, lanes=lanes)


def packed(legs: Sequence[str], sizes: Sizes, unit: int = 1) -> dict[str, int]:
    """Strides of an array without gaps, the last leg fastest."""
    strides: dict[str, int] = {}
    for leg in reversed(legs):
        strides[leg] = unit
        unit *= sizes[leg]
    return dict(reversed(strides.items()))


def in_lanes(
    buffer: str, legs: Sequence[str], lanes: Lanes, sizes: Sizes, width: int, page: int = 0
) -> tuple[Array, int]:
    """An array of vectors with these lanes, its other legs in order; and its size in entries.

    Arguments:
        page: strides of so many entries and more are a vector longer than they need be; 0: none.
    """
    unit = width if lanes else 1
    strides: dict[str, int] = {}
    padded = not page
    for leg in reversed([leg for leg in legs if leg not in lanes]):
        if not padded and unit >= page:
            unit, padded = unit + width, True
        strides[leg] = unit
        unit *= sizes[leg]
    strides = dict(reversed(strides.items())) | packed(lanes, sizes)
    return Array(buffer, tuple(strides.items()), lanes=lanes), unit


def tail_lanes(array: Array, sizes: Sizes, width: int) -> Lanes:
    """Legs of an array that lie in one run without gaps, as many as fit a vector."""
    found: list[str] = []
    run = 1
    # The fastest leg has stride 1, the next one goes on where it ends, and so on.
    by_stride = {stride: leg for leg, stride in array.strides if sizes[leg] > 1}
    while run in by_stride and run * sizes[by_stride[run]] <= width:
        leg = by_stride[run]
        found.insert(0, leg)
        run *= sizes[leg]
    return tuple(found)


def is_run(array: Array, lanes: Lanes, sizes: Sizes) -> bool:
    """Whether these legs lie in one run without gaps, the last one fastest."""
    expected = packed(lanes, sizes)
    return all(array.stride(leg) == expected[leg] or sizes[leg] == 1 for leg in lanes)


def replaced(array: Array, legs: Sequence[str], sizes: Sizes) -> Array | None:
    """An array in the same place: new legs stand where legs of their sizes go; None if they differ.

    Arguments:
        array: that is given up; its lanes have to stay.
        legs: of the new one, each once.
        sizes: of all legs.
    """
    strides = dict(array.strides)
    leaving = [leg for leg in strides if leg not in legs and sizes[leg] > 1]
    if not set(array.lanes) <= set(legs):
        return None
    found: dict[str, int] = {}
    for leg in legs:
        if leg in strides:
            found[leg] = strides[leg]
        elif sizes[leg] == 1:
            found[leg] = 0
        else:
            # Same size, same stride: each new entry lies where an old one was.
            free = next((old for old in leaving if sizes[old] == sizes[leg]), None)
            if free is None:
                return None
            leaving.remove(free)
            found[leg] = strides[free]
    return None if leaving else replace(array, strides=tuple(found.items()))


def conjugated(array: Array) -> Array:
    """The complex conjugate of an array."""
    return replace(array, conj=not array.conj)


def diagonal(array: Array, legs: Sequence[str], axes: Mapping[str, str]) -> Array:
    """Each leg once: its stride is the sum of those of all its axes.

    Arguments:
        array: in which a leg may have several axes.
        legs: of the result.
        axes: the leg of each axis of the array.
    """
    strides = tuple(
        (leg, sum(stride for axis, stride in array.strides if axes[axis] == leg)) for leg in legs
    )
    return replace(array, strides=strides)


def pinned(
    array: Array, axes: Sequence[str], pins: Sequence[tuple[int, int]]
) -> tuple[Array, list[str]]:
    """The view at some pins (axis, index), and the axes that are left."""
    at = dict(pins)
    offset = array.offset + sum(array.stride(axes[axis]) * index for axis, index in pins)
    left = [axis for number, axis in enumerate(axes) if number not in at]
    strides = tuple((axis, array.stride(axis)) for axis in left)
    return replace(array, strides=strides, offset=offset), left
