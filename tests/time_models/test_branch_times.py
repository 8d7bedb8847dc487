"""Steps on parameters are not free: they count in each prediction, and have times of their own."""

from __future__ import annotations

import re
from collections.abc import Iterator
from itertools import pairwise

import pytest

import tnlayer as tn
from tests.support.cpp_units import has_compiler
from tests.support.profiles import fixed_profile
from tnlayer.hardware.cpu import Cpu
from tnlayer.hardware.gpu import gpu_of
from tnlayer.hardware.profile.load import use_profile
from tnlayer.ir.cuts import is_batched
from tnlayer.ir.loops import Tile, statements, steps_of
from tnlayer.lowering.cpu.pipeline import forward_program, schedule_lanes
from tnlayer.planning.batch_ranges import ranked_at
from tnlayer.planning.plan_search import Search
from tnlayer.planning.planner import PlannedGraph, Request, plan_graph
from tnlayer.report.cost import Cost
from tnlayer.report.cost_of_network import cost_of
from tnlayer.support.option_words import Objective

LARGE = 10**6
THREADS = (1, 2)


@pytest.fixture(autouse=True)
def auto(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Auto means auto, with the same rates on every machine."""
    monkeypatch.delenv("TNLAYER_BACKEND", raising=False)
    with use_profile(fixed_profile()):
        yield


def train(rank: int) -> tn.Network:
    """A tensor train whose cores are merged before x comes, in 38 to 201 MFLOP."""
    return tn.topologies.tensor_train((8, 8, 8), (8, 16, 16), rank=rank)


def planned(rank: int, batch: int, backend: str, objective: Objective = "infer") -> PlannedGraph:
    """A plan for 512-bit vectors or for an H100."""
    device = "cuda" if backend == "cuda" else "cpu"
    cpu, gpu = (None, gpu_of("sm_90")) if backend == "cuda" else (Cpu(), None)
    options = Request(batch, objective, device, backend=backend, cpu=cpu, gpu=gpu)
    return plan_graph(train(rank), options)


def large_branch_steps(cost: Cost) -> dict[str, int]:
    """FLOPs of the steps on parameters of a megaflop and more."""
    steps = [step for step in cost.plan.steps if not is_batched(step)]
    flops = {step.result.name: cost.plan.counts_of(step).flops.fixed for step in steps}
    return {name: count for name, count in flops.items() if count > LARGE}


@pytest.mark.parametrize("objective", ["infer", "train"])
@pytest.mark.parametrize("backend", ["torch", "cpp", "cuda", "auto"])
def test_steps_on_parameters_have_times(backend: str, objective: Objective) -> None:
    """Times of all steps sum to the prediction; no large one is foreseen to be faster than any
    product was measured, and none is shown as 0.00 ms."""
    cost = cost_of(planned(32, 200, backend, objective), 200)
    found = cost.step_seconds()
    assert sum(found.values()) == pytest.approx(cost.fastest.training)
    large = large_branch_steps(cost)
    assert large
    peak = fixed_profile().flops_per_second if backend != "cuda" else 67e12
    for name, flops in large.items():
        assert found[name] >= flops / peak, name
    rows = ("once a call", "each sample")
    lines = [line for line in cost.steps_text().splitlines() if line.startswith(rows)]
    assert len(lines) == len(cost.plan.steps)
    assert not [line for line in lines if re.search(r" 0\.00$", line)]


@pytest.mark.parametrize("backend", ["torch", "cpp", "cuda"])
def test_predictions_grow_with_the_rank(backend: str) -> None:
    """Rank 64 has 163 MFLOP more on parameters than rank 16 and the same steps on samples: a
    forward takes as much longer as these take at the least."""
    times, flops = [], []
    for rank in (16, 64):
        cost = cost_of(planned(rank, 200, backend), 200)
        times.append(cost.fastest.inference)
        flops.append(cost.plan.counts.flops.fixed)
    assert flops[1] - flops[0] > 150 * LARGE
    peak = fixed_profile().flops_per_second if backend != "cuda" else 67e12
    assert times[1] - times[0] >= (flops[1] - flops[0]) / peak


@pytest.mark.parametrize("threads", THREADS)
@pytest.mark.parametrize("rank", [16, 32, 64])
def test_large_branches_run_in_torch(rank: int, threads: int) -> None:
    """Auto leaves the cores of these trains to torch at each batch size, by the prediction: where W
    is not made in tiles, of which torch's products are the factors, all or a part of the plan."""
    with use_profile(fixed_profile(threads=threads)):
        for batch in (50, 200, 1000):
            found = planned(rank, batch, "auto")
            search = Search.begin(found.form.graph, found.request)
            ranked = ranked_at(search, batch)
            best = next(one.plan for one in ranked if one.plan.backend != "streamed")
            assert best.backend in ("torch", "mixed"), batch
            assert found.plan.backend in (best.backend, "streamed"), batch
            kernels = planned(rank, batch, "cpp")
            assert found.choice.seconds.total <= kernels.choice.seconds.total


@pytest.mark.parametrize("rank", [16, 32, 64])
def test_samples_read_whole_lines_of_made_weights(rank: int) -> None:
    """Weights that a kernel makes first lie so that a tile reads neighbours, whatever the rank:
    entries a line apart would each fetch a line, and again for the next samples."""
    plan = planned(rank, 200, "cpp").plan
    assert not schedule_lanes(plan, Cpu()).lanes  # samples are the lanes
    program = forward_program(plan, Cpu())
    made = {buffer.name for buffer in program.of("shared") if buffer.size > 2**16}
    tiles = [
        tile
        for step in steps_of(program.samples)
        for tile in statements(step.body)
        if isinstance(tile, Tile) and tile.right is not None and tile.right.buffer in made
    ]
    assert tiles
    for tile in tiles:
        places = sorted({c + k for c, _ in tile.columns for _, k in tile.sums})
        assert 1 in {after - before for before, after in pairwise(places)}


@pytest.mark.skipif(not has_compiler(), reason="no C++ compiler")
def test_explain_shows_no_free_step() -> None:
    """What a layer of compiled kernels prints has a time for each step."""
    text = str(tn.Layer(train(32), objective="infer", backend="cpp").explain(200))
    branch = [line for line in text.splitlines() if line.startswith("once a call ")]
    assert len(branch) == 2
    assert all(float(line.split()[-1].replace(",", "")) > 0 for line in branch)
