"""The planner: a network becomes a forward Plan."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass, replace
from logging import DEBUG

from ..errors import PlanError, SpecError
from ..graph.argument_checks import check_option, shown
from ..graph.canonical import CanonicalForm, canonicalise
from ..graph.graph import Graph
from ..graph.network import Network, as_graph
from ..hardware.cpu import Cpu
from ..hardware.gpu import Gpu
from ..ir.backend_names import TORCH
from ..ir.plan import Plan
from ..lowering.calls.training_schedules import Mask
from ..passes.differentiate import adjoint
from ..support.debug import debug, debug_level, logger
from ..support.dtypes import DTYPES
from ..targets.backend import is_free, lower
from ..targets.lowered import Lowered
from .batch_ranges import Choice, choose, choose_range
from .check_plan import SizeRefused
from .memory_limit import LimitError, LimitRefused
from .request import BY_TIME, OBJECTIVES, Request, training_mask

# The batch size that plans are made for where the caller names none.
DEFAULT_BATCH = 256

EFFORTS = ("fast", "default", "high")

# No array has more entries, so no batch is larger.
MAX_BATCH = 2**62

# Several objectives are searched, and the time model ranks what they find.
DEFAULT_MINIMIZE = BY_TIME


@dataclass(frozen=True, slots=True)
class PlanOptions:
    """What a plan is made for; the arguments are those of :func:`plan`.

    All from ``backend`` on are those of a Request: which backends may run it, what kernels are
    compiled for, and with a memory limit whether a forward may keep values, and whether results
    are added to those of other networks.
    """

    batch: int = DEFAULT_BATCH
    objective: str = "train"
    device: str = "cpu"
    memory_limit: int | None = None
    effort: str = "default"
    dtype: str | None = None
    minimize: str = DEFAULT_MINIMIZE
    backend: str = TORCH
    cpu: Cpu | None = None
    gpu: Gpu | None = None
    keeps: bool = True
    adds: bool = False

    @property
    def is_free(self) -> bool:
        """Whether no backend was asked for by name."""
        return is_free(self.backend)


@dataclass(frozen=True, slots=True)
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

    def lowered_for(self, mask: Mask) -> Lowered:
        """The plan lowered for a mask of wanted gradients."""
        if mask == self.lowered.mask:
            return self.lowered
        return lower(self.plan, mask, self.lowered.target)

    def with_lowered(self, lowered: Lowered, reason: str = "") -> PlannedGraph:
        """The same with another plan, for a reason of its own."""
        choice = replace(self.choice, lowered=lowered, reason=reason or self.choice.reason)
        return replace(self, lowered=lowered, choice=choice)

    @property
    def training_mask(self) -> Mask:
        """Wanted gradients of a training step: every input and every trainable parameter."""
        return training_mask(self.form.graph, self.plan)


def plan(
    net: Network | Graph,
    *,
    batch: int = DEFAULT_BATCH,
    objective: str = "train",
    device: str = "cpu",
    memory_limit: int | None = None,
    effort: str = "default",
    dtype: str | None = None,
    minimize: str = DEFAULT_MINIMIZE,
) -> Plan:
    """Find a contraction plan of a network; ``backward_plan`` gives the plan of its gradients.

    Arguments:
        net: the network.
        batch: the batch size to plan for; the plan is right for every other too.
        objective: "train" (forward and backward) or "infer".
        device: where it will run.
        memory_limit: bytes that may be allocated beyond x, y, parameters and their gradients.
        effort: "fast", "default" or "high": how long to search beyond 12 tensors.
        dtype: name of the dtype of the arithmetic; by default float32, complex64 if need be.
        minimize: "time" ranks the trees of several objectives by predicted time; flops, write,
            size, combo-N and limit-N (cotengra's words) take the best tree by that count, and
            "rebuild" contracts all tensors before any input.

    Raises:
        SpecError: an option is unknown.
        PlanError: no plan fits: an intermediate or the peak is too large.

    >>> import tnlayer as tn
    >>> net = tn.topologies.tensor_train((4, 4), (4, 4), rank=2)
    >>> p = tn.plan(net, batch=16)
    >>> p.proven_optimal, len(p.steps), p.counts.flops.per_sample
    (True, 2, 512)
    """
    options = PlanOptions(batch, objective, device, memory_limit, effort, dtype, minimize)
    return plan_graph(net, options).plan


def plan_graph(
    net: Network | Graph, options: PlanOptions, *, whole_range: bool = False
) -> PlannedGraph:
    """As :func:`plan`, with the graph, its canonical form and the choice beside the plan.

    Arguments:
        net: the network.
        options: those of :func:`plan`.
        whole_range: whether to take the plan that is best for a whole range of batch sizes around
            ``options.batch``, which is then in the choice; else the best at exactly that size.
    """
    graph = as_graph(net)
    request = _request(graph, options)
    form = canonicalise(graph)
    try:
        choice = (choose_range if whole_range else choose)(form, options.batch, request)
    except (LimitRefused, SizeRefused) as error:
        msg = f"network {graph.label!r}: {error.with_names(user_names(graph, form))}"
        if isinstance(error, LimitRefused):
            raise LimitError(msg, error.needed) from None
        raise PlanError(msg) from None
    planned = planned_with(graph, form, request, choice)
    # The text of a plan takes longer than finding a small one.
    if debug_level() >= 2 or logger.isEnabledFor(DEBUG):
        debug(2, f"plan of {graph.label!r} on {options.device}:\n{planned.plan}\n{choice.reason}")
    return planned


def planned_with(
    graph: Graph, form: CanonicalForm, request: Request, choice: Choice
) -> PlannedGraph:
    """A graph with a choice that was made elsewhere; its plan gets the user's names."""
    named = choice.plan.with_names(user_names(graph, form))
    return PlannedGraph(graph, form, choice.lowered.with_plan(named), request, choice)


def _request(graph: Graph, options: PlanOptions) -> Request:
    """What is asked for, checked."""
    usual = "complex64" if graph.is_complex else "float32"
    dtype = usual if options.dtype is None else options.dtype
    if not isinstance(dtype, str) or dtype not in DTYPES:
        msg = f"dtype {shown(dtype)} is not supported; expected one of {', '.join(DTYPES)}"
        raise SpecError(msg)
    check_option(options.objective, "objective", OBJECTIVES)
    check_option(options.effort, "effort", EFFORTS)
    batch, limit = options.batch, options.memory_limit
    if isinstance(batch, bool) or not isinstance(batch, int) or not 1 <= batch <= MAX_BATCH:
        msg = (
            f"batch={shown(batch)}: expected an int from 1 to {MAX_BATCH}, the batch size to plan "
            "for"
        )
        raise SpecError(msg)
    if limit is not None and (isinstance(limit, bool) or not isinstance(limit, int) or limit < 0):
        msg = f"memory_limit={shown(limit)}: expected a whole number of bytes, or None"
        raise SpecError(msg)
    check_device(options.device)
    if not isinstance(options.minimize, str):
        msg = f"minimize={shown(options.minimize)}: expected a string"
        raise SpecError(msg)
    return Request(
        dtype=dtype,
        objective=options.objective,
        device=options.device,
        effort=options.effort,
        minimize=options.minimize,
        memory_limit=options.memory_limit,
        backend=options.backend,
        cpu=options.cpu if options.device == "cpu" else None,
        gpu=options.gpu if options.device == "cuda" else None,
        keeps=options.keeps,
        adds=options.adds,
    )


def check_device(device: object) -> None:
    """Refuse what is no name of a type of device, such as "cpu" or "cuda"."""
    if not isinstance(device, str) or re.fullmatch(r"[a-z][a-z0-9_:]{0,31}", device) is None:
        msg = f"device={shown(device)}: expected the name of a type of device, such as 'cpu'"
        raise SpecError(msg)


def backward_plan(forward: Plan, wanted: Iterable[str] | None = None) -> Plan:
    """The plan of the gradients of a forward plan.

    Arguments:
        forward: as :func:`plan` gives it.
        wanted: canonical names of the inputs whose gradients are wanted; by default all.
    """
    names = [value.name for value in forward.inputs] if wanted is None else wanted
    return adjoint(forward, names)


def user_names(graph: Graph, form: CanonicalForm) -> dict[str, str]:
    """The user's name of each canonical input, tensor and leg."""
    ports = zip(form.graph.inputs, graph.inputs, strict=True)
    names = {canonical.name: user.name for canonical, user in ports}
    pairs = (*form.tensor_names.items(), *form.leg_names.items())
    return names | {canonical: user for user, canonical in pairs}
