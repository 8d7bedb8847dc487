"""The rest of such a plan: how its two factors are made, and how their gradients go further.

Both are plans of parameters alone, cut out of the whole and of its adjoint::

    forward   parameters -> left, right
    backward  gradients of left and right -> gradients of parameters
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from ...hardware.profile.op_times import OpTimes
from ...ir.calls import Schedule
from ...ir.plan import Plan
from ...ir.plan_parts import KEEP_ALL, Output
from ...ir.steps import Step, Value, gradient_step
from ...passes.differentiate import adjoint
from ..calls.lower import lower
from ..calls.training_schedules import Mask, wanted_names
from .product_form import Legs, ProductForm


@dataclass(frozen=True, slots=True)
class FactorSchedules:
    """Calls of torch around the product.

    Arguments:
        forward: gives left and right as they happen to be stored, then what the backward reads.
        backward: takes the gradients of left and right, those that kernels give, then parameters
            and what was saved; None where no parameter wants a gradient.
        left_legs, right_legs: orders in which kernels read the factors and write their gradients.
        wants_x, wants_left, wants_right: which gradients kernels give.
        gives: names of the parameters whose gradients the backward gives, in order.
    """

    forward: Schedule
    backward: Schedule | None
    left_legs: Legs
    right_legs: Legs
    wants_x: bool = False
    wants_left: bool = False
    wants_right: bool = False
    gives: tuple[str, ...] = ()

    @property
    def saved(self) -> tuple[Value, ...]:
        """What the backward reads of the forward, beside the factors."""
        return self.forward.saved[2:]


def factor_schedules(plan: Plan, form: ProductForm, mask: Mask, times: OpTimes) -> FactorSchedules:
    """The calls for a mask of wanted gradients.

    Arguments:
        plan: a forward plan.
        form: of that plan.
        mask: for each input of the plan, whether its gradient is wanted.
        times: operations of the device, which storage orders follow.
    """
    plan = replace(plan, memory=KEEP_ALL, regions=())
    wanted = wanted_names(plan, mask)
    done = {form.y.name, form.matrix.name}
    factors = (form.left.name, form.right.name)
    steps = tuple(step for step in plan.steps if step.result.name not in done)
    making = _cut(plan, (), steps, (), factors)
    if not wanted:
        return _with_orders(form, lower(making, times, keep=factors))
    full = adjoint(plan, wanted, recompute=())
    # What kernels do: the gradients of x and of W, and those of W's factors.
    given = {
        step.origin.value: step.result
        for step in full.steps
        if step.origin is not None and gradient_step(step) in done
    }
    ports = tuple(given[name] for name in factors if name in given)
    if not ports:
        found = _with_orders(form, lower(making, times, keep=factors))
        return replace(found, wants_x=True)
    rest = tuple(step for step in full.steps if gradient_step(step) not in done)
    outputs = tuple(one for one in full.outputs if one.operand.value != given.get(form.x.name))
    back = _cut(full, ports, rest, outputs, ())
    keep = tuple(value.name for value in back.saved)
    found = _with_orders(form, lower(making, times, keep=(*factors, *keep)))
    orders = {value.name: array.legs for value, array in zip(back.saved, found.saved, strict=True)}
    for name, legs in zip(factors, (found.left_legs, found.right_legs), strict=True):
        if name in given:
            orders[given[name].name] = legs
    return replace(
        found,
        backward=lower(back, times, layouts=orders),
        wants_x=form.x.name in wanted,
        wants_left=factors[0] in given,
        wants_right=factors[1] in given,
        gives=tuple(name for name in wanted if name != form.x.name),
    )


def _with_orders(form: ProductForm, forward: Schedule) -> FactorSchedules:
    """The forward, with the orders that follow from how it stores left."""
    left = form.left_legs(forward.saved[0].legs)
    return FactorSchedules(forward, None, left, form.right_legs(left))


def _cut(
    plan: Plan,
    ports: tuple[Value, ...],
    steps: tuple[Step, ...],
    outputs: tuple[Output, ...],
    kept: Sequence[str],
) -> Plan:
    """Some steps of a plan, with those inputs that they read, or that are handed on."""
    used = {operand.value.name for step in steps for operand in step.operands}
    used |= {output.operand.value.name for output in outputs} | set(kept)
    return replace(
        plan,
        ports=ports,
        port_axes=(),
        parameters=tuple(value for value in plan.parameters if value.name in used),
        saved=tuple(value for value in plan.saved if value.name in used),
        steps=steps,
        outputs=outputs,
    ).verify()
