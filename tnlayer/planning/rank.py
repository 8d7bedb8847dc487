"""Ranking: the candidate plans of a network by their predicted time."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

from tnlayer.device.load import load_profile, op_times
from tnlayer.device.op_times import OpTimes
from tnlayer.graph import Graph
from tnlayer.kernels.pair import Mask, schedule_pair
from tnlayer.plan.plan import Plan
from tnlayer.planning.candidates import candidates, is_large, rough_seconds
from tnlayer.planning.memory import LimitRefused, keep_limit
from tnlayer.planning.time_model import Seconds, pair_seconds
from tnlayer.planning.trees import make_plan

TRAIN, INFER = "train", "infer"
OBJECTIVES = (TRAIN, INFER)

# The search objective that stands for: several, ranked by the time model.
BY_TIME = "time"

# How many candidates get a schedule; a rough estimate that is this much above the best one's ends
# it, since layouts make up for a factor of two at most.
_SCHEDULED = {"fast": 2, "default": 5, "high": 12}
_HOPELESS = 4.0


@dataclass(frozen=True, slots=True)
class Request:
    """What a plan is wanted for.

    Arguments:
        dtype: dtype of the arithmetic.
        objective: "train" or "infer".
        device: "cpu" or "cuda".
        effort: "fast", "default" or "high".
        minimize: "time", or one search objective whose tree is taken as it is.
        memory_limit: bytes that forward and backward may allocate beyond x, y, the parameters and
            their gradients; None: no limit.
    """

    dtype: str = "float32"
    objective: str = TRAIN
    device: str = "cpu"
    effort: str = "default"
    minimize: str = BY_TIME
    memory_limit: int | None = None


@dataclass(frozen=True, slots=True)
class Ranked:
    """A plan with its predicted time at the batch size that it was made for."""

    plan: Plan
    seconds: Seconds


def training_mask(graph: Graph, plan: Plan) -> Mask:
    """Wanted gradients of a training step: every input and every trainable parameter."""
    nodes = graph.nodes
    trainable = (nodes[value.name].trainable for value in plan.parameters)
    return (*(True for _ in plan.ports), *trainable)


def wanted_mask(graph: Graph, plan: Plan, objective: str) -> Mask:
    """Wanted gradients for an objective: none at all for "infer"."""
    mask = training_mask(graph, plan)
    return mask if objective == TRAIN else (False,) * len(mask)


def rank(graph: Graph, batch: int, request: Request) -> tuple[Ranked, ...]:
    """Candidate plans for a batch size, the fastest by prediction first.

    Arguments:
        graph: a canonical network.
        batch: samples of a call.
        request: what the plan is for.
    """
    digest = load_profile(request.dtype, request.device).profile.digest
    return _rank(graph, batch, request, digest)


def predict(graph: Graph, plan: Plan, batch: int, request: Request) -> Seconds:
    """Predicted time of a plan, its storage orders chosen for ``plan.batch``, at a batch size."""
    times = op_times(request.dtype, request.device)
    pair = schedule_pair(plan, wanted_mask(graph, plan, request.objective))
    return pair_seconds(pair, batch, times)


# The digest is in the key: a profile that was measured since ranks anew.
@lru_cache(maxsize=1024)
def _rank(graph: Graph, batch: int, request: Request, _digest: str) -> tuple[Ranked, ...]:
    plans: list[Plan] = []
    refused: list[LimitRefused] = []
    for group in _candidates(graph, batch, request):
        for plan in group:
            try:
                plans.append(_within_limit(graph, plan, batch, request))
            except LimitRefused as error:
                refused.append(error)
        if plans:
            break
    if not plans:
        raise min(refused, key=lambda error: error.needed)
    ranked = [Ranked(plan, predict(graph, plan, batch, request)) for plan in plans]
    # Equal predictions keep the order of the objectives: the same in every process.
    return tuple(sorted(ranked, key=lambda r: r.seconds.total))


def _candidates(graph: Graph, batch: int, request: Request) -> list[list[Plan]]:
    """The plans to schedule, and those to fall back on where no one of them keeps the limit."""
    if request.minimize == BY_TIME:
        times = op_times(request.dtype, request.device)
        plans = candidates(graph, batch, request.dtype, request.effort)
        promising = _promising(plans, batch, times, request)
        if is_large(graph) and request.effort != "high":
            promising = promising[: _SCHEDULED["fast"]]
        return [promising, [plan for plan in plans if plan not in promising]]
    plan = make_plan(
        graph, batch=batch, dtype=request.dtype, minimize=request.minimize, effort=request.effort
    )
    return [[plan]]


def _within_limit(graph: Graph, plan: Plan, batch: int, request: Request) -> Plan:
    """The plan with what keeps the memory limit; LimitRefused if it cannot, others might."""
    if request.memory_limit is None:
        return plan

    def seconds(kept: Plan) -> float:
        return predict(graph, kept, batch, request).total

    mask = wanted_mask(graph, plan, request.objective)
    return keep_limit(plan, mask, batch, request.memory_limit, seconds)


def _promising(plans: tuple[Plan, ...], batch: int, times: OpTimes, request: Request) -> list[Plan]:
    """The plans that are worth a schedule, by a rough estimate."""
    training = request.objective == TRAIN
    rough = {id(p): rough_seconds(p, batch, times, training=training) for p in plans}
    order = sorted(plans, key=lambda plan: rough[id(plan)])
    limit = _HOPELESS * rough[id(order[0])]
    kept = [plan for plan in order if rough[id(plan)] <= limit]
    return kept[: _SCHEDULED[request.effort]]
