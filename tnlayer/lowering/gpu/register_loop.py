"""A group of contractions as one thread loop, all values in the registers of each point.

A point holds of each value the entries of its register legs; the other legs are points. Values come
from arrays in memory and go to such; weights are read where they lie.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass, field, replace

from ...ir.loops import SAMPLE, At, Axis, Buffer, Statement, SumThreads, Threads, Tile, map_places
from ...ir.steps import BATCH, Contract, Operand, Value
from ..array_layout import Array, Sizes, packed, volume
from ..loop_nest import runs

# Columns of one tile: results that share what is read.
MOST_COLUMNS = 8


@dataclass(slots=True)
class RegisterLoop:
    """One thread loop as it grows.

    Arguments:
        points: legs that are points, the last one fastest.
        sizes: size of each leg, the batch's that of a block.
        prefix: put before the names of register arrays.
    """

    points: tuple[str, ...]
    sizes: Sizes
    prefix: str
    held: dict[str, Array] = field(default_factory=dict)
    buffers: list[Buffer] = field(default_factory=list)
    body: list[Statement] = field(default_factory=list)
    arrays: list[Array] = field(default_factory=list)

    def inner(self, legs: Sequence[str]) -> list[str]:
        """Those legs that are in registers."""
        return [leg for leg in legs if leg not in self.points and self.sizes[leg] > 1]

    def register(self, name: str, legs: Sequence[str]) -> Array:
        """A register array of a value with these legs."""
        buffer = f"{self.prefix}{name}"
        own = self.inner(legs)
        self.buffers.append(Buffer(buffer, volume(own, self.sizes), "register", value=name))
        return Array(buffer, tuple(packed(own, self.sizes).items()))

    def load(self, value: Value, source: Array) -> None:
        """Bring a value into registers; the fastest legs in memory are the fastest there."""
        own = sorted(self.inner(value.legs), key=lambda leg: -source.stride(leg))
        target = self.register(value.name, own)
        self.held[value.name] = target
        self.copy(target, source, own)

    def store(self, value: Value, target: Array) -> None:
        """Write a value from registers."""
        own = sorted(self.inner(value.legs), key=lambda leg: -target.stride(leg))
        self.copy(target, self.held[value.name], own)

    def copy(self, target: Array, source: Array, legs: Sequence[str]) -> None:
        rows = tuple(zip(source.offsets(legs, self.sizes), target.offsets(legs, self.sizes),
                         strict=True))  # fmt: skip
        self.body.append(Tile(self.at(target), self.at(source), None, rows))

    def product(self, step: Contract, weights: dict[str, Array]) -> None:
        """result = left * right in registers; a result without the batch is a partial's term.

        Arguments:
            step: the contraction; each operand is held, or one of ``weights``.
            weights: arrays in memory by name.
        """
        left, right = (self.array(operand, weights) for operand in (step.left, step.right))
        if step.left.value.name not in self.held:
            left, right = right, left
        target = self.register(step.result.name, step.result.legs)
        self.held[step.result.name] = target
        legs = self.inner(tuple(dict.fromkeys((*step.left.legs, *step.right.legs))))
        summed = [leg for leg in legs if leg not in step.result.legs]
        samples: tuple[Axis, ...] = ()
        if BATCH in summed:
            # One that is missing is in no sum.
            summed.remove(BATCH)
            legs.remove(BATCH)
            strides = left.stride(BATCH), right.stride(BATCH)
            samples = (Axis(self.sizes[BATCH], *strides, of_samples=True),)
        in_left = {leg for leg, _ in left.strides}
        columns = [leg for leg in legs if leg not in summed and leg not in in_left]
        each = [leg for leg in legs if leg not in summed and leg not in columns]
        # Columns beyond that are tiles of their own, one for each index.
        while volume(columns, self.sizes) > MOST_COLUMNS:
            each.append(columns.pop(0))
        sums = tuple(zip(left.offsets(summed, self.sizes), right.offsets(summed, self.sizes),
                         strict=True))  # fmt: skip
        wide = tuple(zip(right.offsets(columns, self.sizes), target.offsets(columns, self.sizes),
                         strict=True))  # fmt: skip
        for index in itertools.product(*(range(self.sizes[leg]) for leg in each)):
            at = list(zip(each, index, strict=True))
            moved = [
                replace(array, offset=array.offset + sum(array.stride(leg) * k for leg, k in at))
                for array in (target, left, right)
            ]
            to, a, b = (self.at(array) for array in moved)
            self.body.append(Tile(to, a, b, columns=wide, sums=sums, loops=samples))

    def array(self, operand: Operand, weights: dict[str, Array]) -> Array:
        name = operand.value.name
        array = self.held.get(name) or weights[name]
        return replace(array, conj=array.conj != operand.conj)

    def sum_points(self, value: Value, partial: Array) -> None:
        """Add a value without the batch, summed over all points, to a partial of the block."""
        held = self.held[value.name]
        count = volume(self.inner(value.legs), self.sizes)
        at = At(partial.buffer, partial.offset, form="scalar")
        samples = SAMPLE if BATCH in self.points and self.sizes[BATCH] > 1 else ""
        self.body.append(SumThreads(at, At(held.buffer, form="scalar"), count, samples))

    def add_points(self, value: Value, partial: Array) -> None:
        """Add a value to a partial that has an entry of its own for each point."""
        own = self.inner(value.legs)
        held = self.held[value.name]
        rows = tuple(zip(held.offsets(own, self.sizes), partial.offsets(own, self.sizes),
                         strict=True))  # fmt: skip
        self.body.append(Tile(self.at(partial), self.at(held), None, rows, adds=True))

    def at(self, array: Array) -> At:
        """A place whose terms are legs; they become indices in ``threads``."""
        terms = tuple((leg, array.stride(leg)) for leg in self.points if array.stride(leg))
        terms = tuple((leg, stride) for leg, stride in terms if self.sizes[leg] > 1)
        if terms:
            self.arrays.append(array)
        return At(array.buffer, array.offset, terms, "scalar", array.conj)

    def threads(self) -> Threads:
        """The loop: neighbouring point legs that are one run in all arrays become one index."""
        found = runs((leg for leg in self.points if self.sizes[leg] > 1), self.is_run)
        names = {run[-1]: SAMPLE if run[-1] == BATCH else f"i{n}" for n, run in enumerate(found)}
        indices = tuple((names[run[-1]], volume(run, self.sizes)) for run in found)

        def renamed(place: At) -> At:
            """Of a run only its fastest leg moves."""
            terms = tuple((names[leg], stride) for leg, stride in place.terms if leg in names)
            return replace(place, terms=terms)

        return Threads(indices, tuple(map_places(statement, renamed) for statement in self.body))

    def is_run(self, outer: str, inner: str) -> bool:
        """Whether two legs may be one index; samples have their own, for some may be missing."""
        return BATCH not in (outer, inner) and all(
            array.stride(outer) == array.stride(inner) * self.sizes[inner] for array in self.arrays
        )
