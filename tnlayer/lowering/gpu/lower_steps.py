"""From a Plan to a Program for a GPU, step by step: any plan, each step one thread loop.

A block of threads takes a few samples through all steps, with the states in its shared memory.
Steps on parameters run once for each block if they are small, else as kernels before it. Weight
gradients are summed by each block into partials of its own; kernels after it add those in order
and run the adjoint of the steps on parameters.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from ...hardware.gpu import SMALL, Tiling
from ...ir.loops import (
    Buffer,
    Fill,
    LoopProgram,
    LoopRegion,
    Space,
    Statement,
    SumPartials,
    Threads,
    Tile,
)
from ...ir.plan import Plan
from ...ir.steps import BATCH, Contract, Operand, Reduce, Step, Value
from ..array_layout import Array, conjugated, packed, volume
from ..lower_step import Axes, Part, StepProduct, argument, leaving_alone, lower_step
from .padded_strides import extent
from .thread_loop import lower_clear, lower_product

# Products of all steps on parameters that each block may repeat for itself, and entries of all
# parameters that it copies into its shared memory.
MOST_BRANCH_PRODUCTS, MOST_COPIED = 2**15, 2**13

Loops = Sequence[Threads]


@dataclass(slots=True)
class Lowering:
    """Arrays of all values made so far, and the statements of the four parts.

    ``local`` holds what a block sees while it works on samples, ``call`` what kernels before and
    after it see: a small value may be made in both places. ``volumes`` are the entries of arrays in
    the workspace, without those that are left out between them.

    Other kinds of schedules differ in the methods under "hooks", and in nothing else.
    """

    plan: Plan
    block: int
    threads: int
    sizes: dict[str, int] = field(default_factory=dict)
    buffers: list[Buffer] = field(default_factory=list)
    local: dict[str, Array] = field(default_factory=dict)
    call: dict[str, Array] = field(default_factory=dict)
    direct: dict[str, Array] = field(default_factory=dict)
    outputs: dict[str, Array] = field(default_factory=dict)
    parts: dict[Part, list[LoopRegion]] = field(
        default_factory=lambda: {"before": [], "prologue": [], "samples": [], "after": []}
    )
    tiling: Tiling = SMALL
    batched: set[str] = field(default_factory=set)
    late: set[str] = field(default_factory=set)
    volumes: dict[str, int] = field(default_factory=dict[str, int])

    # -- hooks: what other kinds of schedules do their own way -------------------------------

    def lower_steps(self) -> None:
        """Every step, in the order of the plan."""
        places = self.places_of_branch()
        for step in self.plan.steps:
            self.lower_in_place(step, places)

    def after_step(self, step: Step) -> None:
        """What is done right after a step; nothing."""

    def copy_parameters(self) -> None:
        """Parameters into shared memory, if they are small."""
        parameters = [value for value in self.plan.inputs if BATCH not in value.legs]
        used = {o.value.name for step in self.plan.steps for o in step.operands}
        if self.batched and sum(volume(v.legs, self.sizes) for v in parameters) <= MOST_COPIED:
            for value in parameters:
                if value.name in used:
                    self.copy_in(value, "prologue")

    def copy_samples(self) -> None:
        """Inputs of several samples into shared memory, for the last block may lack some."""
        if self.block > 1:
            for value in self.plan.inputs:
                if BATCH in value.legs:
                    self.copy_in(value, "samples")

    def makes_in_outputs(self) -> bool:
        """Whether a result may be made where it leaves."""
        return True

    def run_of(self, legs: Sequence[str]) -> tuple[str, ...]:
        """Legs of x or y that a point of a copy takes by itself; none."""
        return ()

    def state_array(self, value: Value) -> Array | None:
        """The array of a state or gradient; None for a packed one."""
        return None

    def strides_of(self, legs: Sequence[str], space: Space) -> dict[str, int]:
        """How the entries of a new array lie."""
        return packed(legs, self.sizes)

    def on_warps(self, what: StepProduct) -> Threads | None:
        """The loop of a product whose points are warps; None where they are threads."""
        return None

    def once_a_call(self, target: Array, left: Array, right: Array | None, part: Part) -> Loops:
        """The loops of a step that is no block's; () for those of any other."""
        return ()

    def ordered(self, part: Part, body: Sequence[Statement]) -> Sequence[Statement]:
        """Loops with their points in the order in which threads take them."""
        return body

    # -- the whole -------------------------------------------------------------------------

    def start(self) -> None:
        """Arguments, and which values are batched, summed over samples, or neither."""
        self.sizes = {**self.plan.sizes, BATCH: self.block}
        for value in self.plan.inputs:
            array = self.argument(value.name, value.legs, "input", value.name)
            self.call[value.name] = self.local[value.name] = array
            if BATCH in value.legs:
                self.batched.add(value.name)
        self.add_outputs()
        # A sum over samples is late, and so is what is made of it: it is known once all blocks are
        # done.
        for step in self.plan.steps:
            names = {operand.value.name for operand in step.operands}
            if names & self.batched and BATCH in step.result.legs:
                self.batched.add(step.result.name)
            elif names & (self.batched | self.late):
                self.late.add(step.result.name)
        self.copy_parameters()
        self.copy_samples()

    def program(self, name: str) -> LoopProgram:
        """The program of all parts; its workspace is not laid out yet."""
        return LoopProgram(
            name,
            self.plan.dtype,
            1,
            self.block,
            tuple(self.buffers),
            tuple(self.parts["before"]),
            tuple(self.parts["samples"]),
            tuple(self.parts["after"]),
            tuple(self.parts["prologue"]),
            self.threads,
        )

    def lower_all(self) -> None:
        """Every step, then the results leave."""
        self.lower_steps()
        for output in self.plan.outputs:
            self.leave(output.name, output.operand)

    def lower_in_place(self, step: Step, places: Mapping[str, tuple[Part, ...]]) -> None:
        """One step in the part or parts where it belongs."""
        name = step.result.name
        operands = {operand.value.name for operand in step.operands}
        if operands & self.batched:
            self.lower(step, "samples")
        elif name in self.late:
            self.lower(step, "after")
        else:
            for part in places.get(name, ()):
                self.lower(step, part)
        self.after_step(step)

    # -- where steps on parameters run -------------------------------------------------------

    def places_of_branch(self) -> dict[str, tuple[Part, ...]]:
        """For each value of parameters only: made by each block, by kernels, or both."""
        inside, outside = set[str](), set[str]()
        for output in self.plan.outputs:
            outside.add(output.operand.value.name)
        branch: list[Step] = []
        # Backwards, so that all readers of a value are seen before the step that makes it.
        for step in reversed(self.plan.steps):
            name = step.result.name
            operands = {operand.value.name for operand in step.operands}
            if operands & self.batched:
                inside |= operands
            elif name in self.late:
                outside |= operands
            else:
                branch.append(step)
                inside |= operands if name in inside else set()
                outside |= operands if name in outside else set()
        products = sum(
            volume(step.loop_legs, self.sizes) for step in branch if step.result.name in inside
        )
        # Few products each block makes for itself: that takes less time than a kernel before it.
        if products > MOST_BRANCH_PRODUCTS:
            names = {step.result.name for step in branch} & (inside | outside)
            return dict.fromkeys(names, ("before",))
        places: dict[str, tuple[Part, ...]] = {}
        for step in branch:
            name = step.result.name
            found: list[Part] = ["prologue"] if name in inside else []
            if name in outside:
                found.append("after")
            places[name] = tuple(found)
        return places

    def copy_in(self, value: Value, part: Part) -> None:
        source = self.local[value.name]
        target = self.workspace(f"{value.name}_s", source.legs, part, value.name)
        self.local[value.name] = target
        copy = lower_product(target, source, None, self.sizes)
        self.emit(part, target.buffer, f"{value.name} into shared memory", [copy])

    # -- arrays ----------------------------------------------------------------------------

    @property
    def axes(self) -> Axes:
        """Axes of all arrays; their sizes are those of this lowering."""
        return Axes(self.sizes)

    def argument(self, name: str, legs: Sequence[str], space: Space, value: str) -> Array:
        """The array of an argument; it brings or takes a value of the plan."""
        buffer, array = argument(name, legs, space, value, self.axes)
        self.buffers.append(buffer)
        return array

    def add_outputs(self) -> None:
        """Buffers of what leaves. A contraction that leaves once and by itself is made in place
        there; nothing else is, for outputs are never read."""
        products = {s.result.name for s in self.plan.steps if isinstance(s, Contract | Reduce)}
        alone = leaving_alone(self.plan) & products
        for output in self.plan.outputs:
            name = output.operand.value.name
            array = self.argument(f"out_{output.name}", output.legs, "output", name)
            if name in alone and self.makes_in_outputs():
                self.direct[name] = array
            self.outputs[output.name] = array

    def leave(self, name: str, operand: Operand) -> None:
        """Move a result to where the caller wants it."""
        target = self.outputs[name]
        batched = operand.value.name in self.batched
        source = self.home(operand, "samples" if batched else "after")
        if source.buffer != target.buffer:
            own = self.run_of(target.legs) if batched else ()
            copy = lower_product(target, source, None, self.sizes, own=own)
            self.emit("samples" if batched else "after", f"out_{name}", f"{name} leaves", [copy])

    def emit(self, part: Part, name: str, comment: str, body: Sequence[Statement]) -> None:
        self.parts[part].append(LoopRegion(name, comment, tuple(self.ordered(part, body))))

    def seen(self, part: Part) -> dict[str, Array]:
        """Arrays as a part sees them."""
        return self.local if part in ("prologue", "samples") else self.call

    def home(self, operand: Operand, part: Part) -> Array:
        """The array of a value."""
        array = self.seen(part)[operand.value.name]
        return conjugated(array) if operand.conj else array

    def set_home(self, value: Value, array: Array, part: Part) -> Array:
        self.seen(part)[value.name] = array
        if part == "before":
            self.local[value.name] = array
        return array

    def make(self, value: Value, part: Part) -> Array:
        """A new array for a result, in the workspace or directly where it leaves."""
        state = self.state_array(value) if part == "samples" else None
        if state is not None:
            return self.set_home(value, state, part)
        if value.name in self.direct and part != "prologue":
            return self.set_home(value, self.direct[value.name], part)
        array = self.workspace(value.name, self.axes.of(value.legs), part, value.name)
        return self.set_home(value, array, part)

    def workspace(self, name: str, legs: Sequence[str], part: Part, value: str = "") -> Array:
        """A new array; ``value`` is what it holds, "" where that is no value of the plan."""
        taken = {buffer.name for buffer in self.buffers}
        while name in taken:
            name += "_c"
        space: Space = "block" if part in ("prologue", "samples") else "shared"
        strides = self.strides_of(legs, space)
        self.buffers.append(Buffer(name, extent(strides, self.sizes), space, value=value))
        self.volumes[name] = volume(legs, self.sizes)
        return Array(name, tuple(strides.items()))

    # -- steps -----------------------------------------------------------------------------

    def lower(self, step: Step, part: Part) -> None:
        """Lower one step in one part."""
        lower_step(step, part, self)

    def reader(self, operand: Operand, result: Value, part: Part) -> Array:
        """An operand as it lies: threads read any order."""
        return self.home(operand, part)

    def copy(self, target: Array, source: Array, *, adds: bool = False) -> Sequence[Statement]:
        """One loop, a point an entry."""
        return [lower_product(target, source, None, self.sizes, adds=adds)]

    def product(self, what: StepProduct, part: Part) -> None:
        """One loop over the results; what sums over samples is added to a partial."""
        loop = self.on_warps(what) if part == "samples" else None
        if loop is not None:
            text = " x ".join(operand.value.name for operand in what.operands)
            self.emit(
                part, what.result.name, f"{what.result.name} = {text} on tensor cores", [loop]
            )
            return
        left, *others = (self.home(operand, part) for operand in what.operands)
        right = others[0] if others else None
        if part == "samples" and BATCH not in what.result.legs:
            partial = self.partial(what.result)
            body: Sequence[Statement] = [
                lower_product(partial, left, right, self.sizes, adds=True, tiling=self.tiling)
            ]
        else:
            body = self.loops_of(self.make(what.result, part), left, right, part)
        self.emit(part, what.result.name, what.comment, body)

    def loops_of(
        self, target: Array, left: Array, right: Array | None, part: Part
    ) -> Sequence[Threads]:
        """The loops of a contraction or a sum in one part."""
        once = self.once_a_call(target, left, right, part) if part in ("before", "after") else ()
        if once:
            return once
        # A point that holds several samples reads and writes all of them, so x and y, which lack
        # those that are missing in the last block, must not be among its arrays.
        arrays = [target, left, *([right] if right is not None else [])]
        missing = {buffer.name for buffer in self.buffers if buffer.batched}
        holds = not any(array.buffer in missing for array in arrays)
        return [
            lower_product(target, left, right, self.sizes, tiling=self.tiling, holds_samples=holds)
        ]

    def partial(self, result: Value) -> Array:
        """The partial of a result that sums over samples, and the kernel that adds the blocks'."""
        axes = self.axes.of(result.legs)
        name = f"{result.name}_p"
        strides = self.strides_of(axes, "partial")
        partial = Array(name, tuple(strides.items()))
        size = extent(strides, self.sizes)
        self.buffers.append(Buffer(name, size, "partial", value=result.name))
        target = self.make(result, "after")
        # A copy from one row of partials, whose tile then becomes the sum over all rows.
        copy = lower_product(target, partial, None, self.sizes)
        (tile,) = copy.body
        assert isinstance(tile, Tile)
        add = SumPartials(tile.target, tile.left, (0,))
        body = Threads(copy.indices, (Fill(tile.target, 1), add))
        self.emit("after", f"{result.name}_s", f"{result.name} summed up", [body])
        return partial

    def cleared(self, target: Array, part: Part) -> Statement:
        """Zeros in the whole array."""
        size = next(buffer.size for buffer in self.buffers if buffer.name == target.buffer)
        return lower_clear(target.buffer, size)
