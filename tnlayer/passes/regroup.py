"""The pass that multiplies the same three factors in the other order: R (p q) becomes (R p) q.

Both orders of a chain may take as many multiplications, and one of them leave its product stored as
whoever reads it wants it: with the leg to the last factor behind.
"""

from __future__ import annotations

from dataclasses import replace

from ..ir.cuts import batched_steps
from ..ir.plan import Plan
from ..ir.steps import Contract, Operand, Step, Value


def regrouped(plan: Plan) -> Plan | None:
    """The plan with the last three factors of its matrix grouped the other way round.

    Arguments:
        plan: a forward plan whose first step with samples reads a product of a value with a product
            of two others.

    Returns:
        None where there is no such product, or it is used elsewhere, too, or the outer factor meets
        both of the inner ones.
    """
    makers = {step.result.name: step for step in plan.steps}
    readers = batched_steps(plan)
    if not readers:
        return None
    for operand in readers[0].operands:
        whole = makers.get(operand.value.name)
        if isinstance(whole, Contract):
            for inner, outer in ((whole.left, whole.right), (whole.right, whole.left)):
                product = makers.get(inner.value.name)
                if isinstance(product, Contract) and _uses(plan, inner.value) == 1:
                    found = _with_order(plan, whole, product, outer)
                    if found is not None:
                        return found
    return None


def _uses(plan: Plan, value: Value) -> int:
    return sum(operand.value == value for step in plan.steps for operand in step.operands)


def _with_order(plan: Plan, whole: Contract, product: Contract, outer: Operand) -> Plan | None:
    """The outer factor times the one that it meets, then the other one."""
    summed = set(whole.summed_legs)
    met = [one for one in product.operands if summed & set(one.legs)]
    rest = [one for one in product.operands if not summed & set(one.legs)]
    if len(met) != 1 or len(rest) != 1 or not summed <= set(met[0].legs):
        return None
    if any(operand.conj for operand in (outer, *met, *rest, *whole.operands)):
        return None
    legs = dict.fromkeys((*outer.legs, *met[0].legs))
    kept = tuple(leg for leg in legs if leg not in summed)
    first = Contract(Value(product.result.name, kept), outer, met[0])
    last = replace(whole, left=Operand(first.result), right=rest[0])
    steps: list[Step] = []
    for step in plan.steps:
        if step is whole:
            steps += [first, last]
        elif step is not product:
            steps.append(step)
    return replace(plan, steps=tuple(steps), proven_optimal=False).verify()
