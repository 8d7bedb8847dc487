"""A plan lowered to calls of torch: two schedules, counted call by call.

They run every plan on every device, and they are what a memory limit is kept with: planning knows
them, whatever backends there are.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cached_property

from ..ir.counts import Amount
from ..ir.plan_parts import Memory
from ..ir.plan_text import at_batch, memory_text, milliseconds
from ..ir.steps import owner_of
from ..lowering.calls.training_schedules import TrainingSchedules
from ..time_models.torch_calls import Seconds, schedule_seconds, step_seconds
from .fastest_schedules import fastest_pair
from .lowered import Lowered, Room


@dataclass(frozen=True, eq=False)
class LoweredCalls(Lowered):
    """A plan as two schedules of calls."""

    is_compiled = False
    shared = ("pair",)

    @cached_property
    def pair(self) -> TrainingSchedules:
        """The schedules of forward and backward.

        Raises:
            PlanError: the plan's memory cannot be followed.
        """
        return fastest_pair(self.plan, self.mask, self.target.times)

    @property
    def code(self) -> object:
        """The calls."""
        pair = self.pair
        return pair.forward.calls, None if pair.backward is None else pair.backward.calls

    def workspace_bytes(self, batch: int) -> int:
        """Largest number of bytes allocated at once beyond x, y, the parameters and their
        gradients: what a memory limit is about."""
        return self.pair.workspace_bytes(batch)

    def own_seconds(self, batch: int) -> Seconds:
        """Of all calls."""
        pair, times = self.pair, self.target.times
        forward = schedule_seconds(pair.forward, batch, times)
        if pair.backward is None:
            return Seconds(forward)
        return Seconds(forward, schedule_seconds(pair.backward, batch, times))

    @property
    def passed(self) -> int:
        """Arrays that autograd passes on: inputs and what is saved."""
        return len(self.pair.forward.inputs) + len(self.pair.forward.saved)

    def shares(self, batch: int) -> dict[str, float]:
        """Of each step's calls, and of those of its part of the backward."""
        found = dict.fromkeys((step.result.name for step in self.plan.steps), 0.0)
        for schedule in (self.pair.forward, self.pair.backward):
            if schedule is not None:
                owners = {step.result.name: owner_of(step) for step in schedule.plan.steps}
                for name, spent in step_seconds(schedule, batch, self.target.times).items():
                    owner = owners.get(name, "")
                    if owner in found:
                        found[owner] += spent
        return found

    def step_seconds(self, batch: int) -> dict[str, float]:
        """Of each step of forward and backward; "" has results and autograd."""
        found = {"": 0.0}
        for schedule in (self.pair.forward, self.pair.backward):
            if schedule is not None:
                steps = step_seconds(schedule, batch, self.target.times)
                found |= steps | {"": found[""] + steps[""]}
        rest = self.seconds(batch).total - sum(found.values())
        return found | {"": found[""] + rest}

    @property
    def saved(self) -> Amount:
        """What the backward reads of the forward."""
        return self.pair.forward.saved_bytes

    def room(self, batch: int) -> Room:
        """What the calls allocate."""
        kept = 0 if self.pair.backward is None else self.saved.at(batch)
        return Room(kept=kept, at_once=self.pair.workspace_bytes(batch))

    def peak_bytes(self, batch: int) -> int:
        """As the schedules count it."""
        return self.pair.peak_bytes(batch)

    @property
    def calls(self) -> tuple[int, int]:
        """Calls of torch, copies included."""
        backward = self.pair.backward
        return self.pair.forward.kernel_count, 0 if backward is None else backward.kernel_count

    @property
    def how(self) -> str:
        """How it runs, for reports."""
        return "torch calls"

    def lines(self, batch: int, steps: Mapping[str, float]) -> list[str]:
        """Where the time goes."""
        own = sum(steps[step.result.name] for step in self.plan.steps)
        backward = sum(steps.values()) - steps[""] - own
        parts = (
            f"{milliseconds(own)} for these steps",
            f"{milliseconds(backward)} for those of the backward",
            f"{milliseconds(steps[''])} for results and autograd",
        )
        return [f"predicted ms{at_batch(self.plan, batch)}: {', '.join(parts)}"]

    def memory_line(self, batch: int, limit: int) -> str:
        """What the plan's memory does."""
        used = self.pair.workspace_bytes(batch)
        how = memory_text(self.plan)
        why = " (it fits as it is)" if replace(self.plan.memory, adds=False) == Memory() else ""
        return f"memory: {used:,} of {limit:,} bytes{at_batch(self.plan, batch)}: {how}{why}"
