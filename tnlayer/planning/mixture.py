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
from ..ir.plan_text import search_words
from ..passes.partition import region_masks, split, with_branches
from ..targets.backend import Backend, backend_of
from ..targets.lowered import Lowered
from ..time_models.torch_calls import CUT


def weighed(lowered: Lowered, batch: int) -> float:
    """Predicted seconds, with what a backend has to be better by."""
    return lowered.seconds(batch).total * backend_of(lowered.backend).handicap


def plan_name(plan: Plan) -> str:
    """The objective that found a plan, with the backend where it is not torch alone."""
    if not backend_of(plan.backend).is_compiled:
        return search_words(plan.minimize)
    return f"{search_words(plan.minimize)} in {plan.backend}"


# -- whole plans as kernels ----------------------------------------------------------------------


def whole_plan(plan: Plan, batch: int, backend: Backend) -> Plan:
    """A plan as one region of a backend."""
    return replace(
        plan, batch=batch, regions=(BackendSpan(backend.name, len(batched_steps(plan))),)
    )


# -- mixtures ------------------------------------------------------------------------------------


def best_mixture(kernels: Lowered, calls: Lowered, batch: int) -> tuple[BackendSpan, ...]:
    """The regions that are foreseen to be fastest; none where one backend does all.

    Arguments:
        kernels: a forward plan without regions, lowered by the backend that compiles kernels.
        calls: the same as torch's calls.
        batch: samples of a call.
    """
    plan, mask, target = calls.plan, calls.mask, calls.target
    allowed = cuts(plan)
    steps = [step.result.name for step in batched_steps(plan)]
    if not allowed or kernels.why_not:
        return ()
    # What a step needs of the parameters goes with it.
    fused = with_branches(plan, kernels.shares(batch))
    torch = with_branches(plan, calls.shares(batch))
    times = 2 if any(mask) else 1
    prices = {
        count: times * (target.times.fresh(entries) + target.times.move(2 * entries))
        + (CUT.total if any(mask) else CUT.forward)
        for count, value in allowed.items()
        for entries in [elements(value.legs, plan.sizes).at(batch)]
    }
    start = backend_of(kernels.backend).start_seconds(mask, target)
    sides = _shortest([(torch[name], fused[name]) for name in steps], prices, start)
    names = (calls.backend, kernels.backend)
    regions = tuple(BackendSpan(names[side], len(list(group))) for side, group in groupby(sides))
    if len(regions) == 1 and kernels.gains_alone:
        regions = _one_cut(kernels, calls, batch, torch, prices)
    return regions if len(regions) > 1 else ()


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
    kernels: Lowered,
    calls: Lowered,
    batch: int,
    torch: Mapping[str, float],
    prices: Mapping[int, float],
) -> tuple[BackendSpan, ...]:
    """One cut, the kernels of one side predicted by themselves: they may have lanes that the whole
    plan has not."""
    plan, backend = calls.plan, backend_of(kernels.backend)
    steps = [step.result.name for step in batched_steps(plan)]
    found: list[tuple[float, tuple[BackendSpan, ...]]] = []
    for count, price in prices.items():
        parts = split(plan, (count, len(steps) - count))
        masks = region_masks(plan, parts, calls.mask)
        for side in (0, 1):
            part = backend.lower(parts[side], masks[side], calls.target)
            if part.why_not:
                continue
            rest = steps[count:] if side == 0 else steps[:count]
            spent = part.own_seconds(batch).total + price + sum(torch[name] for name in rest)
            names = [calls.backend, calls.backend]
            names[side] = kernels.backend
            regions = (BackendSpan(names[0], count), BackendSpan(names[1], len(steps) - count))
            found.append((spent, regions))
    # Of equal times the first: regions have no order.
    return min(found, key=itemgetter(0))[1] if found else ()
