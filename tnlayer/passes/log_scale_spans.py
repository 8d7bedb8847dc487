"""Spans: a forward plan cut into plans of their own, between which values are scaled.

Entries of all that a span starts from are at most 1, so those of its result are at most the product
of the sizes that it sums: the pass cuts where that would be too much for the dtype. Each span has
one result; what comes before a cut ends in it, and every span behind starts from it.

Names are given anew in the order of the steps, so that equal spans are equal plans.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from ..ir.backend_names import TORCH
from ..ir.counts import elements
from ..ir.cuts import batched_steps
from ..ir.plan import Plan
from ..ir.plan_parts import Memory, Output
from ..ir.steps import BATCH, Contract, Operand, Reduce, Select, Step, Value, with_operands


@dataclass(frozen=True, slots=True)
class Span:
    """A part of a plan that ends where a value is scaled.

    Arguments:
        plan: its steps as a plan, with names of its own.
        sources: for each input of that plan its name in the whole: an input, a vector of a product
            port, or the result of an earlier span.
        result: name in the whole of what it makes.
        backend: of the region that its steps lie in.
    """

    plan: Plan
    sources: tuple[str, ...]
    result: str
    backend: str


def product_vectors(plan: Plan) -> dict[str, Select]:
    """The steps that take one leg's vector from a product port, by the name of the vector."""
    ports = {port.name for port in plan.ports}
    return {
        step.result.name: step
        for step in plan.steps
        if isinstance(step, Select) and step.operand.value.name in ports
    }


def degrees(plan: Plan) -> Counter[str]:
    """How often each value enters the result of a forward plan as a factor."""
    found = Counter({plan.outputs[0].operand.value.name: 1})
    for step in reversed(plan.steps):
        for operand in step.operands:
            found[operand.value.name] += found[step.result.name]
    return found


def spans(plan: Plan, bits: float) -> tuple[Span, ...]:
    """The spans of a forward plan, in order; the last one ends in y.

    Arguments:
        plan: a forward plan.
        bits: by how many powers of two the entries of a span's result may exceed those of what it
            starts from, but for what one contraction makes; 0: each contraction is a span.
    """
    vectors = product_vectors(plan)
    regions = _regions(plan)
    ends = _ends(plan, bits, vectors, regions)
    last = plan.outputs[0].operand.value.name
    makers = {step.result.name: step for step in plan.steps if step.result.name not in vectors}
    places = {name: place for place, name in enumerate(makers)}
    found: list[Span] = []
    for result in (*(name for name in makers if name in ends and name != last), last):
        names, pending = set[str](), [result]
        while pending:
            name = pending.pop()
            if name in makers and name not in names and (name == result or name not in ends):
                names.add(name)
                pending += (operand.value.name for operand in makers[name].operands)
        steps = [makers[name] for name in sorted(names, key=places.__getitem__)]
        backends = [regions[name] for name in names if name in regions]
        backend = plan.regions[backends[0]].backend if backends else _alone(plan)
        own, sources = _renamed(plan, steps, None if result == last else makers[result].result)
        found.append(Span(own, sources, result, backend))
    return tuple(found)


def _alone(plan: Plan) -> str:
    """The backend of steps without samples: torch where the plan is a mixture."""
    backends = {region.backend for region in plan.regions}
    return backends.pop() if len(backends) == 1 else TORCH


def _regions(plan: Plan) -> dict[str, int]:
    """The region of each step that touches samples, by the name of its result."""
    numbers = [number for number, region in enumerate(plan.regions) for _ in range(region.steps)]
    pairs = zip(batched_steps(plan), numbers, strict=False)
    return {step.result.name: number for step, number in pairs}


def _ends(
    plan: Plan, bits: float, vectors: Mapping[str, Step], regions: Mapping[str, int]
) -> frozenset[str]:
    """Names of the contractions whose results are scaled.

    What a contraction reads may be another one's result under other names: that one is scaled then.
    """
    uses = Counter(operand.value.name for step in plan.steps for operand in step.operands)
    contracted = [step.result.name for step in plan.steps if isinstance(step, Contract)]
    ends = {name for name in contracted if uses[name] > 1}  # made once, whoever reads them
    grown: dict[str, float] = {}
    origins: dict[str, str] = {}  # the contraction that a value is the result of, or a view of
    for step in plan.steps:
        made = step.result.name
        if made in vectors:
            continue
        operands = sorted({o.value.name for o in step.operands}, key=lambda n: -grown.get(n, 0))
        total = _growth(step, plan) + sum(grown.get(name, 0) for name in operands)
        for name in operands:
            origin = origins.get(name)
            crosses = name in regions and regions[name] != regions.get(made)
            too_large = total > bits and isinstance(step, Contract)
            if origin is not None and origin not in ends and (crosses or too_large):
                ends.add(origin)
                total -= grown[origin]
        grown[made] = 0 if made in ends else total
        if isinstance(step, Contract):
            origins[made] = made
        elif operands[0] in origins:
            origins[made] = origins[operands[0]]
    return frozenset(ends)


def _growth(step: Step, plan: Plan) -> float:
    """By how many powers of two a step's result may exceed the product of its operands.

    A contraction that sums nothing counts as one, for what shrinks has to be looked at too.
    """
    match step:
        case Contract():
            size = elements(step.summed_legs, plan.sizes)
            # A complex product has two terms in each part.
            return max(1.0, math.log2(size.fixed)) + plan.is_complex
        case Reduce():
            legs = [leg for leg in step.operand.legs if leg not in step.result.legs]
            return math.log2(elements(legs, plan.sizes).fixed)
        case _:
            return 0.0


def _renamed(
    plan: Plan, steps: Sequence[Step], target: Value | None
) -> tuple[Plan, tuple[str, ...]]:
    """Steps as a plan with names of its own, and what its inputs are called in the whole.

    Arguments:
        plan: the whole.
        steps: some of its steps, in order.
        target: what they end in; None: y.
    """
    output = plan.outputs[0]
    operand = output.operand if target is None else Operand(target)
    axes = output.axes if target is None else _axes(_batch_first(target))
    made = {step.result.name for step in steps}
    used = [operand.value for step in steps for operand in step.operands] + [operand.value]
    given = list(dict.fromkeys(value for value in used if value.name not in made))
    ports = [v for v in given if BATCH in v.legs or v in plan.ports]
    stored = [v for v in given if v not in ports]
    legs = _Names("e")
    values = {
        **{v.name: f"x{k}" for k, v in enumerate(ports)},
        **{v.name: f"n{k}" for k, v in enumerate(stored)},
        **{step.result.name: f"t{k}" for k, step in enumerate(steps)},
    }
    cuts = {v.name for v in ports if v not in plan.ports}

    def rename(value: Value) -> Value:
        value = _batch_first(value) if value.name in cuts else value
        return Value(values[value.name], legs.all(value.legs))

    own_steps = tuple(
        replace(with_operands(step, rename), result=rename(step.result)) for step in steps
    )
    own_ports = tuple(rename(port) for port in ports)
    port_axes = tuple(
        (own.name, tuple(legs.all(axis) for axis in _axes(_batch_first(port)))
         if port.name in cuts else tuple(legs.all(axis) for axis in plan.axes_of(port)))
        for own, port in zip(own_ports, ports, strict=True)
    )  # fmt: skip
    own_stored = tuple(rename(value) for value in stored)
    own_output = Output(
        "y", Operand(rename(operand.value), operand.conj), tuple(legs.all(axis) for axis in axes)
    )
    made_plan = replace(
        plan,
        leg_sizes=tuple((own, plan.sizes[leg]) for leg, own in legs.known.items()),
        ports=own_ports,
        parameters=own_stored,
        saved=(),
        steps=own_steps,
        outputs=(own_output,),
        port_axes=port_axes,
        memory=Memory(),
        regions=(),
        names=(),
    )
    return made_plan.verify(), tuple(value.name for value in (*ports, *stored))


class _Names:
    """Names in the order in which they are first asked for; the batch keeps its own."""

    def __init__(self, letter: str) -> None:
        self.letter = letter
        self.known: dict[str, str] = {}

    def all(self, legs: Sequence[str]) -> tuple[str, ...]:
        """The new names of some legs."""
        return tuple(
            leg if leg == BATCH else self.known.setdefault(leg, f"{self.letter}{len(self.known)}")
            for leg in legs
        )


def _batch_first(value: Value) -> Value:
    """A value with the batch first, where it has one."""
    if BATCH not in value.legs:
        return value
    return Value(value.name, (BATCH, *(leg for leg in value.legs if leg != BATCH)))


def _axes(value: Value) -> tuple[tuple[str, ...], ...]:
    """A batched value has one axis beside the batch, another one an axis a leg."""
    if BATCH in value.legs:
        return ((BATCH,), value.legs[1:])
    return tuple((leg,) for leg in value.legs)
