"""The time model of compiled kernels: what each step of a call costs, counted from the plan.

A kernel takes block after block of samples through all steps, so a call costs nothing but its
start. What bounds a step instead is counted here: multiply-adds of whole vectors, what is loaded
and stored for them, lines that come from a farther cache, moves to other lanes, and vectors of
partial sums of weight gradients, which every thread clears, fills and adds up. ``COSTS`` says what
each of these costs; it was fitted to measured kernels.

Costs are counted in three units, each of which the device's profile has measured: what the
processor does is counted in multiply-adds of vectors, what comes from beyond its own caches in
lines of a copy there, and what starts a call in calls of torch. So the costs are those of the
kernels, and the profile is the machine's.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, fields, replace

from ..hardware.cpu import FIRST_CACHE, SECOND_CACHE, Cpu
from ..hardware.profile.op_times import OpTimes
from ..hardware.profile.profile import LINE, Profile
from ..ir.counts import elements
from ..ir.cuts import batched_steps
from ..ir.plan import Plan
from ..ir.steps import (
    BATCH,
    Add,
    Contract,
    Diagonal,
    Embed,
    Expand,
    Reduce,
    Scatter,
    Select,
    Step,
    Value,
    owner_of,
)
from ..lowering.array_layout import Lanes
from ..lowering.calls.training_schedules import Mask, wanted_names
from ..lowering.cpu.pipeline import differentiate, schedule_lanes
from ..lowering.cpu.schedule import CpuSchedule
from ..support.dtypes import DTYPES
from .torch_calls import Seconds, with_autograd


@dataclass(frozen=True, slots=True)
class Costs:
    """What each count costs: in multiply-adds of whole vectors, those of ``FAR`` in lines that a
    core copies beyond its own caches, those of ``STARTS`` in calls of torch.

    Arguments:
        product: a multiply-add of vectors, from registers.
        store: a vector to the first cache.
        weight: a line of weights that no cache of a core holds; each block reads it anew.
        second: a line of states and weights of a step that the first cache does not hold.
        moved: a vector that changes its lanes in registers.
        partial: a vector of partial sums that a sample adds to, in the caches of a core.
        far_partial: a line of such sums beyond them.
        cleared: a line of partial sums, cleared and summed up at the end, once a call and thread.
        step: the start of a step for a block of samples.
        branch: a multiply-add of steps on parameters, which fill vectors badly.
        branch_step: the start of such a step, and its moves.
        forward, backward: the start of a call.
    """

    product: float = 1.15
    store: float = 0.83
    weight: float = 2.13
    second: float = 0.15
    moved: float = 20.4
    partial: float = 5.8
    far_partial: float = 1.5
    cleared: float = 4.1
    step: float = 21.0
    branch: float = 1.5
    branch_step: float = 1560.0
    forward: float = 5.6
    backward: float = 8.7


# Fitted to 369 timings of 27 networks on two machines of two cores with 512-bit vectors
# (topologies, random chains; 1 to 256 samples; forward, and forward and backward; float32), with
# errors of 8 and 10 percent in the median on each and 35 and 38 in the worst tenth;
# docs/decisions/0010 tells those of networks left out. Several counts stand for what tiles really
# wait for: these are no cycles. Loads, x and y, which are prefetched, and the start of threads cost
# nothing that could be told.
COSTS = Costs()
# Entries that come from 16 bits and go back, in multiply-adds; as MERA and TT layers of 4,096
# features took 0.92 to 1.06 of float32's time, and butterflies 0.78 to 1.13.
WIDENED, NARROWED = 2.0, 4.0
FAR = ("weight", "far_partial", "cleared")
STARTS = ("forward", "backward")
COST_NAMES: tuple[str, ...] = tuple(one.name for one in fields(Costs))
Counted = dict[str, float]


@dataclass(slots=True)
class Work:
    """What a kernel does: for one block of samples by step, once a call, and for all samples.

    Arguments:
        block: samples of a block.
        samples: for each step that touches samples what it counts.
        once: what is counted once a call on one thread, by step; of a step that sums over samples
            the start of the sum over threads.
        owners: the forward step that each step belongs to.
        cleared: lines of partial sums of a thread.
    """

    block: int
    samples: dict[str, Counted] = field(default_factory=dict[str, Counted])
    once: dict[str, Counted] = field(default_factory=dict[str, Counted])
    owners: dict[str, str] = field(default_factory=dict[str, str])
    cleared: float = 0.0


def fused_seconds(
    plan: Plan,
    mask: Mask,
    batch: int,
    profile: Profile,
    cpu: Cpu,
    costs: Costs = COSTS,
    works: Sequence[Work] | None = None,
) -> Seconds:
    """Predicted time of a forward and backward in compiled kernels, through Python and autograd.

    Arguments:
        plan: a forward plan that can be fused.
        mask: for each input of the plan, whether its gradient is wanted.
        batch: samples of a call.
        profile: the device's rates.
        cpu: what the kernels are made for.
        costs: what each count costs.
        works: what ``count_works`` found before; None: it is counted now.
    """
    found = kernel_seconds(plan, mask, batch, profile, cpu, costs, works)
    if not any(mask):
        return found
    return with_autograd(
        found.forward, found.backward, len(plan.inputs), profile_times(plan, profile)
    )


def kernel_seconds(
    plan: Plan,
    mask: Mask,
    batch: int,
    profile: Profile,
    cpu: Cpu,
    costs: Costs = COSTS,
    works: Sequence[Work] | None = None,
) -> Seconds:
    """As ``fused_seconds``, without what autograd adds."""
    ahead, *back = count_works(plan, mask, cpu) if works is None else works
    seconds = cost_seconds(plan, profile, cpu, costs)
    converted = _converted_seconds(plan, mask, batch, profile, cpu)
    forward = _total(_call_counts(ahead, batch, profile.threads), seconds)
    first = forward + seconds.forward + converted.forward
    if not back:
        return Seconds(first)
    backward = _total(_call_counts(back[0], batch, profile.threads), seconds)
    return Seconds(first, backward + seconds.backward + converted.backward)


def fused_step_seconds(
    plan: Plan,
    mask: Mask,
    batch: int,
    profile: Profile,
    cpu: Cpu,
    costs: Costs = COSTS,
    works: Sequence[Work] | None = None,
) -> dict[str, float]:
    """The share of each step in ``fused_seconds``, with its part of the backward.

    By the name of the forward step's result, those on parameters among them; "" has what belongs to
    no step: the start of calls, x and y, vectors of partial sums.
    """
    seconds = cost_seconds(plan, profile, cpu, costs)
    works = count_works(plan, mask, cpu) if works is None else works
    found = dict.fromkeys((step.result.name for step in plan.steps), 0.0)
    for work in works:
        turns = _turns(work, batch, profile.threads)
        for group, times in ((work.samples, turns), (work.once, 1.0)):
            for name, counted in group.items():
                owner = work.owners.get(name, "")
                if owner in found:
                    found[owner] += times * _total(counted, seconds)
    whole = fused_seconds(plan, mask, batch, profile, cpu, costs, works).total
    rest = whole - sum(found.values())
    return found | {"": rest}


def cost_seconds(plan: Plan, profile: Profile, cpu: Cpu, costs: Costs = COSTS) -> Costs:
    """What each count costs on a device, in seconds.

    Arguments:
        plan: whose kernels they are; of its dtype.
        profile: the device's rates.
        cpu: what the kernels are made for.
        costs: in the units of ``Costs``.
    """
    units = dict.fromkeys(COST_NAMES, vector_seconds(plan, profile, cpu))
    units |= dict.fromkeys(FAR, profile.far_line) | dict.fromkeys(STARTS, profile.started)
    return Costs(**{name: unit * getattr(costs, name) for name, unit in units.items()})


def start_seconds(profile: Profile, costs: Costs = COSTS) -> Seconds:
    """What a forward and a backward of kernels cost before any work is done."""
    return Seconds(profile.started * costs.forward, profile.started * costs.backward)


def vector_seconds(plan: Plan, profile: Profile, cpu: Cpu) -> float:
    """Seconds of one multiply-add of vectors on one thread, where all threads do the same.

    A profile without compiled multiply-adds tells the best rate of a matrix product, which is
    slower where torch's library does not use all that the processor has.
    """
    if profile.multiply_add is not None:
        return profile.multiply_add * (2 if plan.is_complex else 1)  # a complex one is a pair
    entries = cpu.vector_bytes // DTYPES[profile.dtype].itemsize
    return 2 * entries * profile.threads / profile.flops_per_second


def _converted_seconds(plan: Plan, mask: Mask, batch: int, profile: Profile, cpu: Cpu) -> Seconds:
    """Arguments of 16 bits become float32 and back, parameters once a call, samples by threads."""
    if not DTYPES[plan.dtype].is_stored_only:
        return Seconds(0.0)
    second = vector_seconds(plan, profile, cpu) / cpu.width(DTYPES[plan.dtype].arithmetic)

    def seconds(values: Iterable[Sequence[str]], each: float) -> float:
        shares = (
            elements(legs, plan.sizes).at(batch) / (profile.threads if BATCH in legs else 1)
            for legs in values
        )
        return second * each * sum(shares)

    inputs, y = [value.legs for value in plan.inputs], plan.outputs[0].operand.value.legs
    wanted = [legs for legs, asked in zip(inputs, mask, strict=True) if asked]
    return Seconds(
        seconds(inputs, WIDENED) + seconds([y], NARROWED),
        seconds([*inputs, y], WIDENED) + seconds(wanted, NARROWED),
    )


def profile_times(plan: Plan, profile: Profile) -> OpTimes:
    """The device's operations in the dtype of a plan."""
    return OpTimes(profile, plan.dtype)


def _turns(work: Work, batch: int, threads: int) -> float:
    """How many blocks the busiest thread takes."""
    blocks = -(-batch // work.block)
    return float(-(-blocks // threads))


def _call_counts(work: Work, batch: int, threads: int) -> Counted:
    """All counts of a call on its busiest thread."""
    turns = _turns(work, batch, threads)
    active = min(threads, -(-batch // work.block))
    found: Counted = {"cleared": work.cleared * (1 + active) / 2}
    for group, times in ((work.samples, turns), (work.once, 1.0)):
        for counted in group.values():
            _add(found, counted, times)
    return found


def _add(total: Counted, counted: Mapping[str, float], times: float = 1.0) -> None:
    for name, count in counted.items():
        total[name] = total.get(name, 0.0) + times * count


def _total(counted: Mapping[str, float], seconds: Costs) -> float:
    return sum(getattr(seconds, name) * count for name, count in counted.items())


# -- counting ------------------------------------------------------------------------------------


def count_works(plan: Plan, mask: Mask, cpu: Cpu) -> tuple[Work, ...]:
    """What the forward kernel and, if gradients are wanted, the backward kernel of a plan do."""
    forward, wanted = schedule_lanes(plan, cpu), wanted_names(plan, mask)
    if not wanted:
        return (count_work(forward),)
    backward = replace(schedule_lanes(plan, cpu, backward=True), wanted=wanted)
    return count_work(forward), count_work(backward)


def count_work(scheduled: CpuSchedule) -> Work:
    """What a kernel does; that of a backward makes each sample's states again.

    Arguments:
        scheduled: a forward plan with its lanes, and the wanted gradients of a backward.
    """
    scheduled = differentiate(scheduled)
    return _Counter(scheduled.plan, scheduled, scheduled.cpu).work()


class _Counter:
    """Counts the steps of one program, as lowering/cpu/lower_steps.py lowers them."""

    def __init__(self, plan: Plan, scheduled: CpuSchedule, cpu: Cpu) -> None:
        self.plan, self.lanes, self.stored = plan, scheduled.lanes, scheduled.stored
        lanes = scheduled.lanes
        self.width = cpu.width(plan.dtype)
        self.block = scheduled.block
        self.sizes = {**plan.sizes, BATCH: self.block}
        # A complex multiply-add is four, of vectors that are pairs.
        self.factor = 4.0 if plan.is_complex else 1.0
        self.vector_bytes = self.width * plan.itemsize
        # Lanes of each value made so far, and to which it was moved besides.
        self.homes: dict[str, Lanes] = {}
        self.moved: set[tuple[str, Lanes]] = set()
        self.part: dict[str, str] = {}
        owners = {step.result.name: owner_of(step) for step in plan.steps}
        self.found = Work(self.block, owners=owners)
        sums = sum(
            self.vectors(step.result.legs, lanes.get(step.result.name, (BATCH,)))
            for step in batched_steps(plan)
            if BATCH not in step.result.legs
        )
        self.far_sums = sums * self.vector_bytes > SECOND_CACHE
        weights = sum(self.weight_entries(step) for step in batched_steps(plan))
        self.far_weights = weights * plan.itemsize > SECOND_CACHE

    def work(self) -> Work:
        """All steps, then what leaves."""
        plan = self.plan
        for value in plan.inputs:
            self.part[value.name] = "samples" if BATCH in value.legs else "once"
            self.homes[value.name] = () if self.lanes else (BATCH, "")
        for step in plan.steps:
            self.step(step)
        outputs = [output.operand.value for output in plan.outputs]
        for value in outputs:
            if BATCH in value.legs:
                counted = self.found.samples.setdefault(value.name, {})
                _add(counted, self.change(value, self.tail(value)))
        return self.found

    def entries(self, legs: Iterable[str]) -> float:
        """Product of sizes."""
        product = 1.0
        for leg in legs:
            product *= self.sizes[leg]
        return product

    def tail(self, value: Value) -> Lanes:
        """The last legs of an argument that fit a vector; none if the samples are lanes."""
        if not self.lanes:
            return (BATCH, "")
        found: list[str] = []
        for leg in reversed([leg for leg in value.legs if leg != BATCH]):
            if self.entries((leg, *found)) > self.width:
                break
            found.insert(0, leg)
        return tuple(found)

    def step(self, step: Step) -> None:
        """Count one step where it belongs."""
        parts = {self.part[operand.value.name] for operand in step.operands}
        part = "samples" if "samples" in parts else "once"
        result = step.result
        if part == "samples" and BATCH not in result.legs:
            self.part[result.name] = "once"
        else:
            self.part[result.name] = part
        if part == "once" and isinstance(step, Select | Diagonal | Expand):
            return  # other strides, no work
        if part == "once":
            entries = self.entries(dict.fromkeys(step.loop_legs)) / self.width
            self.found.once[result.name] = {"branch": self.factor * entries, "branch_step": 1.0}
            return
        if not isinstance(step, Contract | Reduce | Add | Scatter | Embed):
            self.homes[result.name] = self.homes[step.operands[0].value.name]
            return
        self.found.samples[result.name] = self.batched(step)

    def batched(self, step: Contract | Reduce | Add | Scatter | Embed) -> Counted:
        """A step on samples."""
        result = step.result
        lanes = self.lanes.get(result.name, ()) if self.lanes else (BATCH,)
        counted: Counted = {"step": 1.0}
        states = [o.value for o in step.operands if BATCH in o.legs]
        for value in states if not self.stored else ():  # steps that rotate lanes move nothing
            _add(counted, self.change(value, lanes))
        self.homes[result.name] = self.stored.get(result.name) or lanes
        loop = list(dict.fromkeys(step.loop_legs))
        products = self.vectors(loop, lanes)
        _add(counted, {"product": self.factor * products})
        if self.far_weights:
            _add(counted, {"weight": self.weight_entries(step) * self.plan.itemsize / LINE})
        read = sum(self.vectors(value.legs, lanes) for value in states)
        if BATCH in result.legs:
            written = self.vectors(result.legs, lanes)
            _add(counted, {"store": written})
            self.far(counted, read + written + self.weight_entries(step) / self.width)
        else:
            sums = self.vectors(result.legs, lanes)
            lines = sums * self.vector_bytes / LINE
            _add(counted, {"far_partial": lines} if self.far_sums else {"partial": sums})
            self.found.cleared += lines
            self.found.once[result.name] = {"branch_step": 1.0}
            self.far(counted, read)
        return counted

    def weight_entries(self, step: Step) -> float:
        """Entries of the operands without samples."""
        return sum(self.entries(o.legs) for o in step.operands if BATCH not in o.legs)

    def vectors(self, legs: Iterable[str], lanes: Lanes) -> float:
        """Vectors of an array, or of a loop, of which some legs are lanes."""
        return self.entries(leg for leg in dict.fromkeys(legs) if leg not in lanes)

    def far(self, counted: Counted, vectors: float) -> None:
        """Lines that the first cache does not hold."""
        room = vectors * self.vector_bytes
        if room > FIRST_CACHE:
            _add(counted, {"second": room / LINE})

    def change(self, value: Value, lanes: Lanes) -> Counted:
        """Moving a value to other lanes, unless it has them."""
        home = self.homes[value.name]
        if home == ():  # an argument: it lies in rows
            home = self.tail(value)
        key = (value.name, lanes)
        own = set(value.legs)
        if set(home) == set(lanes) or not set(lanes) & own or key in self.moved:
            return {}
        self.moved.add(key)
        entries = self.entries(leg for leg in dict.fromkeys(value.legs))
        if set(home) & set(lanes) - {BATCH}:
            full = self.entries(leg for leg in lanes if leg in own)
            return {"moved": entries / max(1.0, min(full, self.width))}
        if BATCH in home and BATCH in lanes:
            return {"moved": entries / self.width}
        smaller = min(self.entries(leg for leg in side if leg) for side in (home, lanes) if side)
        return {"moved": entries / max(1.0, min(smaller, self.width))}


def call_counts(plan: Plan, wanted: tuple[str, ...], batch: int, threads: int, cpu: Cpu) -> Counted:
    """All counts of a forward, or of a backward where gradients are wanted; for fitting."""
    scheduled = schedule_lanes(plan, cpu, backward=bool(wanted))
    work = count_work(replace(scheduled, wanted=wanted) if wanted else scheduled)
    return _call_counts(work, batch, threads)
