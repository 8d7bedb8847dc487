"""Legs seen as two: a leg that is longer than a vector becomes an outer and an inner leg, and the
inner one can be a lane.

Only names change. Arrays are row major, so the entries of a leg of 64 are those of legs of 4 and 16
in a row; where it is summed both are.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace

from ..ir.plan import Plan
from ..ir.steps import BATCH, Add, Operand, Scatter, Select, Step, Value, with_operands

Parts = Mapping[str, int]


def find_splits(plan: Plan, width: int) -> dict[str, int]:
    """The inner size of each leg that is to be split: its largest divisor that fits a vector.

    Legs are left alone that are no longer than a vector, that have no divisor of at least two
    below, or that a step addresses by their position. A new name for a leg is split with it.
    """
    fixed: set[str] = set()
    same: dict[str, set[str]] = {}
    for step in plan.steps:
        values = [step.result, *(operand.value for operand in step.operands)]
        if isinstance(step, Select) and step.renames:
            for leg, other in zip(values[1].legs, values[0].legs, strict=True):
                joined = same.get(leg, {leg}) | same.get(other, {other})
                same.update(dict.fromkeys(joined, joined))
        elif isinstance(step, Select | Scatter | Add):
            fixed.update(leg for value in values for leg in value.legs)
    batched = {leg for step in plan.steps if BATCH in step.result.legs
               for operand in step.operands for leg in operand.legs}  # fmt: skip
    found: dict[str, int] = {}
    for leg, size in plan.leg_sizes:
        inner = max(k for k in range(1, width + 1) if size % k == 0)
        legs = same.get(leg, {leg})
        if size > width and inner > 1 and legs & batched and not legs & fixed:
            found[leg] = inner
    return found


def split_legs(plan: Plan, parts: Parts) -> Plan:
    """The same plan with some legs split.

    Arguments:
        plan: a forward plan.
        parts: the inner size of each leg to split, as ``find_splits`` gives them.
    """
    if not parts:
        return plan

    def legs_of(legs: Iterable[str]) -> tuple[str, ...]:
        return tuple(part for leg in legs for part in _names(leg, parts))

    def value_of(value: Value) -> Value:
        return Value(value.name, legs_of(value.legs))

    def axes_of(axes: Sequence[tuple[str, ...]]) -> tuple[tuple[str, ...], ...]:
        return tuple(legs_of(axis) for axis in axes)

    def step_of(step: Step) -> Step:
        return replace(with_operands(step, value_of), result=value_of(step.result))

    sizes = [
        pair
        for leg, size in plan.leg_sizes
        for pair in zip(_names(leg, parts), _sizes(size, parts.get(leg)), strict=True)
    ]
    # Without axes of its own each leg of a port would become an axis.
    axes = {value.name: axes_of(plan.axes_of(value)) for value in plan.ports}
    return replace(
        plan,
        leg_sizes=tuple(sizes),
        ports=tuple(map(value_of, plan.ports)),
        parameters=tuple(map(value_of, plan.parameters)),
        saved=tuple(map(value_of, plan.saved)),
        steps=tuple(map(step_of, plan.steps)),
        outputs=tuple(
            replace(
                output,
                operand=Operand(value_of(output.operand.value), output.operand.conj),
                axes=axes_of(output.axes),
            )
            for output in plan.outputs
        ),
        port_axes=tuple(axes.items()),
    ).verify()


def _names(leg: str, parts: Parts) -> tuple[str, ...]:
    return (f"{leg}.o", f"{leg}.i") if leg in parts else (leg,)


def _sizes(size: int, inner: int | None) -> tuple[int, ...]:
    return (size,) if inner is None else (size // inner, inner)
