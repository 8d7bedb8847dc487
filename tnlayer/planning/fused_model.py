"""The time model of a fused backend: one kernel walks each sample's state through all stem steps.

Not printed while no such backend can be built. Decision record 0008 says what is assumed and how
far that is from the kernels that were measured.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from tnlayer.device.op_times import OpTimes
from tnlayer.device.profile import Profile
from tnlayer.kernels.pair import Mask
from tnlayer.plan.adjoint import adjoint
from tnlayer.plan.counts import elements
from tnlayer.plan.plan import ITEMSIZES, Plan
from tnlayer.plan.steps import BATCH, Contract, Step, Value
from tnlayer.planning.time_model import Seconds

# Steps run at the best rate of a matrix product times this share: their weights sit in registers.
RATE_SHARE = 1.0
# Real operations that one entry of a state costs when its vector lanes change: a 16 x 16 transpose
# in registers takes 78 cycles, in which the multipliers do 15 operations an entry at that rate.
LANE_CHANGE = 15
# A state of one sample up to this many bytes is taken through several steps while a part of it sits
# in the first cache; larger ones go through the cache that has them.
GROUPED_BYTES = 256 * 1024
FIRST_CACHE = 16 * 1024


@dataclass(frozen=True, slots=True)
class _Work:
    """What one sample costs on one thread."""

    operations: float
    seconds_of_traffic: float

    def __add__(self, other: _Work) -> _Work:
        return _Work(
            self.operations + other.operations, self.seconds_of_traffic + other.seconds_of_traffic
        )


def fused_seconds(plan: Plan, mask: Mask, batch: int, profile: Profile) -> Seconds:
    """Predicted time of a forward and backward in whole kernels, the branch as calls beside them.

    Arguments:
        plan: a forward plan.
        mask: for each input of the plan, whether its gradient is wanted.
        batch: samples of a call.
        profile: the device's rates.
    """
    stem = stem_seconds(plan, mask, batch, profile)
    times = OpTimes(profile, plan.dtype)
    branch = sum(_call_seconds(plan, step, times) for step in plan.branch_steps)
    forward = stem.forward + branch + times.call["forward"]
    if not any(mask):
        return Seconds(stem.forward + branch)
    # Each contraction gives two in the backward.
    return Seconds(forward, stem.backward + 2 * branch + times.call["backward"])


def stem_seconds(plan: Plan, mask: Mask, batch: int, profile: Profile) -> Seconds:
    """Predicted time of the kernels alone: what touches the samples; arguments as above.

    Threads share the samples. A sample costs its operations, the reading and writing of its state
    at each step, and a change of lanes at the start, once between, and at the end; all samples
    together cost at least the reading of x and the writing of y. The backward makes all states
    again, keeping nothing, and does the steps of the adjoint plan.
    """
    forward = _sample_work(plan, plan.stem_steps, profile)
    spent = _kernel_seconds(plan, forward, batch, profile, passes=1)
    wanted = [value.name for value, asked in zip(plan.inputs, mask, strict=True) if asked]
    if not wanted:
        return Seconds(spent)
    steps = [step for step in adjoint(plan, wanted).steps if _is_batched(step)]
    backward = forward + _sample_work(plan, steps, profile)
    return Seconds(spent, _kernel_seconds(plan, backward, batch, profile, passes=2))


def _kernel_seconds(plan: Plan, work: _Work, batch: int, profile: Profile, passes: int) -> float:
    """Time of one kernel over all samples; each pass reads and writes a state of the ports."""
    real = ITEMSIZES[plan.dtype] // (2 if plan.is_complex else 1)
    rate = RATE_SHARE * profile.flops_per_second * ITEMSIZES[profile.dtype] / real
    sample = work.operations / (rate / profile.threads) + work.seconds_of_traffic
    ports = [*plan.ports, plan.outputs[0].operand.value]
    moved = passes * sum(plan.bytes_of(value).at(batch) for value in ports)
    return max(-(-batch // profile.threads) * sample, moved * profile.stream.per_unit(moved))


def _sample_work(plan: Plan, steps: Iterable[Step], profile: Profile) -> _Work:
    """What the steps of one sample cost, a change of lanes at the ends and at the largest state."""
    operations, traffic, largest = 0, 0.0, 0
    for step in steps:
        counts = plan.counts_of(step)
        operations += counts.real_flops.per_sample
        states = [plan.bytes_of(value).per_sample for value in _states(step)]
        largest = max([largest, *states])
        for state in states:
            traffic += state * _traffic(state, profile)
    ports = [*plan.ports, plan.outputs[0].operand.value]
    ends = sum(elements(value.legs, plan.sizes).per_sample for value in ports)
    operations += LANE_CHANGE * (ends + largest // plan.itemsize)
    return _Work(operations, traffic)


def _traffic(state: int, profile: Profile) -> float:
    """Seconds for one byte of a state on one thread."""
    if state <= GROUPED_BYTES:
        return profile.stream.per_unit(FIRST_CACHE)
    # Measured with all threads at once.
    return profile.stream.per_unit(2 * state) * profile.threads


def _states(step: Step) -> list[Value]:
    """The batched arrays that a step reads and writes."""
    values = [operand.value for operand in step.operands] + [step.result]
    return [value for value in values if BATCH in value.legs]


def _is_batched(step: Step) -> bool:
    return bool(_states(step))


def _call_seconds(plan: Plan, step: Step, times: OpTimes) -> float:
    """One step on parameters, as a call of its own."""
    if not isinstance(step, Contract):
        return times.call["copy"]
    left, right = set(step.left.legs), set(step.right.legs)
    summed = (left & right) - set(step.result.legs)

    def entries(legs: Iterable[str]) -> int:
        return elements(legs, plan.sizes).fixed

    return times.mm(entries(left - right), entries(right - left), entries(summed))
