"""A forward schedule with the backward that belongs to it.

The backward reads what the forward saved, in the storage orders that the forward gave it. So the
forward is lowered first, and its orders are where the backward's search starts::

    plan      lower  ->  forward      values that are saved, and their orders
    adjoint   lower  ->  backward     begins with these orders
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace

from ...hardware.profile.op_times import OpTimes
from ...ir.calls import Schedule
from ...ir.counts import elements
from ...ir.plan import Plan
from ...passes.differentiate import adjoint
from ...passes.slice_legs import check_memory
from .lower import lower

Mask = tuple[bool, ...]


def wanted_names(plan: Plan, mask: Mask) -> tuple[str, ...]:
    """Names of the inputs whose gradients a mask asks for."""
    return tuple(value.name for value, asked in zip(plan.inputs, mask, strict=True) if asked)


@dataclass(frozen=True, slots=True)
class TrainingSchedules:
    """Forward and backward schedules for one mask of wanted gradients.

    Arguments:
        forward: the forward, which keeps what the backward needs.
        backward: the backward, or None where nothing is wanted.
        needed: indices of the forward's inputs that the backward reads.
        origins: indices of further inputs, of which something that the forward keeps was made:
            gradients depend on them, though the backward does not read them.
    """

    forward: Schedule
    backward: Schedule | None
    needed: tuple[int, ...]
    origins: tuple[int, ...] = ()

    def peak_bytes(self, batch: int) -> int:
        """Largest number of bytes allocated at once in forward and backward.

        Counts y, all intermediates, what is saved and the gradients that are computed; not x, the
        parameters and the gradient of y, which come from outside.
        """
        forward = self.forward.peak_bytes(batch)
        if self.backward is None:
            return forward
        y = self.forward.results[0].view.array
        kept = self.forward.saved_bytes.at(batch)
        kept += elements(y.legs, self.forward.sizes).at(batch) * self.forward.plan.itemsize
        return max(forward, kept + self.backward.peak_bytes(batch))

    def workspace_bytes(self, batch: int) -> int:
        """As ``peak_bytes``, without y and the gradients: what a memory limit is about."""
        forward = self.forward.workspace_bytes(batch)
        if self.backward is None:
            return forward
        kept = self.forward.saved_bytes.at(batch)
        return max(forward, kept + self.backward.workspace_bytes(batch))

    def with_chunk(self, chunk: int) -> TrainingSchedules:
        """The same calls in chunks of another size."""
        backward = None if self.backward is None else self.backward.with_chunk(chunk)
        return replace(self, forward=self.forward.with_chunk(chunk), backward=backward)


def schedule_pair(plan: Plan, mask: Mask, times: OpTimes) -> TrainingSchedules:
    """Schedules of a plan and its adjoint for the inputs whose mask is set.

    Arguments:
        plan: a forward plan.
        mask: for each input of the plan (ports, then parameters), whether its gradient is wanted.
        times: operations of the device that the plan is for, which storage orders follow.

    Raises:
        PlanError: the plan's memory cannot be followed.
    """
    check_memory(plan)
    adds = tuple(output.name for output in plan.outputs) if plan.memory.adds else ()
    if not any(mask):
        return TrainingSchedules(lower(plan, times, adds=adds), None, ())
    names = [value.name for value in plan.inputs]
    wanted = [name for name, asked in zip(names, mask, strict=True) if asked]
    backward_plan = adjoint(plan, wanted).verify()
    keep = tuple(value.name for value in backward_plan.saved)
    forward = lower(plan, times, keep=keep, adds=adds)
    layouts = {name: array.legs for name, array in zip(keep, forward.saved, strict=True)}
    # Gradients stand in the order of the inputs: those of the ports come first.
    ports = sum(mask[: len(plan.ports)]) if plan.memory.adds else 0
    adds = tuple(output.name for output in backward_plan.outputs[:ports])
    backward = lower(backward_plan, times, layouts=layouts, adds=adds)
    read = {value.name for value in backward_plan.inputs}
    needed = tuple(index for index, name in enumerate(names) if name in read)
    made_of = _inputs_of(plan, keep)
    origins = tuple(k for k, name in enumerate(names) if name in made_of and k not in needed)
    return TrainingSchedules(forward, backward, needed, origins)


def _inputs_of(plan: Plan, values: Iterable[str]) -> set[str]:
    """Names of the inputs of which some values of a plan are made."""
    found = set(values)
    for step in reversed(plan.steps):
        if step.result.name in found:
            found.update(operand.value.name for operand in step.operands)
    return found.intersection(value.name for value in plan.inputs)
