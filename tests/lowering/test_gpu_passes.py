"""The GPU's pipeline: a list of passes, each of which leaves a legal program."""

from __future__ import annotations

from dataclasses import replace

import pytest

import tnlayer as tn
from tnlayer import topologies
from tnlayer.errors import BuildError
from tnlayer.hardware.gpu import Gpu, gpu_of
from tnlayer.ir.launches import Spread
from tnlayer.ir.loops import LoopRegion, Threads, statements
from tnlayer.ir.loops_verify import verified
from tnlayer.lowering.gpu import pipeline
from tnlayer.lowering.gpu.pipeline import Draft, schedule_backward, schedule_forward
from tnlayer.lowering.passes_runner import after_each
from tnlayer.support.debug import logger

NETWORKS = {
    "chain": lambda: topologies.mera(8, 2),
    "steps": lambda: topologies.tucker((4, 8), (8, 4), rank=8),
    "merged": lambda: topologies.tensor_train((16, 16), (16, 16), rank=16),
    "several_uses": lambda: topologies.block_term((4, 4), (4, 4), 2, 3),
}


def drafts(
    net: tn.Network, gpu: Gpu, monkeypatch: pytest.MonkeyPatch
) -> list[tuple[list[str], Draft]]:
    """What each schedule of a plan begins with, and the names of the passes it went through."""
    found: list[tuple[list[str], Draft]] = []

    def run(passes: list[pipeline.Pass], draft: Draft, show: object) -> Draft:
        assert draft.layout is None and verified(draft.program)
        names = list[str]()
        for name, after in after_each(passes, draft):
            verified(after.program)
            draft = after
            names.append(name)
        found.append((names, draft))
        return draft

    monkeypatch.setattr(pipeline, "run_passes", run)
    plan = tn.compile(net, backend="torch", batch=64, minimize="flops").plan
    schedule_forward(plan, gpu)
    schedule_backward(plan, [value.name for value in plan.inputs], gpu)
    return found


@pytest.mark.parametrize("name", NETWORKS)
def test_each_pass_leaves_a_legal_program(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every schedule that is tried is verified after each pass, and each goes through all."""
    found = drafts(NETWORKS[name](), gpu_of("sm_90"), monkeypatch)
    assert len(found) > 1
    for names, draft in found:
        assert names == [one.__name__ for one in pipeline.PASSES]
        assert draft.layout is not None


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
    for one in pipeline.PASSES:
        assert f"after {one.__name__}\nprogram forward" in text
