"""The GPU's pipeline: lists of passes, each of which leaves a legal plan or program."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from itertools import pairwise

import pytest

import tnlayer as tn
from tnlayer import topologies
from tnlayer.errors import BuildError
from tnlayer.hardware.gpu import Gpu, gpu_of
from tnlayer.ir.launches import Spread
from tnlayer.ir.loops import LoopRegion, Threads, statements
from tnlayer.ir.loops_verify import verified
from tnlayer.lowering.gpu import pipeline
from tnlayer.lowering.gpu.pipeline import (
    FORWARD_PASSES,
    LOOP_PASSES,
    PLAN_PASSES,
    Draft,
    PlanDraft,
    schedule_backward,
    schedule_forward,
)
from tnlayer.lowering.passes_runner import after_each
from tnlayer.support.debug import logger

NETWORKS = {
    "chain": lambda: topologies.mera(8, 2),
    "steps": lambda: topologies.tucker((4, 8), (8, 4), rank=8),
    "merged": lambda: topologies.tensor_train((16, 16), (16, 16), rank=16),
    "several_uses": lambda: topologies.block_term((4, 4), (4, 4), 2, 3),
}


Made = PlanDraft | Draft
Lists = list[tuple[Sequence[Callable[..., Made]], list[Made]]]


def passes_of(
    net: tn.Network, gpu: Gpu, monkeypatch: pytest.MonkeyPatch, *, backward: bool
) -> Lists:
    """The lists of passes that a plan goes through until it is scheduled, with what they made."""
    found: Lists = []

    def run(passes: Sequence[Callable[[Made], Made]], draft: Made, show: object) -> Made:
        made = [after for _, after in after_each(passes, draft)]
        found.append((passes, [draft, *made]))
        return made[-1]

    monkeypatch.setattr(pipeline, "run_passes", run)
    plan = tn.compile(net, backend="torch", batch=64, minimize="flops").plan
    if backward:
        schedule_backward(plan, [value.name for value in plan.inputs], gpu)
    else:
        schedule_forward(plan, gpu)
    return found


@pytest.mark.parametrize("backward", [False, True], ids=["forward", "backward"])
@pytest.mark.parametrize("name", NETWORKS)
def test_each_pass_leaves_a_legal_plan_or_program(
    name: str, backward: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The forward goes through its list once, and each schedule that is tried through the two
    others; each is verified after each pass."""
    found = passes_of(NETWORKS[name](), gpu_of("sm_90"), monkeypatch, backward=backward)
    lists = [passes for passes, _ in found]
    assert lists[0] is FORWARD_PASSES and lists.count(FORWARD_PASSES) == 1
    assert lists[1] is PLAN_PASSES and lists[-1] is LOOP_PASSES
    for passes, made in found:
        for draft in made:
            if isinstance(draft, PlanDraft):
                draft.plan.verify()
            else:
                verified(draft.program)
        first, last = made[0], made[-1]
        if isinstance(first, PlanDraft) and passes is PLAN_PASSES:
            assert isinstance(last, PlanDraft)
            assert ([output.name for output in last.plan.outputs] != ["y"]) == backward
        elif isinstance(first, Draft):
            assert isinstance(last, Draft)
            assert first.layout is None and last.layout is not None


def test_tensor_cores_have_their_pass(monkeypatch: pytest.MonkeyPatch) -> None:
    """Steps are merged for them, before the plan is differentiated, and for nothing else."""
    gpu = gpu_of("sm_90")
    for one in (gpu, replace(gpu, tensor_cores="tf32")):
        found = passes_of(topologies.mera(12, 2), one, monkeypatch, backward=True)
        drafts = [draft for draft in found[0][1] if isinstance(draft, PlanDraft)]
        changed = [a.plan.steps != b.plan.steps for a, b in pairwise(drafts)]
        assert changed == [False, one is not gpu]


def test_launches_fit_their_kernels() -> None:
    """Every kernel has a grid, every loop its threads; the verifier refuses what does not fit."""
    plan = tn.compile(NETWORKS["steps"](), backend="torch", batch=64, minimize="flops").plan
    program = schedule_backward(plan, [v.name for v in plan.inputs], gpu_of("sm_90")).program
    parts = (*program.before, *program.prologue, *program.samples, *program.after)
    loops = [loop for loop in statements(parts) if isinstance(loop, Threads)]
    assert all(loop.spread is not None for loop in loops)
    assert [launch.name for launch in program.launches if not launch.blocks] == [program.name]
    with pytest.raises(BuildError, match="launches of"):
        verified(replace(program, launches=program.launches[1:]))
    loop = replace(loops[-1], spread=Spread(7, turns=3))
    broken = replace(program, after=(*program.after[:-1], LoopRegion("s", "", (loop,))))
    with pytest.raises(BuildError, match="points over"):
        verified(broken)


def test_debug_level_5_shows_each_pass(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """The program is logged after each pass."""
    plan = tn.compile(NETWORKS["steps"](), backend="torch", batch=64, minimize="flops").plan
    monkeypatch.setenv("TNLAYER_DEBUG", "5")
    caplog.set_level("DEBUG", logger=logger.name)
    schedule_forward(plan, gpu_of("sm_90"))
    text = "\n".join(record.getMessage() for record in caplog.records)
    for plan_pass in (*FORWARD_PASSES, *PLAN_PASSES):
        assert f"after {plan_pass.__name__}\nforward: " in text
    for loop_pass in LOOP_PASSES:
        assert f"after {loop_pass.__name__}\nprogram forward" in text
