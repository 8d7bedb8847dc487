"""Which plans are one product with a matrix of two factors, and how their legs are divided.

Where the dense matrix is rebuilt before any sample, the last two steps are::

    W[a1 a2 b1 b2] = sum s    left[a1 b1 s] right[s a2 b2]
    y[rows b1 b2]  = sum a1 a2  x[rows a1 a2] W[a1 a2 b1 b2]

Kernels make W tile by tile in a cache (codegen/cpp/streamed). The vectors of a product run over b2,
those of its transposed over a2; so the factor that fills vectors better stands right, and of two
that do so alike the smaller one, which is read again and again.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import prod

from ...ir.cuts import batched_steps
from ...ir.plan import Plan
from ...ir.steps import Contract, Step, Value
from ...support.dtypes import DTYPES

Legs = tuple[str, ...]


@dataclass(frozen=True, slots=True)
class ProductForm:
    """A plan whose only step with samples is a product with a matrix of two factors.

    Arguments:
        x, y: the value with samples that goes in, and the one that comes out.
        matrix: W.
        left, right: its factors.
        rows: legs of x that y keeps; the batch is one of them.
        a1, b1: legs of left that x has, and that y has.
        left_others: both, in the order in which a product of matrices gives left with s behind.
        a2, b2: the same of right.
        s: legs that both factors have.
        sizes: numbers of indices of a1, a2, b1, b2 and s.
    """

    x: Value
    y: Value
    matrix: Value
    left: Value
    right: Value
    rows: Legs
    a1: Legs
    b1: Legs
    left_others: Legs
    a2: Legs
    b2: Legs
    s: Legs
    sizes: tuple[int, int, int, int, int]

    @property
    def x_legs(self) -> Legs:
        """The order in which kernels read x."""
        return (*self.rows, *self.a1, *self.a2)

    @property
    def y_legs(self) -> Legs:
        """The order in which they write y."""
        return (*self.rows, *self.b1, *self.b2)

    @property
    def left_legs(self) -> Legs:
        """The order in which they read left: any, with s behind all others."""
        return (*self.left_others, *self.s)

    @property
    def right_legs(self) -> Legs:
        """The order in which they read right."""
        return (*self.s, *self.a2, *self.b2)


def product_form(plan: Plan, width: int) -> ProductForm | str:
    """How a plan is such a product, or why it is none.

    Arguments:
        plan: a forward plan.
        width: entries of a vector.
    """
    if DTYPES[plan.dtype].is_complex:
        return "its arithmetic is complex"
    if len(plan.ports) != 1:
        return f"it has {len(plan.ports)} inputs, not one"
    steps = batched_steps(plan)
    step = steps[0] if len(steps) == 1 else None
    output = plan.outputs[0].operand.value
    if not isinstance(step, Contract) or step.result != output:
        return "more than one step, or none, has samples: W is not rebuilt"
    port = plan.ports[0]
    x, other = (step.left, step.right) if step.left.value == port else (step.right, step.left)
    makers: dict[str, Step] = {one.result.name: one for one in plan.steps}
    maker = makers.get(other.value.name)
    if not isinstance(maker, Contract):
        return "W is no product of two tensors"
    if _uses(plan, maker.result) != 1:
        return "W is used more than once"
    return _divided(plan, makers, x.value, maker, step.result, width)


def _uses(plan: Plan, value: Value) -> int:
    return sum(operand.value == value for step in plan.steps for operand in step.operands)


def _divided(
    plan: Plan, makers: Mapping[str, Step], x: Value, maker: Contract, y: Value, width: int
) -> ProductForm | str:
    """The legs of all values, by where they go."""
    first, second, matrix = maker.left.value, maker.right.value, maker.result
    if any(len(set(value.legs)) < len(value.legs) for value in (x, first, second, matrix, y)):
        return "a leg stands twice"
    inside = set(first.legs) & set(second.legs)
    if not inside or inside & set(matrix.legs):
        return "its factors keep a leg that they share, or share none"
    taken = set(matrix.legs) & set(x.legs)
    if not taken or taken & set(y.legs):
        return "x and W keep a leg that they share, or share none"
    # Legs keep the order that they have in x and in y, so that little is moved.
    order = (*x.legs, *(leg for leg in plan.outputs[0].legs if leg not in x.legs))

    def of(value: Value, *, is_input: bool) -> Legs:
        legs = (leg for leg in order if leg in value.legs and leg not in inside)
        return tuple(leg for leg in legs if (leg in taken) is is_input)

    def count(legs: Sequence[str]) -> int:
        return prod(plan.sizes[leg] for leg in legs)

    def cost(right: Value) -> tuple[float, int]:
        lanes = [count(of(right, is_input=side)) for side in (False, True)]
        return sum(-(-n // width) * width / n for n in lanes), count(right.legs)

    left, right = (first, second) if cost(second) <= cost(first) else (second, first)
    s = tuple(leg for leg in right.legs if leg in inside)
    a1, b1 = of(left, is_input=True), of(left, is_input=False)
    a2, b2 = of(right, is_input=True), of(right, is_input=False)
    rows = tuple(leg for leg in x.legs if leg not in taken)
    sizes = (count(a1), count(a2), count(b1), count(b2), count(s))
    others = _left_others(makers.get(left.name), left, s)
    return ProductForm(x, y, matrix, left, right, rows, a1, b1, others, a2, b2, s, sizes)


def _left_others(maker: Step | None, left: Value, s: Legs) -> Legs:
    """Legs of left but s, in an order that a product of matrices can give: first those of the
    factor that has no s, then the others."""
    others = tuple(leg for leg in left.legs if leg not in s)
    if not isinstance(maker, Contract):
        return others
    without = [o.legs for o in maker.operands if not set(o.legs) & set(s)]
    if len(without) != 1:
        return others
    first = tuple(leg for leg in without[0] if leg in others)
    return (*first, *(leg for leg in others if leg not in first))
