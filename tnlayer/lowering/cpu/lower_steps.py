"""From a Plan to one Program of the loop IR: every step of a call, fused over a block of samples.

Which legs are lanes in which step was decided before (choose_lanes.py). Here each value gets its
arrays, moves to other lanes are put where a step needs them, and each step is lowered.
Views cost nothing: a Diagonal, a Select and an Expand only change strides. A plan ``m = v w``,
``y = x m``, then the gradient of m, becomes::

    before      m = v w                        once a call
    samples     y = x m                        for each block of samples
                d_m_p += x g                   into partial sums of each thread
    after       d_m = sum of d_m_p             over lanes and threads, once a call
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

from ...hardware.cpu import FIRST_CACHE, SET_BYTES, TileLimits
from ...ir import steps as plan_steps
from ...ir.loops import At, Buffer, Fill, For, LoopProgram, LoopRegion, Space, Statement
from ...ir.plan import Plan
from ...ir.steps import BATCH, Operand, Value
from ..array_layout import Array, Lanes, conjugated, in_lanes, is_run, replaced, volume
from ..lower_step import Axes, Part, StepProduct, argument, leaving_alone, lower_step
from .fuse_loops import FusedLoop
from .register_tiles import Contraction, lower_contraction, pays_in_place
from .relayout import lower_move
from .schedule import CpuSchedule
from .sums_over_threads import partial_sums, sum_over_threads
from .vector_phases import branch_lanes


@dataclass(frozen=True, slots=True)
class VectorAssignment:
    """What the schedule decided.

    Arguments:
        block: samples that are taken at once; the batch is a leg of this size.
        lanes: for each batched step (by its result) the legs that fill a vector.
        stored: for values whose lanes lie in another order than they were made in, or have to be
            brought into an order first, that order.
        groups: steps that run together.
    """

    block: int
    lanes: Mapping[str, Lanes]
    stored: Mapping[str, Lanes]
    groups: tuple[FusedLoop, ...]


def lower_steps(scheduled: CpuSchedule) -> LoopProgram:
    """The program of a scheduled plan, forward or backward; its workspace is not laid out yet.

    The plan has no saved values: what a backward needs is recomputed by steps of its own.
    """
    plan = scheduled.plan
    placement = VectorAssignment(
        scheduled.block, scheduled.step_lanes, scheduled.stored, scheduled.groups
    )
    limits = scheduled.cpu.tile_limits(plan.dtype)
    program = _Lowering(plan, placement, scheduled.width, limits).program(scheduled.name)
    return replace(program, arguments=scheduled.arguments)


@dataclass(slots=True)
class _Lowering:
    """Arrays of all values made so far, and the statements of the three parts."""

    plan: Plan
    placement: VectorAssignment
    width: int
    limits: TileLimits
    sizes: dict[str, int] = field(default_factory=dict)
    buffers: dict[str, Buffer] = field(default_factory=dict)
    homes: dict[str, Array] = field(default_factory=dict)
    # Names of the values that lie in a buffer, or once lay there.
    lying: dict[str, set[str]] = field(default_factory=dict[str, set[str]])
    moved: dict[tuple[str, Lanes], Array] = field(default_factory=dict)
    parts: dict[Part, list[Statement]] = field(
        default_factory=lambda: {"before": [], "samples": [], "after": []}
    )
    part_of: dict[str, Part] = field(default_factory=dict)
    direct: dict[str, Array] = field(default_factory=dict)
    summed_next: dict[str, tuple[str, ...]] = field(default_factory=dict)
    run_next: dict[str, str] = field(default_factory=dict)
    readers: Counter[str] = field(default_factory=Counter[str])
    unread: Counter[str] = field(default_factory=Counter[str])
    groups: dict[str, FusedLoop] = field(default_factory=dict)
    waiting: list[tuple[str, Contraction]] = field(default_factory=list)

    # -- the whole -------------------------------------------------------------------------

    def program(self, name: str) -> LoopProgram:
        """Inputs, steps, outputs."""
        self.sizes = {**self.plan.sizes, BATCH: self.placement.block}
        # Outputs come before steps, for a step may write straight into one.
        for value in self.plan.inputs:
            self.add_input(value)
        self.add_outputs()
        self.summed_next = _summed_next(self.plan)
        self.run_next = _run_next(self.plan)
        self.readers.update(o.value.name for step in self.plan.steps for o in step.operands)
        self.readers.update(output.operand.value.name for output in self.plan.outputs)
        self.unread = self.readers.copy()
        for group in self.placement.groups:
            self.groups.update((name, group) for name in group.results)
        for step in self.plan.steps:
            self.lower(step)
        for output in self.plan.outputs:
            self.leave(output.name, output.operand)
        return LoopProgram(
            name,
            self.plan.dtype,
            self.width,
            self.placement.block,
            tuple(self.buffers.values()),
            tuple(self.parts["before"]),
            tuple(self.parts["samples"]),
            tuple(self.parts["after"]),
            lanes_are_samples=all(lanes == (BATCH,) for lanes in self.placement.lanes.values()),
        )

    @property
    def axes(self) -> Axes:
        """Axes of all arrays; their sizes are those of this lowering."""
        return Axes(self.sizes)

    def argument(self, name: str, legs: Sequence[str], space: Space, value: str) -> Array:
        """The array of an argument; it brings or takes a value of the plan."""
        self.buffers[name], array = argument(name, legs, space, value, self.axes)
        return array

    def add_input(self, value: Value) -> None:
        part = self.part_of[value.name] = "samples" if BATCH in value.legs else "before"
        self.set_home(value, self.argument(value.name, value.legs, "input", value.name), part)

    def add_outputs(self) -> None:
        """Buffers of what leaves; a value that leaves once and by itself is made in place there."""
        alone = leaving_alone(self.plan)
        for output in self.plan.outputs:
            name = output.operand.value.name
            array = self.argument(f"out_{output.name}", output.legs, "output", name)
            if name in alone:
                self.direct[name] = array
            self.homes[f"out_{output.name}"] = array

    def leave(self, name: str, operand: Operand) -> None:
        """Move a result to where the caller wants it."""
        target = self.homes[f"out_{name}"]
        part = self.part_of[operand.value.name]
        source = self.home(operand, part)
        if source.buffer == target.buffer:
            return
        body = lower_move(target, source, self.sizes, self.width, self.limits)
        self.emit(part, f"out_{name}", f"{name} leaves", body)

    def emit(self, part: Part, name: str, comment: str, body: Sequence[Statement]) -> None:
        self.parts[part].append(LoopRegion(name, comment, tuple(body)))

    # -- arrays ----------------------------------------------------------------------------

    def home(self, operand: Operand, part: Part) -> Array:
        """The first array of a value, the same in all parts."""
        array = self.homes[operand.value.name]
        return conjugated(array) if operand.conj else array

    def make(self, value: Value, part: Part) -> Array:
        """A new array for a result that is copied together, with the lanes of its step."""
        return self.make_in_lanes(value, self.lanes_of(value, part), part)

    def lanes_of(self, result: Value, part: Part) -> Lanes:
        """Lanes of the step that makes a result; steps on parameters that copy have none."""
        return self.placement.lanes.get(result.name, ()) if part == "samples" else ()

    def make_in_lanes(self, value: Value, lanes: Lanes, part: Part) -> Array:
        """A new array for a result, in the workspace or directly where it leaves."""
        lanes = self.placement.stored.get(value.name, lanes) if part == "samples" else lanes
        direct = self.direct.get(value.name)
        # Where it leaves the entries must lie as its vectors are, or it is moved at the end.
        if direct is not None:
            if not lanes:
                return self.set_home(value, direct, part)
            if volume(lanes, self.sizes) == self.width and is_run(direct, lanes, self.sizes):
                return self.set_home(value, direct.with_lanes(lanes), part)
        legs = self.in_order(value.name, self.axes.of(value.legs))
        group = self.groups.get(value.name)
        if group is not None:
            inner = [leg for leg in legs if leg not in group.outer]
            # What nothing outside reads exists for one turn of the group's loops at a time.
            legs = inner if value.name in group.passing else [*group.outer, *inner]
        return self.set_home(value, self.workspace(value.name, legs, lanes, part), part)

    def in_order(self, name: str, legs: Sequence[str]) -> list[str]:
        """Legs of an array with those last that its first reader sums over: it reads one run."""
        last = self.summed_next.get(name, ())
        return [leg for leg in legs if leg not in last] + [leg for leg in last if leg in legs]

    def set_home(self, value: Value, array: Array, part: Part) -> Array:
        self.homes[value.name] = array
        self.lying.setdefault(array.buffer, set()).add(value.name)
        return array

    def workspace(self, value: str, legs: Sequence[str], lanes: Lanes, part: Part) -> Array:
        """A new array for a value, which may have others."""
        name = value
        while name in self.buffers:
            name += "_l"
        space: Space = "thread" if part == "samples" else "shared"
        # A block of one sample has too few tiles that reach so far.
        apart = lanes and self.placement.block > 1 and BATCH in legs and BATCH not in lanes
        # Samples of a block that lay a multiple of this apart would share a set of the first cache.
        page = SET_BYTES // self.plan.itemsize if apart else 0
        array, size = in_lanes(name, legs, lanes, self.sizes, self.width, page)
        self.buffers[name] = Buffer(name, size, space, value=value)
        return array

    def get(self, operand: Operand, lanes: Lanes) -> Array:
        """An operand with these lanes: as it is, as a view, or moved into a new array."""
        array = self.home(operand, self.part_of[operand.value.name])
        legs = array.legs
        # Without any of the lanes it is a weight: one entry for a whole vector.
        if not set(lanes) & set(legs):
            return array.with_lanes(())
        if array.lanes == lanes:
            return array
        if BATCH in legs and not set(lanes) <= set(legs):
            return self.part_of_lanes(operand, lanes)
        # A run of memory that has these lanes is read as vectors where it lies.
        whole = set(lanes) <= set(legs) and volume(lanes, self.sizes) == self.width
        if whole and is_run(array, lanes, self.sizes):
            return array.with_lanes(lanes)
        # Moved once, however many steps read it so.
        key = (operand.value.name, lanes)
        if key not in self.moved:
            part = self.part_of[operand.value.name]
            source = self.homes[operand.value.name]
            points = self.in_order(operand.value.name, [leg for leg in legs if leg not in lanes])
            target = self.workspace(operand.value.name, [*points, *lanes], lanes, part)
            target = replace(target, conj=source.conj)
            body = lower_move(target, source, self.sizes, self.width, self.limits)
            comment = f"{operand.value.name} to lanes {' '.join(lanes)}"
            self.emit(part, f"{target.buffer}", comment, body)
            self.moved[key] = target
            self.lying.setdefault(target.buffer, set()).add(operand.value.name)
        found = self.moved[key]
        return conjugated(found) if operand.conj else found

    def part_of_lanes(self, operand: Operand, lanes: Lanes) -> Array:
        """A state that has only some lanes, the last ones, which are repeated: lane_rotation.py."""
        own = tuple(leg for leg in lanes if leg in operand.legs)
        stored = self.placement.stored.get(operand.value.name)
        array = self.get(operand, stored) if stored else self.home(operand, "samples")
        assert own == lanes[-len(own) :] and is_run(array, own, self.sizes), "lanes in a row"
        return array.with_lanes(own)

    # -- steps -----------------------------------------------------------------------------

    def lower(self, step: plan_steps.Step) -> None:
        """Lower one step of the plan."""
        operands = [operand.value.name for operand in step.operands]
        self.unread.subtract(operands)
        parts = {self.part_of[name] for name in operands}
        part: Part = "after" if "after" in parts else "samples" if "samples" in parts else "before"
        self.part_of[step.result.name] = part
        lower_step(step, part, self)

    def reader(self, operand: Operand, result: Value, part: Part) -> Array:
        """An operand in the lanes of a step that copies it."""
        return self.get(operand, self.lanes_of(result, part))

    def copy(self, target: Array, source: Array, *, adds: bool = False) -> Sequence[Statement]:
        """Loops of tiles."""
        what = Contraction(target, source, None, self.sizes, adds=adds)
        return lower_contraction(what, self.limits)

    def product(self, what: StepProduct, part: Part) -> None:
        """Loops of tiles in the lanes of the step; what sums over samples is a partial."""
        result, operands, comment = what.result, what.operands, what.comment
        if part == "samples":
            lanes = self.placement.lanes[result.name]
        else:
            pairs = [(operand.legs, self.home(operand, part)) for operand in operands]
            # Weights that do not stay in the first cache: it matters which of them share a line.
            far = volume(result.legs, self.sizes) * self.plan.itemsize > FIRST_CACHE
            run = self.run_next.get(result.name, "") if far else ""
            lanes = branch_lanes(result.legs, pairs, self.sizes, self.width, run)
        arrays = [self.get(operand, lanes) for operand in operands]
        if len(arrays) == 2 and not arrays[0].lanes:
            arrays.reverse()  # the vector stands left, the weight right
        second = arrays[1] if len(arrays) == 2 else None
        if part == "samples" and BATCH not in result.legs:
            self.sum_samples(result, arrays[0], second, lanes, comment)
            return
        target = None
        if part == "samples" and any(self.readers[o.value.name] > 1 for o in operands):
            target = self.in_place(result, arrays[0], second)
        if target is None:
            target = self.make_in_lanes(
                result, lanes if set(lanes) & set(result.legs) else (), part
            )
        self.emit_contraction(
            result, comment, Contraction(target, arrays[0], second, self.sizes), part
        )

    def emit_contraction(self, result: Value, comment: str, what: Contraction, part: Part) -> None:
        """A step by itself, or the loops of its group once all of the group has come."""
        group = self.groups.get(result.name)
        if group is None:
            self.emit(part, result.name, comment, lower_contraction(what, self.limits))
            return
        self.waiting.append((comment, what))
        if result.name == group.results[-1]:
            self.emit_group(group)

    def in_place(self, result: Value, left: Array, right: Array | None) -> Array | None:
        """The place of a state that nothing reads any more, if the step can write its result there.

        In a backward the gradient then stays in the first cache, while the states come by that
        weight gradients read.
        """
        if right is None or right.lanes or right.buffer == left.buffer:
            return None
        if result.name in self.direct or result.name in self.groups:
            return None
        if not left.lanes or self.placement.stored.get(result.name, left.lanes) != left.lanes:
            return None
        # Only the whole of an array of its own: a part of one may be read by others.
        buffer = self.buffers[left.buffer]
        points = volume(left.points, self.sizes)
        if buffer.space != "thread" or points * self.width != buffer.size:
            return None
        if any(self.unread[name] > 0 for name in self.lying[left.buffer]):
            return None
        target = replaced(left, self.axes.of(result.legs), self.sizes)
        if target is None or set(target.legs) != set(result.legs):
            return None
        target = replace(target, conj=False)
        what = Contraction(target, left, right, self.sizes)
        return (
            self.set_home(result, target, "samples") if pays_in_place(what, self.limits) else None
        )

    def emit_group(self, group: FusedLoop) -> None:
        """Loops around the steps of a group, each for a part of the state."""
        loops = tuple((leg, f"i{number}") for number, leg in enumerate(group.outer))
        comment = "; ".join(text for text, _ in self.waiting)
        body = tuple(
            statement
            for _, what in self.waiting
            for statement in lower_contraction(replace(what, loops=loops), self.limits)
        )
        self.waiting.clear()
        for leg, index in reversed(loops):
            body = (For(index, self.sizes[leg], body),)
        self.emit("samples", "_".join(group.results), comment, body)

    def sum_samples(
        self, result: Value, left: Array, right: Array | None, lanes: Lanes, comment: str
    ) -> None:
        """A result that sums over the batch: vectors of partial sums, summed up after."""
        axes = self.axes.of(result.legs)
        partial, buffer = partial_sums(result.name, axes, lanes, self.sizes, self.width)
        self.buffers[partial.buffer] = buffer
        what = Contraction(partial, left, right, self.sizes, adds=True, samples=BATCH)
        self.emit_contraction(result, comment, what, "samples")
        self.part_of[result.name] = "after"
        # Where the lanes are all its own the result stays in vectors: entries of one vector that
        # lie far apart would fall into few sets of the cache.
        own = set(lanes) <= set(axes) and volume(lanes, self.sizes) == self.width
        target = self.make_in_lanes(result, lanes if own else (), "after")
        body = sum_over_threads(target, partial, lanes, self.sizes)
        self.emit("after", f"{result.name}_s", f"{result.name} summed up", body)

    def cleared(self, target: Array, part: Part) -> Statement:
        """Zeros in the whole array; the batch is its outermost leg where it leaves directly."""
        at = At(target.buffer, target.offset, form="scalar")
        buffer = self.buffers[target.buffer]
        turns = self.placement.block if buffer.batched and part == "samples" else 1
        return Fill(at, buffer.size * turns)


def _summed_next(plan: Plan) -> dict[str, tuple[str, ...]]:
    """For each value the legs that its first reader sums over, if that is a contraction."""
    found: dict[str, tuple[str, ...]] = {}
    for step in plan.steps:
        for operand in step.operands:
            if isinstance(step, plan_steps.Contract):
                legs = tuple(leg for leg in operand.legs if leg in step.summed_legs)
                found.setdefault(operand.value.name, legs)
    return found


def _run_next(plan: Plan) -> dict[str, str]:
    """For each weight the last leg of the state that its first reader makes, if it brings that."""
    found: dict[str, str] = {}
    for step in plan.steps:
        if not isinstance(step, plan_steps.Contract) or BATCH not in step.result.legs:
            continue
        for operand in step.operands:
            if BATCH not in operand.legs:
                legs = [leg for leg in step.result.legs if leg in operand.legs]
                found.setdefault(operand.value.name, legs[-1] if legs else "")
    return found
