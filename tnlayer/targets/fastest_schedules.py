"""Storage orders for one batch size: its own, or those of the probes around it, by predicted time.

A search for storage orders follows the forward first and then the backward, within a beam: what it
finds for batch 3 may be slower there than what it finds for batch 4. A layer for every size runs
what was found at a probe. So that a layer for one size is not slower there, it looks at both.
"""

from __future__ import annotations

from dataclasses import replace

from ..hardware.profile.op_times import OpTimes
from ..ir.batch_probes import probes_around
from ..ir.plan import Plan
from ..ir.plan_parts import Memory
from ..lowering.calls.training_schedules import Mask, TrainingSchedules, schedule_pair
from ..time_models.torch_calls import pair_seconds


def fastest_pair(plan: Plan, mask: Mask, times: OpTimes) -> TrainingSchedules:
    """Schedules of a plan and its adjoint, in the storage orders that are predicted to be the
    fastest at the plan's batch size.

    Arguments:
        plan: a forward plan.
        mask: for each input of the plan (ports, then parameters), whether its gradient is wanted.
        times: operations of the device that the plan is for.

    Raises:
        PlanError: the plan's memory cannot be followed.
    """
    own = schedule_pair(plan, mask, times)
    low, high = probes_around(plan.batch)
    # What keeps a limit is found by its bytes, in one storage order after the other.
    is_free = replace(plan.memory, adds=False) == Memory()
    if plan.batch == low or not is_free or not plan.is_batched:
        return own
    found = [own]
    for probe in (low, high):
        if probe is not None:
            found.append(schedule_pair(replace(plan, batch=probe), mask, times))
    # Of equal ones the first: its own.
    best = min(found, key=lambda pair: pair_seconds(pair, plan.batch, times).total)
    return best if best is own else _for_batch(best, plan)


def _for_batch(pair: TrainingSchedules, plan: Plan) -> TrainingSchedules:
    """The same calls as those of a plan for its own batch size."""
    forward, backward = replace(pair.forward, plan=plan), pair.backward
    if backward is not None:
        backward = replace(backward, plan=replace(backward.plan, batch=plan.batch))
    return replace(pair, forward=forward, backward=backward)
