"""The model of whole kernels against kernels that were measured (decision record 0008)."""

from __future__ import annotations

from dataclasses import replace

import pytest
from profiles import BEST, fixed_profile

import tnlayer as tn
from tnlayer.canonical import canonicalise
from tnlayer.kernels.pair import Mask
from tnlayer.plan.plan import Plan
from tnlayer.planning.fused_model import fused_seconds, stem_seconds
from tnlayer.planning.trees import make_plan

T = tn.topologies
LEGS = ((2,) * 12, (2,) * 12)
NETWORKS = {
    "MERA-2": T.mera(12, 2, 2),
    "tree-2": T.tree(12, 2, 2),
    "MERA-3": T.mera(12, 2, 3),
    "TT-3": T.tensor_train(*LEGS, rank=3),
    "TT-7": T.tensor_train(*LEGS, rank=7),
}
# Microseconds of C kernels over 12 legs of 2, two cores, float32, without the branch: forward at
# batch 1 and 256, and forward and backward at 256.
MEASURED = {
    "MERA-2": (6.0, 740, 3150),
    "tree-2": (4.5, 510, 2350),
    "MERA-3": (32, 4250, 19400),
    "TT-3": (11, 1390, 6390),
    "TT-7": (35, 4720, 20000),
}
PROFILE = fixed_profile()


def planned(name: str) -> tuple[Plan, Mask]:
    """The plan with the fewest FLOPs, as the kernels had it, and all gradients wanted."""
    graph = canonicalise(NETWORKS[name].freeze()).graph
    plan = make_plan(graph, batch=256, minimize="combo-4")
    return plan, (True,) * len(plan.inputs)


@pytest.mark.parametrize("name", NETWORKS)
def test_measured_kernels_are_predicted(name: str) -> None:
    """Each of the 15 times is met within 30 percent."""
    plan, mask = planned(name)
    one, many = (stem_seconds(plan, mask, batch, PROFILE) for batch in (1, 256))
    found = (one.forward, many.forward, many.total)
    for seconds, measured in zip(found, MEASURED[name], strict=True):
        assert seconds == pytest.approx(1e-6 * measured, rel=0.3)


def test_work_is_counted_by_what_is_wanted() -> None:
    """No gradient: no backward. Frozen parameters leave recomputation and dX, less than all."""
    plan, mask = planned("TT-3")
    none = stem_seconds(plan, (False,) * len(mask), 64, PROFILE)
    assert none.backward == 0
    assert none.forward == stem_seconds(plan, mask, 64, PROFILE).forward
    x_only = stem_seconds(plan, (True, *(False,) * (len(mask) - 1)), 64, PROFILE)
    everything = stem_seconds(plan, mask, 64, PROFILE)
    assert 0 < x_only.backward < everything.backward
    # Recompute, dX and dW: three forwards, where the arithmetic counts.
    assert everything.backward == pytest.approx(3 * everything.forward, rel=0.15)


def test_threads_share_samples() -> None:
    """One sample takes as long as two on two threads; 256 take 128 times as long."""
    plan, mask = planned("MERA-2")
    times = [stem_seconds(plan, mask, batch, PROFILE).forward for batch in (1, 2, 3, 256)]
    assert times[0] == times[1] < times[2] < times[3]
    assert times[3] == pytest.approx(128 * times[0])


def test_branch_and_calls_stand_apart() -> None:
    """What depends on parameters only is added once, whatever the batch."""
    plan, mask = planned("MERA-3")
    assert plan.branch_steps
    extra = [
        fused_seconds(plan, mask, batch, PROFILE).total
        - stem_seconds(plan, mask, batch, PROFILE).total
        for batch in (1, 256)
    ]
    assert extra[0] == pytest.approx(extra[1])
    assert extra[0] > 3 * len(plan.branch_steps) * 4e-6


def test_samples_cost_at_least_their_bytes() -> None:
    """A network that computes next to nothing is as slow as reading x and writing y."""
    net = tn.Network("scale")
    net.input(a=4096)
    net.output(a=4096)
    net.tensor("D", "a")
    graph = canonicalise(net.freeze()).graph
    plan = make_plan(graph, batch=4096)
    slow = replace(PROFILE, stream=replace(PROFILE.stream, seconds=(1e-9,) * 4))
    moved = 2 * 4 * 4096 * 4096
    found = stem_seconds(plan, (False, False), 4096, slow).forward
    assert found >= 1e-9 * moved


def test_wider_entries_take_longer() -> None:
    """float64 has half the lanes; complex64 four times the products of float32."""
    graph = canonicalise(NETWORKS["TT-7"].freeze()).graph
    times: dict[str, float] = {}
    for dtype in ("float32", "float64", "complex64"):
        plan = make_plan(graph, batch=256, minimize="combo-4", dtype=dtype)
        times[dtype] = stem_seconds(plan, (False,) * len(plan.inputs), 256, PROFILE).forward
    assert 1.7 < times["float64"] / times["float32"] < 2.3
    assert 3.2 < times["complex64"] / times["float32"] < 4.3
    flops = make_plan(graph, batch=256, minimize="combo-4").counts.flops.at(256)
    assert times["float32"] > flops * BEST / 2
