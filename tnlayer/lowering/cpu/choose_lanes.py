"""The pass that decides what lies in a vector: legs of the state, or samples.

Legs are better where enough of them survive the steps: a sample's state then stays in the first
cache, and few samples fill the processor. There are two ways to keep vectors whole while steps
contract legs. Either the state moves to other lanes between runs of steps::

    lanes (a b)  step  step  | move |  lanes (c d)  step  step         vector_phases.py

or steps themselves change the lanes as they multiply::

    lanes (a b)  step  step rotating a to c   lanes (c b)  step        lane_rotation.py

Both are searched for, in the same measure; the cheaper one is then held against samples as lanes,
by an estimate of cycles (compare_lanes_and_blocks.py).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from ...ir.plan import Plan
from ...ir.steps import BATCH
from ...passes.split_legs import find_splits, split_legs
from ...passes.stem import Stem, find_stem, reorder, state_after
from ..array_layout import Lanes, volume
from .compare_lanes_and_blocks import Setting, blocks_of, cycles
from .kernel_batch import kernel_batch
from .lane_rotation import cost_of_segments, find_rotations
from .schedule import CpuSchedule
from .vector_phases import find_segments, lanes_of_forward

# How much more an estimate may be and still be taken: estimates err by more, and small blocks and
# legs as lanes serve more batch sizes than the plan's.
SLACK = 1.15
# Weights of a step that the first cache holds beside a state.
WIDE = 4096


@dataclass(frozen=True, slots=True)
class _Walk:
    """A way to run a stem with legs as lanes.

    Arguments:
        order: numbers of its steps as they run.
        lanes: of each step by its result.
        stored: the order in which results are stored, where steps rotate lanes.
    """

    order: Sequence[int]
    lanes: Mapping[str, Lanes]
    stored: Mapping[str, Lanes]


def choose_lanes(scheduled: CpuSchedule) -> CpuSchedule:
    """Legs or samples as lanes, whichever is foreseen to be faster; the plan is a forward."""
    plan, cpu, width = scheduled.plan, scheduled.cpu, scheduled.width
    # A leg that is longer than a vector is seen as two, and the inner one can be a lane.
    split = split_legs(plan, find_splits(plan, width))
    stem = find_stem(split)
    if isinstance(stem, str):
        return _by_samples(scheduled, stem)
    walk = _find_walk(split, stem, width)
    if isinstance(walk, str):
        return _by_samples(scheduled, walk)
    setting = Setting(
        {**split.sizes, BATCH: 1}, width, split.itemsize, 4 if split.is_complex else 1,
        kernel_batch(plan.batch), cpu.threads, scheduled.wanted is not None,
    )  # fmt: skip
    walked = replace(stem, steps=tuple(stem.steps[number] for number in walk.order))
    costs = {block: cycles(walked, walk.lanes, block, setting) for block in blocks_of(setting)}
    # Small blocks serve all batch sizes near the plan's: a larger one has to pay.
    block = next(block for block in costs if costs[block] <= SLACK * min(costs.values()))
    of_samples = cycles(stem, {}, width, setting)
    if SLACK * of_samples < costs[block]:
        return _by_samples(
            scheduled,
            f"samples as lanes are foreseen to take {of_samples:.0f} cycles each at batch "
            f"{setting.batch}, legs as lanes {costs[block]:.0f}",
        )
    plan = reorder(split, stem, walk.order)
    return replace(scheduled, plan=plan, lanes=walk.lanes, block=block, stored=walk.stored)


def _by_samples(scheduled: CpuSchedule, reason: str) -> CpuSchedule:
    """Samples as lanes: a block is one vector of them."""
    return replace(scheduled, block=scheduled.width, reason=reason)


def _find_walk(plan: Plan, stem: Stem, width: int) -> _Walk | str:
    """The cheapest way with legs as lanes, or the reason why there is none."""
    segments = find_segments(stem, plan.sizes, width)
    # A complex vector has no load that repeats a part of it, and a rotation reads whole vectors of
    # weights for each of the state.
    if not plan.is_complex and not _has_wide_weights(stem, plan.sizes):
        rotated = find_rotations(stem, plan.sizes, width)
        if rotated is not None and (
            isinstance(segments, str)
            or rotated.cost < cost_of_segments(stem, segments, plan.sizes, width)
        ):
            return _Walk(rotated.order, rotated.lanes, rotated.stored)
    if isinstance(segments, str):
        return segments
    order = [number for segment in segments for number in segment.steps]
    return _Walk(order, lanes_of_forward(stem, segments), {})


def _has_wide_weights(stem: Stem, sizes: Mapping[str, int]) -> bool:
    """Whether a step has more weights than its state has entries and the first cache holds."""
    legs = stem.legs
    for step in stem.steps:
        if volume(step.weight.legs, sizes) > max(volume(legs, sizes), WIDE):
            return True
        legs = state_after(legs, step)
    return False
