"""The pass that puts the calls of a schedule into a loop over chunks of the batch."""

from __future__ import annotations

from dataclasses import replace

from tnlayer.kernels.schedule import Call, Loop, Schedule, sources_of
from tnlayer.plan.steps import BATCH, Value


def loop_over_chunks(schedule: Schedule, chunk: int) -> Schedule:
    """The schedule with the calls that touch the batch done a chunk at a time.

    A call belongs to the loop if an array with the batch leg enters it. What such a call makes
    without that leg is a sum over samples, and every call is linear in it: so the sum over chunks
    goes on outside. Of the other calls those that the loop needs stand before it, the rest after.

    Arguments:
        schedule: a schedule without a loop, whose saved arrays have no batch leg.
        chunk: samples in a chunk.
    """
    inside = [call for call in schedule.calls if _touches_batch(call)]
    if not inside:
        return schedule
    needed = {view.array.name for call in inside for view in sources_of(call)}
    before: list[Call] = []
    after: list[Call] = []
    made = {call.result.name for call in inside}
    for call in reversed(schedule.calls):
        if call.result.name in made:
            continue
        if call.result.name in needed:
            before.append(call)
            needed |= {view.array.name for view in sources_of(call)}
        else:
            after.append(call)
    assert made.isdisjoint(view.array.name for call in before for view in sources_of(call))
    before.reverse()
    after.reverse()
    leave = {result.view.array.name for result in schedule.results}
    loop = Loop(
        chunk=chunk,
        start=len(before),
        stop=len(before) + len(inside),
        entering=tuple(value for value in schedule.inputs if BATCH in value.legs),
        leaving=tuple(c.result for c in inside if c.result.name in leave and _batched(c.result)),
        summed=tuple(call.result for call in inside if not _batched(call.result)),
    )
    return replace(schedule, calls=(*before, *inside, *after), loop=loop)


def _batched(value: Value) -> bool:
    return BATCH in value.legs


def _touches_batch(call: Call) -> bool:
    """Whether an array of samples enters."""
    return any(_batched(view.array) for view in sources_of(call))
