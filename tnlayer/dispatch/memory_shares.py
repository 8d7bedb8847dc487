"""A memory limit that several have to keep together: networks whose results are added, and what a
layer holds beside them.

All networks but the first add y, and the gradients of the inputs, to those of the first: torch's
calls a chunk of samples at a time, what kernels give is another array. Of tensors that networks
have in common one gradient more is alive. What the forwards keep for the backwards adds up, and so
does the workspace of kernels, which they keep between calls; what each needs while it runs does
not. So each network has a limit of its own: first all that is left; where that is too much for all
of them together each makes all of its values again; and at last each gets the least that it can do
with, and in turn what the others leave.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

from ..graph.graph import Graph
from ..ir.backend_names import TORCH
from ..ir.counts import Amount
from ..planning.memory_limit import LimitError
from ..planning.planner import plan_graph
from ..planning.rank import kernel_room
from ..planning.request import TRAIN, Request
from ..support.dtypes import DTYPES
from ..targets.backend import asked_backend
from .available_backends import request_for


def share_limit(graphs: Sequence[Graph], request: Request, held: Amount) -> tuple[Request, ...]:
    """The requests with which each network has to be planned, so that all together keep the limit.

    Arguments:
        graphs: networks with equal ports whose results are added.
        request: what is asked for, with a memory limit.
        held: bytes that a call holds beside the networks.

    Raises:
        PlanError: the limit cannot be kept; says how little is possible.
    """
    assert request.memory_limit is not None
    batch = request.batch
    shared = _given_again(graphs, request)
    beside = held.at(batch) + shared
    left = request.memory_limit - beside
    trials = [request, replace(request, keeps=False)]
    if request_for(request).is_free:
        trials.append(replace(request, keeps=False, backend=TORCH))
    totals: list[int] = []
    for trial in trials:
        whole = [_limited(replace(trial, adds=n > 0), left) for n in range(len(graphs))]
        found = list(map(_attempt, graphs, whole))
        needs = [one for one in found if isinstance(one, _Need)]
        if len(needs) == len(graphs) and _total(needs) <= left:
            return tuple(whole)
        if trial.keeps and len(graphs) > 1:
            continue  # what several keep adds up: others do with less
        limits, needs = zip(*map(_least, graphs, whole, found), strict=True)
        if _total(needs) <= left:
            return _spread(graphs, whole, limits, needs, left)
        totals.append(_total(needs))
    least = min(totals)
    what = f"{len(graphs)} networks whose results are added" if len(graphs) > 1 else "the network"
    msg = (
        f"memory_limit={request.memory_limit} bytes cannot be kept at batch {batch}: the smallest "
        f"workspace found is {least + beside} bytes: {least} for {what}, {shared} to add gradients "
        f"of tensors that they share, {held.at(batch)} for copies of the inputs and for padding. "
        f"Raise the limit to {least + beside}, or take smaller batches"
    )
    raise LimitError(msg, least + beside)


def _given_again(graphs: Sequence[Graph], request: Request) -> int:
    """Bytes of the gradients of tensors that a network gives after another one has: the most of
    any network."""
    assert request.dtype, "what a layer is planned for"
    if request.objective != TRAIN:
        return 0
    known, most = set[str](), 0
    for graph in graphs:
        own = {p.name: math.prod(p.shape) for p in graph.parameters if p.node.trainable}
        most = max(most, sum(size for name, size in own.items() if name in known))
        known |= own.keys()
    return most * DTYPES[request.dtype].itemsize


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


def _limited(request: Request, limit: int) -> Request:
    """The request with another limit."""
    return replace(request, memory_limit=max(0, limit))


def _attempt(graph: Graph, request: Request) -> _Need | LimitError:
    """What a network takes with the plan that its limit allows, or why it allows none."""
    try:
        planned = plan_graph(graph, request_for(request))
    except LimitError as error:
        return error
    lowered = planned.lowered
    if lowered.is_compiled:
        return _Need(*kernel_room(lowered, request.batch, planned.request))
    room = lowered.room(request.batch)
    return _Need(room.kept, max(0, room.at_once - room.kept))


def _least(graph: Graph, request: Request, found: _Need | LimitError) -> tuple[int, _Need]:
    """The least limit that a network keeps by itself, and what it takes with that.

    Arguments:
        graph: the network.
        request: with a limit.
        found: what came of that.
    """
    asked = asked_backend(request_for(request).backend)
    passes = asked is not None and not asked.is_compiled and not request.keeps
    if isinstance(found, _Need) and not passes:
        found = _attempt(graph, _limited(request, 0))
    if isinstance(found, _Need):
        return found.stays + found.passes, found
    limit = found.needed
    # Of torch's calls that keep nothing all of it passes.
    need = _Need(0, limit) if passes else _attempt(graph, _limited(request, limit))
    if isinstance(need, LimitError):
        raise need
    return limit, need


def _spread(
    graphs: Sequence[Graph],
    requests: Sequence[Request],
    limits: Sequence[int],
    needs: Sequence[_Need],
    left: int,
) -> tuple[Request, ...]:
    """The requests of networks that keep a limit together with the least limits, once one after the
    other has got what the others leave of it: with more bytes a network may be faster."""
    shared, needs = list(map(_limited, requests, limits)), list(needs)
    for number, graph in enumerate(graphs):
        others = sum(need.stays for other, need in enumerate(needs) if other != number)
        more = _limited(requests[number], left - others)
        need = _attempt(graph, more)
        if isinstance(need, LimitError):
            continue  # the search for chunks may miss at a limit what it finds at a lower one
        if _total([*needs[:number], need, *needs[number + 1 :]]) <= left:
            shared[number], needs[number] = more, need
    return tuple(shared)
