"""Which backend runs which part of a plan: the predicted times of all of them, and the best cut.

A plan may run as torch calls, as compiled kernels, or in regions of both. A cut is found as a
shortest path over the steps that touch samples: each may be done by either backend, and a change
of sides costs a call, and the state that is written and read. The estimates on the path are shares
of the whole plan's times; what comes out is predicted again as it would run.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from itertools import groupby

from tnlayer.device.load import load_profile, op_times
from tnlayer.device.op_times import OpTimes
from tnlayer.device.profile import Profile
from tnlayer.kernels.cpu import (
    Cpu,
    backward_program,
    can_fuse,
    forward_program,
    kernel_batch,
    schedule_lanes,
)
from tnlayer.kernels.loops import Program
from tnlayer.kernels.pair import Mask, schedule_pair
from tnlayer.kernels.schedule import Schedule, sources_of
from tnlayer.plan.counts import elements
from tnlayer.plan.plan import Plan, Region
from tnlayer.plan.regions import batched_steps, cuts, region_masks, split, stem_owners
from tnlayer.planning.fused_model import (
    COSTS,
    fused_seconds,
    fused_step_seconds,
    kernel_seconds,
)
from tnlayer.planning.time_model import (
    Seconds,
    call_seconds,
    pair_seconds,
    schedule_seconds,
    with_autograd,
)

TORCH, CPP, CUDA, MIXED, AUTO = "torch", "cpp", "cuda", "mixed", "auto"

# Kernels have to be compiled, and a mixture keeps values at its cuts: they must win by so much.
HANDICAP = {TORCH: 1.0, CPP: 1.1, MIXED: 1.15}


# What a cut costs beside the kernels of its regions: Python, and arrays that are kept.
# Seen in three cells of a Tucker layer, which took 0.1 ms a cut longer than predicted in training.
CUT = Seconds(15e-6, 85e-6)


@dataclass(frozen=True, slots=True)
class Rates:
    """What predictions rest on.

    Arguments:
        times: the device's operations.
        profile: the profile that they come from.
        cpu: what kernels are compiled for; None: none can be.
    """

    times: OpTimes
    profile: Profile
    cpu: Cpu | None = None


def rates_for(dtype: str, device: str, cpu: Cpu | None) -> Rates:
    """The rates of a device."""
    return Rates(op_times(dtype, device), load_profile(dtype, device).profile, cpu)


def compiled_cpu(rates: Rates) -> Cpu:
    """What kernels are compiled for; a plan that asks for them knows."""
    return rates.cpu or Cpu()


def plan_seconds(plan: Plan, mask: Mask, batch: int, rates: Rates) -> Seconds:
    """Predicted time of a forward and backward of a plan, on the backends of its regions.

    Arguments:
        plan: a forward plan.
        mask: for each input, whether its gradient is wanted.
        batch: samples of a call.
        rates: what the prediction rests on.
    """
    if plan.backend == TORCH:
        return pair_seconds(schedule_pair(plan, mask), batch, rates.times)
    cpu = compiled_cpu(rates)
    if plan.backend == CPP:
        return fused_seconds(plan, mask, batch, rates.profile, cpu)
    parts = [one for _, one in region_seconds(plan, mask, batch, rates)]
    between = len(parts) - 1
    forward = sum(one.forward for one in parts) + between * CUT.forward
    backward = sum(one.backward for one in parts) + between * CUT.backward
    if not any(mask):
        return Seconds(forward)
    return with_autograd(forward, backward, len(plan.inputs) + len(parts) - 1, rates.times)


def region_seconds(
    plan: Plan, mask: Mask, batch: int, rates: Rates
) -> list[tuple[Region, Seconds]]:
    """Predicted time of each region of a plan, without what autograd adds."""
    parts = split(plan, [region.steps for region in plan.regions])
    found: list[tuple[Region, Seconds]] = []
    for region, part, own in zip(plan.regions, parts, region_masks(plan, parts, mask), strict=True):
        if region.backend == CPP:
            cpu = compiled_cpu(rates)
            found.append((region, kernel_seconds(part, own, batch, rates.profile, cpu)))
            continue
        pair = schedule_pair(part, own)
        backward = 0.0
        if pair.backward is not None:
            backward = schedule_seconds(pair.backward, batch, rates.times)
        found.append(
            (region, Seconds(schedule_seconds(pair.forward, batch, rates.times), backward))
        )
    return found


def weighed(plan: Plan, seconds: Seconds) -> float:
    """Predicted seconds, with what a backend has to be better by."""
    return seconds.total * HANDICAP[plan.backend]


def plan_name(plan: Plan) -> str:
    """The objective that found a plan, with the backend where it is not torch alone."""
    return plan.minimize if plan.backend == TORCH else f"{plan.minimize} in {plan.backend}"


def same_run(first: Plan, second: Plan, mask: Mask) -> bool:
    """Whether two plans run the same code: the same calls, or the same kernels."""
    if first.backend != second.backend:
        return False
    if first.backend != TORCH:
        plain = [
            replace(
                plan,
                batch=kernel_batch(plan.batch),
                minimize="flops",
                proven_optimal=False,
                names=(),
            )
            for plan in (first, second)
        ]
        return plain[0] == plain[1]
    ours, theirs = (schedule_pair(plan, mask) for plan in (first, second))
    if ours.forward.calls != theirs.forward.calls:
        return False
    if ours.backward is None or theirs.backward is None:
        return ours.backward is theirs.backward
    return ours.backward.calls == theirs.backward.calls


# -- whole plans as kernels ----------------------------------------------------------------------


def fused_plan(plan: Plan, batch: int) -> Plan | str:
    """A plan as one region of compiled kernels, or why it cannot be."""
    reason = can_fuse(plan)
    if reason:
        return reason
    return replace(plan, batch=batch, regions=(Region(CPP, len(batched_steps(plan))),))


@lru_cache(maxsize=256)
def kernel_bytes(plan: Plan, mask: Mask, cpu: Cpu, threads: int) -> int:
    """Bytes that compiled kernels allocate beside x, y, the parameters and their gradients.

    They are kept between calls, so those of forward and backward count both; nothing of them is of
    the size of the batch.

    Arguments:
        plan: a forward plan that can be fused.
        mask: for each input, whether its gradient is wanted.
        cpu: what the kernels are made for.
        threads: that share the samples.
    """
    programs = [forward_program(plan, cpu)]
    wanted = [value.name for value, asked in zip(plan.inputs, mask, strict=True) if asked]
    if wanted:
        programs.append(backward_program(plan, wanted, cpu))
    return sum(_workspace(program, threads) for program in programs)


def _workspace(program: Program, threads: int) -> int:
    """Bytes of one kernel's workspace, in whole pages as it is allocated."""
    itemsize = {"float32": 4, "float64": 8, "complex64": 8, "complex128": 16}[program.scalar]
    vector = program.width
    ports = [buffer for buffer in program.of("input", "output") if buffer.batched]
    ragged = sum(buffer.size for buffer in ports) * program.block if program.block > 1 else 0
    own = program.size_of("thread") + program.size_of("partial") + ragged + 3 * vector
    shared = program.size_of("shared") + vector + 8 * threads
    pages = [-(-entries * itemsize // 4096) for entries in (own, shared)]
    return 4096 * (threads * pages[0] + pages[1])


# -- mixtures ------------------------------------------------------------------------------------


def best_mixture(plan: Plan, mask: Mask, batch: int, rates: Rates) -> Plan | None:
    """The plan in the regions that are foreseen to be fastest; None where one backend does all.

    Arguments:
        plan: a forward plan without regions.
        mask: for each input, whether its gradient is wanted.
        batch: samples of a call.
        rates: what the prediction rests on; they have a cpu.
    """
    allowed = cuts(plan)
    steps = [step.result.name for step in batched_steps(plan)]
    if not allowed or can_fuse(plan):
        return None
    cpu = compiled_cpu(rates)
    fused = fused_step_seconds(plan, mask, batch, rates.profile, cpu)
    torch = torch_step_seconds(plan, mask, batch, rates.times)
    start = COSTS.forward + COSTS.threads
    start += COSTS.backward + COSTS.threads if any(mask) else 0.0
    times = 2 if any(mask) else 1
    prices = {
        count: times * (rates.times.fresh(entries) + rates.times.move(2 * entries))
        + (CUT.total if any(mask) else CUT.forward)
        for count, value in allowed.items()
        for entries in [elements(value.legs, plan.sizes).at(batch)]
    }
    sides = _shortest([(torch[name], fused[name]) for name in steps], prices, start)
    regions = tuple(Region((TORCH, CPP)[side], len(list(group))) for side, group in groupby(sides))
    if len(regions) == 1 and not schedule_lanes(plan, cpu).lanes:
        regions = _one_cut(plan, mask, batch, rates, torch, prices)
    return replace(plan, batch=batch, regions=regions) if len(regions) > 1 else None


def _shortest(
    seconds: Sequence[tuple[float, float]], prices: Mapping[int, float], start: float
) -> list[int]:
    """For each step the side that does it: 0 torch, 1 kernels; changes at cuts only."""
    best: list[tuple[float, list[int]]] = [(0.0, []), (start, [])]
    for number, pair in enumerate(seconds):
        if number in prices:
            to_torch = best[1][0] + prices[number]
            to_fused = best[0][0] + prices[number] + start
            before = list(best)
            if to_torch < before[0][0]:
                best[0] = (to_torch, before[1][1])
            if to_fused < before[1][0]:
                best[1] = (to_fused, before[0][1])
        best = [(spent + pair[side], [*path, side]) for side, (spent, path) in enumerate(best)]
    return min(best)[1]


def _one_cut(
    plan: Plan,
    mask: Mask,
    batch: int,
    rates: Rates,
    torch: Mapping[str, float],
    prices: Mapping[int, float],
) -> tuple[Region, ...]:
    """One cut, the kernels of one side predicted by themselves: they may have lanes that the whole
    plan has not."""
    cpu = compiled_cpu(rates)
    steps = [step.result.name for step in batched_steps(plan)]
    found: list[tuple[float, tuple[Region, ...]]] = []
    for count, price in prices.items():
        parts = split(plan, (count, len(steps) - count))
        masks = region_masks(plan, parts, mask)
        for side in (0, 1):
            if can_fuse(parts[side]):
                continue
            kernels = kernel_seconds(parts[side], masks[side], batch, rates.profile, cpu).total
            rest = steps[count:] if side == 0 else steps[:count]
            names = (CPP, TORCH) if side == 0 else (TORCH, CPP)
            regions = (Region(names[0], count), Region(names[1], len(steps) - count))
            found.append((kernels + price + sum(torch[name] for name in rest), regions))
    return min(found)[1] if found else ()


def torch_step_seconds(plan: Plan, mask: Mask, batch: int, times: OpTimes) -> dict[str, float]:
    """Predicted seconds of each batched step as calls, with what only it needs and its adjoint."""
    pair = schedule_pair(plan, mask)
    owners = stem_owners(plan)
    found = dict.fromkeys((step.result.name for step in batched_steps(plan)), 0.0)
    for schedule in (pair.forward, pair.backward):
        if schedule is not None:
            for name, spent in step_seconds(schedule, batch, times).items():
                owner = owners.get(name, "")
                if owner in found:
                    found[owner] += spent
    return found


def step_seconds(schedule: Schedule, batch: int, times: OpTimes) -> dict[str, float]:
    """Predicted time of each step of a schedule's plan, by the name of its result.

    A copy counts for the step that reads it first; "" has what only results need.

    Arguments:
        schedule: the calls of a plan.
        batch: samples of a call.
        times: the device's operations.
    """
    steps = {step.result.name for step in schedule.plan.steps}
    # Read backwards, so that the first reader is the one that stays.
    owners: dict[str, str] = {}
    found = dict.fromkeys(steps, 0.0) | {"": 0.0}
    seconds = call_seconds(schedule, batch, times)
    for call, spent in zip(reversed(schedule.calls), reversed(seconds), strict=True):
        name = call.result.name
        owner = name if name in steps else owners.get(name, "")
        found[owner] += spent
        owners |= {view.array.name: owner for view in sources_of(call)}
    return found
