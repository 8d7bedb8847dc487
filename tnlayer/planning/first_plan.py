"""The plan of a first call: found in milliseconds, as torch's calls, on any device.

It does not depend on how fast a machine is, so that a layer whose start is measured with it starts
from the same parameters everywhere.
"""

from __future__ import annotations

from dataclasses import replace

from ..errors import PlanError
from ..graph.canonical import canonicalise
from ..graph.graph import Graph
from ..ir.backend_names import TORCH
from ..ir.batch_range import BatchRange
from ..targets.backend import calls_backend
from ..time_models.torch_calls import Seconds
from .batch_ranges import Choice
from .candidates import OBJECTIVES
from .check_plan import SizeRefused
from .contraction_order import GREEDY
from .plan_of_order import make_plan
from .plan_search import Search
from .planner import PlannedGraph, planned_with, user_names
from .request import Request


def first_plan(graph: Graph, request: Request) -> PlannedGraph:
    """A plan for torch's calls, in the greedy order.

    Arguments:
        graph: the network.
        request: what the plan is for; its backend, effort and memory limit are not looked at.

    Raises:
        PlanError: an intermediate is too large.
    """
    quick = replace(
        request, backend=TORCH, effort="fast", memory_limit=None, cpu=None, gpu=None
    ).checked(graph)
    form = canonicalise(graph)
    search = Search.begin(form.graph, quick)
    try:
        plan = make_plan(
            form.graph,
            batch=quick.batch,
            dtype=quick.dtype,
            minimize=OBJECTIVES[0],
            effort=GREEDY,
            seeded=True,
            deadline=search.deadline,
        )
    except SizeRefused as error:
        msg = f"network {graph.label!r}: {error.with_names(user_names(graph, form))}"
        raise PlanError(msg) from None
    lowered = search.lowered(plan, calls_backend())
    reason = "the greedy order, before any other was looked at"
    return planned_with(graph, form, quick, Choice(lowered, BatchRange(), Seconds(0.0), reason))
