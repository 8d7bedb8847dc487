"""Storage orders for one batch size are those that are predicted to be the fastest at it."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

import tnlayer as tn
from tnlayer import topologies as T
from tnlayer.hardware.profile.load import op_times
from tnlayer.ir.plan_parts import Memory
from tnlayer.lowering.calls.training_schedules import schedule_pair
from tnlayer.planning.planner import plan_graph
from tnlayer.planning.request import Request
from tnlayer.targets.fastest_schedules import fastest_pair
from tnlayer.time_models.torch_calls import pair_seconds

NET = T.tensor_train((2, 2, 2), (2, 2, 2), 4)


@pytest.mark.parametrize("batch", [2, 3, 7, 50])
@pytest.mark.parametrize("trains", [True, False])
def test_no_probe_is_faster(batch: int, trains: bool) -> None:
    """Neither its own orders nor those of the probes around it are predicted to be faster."""
    plan = plan_graph(NET, Request(batch=batch, effort="fast", backend="torch")).plan
    mask, times = (trains,) * len(plan.inputs), op_times(plan.dtype)
    found = fastest_pair(plan, mask, times)
    assert found.forward.plan == plan
    assert found.backward is None or found.backward.plan.batch == batch
    low = 1 if batch < 4 else 4 if batch < 16 else 16
    ours = pair_seconds(found, batch, times).total
    for size in (batch, low, 4 * low):
        other = schedule_pair(replace(plan, batch=size), mask, times)
        assert ours <= pair_seconds(other, batch, times).total


def test_a_plan_within_a_limit_has_its_own_orders() -> None:
    """Its bytes were counted with them."""
    plan = plan_graph(NET, Request(batch=3, effort="fast", backend="torch")).plan
    limited = replace(plan, memory=Memory(chunk=2))
    mask, times = (True,) * len(plan.inputs), op_times(plan.dtype)
    assert fastest_pair(limited, mask, times) == schedule_pair(limited, mask, times)


def test_a_layer_in_another_sizes_orders_is_right() -> None:
    """Values and gradients are those of the dense map."""
    layer = tn.Layer(NET, batch=3, backend="torch", dtype="float64", tune=False)
    x = torch.randn(3, 8, dtype=torch.float64, requires_grad=True)
    weight = layer.to_dense()
    expected = x @ weight.mT
    torch.testing.assert_close(layer(x), expected)
    (ours,) = torch.autograd.grad(layer(x).square().sum(), x)
    (theirs,) = torch.autograd.grad(expected.square().sum(), x)
    torch.testing.assert_close(ours, theirs)
