"""The report: predictions are those of the model, break-even is where they cross, all is told."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from dataclasses import replace

import pytest
import torch

import tnlayer as tn
from tests.support.golden import Golden
from tests.support.profiles import fixed_profile
from tnlayer.cli.commands import main
from tnlayer.hardware.profile.load import op_times, use_profile
from tnlayer.ir.batch_probes import PROBES
from tnlayer.ir.batch_range import BatchRange
from tnlayer.ir.plan import Plan
from tnlayer.ir.plan_text import search_words
from tnlayer.planning.break_even import BreakEven, Ranges, find_break_even
from tnlayer.planning.break_even import _ranges as ranges_of  # pyright: ignore
from tnlayer.planning.planner import PlannedGraph, Request, plan_graph
from tnlayer.planning.predictions import Prediction
from tnlayer.report import cost as cost_module
from tnlayer.report.cost_of_network import cost_of
from tnlayer.runtime.program import Program
from tnlayer.targets.fastest_schedules import fastest_pair
from tnlayer.time_models.torch_calls import (
    dense_seconds,
    pair_seconds,
    schedule_seconds,
    step_seconds,
)

T = tn.topologies


@pytest.fixture(autouse=True)
def fixed(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """A fixed profile and number of threads, and no stored plans."""
    monkeypatch.setenv("TNLAYER_CACHE", "0")
    monkeypatch.setattr(torch, "get_num_threads", lambda: 2)
    with use_profile(fixed_profile(), "made for tests"):
        yield


def bilinear() -> tn.Network:
    """Two inputs: no dense layer does the same."""
    net = tn.Network("bilinear")
    net.input("x", {"a": 6})
    net.input("z", {"b": 5})
    net.output(c=4)
    net.tensor("W", "a b c")
    return net


def train(rank: int = 4) -> tn.Network:
    """A tensor train of 512 features."""
    return T.tensor_train((8, 8, 8), (8, 8, 8), rank=rank)


NETWORKS: dict[str, Callable[[], tn.Network]] = {
    "train": train,
    "mera": lambda: T.mera(6),
    "cp": lambda: T.cp((4, 5), (3, 4), 6),
    "butterfly": lambda: T.butterfly(16),
    "bilinear": bilinear,
}


# -- predictions -------------------------------------------------------------------------------


@pytest.mark.parametrize("name", NETWORKS)
def test_predictions_are_the_models(name: str) -> None:
    """Times on torch are those of the plan's schedules, with autograd's share in training only."""
    cost = tn.cost(NETWORKS[name](), batch=48)
    times = op_times("float32")
    mask = (True,) * len(cost.plan.inputs)
    pair = fastest_pair(cost.plan, mask, times)
    expected = pair_seconds(pair, 48, times)
    found = cost.predicted("torch")
    assert found is not None
    assert (found.forward, found.backward) == (expected.forward, expected.backward)
    alone = fastest_pair(cost.plan, (False,) * len(mask), times).forward
    assert found.inference == schedule_seconds(alone, 48, times)
    assert 0 < found.inference < found.forward
    assert cost.fastest == found


def test_dense_is_predicted_where_it_does_the_same() -> None:
    """One batched input that is no product has a dense layer; two inputs have none."""
    cost = tn.cost(train(), batch=48)
    dense = cost.predicted("dense")
    assert dense is not None
    expected = dense_seconds(48, 512, 512, op_times("float32"))
    assert (dense.forward, dense.backward) == (expected.forward, expected.backward)
    other = tn.cost(bilinear(), batch=48)
    assert [one.backend for one in other.predictions] == ["torch"]
    assert other.break_even() is None
    assert "no dense layer does the same" in str(other)
    numbers = other.numbers(break_even=True)
    assert numbers["faster_than_dense_training"] is None
    assert "dense_forward_seconds" not in numbers
    product = tn.Network("product")
    legs = product.input("x", [2, 2])
    product.port("x", product=True)
    product.output(product.tensor("A", legs, out=(4,)))
    assert tn.cost(product, batch=2).predicted("dense") is None
    # A backend that cannot be built has no times, so that no budget is fitted to it.
    assert {one.backend for one in cost.predictions} == {"torch", "dense"}


@pytest.mark.parametrize("limit", [None, 2**20])
@pytest.mark.parametrize("name", NETWORKS)
def test_steps_add_up(name: str, limit: int | None) -> None:
    """Times of steps, results and autograd sum to the prediction; none is negative."""
    cost = tn.cost(NETWORKS[name](), batch=600, memory_limit=limit)
    found = cost.step_seconds()
    torch_times = cost.predicted("torch")
    assert torch_times is not None
    assert sum(found.values()) == pytest.approx(torch_times.training)
    names = {s.result.name for p in (cost.plan, cost.backward_plan) for s in p.steps}
    assert set(found) == names | {""}
    assert min(found.values()) >= 0
    assert found[""] >= 2 * 4e-6


def test_copies_count_for_the_step_that_reads_them() -> None:
    """A step whose operand has to be copied costs more than the product alone."""
    plan = tn.cost(T.mera(8), batch=64).plan
    times = op_times("float32")
    schedule = fastest_pair(plan, (False,) * len(plan.inputs), times).forward
    found = step_seconds(schedule, 64, times)
    assert sum(found.values()) == pytest.approx(schedule_seconds(schedule, 64, times))
    own = {call.result.name for call in schedule.calls} & {s.result.name for s in plan.steps}
    assert len(schedule.calls) > len(own)
    helpers = [call.result.name for call in schedule.calls if call.result.name not in own]
    assert helpers and not set(helpers) & set(found)


def test_training_of_a_layer_for_inference() -> None:
    """objective="infer" ranks by the forward alone; the report says the times of both."""
    cost = tn.cost(train(), batch=48, objective="infer")
    assert cost.objective == "infer"
    assert cost.fastest.wanted("infer") == cost.fastest.inference
    assert cost.fastest.backward > 0
    best = plan_graph(train(), Request(batch=48, objective="infer"))
    assert best.choice.seconds.forward == cost.fastest.inference


# -- break-even --------------------------------------------------------------------------------


def training_seconds(plan: Plan, planned: PlannedGraph, batch: int) -> float:
    """Forward and backward of a plan."""
    times = op_times("float32")
    pair = fastest_pair(plan, planned.training_mask, times)
    return pair_seconds(pair, batch, times).total


CROSSING = {
    "train": T.tensor_train((8, 8, 8), (8, 8, 8), rank=24),
    "low rank": T.low_rank(512, 512, 100),
    "cp": T.cp((8, 8, 8), (8, 8, 8), rank=40),
}


@pytest.mark.parametrize("batch", [1, 16, 1024])
@pytest.mark.parametrize("name", CROSSING)
def test_break_even_of_one_plan_is_where_the_times_cross(name: str, batch: int) -> None:
    """At both sides of each end of a range the model itself says who is faster."""
    planned = plan_graph(CROSSING[name], Request(batch=batch))
    found = find_break_even((planned,), one_plan=True)
    assert found is not None

    def faster(at: int) -> bool:
        dense = dense_seconds(at, 512, 512, op_times("float32")).total
        return training_seconds(planned.plan, planned, at) < dense

    check_ends(found.training, faster)
    inside = {probe for probe in PROBES if covers(found.training, probe)}
    assert inside == {probe for probe in PROBES if faster(probe)}


@pytest.mark.parametrize("name", CROSSING)
def test_break_even_is_where_the_planner_overtakes_dense(name: str) -> None:
    """What the planner itself chooses at a batch size agrees, up to five percent of the time.

    A plan that was found for another size may be a little faster than the planner's own choice.
    """
    found = tn.cost(CROSSING[name], batch=64).break_even()
    assert found is not None

    def ratio(at: int) -> float:
        ours = tn.cost(CROSSING[name], batch=at).fastest.training
        return ours / dense_seconds(at, 512, 512, op_times("float32")).total

    for probe in (1, 16, 64, 256, 4096, 65536):
        assert ratio(probe) < 1.05 if covers(found.training, probe) else ratio(probe) > 0.95
    for low, high in found.training:
        for end in (low, *(() if high is None else (high,))):
            assert ratio(end) < 1.05
        assert low == 1 or ratio(low - 1) > 0.95
        assert high is None or ratio(high + 1) > 0.95


def covers(ranges: Ranges, batch: int) -> bool:
    """Whether a batch size is in one of the ranges."""
    return any(low <= batch and (high is None or batch <= high) for low, high in ranges)


def check_ends(ranges: Ranges, holds: Callable[[int], bool]) -> None:
    """Something holds at each end of the ranges and not beside it."""
    for low, high in ranges:
        assert holds(low) and (low == 1 or not holds(low - 1))
        assert high is None or (holds(high) and not holds(high + 1))


@pytest.mark.parametrize("turns", [(), (1,), (3,), (2, 900), (1, 5, 70_000), (17, 70, 5000)])
def test_ranges_of_what_changes_between_probes(turns: tuple[int, ...]) -> None:
    """Every change that lies between two probes is found to the sample."""

    def holds(batch: int) -> bool:
        return sum(batch >= turn for turn in turns) % 2 == 1

    seen = [turn for turn in turns if turn <= PROBES[-1]]
    found = ranges_of(PROBES, holds)
    check_ends(found, holds)
    assert [low for low, _ in found] == seen[::2]
    assert [high for _, high in found if high is not None] == [turn - 1 for turn in seen[1::2]]


def test_never_and_always() -> None:
    """A low-rank layer of full rank never wins; a tensor train of rank 1 wins at every batch."""
    never = tn.cost(T.low_rank(256, 256, 256), batch=64)
    found = never.break_even()
    assert found is not None
    assert found.training == found.inference == ()
    assert "training, faster than dense: never (up to batch 65,536)" in str(never)
    assert "training: dense is faster at batch 64: predicted" in str(never)
    always = tn.cost(T.tensor_train((64, 64), (64, 64), rank=1), batch=64)
    found = always.break_even()
    assert found is not None
    assert found.training == ((1, None),)
    assert "training, faster than dense: at every batch" in str(always)
    assert "training: faster than dense at batch 64: predicted" in str(always)
    assert always.numbers(break_even=True)["faster_than_dense_training"] == [[1, None]]


def test_words_of_ranges() -> None:
    """Ranges are told as a reader would say them."""
    words = BreakEven((), (), 64).text
    assert words(()) == "never (up to batch 64)"
    assert words(((7, None),)) == "from batch 7 on"
    assert words(((3, 3), (5, 8), (1000, None))) == (
        "at batch 3, and from batch 5 to 8, and from batch 1,000 on"
    )


def test_break_even_keeps_a_memory_limit() -> None:
    """Where no plan keeps the limit dense is not beaten, whatever is possible without it."""
    limit = 40_000
    limited = tn.cost(train(1), batch=4, memory_limit=limit)
    found = limited.break_even()
    free = tn.cost(train(1), batch=4).break_even()
    assert found is not None and free is not None
    for probe in PROBES:
        try:
            kept = tn.cost(train(1), batch=probe, memory_limit=limit)
        except tn.PlanError:
            assert not covers(found.training, probe)
            continue
        dense = dense_seconds(probe, 512, 512, op_times("float32")).total
        assert covers(found.training, probe) == (kept.fastest.training < dense)


def test_counting_makes_no_search_for_break_even(monkeypatch: pytest.MonkeyPatch) -> None:
    """tn.cost and its numbers stay quick: other batch sizes are looked at when it is printed."""

    def refuse(*_: object, **__: object) -> None:
        message = "a search"
        raise AssertionError(message)

    monkeypatch.setattr(cost_module, "find_break_even", refuse)
    cost = tn.cost(train(), batch=8)
    assert json.loads(json.dumps(cost.numbers())) == cost.numbers()
    assert cost.table_lines()
    with pytest.raises(AssertionError, match="a search"):
        str(cost)


# -- what is told ------------------------------------------------------------------------------


def test_profile_is_told() -> None:
    """The source, dtype and threads of the profile, and what does not fit."""
    text = "made for tests; cpu, float32, 2 threads"
    assert tn.cost(train(), batch=8).profile == text
    assert tn.cost(train(), batch=8, dtype="float64").profile == f"{text} (scaled to float64)"
    with use_profile(fixed_profile(threads=4), "made for tests"):
        assert "4 threads (torch now has 2)" in str(tn.cost(train(), batch=8))
    assert f"{text} (none for cuda)" in tn.cost(train(), batch=8, device="cuda").profile


def test_reason_is_told() -> None:
    """The reason names the objective, its time and the runner-up, as the planner gave it."""
    cost = tn.cost(CROSSING["train"], batch=64)
    planned = plan_graph(CROSSING["train"], Request(batch=64))
    assert cost.reason == planned.choice.reason
    assert cost.reason.startswith(f"{search_words(cost.plan.minimize)}: ")
    assert f"plan: {cost.reason}" in str(cost)
    assert "next best" in cost.reason
    assert cost_of(planned, 300).reason == f"at batch 64, {cost.reason}"
    stored = replace(planned, choice=replace(planned.choice, stored=True))
    assert cost_of(stored, 64).reason.endswith("; read from the store of plans")
    cut = replace(planned, choice=replace(planned.choice, cut="planning was cut short"))
    assert "; planning was cut short" in str(cost_of(cut, 64, one_plan=True))


def test_compare_has_the_times() -> None:
    """A row a half with the times of each cost and of dense, in milliseconds."""
    nets = [train(2), T.low_rank(512, 512, 8)]
    compared = tn.compare(nets, batch=32)
    lines = str(compared).splitlines()
    for part in ("forward", "backward"):
        row = next(line for line in lines if line.startswith(f"ms {part}, torch"))
        cells = row.removeprefix(f"ms {part}, torch").split()
        expected = [getattr(one.fastest, part) for one in compared.costs]
        dense = compared.costs[0].predicted("dense")
        expected.append(getattr(dense, part))
        assert [float(cell) for cell in cells] == pytest.approx(
            [1e3 * seconds for seconds in expected], rel=0.01
        )


def test_command_line(capsys: pytest.CaptureFixture[str]) -> None:
    """cost prints times, break-even and, with --plan, steps with their times."""
    network = "tnlayer.topologies:mera"
    expected = tn.cost(T.mera(), batch=8, effort="default")
    assert main(["cost", network, "--batch", "8", "--plan"]) == 0
    assert capsys.readouterr().out == f"{expected}\n\n{expected.steps_text()}\n"
    assert "ms at batch 8" in expected.steps_text()


def test_printed_cost(golden: Golden) -> None:
    """The whole text of a cost, and of its steps."""
    cost = tn.cost(CROSSING["cp"], batch=64)
    golden.check(f"{cost}\n\n{cost.steps_text()}")


# -- explain -----------------------------------------------------------------------------------


def test_printed_explanation(golden: Golden) -> None:
    """The whole text: backend, ranges that were met, costs, steps, reason and verdict."""
    layer = tn.Layer(CROSSING["train"])
    for batch in (1, 300):
        layer(torch.randn(batch, 512))
    golden.check(str(layer.explain(300)))


def test_printed_explanation_of_a_limited_sum(golden: Golden) -> None:
    """Two networks under a memory limit: how it is kept, and the sum against one dense layer."""
    nets = [train(2), T.low_rank(512, 512, 8)]
    layer = tn.Layer(nets, batch=128, backend="torch", memory_limit=300_000)
    golden.check(str(layer.explain()))


def test_explain_shows_the_plan_that_runs() -> None:
    """For each batch size the costs are those of its range's plan; explaining makes no range."""
    layer = tn.Layer(CROSSING["train"])
    assert layer.explain().ranges == ((),)
    assert "none was met yet" in layer.explain()
    layer.explain(9)
    assert layer.explain().ranges == ((),)
    ranged = layer._programs_for(torch.float32)[0]  # pyright: ignore
    for batch in (1, 9, 2000):
        assert layer.costs(batch)[0].plan == ranged.at(batch).plan
    (ranges,) = layer.explain().ranges
    assert [one.batches for one in ranges] == [batches for batches, _ in ranged.ranges]
    for one in ranges:
        assert (
            one.batches.greatest is None or one.batches.least <= one.batch <= one.batches.greatest
        )
    one_plan = tn.Layer(CROSSING["train"], batch=16)
    assert one_plan.costs(2000)[0].plan.batch == 16
    assert "one for every batch size" in one_plan.explain()


def test_explain_tells_a_replaced_plan() -> None:
    """A program that was put into a range is the one that is explained, and the text says so."""
    layer = tn.Layer(CROSSING["train"])
    ranged = layer._programs_for(torch.float32)[0]  # pyright: ignore
    ranged.at(64)
    forced = plan_graph(CROSSING["train"], Request(batch=64, minimize="rebuild"))
    assert forced.plan.steps != ranged.at(64).plan.steps
    program = Program(forced.graph, forced.plan, forced.form.tensor_names)
    ranged.replace_range(BatchRange(1), program)
    explained = layer.explain(64)
    assert explained.costs[0].plan == forced.plan
    assert "put in the place of the planner's choice" in explained


def test_sum_is_held_against_one_dense_layer() -> None:
    """Times of summed networks add up; together they win later than each of them alone."""
    nets = [train(8), T.low_rank(512, 512, 30)]
    explained = tn.Layer(nets, batch=64).explain()
    parts = [cost.fastest for cost in explained.costs]
    assert explained.predicted.training == pytest.approx(sum(one.training for one in parts))
    together = explained.break_even()
    assert together is not None
    for cost in explained.costs:
        alone = cost.break_even()
        assert alone is not None
        for probe in PROBES:
            assert covers(alone.training, probe) or not covers(together.training, probe)


@pytest.mark.parametrize("batched", [True, False])
def test_explain_without_a_batch(batched: bool) -> None:
    """A network whose input has no samples, or that has no input at all, is explained too."""
    net = tn.Network("constant")
    if batched:
        net.input("x", {"a": 4})
        net.port("x", batched=False)
        net.tensor("A", "a b")
    else:
        net.tensor("A", "b")
    net.output(b=3)
    layer = tn.Layer(net)
    layer(*([torch.ones(4)] if batched else []))
    assert "one, for there are no samples" in layer.explain()
    assert "no dense layer does the same" in layer.explain()


def test_explain_refuses_no_samples() -> None:
    """A batch size of 0 or a fraction is an error that says so."""
    layer = tn.Layer(train(), batch=4)
    for wrong in (0, 2.5):
        with pytest.raises(tn.SpecError, match="explain: batch"):
            layer.explain(wrong)  # type: ignore[arg-type]


def says_one_thing(ours: Prediction, dense: Prediction, found: BreakEven, batch: int) -> bool:
    """Whether the ranges hold a batch size just where its own times say so."""
    return all(
        covers(getattr(found, part), batch) == (getattr(ours, part) < getattr(dense, part))
        for part in ("training", "inference")
    )


@pytest.mark.parametrize("batch", [1, 20, 64, 300])
@pytest.mark.parametrize("name", CROSSING)
def test_ranges_say_of_a_plan_what_its_times_say(name: str, batch: int) -> None:
    """Whatever plan runs at a batch size, however bad: the ranges rest on its times there."""
    for minimize in ("time", "rebuild", "size"):
        counted = tn.cost(CROSSING[name], batch=batch, minimize=minimize)
        by_time = replace(counted.planned.request, minimize="time")
        planned = replace(counted.planned, request=by_time)
        found = find_break_even((planned,))
        dense = counted.predicted("dense")
        assert found is not None and dense is not None
        assert says_one_thing(counted.fastest, dense, found, batch)


def small_networks() -> list[tn.Network]:
    """Forty networks near the size at which dense wins."""
    trains = [((4, 4), 1), ((4, 4), 4), ((4, 4), 16), ((2, 2, 2, 2), 2), ((8, 8), 2), ((8, 8), 20)]
    return [
        *(T.low_rank(n, n, r) for n in (16, 64, 200) for r in (1, n // 8, n // 4, n // 2, n)),
        *(T.tensor_train(shape, shape, rank) for shape, rank in trains),
        *(T.cp((8, 8), (8, 8), rank) for rank in (1, 4, 16, 60)),
        *(T.tucker((8, 8), (8, 8), rank) for rank in (2, 4, 8)),
        *(T.kronecker((n, n), (n, n)) for n in (2, 4, 8)),
        *(T.monarch((n, n), (n, n)) for n in (2, 4, 8)),
        *(T.tensor_ring((4, 4, 2), (4, 4, 2), rank) for rank in (1, 2, 4)),
        *(T.butterfly(n) for n in (4, 16)),
        T.tree(4, 2, 2),
    ]


def test_one_report_says_one_thing() -> None:
    """Over forty networks and several batch sizes: the verdict and the ranges agree."""
    nets = small_networks()
    assert len(nets) == 40
    for number, net in enumerate(nets):
        for backend in ("torch", "auto"):
            counted = tn.cost(net, batch=(3, 20, 64, 500)[number % 4], backend=backend)
            found, dense = counted.break_even(), counted.predicted("dense")
            assert found is not None and dense is not None
            assert says_one_thing(counted.fastest, dense, found, counted.batch)
            text = str(counted)
            said = f"training: faster than dense at batch {counted.batch}:" in text
            assert said == covers(found.training, counted.batch)


def test_one_explanation_says_one_thing() -> None:
    """A layer's plan serves a range of batch sizes: all over it the same plan is meant."""
    layer = tn.Layer(CROSSING["low rank"], backend="torch")
    for batch in (1, 17, 64, 100, 5000):
        explained = layer.explain(batch)
        found, dense = explained.break_even(), explained.costs[0].predicted("dense")
        assert found is not None and dense is not None
        assert says_one_thing(explained.predicted, dense, found, batch)


def test_frozen_tensors_are_told() -> None:
    """Costs are those of a step that trains all tensors; where a layer has some frozen now, each
    report of it says so and names them, and numbers stay the network's."""
    said = "are of a step that trains all tensors; frozen now: "
    layer = tn.Layer(train(), backend="torch", batch=64, bias=True)
    both = tn.Layer([T.low_rank(16, 16, rank=1), T.kronecker((4, 4), (4, 4), rank=1)], batch=64)
    texts = (lambda: str(layer.explain()), lambda: str(tn.cost(layer)), lambda: str(layer.costs()))
    assert not any(said in text() for text in texts)
    trained = layer.costs()[0]
    layer.get_parameter("core_1").requires_grad_(False)
    layer.get_parameter("bias").requires_grad_(False)
    for text in texts:
        assert next(line for line in text().splitlines() if said in line).endswith(" now: core_1")
    assert layer.costs()[0].numbers() == trained.numbers()
    html: str = layer.costs()[0]._repr_html_()  # pyright: ignore[reportPrivateUsage]
    assert said in html
    for array in both.parameters():
        array.requires_grad_(False)
    names = next(line for line in str(both.costs()).splitlines() if said in line).split(said)[1]
    assert set(names.split(", ")) == {name for name, _ in both.named_parameters()}
    layer.requires_grad_(True)
    assert not any(said in text() for text in texts)
