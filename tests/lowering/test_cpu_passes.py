"""The CPU's passes: legal after each, shown after each, nothing between them but values."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given

import tnlayer as tn
from tests.support.strategies import SMALL_BOUNDS, fixed_series, networks
from tnlayer.hardware.cpu import Cpu
from tnlayer.ir.cuts import batched_steps
from tnlayer.ir.loops import LoopProgram
from tnlayer.ir.loops_verify import verified
from tnlayer.ir.plan import Plan
from tnlayer.lowering.cpu.pipeline import (
    LOOP_PASSES,
    PLAN_PASSES,
    SCHEDULE_PASSES,
    backward_program,
    forward_program,
    lower,
    schedule_lanes,
)
from tnlayer.lowering.cpu.schedule import CpuSchedule

CPU = Cpu(threads=2)


def check_passes(plan: Plan) -> None:
    """Verify what each pass makes, forward and backward; the last is the program of the plan."""
    wanted = tuple(value.name for value in plan.inputs)
    for backward in (False, True):
        scheduled = schedule_lanes(plan, CPU, backward=backward)
        scheduled.plan.verify()
        start = replace(scheduled, wanted=wanted if backward else None)
        made: CpuSchedule | LoopProgram = start
        for _, made in lower(start):
            if isinstance(made, LoopProgram):
                verified(made)
            else:
                made.plan.verify()
                batched = {step.result.name for step in batched_steps(made.plan)}
                assert batched <= set(made.step_lanes)
        whole = backward_program(plan, wanted, CPU) if backward else forward_program(plan, CPU)
        assert made == whole


@pytest.mark.parametrize(
    "net",
    [
        tn.topologies.mera(6, 2, 2),
        tn.topologies.tensor_train((2,) * 8, (2,) * 8, rank=3),
        tn.topologies.tensor_train((16, 16), (16, 16), rank=4),
        tn.topologies.butterfly(64),
        tn.topologies.cp((3, 4), (4, 3), rank=5),
    ],
    ids=["mera", "long train", "train", "butterfly", "cp"],
)
@pytest.mark.parametrize("dtype", ["float32", "complex64", "bfloat16"])
def test_legal_after_each_pass(net: tn.Network, dtype: str) -> None:
    """Legs as lanes, lanes that rotate, grouped steps, samples as lanes, two registers an entry."""
    for batch in (1, 256):
        check_passes(tn.plan(net, batch=batch, dtype=dtype))


@fixed_series(11, 40)
@given(networks(is_complex=False, bounds=SMALL_BOUNDS))
def test_legal_after_each_pass_of_random_networks(net: tn.Network) -> None:
    """All kinds of steps."""
    check_passes(tn.plan(net, batch=64))


def test_each_pass_is_shown(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """At level 5, in order, by its name and with what it made; not at level 4."""
    plan = tn.plan(tn.topologies.mera(4, 2, 2), batch=8)
    for level in (4, 5):
        caplog.clear()
        monkeypatch.setenv("TNLAYER_DEBUG", str(level))
        forward_program(plan, CPU)
        shown = [text.splitlines()[0] for text in caplog.messages if text.startswith("after")]
        passes = [*SCHEDULE_PASSES, *PLAN_PASSES]
        names = [one.__name__ for one in passes] + ["lower_steps"]
        names += [one.__name__ for one in LOOP_PASSES]
        assert shown == ([f"after {name}" for name in names] if level == 5 else [])
    assert "samples" in caplog.messages[-1]
