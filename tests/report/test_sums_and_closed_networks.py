"""What is told of sums of networks, and of networks that have no input: costs, plans, pictures."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from torch import nn

import tnlayer as tn
from tests.support.golden import Golden
from tnlayer.cli.commands import main
from tnlayer.planning import batch_ranges
from tnlayer.planning.plan_search import Search
from tnlayer.planning.rank import Ranked, rank

T = tn.topologies
X, Z = np.array([[0.0, 1.0], [1.0, 0.0]]), np.diag([1.0, -1.0])
OPTIONS: dict[str, Any] = {"effort": "fast", "backend": "torch"}
LAYER: dict[str, Any] = {"shared": True, "dtype": "float64", **OPTIONS}


def chain(sites: int) -> tn.SumOfNetworks:
    """The energy of an Ising chain in a matrix product state."""
    terms: dict[Any, Any] = {(k, k + 1): np.kron(-Z, Z) for k in range(sites - 1)}
    return tn.energy(T.mps(sites, dim=2, bond=2), terms | dict.fromkeys(range(sites), -X))


def both() -> tn.SumOfNetworks:
    """Two networks of 64 features."""
    return T.low_rank(64, 64, rank=4) + T.tensor_train((8, 8), (8, 8), rank=2)


def state() -> tn.Network:
    """Without an input, with an output."""
    return T.mps(4, dim=2, bond=2)


# -- sums ------------------------------------------------------------------------------------------


def test_cost_of_a_sum_is_that_of_its_networks_and_their_sum() -> None:
    """Each is tn.cost of the network; counts and times add up, the largest is the largest."""
    costs = tn.cost(both(), batch=12, **OPTIONS)
    assert isinstance(costs, tn.Costs)
    each = [tn.cost(net, batch=12, **OPTIONS) for net in both()]
    assert list(costs) == each
    assert costs.parameters == both().parameter_count
    for count in ("forward_flops", "backward_flops", "forward_calls", "backward_calls"):
        assert getattr(costs, count) == sum(getattr(one, count) for one in each)
    assert costs.fastest.training == pytest.approx(sum(one.fastest.training for one in each))
    assert costs.predicted("dense") == each[0].predicted("dense")
    assert costs.largest_intermediate == max(one.largest_intermediate for one in each)
    assert costs.saved.at(12) == sum(one.saved.at(12) for one in each)
    for sure, most in ((each[0].forward_peak, costs.forward_peak),
                       (each[1].training_peak, costs.training_peak)):  # fmt: skip
        assert sure < most


def test_what_networks_share_counts_once() -> None:
    """The tensors of a state are in all terms of its energy."""
    terms = chain(4)
    costs = tn.cost(terms, **OPTIONS)
    assert costs.parameters == terms.parameter_count == state().parameter_count
    assert sum(one.parameters for one in costs) == len(terms) * costs.parameters
    assert "count once in the total" in str(costs)


def test_a_layer_of_a_sum_tells_the_same() -> None:
    """layer.costs() is tn.cost of what it sums, where the options are those."""
    layer = tn.Layer(both(), batch=12, **OPTIONS)
    assert list(layer.costs()) != []
    assert layer.costs().forward_flops == tn.cost(both(), batch=12, **OPTIONS).forward_flops
    assert str(tn.Layer(T.low_rank(8, 6, 2), **OPTIONS).costs()).startswith("cost of low rank at")


def test_the_text_of_a_long_sum_is_bounded(golden: Golden) -> None:
    """Of 31 networks 19 have a row, the others are summed up, and the total is that of all."""
    terms = chain(16)
    assert len(terms) == 31
    costs = tn.cost(terms, minimize="flops", **OPTIONS)
    text = str(costs)
    rows = [line for line in text.splitlines() if "  torch" in line]
    assert len(rows) == 21 and rows[-2].startswith("12 more") and rows[-1].startswith("total")
    flops = [int(re.split(r"  +", row)[2].replace(",", "")) for row in rows]
    assert flops[-1] == sum(flops[:-1]) == costs.forward_flops
    assert len(str(terms)) < 100 and "31 networks" in str(terms)
    layer = tn.Layer(terms[:5], **LAYER)
    assert len(repr(layer)) < 250 and len(str(layer.explain()).splitlines()) < 40
    lines = [line for line in text.splitlines() if not line.startswith("times:")]
    golden.check(re.sub(r" +[0-9.]+ +[0-9.]+  torch", "  (times)  torch", "\n".join(lines)))


def test_a_list_of_networks_is_a_sum() -> None:
    """As tn.Layer takes it: a slice of a sum, or networks that were never added."""
    nets = [T.low_rank(8, 8, 1), T.tensor_train((8,), (8,), 1)]
    assert tn.cost(nets, batch=4, **OPTIONS).parameters == 16 + 64
    assert len(tn.cost(chain(4)[:3], **OPTIONS)) == 3
    with pytest.raises(tn.SpecError, match="cannot be summed"):
        tn.cost([nets[0], T.low_rank(8, 9, 1)])


def test_plans_of_a_sum() -> None:
    """A tuple with the plan of each network."""
    plans = tn.plan(both(), batch=16)
    assert plans == tuple(tn.plan(net, batch=16) for net in both())
    with pytest.raises(tn.SpecError, match=r"a sum of 2; pass one .*net\[0\]"):
        tn.backward_plan(both())  # type: ignore[arg-type]


def test_a_sum_is_one_column() -> None:
    """tn.compare holds sums against networks; a list is still one of columns."""
    found = tn.compare(both(), T.low_rank(64, 64, rank=8), batch=16, **OPTIONS)
    head = re.split(r"  +", str(found).splitlines()[1].strip())
    assert head == ["low rank + 1 more", "low rank", "dense"]
    assert found.costs[0].parameters == both().parameter_count
    assert len(tn.compare(both(), batch=16, **OPTIONS).costs) == 1
    assert len(tn.compare(list(both()), batch=16, **OPTIONS).costs) == 2
    numbers = json.loads(json.dumps(found.numbers()))["networks"][0]
    assert numbers["networks"][1]["parameters"] == 256


def test_sums_of_sums() -> None:
    """Two energies, or an energy and a network, are one sum."""
    norm = tn.energy(state(), {(): 1.0})
    total = chain(4) + norm
    assert isinstance(total, tn.SumOfNetworks) and len(total) == 8
    assert isinstance(norm + norm[0], tn.SumOfNetworks)


def test_pictures_of_a_sum(tmp_path: Path) -> None:
    """Axes for each network, of many for the first twelve; notebooks show six; TeX holds one."""
    assert len(both().draw(tmp_path / "sum.svg").axes) == 2
    assert (tmp_path / "sum.svg").read_text(encoding="utf-8").count("tensor train") >= 1
    many = chain(16).draw(labels="none", style={"operator_7": "#ff0000", "tensor": "#eeeeee"})
    assert len(many.axes) == 12 and "19 networks more" in many.get_supxlabel()
    for wrong, message in (
        ({"path": "sum.tex"}, "holds the picture of one network"),
        ({"style": {"nobody": "#ffffff"}}, "no kind and no name 'nobody'"),
        ({"path": tmp_path / "sum.what"}, "cannot be saved"),
    ):
        with pytest.raises(tn.SpecError, match=message):
            both().draw(**wrong)  # type: ignore[arg-type]
    page = chain(8)._repr_html_()
    assert page.count("<svg") == 6 and "9 networks more" in page
    assert "<svg" in tn.cost(both(), batch=4, **OPTIONS)._repr_html_()
    layer = tn.Layer(chain(4), **LAYER)
    assert layer._repr_html_().count("<svg") == 6


# -- no input --------------------------------------------------------------------------------------

# What makes no sense where a call has no samples, and where no layer does the same.
MEANINGLESS = re.compile(r"batch|a sample\b|than dense|dense  |B samples|in_features")


def sum_of_terms() -> tn.Layer:
    """A layer of some terms."""
    return tn.Layer(chain(4), **LAYER)


def norm() -> tn.Layer:
    """A layer of one closed network."""
    return tn.Layer(tn.energy(state(), {(): 1.0}), **LAYER)


TOLD: dict[str, Callable[[], object]] = {
    "a cost": lambda: tn.cost(chain(4)[0], **OPTIONS),
    "its repr": lambda: repr(tn.cost(chain(4)[0], **OPTIONS)),
    "its steps": lambda: tn.cost(chain(4)[0], **OPTIONS).steps_text(),
    "costs": lambda: tn.cost(chain(4), **OPTIONS),
    "their repr": lambda: repr(tn.cost(chain(4), **OPTIONS)),
    "a plan": lambda: tn.plan(chain(4)[0]),
    "a backward": lambda: tn.backward_plan(chain(4)[0]),
    "a comparison": lambda: tn.compare(chain(4), chain(4)[0], **OPTIONS),
    "a network": lambda: chain(4)[0],
    "a layer": sum_of_terms,
    "what it says": lambda: sum_of_terms().explain(),
    "what a norm says": lambda: norm().explain(),
    "what auto says": lambda: tn.Layer(tn.energy(state(), {(): 1.0}), effort="fast").explain(),
    "a state": lambda: tn.cost(state(), **OPTIONS),
    "a layer of a state": lambda: tn.Layer(state(), **OPTIONS).explain(),
}


@pytest.mark.parametrize("name", TOLD)
def test_what_has_no_input_has_no_batch_and_no_dense_layer(name: str) -> None:
    """Nothing is said of samples, and nothing is held against a dense layer."""
    text = str(TOLD[name]())
    assert not MEANINGLESS.search(text), MEANINGLESS.search(text)


def test_it_says_what_it_is() -> None:
    """A closed network, and one with open legs, each in one line."""
    text = str(tn.cost(chain(4)[0], **OPTIONS))
    assert text.startswith("cost of <MPS|0,1>, a closed network, float32\n")
    assert "contraction of a closed network: there are no samples, and no dense layer" in text
    assert "closed, 9 tensors" in str(chain(4)[0]).splitlines()[0]
    assert "a network without inputs" in str(tn.cost(state(), **OPTIONS))
    assert "fewer than its entries" in str(T.mps(12, 2, 2)).splitlines()[0]
    numbers = tn.cost(chain(4)[0], **OPTIONS).numbers()
    assert numbers["batch"] is None and numbers["compression"] is None


def test_an_input_without_samples_is_held_against_one_product() -> None:
    """The dense map takes it once, whatever batch is asked for."""
    net = T.low_rank(8, 6, rank=2)
    net.port("x", batched=False)
    cost = tn.cost(net, batch=100, **OPTIONS)
    assert cost.samples == 1 and cost.dense_forward_flops == 2 * 8 * 6
    assert "batch" not in cost.table_lines()[0] and "FLOPs a sample" not in str(cost)
    assert cost.table_lines() == tn.cost(net, batch=1, **OPTIONS).table_lines()


def test_summary_counts_an_energy() -> None:
    """FLOPs and times, and hyphens where a dense layer would stand; kept isometries are in it."""
    mera = T.periodic_mera(4, 2, 2)
    mera.fix(dict.fromkeys(mera.freeze().output, 0))
    kept = tn.Layer(tn.energy(mera, {(0, 1): np.kron(Z, Z), 2: X}), isometries="keep", **LAYER)
    found = tn.summary(nn.ModuleDict({"energy": norm(), "kept": kept, "head": nn.Linear(4, 2)}))
    assert [row.name for row in found.rows] == ["energy", "kept", "head"]
    first, second, _ = found.rows
    assert first.own.flops == sum(c.forward_flops for c in norm().costs()) > 0
    assert first.own.seconds > 0 and not first.has_dense and first.rows == 0
    assert second.own.parameters == sum(p.numel() for p in kept.parameters())
    # The table goes on below where it is wider than a page.
    lines = [line for line in str(found).splitlines() if line.startswith("energy")]
    assert sum(line.count(" -") for line in lines) == 4


def test_on_the_command_line(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    """``cost`` and ``plan`` of a closed network."""
    file = tmp_path / "norm.json"
    net = tn.Network("norm")
    net.bond(a=3, b=4)
    net.tensor("A", "a b")
    net.tensor("B", "a b")
    net.output()
    file.write_text(net.to_json(), encoding="utf-8")
    for words in (["cost", str(file), "--plan"], ["plan", str(file)], ["compare", str(file)]):
        assert main(words) == 0
        out = capsys.readouterr().out
        assert not MEANINGLESS.search(out), out
    assert main(["cost", str(file), "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["dense_parameters"] is None


def test_a_closed_network_is_planned_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """A layer when it is made, its first call, its costs and tn.cost have one plan a network."""
    monkeypatch.setenv("TNLAYER_CACHE", "0")
    searched: list[tn.Graph] = []

    def counted(search: Search, batch: int) -> tuple[Ranked, ...]:
        searched.append(search.graph)
        return rank(search, batch)

    monkeypatch.setattr(batch_ranges, "rank", counted)
    terms = tn.energy(T.mps(5, dim=3, bond=2), {(0, 1): np.eye(9), 2: np.eye(3)})
    layer = tn.Layer(terms, **LAYER)
    layer().backward()
    layer.explain(7)
    tn.cost(terms, batch=100, dtype="float64", **OPTIONS)
    assert len(searched) == 2


# -- only where there is a backward ----------------------------------------------------------------


def test_nothing_is_made_again_where_there_is_no_backward() -> None:
    """A memory limit of inference says nothing of a backward, also where it cannot be kept."""
    net = T.mps(8, dim=2, bond=4)  # what has no samples is sliced
    for limit in (900, 700, 500, 300):
        try:
            plan = tn.plan(net, batch=64, objective="infer", memory_limit=limit)
        except tn.PlanError as error:
            assert "backward" not in str(error) and "batch" not in str(error)
            continue
        assert "backward" not in str(plan) and not plan.memory.recompute
    train = T.tensor_train((8, 8, 8), (8, 8, 8), rank=8)
    with pytest.raises(tn.PlanError, match=r"found is \d+ bytes \(a chunk of 1, \d legs? sliced\)"):
        tn.plan(train, batch=64, objective="infer", memory_limit=30_000, minimize="flops")
    with pytest.raises(tn.PlanError, match="made again in the backward"):
        tn.plan(train, batch=64, memory_limit=30_000, minimize="flops")


# -- how large it gets -----------------------------------------------------------------------------


def test_the_largest_intermediate_is_that_of_the_steps() -> None:
    """The most entries of a step's result at the batch size, y included; a chunk counts its own."""
    net = T.tensor_train((8, 8), (8, 8), rank=4)
    cost = tn.cost(net, batch=16, minimize="flops", **OPTIONS)
    sizes = {**cost.plan.sizes, "b": 16}
    made = [np.prod([sizes[leg] for leg in step.result.legs]) for step in cost.plan.steps]
    assert cost.largest_intermediate == max(made)
    assert cost.width == pytest.approx(np.log2(max(made)))
    assert f"{cost.largest_intermediate:,}" in str(cost)
    net = T.tensor_train((8, 8, 8), (8, 8, 8), rank=2)
    limited = tn.plan(net, batch=512, memory_limit=300_000, objective="infer")
    assert limited.memory.chunk is not None
    # y is there whole.
    assert limited.largest_intermediate() == 512 * 512
    assert tn.plan(net, batch=512).largest_intermediate() > 512 * 512
    alone = tn.Network("one tensor")
    alone.tensor("A", (), out=(3,))
    alone.output(("A.0",))
    assert tn.cost(alone, **OPTIONS).largest_intermediate == 3


def test_the_width_is_cotengras() -> None:
    """Of a closed network, by the same path, as cotengra counts it."""
    cotengra = pytest.importorskip("cotengra")
    (graph,) = tn.energy(T.mps(8, dim=2, bond=4), {(3, 4): np.kron(Z, Z)})
    cost = tn.cost(graph, minimize="flops", effort="fast", backend="torch")
    inputs = [tensor.legs for tensor in graph.tensors]
    tree = cotengra.ContractionTree.from_path(inputs, (), graph.sizes, path=cost.path)
    assert tree.contraction_width() == pytest.approx(cost.width)


# -- the path --------------------------------------------------------------------------------------


def by_path(graph: tn.Graph, cost: tn.Cost, inputs: list[np.ndarray]) -> np.ndarray:
    """numpy's product along a path, in which no intermediate is left to chance."""
    arrays = {
        p.name: np.random.default_rng(k).standard_normal(p.full_shape)
        for k, p in enumerate(graph.parameters)
    }
    letters = {leg: chr(97 + k) for k, leg in enumerate(graph.sizes)}
    operands = [*inputs, *(arrays[t.share or t.name] for t in graph.tensors)]
    terms = [
        *("Z" * port.batched + "".join(letters[leg] for leg in port.legs) for port in graph.inputs),
        *("".join(letters[leg] for leg in tensor.legs) for tensor in graph.tensors),
    ]
    batch = "Z" if any(port.batched for port in graph.inputs) else ""
    y = batch + "".join(letters[leg] for leg in graph.output)
    equation = f"{','.join(terms)}->{y}"
    assert len(cost.path) == max(1, len(operands) - 1)
    path = ["einsum_path", *cost.path]
    np.testing.assert_allclose(
        np.einsum(equation, *operands, optimize=path), np.einsum(equation, *operands, optimize=True)
    )
    info = np.einsum_path(equation, *operands, optimize=path)
    assert info[0] == ["einsum_path", *cost.path]
    return np.einsum(equation, *operands, optimize=path)


PATHS: dict[str, Callable[[], tn.Network | tn.Graph]] = {
    "train": lambda: T.tensor_train((2, 3, 2), (3, 2, 2), rank=3),
    "mera": lambda: T.mera(4, 2, 2),
    "shared": lambda: T.periodic_mera(4, 2, 2, share=True),
    "energy": lambda: tn.energy(T.mps(5, 2, 3), {(1, 2): np.kron(X, Z)})[0],
    "norm": lambda: tn.energy(T.mps(6, 2, 3), {(): 1.0})[0],
    "state": lambda: T.mps(5, 2, 3),
    "hyperedge": lambda: T.cp((2, 3), (4,), rank=3),
}


@pytest.mark.parametrize("name", PATHS)
def test_the_path_is_the_order_of_the_plan(name: str) -> None:
    """Another library comes to the same by it, and its FLOPs are those of the plan at least."""
    net = PATHS[name]()
    graph = net.freeze() if isinstance(net, tn.Network) else net
    cost = tn.cost(net, batch=3, minimize="flops", **OPTIONS)
    generator = np.random.default_rng(0)
    inputs = [
        generator.standard_normal((*([3] if p.batched else []), *graph.shape_of(p.legs)))
        for p in graph.inputs
    ]
    by_path(graph, cost, inputs)


def test_paths_follow_the_plan_step_by_step() -> None:
    """Where nothing is shared the k-th pair has the legs of the k-th step."""
    graph = T.tree(4, 3, 2).freeze()
    cost = tn.cost(graph, batch=5, minimize="flops", **OPTIONS)
    names = dict(cost.plan.names)
    listed: list[set[str]] = [{"b", *graph.inputs[0].legs}, *(set(t.legs) for t in graph.tensors)]
    results = {frozenset(names.get(leg, leg) for leg in s.result.legs) for s in cost.plan.steps}
    for low, high in cost.path:
        second, first = listed.pop(high), listed.pop(low)
        others = set().union(*listed, graph.output, {"b"})
        made = (first | second) & others
        assert frozenset(made) in results
        listed.append(made)
