"""Which backend runs which part of a plan: the predicted times of all of them, and the best cut.

A plan may run as torch calls, as compiled kernels, or in regions of both. A cut is found as a
shortest path over the steps that touch samples: each may be done by either backend, and a change
of sides costs a call, and the state that is written and read. The estimates on the path are shares
of the whole plan's times; what comes out is predicted again as it would run.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from itertools import groupby

from ..hardware.profile.op_times import OpTimes
from ..ir.backend_names import CPP, CUDA, MIXED, TORCH
from ..ir.calls import Schedule, sources_of
from ..ir.counts import elements
from ..ir.cuts import batched_steps, cuts
from ..ir.plan import Plan
from ..ir.plan_parts import Region
from ..ir.steps import owner_of
from ..lowering.calls.pair import Mask, schedule_pair
from ..lowering.cpu.batch_sizes import kernel_batch
from ..lowering.cpu.pipeline import schedule_lanes
from ..passes.partition import region_masks, split, with_branches
from ..time_models.calls import Seconds, call_seconds, pair_seconds, schedule_seconds, with_autograd
from ..time_models.compiled import (
    compiled_seconds,
    compiled_step_seconds,
    start_seconds,
    whole_seconds,
    why_no_kernels,
)
from ..time_models.rates import Rates

# Kernels have to be compiled, and a mixture keeps values at its cuts: they must win by so much.
HANDICAP = {TORCH: 1.0, CPP: 1.1, CUDA: 1.1, MIXED: 1.15}


# What a cut costs beside the kernels of its regions: Python, and arrays that are kept.
# Seen in three cells of a Tucker layer, which took 0.1 ms a cut longer than predicted in training.
CUT = Seconds(15e-6, 85e-6)


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
    if plan.backend in (CPP, CUDA):
        return whole_seconds(plan.backend, plan, mask, batch, rates)
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
        if region.backend != TORCH:
            found.append((region, compiled_seconds(region.backend, part, own, batch, rates)))
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
        # CUDA kernels are the same for every batch size; torch's calls beside them are not.
        plain = [
            replace(
                plan,
                batch=1 if plan.backend == CUDA else kernel_batch(plan.batch),
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


def fused_plan(plan: Plan, batch: int, backend: str = CPP) -> Plan | str:
    """A plan as one region of compiled kernels, or why it cannot be."""
    return why_no_kernels(plan, backend) or whole_plan(plan, batch, backend)


def whole_plan(plan: Plan, batch: int, backend: str) -> Plan:
    """A plan as one region of a backend."""
    return replace(plan, batch=batch, regions=(Region(backend, len(batched_steps(plan))),))


# -- mixtures ------------------------------------------------------------------------------------


def best_mixture(plan: Plan, mask: Mask, batch: int, rates: Rates) -> Plan | None:
    """The plan in the regions that are foreseen to be fastest; None where one backend does all.

    Arguments:
        plan: a forward plan without regions.
        mask: for each input, whether its gradient is wanted.
        batch: samples of a call.
        rates: what the prediction rests on; they have a cpu or a gpu.
    """
    allowed, kind = cuts(plan), rates.kernels
    steps = [step.result.name for step in batched_steps(plan)]
    if not allowed or why_no_kernels(plan, kind):
        return None
    # What a step needs of the parameters goes with it.
    fused = with_branches(plan, compiled_step_seconds(kind, plan, mask, batch, rates))
    torch = with_branches(plan, torch_step_seconds(plan, mask, batch, rates.times))
    start = start_seconds(kind, mask, rates)
    times = 2 if any(mask) else 1
    prices = {
        count: times * (rates.times.fresh(entries) + rates.times.move(2 * entries))
        + (CUT.total if any(mask) else CUT.forward)
        for count, value in allowed.items()
        for entries in [elements(value.legs, plan.sizes).at(batch)]
    }
    sides = _shortest([(torch[name], fused[name]) for name in steps], prices, start)
    regions = tuple(Region((TORCH, kind)[side], len(list(group))) for side, group in groupby(sides))
    if len(regions) == 1 and kind == CPP and not schedule_lanes(plan, rates.compiled_cpu).lanes:
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
    steps = [step.result.name for step in batched_steps(plan)]
    found: list[tuple[float, tuple[Region, ...]]] = []
    for count, price in prices.items():
        parts = split(plan, (count, len(steps) - count))
        masks = region_masks(plan, parts, mask)
        for side in (0, 1):
            if why_no_kernels(parts[side], CPP):
                continue
            kernels = compiled_seconds(CPP, parts[side], masks[side], batch, rates).total
            rest = steps[count:] if side == 0 else steps[:count]
            names = (CPP, TORCH) if side == 0 else (TORCH, CPP)
            regions = (Region(names[0], count), Region(names[1], len(steps) - count))
            found.append((kernels + price + sum(torch[name] for name in rest), regions))
    return min(found)[1] if found else ()


def torch_step_seconds(plan: Plan, mask: Mask, batch: int, times: OpTimes) -> dict[str, float]:
    """Predicted seconds of each step as calls, with its part of the backward."""
    pair = schedule_pair(plan, mask)
    found = dict.fromkeys((step.result.name for step in plan.steps), 0.0)
    for schedule in (pair.forward, pair.backward):
        if schedule is not None:
            owners = {step.result.name: owner_of(step) for step in schedule.plan.steps}
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
