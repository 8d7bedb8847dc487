"""Autotuning: the plan that is the fastest when timed is kept, used, stored and found again."""

from __future__ import annotations

import copy
import io
import os
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
import torch

import tnlayer as tn
from tests.support.oracle import evaluate
from tnlayer.dispatch import programs_by_batch, tune
from tnlayer.dispatch.programs_by_batch import RangedProgram
from tnlayer.errors import SpecError
from tnlayer.ir.plan_text import search_words
from tnlayer.measure.median_time import median_seconds
from tnlayer.planning import batch_ranges
from tnlayer.planning.plan_store import clear_plans

ROOT = Path(__file__).parents[2]


class Timer:
    """In place of median_seconds: runs each call once and lets the candidate of a number win.

    Arguments:
        winner: which candidate wins, in the order they are tried; the last if there are fewer.
    """

    def __init__(self, winner: int = -1) -> None:
        self.winner = winner
        self.candidates: list[list[str]] = []

    def __call__(
        self, calls: Mapping[str, Callable[[], object]], **options: Any
    ) -> dict[str, float]:
        for call in calls.values():
            call()
        names = list(calls)
        if options["budget"] == tune.BUDGET:
            self.candidates.append(names)
        else:
            # The forward of the winner alone.
            return {names[0]: 0.25}
        winner = names[min(self.winner, len(names) - 1)]
        return {name: 0.5 if name == winner else 1.0 for name in names}


@pytest.fixture
def timer(monkeypatch: pytest.MonkeyPatch) -> Timer:
    """No real timing: the last candidate wins."""
    made = Timer()
    monkeypatch.setattr(tune, "median_seconds", made)
    return made


@pytest.fixture(autouse=True)
def own_store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """An empty store."""
    monkeypatch.setenv("TNLAYER_CACHE_DIR", str(tmp_path / "cache"))
    forget()
    yield
    forget()


def forget() -> None:
    """Forget what this process has planned, as a new process would; the store stays."""
    batch_ranges._memorised.cache_clear()


def net() -> tn.Network:
    """A network with several good plans."""
    return tn.topologies.mera(6, 2, 3)


def programs(layer: tn.Layer) -> tuple[RangedProgram, ...]:
    """The programs of a layer."""
    return layer._programs_for(layer.dtype)


def run(layer: tn.Layer, *inputs: torch.Tensor) -> tuple[torch.Tensor, ...]:
    """y and all gradients."""
    leaves = [x.detach().clone().requires_grad_() for x in inputs]
    wanted = [*leaves, *(p for p in layer.parameters() if p.requires_grad)]
    y = layer(*leaves)
    return (y.detach(), *torch.autograd.grad(y.abs().square().sum(), wanted))


def assert_close(found: tuple[torch.Tensor, ...], expected: tuple[torch.Tensor, ...]) -> None:
    """Equal up to rounding."""
    for one, other in zip(found, expected, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-5 * float(other.abs().max()))


# -- the winner ----------------------------------------------------------------------------------


def test_the_winner_is_kept_and_used(timer: Timer) -> None:
    """The candidate that the timer favours runs from then on, and results differ by rounding."""
    layer = tn.Layer(net())
    x = torch.randn(64, 64)
    expected = run(layer, x)
    before = programs(layer)[0].at(64)
    assert layer.tune(x) is layer
    (candidates,) = timer.candidates
    assert len(candidates) > 1
    (found,) = programs(layer)[0].tuned
    assert 64 in found.batches
    after = programs(layer)[0].at(64)
    assert after is not before
    assert after.plan == found.planned.plan
    assert candidates[-1].startswith(search_words(after.plan.minimize))
    assert_close(run(layer, x), expected)


def test_the_plan_without_tuning_is_a_candidate(timer: Timer) -> None:
    """The first candidate is the plan that runs without timing: tuning cannot lose to it."""
    timer.winner = 0
    layer = tn.Layer(net())
    before = programs(layer)[0].at(64)
    layer.tune(torch.randn(64, 64))
    assert programs(layer)[0].at(64) is before


def test_the_choice_says_what_was_timed(timer: Timer) -> None:
    """Measured seconds of both halves, and a reason with the measured and the predicted ones."""
    layer = tn.Layer(net()).tune(torch.randn(64, 64))
    choice = programs(layer)[0].tuned[0].planned.choice
    assert (choice.seconds.forward, choice.seconds.backward) == (0.25, 0.25)
    assert choice.reason.startswith("timed on this device at batch 64: ")
    assert " 500 ms" in choice.reason
    assert "(predicted " in choice.reason
    forward = tn.Layer(net(), objective="infer").tune(torch.randn(64, 64))
    seconds = programs(forward)[0].tuned[0].planned.choice.seconds
    assert (seconds.forward, seconds.backward) == (0.5, 0.0)


def test_explain_says_what_was_timed(timer: Timer) -> None:
    """The reason is what was measured, whether another plan won or the planner's own."""
    layer = tn.Layer(net())
    assert not layer.explain(64).timed
    layer.tune(torch.randn(64, 64))
    explained = layer.explain(64)
    assert "why this plan: timed on this device at batch 64: " in explained
    assert explained.timed
    assert "of those timed" in replace(explained, why="", asked="auto", backend="mixed")
    timer.winner = 0
    own = tn.Layer(net()).tune(torch.randn(64, 64))
    assert "why this plan: timed on this device" in own.explain(64)
    fixed = tn.Layer(net(), batch=64).tune()
    assert "why this plan: timed on this device" in fixed.explain()


def test_real_timing() -> None:
    """With the real timer the winner is the candidate with the least median."""
    layer = tn.Layer(net(), tune=True, batch=8)
    choice = programs(layer)[0].tuned[0].planned.choice
    assert choice.seconds.total > 0
    assert choice.reason.split(": ")[1].startswith(search_words(choice.plan.minimize))


def test_median_seconds_tells_its_progress() -> None:
    """Shares rise and reach the end."""
    shares: list[float] = []
    median_seconds({"a": lambda: None}, most=4, budget=1e9, progress=shares.append)
    assert shares == [0.25, 0.5, 0.75, 1.0]


# -- ranges --------------------------------------------------------------------------------------


def test_only_the_range_is_replaced(timer: Timer) -> None:
    """Sizes below and above the tuned range keep their programs; those in it have the winner."""
    layer = tn.Layer(net())
    (own,) = programs(layer)
    sizes = (1, 3, 20, 64, 100, 300, 1000, 5000)
    before = {size: own.at(size) for size in sizes}
    layer.tune(torch.randn(64, 64))
    (found,) = own.tuned
    assert found.batches.least > 1
    assert found.batches.greatest is not None
    for size in sizes:
        if size in found.batches:
            assert own.at(size) is own.at(64)
        else:
            assert own.at(size) is before[size]
    for (one, _), (other, _) in pairwise(own.ranges):
        assert one.common(other) is None


def test_ranges_that_come_after_leave_the_tuned_one(timer: Timer) -> None:
    """A size outside makes its own range, and the tuned one stays."""
    layer = tn.Layer(net())
    layer.tune(torch.randn(64, 64))
    (own,) = programs(layer)
    tuned = own.at(64)
    for size in (1, 5, 17, 300, 70_000):
        own.at(size)
    assert own.at(64) is tuned


def test_tune_without_batch_tunes_each_range_once(timer: Timer) -> None:
    """tune=True: the first call of each range times, further ones do not."""
    layer = tn.Layer(net(), tune=True)
    assert timer.candidates == []
    for size in (64, 65, 64, 1, 2, 64) * 2:
        layer(torch.randn(size, 64))
    (own,) = programs(layer)
    assert len(timer.candidates) == len(own.tuned) < 5
    assert all(own.is_tuned(size) for size in (1, 2, 64, 65))


def test_tune_with_batch_tunes_when_made(timer: Timer) -> None:
    """One plan for all sizes: it is timed at once and serves all of them, traced ones as well."""
    layer = tn.Layer(net(), tune=True, batch=64)
    assert len(timer.candidates) == 1
    (own,) = programs(layer)
    assert own.at(1) is own.at(64) is own.at(10_000) is own.main
    assert own.main.plan == own.tuned[0].planned.plan
    layer(torch.randn(3, 64))
    assert len(timer.candidates) == 1


def test_another_size_than_the_one_planned_for(timer: Timer) -> None:
    """tune(x) with another batch serves the range of x; the layer's own size keeps its plan."""
    layer = tn.Layer(net(), batch=1024)
    (own,) = programs(layer)
    before = own.at(1024)
    layer.tune(torch.randn(4, 64))
    assert own.at(1024) is own.main is before
    assert own.is_tuned(4)
    assert not own.is_tuned(1024)


def test_leading_dimensions_are_folded(timer: Timer) -> None:
    """The batch of an input with leading dimensions 4 x 16 is 64."""
    layer = tn.Layer(net()).tune(torch.randn(4, 16, 64))
    assert "at batch 64" in programs(layer)[0].tuned[0].planned.choice.reason


def test_tune_without_inputs(timer: Timer) -> None:
    """Random inputs of the layer's own batch serve where none are given."""
    layer = tn.Layer(net(), batch=32).tune()
    assert "at batch 32" in programs(layer)[0].tuned[0].planned.choice.reason


def test_an_empty_batch_is_not_timed(timer: Timer) -> None:
    """Nothing is timed with no samples; the call is right."""
    layer = tn.Layer(net(), tune=True)
    assert layer(torch.randn(0, 64)).shape == (0, 64)
    layer.tune(torch.randn(0, 64))
    assert timer.candidates == []


# -- the store -----------------------------------------------------------------------------------


def test_stored_and_found_again(timer: Timer) -> None:
    """A second layer, in what is like a new process, takes the winner without timing."""
    x = torch.randn(64, 64)
    first = programs(tn.Layer(net()).tune(x))[0].tuned[0]
    forget()
    second = programs(tn.Layer(net()).tune(x))[0].tuned[0]
    assert len(timer.candidates) == 1
    assert second.planned.choice.stored
    assert second.batches == first.batches
    assert second.planned.plan == first.planned.plan
    assert second.planned.choice.seconds == first.planned.choice.seconds
    assert second.planned.choice.reason == first.planned.choice.reason
    forget()
    clear_plans()
    tn.Layer(net()).tune(x)
    assert len(timer.candidates) == 2


def test_found_in_another_process(tmp_path: Path) -> None:
    """A process that starts later reads what an earlier one timed."""
    text = (
        "import torch, tnlayer as tn\n"
        "layer = tn.Layer(tn.topologies.tensor_train((4, 4), (4, 4), 2), tune=True)\n"
        "layer(torch.zeros(8, 16))\n"
        "choice = layer._programs_for(torch.float32)[0].tuned[0].planned.choice\n"
        "print(choice.stored, choice.reason)"
    )
    environment = {**os.environ, "TNLAYER_CACHE_DIR": str(tmp_path / "other")}
    done = [
        subprocess.run(
            [sys.executable, "-c", text],
            cwd=ROOT,
            env=environment,
            capture_output=True,
            text=True,
            check=True,
        ).stdout.split(maxsplit=1)
        for _ in range(2)
    ]
    assert [stored for stored, _ in done] == ["False", "True"]
    assert done[0][1] == done[1][1]


@pytest.mark.parametrize("what", ["threads", "processor", "gradient", "frozen", "exact"])
def test_what_was_timed_differently_is_not_taken(
    what: str, timer: Timer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Other threads, another processor, other gradients, or one plan for all sizes: timed anew."""
    x = torch.randn(64, 64)
    tn.Layer(net()).tune(x)
    forget()
    layer = tn.Layer(net())
    match what:
        case "threads":
            monkeypatch.setattr(torch, "get_num_threads", lambda: 77)
        case "processor":
            monkeypatch.setattr(tune, "processor_name", lambda device: "Model T")
        case "gradient":
            x.requires_grad_()
        case "frozen":
            next(layer.parameters()).requires_grad_(False)
        case _:
            layer = tn.Layer(net(), batch=64)
    layer.tune(x)
    assert len(timer.candidates) == 2


def test_relabelled_networks_share_what_was_timed(timer: Timer) -> None:
    """The store goes by the canonical network: other names of tensors make no difference."""

    def named(first: str, second: str) -> tn.Layer:
        made = tn.Network(f"{first} {second}")
        made.input(i=8)
        made.output(j=8)
        made.bond(a=2)
        made.tensor(first, "i a")
        made.tensor(second, "a j")
        return tn.Layer(made)

    x = torch.randn(16, 8)
    named("A", "B").tune(x)
    layer = named("Z", "C").tune(x)
    assert len(timer.candidates) == 1
    assert programs(layer)[0].tuned[0].planned.choice.stored


# -- nothing else changes ------------------------------------------------------------------------


def test_gradients_and_random_state_are_untouched() -> None:
    """.grad, requires_grad, values, torch's random state and grad mode stay as they are."""
    layer = tn.Layer(net(), bias=True)
    x = torch.randn(16, 64, requires_grad=True)
    layer(x).sum().backward()
    kept = [x, *layer.parameters()]
    grads = [array.grad for array in kept]
    copies = [
        (array.detach().clone(), array.grad.clone()) for array in kept if array.grad is not None
    ]
    state = torch.get_rng_state()
    layer.tune(x)
    assert torch.equal(torch.get_rng_state(), state)
    assert torch.is_grad_enabled()
    for array, grad, (value, grad_value) in zip(kept, grads, copies, strict=True):
        assert array.grad is grad
        assert torch.equal(array, value)
        assert grad is not None
        assert torch.equal(grad, grad_value)


@pytest.mark.parametrize("mode", ["no_grad", "inference_mode", "autocast"])
def test_first_call_in_another_mode(mode: str, timer: Timer) -> None:
    """Under no_grad and inference_mode a training step is timed, as it will come later."""
    contexts: dict[str, Callable[[], Any]] = {
        "no_grad": torch.no_grad,
        "inference_mode": torch.inference_mode,
        "autocast": lambda: torch.autocast("cpu", dtype=torch.bfloat16),
    }
    layer = tn.Layer(net(), tune=True)
    expected = tn.Layer(net())
    expected.load_state_dict(layer.state_dict())
    with contexts[mode]():
        x = torch.randn(16, 64)
        y = layer(x)
        layer.tune(torch.randn(300, 64))
        torch.testing.assert_close(y, expected(x), rtol=1e-4, atol=1e-4)
    assert len(timer.candidates) == 2
    assert not y.requires_grad or mode == "autocast"
    if mode != "autocast":
        choice = programs(layer)[0].tuned[1].planned.choice
        assert choice.seconds.backward > 0
    x = torch.randn(16, 64)
    assert_close(run(layer, x), run(expected, x))


def test_frozen_layer_for_inference(timer: Timer) -> None:
    """Without any array that wants a gradient the forward alone is timed."""
    layer = tn.Layer(net())
    layer.requires_grad_(False)
    layer.tune(torch.randn(16, 64))
    assert programs(layer)[0].tuned[0].planned.choice.seconds.backward == 0


def test_memory_limit_is_kept(timer: Timer) -> None:
    """All candidates keep the limit; that of the winner is in its plan for the whole range."""
    x = torch.randn(64, 64)
    limit = 100_000
    layer = tn.Layer(net(), memory_limit=limit)
    expected = run(layer, x)
    layer.tune(x)
    (found,) = programs(layer)[0].tuned
    assert found.planned.request.memory_limit == limit
    assert found.batches.greatest is not None
    assert found.planned.plan.batch >= found.batches.greatest
    assert_close(run(layer, x), expected)


def test_meta_device() -> None:
    """Nothing can be timed there: tune() says so, tune=True waits for the first real call."""
    layer = tn.Layer(net(), tune=True, batch=16, device="meta")
    assert layer(torch.randn(16, 64, device="meta")).shape == (16, 64)
    with pytest.raises(SpecError, match=r"meta device.*to_empty"):
        layer.tune(torch.randn(16, 64, device="meta"))
    layer.to_empty(device="cpu")
    layer.reset_parameters()
    layer(torch.randn(4, 64))
    (own,) = programs(layer)
    assert own.is_tuned(16)
    assert own.is_tuned(4)


def test_traced_layers_run_what_was_tuned(timer: Timer) -> None:
    """tune() refuses to run under a transform; a transform of a tuned layer is right."""
    layer = tn.Layer(net(), tune=True)
    x = torch.randn(5, 64)
    with pytest.raises(SpecError, match="tracing"):
        torch.func.vmap(lambda row: layer.tune(row)(row))(x)
    mapped = torch.func.vmap(layer)(x)
    assert timer.candidates == []
    layer.tune(torch.randn(256, 64))
    (own,) = programs(layer)
    assert own.main is own.at(256)
    torch.testing.assert_close(mapped, torch.func.vmap(layer)(x), rtol=1e-4, atol=1e-4)


# -- all kinds of networks -----------------------------------------------------------------------


def several_inputs() -> tn.Network:
    """A batched input, a product port and one without a batch."""
    made = tn.Network("several inputs")
    made.input("x", i=3, k=2)
    made.input("p", a=2, b=2)
    made.input("w", m=3)
    made.port("p", product=True)
    made.port("w", batched=False)
    made.output(j=4)
    made.tensor("A", "i a j")
    made.tensor("B", "k b m")
    return made


def no_batch() -> tn.Network:
    """No input is batched."""
    made = tn.Network("no batch")
    made.input("w", i=6)
    made.port("w", batched=False)
    made.output(j=4)
    made.bond(a=2)
    made.tensor("A", "i a")
    made.tensor("B", "a j")
    return made


def frozen() -> tn.Network:
    """A tensor with a value and one without a gradient."""
    made = tn.Network("frozen")
    made.input(i=4, k=4)
    made.output(j=4)
    made.bond(a=3)
    made.tensor("A", "i a", value=torch.randn(4, 3).numpy(), trainable=False)
    made.tensor("B", "a k j")
    return made


KINDS: dict[str, tuple[Callable[[], Any], torch.dtype]] = {
    "several inputs": (several_inputs, torch.float64),
    "no batch": (no_batch, torch.float32),
    "frozen": (frozen, torch.float64),
    "complex": (lambda: tn.topologies.tensor_train((4, 4), (4, 4), 2), torch.complex64),
    "bfloat16": (lambda: tn.topologies.tensor_train((4, 4), (4, 4), 2), torch.bfloat16),
    "sum": (
        lambda: [
            tn.topologies.low_rank(16, 16, 2),
            tn.topologies.tensor_train((4, 4), (4, 4), 2),
        ],
        torch.float32,
    ),
}


@pytest.mark.parametrize("lazy", [True, False])
@pytest.mark.parametrize("kind", sorted(KINDS))
def test_kinds_of_networks(kind: str, lazy: bool, timer: Timer) -> None:
    """Each kind can be tuned, every summed network on its own, and gives what it gave before."""
    make, dtype = KINDS[kind]
    layer = tn.Layer(make(), dtype=dtype, tune=lazy)
    plain = tn.Layer(make(), dtype=dtype)
    plain.load_state_dict(layer.state_dict())
    inputs = tuple(
        x.detach() for x in tune.random_inputs(layer.graph, 6, dtype, torch.device("cpu"))
    )
    if lazy:
        layer(*inputs)
    else:
        layer.tune(*inputs)
    assert len(timer.candidates) == len(layer.graphs)
    assert all(len(own.tuned) == 1 for own in programs(layer))
    for one, other in zip(run(layer, *inputs), run(plain, *inputs), strict=True):
        tolerance = 0.05 if dtype == torch.bfloat16 else 1e-4
        torch.testing.assert_close(
            one, other, rtol=tolerance, atol=tolerance * float(other.abs().max())
        )


def test_tuned_layer_against_the_oracle(timer: Timer) -> None:
    """What a tuned layer computes is the network, by the float64 oracle."""
    made = several_inputs()
    layer = tn.Layer(made, dtype=torch.float64, tune=True)
    inputs = tuple(
        x.detach() for x in tune.random_inputs(layer.graph, 3, torch.float64, torch.device("cpu"))
    )
    arrays = {name: array.detach().numpy() for name, array in layer.state_dict().items()}
    expected = evaluate(layer.graph, [x.numpy() for x in inputs], arrays)
    torch.testing.assert_close(layer(*inputs).detach(), torch.from_numpy(expected))


def test_pickles_and_copies_keep_the_tuned_plans(timer: Timer) -> None:
    """A copy, and one that went through torch.save, have the plans that were timed; none times."""
    layer = tn.Layer(net())
    for size in (4, 64, 64):
        layer.tune(torch.randn(size, 64))
    timed = len(timer.candidates)
    clear_plans()
    file = io.BytesIO()
    torch.save(layer, file)
    file.seek(0)
    loaded = torch.load(file, weights_only=False)
    x = torch.randn(64, 64)
    for other in (copy.deepcopy(layer), loaded):
        (own,), (mine,) = programs(other), programs(layer)
        for size in (4, 64, 64):
            assert own.is_tuned(size)
            assert own.at(size).plan == mine.at(size).plan
        assert own.main.plan == mine.main.plan
        assert_close(run(other, x), run(layer, x))
    assert len(timer.candidates) == timed


def test_moved_to_another_dtype(timer: Timer) -> None:
    """A layer with tune=True that is moved to float64 is tuned for that, too."""
    layer = tn.Layer(net(), tune=True)
    layer(torch.randn(16, 64))
    layer.double()
    layer(torch.randn(16, 64, dtype=torch.float64))
    assert len(timer.candidates) == 2


def test_threads_tune_a_range_once(timer: Timer) -> None:
    """Of threads whose first calls come at once, one times and all get right results."""
    layer = tn.Layer(net(), tune=True)
    plain = tn.Layer(net())
    plain.load_state_dict(layer.state_dict())
    x = torch.randn(32, 64)
    expected = plain(x).detach()
    start = threading.Barrier(8)
    found: list[torch.Tensor] = []

    def work() -> None:
        start.wait()
        found.append(layer(x).detach())

    workers = [threading.Thread(target=work) for _ in range(8)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    assert len(timer.candidates) == 1
    assert len(found) == 8
    for y in found:
        torch.testing.assert_close(y, expected, rtol=1e-4, atol=1e-4)


# -- a batch that varies -------------------------------------------------------------------------


def test_a_batch_that_varies_builds_no_more_than_the_ranges(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """From call to call another size: right results, at most a program a range, each built once."""
    layer = tn.Layer(net())
    reference = tn.Layer(net(), batch=16)
    reference.load_state_dict(layer.state_dict())
    reference.prepare()
    layouts = programs_by_batch.RangedProgram._make
    made: list[int] = []

    def count(own: RangedProgram, batch: int) -> Any:
        made.append(batch)
        return layouts(own, batch)

    monkeypatch.setattr(programs_by_batch.RangedProgram, "_make", count)
    sizes = [1, 300, 7, 64, 2, 1000, 300, 65, 5, 1, 129, 999, 31, 17, 64, 3, 250, 8, 1000, 2]
    for size in sizes * 2:
        x = torch.randn(size, 64)
        torch.testing.assert_close(layer(x), reference(x), rtol=1e-4, atol=1e-4)
    (own,) = programs(layer)
    # Each range was made once, and each program built once for each set of wanted gradients.
    assert len(made) == len(own.ranges) < len(set(sizes))
    built = {id(program): program for _, program in own.ranges}
    assert len(built) <= len(own.ranges)
    assert all(len(program._kernels) <= 2 for program in built.values())
