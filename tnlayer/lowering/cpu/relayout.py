"""Moving a value to other lanes: copies, transpositions and permutations in registers.

Four ways, from the cheapest. Of a source with the lanes (c d)::

    to (c d)    copy        whole vectors
    to (a b)    transpose   no lane in common: squares of entries, log2(width) rounds of shuffles
    to (b d)    permute     d stays a lane: a network of shuffles (shuffle_network.py)
    else        gather      entry by entry, where lanes are too few for the others to pay
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from itertools import product

from ...hardware.cpu import ENTRY_MOVED, LOADED_OR_STORED, SHUFFLED, TileLimits
from ...ir.loops import At, For, Form, Gather, Permute, Statement, Transpose
from ..array_layout import Array, Sizes, is_run, packed, tail_lanes, volume
from ..loop_nest import Loop, Side, merge
from .register_tiles import Contraction, lower_contraction
from .shuffle_network import shuffles_needed

# Registers that a Permute may read: beyond, its code is long and they are spilled.
MOST_READ = 16


def lower_move(
    target: Array, source: Array, sizes: Sizes, width: int, limits: TileLimits
) -> tuple[Statement, ...]:
    """Statements that copy source to target; legs that the source lacks are repeated.

    Vectors are copied where both have the same lanes, transposed in registers where their lanes
    have no leg in common, and permuted in registers where they share some; what is too small for
    that is gathered entry by entry.
    """
    target, source, sizes = _with_full_runs(target, source, sizes, width)
    to, since = target.lanes or tail_lanes(target, sizes, width), _run(source, sizes, width)
    if source.conj != target.conj:
        # Only arithmetic can conjugate.
        plain = Contraction(target.with_lanes(()), source.with_lanes(()), None, sizes)
        return lower_contraction(plain, limits)
    # A vector of a state that has fewer lanes is filled with zeros: steps multiply whole vectors.
    padding = width if target.lanes and volume(to, sizes) < width else 0
    if set(to) <= set(source.legs) and is_run(source, to, sizes):
        if volume(to, sizes) == width:
            copy = Contraction(target.with_lanes(to), source.with_lanes(to), None, sizes)
            return lower_contraction(copy, limits)
        return _gather(target, source, to, sizes, padding)
    entries = volume(to, sizes) * volume(since, sizes)
    # A transposition costs as much for a part of a square as for all of it: a quarter pays.
    if not set(to) & set(since) and 4 * entries >= width * width:
        return _transpose(target, source, to, since, sizes, padding)
    return _permute(target, source, to, since, sizes, width, padding) or _gather(
        target, source, to, sizes, padding
    )


def _with_full_runs(
    target: Array, source: Array, sizes: Sizes, width: int
) -> tuple[Array, Array, Sizes]:
    """The same arrays with a leg seen as two where only a part of it fits a vector: what lies in
    memory as rows of 2 x 64 has runs of 2 x 8."""
    for which in (0, 1):
        array, other = (target, source) if which else (source, target)
        length = volume(tail_lanes(array, sizes, width), sizes)
        legs = [leg for leg, at in array.strides if at == length and sizes[leg] > 1]
        # A leg that is a lane on the other side must stay whole there.
        if array.lanes or not legs or legs[0] in other.lanes:
            continue
        leg = legs[0]
        inner = max(k for k in range(1, width + 1) if sizes[leg] % k == 0 and length * k <= width)
        if inner > 1:
            parts = (f"{leg}:outer", f"{leg}:inner")
            sizes = {**sizes, parts[0]: sizes[leg] // inner, parts[1]: inner}
            target, source = (_split(a, leg, parts, inner) for a in (target, source))
    return target, source, sizes


def _split(array: Array, leg: str, parts: tuple[str, str], inner: int) -> Array:
    """An array with a leg as two, if it has that leg."""
    strides: list[tuple[str, int]] = []
    for name, stride in array.strides:
        of_parts = ((parts[0], stride * inner), (parts[1], stride))
        strides += of_parts if name == leg else ((name, stride),)
    return replace(array, strides=tuple(strides))


def _run(source: Array, sizes: Sizes, width: int) -> tuple[str, ...]:
    """Legs of the source that lie in a row without gaps, at most a vector of them."""
    return source.lanes or tail_lanes(source, sizes, width)


def _transpose(
    target: Array,
    source: Array,
    to: tuple[str, ...],
    since: tuple[str, ...],
    sizes: Sizes,
    padding: int,
) -> tuple[Statement, ...]:
    legs = [leg for leg in target.legs if leg not in to and leg not in since]
    targets, sources = target.offsets(since, sizes), source.offsets(to, sizes)
    return nest(
        legs, target, source, sizes, "vector",
        lambda t, s: Transpose(t, s, targets, sources, padding),
    )  # fmt: skip


def _permute(
    target: Array,
    source: Array,
    to: tuple[str, ...],
    since: tuple[str, ...],
    sizes: Sizes,
    width: int,
    padding: int,
) -> tuple[Statement, ...]:
    """Vectors made of vectors in registers; () where that does not pay."""
    entering = [leg for leg in to if leg not in since]
    leaving = [leg for leg in since if leg not in to]
    # Each lane of the source must have a place in the target.
    if not since or not set(since) <= set(target.legs) or volume(entering, sizes) > MOST_READ:
        return ()
    lane_of, row_of = packed(since, sizes), packed(entering, sizes)
    rows: list[tuple[tuple[int, int], ...]] = []
    for index in indices(leaving, sizes):
        own = [index | inner for inner in indices(to, sizes)]
        rows.append(tuple((_at(row_of, where), _at(lane_of, where)) for where in own))
    sources = source.offsets(entering, sizes)
    made = Permute(
        At(target.buffer), At(source.buffer), target.offsets(leaving, sizes), sources,
        tuple(rows), padding,
    )  # fmt: skip
    # Counted with one register an entry, also where a complex vector takes two.
    wanted = [(*row, *([None] * (width - len(row)))) for row in rows]
    cost = SHUFFLED * shuffles_needed(len(sources), wanted)
    cost += LOADED_OR_STORED * (len(rows) + len(sources))
    if cost >= ENTRY_MOVED * sum(map(len, rows)):
        return ()
    legs = [leg for leg in target.legs if leg not in to and leg not in since]
    return nest(
        legs, target, source, sizes, "vector", lambda t, s: replace(made, target=t, source=s)
    )


def indices(legs: Sequence[str], sizes: Sizes) -> list[dict[str, int]]:
    """Each combination of indices, the last leg fastest."""
    ranges = (range(sizes[leg]) for leg in legs)
    return [dict(zip(legs, index, strict=True)) for index in product(*ranges)]


def _at(strides: Mapping[str, int], index: Mapping[str, int]) -> int:
    return sum(stride * index[leg] for leg, stride in strides.items())


def _gather(
    target: Array, source: Array, to: tuple[str, ...], sizes: Sizes, padding: int
) -> tuple[Statement, ...]:
    legs = [leg for leg in target.legs if leg not in to]
    offsets = source.offsets(to, sizes)
    return nest(legs, target, source, sizes, "scalar", lambda t, s: Gather(t, s, offsets, padding))


def nest(
    legs: Sequence[str],
    target: Array,
    source: Array,
    sizes: Sizes,
    form: Form,
    make: Callable[[At, At], Statement],
) -> tuple[Statement, ...]:
    """Loops over legs around one statement, neighbours that are one run in both merged."""
    # In the target's order, so that it is written from its first entry to its last; where both
    # sides go on where the inner loop ends, one loop does.
    by_stride = sorted(legs, key=lambda leg: (-target.stride(leg), -source.stride(leg)))
    loops = merge(
        Loop(sizes[leg], target.stride(leg), source.stride(leg))
        for leg in by_stride
        if sizes[leg] > 1
    )
    names = [f"i{number}" for number in range(len(loops))]

    def at(array: Array, side: Side) -> At:
        moves = [(name, loop.moves(side)) for name, loop in zip(names, loops, strict=True)]
        return At(array.buffer, array.offset, tuple(term for term in moves if term[1]), form)

    body: tuple[Statement, ...] = (make(at(target, "target"), at(source, "left")),)
    for name, loop in reversed(list(zip(names, loops, strict=True))):
        body = (For(name, loop.count, body),)
    return body
