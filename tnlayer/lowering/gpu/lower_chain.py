"""Chains in registers: the stem of a plan, forward and backward, segment by segment.

Forward: each segment loads its register legs, runs its steps and stores the state for the next one.
Backward: the segments run forward once, and what each begins with is kept in the block's memory;
then they run in reverse. A thread loads its part of a segment's first state and of the gradient,
makes the states between again, and walks back; gradients of weights are summed over the points.

    forward    x ==[0]==> s1 ==[1]==> s2 ==[2]==> y       each [n] one thread loop, in registers

    backward   x ==[0]==> s1 ==[1]==> s2                  kept, in the block's memory
               d_x <==[0]== d_s1 <==[1]== d_s2 <==[2]== g
                    ^ x          ^ s1         ^ s2        each makes its own states again

A gradient may overwrite the state that its segment began with: each point has read its entries of
that by then, and nobody else reads them.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from ...ir.loops import Buffer
from ...ir.steps import BATCH, Contract, Step, Value, gradient_step
from ...passes.differentiate import GRADIENT
from ...passes.stem import state_after
from ..array_layout import Array
from .bank_conflicts import choose_strides
from .chain import Chain
from .coalescing import goes_direct, run_legs
from .lower_steps import Lowering
from .padded_strides import extent
from .register_loop import RegisterLoop
from .thread_loop import lower_product


@dataclass(slots=True)
class ChainLowering(Lowering):
    """Lowers a plan whose batched steps belong to segments of a chain."""

    chain: Chain | None = None
    segment_of: dict[str, int] = field(default_factory=dict)
    points: list[tuple[str, ...]] = field(default_factory=list)
    loops: int = 0

    # -- the whole -------------------------------------------------------------------------

    def lower_steps(self) -> None:
        """Steps on parameters, segments forward, segments in reverse, sums."""
        assert self.chain is not None
        for number, segment in enumerate(self.chain.segments):
            for name in self.chain.steps_of(segment):
                self.segment_of[name] = number
        places = self.places_of_branch()
        batched: list[Step] = []
        rest: list[Step] = []
        for step in self.plan.steps:
            operands = {operand.value.name for operand in step.operands}
            if operands & self.batched:
                # Their order is that of segments, which is known once all are seen.
                batched.append(step)
            elif step.result.name in self.late:
                rest.append(step)
            else:
                self.lower_in_place(step, places)
        self.lower_chain(batched)
        for step in rest:
            self.lower_in_place(step, places)

    def lower_chain(self, batched: Sequence[Step]) -> None:
        """Batched steps, by segment and direction."""
        assert self.chain is not None
        count = len(self.chain.segments)
        forward: list[list[Step]] = [[] for _ in range(count)]
        reverse: list[list[Step]] = [[] for _ in range(count)]
        for step in batched:
            name = step.result.name
            if name in self.segment_of:
                forward[self.segment_of[name]].append(step)
            else:
                reverse[self.segment_of[gradient_step(step)]].append(step)
        has_reverse = any(reverse)
        # First all segments forward, for the last one is the first to go back.
        for number, steps in enumerate(forward):
            # The states inside a segment are made again in registers; what the last one ends with
            # is y itself.
            ends = {step.result.name for step in steps}
            leaves = self.chain.steps_of(self.chain.segments[number])[-1] in ends
            if leaves and (number < count - 1 or not has_reverse):
                self.lower_segment(number, steps, [], forward_only=True)
        for number in reversed(range(count)):
            if reverse[number]:
                self.lower_segment(number, forward[number], reverse[number])

    def state_of(self, gradient: str) -> str:
        """The state that a step's result is the gradient of; "" if it is none."""
        return next(
            (step.origin.value for step in self.plan.steps
             if step.result.name == gradient and step.origin and step.origin.role == "gradient"),
            "",
        )  # fmt: skip

    def copy_samples(self) -> None:
        """x and gradients into shared memory where threads that read them themselves would touch
        too many lines."""
        assert self.chain is not None
        self.points = self.points_of_segments()
        stem, segments = self.chain.stem, self.chain.segments
        stored = self.chain.stored
        if segments[0].large or goes_direct(stem.legs, segments[0].registers, self.sizes, stored):
            staged = set[str]()
        else:
            staged = {stem.port.name}
            for gradient in [name for name in self.direct if self.state_of(name) == stem.port.name]:
                del self.direct[gradient]
        last = segments[-1]
        own = self.registers_after(len(segments) - 1)
        if not last.large and not goes_direct(stem.outputs, own, self.sizes, stored):
            staged.add(GRADIENT)
            self.direct.pop(self.chain.steps_of(last)[-1], None)
        for value in self.plan.inputs:
            if value.name in staged:
                number = len(segments) - 1 if value.name == GRADIENT else 0
                source = self.local[value.name]
                target = self.boundary(value, (number,), f"{value.name}_s", reads=value.legs)
                own = self.run_of(value.legs)
                copy = lower_product(target, source, None, self.sizes, own=own)
                self.emit("samples", target.buffer, f"{value.name} into shared memory", [copy])

    def run_of(self, legs: Sequence[str]) -> tuple[str, ...]:
        """The legs of x or y that a point of a copy takes by itself, in one access."""
        assert self.chain is not None
        return run_legs([leg for leg in legs if leg != BATCH], self.sizes, self.chain.stored)

    def copies_of(self, legs: Sequence[str]) -> tuple[str, ...]:
        """The points of such a copy."""
        own = self.run_of(legs)
        return tuple(leg for leg in legs if leg not in own)

    # -- legs ------------------------------------------------------------------------------

    def points_of_segments(self) -> list[tuple[str, ...]]:
        """Point legs of each segment, in the order in which x or y has them at both ends; the batch
        is one of them unless threads hold all samples of a block."""
        assert self.chain is not None
        stem, found, legs = self.chain.stem, list[tuple[str, ...]](), self.chain.stem.legs
        for number, segment in enumerate(self.chain.segments):
            points = [leg for leg in legs if leg not in segment.registers]
            if number == len(self.chain.segments) - 1 and number > 0:
                points = [leg for leg in stem.outputs if leg in points]
            found.append((BATCH, *points) if self.chain.held == 1 else tuple(points))
            for step in segment.steps:
                legs = state_after(legs, stem.steps[step])
        return found

    def registers_after(self, number: int) -> list[str]:
        """Legs of y that are in registers as the last segment ends."""
        assert self.chain is not None
        legs, stem = self.chain.stem.legs, self.chain.stem
        for segment in self.chain.segments[:number]:
            for step in segment.steps:
                legs = state_after(legs, stem.steps[step])
        points = set(legs) - set(self.chain.segments[number].registers)
        return [leg for leg in stem.outputs if leg not in points]

    def state_array(self, value: Value) -> Array | None:
        """States and gradients of large steps lie as their neighbours want."""
        if value.name not in self.batched:
            return None
        number = self.segment_of.get(value.name, self.segment_of.get(self.state_of(value.name), -1))
        return self.boundary(value, (number, number + 1))

    def boundary(
        self,
        value: Value,
        sides: Sequence[int],
        name: str = "",
        *,
        reads: Sequence[str] = (),
    ) -> Array:
        """The array of a state or gradient between two segments.

        Arguments:
            value: whose array it is.
            sides: numbers of the segments that write or read it.
            name: of its buffer, if not the value's.
            reads: legs in the order in which a copy goes over it; () if none does.
        """
        assert self.chain is not None
        if value.name in self.direct:
            return self.set_home(value, self.direct[value.name], "samples")
        # Strides are chosen for the points of both loops, and of a copy of x or y, at once.
        legs = [leg for leg in value.legs if leg != BATCH]
        points = [self.points[number] for number in sides
                  if 0 <= number < len(self.points)
                  and not self.chain.segments[number].large]  # fmt: skip
        # The sample comes first: then each sample's part is a run of its own.
        ordered = [BATCH, *legs] if self.block > 1 else legs
        leaving = self.chain.stem.outputs if value.name in self.chain.steps_of(
            self.chain.segments[-1]
        )[-1:] else reads  # fmt: skip
        points += [self.copies_of(leaving)] if leaving else []
        seen = [[leg for leg in side if leg in ordered] for side in points]
        strides = choose_strides(ordered, seen or [ordered], self.sizes, self.chain.itemsize)
        name = name or value.name
        while name in {buffer.name for buffer in self.buffers}:
            name += "_c"
        size = extent(strides, self.sizes)
        self.buffers.append(Buffer(name, size, "block", value=value.name))
        return self.set_home(value, Array(name, tuple(strides.items())), "samples")

    def gradient_place(self, gradient: Value, number: int, group: RegisterLoop) -> Array:
        """Where a gradient goes: over the state it belongs to, which nobody reads any more. Each
        point reads and writes the same entries, so that half the memory is enough."""
        state = self.state_of(gradient.name)
        if (
            gradient.name not in self.direct
            and state in group.held
            and any(b.name == self.local[state].buffer and b.space == "block" for b in self.buffers)
            and set(self.local[state].legs) >= {x for x in gradient.legs if self.sizes[x] > 1}
        ):
            return self.set_home(gradient, self.local[state], "samples")
        return self.boundary(gradient, (number, number - 1))

    # -- segments --------------------------------------------------------------------------

    def lower_segment(
        self,
        number: int,
        forward: Sequence[Step],
        reverse: Sequence[Step],
        *,
        forward_only: bool = False,
    ) -> None:
        """One segment in one direction: registers, or one loop a step where it is too large."""
        assert self.chain is not None
        if self.chain.segments[number].large:
            # It keeps nothing in registers, so its states are in memory and none is made again.
            for step in forward if forward_only else reverse:
                self.lower(step, "samples")
            return
        self.loops += 1
        kind = "forward" if forward_only else "reverse"
        group = RegisterLoop(
            self.points[number], self.sizes, f"{'f' if forward_only else 'r'}{number}_"
        )
        needed = self.interior(forward, reverse, forward_only)
        for step in (*needed, *reverse):
            assert isinstance(step, Contract)
            self.lower_product(group, step, number)
        if forward_only:
            last = forward[-1].result
            group.store(last, self.boundary(last, (number, number + 1)))
        for step in reverse:
            if BATCH in step.result.legs and not self.is_read_here(step.result, reverse):
                group.store(step.result, self.gradient_place(step.result, number, group))
        self.buffers += group.buffers
        made = (*needed, *reverse)
        comment = f"segment {number} {kind}: " + ", ".join(step.result.name for step in made)
        self.emit("samples", f"segment{number}_{kind}", comment, [group.threads()])

    def is_read_here(self, value: Value, steps: Sequence[Step]) -> bool:
        return any(operand.value.name == value.name for step in steps for operand in step.operands)

    def interior(
        self, forward: Sequence[Step], reverse: Sequence[Step], forward_only: bool
    ) -> list[Step]:
        """Forward steps whose results this loop needs."""
        if forward_only:
            return list(forward)
        wanted = {operand.value.name for step in reverse for operand in step.operands}
        found: list[Step] = []
        for step in reversed(forward):
            if step.result.name in wanted:
                found.insert(0, step)
                wanted |= {operand.value.name for operand in step.operands}
        return found

    def lower_product(self, group: RegisterLoop, step: Contract, number: int) -> None:
        """One contraction in registers; batched operands are loaded when they are first used."""
        for operand in step.operands:
            name = operand.value.name
            if name in self.batched and name not in group.held:
                group.load(operand.value, self.local[name])
        weights = {
            operand.value.name: self.local[operand.value.name]
            for operand in step.operands
            if operand.value.name not in self.batched
        }
        group.product(step, weights)
        if BATCH in step.result.legs:
            return
        # A gradient of a weight: points that meet other entries of it add to those by themselves;
        # where all points have the same entries, a sum over threads does.
        partial = self.partial(step.result)
        if (set(self.points[number]) - {BATCH}) & set(step.result.legs):
            group.add_points(step.result, partial)
        else:
            legs = group.held[step.result.name].legs
            assert list(legs) == [x for x in partial.legs if self.sizes[x] > 1], "one order"
            group.sum_points(step.result, partial)
