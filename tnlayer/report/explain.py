"""Explaining programs: which plan serves a batch size and why, without building anything."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from ..dispatch.available import taken_backend
from ..dispatch.ranged import RangedProgram
from ..errors import SpecError
from ..graph.checks import check_whole, shown
from ..graph.graph import count_parameters
from ..ir.backend_names import MIXED, TORCH
from ..planning.planner import MAX_BATCH, PlannedGraph, plan_graph
from ..planning.predictions import predict_plan
from ..runtime.program import Program
from ..targets.backend import same_code
from .counting import cost_of
from .explanation import Explanation, PlannedRange


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
    if not 1 <= check_whole(batch, "explain: batch") <= MAX_BATCH:
        msg = f"explain: batch={shown(batch)}, expected a positive number of samples"
        raise SpecError(msg)
    first = programs[0]
    costs = tuple(cost_of(planned_at(r, batch), batch, one_plan=r.one_plan) for r in programs)
    backends = {cost.backend for cost in costs}
    failure = next((f for ranged in programs if (f := _failure(ranged, batch))), "")
    return Explanation(
        layer=layer,
        backend=TORCH if failure else backends.pop() if len(backends) == 1 else MIXED,
        asked=asked,
        why=failure or taken_backend(asked, first.options.device)[1],
        batch=batch,
        memory_limit=first.options.memory_limit,
        costs=costs,
        ranges=tuple(batch_ranges(ranged) for ranged in programs),
        timed=all(ranged.is_tuned(batch) for ranged in programs),
        log_scale=first.log_scale,
        parameters=count_parameters(ranged.graph for ranged in programs),
    )


def _failure(ranged: RangedProgram, batch: int) -> str:
    """Why torch runs a plan for kernels that could not be built; "" where that is not so."""
    serving = [p for low, high, p in ranged.ranges if low <= batch and (not high or batch <= high)]
    failure = next((p.failure for p in (*serving, ranged.main) if p.failure), "")
    return failure and f"kernels could not be built: {failure}"


def planned_at(ranged: RangedProgram, batch: int) -> PlannedGraph:
    """What runs, or would run, for a batch size; plans it if it was not asked for yet."""
    if ranged.has_one_plan(batch):
        planned = ranged.planned
    else:
        options = replace(ranged.options, batch=batch)
        planned = plan_graph(ranged.graph, options, whole_range=True)
    target = planned.request.target()
    for low, high, program in ranged.ranges:
        inside = low <= batch and (high is None or batch <= high)
        reason = _timed(ranged, program, batch) if inside else ""
        if reason:
            choice = replace(planned.choice, plan=program.plan, reason=reason)
            return replace(planned, plan=program.plan, choice=choice)
        if ranged.one_plan and replace(program.plan, batch=planned.plan.batch) == planned.plan:
            continue  # the same plan, whose kernels are made for other batch sizes
        if inside and not same_code(program.plan, planned.plan, planned.training_mask, target):
            reason = f"it was put in the place of the planner's choice ({planned.choice.reason})"
            choice = replace(planned.choice, plan=program.plan, reason=reason)
            return replace(planned, plan=program.plan, choice=choice)
    return planned


def _timed(ranged: RangedProgram, program: Program, batch: int) -> str:
    """What was timed when a program was chosen; "" if it was not chosen so."""
    for tuned in ranged.tuned:
        plan, mask = tuned.planned.plan, tuned.planned.training_mask
        target = tuned.planned.request.target()
        if batch in tuned.batches and same_code(program.plan, plan, mask, target):
            return tuned.planned.choice.reason
    return ""


def batch_ranges(ranged: RangedProgram) -> tuple[PlannedRange, ...]:
    """The ranges that have a program so far, with predicted times at one size of each."""
    target = ranged.planned.request.target()
    found: list[PlannedRange] = []
    for low, high, program in ranged.ranges:
        batch = max(1, low, program.plan.batch)
        batch = batch if high is None else max(1, min(batch, high))
        predicted = predict_plan(program.plan, program.training_mask(), batch, target)
        found.append(PlannedRange(low, high, program.plan.minimize, batch, predicted))
    return tuple(found)
