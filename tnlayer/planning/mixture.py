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
from operator import itemgetter

from ..ir.counts import elements
from ..ir.cuts import batched_steps, cuts
from ..ir.plan import Plan
from ..ir.plan_parts import BackendSpan
from ..lowering.calls.training_schedules import Mask
from ..passes.partition import region_masks, split, with_branches
from ..targets.backend import Backend, backend_of, calls_backend, lower
from ..targets.target import Target
from ..time_models.torch_calls import CUT, Seconds


def plan_seconds(plan: Plan, mask: Mask, batch: int, target: Target) -> Seconds:
    """Predicted time of a forward and backward of a plan, on the backends of its regions.

    Arguments:
        plan: a forward plan.
        mask: for each input, whether its gradient is wanted.
        batch: samples of a call.
        target: what it runs on.
    """
    return lower(plan, mask, target).seconds(batch)


def weighed(plan: Plan, seconds: Seconds) -> float:
    """Predicted seconds, with what a backend has to be better by."""
    return seconds.total * backend_of(plan.backend).handicap


def plan_name(plan: Plan) -> str:
    """The objective that found a plan, with the backend where it is not torch alone."""
    if not backend_of(plan.backend).is_compiled:
        return plan.minimize
    return f"{plan.minimize} in {plan.backend}"


# -- whole plans as kernels ----------------------------------------------------------------------


def whole_plan(plan: Plan, batch: int, backend: Backend) -> Plan:
    """A plan as one region of a backend."""
    return replace(
        plan, batch=batch, regions=(BackendSpan(backend.name, len(batched_steps(plan))),)
    )


# -- mixtures ------------------------------------------------------------------------------------


def best_mixture(
    plan: Plan, mask: Mask, batch: int, target: Target, kernels: Backend
) -> Plan | None:
    """The plan in the regions that are foreseen to be fastest; None where one backend does all.

    Arguments:
        plan: a forward plan without regions.
        mask: for each input, whether its gradient is wanted.
        batch: samples of a call.
        target: what it runs on.
        kernels: the backend of the regions that are not left to torch's calls.
    """
    allowed, calls = cuts(plan), calls_backend()
    steps = [step.result.name for step in batched_steps(plan)]
    if not allowed or kernels.why_not(plan, target):
        return None
    # What a step needs of the parameters goes with it.
    fused = with_branches(plan, kernels.lower(plan, mask, target).shares(batch))
    torch = with_branches(plan, calls.lower(plan, mask, target).shares(batch))
    start = kernels.start_seconds(mask, target)
    times = 2 if any(mask) else 1
    prices = {
        count: times * (target.times.fresh(entries) + target.times.move(2 * entries))
        + (CUT.total if any(mask) else CUT.forward)
        for count, value in allowed.items()
        for entries in [elements(value.legs, plan.sizes).at(batch)]
    }
    sides = _shortest([(torch[name], fused[name]) for name in steps], prices, start)
    names = (calls.name, kernels.name)
    regions = tuple(BackendSpan(names[side], len(list(group))) for side, group in groupby(sides))
    if len(regions) == 1 and kernels.gains_alone(plan, target):
        regions = _one_cut(plan, mask, batch, target, kernels, torch, prices)
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
    target: Target,
    kernels: Backend,
    torch: Mapping[str, float],
    prices: Mapping[int, float],
) -> tuple[BackendSpan, ...]:
    """One cut, the kernels of one side predicted by themselves: they may have lanes that the whole
    plan has not."""
    calls = calls_backend().name
    steps = [step.result.name for step in batched_steps(plan)]
    found: list[tuple[float, tuple[BackendSpan, ...]]] = []
    for count, price in prices.items():
        parts = split(plan, (count, len(steps) - count))
        masks = region_masks(plan, parts, mask)
        for side in (0, 1):
            if kernels.why_not(parts[side], target):
                continue
            fused = kernels.lower(parts[side], masks[side], target).own_seconds(batch).total
            rest = steps[count:] if side == 0 else steps[:count]
            names = (kernels.name, calls) if side == 0 else (calls, kernels.name)
            regions = (BackendSpan(names[0], count), BackendSpan(names[1], len(steps) - count))
            found.append((fused + price + sum(torch[name] for name in rest), regions))
    # Of equal times the first: regions have no order.
    return min(found, key=itemgetter(0))[1] if found else ()
