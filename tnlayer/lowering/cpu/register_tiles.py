"""Contractions as loops around register tiles: which legs are rows, columns and sums, how many of
them a tile holds, and in which order the tiles come.

A tile of R rows and J columns takes R + J loads for R * J products, so a large one is wanted; its
accumulators, the loaded rows and a weight have to fit the vector registers.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import count

from ...hardware.cpu import TileLimits
from ...ir.loops import HERE, At, For, Form, OffsetPairs, Statement, Tile
from ..array_layout import Array, Lanes, Sizes, packed, volume
from ..loop_nest import Loop, Side, merge, pairs
from .tile_shapes import (
    LEAST_SUMS,
    ColumnChoice,
    RowChoice,
    Shape,
    aligned_columns,
    divisors,
    row_choices,
    split_sums,
)

# Weights with at most this many entries stay in registers over all tiles of a step.
KEPT_WEIGHTS = 16
# Cycles that a load costs beside those in which multiply-adds hide it.
LOAD_COST = 0.15
# Vectors that a walk over all tiles may touch before it starts again: half an L1 cache.
WALK_VECTORS = 512
# Cycles until a fused multiply-add is done, times those that start in one.
IN_FLIGHT = 8
# How much more a tile may cost if its step then needs half the room in the first cache.
IN_PLACE = 1.1


@dataclass(frozen=True, slots=True)
class Contraction:
    """target (+)= sum over the legs that it lacks of left * right, over legs that are no lanes.

    Arguments:
        target, left, right: the arrays; right is None for a sum or a copy of left.
        sizes: of all legs.
        loops: indices of loops around it, by their legs; these legs are at their index.
        adds: whether the result is added to the target.
        samples: the leg whose indices are the samples of a block, where it is summed; of the last
            block some may not exist.
    """

    target: Array
    left: Array
    right: Array | None
    sizes: Sizes
    loops: tuple[tuple[str, str], ...] = ()
    adds: bool = False
    samples: str = ""

    @property
    def in_place(self) -> bool:
        """Whether the target takes the place of left: a tile has to hold all columns at once."""
        return self.target.buffer == self.left.buffer


def lower_contraction(what: Contraction, limits: TileLimits) -> tuple[Statement, ...]:
    """The loops and tiles of one contraction."""
    return _Lowering(what, limits).statements()


def pays_in_place(what: Contraction, limits: TileLimits) -> bool:
    """Whether a contraction whose target takes the place of left has a tile that is good enough."""
    lowering = _Lowering(what, limits)
    whole, free = lowering.best(whole=True), lowering.best(whole=False)
    return whole is not None and free is not None and whole[0] <= IN_PLACE * free[0]


class _Lowering:
    """One contraction; the legs are sorted once."""

    def __init__(self, what: Contraction, limits: TileLimits) -> None:
        self.what, self.limits = what, limits
        self.sort_legs()
        if what.left.lanes and what.right is not None and what.right.lanes:
            # Columns are written out, rows may be loops: many columns are better rows.
            many = volume(self.columns, what.sizes)
            if many > 2 * limits.registers and volume(self.rows, what.sizes) < many:
                self.what = replace(what, left=what.right, right=what.left)
                self.sort_legs()
        self.names = (f"i{number}" for number in count(len(what.loops)))

    def sort_legs(self) -> None:
        """Which legs are summed, rows, columns, or shared by all three arrays."""
        what = self.what
        around = {leg for leg, _ in what.loops}
        lanes = {leg for array in self.arrays for leg in array.lanes}
        used = dict.fromkeys(leg for array in self.arrays for leg in array.legs)
        legs = [leg for leg in used if leg not in around | lanes and what.sizes[leg] > 1]
        left, right = set(what.left.legs), set(what.right.legs if what.right else ())
        target = set(what.target.legs)
        self.sums = [leg for leg in legs if leg not in target]
        self.columns = [leg for leg in legs if leg in target and leg not in left]
        self.rows = [leg for leg in legs if leg in target and leg not in right]
        self.shared = [leg for leg in legs if leg in target and leg in left and leg in right]

    @property
    def arrays(self) -> tuple[Array, ...]:
        what = self.what
        return tuple(a for a in (what.target, what.left, what.right) if a is not None)

    # -- legs to loops ---------------------------------------------------------------------

    def merged(self, legs: Sequence[str]) -> list[Loop]:
        """Loops over legs, the widest strides first; runs in all arrays become one loop.

        A sum over samples is a loop of its own and the outermost one.
        """
        what = self.what
        loops = [
            Loop(
                what.sizes[leg],
                what.target.stride(leg),
                what.left.stride(leg),
                what.right.stride(leg) if what.right else 0,
                of_samples=leg == what.samples,
            )
            for leg in legs
        ]
        loops.sort(key=lambda loop: (not loop.of_samples, -loop.target, -loop.left, -loop.right))
        return merge(loops)

    def at(self, array: Array, role: Side, loops: Sequence[tuple[str, Loop]]) -> At:
        """The place of an array inside some loops."""
        terms = [(index, array.stride(leg)) for leg, index in self.what.loops]
        terms += [(index, loop.moves(role)) for index, loop in loops]
        form: Form = "vector" if array.lanes else "splat" if self.what.target.lanes else "scalar"
        terms = [(index, stride) for index, stride in terms if stride]
        run = 0
        if array.lanes and len(array.lanes) < len(self.lanes):
            form, run = "repeat", volume(array.lanes, self.what.sizes)
        return At(array.buffer, array.offset, tuple(terms), form, array.conj, run)

    @property
    def lanes(self) -> Lanes:
        """The lanes of the result in registers: those of the operand that has most."""
        operands = [a.lanes for a in (self.what.left, self.what.right) if a is not None]
        return max(operands, key=len)

    def order(self) -> tuple[int, ...]:
        """How the lanes change places when the result is stored."""
        to, sizes = self.what.target.lanes, self.what.sizes
        if not to or to == self.lanes:
            return ()
        result = Array("", tuple(packed(self.lanes, sizes).items()), lanes=self.lanes)
        return result.offsets(to, sizes)

    # -- the nest --------------------------------------------------------------------------

    def statements(self) -> tuple[Statement, ...]:
        """Loops over shared legs, then rows, then columns; tiles inside."""
        shape = self.choose()
        outer = [(next(self.names), loop) for loop in self.merged(self.shared)]
        rest = [(next(self.names), loop) for loop in shape.outer]
        nest = (*outer, *rest)
        body = tuple(
            statement
            for offset, chunk in shape.row_blocks
            for statement in self.row_block(offset, chunk, shape, nest)
        )
        for index, loop in reversed(nest):
            body = (For(index, loop.count, body, loop.of_samples),)
        return body

    def row_block(
        self, offset: Loop, chunk: int, shape: Shape, nest: tuple[tuple[str, Loop], ...]
    ) -> tuple[Statement, ...]:
        """The tiles of ``offset.count`` chunks of rows that follow each other."""
        rows = tuple(
            (k * shape.chunked.left + left, k * shape.chunked.target + target)
            for k in range(chunk)
            for left, target in shape.inner_rows
        )
        if offset.count > 1:
            index = next(self.names)
            nest = (*nest, (index, offset))
            body = self.columns_of(rows, shape, nest, 0)
            return (For(index, offset.count, body),)
        return self.columns_of(rows, shape, nest, offset.left, offset.target)

    def columns_of(
        self,
        rows: OffsetPairs,
        shape: Shape,
        nest: Sequence[tuple[str, Loop]],
        left: int,
        target: int = 0,
    ) -> tuple[Statement, ...]:
        """One tile for each block of columns."""
        what = self.what
        found: list[Statement] = []
        turns = [(next(self.names), loop) for loop in shape.outer_columns]
        for block in shape.column_blocks:
            tile = Tile(
                self.at(what.target, "target", [*nest, *turns]),
                self.at(what.left, "left", [*nest, *turns]),
                self.at(what.right, "right", [*nest, *turns]) if what.right else None,
                rows,
                block,
                shape.sums,
                shape.sum_loops,
                what.adds,
                shape.keeps_weights,
                self.order(),
                # A term's entries of the side that has fewer: so few registers are enough.
                holds="left" if len(rows) <= len(block) else "right",
            )
            tile = replace(
                tile,
                left=replace(tile.left, offset=tile.left.offset + left),
                target=replace(tile.target, offset=tile.target.offset + target),
            )
            found.append(tile)
        body = tuple(found)
        for index, loop in reversed(turns):
            body = (For(index, loop.count, body),)
        return body

    # -- the shape of a tile ---------------------------------------------------------------

    def choose(self) -> Shape:
        """The cheapest tile that fits the registers."""
        best = self.best(whole=self.what.in_place)
        assert best is not None, "one row and one column always fit; in place is asked for before"
        _, choice, columns, keeps = best
        return self.shape(choice, columns, self.merged(self.rows), self.merged(self.sums), keeps)

    def best(self, *, whole: bool) -> tuple[float, RowChoice, ColumnChoice, bool] | None:
        """Cost, rows and columns of the cheapest tile, and whether its weights stay in registers.

        Arguments:
            whole: whether a tile has to have all columns.
        """
        what = self.what
        rows = self.merged(self.rows)
        row_volume, sum_volume = volume(self.rows, what.sizes), volume(self.sums, what.sizes)
        small = sum_volume * volume(self.columns, what.sizes) <= KEPT_WEIGHTS and row_volume > 1
        best: tuple[float, RowChoice, ColumnChoice, bool] | None = None
        for keeps in (True, False) if small else (False,):
            for columns in self.column_choices(keeps):
                if whole and columns.count < columns.total:
                    continue
                for choice in row_choices(rows):
                    cost = self.cost(choice, columns, sum_volume, keeps)
                    if cost is not None and (best is None or cost < best[0]):
                        best = (cost, choice, columns, keeps)
        return best

    def cost(
        self, rows: RowChoice, columns: ColumnChoice, sum_volume: int, keeps: bool
    ) -> float | None:
        """Cycles for two products; None if the tile does not fit."""
        chunk, many = rows.rows, columns.count
        products = chunk * many
        weights = sum_volume * columns.total if keeps else 1
        if products > self.limits.accumulators:
            return None
        if products > 1 and products + min(chunk, many) + weights >= self.limits.registers:
            return None
        tiles = -(-columns.total // many)
        if chunk * columns.written * min(sum_volume, LEAST_SUMS) > 2 * self.limits.written_out:
            return None
        loads = 1 / many if keeps else 1 / many + 1 / chunk
        waits = min(4.0, IN_FLIGHT / products)
        cost = max(1.0, loads, waits) + LOAD_COST * loads
        left = rows.size % rows.chunk
        if left:
            cost *= 1 + 0.3 * left / rows.size  # the last tiles are smaller
        return cost * (0.95 + 0.05 * many * tiles / columns.total)

    def column_choices(self, keeps: bool) -> list[ColumnChoice]:
        """Blocks of columns: all at once, equal shares, or whole legs with loops around them."""
        what = self.what
        loops = self.merged(self.columns)
        total = volume(self.columns, what.sizes)
        found: list[ColumnChoice] = []
        if total <= 4 * self.limits.registers:
            offsets = pairs(loops, "right", "target")
            for blocks in range(1, total + 1):
                size = -(-total // blocks)
                if keeps and blocks > 1:
                    break
                if size > self.limits.accumulators or (
                    blocks > 1 and -(-total // (blocks - 1)) == size
                ):
                    continue
                cut = tuple(offsets[at : at + size] for at in range(0, total, size))
                found.append(ColumnChoice(size, total, cut, ()))
        if not found or not keeps:
            found += aligned_columns(loops, total, self.limits)
        return found

    def shape(
        self,
        choice: RowChoice,
        columns: ColumnChoice,
        rows: list[Loop],
        sums: list[Loop],
        keeps: bool,
    ) -> Shape:
        """Put the choice together, with the blocks of rows and the sums written out."""
        outer = tuple(
            loop for at, loop in enumerate(rows) if at not in (choice.chunked, choice.whole)
        )
        chunked = rows[choice.chunked] if choice.chunked is not None else Loop(1, 0, 0, 0)
        inner = pairs([rows[choice.whole]], "left", "target") if choice.whole is not None else HERE
        full = chunked.count // choice.chunk
        blocks: list[tuple[Loop, int]] = []
        if full:
            step = chunked * choice.chunk
            blocks.append((replace(step, count=full) if full > 1 else Loop(1, 0, 0, 0),
                           choice.chunk))  # fmt: skip
        if left := chunked.count - full * choice.chunk:
            at = chunked * (full * choice.chunk)
            blocks.append((replace(at, count=1), left))
        results = volume((*self.rows, *self.columns), self.what.sizes)
        # Results that do not fit the L1 cache beside the operands are better written once.
        cut = self.what.adds and choice.rows * columns.count < results <= WALK_VECTORS
        around, sums = self.walks(sums, choice.rows) if cut else ([], sums)
        written, loops = split_sums(sums, choice.rows * columns.written, self.limits)
        return Shape(
            (*around, *outer), chunked, tuple(blocks), inner, columns.blocks, columns.outer,
            written, loops, keeps,
        )  # fmt: skip

    def walks(self, sums: list[Loop], rows: int) -> tuple[list[Loop], list[Loop]]:
        """Sums that run outside all tiles, so that what the tiles of a block of rows read stays in
        the L1 cache; and the sums inside."""
        vectors = rows + volume(self.columns, self.what.sizes)
        outer, inner = list(sums), list[Loop]()
        while outer and vectors * outer[-1].count <= WALK_VECTORS:
            vectors *= outer[-1].count
            inner.insert(0, outer.pop())
        if outer:
            last = outer.pop()
            if last.of_samples:
                return [last], inner
            share = max(k for k in divisors(last.count) if k == 1 or k * vectors <= WALK_VECTORS)
            around, part = last.split(share)
            outer += [around] if around.count > 1 else []
            inner.insert(0, part)
        return outer, inner
