"""The backward of a plan: no more steps than it must have."""

from __future__ import annotations

import pytest

import tnlayer as tn
from tnlayer.ir.steps import Contract

# Every contraction of these sums a leg.
TOPOLOGIES = {
    "tensor_train": tn.topologies.tensor_train((2, 3, 4), (3, 2, 2), rank=3),
    "tensor_ring": tn.topologies.tensor_ring((2, 3, 2), (3, 2, 2), rank=2),
    "tree": tn.topologies.tree(6, 2, 3),
    "mera": tn.topologies.mera(8, 2, 3),
    "low_rank": tn.topologies.low_rank(8, 6, rank=2),
    "btt": tn.topologies.btt((4, 4), (4, 4), rank=2),
}


@pytest.mark.parametrize("name", TOPOLOGIES)
def test_backward_costs_twice_the_forward(name: str) -> None:
    """Where every contraction sums a leg and everything is trainable."""
    forward = tn.plan(TOPOLOGIES[name], batch=9)
    assert all(step.summed_legs for step in forward.steps if isinstance(step, Contract))
    backward = tn.backward_plan(forward).verify()
    assert backward.counts.flops.at(9) == 2 * forward.counts.flops.at(9)


def test_frozen_tensors_cost_nothing() -> None:
    """The gradient of one tensor alone needs one contraction, and saves only what it reads."""
    forward = tn.plan(TOPOLOGIES["low_rank"], batch=9, minimize="flops")
    last = forward.steps[-1].operands[1].value.name
    backward = tn.backward_plan(forward, [last])
    assert len(backward.steps) == 1
    assert [output.name for output in backward.outputs] == [f"d_{last}"]
    assert len(backward.saved) == 1
    assert tn.backward_plan(forward, []).steps == ()
