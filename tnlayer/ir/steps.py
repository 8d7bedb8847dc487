"""The steps of a Plan: eight kinds, each linear in each operand.

Grammar (SSA: each value is made once, before its uses)::

    step     = Contract(result, left, right)   result[kept] = sum left[...] * right[...]
             | Reduce(result, operand)         sums the legs that the result lacks
             | Expand(result, operand)         repeats along the legs that the operand lacks
             | Diagonal(result, operand)       a leg that stands twice becomes one
             | Embed(result, operand)          its adjoint: zeros off the diagonal
             | Add(result, operands)           axis by axis, whatever the legs are called
             | Select(result, operand, pins)   takes index pins[axis], renames the axes left
             | Scatter(result, parts)          its adjoint: sums parts into an array of zeros
    operand  = Operand(value, conj)
    value    = Value(name, legs)               legs: one an axis

A leg is summed in a Contract if both operands have it and the result does not. A leg that only
one operand has is never summed there: a Reduce does that before, which costs less.
The batch is a leg like any other, named ``BATCH``; its size is known at the call only.

A step of a backward says in its ``origin`` which forward step it comes from. A name is only a name:
nothing is ever read out of it.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Literal

BATCH = "b"


@dataclass(frozen=True, slots=True)
class Value:
    """An array of the plan: its name and one leg an axis."""

    name: str
    legs: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Operand:
    """A use of a value, of its complex conjugate where ``conj`` is set."""

    value: Value
    conj: bool = False

    @property
    def legs(self) -> tuple[str, ...]:
        """Legs of the value that is used."""
        return self.value.legs


Role = Literal["repeat", "gradient", "sum"]


@dataclass(frozen=True, slots=True)
class Origin:
    """Where a step of a backward comes from.

    Arguments:
        role: "repeat": it does a forward step again. "gradient": it takes the gradient of what a
            forward step made to the gradient of one of its operands. "sum": it adds what has
            reached a value on several ways.
        step: the result of that forward step; a sum belongs to the step that made the value, or to
            the first that took a slice of it; "" if it is an input.
        value: the forward value that is made again, or that the result is a gradient of.
    """

    role: Role
    step: str
    value: str


@dataclass(frozen=True, slots=True)
class _Step:
    """What all steps have: ``origin`` is None in a forward plan."""

    origin: Origin | None = field(default=None, kw_only=True)


@dataclass(frozen=True, slots=True)
class Contract(_Step):
    """Product of two values, summed over the shared legs that the result lacks."""

    result: Value
    left: Operand
    right: Operand

    @property
    def operands(self) -> tuple[Operand, ...]:
        """Left, then right."""
        return (self.left, self.right)

    @property
    def loop_legs(self) -> tuple[str, ...]:
        """All legs of the loop nest, each once."""
        return tuple(dict.fromkeys(self.left.legs + self.right.legs))

    @property
    def summed_legs(self) -> tuple[str, ...]:
        """The legs that are summed."""
        kept = set(self.result.legs)
        return tuple([leg for leg in self.loop_legs if leg not in kept])


@dataclass(frozen=True, slots=True)
class _Unary(_Step):
    """A step with one operand."""

    result: Value
    operand: Operand

    @property
    def operands(self) -> tuple[Operand, ...]:
        """The only operand."""
        return (self.operand,)

    @property
    def loop_legs(self) -> tuple[str, ...]:
        """Legs of the larger side, each once."""
        return tuple(dict.fromkeys(self.operand.legs + self.result.legs))


@dataclass(frozen=True, slots=True)
class Reduce(_Unary):
    """Sum over the legs that the result lacks."""


@dataclass(frozen=True, slots=True)
class Expand(_Unary):
    """Repetition along the legs that the operand lacks."""


@dataclass(frozen=True, slots=True)
class Diagonal(_Unary):
    """The entries at equal indices of legs that stand twice; the result has each leg once."""


@dataclass(frozen=True, slots=True)
class Embed(_Unary):
    """An array that is zero where two axes of one leg differ; adjoint of Diagonal."""


@dataclass(frozen=True, slots=True)
class Select(_Unary):
    """The slice at pins[axis] of each pinned axis; the axes left take the result's legs.

    Without pins it is a new name for the same entries: of a parameter that several nodes share, or
    of a product that was computed before, for other legs.

    Arguments:
        terms: of such a product, the terms of the network (name, conjugate) that this one stands
            for, in the order in which the steps of the operand meet those that it was made of.
    """

    pins: tuple[tuple[int, int], ...]
    terms: tuple[tuple[str, bool], ...] = ()

    @property
    def renames(self) -> bool:
        """Whether all entries stay where they are and only the legs get other names."""
        return not self.pins


@dataclass(frozen=True, slots=True)
class Add(_Step):
    """Sum of arrays of one shape, axis by axis; takes the first operand's legs."""

    result: Value
    operands: tuple[Operand, ...]

    @property
    def loop_legs(self) -> tuple[str, ...]:
        """Legs of the result."""
        return self.result.legs


@dataclass(frozen=True, slots=True)
class Part:
    """One term of a Scatter: where an operand goes in the result."""

    operand: Operand
    pins: tuple[tuple[int, int], ...]


@dataclass(frozen=True, slots=True)
class Scatter(_Step):
    """Zeros into which each part is added at its pins; adjoint of Selects of one value."""

    result: Value
    parts: tuple[Part, ...]

    @property
    def operands(self) -> tuple[Operand, ...]:
        """The parts' operands, in order."""
        return tuple(part.operand for part in self.parts)

    @property
    def loop_legs(self) -> tuple[str, ...]:
        """Legs of the result."""
        return self.result.legs


Step = Contract | Reduce | Expand | Diagonal | Embed | Add | Select | Scatter


def gradient_step(step: Step) -> str:
    """The forward step, by its result, whose gradient a step of a backward takes further; "" for
    other steps."""
    return step.origin.step if step.origin is not None and step.origin.role == "gradient" else ""


def owner_of(step: Step) -> str:
    """The forward step, by its result, that a step belongs to: itself in a forward plan; "" for a
    sum of gradients of an input."""
    return step.result.name if step.origin is None else step.origin.step


def with_operands(step: Step, rename: Callable[[Value], Value]) -> Step:
    """The same step on other values."""
    return with_uses(step, lambda operand: Operand(rename(operand.value), operand.conj))


def with_uses(step: Step, of: Callable[[Operand], Operand]) -> Step:
    """The same step on other operands."""
    match step:
        case Contract():
            return replace(step, left=of(step.left), right=of(step.right))
        case Add():
            return replace(step, operands=tuple(of(operand) for operand in step.operands))
        case Scatter():
            parts = tuple(Part(of(part.operand), part.pins) for part in step.parts)
            return replace(step, parts=parts)
        case _:
            return replace(step, operand=of(step.operand))
