"""Where a plan can be cut into regions: wherever one batched value alone is alive."""

from __future__ import annotations

from .plan_values import PlanValues
from .steps import BATCH, Step, Value


def is_batched(step: Step) -> bool:
    """Whether a step touches samples."""
    return any(BATCH in operand.legs for operand in step.operands)


def batched_steps(plan: PlanValues) -> tuple[Step, ...]:
    """The steps that touch samples, in order; regions count these."""
    return tuple(step for step in plan.steps if is_batched(step))


def cuts(plan: PlanValues) -> dict[int, Value]:
    """Where a forward plan can be cut: how many batched steps come before, and the value there.

    A value with a leg that stands twice is no port, and one that is a port already needs no cut.
    """
    steps = batched_steps(plan)
    output = plan.outputs[0].operand.value
    if BATCH not in output.legs:
        return {}
    last_use = {operand.value.name: number for number, step in enumerate(steps)
                for operand in step.operands}  # fmt: skip
    last_use[output.name] = len(steps)
    made = {port.name: (-1, port) for port in plan.ports if BATCH in port.legs}
    made |= {step.result.name: (number, step.result) for number, step in enumerate(steps)}
    # A value made by step k is alive from count k + 1 on, up to the count of its last use.
    born: dict[int, list[Value]] = {}
    dying: dict[int, list[Value]] = {}
    for name, (number, value) in made.items():
        last = last_use.get(name, -1)
        if last > number:
            born.setdefault(number + 1, []).append(value)
            dying.setdefault(last + 1, []).append(value)
    alive = dict.fromkeys(born.get(0, ()))
    found: dict[int, Value] = {}
    for count in range(1, len(steps)):
        for value in dying.get(count, ()):
            del alive[value]
        alive |= dict.fromkeys(born.get(count, ()))
        if len(alive) != 1:
            continue
        (value,) = alive
        is_made = made[value.name][0] >= 0
        if is_made and BATCH in value.legs and len(set(value.legs)) == len(value.legs):
            found[count] = value
    return found


def wrong_regions(plan: PlanValues) -> str:
    """What is wrong with the regions that a plan names, or an empty text."""
    counts = [region.steps for region in plan.regions]
    if not counts:
        return ""
    batched = len(batched_steps(plan))
    if sum(counts) != batched or (len(counts) > 1 and min(counts) < 1):
        return f"regions of {counts} batched steps are not the {batched} of the plan"
    allowed = cuts(plan) if len(counts) > 1 else {}
    for number in range(1, len(counts)):
        if sum(counts[:number]) not in allowed:
            return f"more than one batched value lives behind step {sum(counts[:number])}"
    return ""
