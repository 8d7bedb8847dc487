"""Explaining programs: which plan serves a batch size and why, without building anything."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from tnlayer.checks import check_whole
from tnlayer.errors import SpecError
from tnlayer.explanation import BatchRange, Explanation
from tnlayer.kernels.pair import schedule_pair
from tnlayer.plan.plan import Plan
from tnlayer.planning.planner import PlannedGraph, plan_graph
from tnlayer.planning.predictions import predict_torch, times_of
from tnlayer.report import cost_of
from tnlayer.runtime.ranged import RangedProgram


def explain(layer: str, asked: str, programs: Sequence[RangedProgram], batch: int) -> Explanation:
    """What a layer runs and why, at a batch size.

    Arguments:
        layer: the layer in one line.
        asked: the backend that was asked for.
        programs: those of the networks whose results the layer adds.
        batch: samples of one call.

    Raises:
        SpecError: batch is no positive whole number.
    """
    if check_whole(batch, "explain: batch") < 1:
        msg = f"explain: batch={batch}, expected a positive number of samples"
        raise SpecError(msg)
    first = programs[0]
    return Explanation(
        layer=layer,
        backend=first.main.backend,
        asked=asked,
        batch=batch,
        memory_limit=first.options.memory_limit,
        costs=tuple(cost_of(planned_at(r, batch), batch, one_plan=r.one_plan) for r in programs),
        ranges=tuple(batch_ranges(ranged) for ranged in programs),
    )


def planned_at(ranged: RangedProgram, batch: int) -> PlannedGraph:
    """What runs, or would run, for a batch size; plans it if it was not asked for yet."""
    if ranged.one_plan:
        planned = ranged.planned
    else:
        options = replace(ranged.options, batch=batch)
        planned = plan_graph(ranged.graph, options, whole_range=True)
    for low, high, program in ranged.ranges:
        inside = low <= batch and (high is None or batch <= high)
        if inside and not _same_calls(program.plan, planned):
            reason = f"it was put in the place of the planner's choice ({planned.choice.reason})"
            choice = replace(planned.choice, plan=program.plan, reason=reason)
            return replace(planned, plan=program.plan, choice=choice)
    return planned


def batch_ranges(ranged: RangedProgram) -> tuple[BatchRange, ...]:
    """The ranges that have a program so far, with predicted times at one size of each."""
    times = times_of(ranged.planned.request)
    found: list[BatchRange] = []
    for low, high, program in ranged.ranges:
        batch = max(1, low, program.plan.batch)
        batch = batch if high is None else max(1, min(batch, high))
        predicted = predict_torch(program.plan, program.training_mask(), batch, times)
        found.append(BatchRange(low, high, program.plan.minimize, batch, predicted))
    return tuple(found)


def _same_calls(plan: Plan, planned: PlannedGraph) -> bool:
    """Whether a plan runs what a planned graph's does: neighbouring ranges share programs."""
    if plan == planned.plan:
        return True
    ours, theirs = (schedule_pair(p, planned.training_mask) for p in (plan, planned.plan))
    same = ours.forward.calls == theirs.forward.calls
    if ours.backward is None or theirs.backward is None:
        return same and ours.backward is theirs.backward
    return same and ours.backward.calls == theirs.backward.calls
