"""The time model: predicted seconds of a Schedule, call by call, from a device's Profile.

An op-by-op backend pays for each call: what starts it, the slower of its arithmetic and its bytes,
the short rows that a permutation leaves, and the pages of fresh arrays that the system maps.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

from ..hardware.profile.op_times import OpTimes
from ..ir.calls import (
    AddUp,
    Call,
    Copy,
    Loop,
    MatMul,
    Place,
    Product,
    PutDiagonal,
    Repeat,
    Schedule,
    Slice,
    Sum,
    TakeDiagonal,
    View,
    is_alias,
    sources_of,
)
from ..ir.steps import BATCH
from ..lowering.calls.training_schedules import TrainingSchedules
from ..lowering.loop_nest import loops_over


@dataclass(frozen=True, slots=True)
class Seconds:
    """Predicted or measured time of one training step's two halves."""

    forward: float
    backward: float = 0.0

    @property
    def total(self) -> float:
        """Forward and backward."""
        return self.forward + self.backward


# What a cut between two spans costs beside their kernels: Python, and arrays that are kept.
# Seen in three cells of a Tucker layer, which took 0.1 ms a cut longer than predicted in training.
CUT = Seconds(15e-6, 85e-6)


def pair_seconds(pair: TrainingSchedules, batch: int, times: OpTimes) -> Seconds:
    """Predicted time of a forward and the backward that belongs to it.

    Arguments:
        pair: their schedules.
        batch: samples of the call.
        times: the device's operations.
    """
    forward = schedule_seconds(pair.forward, batch, times)
    if pair.backward is None:
        return Seconds(forward)
    backward = schedule_seconds(pair.backward, batch, times)
    arrays = len(pair.forward.inputs) + len(pair.forward.saved)
    return with_autograd(forward, backward, arrays, times)


def schedule_seconds(schedule: Schedule, batch: int, times: OpTimes) -> float:
    """Predicted time of all calls of a schedule, without autograd's."""
    calls = sum(call_seconds(schedule, batch, times))
    return calls + result_seconds(schedule, batch, times)


def call_seconds(schedule: Schedule, batch: int, times: OpTimes) -> list[float]:
    """Predicted time of each call of a schedule, all its turns in a loop together."""
    sizes = {**schedule.sizes, BATCH: batch}
    outside = [(1, _ScheduleModel(sizes, times))]
    models = {
        loop.start: [
            (turns, _ScheduleModel({**sizes, loop.leg: part}, times))
            for turns, part in _turns(schedule, loop, batch)
        ]
        for loop in schedule.loops
    }
    found: list[float] = []
    for index, call in enumerate(schedule.calls):
        loop = schedule.loop_at(index)
        own = outside if loop is None else models[loop.start]
        found.append(sum(turns * model.call_seconds(call) for turns, model in own))
    return found


def result_seconds(schedule: Schedule, batch: int, times: OpTimes) -> float:
    """Predicted time for the fresh memory of the results; the rest lies where calls reuse it."""
    whole = _ScheduleModel({**schedule.sizes, BATCH: batch}, times)
    results = {r.view.array.name: r.view.array.legs for r in schedule.results}
    return sum(times.fresh(whole.entries(legs)) for legs in results.values())


def _turns(schedule: Schedule, loop: Loop, batch: int) -> list[tuple[int, int]]:
    """How often a call in a loop runs, and with which size of the leg that it parts."""
    size = loop.size(schedule.sizes, batch)
    full, rest = divmod(size, loop.step)
    return [(turns, part) for turns, part in ((full, loop.step), (1, rest)) if turns and part]


def dense_seconds(rows: int, features: int, outputs: int, times: OpTimes) -> Seconds:
    """Predicted time of nn.Linear: y = x W^T; dx = dy W and dW = dy^T x.

    Arguments:
        rows: samples; features, outputs: of x and y.
    """
    forward = times.mm(rows, outputs, features, "nt") + times.fresh(rows * outputs)
    backward = times.mm(rows, features, outputs, "nn") + times.fresh(rows * features)
    backward += times.mm(outputs, features, rows, "tn") + times.fresh(outputs * features)
    return with_autograd(forward, backward, 2, times)


def with_autograd(forward: float, backward: float, arrays: int, times: OpTimes) -> Seconds:
    """Forward and backward with what autograd adds: for the call, and for each array."""
    call = times.call
    return Seconds(
        forward + call["forward"] + arrays * call["forward_array"],
        backward + call["backward"] + arrays * call["backward_array"],
    )


def step_seconds(schedule: Schedule, batch: int, times: OpTimes) -> dict[str, float]:
    """Predicted time of each step of a schedule's plan, by the name of its result.

    A copy counts for the step that reads it first; "" has what only results need.

    Arguments:
        schedule: the calls of a plan.
        batch: samples of a call.
        times: the device's operations.
    """
    steps = {step.result.name for step in schedule.plan.steps}
    # Read backwards, so that the first reader is the one that stays.
    owners: dict[str, str] = {}
    found = dict.fromkeys(steps, 0.0) | {"": 0.0}
    seconds = call_seconds(schedule, batch, times)
    for call, spent in zip(reversed(schedule.calls), reversed(seconds), strict=True):
        name = call.result.name
        owner = name if name in steps else owners.get(name, "")
        found[owner] += spent
        owners |= {view.array.name: owner for view in sources_of(call)}
    return found


@dataclass(frozen=True, slots=True)
class _ScheduleModel:
    """Seconds of calls at given sizes of all legs, the batch included."""

    sizes: Mapping[str, int]
    times: OpTimes

    def call_seconds(self, call: Call) -> float:
        """Seconds of one call and of the views of its operands."""
        views = sum(map(_view_count, sources_of(call))) * self.times.call["view"]
        if is_alias(call):
            return views
        return views + self._work(call)

    def entries(self, legs: tuple[str, ...]) -> int:
        """Product of sizes."""
        return math.prod(self.sizes[leg] for leg in legs)

    def _work(self, call: Call) -> float:
        match call:
            case Copy() | Repeat() | TakeDiagonal():
                matrix = len(call.source.axes) == 2
                return self.times.copy(self._loops(call.result.legs, call.source), matrix=matrix)
            case MatMul():
                return self._matmul(call)
            case Product():
                sizes = [
                    max(self.entries(a), self.entries(b))
                    for a, b in zip(call.left.axes, call.right.axes, strict=True)
                ]
                read = sum(self.entries(v.array.legs) for v in (call.left, call.right))
                return self.times.elementwise([s for s in sizes if s > 1], read)
            case Sum():
                return self._sum(call)
            case AddUp():
                entries = self.entries(call.result.legs)
                return self.times.elementwise([entries], 2 * entries)
            case Slice():
                return self._slice(call)
            case PutDiagonal() | Place():
                written = self.entries(call.result.legs)
                parts = sum(self.entries(view.array.legs) for view in sources_of(call))
                started = len(sources_of(call)) + 1
                moved = self.times.move(written) + self.times.move(3 * parts)
                return started * self.times.call["product"] + moved

    def _loops(self, legs: tuple[str, ...], view: View) -> list[tuple[int, int]]:
        """Size and source stride of each leg of a copy's result."""
        return loops_over(legs, view.array.legs, self.sizes)

    def _matmul(self, call: MatMul) -> float:
        left, right = call.left.axes, call.right.axes
        rows, summed = map(self.entries, left[-2:])
        columns = self.entries(right[-1])
        variant = _stored(call.left) + _stored(call.right)
        if len(left) == 2:
            return self.times.mm(rows, columns, summed, variant)
        repeated = bool(call.left.repeat or call.right.repeat)
        count = self.entries(left[0])
        seconds = self.times.bmm(count, rows, columns, summed, variant, repeated)
        for view in (call.left, call.right):
            if not view.is_stack:
                legs = tuple(leg for axis in view.axes for leg in axis)
                seconds += self.times.factor_copy(self._loops(legs, view))
        return seconds

    def _sum(self, call: Sum) -> float:
        sizes = [self.entries(axis) for axis in call.source.axes]
        summed = math.prod(sizes[axis] for axis in call.axes)
        last = max(call.axes, default=-1)
        inner = math.prod(sizes[last + 1 :])
        outer = math.prod(sizes) // max(1, summed * inner)
        return self.times.reduce(outer, summed, inner)

    def _slice(self, call: Slice) -> float:
        strides: list[int] = []
        stride = 1
        for leg in reversed(call.source.array.legs):
            strides.insert(0, stride)
            stride *= self.sizes[leg]
        pinned = {axis for axis, _ in call.pins}
        kept = [s for axis, s in enumerate(strides) if axis not in pinned]
        loops = [(self.sizes[leg], s) for leg, s in zip(call.result.legs, kept, strict=True)]
        return self.times.copy(loops) + len(call.pins) * self.times.call["view"]


def _view_count(view: View) -> int:
    """Calls of torch that a view takes: reshape, permute, expand, conj."""
    merged = any(len(group) != 1 for group in view.groups)
    permuted = view.order != tuple(range(len(view.order)))
    return merged + permuted + bool(view.repeat) + view.conj


def _stored(view: View) -> str:
    """Whether the matrices of a view lie transposed in memory: "t" or "n"."""
    return "t" if view.order[-1] < view.order[-2] else "n"
