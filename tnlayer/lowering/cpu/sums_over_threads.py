"""Sums over samples, as the gradients of weights are: over blocks, then over threads and lanes.

Threads work on blocks of samples side by side. Each adds to vectors of partial sums of its own, so
that none waits for another, and these are added up once a call, in the order of the threads. Where
samples are the lanes, the lanes of a vector are added up, too.

A sum of n terms in one variable loses about log2(n) digits, for each term is rounded to the digits
of the whole. With runs that are about as long as there are runs it loses half as many, so long sums
are carried to second ones::

    blocks   1 2 3 4 | 5 6 7 8 | 9 ...     of one thread
    sums     ------->  ------->            cleared after each run
    carried          +         +           added to once a run

codegen/cpp/sums_over_threads.py prints them.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from ...ir.loops import At, Buffer, Fill, LoopProgram, Statement, SumPartials
from ..array_layout import Array, Lanes, Sizes, in_lanes, volume
from .relayout import nest

# No run is shorter than this, in samples and in blocks, for carrying reads and writes all sums: as
# much as one or two blocks do.
LEAST_SAMPLES, LEAST_BLOCKS = 32, 16


def partial_sums(
    name: str, legs: Sequence[str], lanes: Lanes, sizes: Sizes, width: int
) -> tuple[Array, Buffer]:
    """The vectors in which a thread sums a value up, and their buffer.

    Arguments:
        name: of the value.
        legs: of the value.
        lanes: of the step that makes it: legs, or the samples.
        sizes: of all legs.
        width: entries of a vector.
    """
    # A vector each for all other legs: whichever of its lanes are legs of the value, all are there.
    packed, size = in_lanes(
        f"{name}_p", [leg for leg in legs if leg not in lanes], (), sizes, width
    )
    strides = tuple((leg, stride * width) for leg, stride in packed.strides)
    partial = Array(packed.buffer, strides, lanes=lanes)
    return partial, Buffer(partial.buffer, size * width, "partial", value=name)


def sum_over_threads(
    target: Array, partial: Array, lanes: Lanes, sizes: Sizes
) -> tuple[Statement, ...]:
    """The target as the sum of the partial sums of all threads.

    Arguments:
        target: where the value lies.
        partial: as ``partial_sums`` gives it.
        lanes: of its vectors; lanes that are no legs of the target fall on one entry.
        sizes: of all legs.
    """
    offsets = target.offsets(lanes, sizes)
    body = nest(partial.legs, target, partial, sizes, "scalar",
                lambda t, s: SumPartials(t, s, offsets))  # fmt: skip
    clear = Fill(At(target.buffer, target.offset, form="scalar"), volume(target.legs, sizes))
    return (clear, *body)


def carry_sums(program: LoopProgram) -> LoopProgram:
    """Say after how many blocks at the soonest sums over samples are carried, if there are any."""
    if not program.size_of("partial"):
        return program
    return replace(program, carried=max(LEAST_BLOCKS, LEAST_SAMPLES // program.block))
