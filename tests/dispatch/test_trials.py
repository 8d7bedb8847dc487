"""First calls decide between plans whose predictions are close; each is a call that had to run."""

from __future__ import annotations

import pickle
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

import tnlayer as tn
from tnlayer.dispatch import tiers, trials
from tnlayer.dispatch.background import Job, Wanted
from tnlayer.dispatch.programs_by_batch import RangedProgram
from tnlayer.dispatch.trials import CALLS, Candidate, Trial
from tnlayer.ir.batch_range import BatchRange
from tnlayer.planning import batch_ranges

BATCH = 64


def net() -> tn.Network:
    """With torch's calls, several orders of contraction are close."""
    return tn.topologies.tensor_train((4, 4, 4), (4, 4, 4), rank=8)


@pytest.fixture(autouse=True)
def stores(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """An empty store, and a worker that builds at once, in this process."""

    def build(wanted: Wanted, key: object) -> Job:
        del key
        own = RangedProgram(wanted.graph, wanted.request, one_plan=wanted.one_plan, has_tiers=False)
        own.prepare(wanted.batch)
        own.prepare_close(wanted.batch)
        return Job(wanted, done=True)

    monkeypatch.setenv("TNLAYER_CACHE_DIR", str(tmp_path / "cache"))
    batch_ranges._memorised.cache_clear()  # else nothing is written to the new store
    monkeypatch.setattr(tiers, "build", build)
    monkeypatch.setattr(tiers, "can_build", lambda: True)
    monkeypatch.setattr(tiers, "is_overridden", lambda: False)
    yield


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """A clock that a test sets: each look at it takes the next step, the last one for ever."""
    steps, now = [1.0], [0.0]

    def look() -> float:
        now[0] += steps.pop(0) if len(steps) > 1 else steps[0]
        return now[0]

    monkeypatch.setattr(trials, "perf_counter", look)
    return steps


def made(**options: Any) -> tuple[tn.Layer, RangedProgram]:
    """A layer with its programs."""
    layer = tn.Layer(net(), **options)
    return layer, layer._programs_for(layer.dtype)[0]


def step(layer: tn.Layer, batch: int = BATCH) -> None:
    """A training step, whose y and gradients are right."""
    x = torch.randn(batch, 64, requires_grad=True)
    y = layer(x)
    apart = tn.Layer(net(), bias=layer.bias is not None, backend="torch")
    apart.load_state_dict(layer.state_dict())
    again = x.detach().requires_grad_()
    expected = apart(again)
    torch.testing.assert_close(y, expected, rtol=1e-4, atol=1e-4)
    y.sum().backward()
    expected.sum().backward()
    torch.testing.assert_close(x.grad, again.grad, rtol=1e-4, atol=1e-4)


def test_calls_decide_and_the_next_process_begins_with_it(clock: list[float]) -> None:
    """After three calls of each candidate the fastest stays; it is told, and stored."""
    layer, ranged = made()
    step(layer)
    assert not ranged.ranges
    step(layer)
    (trial,) = ranged._trials
    count = len(trial.candidates)
    assert count > 1
    # The second candidate is the fastest: looks at the clock come in fours a step.
    clock[:] = [*[1.0] * 4 * (count - 1), 1.0]
    for number in range(1, CALLS * count):
        clock[:] = [0.1 if number % count == 1 else 1.0]
        step(layer)
    clock[:] = [1.0]
    step(layer)
    assert not ranged._trials
    winner = trial.candidates[1]
    assert all(len(one.seconds) == CALLS for one in trial.candidates)
    assert [program for _, program in ranged.ranges] == [winner.program]
    assert "tried in the first calls, at batch 64" in layer.explain(BATCH)
    # A pickle may be read by another machine, which has to try for itself.
    (again,) = pickle.loads(pickle.dumps(layer))._programs_for(layer.dtype)
    assert ranged.tuned and not again.tuned
    # Another layer, as in another process, has nothing to try.
    other, own = made()
    step(other)
    assert not own._trials
    assert [program.plan for _, program in own.ranges] == [winner.program.plan]
    assert "tried in the first calls" in other.explain(BATCH)


def test_a_winner_with_the_code_of_another_range_is_stored(clock: list[float]) -> None:
    """Ranges of batch sizes may share a program, which was made for a size of one of them."""
    del clock
    layer, ranged = made()
    sizes = (2, 16, 200, 3000)
    for batch in sizes:
        for _ in range(2 + CALLS * 4):
            step(layer, batch)
    assert not ranged._trials
    assert all(any(batch in batches for batches, _ in ranged.ranges) for batch in sizes)
    other, own = made()
    for batch in sizes:
        step(other, batch)
    assert not own._trials


@pytest.mark.parametrize("how", ["tune=False", "deterministic", "prepare", "compiled"])
def test_where_nothing_is_tried(how: str) -> None:
    """Predictions decide alone."""
    layer, ranged = made(**({"tune": False} if how == "tune=False" else {}))
    if how == "prepare":
        layer.prepare((BATCH,))
    try:
        torch.use_deterministic_algorithms(how == "deterministic")
        for _ in range(2):
            step(layer)
        if how == "compiled":
            ranged.settled(BATCH)
            step(layer)
    finally:
        torch.use_deterministic_algorithms(False)
    assert [program.backend for _, program in ranged.ranges] == ["torch"]
    assert not ranged.tuned


def candidates(count: int) -> list[Candidate]:
    """Some that are never run."""
    found: Any = [(f"plan {number}", f"program {number}") for number in range(count)]
    return [Candidate(*pair) for pair in found]


def test_only_like_calls_are_compared() -> None:
    """Calls of another size, and for training those without gradients, run the chosen plan."""
    trial = Trial(BatchRange(1, 99), candidates(2), "train")
    assert isinstance(trial.program(8), trials.Timed)
    assert trial.program(9) == "program 0"
    with torch.no_grad():
        assert trial.program(8) == "program 0"
        infer = Trial(BatchRange(1, 99), candidates(2), "infer")
        assert isinstance(infer.program(8), trials.Timed)


def test_the_chosen_plan_stays_where_none_is_clearly_faster() -> None:
    """Noise moves nothing; and a trial that learns nothing ends."""
    first, second = candidates(2)
    trial = Trial(BatchRange(1, 99), (first, second), "train")
    first.seconds, second.seconds = [1.0, 1.1, 1.2], [0.97, 1.0, 1.0]
    assert trial.is_settled
    assert trial.winner is first
    second.seconds = [0.9, 2.0, 2.0]
    assert trial.winner is second
    empty = Trial(BatchRange(1, 99), candidates(2), "train")
    for _ in range(200):
        assert not empty.is_settled
        empty.program(8)
    assert empty.is_settled
    assert empty.winner is empty.candidates[0]


def test_bias_and_other_options(clock: list[float]) -> None:
    """A layer with a bias tries, too; one of several networks does not."""
    del clock
    layer, ranged = made(bias=True)
    for _ in range(12):
        step(layer)
    assert ranged.ranges
    several = tn.Layer([net(), tn.topologies.low_rank(64, 64, 2)])
    assert not any(one.has_trials for one in several._programs_for(several.dtype))


def test_the_option_is_checked() -> None:
    """True, False or "calls"."""
    with pytest.raises(tn.SpecError, match="tune='often'"):
        tn.Layer(net(), tune="often")  # type: ignore[arg-type]
