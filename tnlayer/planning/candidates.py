"""Candidate plans of a network for one batch size, found by several objectives.

FLOPs alone are the wrong objective where each step is a call of its own, and no static one is right
for all networks and batch sizes. So several are searched, at the batch size that matters, and the
time model ranks what they find. Rebuilding W is always among the candidates.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable
from dataclasses import replace
from math import inf

from ..errors import PlanError
from ..graph.graph import Graph
from ..hardware.profile.op_times import OpTimes
from ..ir.plan import Plan
from ..ir.steps import BATCH, Contract, Select, Step
from ..lowering.cpu.kernel_batch import kernel_batch
from .check_plan import MAX_VALUE_ENTRIES
from .contraction_order import EXHAUSTIVE_TENSORS
from .deadline import Deadline, remember_uncut
from .plan_of_order import REBUILD, make_plan

# The first one is searched exhaustively where that is affordable, the others up to fewer tensors.
OBJECTIVES = ("combo-64", "flops", "combo-4", "combo-256", "write", "size")
_CHEAP_TENSORS = 8
_LARGE_TENSORS = 60

# W is not rebuilt where it would have more entries than this.
_MAX_REBUILT = 2**28


@remember_uncut(512)
def candidates(
    graph: Graph, batch: int, dtype: str, effort: str, *, deadline: Deadline | None = None
) -> tuple[Plan, ...]:
    """Forward plans with distinct contraction trees; ``minimize`` says how each was found.

    Arguments:
        graph: a canonical network.
        batch: the batch size that the searches weigh contractions by.
        dtype: dtype of the arithmetic.
        effort: "fast", "default" or "high".
        deadline: that of all planning: once it has passed, no further objective is searched.

    Raises:
        SpecError: an option is unknown.
        PlanError: no tree keeps its intermediates below 2**36 entries.
    """
    tensors = len(graph.tensors)
    large = is_large(graph) and effort != "high"
    objectives = OBJECTIVES[:3] if large or effort == "fast" else OBJECTIVES
    # A large network is searched once for few samples and once for many.
    searched = kernel_batch(batch) if large else batch
    deadline = deadline or Deadline(inf)
    found: dict[frozenset[bytes], Plan] = {}
    problem: PlanError | None = None
    for position, minimize in enumerate(objectives):
        # Ten objectives of exhaustive search would cost more than they gain.
        seeded = (
            position > 0 and _CHEAP_TENSORS < tensors <= EXHAUSTIVE_TENSORS and effort != "high"
        )
        try:
            plan = make_plan(
                graph,
                batch=searched,
                dtype=dtype,
                minimize=minimize,
                effort=effort,
                seeded=seeded,
                deadline=deadline,
            )
        except PlanError as error:
            problem = error
            continue
        found.setdefault(tree_key(plan), replace(plan, batch=batch))
        if deadline.passed("comparing objectives"):
            break
    if not found and problem is not None:
        raise problem
    if _can_rebuild(graph) and not deadline.cut:
        plan = make_plan(
            graph, batch=batch, dtype=dtype, minimize=REBUILD, effort=effort, deadline=deadline
        )
        found.setdefault(tree_key(plan), plan)
    return tuple(found.values())


def is_large(graph: Graph) -> bool:
    """Whether each search and each schedule takes so long that few of them have to do."""
    return len(graph.tensors) > _LARGE_TENSORS


def tree_key(plan: Plan) -> frozenset[bytes]:
    """What two plans with one contraction tree have in common: a digest of each subtree."""
    digests: dict[str, bytes] = {}
    nodes: set[bytes] = set()
    for step in plan.steps:
        name = step.result.name
        if isinstance(step, Contract):
            below = sorted(
                digests.get(operand.value.name) or _digest(operand.value.name.encode())
                for operand in step.operands
            )
            digests[name] = _digest(b"contract", *below)
            nodes.add(digests[name])
        elif isinstance(step, Select) and step.terms:
            # A new name for a product differs by the terms that it stands for.
            digests[name] = _digest(b"again", *sorted(term.encode() for term, _ in step.terms))
        else:
            # A slice or a diagonal is a leaf of its own: tensors that share entries differ.
            digests[name] = _digest(name.encode())
    return frozenset(nodes)


def _digest(*parts: bytes) -> bytes:
    return hashlib.sha256(b"\0".join(parts)).digest()


def rough_seconds(plan: Plan, batch: int, times: OpTimes, *, training: bool) -> float:
    """A lower estimate of a plan's time: every contraction in its best form, no copies.

    Arguments:
        plan: a forward plan.
        batch: samples of a call.
        times: the device's operations.
        training: whether the two contractions of the backward count too.
    """
    sizes = {**plan.sizes, BATCH: batch}

    def entries(legs: Iterable[str]) -> int:
        product = 1
        for leg in legs:
            product *= sizes[leg]
        return product

    return sum(_step_seconds(step, entries, times, training=training) for step in plan.steps)


def _step_seconds(
    step: Step, entries: Callable[[Iterable[str]], int], times: OpTimes, *, training: bool
) -> float:
    if isinstance(step, Select) and step.renames:
        return 0.0
    if not isinstance(step, Contract):
        return times.move(entries(step.result.legs))
    left, right, kept = set(step.left.legs), set(step.right.legs), set(step.result.legs)
    count = entries(left & right & kept)
    summed = entries((left & right) - kept)
    rows, columns = entries(left - right), entries(right - left)
    products = [(rows, columns, summed)]
    if training:
        products += [(rows, summed, columns), (summed, columns, rows)]
    if count > 1:
        return sum(times.bmm(count, *sizes) for sizes in products)
    return sum(times.mm(*sizes) for sizes in products)


def _can_rebuild(graph: Graph) -> bool:
    """Whether W, with all legs that tensors share with the ports, is of a reasonable size."""
    if len(graph.tensors) < 2 or not graph.inputs:
        return False
    ports = {leg for port in graph.inputs for leg in port.legs} | set(graph.output)
    on_tensors = {leg for tensor in graph.tensors for leg in tensor.legs}
    entries = 1
    for leg in ports & on_tensors:
        if leg not in graph.pinned:
            entries *= graph.sizes[leg]
    return entries <= min(_MAX_REBUILT, MAX_VALUE_ENTRIES)
