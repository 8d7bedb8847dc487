"""The backward as a plan that needs nothing saved but the inputs: forward values are made again."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace

from tnlayer.plan.adjoint import adjoint
from tnlayer.plan.plan import Plan
from tnlayer.plan.steps import Step


def backward_without_saved(forward: Plan, wanted: Iterable[str]) -> Plan:
    """The adjoint of a forward plan, with the forward steps in front that its saved values need.

    Arguments:
        forward: a plan with one output.
        wanted: names of the inputs whose gradients are wanted.
    """
    backward = adjoint(forward, wanted)
    made = {step.result.name for step in backward.steps}
    used = {operand.value.name for step in backward.steps for operand in step.operands}
    used |= {output.operand.value.name for output in backward.outputs}
    again: list[Step] = []
    for step in reversed(forward.steps):
        if step.result.name in used and step.result.name not in made:
            again.append(step)
            used.update(operand.value.name for operand in step.operands)
    # Slices are repeated in the adjoint; what is made again may need them before.
    steps = _in_order((*reversed(again), *backward.steps), {v.name for v in forward.inputs})
    gradient = backward.ports[0]
    return replace(
        backward,
        ports=(gradient, *(port for port in forward.ports if port.name in used)),
        parameters=tuple(value for value in forward.parameters if value.name in used),
        saved=(),
        steps=steps,
    )


def _in_order(steps: tuple[Step, ...], known: set[str]) -> tuple[Step, ...]:
    """Steps moved behind what they use, else as they come."""
    known = known | {"g"}
    waiting, found = list(steps), list[Step]()
    while waiting:
        ready = next(step for step in waiting if all(o.value.name in known for o in step.operands))
        waiting.remove(ready)
        found.append(ready)
        known.add(ready.result.name)
    return tuple(found)
