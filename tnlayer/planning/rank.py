"""Ranking: the candidate plans of a network by their predicted time."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from math import inf

from ..graph.graph import Graph
from ..hardware.cpu import Cpu
from ..hardware.gpu import Gpu
from ..hardware.profile.load import load_profile, op_times
from ..hardware.profile.op_times import OpTimes
from ..ir.backend_names import TORCH
from ..ir.counts import Amount
from ..ir.plan import Plan
from ..ir.plan_parts import Memory
from ..lowering.calls.training_schedules import Mask
from ..targets.backend import Contest, calls_backend, contest_of, is_free, lower
from ..targets.target import Machine, Target, target_for
from ..time_models.torch_calls import Seconds
from .candidates import candidates, is_large, rough_seconds, tree_key
from .deadline import DEADLINES, Deadline, remember_uncut
from .memory_limit import LimitRefused, check_room, keep_limit
from .mixture import best_mixture, plan_seconds, whole_plan
from .plan_of_order import make_plan
from .search import EXHAUSTIVE_TENSORS

TRAIN, INFER = "train", "infer"
OBJECTIVES = (TRAIN, INFER)

# The search objective that stands for: several, ranked by the time model.
BY_TIME = "time"

# The batch size that trees for compiled kernels are searched for.
FUSED_BATCH = 256

# How many candidates get a schedule; a rough estimate that is this much above the best one's ends
# it, since layouts make up for a factor of two at most.
_KERNELS = "comparing kernels"
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
        backend: the name of the one that was asked for, which says what competes with it, or
            "auto" for the fastest of all and of mixtures.
        cpu, gpu: what kernels are compiled for, one of them at most; None: they are not considered.
        keeps: whether the forward may keep values for the backward beside a memory limit: not where
            the backwards of several networks stand between.
        adds: whether beside a memory limit y and the gradients of the inputs are those of networks
            that ran before, and what this one gives is added to them.
    """

    dtype: str = "float32"
    objective: str = TRAIN
    device: str = "cpu"
    effort: str = "default"
    minimize: str = BY_TIME
    memory_limit: int | None = None
    backend: str = TORCH
    cpu: Cpu | None = None
    gpu: Gpu | None = None
    keeps: bool = True
    adds: bool = False

    @property
    def is_free(self) -> bool:
        """Whether no backend was asked for by name."""
        return is_free(self.backend)

    def contest(self) -> Contest:
        """Which plans compete."""
        return contest_of(self.backend, self.device, Machine(self.cpu, self.gpu))

    def target(self) -> Target:
        """What plans are lowered for."""
        return target_for(self.dtype, self.device, self.cpu, self.gpu)


@dataclass(frozen=True, slots=True)
class Ranked:
    """A plan with its predicted time at the batch size that it was made for."""

    plan: Plan
    seconds: Seconds


def training_mask(graph: Graph, plan: Plan) -> Mask:
    """Wanted gradients of a training step: every input but whole numbers, every trainable
    parameter."""
    nodes = graph.nodes
    trainable = (nodes[value.name].trainable for value in plan.parameters)
    return (*(not port.is_whole for port in graph.inputs), *trainable)


def wanted_mask(graph: Graph, plan: Plan, objective: str) -> Mask:
    """Wanted gradients for an objective: none at all for "infer"."""
    mask = training_mask(graph, plan)
    return mask if objective == TRAIN else (False,) * len(mask)


def rank(
    graph: Graph, batch: int, request: Request, deadline: Deadline | None = None
) -> tuple[Ranked, ...]:
    """Candidate plans for a batch size, the fastest by prediction first.

    Arguments:
        graph: a canonical network.
        batch: samples of a call.
        request: what the plan is for.
        deadline: that of all planning; by default one of its own, as the effort sets it.
    """
    digest = load_profile(request.dtype, request.device).profile.digest
    deadline = deadline or Deadline(DEADLINES.get(request.effort, inf))
    return _rank(graph, batch, request, digest, deadline=deadline)


def predict(graph: Graph, plan: Plan, batch: int, request: Request) -> Seconds:
    """Predicted time of a plan, its storage orders chosen for ``plan.batch``, at a batch size."""
    mask = wanted_mask(graph, plan, request.objective)
    return plan_seconds(plan, mask, batch, request.target())


# The digest is in the key: a profile that was measured since ranks anew.
@remember_uncut(1024)
def _rank(
    graph: Graph, batch: int, request: Request, _digest: str, *, deadline: Deadline
) -> tuple[Ranked, ...]:
    refused: list[LimitRefused] = []
    ranked: list[Ranked] = []
    contest = request.contest()
    if contest.calls:
        # Beside kernels that were asked for a few trees do: with W rebuilt, and without.
        few = replace(request, effort="fast") if contest.beside else request
        plans = _torch_plans(graph, batch, few, refused, deadline)
        if contest.beside:
            plans = [whole_plan(plan, batch, calls_backend()) for plan in plans]
        ranked += _predicted(graph, batch, request, plans, deadline)
    # What is there serves where no time is left.
    if contest.kernels is not None and not (ranked and deadline.passed(_KERNELS)):
        best = min(ranked, key=lambda r: r.seconds.total, default=None)
        plans = _fused_plans(graph, batch, request, refused, best and best.plan, deadline)
        ranked += _predicted(graph, batch, request, plans, deadline)
    if not ranked:
        raise min(refused, key=lambda error: error.needed)
    # Equal predictions keep the order of the objectives: the same in every process.
    return tuple(sorted(ranked, key=lambda r: _weighed(r, request)))


def _predicted(
    graph: Graph, batch: int, request: Request, plans: Sequence[Plan], deadline: Deadline
) -> list[Ranked]:
    """Plans with their predicted times: the first one, and others while there is time."""
    found: list[Ranked] = []
    for plan in plans:
        if found and deadline.passed("predicting times"):
            break
        found.append(Ranked(plan, predict(graph, plan, batch, request)))
    return found


def _weighed(ranked: Ranked, request: Request) -> float:
    """Predicted seconds, with what a backend has to be better by."""
    return ranked.seconds.total * handicap(ranked.plan, request)


def handicap(plan: Plan, request: Request) -> float:
    """What the predicted time of a plan is multiplied with when plans are compared."""
    return request.contest().factor(plan.backend)


def _torch_plans(
    graph: Graph, batch: int, request: Request, refused: list[LimitRefused], deadline: Deadline
) -> list[Plan]:
    """Candidates for torch calls that keep the memory limit; what was refused is noted."""
    plans: list[Plan] = []
    for group in _candidates(graph, batch, request, deadline):
        for plan in group:
            if plans and deadline.passed("comparing plans"):
                break
            try:
                plans.append(_within_limit(graph, plan, batch, request))
            except LimitRefused as error:
                refused.append(error)
        if plans:
            break
    return plans


def _fused_plans(
    graph: Graph,
    batch: int,
    request: Request,
    refused: list[LimitRefused],
    rival: Plan | None,
    deadline: Deadline,
) -> list[Plan]:
    """Candidates for compiled kernels, the best first, and a mixture where one is foreseen to win.

    Their trees are those for one batch size: one tree serves every size, so that a layer compiles
    two kernels each way at most, for few and for many samples. With a memory limit there is no
    mixture: what it allocates is not counted.

    Arguments:
        refused: where plans are noted that cannot keep the memory limit.
        rival: the best plan for torch alone; None where nothing but kernels is wanted.
    """
    if rival is not None and left_out(rival, request):
        return []  # every tree has as many steps
    contest, target = request.contest(), request.target()
    kernels = contest.kernels
    assert kernels is not None
    whole: list[Plan] = []
    trees = _fused_trees(graph, request, deadline)
    for tree in trees:
        if kernels.why_not(tree, target):
            continue
        plan = whole_plan(tree, batch, kernels)
        if not any(tree_key(plan) == tree_key(known) for known in whole):
            try:
                _check_kernels(graph, plan, batch, request)
            except LimitRefused as error:
                refused.append(error)
                continue
            whole.append(plan)
    if not whole and rival is None and not refused:
        # No tree can be fused; the backend says why when it is built.
        whole = [replace(trees[0], batch=batch)]
    whole = _one_kernel(graph, whole, request) if contest.one_kernel else whole
    if rival is None or request.memory_limit is not None:
        return whole
    mixtures: list[Plan] = []
    for tree in (replace(rival, regions=()), *trees):
        if deadline.passed(_KERNELS):
            break
        mask = wanted_mask(graph, tree, request.objective)
        mixture = best_mixture(tree, mask, batch, target, kernels)
        if mixture is not None:
            mixtures.append(mixture)
    mixtures.sort(key=lambda plan: predict(graph, plan, batch, request).total)
    return whole + mixtures[:1]


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


def _one_kernel(graph: Graph, plans: list[Plan], request: Request) -> list[Plan]:
    """The plan that is the fastest at one batch size: ranges that took others by a few percent
    would each compile kernels of their own."""

    def seconds(plan: Plan) -> float:
        return predict(graph, replace(plan, batch=FUSED_BATCH), FUSED_BATCH, request).total

    return [min(plans, key=seconds)] if plans else []


def _fused_trees(graph: Graph, request: Request, deadline: Deadline) -> list[Plan]:
    """Trees for compiled kernels: they write no intermediates, so few FLOPs and few steps win."""
    kernels = request.contest().kernels
    assert kernels is not None
    names = kernels.objectives
    if request.minimize != BY_TIME:
        names = (request.minimize,)
    if request.effort == "fast" or is_large(graph):
        names = names[:1]
    trees: list[Plan] = []
    for number, minimize in enumerate(names):
        if trees and deadline.passed(_KERNELS):
            break
        trees.append(
            make_plan(
                graph,
                batch=FUSED_BATCH,
                dtype=request.dtype,
                minimize=minimize,
                effort=request.effort,
                seeded=number > 0 and len(graph.tensors) <= EXHAUSTIVE_TENSORS,
                deadline=deadline,
            )
        )
    return trees


def kernel_room(graph: Graph, plan: Plan, batch: int, request: Request) -> tuple[int, int]:
    """Bytes that the kernels of a plan take: their workspace; and those that pass, copies in the
    dtype of the arithmetic and what is added to the results of other networks.

    Arguments:
        graph: a canonical network.
        plan: one that kernels can do.
        batch: samples of a call.
        request: what the plan is for.
    """
    mask = wanted_mask(graph, plan, request.objective)
    room = lower(plan, mask, request.target()).room(batch)
    apart = _apart(plan, mask, request).at(batch)
    return room.standing - room.copied, room.copied + apart


def _apart(plan: Plan, mask: Mask, request: Request) -> Amount:
    """Bytes of y, or of the gradients of the inputs, that kernels give apart before others add them
    to what networks gave before: never are both alive."""
    if not request.adds:
        return Amount()
    y = plan.bytes_of(plan.outputs[0].operand.value)
    ports = zip(plan.ports, mask, strict=False)
    x = sum((plan.bytes_of(port) for port, asked in ports if asked), start=Amount())
    return Amount(max(x.fixed, y.fixed), max(x.per_sample, y.per_sample))


def _check_kernels(graph: Graph, plan: Plan, batch: int, request: Request) -> None:
    """Refuse kernels whose workspace is above the memory limit.

    Raises:
        LimitRefused: it is.
    """
    if request.memory_limit is None:
        return
    check_room(kernel_room(graph, plan, batch, request), request.memory_limit, batch, request.gpu)


def _candidates(graph: Graph, batch: int, request: Request, deadline: Deadline) -> list[list[Plan]]:
    """The plans to schedule, and those to fall back on where no one of them keeps the limit."""
    if request.minimize == BY_TIME:
        times = op_times(request.dtype, request.device)
        plans = candidates(graph, batch, request.dtype, request.effort, deadline=deadline)
        promising = _promising(plans, batch, times, request)
        if is_large(graph) and request.effort != "high":
            promising = promising[: _SCHEDULED["fast"]]
        return [promising, [plan for plan in plans if plan not in promising]]
    plan = make_plan(
        graph,
        batch=batch,
        dtype=request.dtype,
        minimize=request.minimize,
        effort=request.effort,
        deadline=deadline,
    )
    return [[plan]]


def _within_limit(graph: Graph, plan: Plan, batch: int, request: Request) -> Plan:
    """The plan with what keeps the memory limit; LimitRefused if it cannot, others might."""
    if request.memory_limit is None:
        return plan

    def seconds(kept: Plan) -> float:
        return predict(graph, kept, batch, request).total

    mask = wanted_mask(graph, plan, request.objective)
    return keep_limit(
        replace(plan, memory=Memory(adds=request.adds)),
        mask,
        batch,
        request.memory_limit,
        request.target().times,
        seconds,
        keeps=request.keeps,
    )


def _promising(plans: tuple[Plan, ...], batch: int, times: OpTimes, request: Request) -> list[Plan]:
    """The plans that are worth a schedule, by a rough estimate."""
    training = request.objective == TRAIN
    rough = {id(p): rough_seconds(p, batch, times, training=training) for p in plans}
    order = sorted(plans, key=lambda plan: rough[id(plan)])
    limit = _HOPELESS * rough[id(order[0])]
    kept = [plan for plan in order if rough[id(plan)] <= limit]
    return kept[: _SCHEDULED[request.effort]]
