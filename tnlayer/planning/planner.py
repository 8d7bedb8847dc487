"""The planner: a network becomes a forward Plan."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from functools import cached_property
from logging import DEBUG
from typing import overload

from ..errors import PlanError, SpecError
from ..graph.argument_checks import shown, suggest
from ..graph.as_graph import AnyNetwork, AnySum, as_graph, as_sum, dtype_asked_for, is_sum
from ..graph.canonical import CanonicalForm, canonicalise
from ..graph.graph import Graph
from ..hardware.profile.load import scale_nearest
from ..ir.plan import Plan
from ..ir.plan_values import GIVEN
from ..lowering.calls.training_schedules import Mask
from ..passes.differentiate import adjoint
from ..support.debug import debug, debug_level, logger
from ..support.option_words import ContractionPath, Device, Dtype, Effort, Minimize, Objective
from ..support.told import told
from ..targets.backend import lower
from ..targets.lowered import Lowered
from .batch_ranges import Choice, choose, choose_range, known_choice
from .check_plan import SizeRefused
from .given_path import given_path
from .memory_limit import LimitError, LimitRefused
from .request import (
    BY_TIME,
    DEFAULT_BATCH,
    Request,
    arithmetic_of,
    device_option,
    dtype_option,
    memory_option,
    training_mask,
)

# Several objectives are searched, and the time model ranks what they find.
DEFAULT_MINIMIZE = BY_TIME


@dataclass(frozen=True)
class PlannedGraph:
    """A graph with its canonical form and a plan of it.

    Arguments:
        graph: as the user gave it.
        form: its canonical form.
        lowered: the forward plan, in canonical names, with the user's names beside them, and what
            it was lowered to for the objective.
        request: what the plan is for.
        choice: why this plan, and for which batch sizes.
    """

    graph: Graph
    form: CanonicalForm
    lowered: Lowered
    request: Request
    choice: Choice

    @property
    def plan(self) -> Plan:
        """The forward plan."""
        return self.lowered.plan

    @cached_property
    def trained(self) -> Lowered:
        """The plan lowered for the gradients of a training step."""
        return self.lowered_for(self.training_mask)

    def lowered_for(self, mask: Mask) -> Lowered:
        """The plan lowered for a mask of wanted gradients."""
        if mask == self.lowered.mask:
            return self.lowered
        if not any(mask):
            return self.lowered.inference
        return lower(self.plan, mask, self.lowered.target)

    def with_lowered(self, lowered: Lowered, reason: str = "") -> PlannedGraph:
        """The same with another plan, for a reason of its own."""
        choice = replace(self.choice, lowered=lowered, reason=reason or self.choice.reason)
        return replace(self, lowered=lowered, choice=choice)

    @property
    def training_mask(self) -> Mask:
        """Wanted gradients of a training step: every input and every trainable parameter."""
        return training_mask(self.form.graph, self.plan)


@overload
def plan(
    net: AnySum,
    *,
    batch: int = ...,
    objective: Objective = ...,
    device: Device = ...,
    memory_limit: int | str | None = ...,
    effort: Effort = ...,
    dtype: Dtype | None = ...,
    minimize: Minimize = ...,
    path: ContractionPath | None = ...,
) -> tuple[Plan, ...]: ...
@overload
def plan(
    net: AnyNetwork,
    *,
    batch: int = ...,
    objective: Objective = ...,
    device: Device = ...,
    memory_limit: int | str | None = ...,
    effort: Effort = ...,
    dtype: Dtype | None = ...,
    minimize: Minimize = ...,
    path: ContractionPath | None = ...,
) -> Plan: ...
def plan(
    net: AnyNetwork | AnySum,
    *,
    batch: int = DEFAULT_BATCH,
    objective: Objective = "train",
    device: Device = "cpu",
    memory_limit: int | str | None = None,
    effort: Effort = "default",
    dtype: Dtype | None = None,
    minimize: Minimize = DEFAULT_MINIMIZE,
    path: ContractionPath | None = None,
) -> Plan | tuple[Plan, ...]:
    """Find a contraction plan of a network; ``backward_plan`` gives the plan of its gradients.

    Arguments:
        net: the network; of a layer its network and dtype. Of a sum, ``net1 + net2`` or
            ``tn.energy(...)``, each network is planned, and a tuple of plans returned; a memory
            limit is one for each of them then.
        batch: the batch size to plan for; the plan is right for every other too.
        objective: "train" (forward and backward) or "infer".
        device: where it will run.
        memory_limit: bytes that may be allocated beyond x, y, parameters and their gradients, as
            a number or as text, "512MiB".
        effort: "fast", "default" or "high": how long to search beyond 12 tensors.
        dtype: of the arithmetic, a name or a torch.dtype; by default float32, complex64 if need be.
        minimize: "time" ranks the trees of several searches by predicted time. The other words take
            the best tree by one count: "flops", "write" (entries written), "size" (the largest
            value), "combo-N" (FLOPs and N times the entries written) or "limit-N" (the larger of
            the two), as cotengra has them; "rebuild" multiplies all tensors before any input.
        path: an order of your own, as ``cost.path``, opt_einsum, numpy and cotengra write it:
            steps of places in a list of operands, those of a step taken out and their product
            appended. Operands are the inputs, then the tensors as they were declared. It stands in
            for a search; storage orders, backends and memory limits are chosen as ever.

    Raises:
        SpecError: an option is unknown.
        PlanError: no plan fits: an intermediate or the peak is too large.

    >>> import tnlayer as tn
    >>> net = tn.topologies.tensor_train((4, 4), (4, 4), rank=2)
    >>> p = tn.plan(net, batch=16)
    >>> p.proven_optimal, len(p.steps), p.counts.flops.per_sample
    (True, 2, 512)
    >>> own = tn.plan(net, batch=16, path=[(1, 2), (0, 1)])  # both cores first, then x
    >>> [step.result.name for step in own.steps], own.counts.flops.per_sample
    (['t0', 't1'], 512)
    """
    where, own = device_option(device), dtype_option(dtype_asked_for(net, dtype))
    limit = memory_option(memory_limit)
    request = Request(batch, objective, where, limit, effort, own, minimize)
    request = with_path(request, net, path)
    if is_sum(net):
        graphs = as_sum(net)
        request = replace(request, dtype=arithmetic_of(graphs, own))
        return tuple(plan_graph(graph, request).plan for graph in graphs)
    return plan_graph(as_graph(net), request).plan


def with_path(request: Request, net: AnyNetwork | AnySum, path: ContractionPath | None) -> Request:
    """The request with an order of the user's in place of a search.

    Raises:
        SpecError: it is no path of this network, there are several networks, or ``minimize`` names
            a search as well.
    """
    if path is None:
        return request
    if is_sum(net):
        msg = "path= is the order of one network, and this is a sum; plan one of them, net[0]"
        raise SpecError(msg)
    if request.minimize != BY_TIME:
        msg = f"path= is an order, and minimize={request.minimize!r} asks to search one; give one"
        raise SpecError(msg)
    return replace(request, minimize=GIVEN, path=given_path(path, as_graph(net)))


def plan_graph(net: AnyNetwork, request: Request, *, whole_range: bool = False) -> PlannedGraph:
    """As :func:`plan`, with the graph, its canonical form and the choice beside the plan.

    Arguments:
        net: the network.
        request: what the plan is for.
        whole_range: whether to take the plan that is best for a whole range of batch sizes around
            ``request.batch``, which is then in the choice; else the best at exactly that size.
    """
    graph = as_graph(net)
    request = request.checked(graph)
    scale_nearest(request.dtype, request.device)
    form = canonicalise(graph)
    try:
        with told(f"planning {graph.label!r} ({len(graph.tensors)} tensors), once on this machine"):
            choice = (choose_range if whole_range else choose)(form, request.batch, request)
    except (LimitRefused, SizeRefused) as error:
        msg = f"network {graph.label!r}: {error.with_names(user_names(graph, form))}"
        if isinstance(error, LimitRefused):
            raise LimitError(f"{msg}{_other_orders(form, request, error)}", error.needed) from None
        raise PlanError(msg) from None
    planned = planned_with(graph, form, request, choice)
    # The text of a plan takes longer than finding a small one.
    if debug_level() >= 2 or logger.isEnabledFor(DEBUG):
        debug(2, f"plan of {graph.label!r} on {request.device}:\n{planned.plan}\n{choice.reason}")
    return planned


def _other_orders(form: CanonicalForm, request: Request, refused: LimitRefused) -> str:
    """What the search through all orders finds where one for a single purpose was refused."""
    if request.minimize == BY_TIME:
        return ""  # all were tried
    try:
        choose(form, request.batch, replace(request, minimize=BY_TIME))
    except LimitRefused as error:
        if error.needed >= refused.needed:
            return ""
        return f" Without minimize= all orders are tried, and {error.needed} bytes are enough."
    except PlanError:
        return ""
    return " Without minimize= all orders are tried, and one of them keeps it."


def known_plan(graph: Graph, request: Request, *, whole_range: bool = False) -> PlannedGraph | None:
    """What :func:`plan_graph` gives, where the store has it; None where it would have to plan."""
    request = request.checked(graph)
    form = canonicalise(graph)
    choice = known_choice(form, request.batch, request, whole_range=whole_range)
    return None if choice is None else planned_with(graph, form, request, choice)


def planned_with(
    graph: Graph, form: CanonicalForm, request: Request, choice: Choice
) -> PlannedGraph:
    """A graph with a choice that was made elsewhere; its plan gets the user's names."""
    named = choice.plan.with_names(user_names(graph, form))
    return PlannedGraph(graph, form, choice.lowered.with_plan(named), request, choice)


def backward_plan(
    forward: Plan | AnyNetwork,
    wanted: Iterable[str] | None = None,
    *,
    batch: int = DEFAULT_BATCH,
) -> Plan:
    """The plan of the gradients of a forward plan, or of a network.

    Arguments:
        forward: as :func:`plan` gives it; or a network, which is planned as :func:`plan` does
            without other options.
        wanted: names of the inputs and tensors whose gradients are wanted, the user's or those in
            the plan; by default all.
        batch: of a network: the batch size to plan for; a plan has its own.

    Raises:
        SpecError: a name is unknown.
        PlanError: of a network: no plan fits.

    >>> import tnlayer as tn
    >>> net = tn.topologies.low_rank(6, 4, rank=2)
    >>> len(tn.backward_plan(net).outputs), len(tn.backward_plan(tn.plan(net), ["U"]).outputs)
    (3, 1)
    """
    if not isinstance(forward, Plan):
        dtype = dtype_option(dtype_asked_for(forward, None))
        request = Request(batch, dtype=dtype)
        forward = plan_graph(as_graph(forward), request).plan
    canonical = [value.name for value in forward.inputs]
    if wanted is None:
        return adjoint(forward, canonical)
    users = {user: name for name, user in forward.names if name in canonical}
    names = [users.get(name, name) for name in wanted]
    for name in names:
        if name not in canonical:
            known = suggest(name, users or canonical)
            msg = f"backward_plan: there is no input or tensor {shown(name)}{known}"
            raise SpecError(msg)
    return adjoint(forward, names)


def user_names(graph: Graph, form: CanonicalForm) -> dict[str, str]:
    """The user's name of each canonical input, tensor and leg."""
    ports = zip(form.graph.inputs, graph.inputs, strict=True)
    names = {canonical.name: user.name for canonical, user in ports}
    pairs = (*form.tensor_names.items(), *form.leg_names.items())
    return names | {canonical: user for user, canonical in pairs}
