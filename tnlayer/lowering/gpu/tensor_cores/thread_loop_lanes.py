"""Which points of a thread loop are lanes of a warp, where each thread is a point.

Points may come in any order. So the digits of their indices are ordered such that the lanes of a
warp touch different banks of shared memory, or few sectors of global memory.

    for i < 64, j < 4:  y[4 i + j] = x[64 j + i]       lanes       cycles of x, of y
                        j the fastest digits           8 i x 4 j   4, 1
                        i the fastest digits           32 i        1, 4
                        four of i, one of j            16 i x 2 j  2, 2     is taken
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence, Set
from dataclasses import dataclass, replace
from functools import lru_cache
from itertools import combinations

from ....ir.launches import WARP
from ....ir.loops import SAMPLE, At, Fill, Statement, Threads, Tile, map_places
from ...loop_nest import offsets, runs
from .mma_lanes import FEW, cycles_of

# Digits among which lanes are sought (a warp takes at most five of them), and warps that are
# simulated where sizes are not of two.
MOST_DIGITS, MOST_WARPS = 12, 8


@dataclass(frozen=True, slots=True)
class Access:
    """What each point reads or writes.

    Arguments:
        terms: index and stride.
        in_global: whether it lies in global memory.
        times: how often; other times move all lanes by as much.
    """

    terms: tuple[tuple[str, int], ...]
    in_global: bool
    times: int


@dataclass(frozen=True, slots=True)
class Digit:
    """A factor of an index: so many values, each worth ``unit`` of the index."""

    index: str
    count: int
    unit: int


Cost = tuple[int, int]


def order_points(loop: Threads, in_shared: Set[str]) -> tuple[Threads, Cost]:
    """The loop with the order of points that takes the fewest cycles; and the cycles of its worst
    access of shared memory, at least ``FEW``, and of all warps.

    Arguments:
        loop: whose points are threads.
        in_shared: names of buffers in shared memory; register arrays are not counted.
    """
    accesses = tuple(_accesses(loop.body, in_shared))
    digits = [digit for name, count in loop.indices for digit in _digits(name, count)]
    # From here on the fastest digit comes first: the first ones are the lanes.
    digits = digits[::-1]
    cost = _cost(tuple(digits), accesses)
    best = digits
    # Where the order is good enough it is kept.
    if cost[0] > FEW:
        for order in _orders(digits):
            found = _cost(tuple(order), accesses)
            if found < cost:
                best, cost = order, found
    return (loop if best is digits else _in_order(loop, best)), cost


def _accesses(body: Sequence[Statement], in_shared: Set[str]) -> Iterator[Access]:
    for statement in body:
        match statement:
            case Tile():
                turns = math.prod(axis.count for axis in statement.loops) * len(statement.sums)
                made = len(statement.rows) * len(statement.columns)
                # A target that is added to is read as well as written.
                sides: list[tuple[At | None, int]] = [
                    (statement.left, len(statement.rows) * turns),
                    (statement.right, len(statement.columns) * turns),
                    (statement.target, made * (2 if statement.adds else 1)),
                ]
            case Fill():
                sides = [(statement.target, statement.count)]
            case _:
                sides = []
        for at, times in sides:
            if at is not None:
                yield Access(at.terms, at.buffer not in in_shared, times)


def _digits(name: str, count: int) -> list[Digit]:
    """Binary digits of an index, the slowest first; the whole where it has none."""
    # Samples stay whole, for a point asks whether its sample exists.
    if name == SAMPLE or count & (count - 1):
        return [Digit(name, count, 1)]
    return [Digit(name, 2, 1 << k) for k in reversed(range(count.bit_length() - 1))]


def _orders(digits: list[Digit]) -> Iterator[list[Digit]]:
    """Orders with other digits as lanes: as few as fill a warp."""
    near = digits[:MOST_DIGITS]
    for number in range(1, min(len(near), WARP.bit_length() - 1) + 1):
        for lanes in combinations(near, number):
            size = math.prod(digit.count for digit in lanes)
            # Sets that fill a warp without their largest digit are left out: smaller ones do.
            if size >= WARP and size // max(digit.count for digit in lanes) < WARP:
                yield [*lanes, *(digit for digit in digits if digit not in lanes)]


@lru_cache(maxsize=65536)
def _cost(digits: tuple[Digit, ...], accesses: tuple[Access, ...]) -> Cost:
    worst, total = FEW, 0
    warps = -(-math.prod(digit.count for digit in digits) // WARP)
    for access in accesses:
        strides = dict(access.terms)
        moves = tuple((d.count, strides.get(d.index, 0) * d.unit) for d in digits)
        cycles = _cycles(moves, access.in_global)
        # Only banks have conflicts; what global memory costs counts in the total.
        worst = worst if access.in_global else max(worst, cycles)
        total += warps * cycles * access.times
    return worst, total


def _cycles(moves: tuple[tuple[int, int], ...], in_global: bool) -> int:
    """Of the worst warp."""
    lanes, filled = list[tuple[int, int]](), 1
    for count, stride in moves:
        if filled >= WARP * MOST_WARPS:
            break
        filled *= count
        lanes.append((count, stride))
        # The first digits are exactly a warp: all other warps lie a constant further, and their
        # lanes meet in the same way. Where sizes are not of two, warps differ and several are
        # tried.
        if filled == WARP:
            break
    return _simulated(tuple(lanes), in_global)


@lru_cache(maxsize=65536)
def _simulated(moves: tuple[tuple[int, int], ...], in_global: bool) -> int:
    places = offsets(reversed(moves))
    return max(
        cycles_of(set(places[first : first + WARP]), in_global)
        for first in range(0, min(len(places), WARP * MOST_WARPS), WARP)
    )


def _in_order(loop: Threads, digits: Sequence[Digit]) -> Threads:
    """The loop with an index for each digit, the first one fastest; runs of digits are one."""

    def joins(outer: Digit, inner: Digit) -> bool:
        return outer.index == inner.index and outer.unit == inner.unit * inner.count

    names: dict[str, list[tuple[str, int]]] = {}
    indices: list[tuple[str, int]] = []
    for run in runs(reversed(digits), joins):
        index = run[0].index
        name = SAMPLE if index == SAMPLE else f"p{len(indices)}"
        names.setdefault(index, []).append((name, run[-1].unit))
        indices.append((name, math.prod(digit.count for digit in run)))

    def at(place: At) -> At:
        terms = tuple((name, stride * unit) for index, stride in place.terms
                      for name, unit in names.get(index, ()))  # fmt: skip
        return replace(place, terms=terms)

    return Threads(tuple(indices), tuple(map_places(inner, at) for inner in loop.body))
