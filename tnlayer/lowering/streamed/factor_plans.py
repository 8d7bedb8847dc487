"""The rest of such a plan: how its two factors are made, and how their gradients go further.

Both are plans of parameters alone, cut out of the whole and of its adjoint::

    forward   parameters -> left, right
    backward  gradients of left and right -> gradients of parameters
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from ...hardware.profile.op_times import OpTimes
from ...ir.calls import Schedule
from ...ir.plan import Plan
from ...ir.plan_parts import KEEP_ALL, Output
from ...ir.steps import Operand, Step, Value, gradient_step
from ...passes.differentiate import adjoint
from ..calls.lower import lower
from ..calls.training_schedules import Mask, wanted_names
from .product_form import ProductForm

LEFT, RIGHT = "left", "right"


@dataclass(frozen=True, slots=True)
class FactorSchedules:
    """Calls of torch around the product.

    Arguments:
        forward: gives left and right in the orders of the form, then what the backward reads.
        backward: takes the gradients of left and right, those that kernels give, then parameters
            and what was saved; None where no parameter wants a gradient.
        wants_x, wants_left, wants_right: which gradients kernels give.
        gives: names of the parameters whose gradients the backward gives, in order.
    """

    forward: Schedule
    backward: Schedule | None
    wants_x: bool = False
    wants_left: bool = False
    wants_right: bool = False
    gives: tuple[str, ...] = ()


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
    made = (
        Output(LEFT, Operand(form.left), tuple((leg,) for leg in form.left_legs)),
        Output(RIGHT, Operand(form.right), tuple((leg,) for leg in form.right_legs)),
    )
    making = _cut(plan, (), steps, made)
    if not wanted:
        return FactorSchedules(_handing_on(lower(making, times)), None)
    full = adjoint(plan, wanted, recompute=())
    # What kernels do: the gradients of x and of W, and those of W's factors.
    given = {
        step.origin.value: step.result
        for step in full.steps
        if step.origin is not None and gradient_step(step) in done
    }
    ports = tuple(given[name] for name in factors if name in given)
    if not ports:
        return FactorSchedules(_handing_on(lower(making, times)), None, wants_x=True)
    rest = tuple(step for step in full.steps if gradient_step(step) not in done)
    outputs = tuple(one for one in full.outputs if one.operand.value != given.get(form.x.name))
    back = _cut(full, ports, rest, outputs)
    keep = tuple(value.name for value in back.saved)
    forward = lower(making, times, keep=keep)
    orders = {name: array.legs for name, array in zip(keep, forward.saved, strict=True)}
    for name, legs in zip(factors, (form.left_legs, form.right_legs), strict=True):
        if name in given:
            orders[given[name].name] = legs
    return FactorSchedules(
        _handing_on(forward),
        lower(back, times, layouts=orders),
        wants_x=form.x.name in wanted,
        wants_left=factors[0] in given,
        wants_right=factors[1] in given,
        gives=tuple(name for name in wanted if name != form.x.name),
    )


def _handing_on(schedule: Schedule) -> Schedule:
    """The same calls, whose results are values that go on to kernels: nobody else gets them, so
    they may lie in memory that calls reuse."""
    results = tuple(result.view.array for result in schedule.results)
    return replace(schedule, results=(), saved=(*results, *schedule.saved))


def _cut(
    plan: Plan,
    ports: tuple[Value, ...],
    steps: tuple[Step, ...],
    outputs: tuple[Output, ...],
) -> Plan:
    """Some steps of a plan, with those inputs that they read, or that leave as they are."""
    used = {operand.value.name for step in steps for operand in step.operands}
    used |= {output.operand.value.name for output in outputs}
    return replace(
        plan,
        ports=ports,
        port_axes=(),
        parameters=tuple(value for value in plan.parameters if value.name in used),
        saved=tuple(value for value in plan.saved if value.name in used),
        steps=steps,
        outputs=outputs,
    ).verify()
