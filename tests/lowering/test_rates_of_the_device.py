"""Storage orders follow the rates of the device that a plan is for."""

from __future__ import annotations

from dataclasses import replace

import pytest

import tnlayer as tn
from tests.support.profiles import fixed_profile
from tnlayer.hardware.profile.load import op_times
from tnlayer.hardware.profile.op_times import OpTimes
from tnlayer.lowering.calls.training_schedules import TrainingSchedules, schedule_pair

NETWORKS = {
    "mera": lambda: tn.topologies.mera(8, 2, 2),
    "tree": lambda: tn.topologies.tree(8, 2, 3),
    "train": lambda: tn.topologies.tensor_train((4,) * 4, (4,) * 4, rank=4),
    "brickwall": lambda: tn.topologies.brickwall(6, 2, depth=3),
}


def orders(pair: TrainingSchedules) -> list[tuple[str, ...]]:
    """The storage order of each array that is made."""
    schedules = [pair.forward, *([] if pair.backward is None else [pair.backward])]
    return [call.result.legs for schedule in schedules for call in schedule.calls]


def test_rates_decide_on_storage_orders() -> None:
    """Where copies cost nothing, and where each costs a second, other orders are the best."""
    plan = tn.plan(NETWORKS["mera"](), batch=64, minimize="combo-64")
    mask = (True,) * len(plan.inputs)
    profile = fixed_profile()
    free = tuple((name, 0.0 if name == "copy" else s) for name, s in profile.calls)
    dear = tuple((name, 1.0 if name == "copy" else s) for name, s in profile.calls)
    cheap, costly = (
        schedule_pair(plan, mask, OpTimes(replace(profile, calls=calls), plan.dtype))
        for calls in (free, dear)
    )
    assert orders(cheap) != orders(costly)


@pytest.mark.parametrize("name", NETWORKS)
def test_plans_for_a_gpu_take_its_rates(name: str) -> None:
    """What is generated for device="cuda" is what the GPU's rates ask for; one differs from the
    CPU's."""
    program = tn.compile(NETWORKS[name](), batch=4096, device="cuda", backend="torch")
    expected = schedule_pair(program.plan, program.training_mask(), op_times("float32", "cuda"))
    assert program.schedules() == expected


def test_some_orders_differ_between_devices() -> None:
    """The rates of a GPU and of a CPU ask for other orders somewhere, so that the test above sees
    which of them were taken."""
    found = 0
    for make in NETWORKS.values():
        for batch in (1, 64, 4096):
            plan = tn.plan(make(), batch=batch, minimize="combo-64")
            mask = (True,) * len(plan.inputs)
            pairs = [
                orders(schedule_pair(plan, mask, op_times("float32", device)))
                for device in ("cpu", "cuda")
            ]
            found += pairs[0] != pairs[1]
    assert found
