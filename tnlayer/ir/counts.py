"""Exact counts of a plan's steps: FLOPs and bytes, each a constant plus a rate per sample.

A contraction with a summed leg counts 2 x (product of all its legs). One without counts 1 x and is
reported apart, as elementwise, and so are sums over a leg (Reduce) and additions (Add, and each
part of a Scatter beyond the first write). Moving data (Expand, Diagonal, Embed, Select) counts 0; a
Select that only renames legs moves nothing either.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from .steps import BATCH, Add, Contract, Reduce, Scatter, Select, Step

# Real operations in one complex multiply-add, product or addition, over the real ones counted.
_COMPLEX_CONTRACTION, _COMPLEX_PRODUCT, _COMPLEX_SUM = 4, 6, 2


@dataclass(frozen=True, slots=True)
class Amount:
    """A quantity that is affine in the batch size B: ``fixed + per_sample * B``."""

    fixed: int = 0
    per_sample: int = 0

    def __add__(self, other: Amount) -> Amount:
        return Amount(self.fixed + other.fixed, self.per_sample + other.per_sample)

    def __mul__(self, factor: int) -> Amount:
        return Amount(self.fixed * factor, self.per_sample * factor)

    def at(self, batch: int) -> int:
        """The quantity at this batch size."""
        return self.fixed + self.per_sample * batch


def amount(values: Iterable[Amount]) -> Amount:
    """Sum of amounts."""
    return sum(values, start=Amount())


def elements(legs: Iterable[str], sizes: Mapping[str, int]) -> Amount:
    """Product of the legs' sizes; per sample if the batch is among them."""
    product, batched = 1, False
    for leg in legs:
        if leg == BATCH:
            batched = True
        else:
            product *= sizes[leg]
    return Amount(0, product) if batched else Amount(product, 0)


@dataclass(frozen=True, slots=True)
class Counts:
    """What a step, or a whole plan, computes and moves.

    Arguments:
        flops: 2 x loop space of contractions that sum a leg (what FlopCounterMode counts).
        elementwise: products without a summed leg, sums and additions.
        real_flops: both, in real operations: equal to their sum but for complex dtypes.
        bytes_read: bytes of the operands.
        bytes_written: bytes of the result.
    """

    flops: Amount = Amount()
    elementwise: Amount = Amount()
    real_flops: Amount = Amount()
    bytes_read: Amount = Amount()
    bytes_written: Amount = Amount()

    def __add__(self, other: Counts) -> Counts:
        return Counts(
            self.flops + other.flops,
            self.elementwise + other.elementwise,
            self.real_flops + other.real_flops,
            self.bytes_read + other.bytes_read,
            self.bytes_written + other.bytes_written,
        )


def total(counts: Iterable[Counts]) -> Counts:
    """Sum of counts."""
    return sum(counts, start=Counts())


def _operations(step: Step, sizes: Mapping[str, int]) -> tuple[Amount, Amount, int]:
    """(flops, elementwise, real operations per counted one if the dtype is complex)."""
    match step:
        case Contract() if step.summed_legs:
            return elements(step.loop_legs, sizes) * 2, Amount(), _COMPLEX_CONTRACTION
        case Contract():
            return Amount(), elements(step.loop_legs, sizes), _COMPLEX_PRODUCT
        case Reduce():
            return Amount(), elements(step.operand.legs, sizes), _COMPLEX_SUM
        case Add():
            terms = len(step.operands) - 1
            return Amount(), elements(step.result.legs, sizes) * terms, _COMPLEX_SUM
        case Scatter():
            added = (elements(part.operand.legs, sizes) for part in step.parts[1:])
            return Amount(), amount(added), _COMPLEX_SUM
        case _:
            return Amount(), Amount(), 1


def count_step(step: Step, sizes: Mapping[str, int], itemsize: int, *, is_complex: bool) -> Counts:
    """Counts of one step for entries of ``itemsize`` bytes."""
    if isinstance(step, Select) and step.renames:
        return Counts()
    flops, elementwise, factor = _operations(step, sizes)
    return Counts(
        flops=flops,
        elementwise=elementwise,
        real_flops=(flops + elementwise) * (factor if is_complex else 1),
        bytes_read=amount(elements(o.legs, sizes) for o in step.operands) * itemsize,
        bytes_written=elements(step.result.legs, sizes) * itemsize,
    )
