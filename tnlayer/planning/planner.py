"""The planner: a network becomes a forward Plan."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from functools import lru_cache

from tnlayer.canonical import CanonicalForm, canonicalise
from tnlayer.debug import debug
from tnlayer.errors import PlanError, SpecError
from tnlayer.graph import Graph
from tnlayer.kernels.pair import Mask, schedule_pair
from tnlayer.network import Network
from tnlayer.plan.adjoint import adjoint
from tnlayer.plan.counts import elements
from tnlayer.plan.plan import ITEMSIZES, Output, Plan
from tnlayer.plan.steps import BATCH, Contract, Operand, Step, Value
from tnlayer.planning.check import MAX_VALUE_ENTRIES
from tnlayer.planning.search import search_order
from tnlayer.planning.terms import Terms, make_terms

# The batch size that plans are made for where the caller names none.
DEFAULT_BATCH = 256

# FLOPs + 64 x entries written: an op-by-op backend pays for every intermediate that it writes.
DEFAULT_MINIMIZE = "combo-64"


OBJECTIVES = ("train", "infer")


@dataclass(frozen=True, slots=True)
class PlanOptions:
    """What a plan is made for; the arguments are those of :func:`plan`."""

    batch: int = DEFAULT_BATCH
    objective: str = "train"
    device: str = "cpu"
    memory_limit: int | None = None
    effort: str = "default"
    dtype: str | None = None
    minimize: str = DEFAULT_MINIMIZE


@dataclass(frozen=True, slots=True)
class PlannedGraph:
    """A graph with its canonical form and a plan of it.

    Arguments:
        graph: as the user gave it.
        form: its canonical form.
        plan: the forward plan, in canonical names, with the user's names beside them.
    """

    graph: Graph
    form: CanonicalForm
    plan: Plan

    @property
    def training_mask(self) -> Mask:
        """Wanted gradients of a training step: every input and every trainable parameter."""
        nodes = self.form.graph.nodes
        trainable = (nodes[value.name].trainable for value in self.plan.parameters)
        return (*(True for _ in self.plan.ports), *trainable)


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
        device: where it will run; the search is the same for all devices yet.
        memory_limit: bytes that may be allocated beyond x, y, parameters and their gradients.
        effort: "fast", "default" or "high": how long to search beyond 12 tensors.
        dtype: name of the dtype of the arithmetic; by default float32, complex64 if need be.
        minimize: what the search minimises, in cotengra's words: flops, write, combo-N...

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


def plan_graph(net: Network | Graph, options: PlanOptions) -> PlannedGraph:
    """As :func:`plan`, with the graph and its canonical form beside the plan."""
    if options.objective not in OBJECTIVES:
        known = ", ".join(OBJECTIVES)
        msg = f"objective={options.objective!r} is unknown; expected one of {known}"
        raise SpecError(msg)
    graph = net if isinstance(net, Graph) else net.freeze()
    form = canonicalise(graph)
    found = make_plan(
        form.graph,
        batch=options.batch,
        dtype=options.dtype or ("complex64" if graph.is_complex else "float32"),
        minimize=options.minimize,
        effort=options.effort,
    )
    planned = PlannedGraph(graph, form, found.with_names(user_names(graph, form)))
    if options.memory_limit is not None:
        _keep_limit(planned, options.batch, options.objective, options.memory_limit)
    debug(2, f"plan of {graph.label!r} on {options.device}:\n{planned.plan}")
    return planned


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


def _keep_limit(planned: PlannedGraph, batch: int, objective: str, memory_limit: int) -> None:
    """Refuse a plan that allocates more than the limit, rather than break the promise later."""
    mask = planned.training_mask
    if objective == "infer":
        mask = (False,) * len(mask)
    needed = workspace_bytes(planned.plan, mask, batch)
    if needed > memory_limit:
        msg = (
            f"network {planned.graph.label!r}: the plan for batch {batch} and objective "
            f"{objective!r} allocates {needed} bytes beyond x, y, the parameters and their "
            f"gradients; memory_limit={memory_limit}. Call with smaller batches, use "
            f"minimize='write', or raise the limit."
        )
        raise PlanError(msg)


def workspace_bytes(forward: Plan, mask: Mask, batch: int) -> int:
    """Peak of what a plan allocates beyond x, y, the parameters and their gradients."""
    outputs = forward.outputs[0].legs
    given = elements(outputs, forward.sizes).at(batch)
    if any(mask):
        wanted = (v for v, asked in zip(forward.inputs, mask, strict=True) if asked)
        given += sum(elements(value.legs, forward.sizes).at(batch) for value in wanted)
    peak = schedule_pair(forward, mask).peak_bytes(batch)
    return max(0, peak - given * forward.itemsize)


# Plans are values: one search serves cost(), compile() and every layer of the same network.
@lru_cache(maxsize=512)
def make_plan(
    graph: Graph,
    *,
    batch: int = DEFAULT_BATCH,
    dtype: str = "float32",
    minimize: str = DEFAULT_MINIMIZE,
    effort: str = "default",
) -> Plan:
    """Find a forward plan of a (canonical) graph.

    Arguments:
        graph: the network.
        batch: the batch size to plan for; the plan is right for every other too.
        dtype: dtype of parameters and arithmetic.
        minimize: the search objective.
        effort: how long to search beyond 12 tensors.

    Raises:
        SpecError: an option is unknown.
        PlanError: an intermediate has more than 2**36 entries; names its legs.
    """
    if dtype not in ITEMSIZES:
        msg = f"dtype {dtype!r} is not supported; expected one of {', '.join(ITEMSIZES)}"
        raise SpecError(msg)
    if isinstance(batch, bool) or not isinstance(batch, int) or batch < 1:
        msg = f"batch={batch!r}: expected a positive int, the batch size to plan for"
        raise SpecError(msg)
    terms = make_terms(graph, is_complex=dtype.startswith("complex"))
    if not terms.terms:
        msg = f"network {graph.label!r} has no tensor and no input: add one, there is no product"
        raise SpecError(msg)
    kept = tuple(leg for axis in terms.output for leg in axis)
    sizes = {**dict(terms.leg_sizes), BATCH: batch}
    found = search_order(
        [term.legs for term in terms.terms],
        kept,
        sizes,
        tensors=len(graph.tensors),
        minimize=minimize,
        effort=effort,
    )
    steps, result = _contract_pairs(terms, found.pairs)
    plan = Plan(
        leg_sizes=terms.leg_sizes,
        ports=terms.ports,
        parameters=terms.parameters,
        saved=(),
        steps=(*terms.steps, *steps),
        outputs=(Output("y", result, terms.output),),
        port_axes=terms.port_axes,
        dtype=dtype,
        batch=batch,
        minimize=minimize,
        proven_optimal=found.optimal,
        aborted=found.aborted,
    )
    _check_sizes(plan, graph)
    return plan.verify()


def _contract_pairs(
    terms: Terms, pairs: tuple[tuple[int, int], ...]
) -> tuple[tuple[Step, ...], Operand]:
    """Contract steps for an order; the larger operand, by number of legs, stands left."""
    left = Counter(leg for term in terms.terms for leg in term.legs)
    left.update(leg for axis in terms.output for leg in axis)
    values = list(terms.terms)
    steps: list[Step] = []
    for number, (first, second) in enumerate(pairs):
        a, b = values[first], values[second]
        if (BATCH in b.legs, len(b.legs)) > (BATCH in a.legs, len(a.legs)):
            a, b = b, a
        shared = set(a.legs) & set(b.legs)
        left.subtract(shared)
        loop = dict.fromkeys(a.legs + b.legs)
        result = Value(f"t{number}", tuple(leg for leg in loop if left[leg] > 1))
        # A leg that still has another end, or leaves, is kept; the two here count as one now.
        steps.append(Contract(result, a, b))
        values.append(Operand(result))
    return tuple(steps), values[-1]


def _check_sizes(plan: Plan, graph: Graph) -> None:
    """Refuse a plan with a value that no machine holds, before anything is allocated."""
    for step in plan.steps:
        size = elements(step.result.legs, plan.sizes)
        entries = max(size.fixed, size.per_sample)
        if entries > MAX_VALUE_ENTRIES:
            msg = (
                f"network {graph.label!r}: the best plan found makes an intermediate of {entries} "
                f"entries a sample in step {step.result.name} (legs {', '.join(step.result.legs)});"
                f" expected at most {MAX_VALUE_ENTRIES}. Lower the bonds, or try effort='high'."
            )
            raise PlanError(msg)
