"""A memory limit that several have to keep together: networks whose results are added, and what a
layer holds beside them.

Of a sum one result more than y is alive, and in the backward one gradient more of the inputs and of
tensors that networks have in common. What the forwards keep for the backwards adds up, and so does
the workspace of kernels, which they keep between calls; what each needs while it runs does not. So
each network has a limit of its own: first all that is left; where that is too much for all of them
together each makes all of its values again; and at last each gets the least that it can do with,
and in turn what the others leave.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import repeat

from ..graph.graph import Graph
from ..ir.backend_names import TORCH
from ..ir.counts import Amount
from ..planning.memory import LimitError
from ..planning.planner import PlanOptions, plan_graph
from ..planning.rank import TRAIN, wanted_mask
from ..targets.backend import asked_backend, lower
from .available import options_for


def share_limit(
    graphs: Sequence[Graph], options: PlanOptions, held: Amount
) -> tuple[PlanOptions, ...]:
    """The options with which each network has to be planned, so that all together keep the limit.

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
    trials = [options, replace(options, keeps=False)]
    if asked.is_free:
        trials.append(replace(options, keeps=False, backend=TORCH))
    totals: list[int] = []
    for trial in trials:
        found = [_attempt(graph, _limited(trial, left)) for graph in graphs]
        needs = [one for one in found if isinstance(one, _Need)]
        if len(needs) == len(graphs) and _total(needs) <= left:
            return (_limited(trial, left),) * len(graphs)
        if trial.keeps and len(graphs) > 1:
            continue  # what several keep adds up: others do with less
        limits, needs = zip(*map(_least, graphs, repeat(trial), found), strict=True)
        if _total(needs) <= left:
            return _spread(graphs, trial, limits, needs, left)
        totals.append(_total(needs))
    least = min(totals)
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
    y = plan.bytes_of(plan.outputs[0].operand.value)
    if options.objective != TRAIN:
        return y
    x = sum((plan.bytes_of(port) for port in plan.ports), start=Amount())
    shared = _given_again(graphs) * plan.itemsize
    return Amount(max(x.fixed, y.fixed) + shared, max(x.per_sample, y.per_sample))


def _given_again(graphs: Sequence[Graph]) -> int:
    """Entries of tensors whose gradients a network gives after another one has: the most of any."""
    known, most = set[str](), 0
    for graph in graphs:
        own = {p.name: math.prod(p.shape) for p in graph.parameters if p.node.trainable}
        most = max(most, sum(size for name, size in own.items() if name in known))
        known |= own.keys()
    return most


# -- what networks need ------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class _Need:
    """Bytes that a network takes.

    Arguments:
        stays: what it holds while others run: values for its backward, the workspace of kernels.
        passes: what it takes beside that while it runs.
    """

    stays: int
    passes: int


def _total(needs: Sequence[_Need]) -> int:
    """Bytes of networks that run one after the other."""
    return sum(need.stays for need in needs) + max(need.passes for need in needs)


def _limited(options: PlanOptions, limit: int) -> PlanOptions:
    """The options with another limit."""
    return replace(options, memory_limit=max(0, limit))


def _attempt(graph: Graph, options: PlanOptions) -> _Need | LimitError:
    """What a network takes with the plan that its limit allows, or why it allows none."""
    try:
        planned = plan_graph(graph, options_for(options))
    except LimitError as error:
        return error
    canonical, plan, request = planned.form.graph, planned.plan, planned.request
    mask = wanted_mask(canonical, plan, request.objective)
    room = lower(plan, mask, request.target()).room(options.batch)
    passes = max(0, room.at_once - room.kept) + room.copied
    return _Need(room.kept + room.standing - room.copied, passes)


def _least(graph: Graph, options: PlanOptions, found: _Need | LimitError) -> tuple[int, _Need]:
    """The least limit that a network keeps by itself, and what it takes with that.

    Arguments:
        graph: the network.
        options: as for :func:`share_limit`.
        found: what came of a larger limit, or of one that was refused.
    """
    asked = asked_backend(options_for(options).backend)
    passes = asked is not None and not asked.is_compiled and not options.keeps
    if isinstance(found, _Need) and not passes:
        found = _attempt(graph, _limited(options, 0))
    if isinstance(found, _Need):
        return found.stays + found.passes, found
    limit = found.needed
    # Of torch's calls that keep nothing all of it passes.
    need = _Need(0, limit) if passes else _attempt(graph, _limited(options, limit))
    if isinstance(need, LimitError):
        raise need
    return limit, need


def _spread(
    graphs: Sequence[Graph],
    options: PlanOptions,
    limits: Sequence[int],
    needs: Sequence[_Need],
    left: int,
) -> tuple[PlanOptions, ...]:
    """The options of networks that keep a limit together with the least limits, once one after the
    other has got what the others leave of it: with more bytes a network may be faster."""
    limits, needs = list(limits), list(needs)
    for number, graph in enumerate(graphs):
        others = sum(need.stays for other, need in enumerate(needs) if other != number)
        need = _attempt(graph, _limited(options, left - others))
        if isinstance(need, LimitError):
            continue  # the search for chunks may miss at a limit what it finds at a lower one
        if _total([*needs[:number], need, *needs[number + 1 :]]) <= left:
            limits[number], needs[number] = left - others, need
    return tuple(_limited(options, limit) for limit in limits)
