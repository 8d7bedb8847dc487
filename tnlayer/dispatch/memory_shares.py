"""A memory limit that several have to keep together: networks whose results are added, and what a
layer holds beside them.

Of a sum one result more than y is alive, and in the backward one gradient of the inputs more. What
the forwards keep for the backwards adds up, what each needs while it runs does not; so where all of
it together is too much, each makes all of its values again.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from ..graph.graph import Graph
from ..ir.backend_names import TORCH
from ..ir.counts import Amount
from ..ir.plan import Plan
from ..planning.memory import LimitError
from ..planning.planner import PlannedGraph, PlanOptions, plan_graph
from ..planning.rank import TRAIN, wanted_mask
from ..targets.backend import lower
from .available import options_for


def share_limit(graphs: Sequence[Graph], options: PlanOptions, held: Amount) -> PlanOptions:
    """The options with which each of the networks has to be planned, so that all keep the limit.

    Arguments:
        graphs: networks with equal ports whose results are added.
        options: what is asked for, with a memory limit.
        held: bytes that a call holds beside the networks.

    Raises:
        PlanError: the limit cannot be kept; says how little is possible.
    """
    assert options.memory_limit is not None
    batch = options.batch
    asked = options_for(options)
    added = _added(graphs, asked).at(batch)
    beside = held.at(batch) + added
    left = options.memory_limit - beside
    shared = replace(options, memory_limit=max(0, left))
    trials = [shared, replace(shared, keeps=False)]
    if asked.is_free:
        trials.append(replace(shared, keeps=False, backend=TORCH))
    least: int | None = None
    for trial in trials:
        needed = _needed(graphs, options_for(trial))
        if needed <= left:
            return trial
        least = needed if least is None else min(least, needed)
    assert least is not None
    what = f"{len(graphs)} networks whose results are added" if len(graphs) > 1 else "the network"
    msg = (
        f"memory_limit={options.memory_limit} bytes cannot be kept at batch {batch}: the smallest "
        f"workspace found is {least + beside} bytes: {least} for {what}, {added} to add results "
        f"and gradients, {held.at(batch)} for copies of the inputs and for padding. Raise the "
        f"limit to {least + beside}, or take smaller batches"
    )
    raise LimitError(msg, least + beside)


def _added(graphs: Sequence[Graph], options: PlanOptions) -> Amount:
    """Bytes of the second y, or of the second gradients of the inputs: never are both alive."""
    if len(graphs) == 1:
        return Amount()
    plan = plan_graph(graphs[0], replace(options, memory_limit=None)).plan
    y = y_bytes(plan)
    if options.objective != TRAIN:
        return y
    x = sum((plan.bytes_of(port) for port in plan.ports), start=Amount())
    return Amount(max(x.fixed, y.fixed), max(x.per_sample, y.per_sample))


def y_bytes(plan: Plan) -> Amount:
    """Bytes of the result of a forward plan."""
    return plan.bytes_of(plan.outputs[0].operand.value)


def _needed(graphs: Sequence[Graph], options: PlanOptions) -> int:
    """Bytes of the workspace of all networks together; at least what one of them needs alone."""
    kept = whole = room = 0
    refused = 0
    for graph in graphs:
        try:
            planned = plan_graph(graph, options)
        except LimitError as error:
            refused = max(refused, error.needed)
            continue
        own = _workspace(planned, options.batch)
        kept += own[0]
        whole = max(whole, own[1] - own[0])
        room += own[2]
    return max(refused, kept + whole + room)


def _workspace(planned: PlannedGraph, batch: int) -> tuple[int, int, int]:
    """Bytes that a network keeps for its backward, those that its calls of torch allocate at once,
    these included, and those of its kernels."""
    graph, plan, request = planned.form.graph, planned.plan, planned.request
    mask = wanted_mask(graph, plan, request.objective)
    room = lower(plan, mask, request.target()).room(batch)
    return room.kept, room.at_once, room.standing
