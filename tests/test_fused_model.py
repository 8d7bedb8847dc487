"""The model of compiled kernels against kernels that were measured."""

from __future__ import annotations

import pytest
from profiles import fixed_profile

import tnlayer as tn
from tnlayer.canonical import canonicalise
from tnlayer.device.load import use_profile
from tnlayer.kernels.cpu import Cpu
from tnlayer.kernels.pair import Mask
from tnlayer.plan.plan import Plan
from tnlayer.plan.regions import batched_steps
from tnlayer.planning.fused_model import (
    fused_seconds,
    fused_step_seconds,
    kernel_seconds,
)
from tnlayer.planning.time_model import Seconds
from tnlayer.planning.trees import make_plan

T = tn.topologies
LEGS = ((2,) * 12, (2,) * 12)
NETWORKS = {
    "MERA-2": T.mera(12, 2, 2),
    "tree-2": T.tree(12, 2, 2),
    "MERA-3": T.mera(12, 2, 3),
    "TT-3": T.tensor_train(*LEGS, rank=3),
    "TT-7": T.tensor_train(*LEGS, rank=7),
    "btt": T.btt((64, 64), (64, 64), 2),
}
# Milliseconds of backend="cpp" through Python, two AVX-512 cores, float32: forward without grad,
# and forward and backward, at batch 16 and 256.
MEASURED = {
    "MERA-2": (0.065, 0.417, 0.84, 4.9),
    "tree-2": (0.044, 0.256, 0.53, 3.0),
    "MERA-3": (0.295, 1.57, 4.5, 21.8),
    "TT-3": (0.087, 0.455, 1.15, 5.4),
    "TT-7": (0.268, 1.32, 4.1, 17.4),
}
PROFILE, CPU = fixed_profile(), Cpu()


def planned(name: str, dtype: str = "float32") -> tuple[Plan, Mask]:
    """The plan that kernels follow, and all gradients wanted."""
    graph = canonicalise(NETWORKS[name].freeze()).graph
    with use_profile(PROFILE):
        plan = make_plan(graph, batch=256, minimize="combo-4", dtype=dtype)
    return plan, (True,) * len(plan.inputs)


def predicted(plan: Plan, mask: Mask, batch: int) -> Seconds:
    """With the fixed profile, for 512-bit vectors."""
    return fused_seconds(plan, mask, batch, PROFILE, CPU)


@pytest.mark.parametrize("name", MEASURED)
def test_measured_kernels_are_predicted(name: str) -> None:
    """Each of the 20 times is met within 45 percent."""
    plan, mask = planned(name)
    nothing = (False,) * len(mask)
    for batch, times in ((16, MEASURED[name][:2]), (256, MEASURED[name][2:])):
        found = (predicted(plan, nothing, batch).forward, predicted(plan, mask, batch).total)
        for seconds, measured in zip(found, times, strict=True):
            assert seconds == pytest.approx(1e-3 * measured, rel=0.45)


def test_work_is_counted_by_what_is_wanted() -> None:
    """No gradient: no backward. That of x alone costs less than all."""
    plan, mask = planned("TT-3")
    assert predicted(plan, (False,) * len(mask), 64).backward == 0
    x_only = predicted(plan, (True, *(False,) * (len(mask) - 1)), 64)
    assert 0 < x_only.backward < predicted(plan, mask, 64).backward


def test_threads_share_blocks() -> None:
    """One sample takes as long as two on two threads, but for what starts the threads."""
    plan, mask = planned("MERA-2")
    nothing = (False,) * len(mask)
    times = [kernel_seconds(plan, nothing, b, PROFILE, CPU).forward for b in (2, 3, 4, 256)]
    assert times[1] == pytest.approx(times[2], rel=0.02)
    assert times[0] < times[1] < times[3]


def test_large_weights_are_dear() -> None:
    """The weights' gradients of btt take longer than all its other work at batch 1."""
    plan, mask = planned("btt")
    x_only = (True, *(False,) * (len(mask) - 1))
    assert predicted(plan, mask, 1).total > 2 * predicted(plan, x_only, 1).total


@pytest.mark.parametrize("name", ["MERA-2", "btt"])
def test_steps_add_up(name: str) -> None:
    """The shares of steps and of the rest sum to the prediction; each batched step has one."""
    plan, mask = planned(name)
    found = fused_step_seconds(plan, mask, 64, PROFILE, CPU)
    assert sum(found.values()) == pytest.approx(predicted(plan, mask, 64).total)
    assert set(found) == {step.result.name for step in batched_steps(plan)} | {""}
    assert min(found.values()) > 0


def test_wider_entries_take_longer() -> None:
    """float64 has half the entries a vector, complex64 four products of two."""
    times = [
        predicted(*planned("TT-7", dtype), 256).total
        for dtype in ("float32", "float64", "complex64")
    ]
    assert 1.5 * times[0] < times[1]
    assert times[1] < times[2]
