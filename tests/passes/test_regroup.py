"""The other order of three factors: the same value, where it is one."""

from __future__ import annotations

import math

import torch

import tnlayer as tn
from tests.support.plan_in_numpy import do_plan
from tnlayer.ir.plan import Plan
from tnlayer.passes.regroup import regrouped

T = tn.topologies


def rebuilt(net: tn.Network) -> Plan:
    """The plan that makes W first."""
    return tn.plan(net, minimize="rebuild", dtype="float64")


def factors(plan: Plan) -> set[str]:
    """What the first product is of."""
    return {operand.value.name for operand in plan.steps[0].operands}


def test_a_chain_of_three_is_grouped_the_other_way() -> None:
    """(A B) C for A (B C), with the same y; twice is the first again."""
    plan = rebuilt(T.tensor_train((3, 4, 5), (5, 4, 3), rank=2))
    other = regrouped(plan)
    assert other is not None
    assert factors(plan) != factors(other)
    sizes = plan.sizes | {"b": 6}
    generator = torch.Generator().manual_seed(1)
    arrays = [
        torch.randn(
            [math.prod(sizes[leg] for leg in axis) for axis in plan.axes_of(value)],
            generator=generator,
            dtype=torch.float64,
        )
        for value in plan.inputs
    ]
    (expected,), (found,) = do_plan(plan, arrays), do_plan(other, arrays)
    torch.testing.assert_close(found, expected)
    back = regrouped(other)
    assert back is not None
    assert factors(back) == factors(plan)


def test_what_is_no_chain_stays() -> None:
    """Two factors, steps on samples alone, and a ring, whose ends meet both."""
    assert regrouped(rebuilt(T.low_rank(8, 6, rank=2))) is None
    assert regrouped(tn.plan(T.low_rank(8, 6, rank=2), minimize="flops")) is None
    assert regrouped(rebuilt(T.tensor_ring((3, 4, 5), (5, 4, 3), rank=2))) is None
