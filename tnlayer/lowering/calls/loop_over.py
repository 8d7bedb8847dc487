"""The pass that puts calls of a schedule into loops: over chunks of the batch, over sliced legs.

A loop makes a part of a leg at a time, so no array inside it has more of that leg. A backward that
makes its state t again, with the batch b in chunks::

    t[b r] = x[b p] w[p r]            for each chunk of b:
    d_v[r q] = t[b r] g[b q]    ->        t = x[chunk] w           alive for one chunk
    d_t[b r] = g[b q] v[r q]              d_v += t g[chunk]        lacks b: summed over the chunks
                                          d_t[chunk] = g[chunk] v
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from ...errors import PlanError
from ...ir.calls import Call, Loop, Schedule, sources_of
from ...ir.steps import Value


def loop_over(schedule: Schedule, steps: Mapping[str, int]) -> Schedule:
    """The schedule with the calls that touch a leg done a part of the leg at a time.

    What such a call makes without the leg is a sum over it, and every call is linear in it: so the
    sum over the parts goes on outside. A call that a loop needs stands before it, every other one
    stays where it was or goes behind the loop.

    Arguments:
        schedule: a schedule without loops; no saved array has one of the legs.
        steps: for each leg how many of its indices make a part.

    Raises:
        PlanError: two of the legs meet in a call, or a loop would need its own result.
    """
    order = _Order(schedule.calls, [_leg_of(call, steps) for call in schedule.calls])
    for index, leg in enumerate(order.legs):
        order.place(index, leg)
    calls = tuple(schedule.calls[index] for index in order.done)
    leave = {result.view.array.name for result in schedule.results}
    loops: list[Loop] = []
    for leg, step in steps.items():
        places = [place for place, index in enumerate(order.done) if order.legs[index] == leg]
        if places:
            inside = [call.result for call in calls[places[0] : places[-1] + 1]]
            loop = Loop(
                leg=leg,
                step=step,
                start=places[0],
                stop=places[-1] + 1,
                entering=_read(schedule.inputs, calls[places[0] : places[-1] + 1], leg),
                leaving=tuple(v for v in inside if v.name in leave and leg in v.legs),
                summed=tuple(value for value in inside if leg not in value.legs),
            )
            loops.append(loop)
    return replace(schedule, calls=calls, loops=tuple(sorted(loops, key=lambda x: x.start)))


def _leg_of(call: Call, steps: Mapping[str, int]) -> str | None:
    """The leg over which a call is looped."""
    legs = set(call.result.legs).union(*(view.array.legs for view in sources_of(call)))
    found = sorted(legs & set(steps))
    if len(found) > 1:
        msg = f"legs {', '.join(found)} cannot both be looped over: {call.result.name} has both"
        raise PlanError(msg)
    return found[0] if found else None


def _read(inputs: tuple[Value, ...], calls: tuple[Call, ...], leg: str) -> tuple[Value, ...]:
    """The inputs with a leg that some call reads."""
    names = {view.array.name for call in calls for view in sources_of(call)}
    return tuple(value for value in inputs if leg in value.legs and value.name in names)


class _Order:
    """The calls in a new order, in which those of one loop are neighbours.

    Arguments:
        calls: the calls, each after what it needs.
        legs: for each call the leg over which it is looped, or None.
    """

    def __init__(self, calls: tuple[Call, ...], legs: list[str | None]) -> None:
        self.calls = calls
        self.legs = legs
        self.done: list[int] = []
        self.placed: set[int] = set()
        self.open: list[str] = []

    def place(self, index: int, leg: str | None) -> None:
        """Append a call, or its whole loop, after all that it needs."""
        if index in self.placed:
            return
        if leg is None:
            # All that it needs stands before it in the old order, so it is placed.
            self.done.append(index)
            self.placed.add(index)
            return
        if leg in self.open:
            msg = f"the loop over leg {leg} would need its own result"
            raise PlanError(msg)
        self.open.append(leg)
        # The calls of a loop run together, so all that any of them needs from outside comes first.
        # That may be another loop; one that is still open would need itself.
        members = [i for i, x in enumerate(self.legs) if x == leg]
        for before in self._needed(members):
            self.place(before, self.legs[before])
        self.open.remove(leg)
        self.done += members
        self.placed |= set(members)

    def _needed(self, members: list[int]) -> list[int]:
        """Calls outside that must come first, in order."""
        own = set(members)
        names = {view.array.name for i in members for view in sources_of(self.calls[i])}
        found: list[int] = []
        # Backwards: a call is met after all that need it, so one walk finds what is needed in turn.
        for index in range(members[-1], -1, -1):
            if index in own or index in self.placed:
                continue
            if self.calls[index].result.name in names:
                found.append(index)
                names |= {view.array.name for view in sources_of(self.calls[index])}
        return found[::-1]
