"""The stem of a plan: the chain of steps that carries one batched input to the output.

A stem is y = ((x M1) M2) ... Mk with each Mi a parameter or a branch result. Steps that do not wait
for each other may change places; ``reorder`` gives the plan in another order.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

from ..ir.plan import Plan
from ..ir.steps import BATCH, Contract, Operand, Step, Value


@dataclass(frozen=True, slots=True)
class StemStep:
    """One step of the chain: state[kept, contracted] * weight -> state[kept, made].

    Arguments:
        name: of the step's result.
        weight: the operand without the batch.
        contracted: legs of the state that are summed.
        made: legs that the weight brings.
        kept: legs of the weight that the state has and keeps (hyperedges).
    """

    name: str
    weight: Operand
    contracted: tuple[str, ...]
    made: tuple[str, ...]
    kept: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Stem:
    """A chain, its steps in the plan's order.

    Arguments:
        port: the batched input.
        first: its operand in the first step.
        legs: legs of the input but the batch.
        steps: the steps.
        waits: for each step the steps that have to come before it.
        outputs: legs of y but the batch, in order.
    """

    port: Value
    first: Operand
    legs: tuple[str, ...]
    steps: tuple[StemStep, ...]
    waits: tuple[frozenset[int], ...]
    outputs: tuple[str, ...]


def find_stem(plan: Plan) -> Stem | str:
    """The stem of a forward plan, or the reason why its batched steps are no chain."""
    ports = [port for port in plan.ports if BATCH in port.legs]
    if len(ports) != 1:
        return f"{len(ports)} inputs carry the batch; a chain has one"
    state = Operand(ports[0])
    first: Operand | None = None
    steps: list[StemStep] = []
    for step in plan.steps:
        batched = [o for o in step.operands if BATCH in o.legs]
        if not batched:
            continue
        if not isinstance(step, Contract):
            return f"step {step.result.name} is a {type(step).__name__} of a batched value"
        if len(batched) != 1 or batched[0].value != state.value:
            return f"step {step.result.name} is not the next of one chain"
        if batched[0].conj:
            return f"step {step.result.name} takes the conjugate of the state"
        first = first or batched[0]
        weight = step.right if batched[0] is step.left else step.left
        steps.append(_stem_step(step, state.value, weight))
        state = Operand(step.result)
    if first is None:
        return "no step touches the input"
    if plan.outputs[0].operand.value != state.value or plan.outputs[0].operand.conj:
        return "the output is not the end of the chain"
    legs = tuple(leg for leg in ports[0].legs if leg != BATCH)
    if len(set(legs)) != len(legs):
        return "a leg stands twice on the input"
    outputs = tuple(leg for leg in plan.outputs[0].legs if leg != BATCH)
    return Stem(ports[0], first, legs, tuple(steps), _waits(steps), outputs)


def _stem_step(step: Contract, state: Value, weight: Operand) -> StemStep:
    mine, result = set(state.legs), set(step.result.legs)
    return StemStep(
        step.result.name,
        weight,
        tuple(leg for leg in weight.legs if leg in mine and leg not in result),
        tuple(leg for leg in weight.legs if leg not in mine),
        tuple(leg for leg in weight.legs if leg in mine and leg in result),
    )


def _waits(steps: Sequence[StemStep]) -> tuple[frozenset[int], ...]:
    """A leg is made before it is used, and contracted after all who keep it."""
    found: list[frozenset[int]] = []
    for number, step in enumerate(steps):
        before = {
            other
            for other in range(number)
            if set(steps[other].made) & {*step.contracted, *step.kept}
            or set(steps[other].kept) & set(step.contracted)
        }
        found.append(frozenset(before))
    return tuple(found)


def state_after(legs: Sequence[str], step: StemStep) -> tuple[str, ...]:
    """Legs of the state after a step: the made ones stand where the first contracted one stood."""
    at = min((legs.index(leg) for leg in step.contracted), default=len(legs))
    left = [leg for leg in legs if leg not in step.contracted]
    return (*left[:at], *step.made, *left[at:])


def reorder(plan: Plan, stem: Stem, order: Sequence[int]) -> Plan:
    """The plan with its stem steps in another order; branch steps come first.

    The result of each step is called after the place in the chain, so that names do not repeat.
    """
    return with_chain(plan, stem, [stem.steps[number] for number in order])


def with_chain(
    plan: Plan, stem: Stem, steps: Iterable[StemStep], made: Iterable[Step] = ()
) -> Plan:
    """The plan with other steps on its stem; branch steps come first.

    Arguments:
        plan, stem: a plan and its stem.
        steps: that take the place of the stem's, in order.
        made: branch steps that these need besides.
    """
    branch = [step for step in plan.steps if not any(BATCH in o.legs for o in step.operands)]
    chain: list[Step] = []
    state, legs = stem.first, stem.legs
    for step in steps:
        legs = state_after(legs, step)
        value = Value(step.name, (BATCH, *legs))
        chain.append(Contract(value, state, step.weight))
        state = Operand(value)
    output = replace(plan.outputs[0], operand=state)
    return replace(plan, steps=(*branch, *made, *chain), outputs=(output,)).verify()
