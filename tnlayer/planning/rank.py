"""Ranking: the candidate plans of a network by their predicted time."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from ..graph.graph import Graph
from ..hardware.profile.load import load_profile, op_times
from ..hardware.profile.op_times import OpTimes
from ..ir.counts import Amount
from ..ir.plan import Plan
from ..ir.plan_parts import Memory
from ..passes.regroup import regrouped
from ..targets.backend import calls_backend
from ..targets.lowered import Lowered
from ..time_models.torch_calls import Seconds
from .candidates import candidates, is_large, rough_seconds, tree_key
from .contraction_order import EXHAUSTIVE_TENSORS
from .deadline import Deadline, remember_uncut
from .memory_limit import LimitRefused, check_limit, keep_limit
from .mixture import best_mixture, whole_plan
from .plan_of_order import make_plan
from .plan_search import Search
from .request import BY_TIME, TRAIN, Request

# The batch size that trees for compiled kernels are searched for.
FUSED_BATCH = 256

# How many candidates get a schedule; a rough estimate that is this much above the best one's ends
# it, since layouts make up for a factor of two at most.
_KERNELS = "comparing kernels"
_SCHEDULED = {"fast": 2, "default": 5, "high": 12}
_HOPELESS = 4.0


@dataclass(frozen=True, slots=True)
class Ranked:
    """A plan with its predicted time at the batch size that it was made for."""

    plan: Plan
    seconds: Seconds


def rank(search: Search, batch: int) -> tuple[Ranked, ...]:
    """Candidate plans for a batch size, the fastest by prediction first.

    Arguments:
        search: what plans are for.
        batch: samples of a call.
    """
    request = search.request
    digest = load_profile(request.dtype, request.device).profile.digest
    return _rank(search.graph, batch, request, digest, deadline=search.deadline, search=search)


# The digest is in the key: a profile that was measured since ranks anew.
@remember_uncut(1024)
def _rank(
    graph: Graph, batch: int, request: Request, _digest: str, *, deadline: Deadline, search: Search
) -> tuple[Ranked, ...]:
    del graph, request, deadline  # the search has them
    refused: list[LimitRefused] = []
    ranked: list[Ranked] = []
    contest = search.contest
    groups = _candidates(search, batch) if contest.calls else []
    if contest.calls:
        plans = _torch_plans(search, batch, groups, refused)
        if contest.beside:
            plans = [whole_plan(plan, batch, calls_backend()) for plan in plans]
        ranked += _predicted(search, batch, plans)
    # What is there serves where no time is left.
    if contest.kernels is not None and not (ranked and search.deadline.passed(_KERNELS)):
        best = min(ranked, key=lambda r: r.seconds.total, default=None)
        plans = _fused_plans(search, batch, refused, best and best.plan)
        ranked += _predicted(search, batch, plans)
    if not (ranked and search.deadline.passed(_KERNELS)):
        ranked += _predicted(search, batch, _streamed_plans(search, batch, groups, refused))
    if not ranked:
        raise min(refused, key=lambda error: error.needed)
    # Equal predictions keep the order of the objectives: the same in every process.
    return tuple(sorted(ranked, key=lambda r: r.seconds.total * contest.factor(r.plan.backend)))


def _predicted(search: Search, batch: int, plans: Sequence[Plan]) -> list[Ranked]:
    """Plans with their predicted times: the first one, and others while there is time."""
    found: list[Ranked] = []
    for plan in plans:
        if found and search.deadline.passed("predicting times"):
            break
        found.append(Ranked(plan, search.lowered(plan).seconds(batch)))
    return found


def _torch_plans(
    search: Search, batch: int, groups: Sequence[Sequence[Plan]], refused: list[LimitRefused]
) -> list[Plan]:
    """Candidates for torch calls that keep the memory limit; what was refused is noted."""
    plans: list[Plan] = []
    for group in groups:
        for plan in group:
            if plans and search.deadline.passed("comparing plans"):
                break
            try:
                plans.append(_within_limit(search, plan, batch))
            except LimitRefused as error:
                refused.append(error)
        if plans:
            break
    return plans


def _fused_plans(
    search: Search, batch: int, refused: list[LimitRefused], rival: Plan | None
) -> list[Plan]:
    """Candidates for compiled kernels, the best first, and a mixture where one is foreseen to win.

    Their trees are those for one batch size: one tree serves every size, so that a layer compiles
    two kernels each way at most, for few and for many samples. With a memory limit there is no
    mixture: what it allocates is not counted.

    Arguments:
        search: what plans are for.
        batch: samples of a call.
        refused: where plans are noted that cannot keep the memory limit.
        rival: the best plan for torch alone; None where nothing but kernels is wanted.
    """
    request, kernels = search.request, search.contest.kernels
    assert kernels is not None
    if rival is not None and left_out(rival, request):
        return []  # every tree has as many steps
    whole: list[Plan] = []
    trees = _fused_trees(search)
    for tree in trees:
        if search.lowered(tree, kernels).why_not:
            continue
        plan = whole_plan(tree, batch, kernels)
        if not any(tree_key(plan) == tree_key(known) for known in whole):
            try:
                _check_kernels(search.lowered(plan), batch, request)
            except LimitRefused as error:
                refused.append(error)
                continue
            whole.append(plan)
    if not whole and rival is None and not refused:
        # No tree can be fused; the backend says why when it is built.
        whole = [replace(trees[0], batch=batch)]
    whole = _one_kernel(search, whole) if search.contest.one_kernel else whole
    if rival is None or request.memory_limit is not None:
        return whole
    bare = replace(rival, regions=())
    search.note(search.lowered(rival).with_plan(bare))
    mixtures: list[Plan] = []
    for tree in (bare, *trees):
        if search.deadline.passed(_KERNELS):
            break
        regions = best_mixture(search.lowered(tree, kernels), search.calls(tree), batch)
        if regions:
            mixtures.append(replace(tree, batch=batch, regions=regions))
    mixtures.sort(key=lambda plan: search.lowered(plan).seconds(batch).total)
    return whole + mixtures[:1]


def _streamed_plans(
    search: Search, batch: int, groups: Sequence[Sequence[Plan]], refused: list[LimitRefused]
) -> list[Plan]:
    """Plans that rebuild W, for backends that need not store it; what cannot keep the memory limit
    is noted."""
    plans = [plan for group in groups for plan in group]
    plans += [other for plan in plans if (other := regrouped(plan)) is not None]
    found: list[Plan] = []
    for backend in search.contest.streamed:
        for plan in plans:
            if search.lowered(plan, backend).why_not:
                continue
            whole = whole_plan(plan, batch, backend)
            try:
                _check_kernels(search.lowered(whole), batch, search.request)
            except LimitRefused as error:
                refused.append(error)
                continue
            found.append(whole)
    return found


def left_out(plan: Plan, request: Request) -> str:
    """Why "auto" does not consider kernels of a plan that could be compiled; "" if it does."""
    contest = request.contest()
    kernels, most = contest.kernels, contest.most_steps
    if kernels is None or most is None or len(plan.steps) <= most:
        return ""
    return (
        f"compiled kernels were left out: the plan has {len(plan.steps)} steps, and compiling more "
        f"than {most} may take minutes; backend={kernels.name!r} does it"
    )


def _one_kernel(search: Search, plans: list[Plan]) -> list[Plan]:
    """The plan that is the fastest at one batch size: ranges that took others by a few percent
    would each compile kernels of their own."""

    def seconds(plan: Plan) -> float:
        return search.lowered(replace(plan, batch=FUSED_BATCH)).seconds(FUSED_BATCH).total

    return [min(plans, key=seconds)] if plans else []


def _fused_trees(search: Search) -> list[Plan]:
    """Trees for compiled kernels: they write no intermediates, so few FLOPs and few steps win."""
    graph, request, kernels = search.graph, search.request, search.contest.kernels
    assert kernels is not None
    names = kernels.objectives
    if request.minimize != BY_TIME:
        names = (request.minimize,)
    if request.effort == "fast" or is_large(graph):
        names = names[:1]
    trees: list[Plan] = []
    for number, minimize in enumerate(names):
        if trees and search.deadline.passed(_KERNELS):
            break
        trees.append(
            make_plan(
                graph,
                batch=FUSED_BATCH,
                dtype=request.dtype,
                minimize=minimize,
                effort=request.effort,
                seeded=number > 0 and len(graph.tensors) <= EXHAUSTIVE_TENSORS,
                deadline=search.deadline,
                path=request.path,
            )
        )
    return trees


def kernel_room(lowered: Lowered, batch: int, request: Request) -> tuple[int, int]:
    """Bytes that the kernels of a plan take: their workspace; and those that pass, of arrays around
    them and of what is added to the results of other networks.

    Arguments:
        lowered: a plan that kernels can do.
        batch: samples of a call.
        request: what the plan is for.
    """
    room = lowered.room(batch)
    return room.standing, room.at_once + _apart(lowered, request).at(batch)


def _apart(lowered: Lowered, request: Request) -> Amount:
    """Bytes of y, or of the gradients of the inputs, that kernels give apart before others add them
    to what networks gave before: never are both alive."""
    if not request.adds:
        return Amount()
    plan = lowered.plan
    y = plan.bytes_of(plan.outputs[0].operand.value)
    ports = zip(plan.ports, lowered.mask, strict=False)
    x = sum((plan.bytes_of(port) for port, asked in ports if asked), start=Amount())
    return Amount(max(x.fixed, y.fixed), max(x.per_sample, y.per_sample))


def _check_kernels(lowered: Lowered, batch: int, request: Request) -> None:
    """Refuse kernels whose workspace is above the memory limit.

    Raises:
        LimitRefused: it is.
    """
    if request.memory_limit is None:
        return
    room = kernel_room(lowered, batch, request)
    among = request.contest().calls
    check_limit(room, request.memory_limit, batch, request.gpu, among_calls=among)


def _candidates(search: Search, batch: int) -> list[list[Plan]]:
    """The plans to schedule, and those to fall back on where no one of them keeps the limit."""
    graph, request = search.graph, search.request
    # Beside kernels that were asked for a few trees do: with W rebuilt, and without.
    effort = "fast" if search.contest.beside else request.effort
    if request.minimize == BY_TIME:
        times = op_times(request.dtype, request.device)
        plans = candidates(graph, batch, request.dtype, effort, deadline=search.deadline)
        training = request.objective == TRAIN
        promising = _promising(plans, batch, times, effort, training=training)
        if is_large(graph) and effort != "high":
            promising = promising[: _SCHEDULED["fast"]]
        groups = [promising, [plan for plan in plans if plan not in promising]]
        if request.memory_limit is not None and not is_large(graph):
            # Chunks of few samples want an order for few: one that makes no W, say.
            few = candidates(graph, 1, request.dtype, "fast", deadline=search.deadline)
            known = {tree_key(plan) for plan in plans}
            groups.append([replace(p, batch=batch) for p in few if tree_key(p) not in known])
        return groups
    plan = make_plan(
        graph,
        batch=batch,
        dtype=request.dtype,
        minimize=request.minimize,
        effort=effort,
        deadline=search.deadline,
        path=request.path,
    )
    return [[plan]]


def _within_limit(search: Search, plan: Plan, batch: int) -> Plan:
    """The plan with what keeps the memory limit; LimitRefused if it cannot, others might."""
    request = search.request
    if request.memory_limit is None:
        return plan
    kept = keep_limit(
        search.calls(replace(plan, memory=Memory(adds=request.adds))),
        batch,
        request.memory_limit,
        lambda lowered: lowered.seconds(batch).total,
        keeps=request.keeps,
    )
    search.note(kept)
    return kept.plan


def _promising(
    plans: tuple[Plan, ...], batch: int, times: OpTimes, effort: str, *, training: bool
) -> list[Plan]:
    """The plans that are worth a schedule, by a rough estimate."""
    rough = {id(p): rough_seconds(p, batch, times, training=training) for p in plans}
    order = sorted(plans, key=lambda plan: rough[id(plan)])
    limit = _HOPELESS * rough[id(order[0])]
    kept = [plan for plan in order if rough[id(plan)] <= limit]
    return kept[: _SCHEDULED[effort]]
