"""Chains: the stem of a plan, cut into segments that run in the registers of threads.

A stem is the row of steps through which one batched input becomes the output. A thread cannot hold
all of its states, so it is cut: within a segment the state stays in registers, between two it goes
through the block's memory, where the threads exchange it. Which steps are a segment is searched in
register_segments.py; lower_chain.py makes the loops::

    stem       x --0--1--2--3--4--> y            numbers of the plan's steps
    chain      x --[0 1 3]--[2 4]--> y           the plan in this order, one pair of [] a segment

A leg of a state that no thread holds as a whole is a *point* leg: its indices tell threads apart.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from ...hardware.gpu import Gpu
from ...ir.plan import Plan
from ...passes.stem import Stem, find_stem, reorder, state_after
from ...support.dtypes import DTYPES
from ..array_layout import Sizes, volume
from .register_segments import Limits, RegisterSegment, find_register_segments, with_fillers


@dataclass(frozen=True, slots=True)
class Chain:
    """A stem in the order of its segments.

    Arguments:
        plan: the forward plan in that order.
        stem: its stem.
        segments: each with the numbers of its steps.
        itemsize: bytes of an entry.
        stored: bytes of an entry of x and y.
        held: samples that a thread takes through a segment at once; with several of them each
            point reads its own weights once for all.
    """

    plan: Plan
    stem: Stem
    segments: tuple[RegisterSegment, ...]
    itemsize: int
    stored: int
    held: int = 1

    def steps_of(self, segment: RegisterSegment) -> list[str]:
        """Names of the results of a segment's steps."""
        return [self.stem.steps[number].name for number in segment.steps]


def points_of(chain: Chain, sizes: Sizes) -> list[int]:
    """Points of each segment that has registers, of one sample."""
    found, legs = list[int](), chain.stem.legs
    for segment in chain.segments:
        # A large one is a loop a step, each with points of its own (lower_steps.py).
        if not segment.large:
            found.append(volume([leg for leg in legs if leg not in segment.registers], sizes))
        for step in segment.steps:
            legs = state_after(legs, chain.stem.steps[step])
    return found


def owns_weights(stem: Stem, segments: Sequence[RegisterSegment], sizes: Sizes) -> bool:
    """Whether a point that meets a leg of a weight among the points meets it alone.

    Then it adds to entries of the weight's gradient that are its own. Else points would have to be
    summed in groups.
    """
    legs = stem.legs
    for segment in segments:
        points = {leg for leg in legs if leg not in segment.registers and sizes[leg] > 1}
        for number in segment.steps:
            # Points that differ in none of a weight's legs add to the same entries of its gradient.
            # All of them do: then it is one sum over threads. Some do: then it would be a sum for
            # each group.
            kept = set(stem.steps[number].kept) & points
            if not segment.large and kept and kept != points:
                return False
            legs = state_after(legs, stem.steps[number])
    return True


def adds_by_point(chain: Chain) -> bool:
    """Whether points add to entries of a weight's gradient that are their own: then samples that
    are worked on at once would meet there."""
    legs = chain.stem.legs
    for segment in chain.segments:
        points = {leg for leg in legs if leg not in segment.registers}
        for number in segment.steps:
            step = chain.stem.steps[number]
            if not segment.large and set(step.kept) & points:
                return True
            legs = state_after(legs, step)
    return False


def find_chain(
    plan: Plan,
    gpu: Gpu,
    *,
    trains: bool,
    stored: int | None = None,
    held: int = 1,
    alone: bool = False,
) -> Chain | None:
    """The plan's stem cut into segments for registers; None where it has none.

    Arguments:
        plan: a forward plan in the dtype of the arithmetic.
        gpu: whose threads hold the registers.
        trains: whether threads hold what a backward needs, or a forward.
        stored: bytes of an entry of x and y; None: those of the plan's dtype.
        held: samples that a thread takes through a segment at once.
        alone: whether a block has the registers of a multiprocessor to itself.
    """
    stem = find_stem(plan)
    if isinstance(stem, str):
        return None
    # Registers have 32 bits. A thread that holds several samples has each state as often.
    words = max(1, DTYPES[plan.dtype].itemsize // 4) * held
    stored = stored or DTYPES[plan.dtype].itemsize
    # States of several samples leave shared memory for one block only, which has more registers.
    together = gpu.kept * (3 if held > 1 or alone else 2) // 2 // words if trains else 0
    limits = Limits(gpu.registers // words, together, stored)
    # Legs that a weight shares with the state are points first, which takes fewer registers. If
    # points would then meet in groups (owns_weights), those legs have to be in registers.
    for keeps_points in (True, False):
        segments = find_register_segments(stem, plan.sizes, limits, keeps_points=keeps_points)
        segments = with_fillers(stem, segments, plan.sizes, limits, gpu.threads // 2)
        if not trains or owns_weights(stem, segments, plan.sizes):
            break
    # Nothing would stay in registers: the plan is as good step by step.
    if all(segment.large for segment in segments):
        return None
    order = [number for segment in segments for number in segment.steps]
    plan = reorder(plan, stem, order)
    # Numbers of steps follow their new order.
    ordered = replace(
        stem,
        steps=tuple(stem.steps[number] for number in order),
        waits=tuple(frozenset(order.index(k) for k in stem.waits[number]) for number in order),
    )
    renumbered = tuple(
        replace(segment, steps=tuple(order.index(number) for number in segment.steps))
        for segment in segments
    )
    return Chain(plan, ordered, renumbered, DTYPES[plan.dtype].itemsize, stored, held)
