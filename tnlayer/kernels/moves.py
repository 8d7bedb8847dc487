"""Moving a value to other lanes: copies, transpositions in registers, and gathers for the rest."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from tnlayer.kernels.arrays import Array, Sizes, is_run, tail_lanes, volume
from tnlayer.kernels.loops import At, For, Form, Gather, Statement, Transpose
from tnlayer.kernels.tile_shapes import Machine
from tnlayer.kernels.tiles import Contraction, lower_contraction


def lower_move(
    target: Array, source: Array, sizes: Sizes, width: int, machine: Machine
) -> tuple[Statement, ...]:
    """Statements that copy source to target; legs that the source lacks are repeated.

    Whole vectors are copied where both have the same lanes, and transposed in registers where their
    lanes have no leg in common; everything else is gathered entry by entry.
    """
    to, since = target.lanes or tail_lanes(target, sizes, width), _run(source, sizes, width)
    full = volume(to, sizes) == width
    if source.conj != target.conj:
        # Only arithmetic can conjugate.
        plain = Contraction(target.with_lanes(()), source.with_lanes(()), None, sizes)
        return lower_contraction(plain, machine)
    if full and set(to) <= set(source.legs) and is_run(source, to, sizes):
        copy = Contraction(target.with_lanes(to), source.with_lanes(to), None, sizes)
        return lower_contraction(copy, machine)
    if full and volume(since, sizes) == width and not set(to) & set(since):
        return _transpose(target, source, to, since, sizes)
    return _gather(target, source, to, sizes, width)


def _run(source: Array, sizes: Sizes, width: int) -> tuple[str, ...]:
    """Legs of the source that fill a vector without gaps."""
    if source.lanes and volume(source.lanes, sizes) == width:
        return source.lanes
    return tail_lanes(source, sizes, width)


def _transpose(
    target: Array, source: Array, to: tuple[str, ...], since: tuple[str, ...], sizes: Sizes
) -> tuple[Statement, ...]:
    legs = [leg for leg in target.legs if leg not in to and leg not in since]
    targets, sources = target.offsets(since, sizes), source.offsets(to, sizes)
    return nest(
        legs, target, source, sizes, "vector", lambda t, s: Transpose(t, s, targets, sources)
    )


def _gather(
    target: Array, source: Array, to: tuple[str, ...], sizes: Sizes, width: int
) -> tuple[Statement, ...]:
    legs = [leg for leg in target.legs if leg not in to]
    offsets = source.offsets(to, sizes)
    padding = width if target.lanes else 0
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
    loops: list[tuple[int, int, int]] = []
    by_stride = sorted(legs, key=lambda leg: (-target.stride(leg), -source.stride(leg)))
    for leg in by_stride:
        count, a, b = sizes[leg], target.stride(leg), source.stride(leg)
        if count == 1:
            continue
        if loops and loops[-1][1:] == (a * count, b * count):
            loops[-1] = (loops[-1][0] * count, a, b)
        else:
            loops.append((count, a, b))
    names = [f"i{number}" for number in range(len(loops))]

    def at(array: Array, which: int) -> At:
        terms = ((n, loop[which]) for n, loop in zip(names, loops, strict=True) if loop[which])
        return At(array.buffer, array.offset, tuple(terms), form)

    body: tuple[Statement, ...] = (make(at(target, 1), at(source, 2)),)
    for name, loop in reversed(list(zip(names, loops, strict=True))):
        body = (For(name, loop[0], body),)
    return body
