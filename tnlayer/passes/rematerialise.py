"""The backward as a plan that needs nothing saved but the inputs: forward values are made again."""

from __future__ import annotations

import heapq
from collections.abc import Iterable
from dataclasses import replace

from ..ir.plan import Plan
from ..ir.steps import Step
from .differentiate import adjoint, repeated


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
            again.append(repeated(step))
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
    made = {step.result.name for step in steps} - known
    # How many values each step waits for, and who waits for each value.
    missing = [len({o.value.name for o in step.operands} & made) for step in steps]
    readers: dict[str, list[int]] = {}
    for number, step in enumerate(steps):
        for name in {o.value.name for o in step.operands} & made:
            readers.setdefault(name, []).append(number)
    ready = [number for number, count in enumerate(missing) if not count]
    found: list[Step] = []
    while ready:
        step = steps[heapq.heappop(ready)]
        found.append(step)
        for reader in readers.pop(step.result.name, ()):
            missing[reader] -= 1
            if not missing[reader]:
                heapq.heappush(ready, reader)
    assert len(found) == len(steps), "steps wait for each other"
    return tuple(found)
