"""Contraction trees: from a graph and an order of contractions to a forward Plan."""

from __future__ import annotations

from dataclasses import replace

from ..errors import SpecError
from ..graph.graph import Graph
from ..ir.counts import elements
from ..ir.plan import Plan
from ..ir.plan_parts import Output
from ..ir.plan_values import GIVEN
from ..ir.steps import BATCH
from ..passes.lower_graph import Terms, make_terms
from ..support.dtypes import DTYPES
from .check_plan import MAX_VALUE_ENTRIES, SizeRefused
from .contraction_order import Found, search_order
from .deadline import Deadline, remember_uncut
from .orders_that_share import better_with_repeats
from .refine_order import SsaPath
from .steps_of_order import contract_pairs

# The tree that contracts all tensors before any input: W is rebuilt, then multiplied.
REBUILD = "rebuild"


# Plans are values: one search serves cost(), compile() and every layer of the same network.
@remember_uncut(512)
def make_plan(
    graph: Graph,
    *,
    batch: int = 256,
    dtype: str = "float32",
    minimize: str = "combo-64",
    effort: str = "default",
    seeded: bool = False,
    deadline: Deadline | None = None,
    path: SsaPath = (),
) -> Plan:
    """Find a forward plan of a (canonical) graph.

    Arguments:
        graph: the network.
        batch: the batch size to plan for; the plan is right for every other too.
        dtype: dtype of parameters and arithmetic.
        minimize: the search objective, or "rebuild": all tensors first, then the inputs.
        effort: how long to search beyond 12 tensors.
        seeded: whether to take seeded trials also where an exhaustive search would be possible.
        deadline: that of all planning; None: none.
        path: the order, where ``minimize`` says "path".

    Raises:
        SpecError: an option is unknown.
        SizeRefused: an intermediate has more than 2**36 entries; names its legs.
    """
    if dtype not in DTYPES:
        msg = f"dtype {dtype!r} is not supported; expected one of {', '.join(DTYPES)}"
        raise SpecError(msg)
    if isinstance(batch, bool) or not isinstance(batch, int) or batch < 1:
        msg = f"batch={batch!r}: expected a positive int, the batch size to plan for"
        raise SpecError(msg)
    terms = make_terms(graph, is_complex=DTYPES[dtype].is_complex)
    if not terms.terms:
        msg = f"network {graph.label!r} has no tensor and no input: add one, there is no product"
        raise SpecError(msg)
    kept = tuple(leg for axis in terms.output for leg in axis)
    sizes = {**dict(terms.leg_sizes), BATCH: batch}
    legs = [term.legs for term in terms.terms]
    if minimize == GIVEN:
        found = Found(path)
    elif minimize == REBUILD:
        inputs = len(terms.terms) - len(graph.tensors)
        found = _rebuild_order(terms, inputs, sizes, effort, deadline)
    else:
        found = search_order(
            legs,
            kept,
            sizes,
            tensors=len(graph.tensors),
            minimize=minimize,
            effort=effort,
            seeded=seeded,
            deadline=deadline,
        )
        found = better_with_repeats(terms, found, sizes, minimize, effort, deadline)
    steps, result = contract_pairs(terms, found.pairs)
    plan = Plan(
        leg_sizes=terms.leg_sizes,
        ports=terms.ports,
        parameters=terms.parameters,
        saved=(),
        steps=steps,
        outputs=(Output("y", result, terms.output),),
        port_axes=terms.port_axes,
        dtype=dtype,
        batch=batch,
        minimize=minimize,
        proven_optimal=found.optimal,
        aborted=found.aborted,
    )
    _check_sizes(plan)
    return plan.verify()


def _rebuild_order(
    terms: Terms, inputs: int, sizes: dict[str, int], effort: str, deadline: Deadline | None
) -> Found:
    """The order that contracts the tensors, which stand behind the inputs, before any input."""
    legs = [term.legs for term in terms.terms]
    outside = {leg for term in legs[:inputs] for leg in term}
    outside |= {leg for axis in terms.output for leg in axis}
    present = {leg for term in legs[inputs:] for leg in term}
    kept = tuple(leg for leg in sizes if leg in outside and leg in present)
    found = search_order(
        legs[inputs:],
        kept,
        sizes,
        tensors=len(legs) - inputs,
        minimize="flops",
        effort=effort,
        deadline=deadline,
    )
    rebuilt = replace(terms, terms=terms.terms[inputs:], output=(kept,))
    found = better_with_repeats(rebuilt, found, sizes, "flops", effort, deadline)
    # The search counted the tensors from 0 and its results from len(tensors).
    moved = [(a + inputs, b + inputs) for a, b in found.pairs]
    waiting = list(range(inputs))
    last = len(legs) + len(moved) - 1 if moved else inputs
    if inputs == len(legs):  # no tensors, no W: the inputs one after the other
        last = waiting.pop(0)
    for number in waiting:
        moved.append((number, last))
        last = len(legs) + len(moved) - 1
    return Found(tuple(moved), aborted=found.aborted)


def _check_sizes(plan: Plan) -> None:
    """Refuse a plan with a value that no machine holds, before anything is allocated."""
    for step in plan.steps:
        size = elements(step.result.legs, plan.sizes)
        entries = max(size.fixed, size.per_sample)
        if entries > MAX_VALUE_ENTRIES:
            raise SizeRefused(entries, step.result.legs)
