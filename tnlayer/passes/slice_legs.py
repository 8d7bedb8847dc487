"""Which legs of a plan can be looped over, one index at a time, to save memory."""

from __future__ import annotations

from collections import Counter

from ..errors import PlanError
from ..ir.plan import Plan
from ..ir.steps import BATCH, Contract, Step


def sliceable_legs(plan: Plan) -> tuple[str, ...]:
    """Legs that some contraction sums and that only contractions and single parameters have.

    A leg of a port or of y stays whole, and so does one that a slice, a diagonal or a shared
    parameter has: there the loop would cut through something that is used in another way, too.
    """
    uses = Counter(operand.value.name for step in plan.steps for operand in step.operands)
    whole = {leg for port in plan.ports for leg in port.legs}
    whole |= {leg for output in plan.outputs for leg in output.legs}
    for value in plan.parameters:
        if uses[value.name] != 1:
            whole.update(value.legs)
    summed: dict[str, None] = {}
    for step in plan.steps:
        if isinstance(step, Contract):
            summed.update(dict.fromkeys(step.summed_legs))
        else:
            whole.update(legs_of(step))
    return tuple(leg for leg in summed if leg not in whole)


def legs_of(step: Step) -> set[str]:
    """All legs of a step's operands and result."""
    return set(step.result.legs).union(*(operand.legs for operand in step.operands))


def looped_together(plan: Plan, legs: set[str]) -> tuple[str, ...]:
    """Legs of this set that meet in a step, so that their loops would stand in each other."""
    for step in plan.steps:
        met = legs & legs_of(step)
        if len(met) > 1:
            return tuple(sorted(met))
    return ()


def check_memory(plan: Plan) -> None:
    """Refuse a forward plan whose memory no schedule can follow.

    Raises:
        PlanError: a value is unknown, the chunk is below 1, a leg is not sliceable, or two loops
            would stand in each other; names them.
    """
    memory, names = plan.memory, dict(plan.names)
    unknown = set(memory.recompute) - {step.result.name for step in plan.steps}
    if unknown:
        msg = f"no step makes {', '.join(sorted(unknown))}, which memory.recompute names"
        raise PlanError(msg)
    if memory.chunk is not None and memory.chunk < 1:
        msg = f"memory.chunk={memory.chunk}: a chunk has 1 sample at least"
        raise PlanError(msg)
    if not memory.slices:
        return
    able = sliceable_legs(plan)
    for leg in memory.slices:
        if leg not in able:
            msg = (
                f"leg {names.get(leg, leg)} cannot be looped over: only legs that are summed and "
                f"stand on contractions alone can: {', '.join(names.get(x, x) for x in able)}"
            )
            raise PlanError(msg)
    chunked = {BATCH} if memory.chunk is not None else set[str]()
    met = looped_together(plan, {*memory.slices, *chunked})
    if met:
        shown = ", ".join("the batch" if leg == BATCH else names.get(leg, leg) for leg in met)
        msg = f"{shown} meet in one step and cannot both be looped over; slice fewer legs"
        raise PlanError(msg)
