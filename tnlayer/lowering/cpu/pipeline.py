"""The CPU's pipeline: a forward plan becomes the loop programs of its forward and its backward."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from functools import lru_cache, partial
from math import inf

from ...hardware.cpu import Cpu
from ...ir.counts import elements
from ...ir.loops import Program
from ...ir.plan import Plan
from ...ir.plan_parts import Memory
from ...ir.steps import BATCH, Step
from ...passes.chain import Stem, find_stem, reorder, state_after
from ...passes.rematerialise import backward_without_saved
from ...passes.split_legs import find_splits, split_legs
from ...support.dtypes import DTYPES
from ..arrays import Lanes, volume
from .choose_vectors import MOST_SAMPLES, Setting, blocks_of, cycles
from .fuse import Placement, fuse
from .lane_rotation import cost_of_segments, find_turns, turns_of_backward
from .vector_phases import find_segments, lanes_of_backward, lanes_of_forward

# Entries of one array, whose offsets are ints, and of all that a thread keeps: 2 GiB of float32.
MOST_ENTRIES = 2**30
MOST_ROOM = 2**29
# How much more an estimate may be and still be taken.
SLACK = 1.15
# Weights of a step that the first cache holds beside a state.
WIDE = 4096
# Batch sizes that kernels are made for: few samples, or many, and where many begin.
FEW, MANY, MANY_FROM = 1, 256, 16
# Steps of a backward beyond which the code of each gets shorter, and the least share that is left.
MANY_STEPS, LEAST_SHARE = 56, 8


@dataclass(frozen=True, slots=True)
class Scheduled:
    """A forward plan made ready for fusing.

    Arguments:
        plan: its stem in the order in which it will run.
        lanes: lanes of each stem step by its result; empty where samples are the lanes.
        block: samples that are taken at once.
        reason: why samples are the lanes; "" where legs are.
        stored: the order in which each result's lanes are stored, where steps turn lanes.
    """

    plan: Plan
    lanes: Mapping[str, Lanes]
    block: int
    reason: str
    stored: Mapping[str, Lanes] = field(default_factory=dict)


@lru_cache(maxsize=256)
def schedule_lanes(plan: Plan, cpu: Cpu, *, backward: bool = False) -> Scheduled:
    """Legs or samples as lanes, whichever is foreseen to be faster for few or for many samples.

    Arguments:
        plan: a forward plan.
        cpu: what is scheduled for.
        backward: whether the lanes of the backward are wanted; they may be others.
    """
    plan = _in_arithmetic(plan)
    width = cpu.width(plan.dtype)
    samples = partial(Scheduled, plan, {}, width)
    split = split_legs(plan, find_splits(plan, width))
    stem = find_stem(split)
    if isinstance(stem, str):
        return samples(stem)
    segments = find_segments(stem, split.sizes, width)
    # A complex vector has no load that repeats a part of it.
    turned = None if split.is_complex else find_turns(stem, split.sizes, width)
    if turned is not None and _has_wide_weights(stem, split.sizes):
        turned = None  # a turn reads whole vectors of weights for each of the state
    cost = inf
    if not isinstance(segments, str):
        cost = cost_of_segments(stem, segments, split.sizes, width)
    stored: Mapping[str, Lanes] = {}
    if turned is not None and turned.cost < cost:
        order, lanes, stored = turned.order, turned.lanes, turned.stored
    elif isinstance(segments, str):
        return samples(segments)
    else:
        order = [number for segment in segments for number in segment.steps]
        lanes = lanes_of_forward(stem, segments)
    setting = Setting(
        {**split.sizes, BATCH: 1}, width, split.itemsize, 4 if split.is_complex else 1,
        kernel_batch(plan.batch), cpu.threads, backward,
    )  # fmt: skip
    walked = replace(stem, steps=tuple(stem.steps[number] for number in order))
    costs = {block: cycles(walked, lanes, block, setting) for block in blocks_of(setting)}
    # Small blocks serve all batch sizes near the plan's: a larger one has to pay.
    block = next(block for block in costs if costs[block] <= SLACK * min(costs.values()))
    of_samples = cycles(stem, {}, width, setting)
    if SLACK * of_samples < costs[block]:
        return samples(
            f"samples as lanes are foreseen to take {of_samples:.0f} cycles each at batch "
            f"{setting.batch}, legs as lanes {costs[block]:.0f}"
        )
    return Scheduled(reorder(split, stem, order), lanes, block, "", stored)


def _has_wide_weights(stem: Stem, sizes: Mapping[str, int]) -> bool:
    """Whether a step has more weights than its state has entries and the first cache holds."""
    legs = stem.legs
    for step in stem.steps:
        if volume(step.weight.legs, sizes) > max(volume(legs, sizes), WIDE):
            return True
        legs = state_after(legs, step)
    return False


def kernel_batch(batch: int) -> int:
    """The batch size that stands for all with the same kernels: a layer compiles two at most."""
    return MANY if batch >= MANY_FROM else FEW


def can_fuse(plan: Plan, cpu: Cpu) -> str:
    """Why a forward plan cannot become fused kernels, as a text; "" if it can.

    Every kind of step can be fused; sizes set the bounds: an offset has 32 bits, and each thread
    keeps the states of a block of samples and vectors of partial sums.

    Arguments:
        plan: a forward plan.
        cpu: what the kernels would be made for.
    """
    width = cpu.width(DTYPES[plan.dtype].arithmetic)
    # Most plans fit in any case; whether legs can be lanes is a search.
    if not _does_not_fit(plan, width, max(width, MOST_SAMPLES)):
        return ""
    block = max(schedule_lanes(plan, cpu, backward=back).block for back in (False, True))
    return _does_not_fit(plan, width, block)


def _does_not_fit(plan: Plan, width: int, block: int) -> str:
    """Which bound a plan breaks where so many samples run at once; "" if none."""
    states = weights = 0
    for step in plan.steps:
        if not _is_batched(step):
            continue
        entries = elements(step.result.legs, plan.sizes).at(block)
        if entries > MOST_ENTRIES:
            return (
                f"step {step.result.name} makes {entries} entries for a block of {block} samples; "
                f"kernels take at most {MOST_ENTRIES}"
            )
        states += entries
        for operand in step.operands:
            if BATCH not in operand.legs:
                weights += elements(operand.legs, plan.sizes).fixed
    needed = states + weights * width
    if needed > MOST_ROOM:
        return (
            f"the backward needs room for {needed} entries a thread ({states} of states, {weights} "
            f"weights with {width} partial sums each); kernels take at most {MOST_ROOM}"
        )
    return ""


def forward_program(plan: Plan, cpu: Cpu, name: str = "forward") -> Program:
    """The program of a forward plan."""
    scheduled = schedule_lanes(plan, cpu)
    return _fuse(scheduled.plan, scheduled, cpu, name)


def backward_program(
    plan: Plan, wanted: Iterable[str], cpu: Cpu, name: str = "backward"
) -> Program:
    """The program that gives the gradients of a forward plan's inputs."""
    scheduled = schedule_lanes(plan, cpu, backward=True)
    forward = scheduled.plan
    backward = backward_without_saved(forward, wanted)
    lanes, stored = scheduled.lanes, scheduled.stored
    if stored:
        lanes, stored = turns_of_backward(forward, backward, lanes, stored)
    elif lanes:
        again = {step.result.name for step in forward.steps}
        gradients = {
            step.result.name: step.operands[0].value.name
            for step in backward.steps
            if step.result.name not in again and _is_batched(step)
        }
        last = forward.outputs[0].operand.value.name
        lanes = {**lanes, **lanes_of_backward(lanes, gradients, last)}
    cpu = replace(cpu, written_out=_written_out(cpu, len(backward.steps)))
    return _fuse(backward, replace(scheduled, lanes=lanes, stored=stored), cpu, name)


def _written_out(cpu: Cpu, steps: int) -> int:
    """Products in the code of each step of a backward: it has five times the steps of a forward.
    Half the code for each, and less where there are very many, keeps the compiler under seconds."""
    share = min(1.0, MANY_STEPS / max(1, steps)) ** 2
    return max(cpu.written_out // LEAST_SHARE, int(cpu.written_out / 2 * share))


def _is_batched(step: Step) -> bool:
    return any(BATCH in operand.legs for operand in step.operands)


def _fuse(plan: Plan, scheduled: Scheduled, cpu: Cpu, name: str) -> Program:
    width = cpu.width(plan.dtype)
    lanes = scheduled.lanes or {step.result.name: (BATCH,) for step in plan.steps}
    placement = Placement(scheduled.block, lanes, scheduled.stored)
    machine = cpu.machine(plan.dtype)
    return fuse(plan, placement, name=name, width=width, machine=machine)


def _in_arithmetic(plan: Plan) -> Plan:
    """In the dtype of the arithmetic, and without what a memory limit asked for: kernels keep no
    value of the size of the batch at all."""
    return replace(plan, dtype=DTYPES[plan.dtype].arithmetic, memory=Memory())
