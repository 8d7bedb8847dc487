"""One step of a plan as one thread loop: each point makes a small block of the results.

Nothing is assumed of the legs: sizes, diagonals (a leg's stride is a sum of strides) and hyperedges
are in the strides of the arrays.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

from ...hardware.gpu import SMALL, Tiling
from ...ir.loops import At, Axis, Fill, Pairs, Threads, Tile
from ...ir.steps import BATCH
from ..arrays import Array, Sizes

# Name of the index over the samples that a block takes at once.
SAMPLE = "sample"


@dataclass(frozen=True, slots=True)
class Piece:
    """A leg or a factor of one: its size, and how far it moves in target, left and right."""

    leg: str
    size: int
    target: int
    left: int
    right: int

    def split(self, inner: int) -> tuple[Piece, Piece]:
        """Outer and inner part, the inner one of the given size."""
        outer = replace(
            self,
            size=self.size // inner,
            target=self.target * inner,
            left=self.left * inner,
            right=self.right * inner,
        )
        return outer, replace(self, size=inner)

    def follows(self, outer: Piece) -> bool:
        """Whether this piece and one around it are one run in all arrays."""
        return all(
            getattr(outer, side) == getattr(self, side) * self.size
            for side in ("target", "left", "right")
        )


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
    pieces = [
        Piece(leg, sizes[leg], target.stride(leg), left.stride(leg),
              right.stride(leg) if right else 0)
        for leg in legs if sizes[leg] > 1
    ]  # fmt: skip
    mine = {leg: (leg in left.legs, right is not None and leg in right.legs) for leg in legs}
    points = [piece for piece in pieces if piece.leg in target.legs]
    summed = [piece for piece in pieces if piece.leg not in target.legs]
    held = [piece for leg in own for piece in points if piece.leg == leg]
    points = [piece for piece in points if piece not in held]
    least = tiling.points
    points, columns = _taken(points, tiling.columns if right else 1, least, mine, (False, True))
    points, rows = _taken(points, tiling.rows if right else 1, least, mine, (True, False))
    if holds_samples and right and mine.get(BATCH) in ((True, False), (False, True)):
        side, most = (rows, tiling.rows) if mine[BATCH][0] else (columns, tiling.columns)
        points, samples = _samples_taken(points, most // _volume(side), least)
        side += samples
    # Where samples are summed those loops are the outermost: their end is known at the call only.
    summed.sort(key=lambda piece: (piece.leg != BATCH, -abs(piece.left) - abs(piece.right)))
    written = max(1, tiling.products // _volume(rows + columns))
    summed, sums = _innermost(_merged(summed), written)
    points = _merged(sorted(points, key=lambda piece: (piece.leg != BATCH, -piece.target)))
    names = _names(points)

    def at(array: Array, side: str) -> At:
        terms = tuple(
            (name, getattr(piece, side))
            for name, piece in zip(names, points, strict=True)
            if getattr(piece, side)
        )
        return At(array.buffer, array.offset, terms, "scalar", array.conj)

    tile = Tile(
        at(target, "target"),
        at(left, "left"),
        at(right, "right") if right is not None else None,
        _pairs([*rows, *held], "left", "target"),
        _pairs(columns, "right", "target"),
        _pairs(sums, "left", "right"),
        tuple(
            Axis(p.size, p.left, p.right, of_samples=p.leg == BATCH, rolled=rolled) for p in summed
        ),
        adds,
    )
    counts = (piece.size for piece in points)
    return Threads(tuple(zip(names, counts, strict=True)), (tile,))


def lower_clear(buffer: str, count: int) -> Threads:
    """Zeros in the first entries of a buffer."""
    zeros = Fill(At(buffer, 0, (("i0", 1),), "scalar"), 1)
    return Threads((("i0", count),), (zeros,))


def _names(points: Sequence[Piece]) -> list[str]:
    """Index names; that of the batch is its own, so that a printer knows the sample."""
    return [SAMPLE if piece.leg == BATCH else f"i{n}" for n, piece in enumerate(points)]


def _taken(
    points: list[Piece],
    most: int,
    least: int,
    mine: dict[str, tuple[bool, bool]],
    of: tuple[bool, bool],
) -> tuple[list[Piece], list[Piece]]:
    """Points left, and pieces of legs of one operand that each point makes by itself."""
    taken: list[Piece] = []
    for piece in sorted(points, key=lambda piece: piece.target):
        if piece.leg == BATCH or mine[piece.leg] != of:
            continue
        left = _volume(points)
        most_now = min(most // _volume(taken), left // least)
        inner = max((k for k in range(1, most_now + 1) if piece.size % k == 0), default=1)
        if inner < 2:
            continue
        points = [point for point in points if point is not piece]
        outer, inside = piece.split(inner)
        points += [outer] if outer.size > 1 else []
        taken.append(inside)
    return points, taken


def _samples_taken(points: list[Piece], most: int, least: int) -> tuple[list[Piece], list[Piece]]:
    """Points left, and the samples, if a point can make the results of all of them."""
    others = [piece for piece in points if piece.leg != BATCH]
    samples = [piece for piece in points if piece.leg == BATCH]
    if _volume(samples) > most or _volume(others) < least:
        return points, []
    return others, samples


def _volume(pieces: Sequence[Piece]) -> int:
    return math.prod(piece.size for piece in pieces)


def _innermost(pieces: list[Piece], most: int) -> tuple[list[Piece], list[Piece]]:
    """Pieces around, and those inside that are written out: ``most`` terms, of one sample."""
    outer, inner = list(pieces), list[Piece]()
    while outer:
        piece = outer.pop()
        if piece.leg == BATCH:
            return [*outer, piece], inner
        size = max(k for k in range(1, most + 1) if piece.size % k == 0)
        around, inside = piece.split(size)
        most //= size
        inner = [inside, *inner] if size > 1 else inner
        if around.size > 1:
            return [*outer, around], inner
    return outer, inner


def _merged(pieces: Sequence[Piece]) -> list[Piece]:
    """Neighbours that are one run in all arrays as one piece; the batch stays by itself."""
    found: list[Piece] = []
    for piece in pieces:
        if found and BATCH not in (piece.leg, found[-1].leg) and piece.follows(found[-1]):
            outer = found.pop()
            piece = replace(piece, size=piece.size * outer.size)
        found.append(piece)
    return found


def _pairs(pieces: Sequence[Piece], first: str, second: str) -> Pairs:
    pairs = [(0, 0)]
    for piece in pieces:
        pairs = [
            (a + k * getattr(piece, first), b + k * getattr(piece, second))
            for a, b in pairs
            for k in range(piece.size)
        ]
    return tuple(pairs)
