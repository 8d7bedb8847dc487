"""One step of a plan as one thread loop: each point makes a small block of the results.

Nothing is assumed of the legs: sizes, diagonals (a leg's stride is a sum of strides) and hyperedges
are in the strides of the arrays.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

from ...hardware.gpu import SMALL, Tiling
from ...ir.loops import SAMPLE, At, Axis, Fill, Threads, Tile
from ...ir.steps import BATCH
from ..array_layout import Array, Sizes
from ..loop_nest import Loop, Side, merge, pairs


def lower_product(
    target: Array,
    left: Array,
    right: Array | None,
    sizes: Sizes,
    *,
    adds: bool = False,
    own: Sequence[str] = (),
    tiling: Tiling = SMALL,
    holds_samples: bool = False,
    rolled: bool = False,
) -> Threads:
    """target (+)= sum of left * right over the legs that the target lacks.

    Arguments:
        target, left, right: arrays in which each leg has one stride; without right, left alone.
        sizes: size of each leg; the batch's is that of a block.
        adds: whether the result is added to the target.
        own: of a copy, legs of which each point takes all entries, the last one fastest.
        tiling: how many results of a contraction a point makes.
        holds_samples: whether a point may make results of several samples, so that it reads a
            weight once for all; not where a sample that is missing would be read or written.
        rolled: whether loops around written-out products stay loops in machine code.
    """
    legs = dict.fromkeys(target.legs + left.legs + (right.legs if right else ()))
    loops = [
        Loop(sizes[leg], target.stride(leg), left.stride(leg), right.stride(leg) if right else 0,
             leg, of_samples=leg == BATCH)
        for leg in legs if sizes[leg] > 1
    ]  # fmt: skip
    # Whether left and right have a leg. What only left has can be rows of a point's block, what
    # only right has columns: each entry that is read then serves a whole row or column.
    mine = {leg: (leg in left.legs, right is not None and leg in right.legs) for leg in legs}
    points = [loop for loop in loops if loop.leg in target.legs]
    summed = [loop for loop in loops if loop.leg not in target.legs]
    held = [loop for leg in own for loop in points if loop.leg == leg]
    points = [loop for loop in points if loop not in held]
    least = tiling.points
    points, columns = _taken(points, tiling.columns if right else 1, least, mine, (False, True))
    points, rows = _taken(points, tiling.rows if right else 1, least, mine, (True, False))
    if holds_samples and right and mine.get(BATCH) in ((True, False), (False, True)):
        side, most = (rows, tiling.rows) if mine[BATCH][0] else (columns, tiling.columns)
        points, samples = _samples_taken(points, most // _volume(side), least)
        side += samples
    # Where samples are summed those loops are the outermost: their end is known at the call only.
    summed.sort(key=lambda loop: (not loop.of_samples, -abs(loop.left) - abs(loop.right)))
    written = max(1, tiling.products // _volume(rows + columns))
    summed, sums = _innermost(merge(summed), written)
    # Neighbouring threads make neighbouring results.
    points = merge(sorted(points, key=lambda loop: (not loop.of_samples, -loop.target)))
    names = _names(points)

    def at(array: Array, side: Side) -> At:
        terms = tuple(
            (name, loop.moves(side))
            for name, loop in zip(names, points, strict=True)
            if loop.moves(side)
        )
        return At(array.buffer, array.offset, terms, "scalar", array.conj)

    tile = Tile(
        at(target, "target"),
        at(left, "left"),
        at(right, "right") if right is not None else None,
        pairs([*rows, *held], "left", "target"),
        pairs(columns, "right", "target"),
        pairs(sums, "left", "right"),
        tuple(
            Axis(p.count, p.left, p.right, of_samples=p.of_samples, rolled=rolled) for p in summed
        ),
        adds,
    )
    counts = (loop.count for loop in points)
    return Threads(tuple(zip(names, counts, strict=True)), (tile,))


def lower_clear(buffer: str, count: int) -> Threads:
    """Zeros in the first entries of a buffer."""
    zeros = Fill(At(buffer, 0, (("i0", 1),), "scalar"), 1)
    return Threads((("i0", count),), (zeros,))


def _names(points: Sequence[Loop]) -> list[str]:
    """Index names; that of the batch is its own, so that a printer knows the sample."""
    return [SAMPLE if loop.of_samples else f"i{n}" for n, loop in enumerate(points)]


def _taken(
    points: list[Loop],
    most: int,
    least: int,
    mine: dict[str, tuple[bool, bool]],
    of: tuple[bool, bool],
) -> tuple[list[Loop], list[Loop]]:
    """Points left, and loops of legs of one operand that each point makes by itself."""
    taken: list[Loop] = []
    for loop in sorted(points, key=lambda loop: loop.target):
        if loop.of_samples or mine[loop.leg] != of:
            continue
        left = _volume(points)
        # As much as the block of results still takes, while enough points are left for all threads.
        most_now = min(most // _volume(taken), left // least)
        inner = max((k for k in range(1, most_now + 1) if loop.count % k == 0), default=1)
        if inner < 2:
            continue
        points = [point for point in points if point is not loop]
        outer, inside = loop.split(inner)
        points += [outer] if outer.count > 1 else []
        taken.append(inside)
    return points, taken


def _samples_taken(points: list[Loop], most: int, least: int) -> tuple[list[Loop], list[Loop]]:
    """Points left, and the samples, if a point can make the results of all of them."""
    others = [loop for loop in points if not loop.of_samples]
    samples = [loop for loop in points if loop.of_samples]
    if _volume(samples) > most or _volume(others) < least:
        return points, []
    return others, samples


def _volume(loops: Sequence[Loop]) -> int:
    return math.prod(loop.count for loop in loops)


def _innermost(loops: list[Loop], most: int) -> tuple[list[Loop], list[Loop]]:
    """Loops around, and those inside that are written out: ``most`` terms, of one sample."""
    outer, inner = list(loops), list[Loop]()
    while outer:
        loop = outer.pop()
        if loop.of_samples:
            return [*outer, loop], inner
        # The largest part that divides the loop: a rest would need code of its own.
        size = max(k for k in range(1, most + 1) if loop.count % k == 0)
        around, inside = loop.split(size)
        most //= size
        inner = [inside, *inner] if size > 1 else inner
        if around.count > 1:
            return [*outer, around], inner
    return outer, inner
