"""The one walk over the kinds of plan steps: what each becomes, on any target.

Most kinds cost nothing or are copies; what is left is the product of two values, or the sum of one
over some legs::

    Select, Diagonal, Expand     a view: other strides and another first entry, no statement
    Add, Scatter, Embed          zeros, then copies into (views of) a new array
    Contract, Reduce             ``policy.product``: target = sum of left * right

How an array is made, copied and multiplied differs between a CPU and a GPU, and is asked of a
:class:`Policy`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal, Protocol

from ..ir import steps as plan_steps
from ..ir.loops import Buffer, Space, Statement
from ..ir.plan import Plan
from ..ir.steps import BATCH, Operand, Step, Value
from .array_layout import Array, diagonal, packed, pinned, volume

# A part of a program; only a GPU has a prologue, what each block does before its samples.
Part = Literal["before", "prologue", "samples", "after"]
Pins = tuple[tuple[int, int], ...]


@dataclass(frozen=True, slots=True)
class StepProduct:
    """result = left * right, summed over the legs that the result lacks.

    Arguments:
        result, left, right: values; right is None where left is only summed.
    """

    result: Value
    left: Operand
    right: Operand | None

    @property
    def operands(self) -> tuple[Operand, ...]:
        """One or two."""
        return (self.left,) if self.right is None else (self.left, self.right)

    @property
    def comment(self) -> str:
        """The step as a line of text."""
        text = " x ".join(operand.value.name for operand in self.operands)
        legs = dict.fromkeys(leg for operand in self.operands for leg in operand.legs)
        summed = [leg for leg in legs if leg not in self.result.legs]
        return f"{self.result.name} = {text}" + (f", sum {' '.join(summed)}" if summed else "")


class Policy(Protocol):
    """What a target makes of the pieces of a step."""

    @property
    def axes(self) -> Axes: ...

    def home(self, operand: Operand, part: Part) -> Array:
        """An operand as it was made."""
        ...

    def set_home(self, value: Value, array: Array, part: Part) -> Array:
        """Note where a value lies."""
        ...

    def reader(self, operand: Operand, result: Value, part: Part) -> Array:
        """An operand as a step that makes a result reads it."""
        ...

    def make(self, value: Value, part: Part) -> Array:
        """A new array for a result."""
        ...

    def product(self, what: StepProduct, part: Part) -> None:
        """Emit a product."""
        ...

    def copy(self, target: Array, source: Array, *, adds: bool = False) -> Sequence[Statement]:
        """target = source, or target += source."""
        ...

    def cleared(self, target: Array, part: Part) -> Statement:
        """Zeros in the whole array."""
        ...

    def emit(self, part: Part, name: str, comment: str, body: Sequence[Statement]) -> None:
        """Append a step to a part of the program."""
        ...


def lower_step(step: Step, part: Part, policy: Policy) -> None:
    """Lower one step of a plan into one part of a program."""
    result, axes = step.result, policy.axes
    match step:
        case plan_steps.Contract():
            policy.product(StepProduct(result, step.left, step.right), part)
        case plan_steps.Reduce():
            policy.product(StepProduct(result, step.operand, None), part)
        case plan_steps.Add():
            _add(result, [(operand, ()) for operand in step.operands], part, policy)
        case plan_steps.Scatter():
            pieces = [(piece.operand, piece.pins) for piece in step.parts]
            _add(result, pieces, part, policy, clear=True)
        case plan_steps.Embed():
            # A diagonal of a new array is a view of it; what is beside the diagonal stays zero.
            target = policy.make(result, part)
            view = diagonal(target, step.operand.legs, axes.legs_of(result.legs))
            copy = policy.copy(view, policy.reader(step.operand, result, part))
            body = (policy.cleared(target, part), *copy)
            policy.emit(part, result.name, f"diagonal of {result.name}", body)
        case plan_steps.Select():
            policy.set_home(result, _selected(step, policy.home(step.operand, part), axes), part)
        case plan_steps.Diagonal():
            array = policy.home(step.operand, part)
            array = diagonal(array, result.legs, axes.legs_of(step.operand.legs))
            policy.set_home(result, array, part)
        case plan_steps.Expand():
            array = policy.home(step.operand, part)
            strides = tuple((leg, array.stride(leg)) for leg in result.legs)
            policy.set_home(result, replace(array, strides=strides), part)


def _add(
    result: Value,
    pieces: Sequence[tuple[Operand, Pins]],
    part: Part,
    policy: Policy,
    *,
    clear: bool = False,
) -> None:
    """Sum of arrays, each at its pins, axis by axis."""
    target, axes = policy.make(result, part), policy.axes.of(result.legs)
    body: list[Statement] = [policy.cleared(target, part)] if clear else []
    for number, (operand, pins) in enumerate(pieces):
        source = policy.reader(operand, result, part)
        view, legs = pinned(target, axes, pins)
        # Legs are matched by place: an operand may have other names for them.
        renaming = dict(zip(policy.axes.of(operand.legs), legs, strict=True))
        strides = tuple((renaming.get(leg, leg), stride) for leg, stride in source.strides)
        source = replace(source, strides=strides)
        # The first one is what the others are added to, unless the target was cleared for all.
        body += policy.copy(view, source, adds=clear or number > 0)
    names = " + ".join(operand.value.name for operand, _ in pieces)
    policy.emit(part, result.name, f"{result.name} = {names}", body)


def _selected(step: plan_steps.Select, array: Array, axes: Axes) -> Array:
    """A slice, with the axes that are left called after the result's legs."""
    view, left = pinned(array, axes.of(step.operand.legs), step.pins)
    renaming = dict(zip(left, axes.of(step.result.legs), strict=True))
    strides = tuple((renaming[leg], stride) for leg, stride in view.strides)
    # Vectors stay vectors; a slice through one has none.
    whole = set(array.lanes) <= set(left)
    lanes = tuple(renaming[leg] for leg in array.lanes) if whole else ()
    return replace(view, strides=strides, lanes=lanes)


# -- arguments ---------------------------------------------------------------------------------


@dataclass(slots=True)
class Axes:
    """Names and sizes of axes: a leg that stands again gets a mark, for strides are kept by name.

    Arguments:
        sizes: of each leg and each axis, the batch's that of a block.

    >>> axes = Axes({"a": 2, "b": 3})
    >>> axes.of(("a", "b", "a"))
    ('a', 'b', "a'")
    """

    sizes: dict[str, int]

    def of(self, legs: Sequence[str]) -> tuple[str, ...]:
        """The axes of an array with these legs; their sizes are known from now on."""
        found: list[str] = []
        for leg in legs:
            axis = leg
            while axis in found:
                axis += "'"
            self.sizes[axis] = self.sizes[leg]
            found.append(axis)
        return tuple(found)

    def legs_of(self, legs: Sequence[str]) -> dict[str, str]:
        """The leg of each axis."""
        return dict(zip(self.of(legs), legs, strict=True))


def argument(
    name: str, legs: Sequence[str], space: Space, value: str, axes: Axes
) -> tuple[Buffer, Array]:
    """An argument as torch stores it, the batch as its first axis.

    Arguments:
        name: of its buffer.
        legs: of its axes.
        space: input or output.
        value: of the plan, which it brings or takes.
        axes: of the program.
    """
    own = axes.of(legs)
    strides = packed([axis for axis in own if axis != BATCH], axes.sizes)
    # A batched buffer is one row a sample; its size is that of a row.
    features = volume(strides, axes.sizes)
    if BATCH in own:
        strides = {BATCH: features, **strides}
    buffer = Buffer(name, features, space, 0, BATCH in own, value)
    return buffer, Array(name, tuple(strides.items()))


def leaving_alone(plan: Plan) -> set[str]:
    """Values that leave once, by themselves and as they are: they may be made where they leave."""
    used = {operand.value.name for step in plan.steps for operand in step.operands}
    leaving = [output.operand.value.name for output in plan.outputs]
    return {
        operand.value.name
        for operand in (output.operand for output in plan.outputs)
        if leaving.count(operand.value.name) == 1
        and operand.value.name not in used
        and not operand.conj
        and len(set(operand.legs)) == len(operand.legs)
    }
