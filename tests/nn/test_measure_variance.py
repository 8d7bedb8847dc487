"""Var(y) = Var(x) at the start: every topology, depth and dtype, and scales far from 1."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

import tnlayer as tn
from tnlayer.graph.canonical import canonicalise
from tnlayer.graph.graph import Graph
from tnlayer.ir.plan import Plan
from tnlayer.ir.steps import BATCH, Contract
from tnlayer.nn.initialisation.initialise import initialise
from tnlayer.nn.initialisation.log_scale_run import LogScaled, log_scaled
from tnlayer.nn.initialisation.measure_variance import Part, Planned, measure
from tnlayer.planning.plan_of_order import make_plan

T = tn.topologies
DTYPES = [
    torch.float16, torch.bfloat16, torch.float32, torch.float64, torch.complex64, torch.complex128,
]  # fmt: skip
TOPOLOGIES: dict[str, Callable[[], tn.Network]] = {
    "tensor_train": lambda: T.tensor_train((4, 2, 4), (2, 4, 4), rank=3),
    "tensor_ring": lambda: T.tensor_ring((4, 4), (4, 4), rank=3),
    "tree": lambda: T.tree(5, 2, 3),
    "tree of one size": lambda: T.tree(4, 2, 2),
    "tree, large bonds": lambda: T.tree(6, 2, 5),
    "tree, fixed": lambda: T.tree(6, 2, 3, fix_first_level=True),
    "mera": lambda: T.mera(5, 2, 3),
    "mera of one size": lambda: T.mera(4, 2, 2),
    "mera, fixed": lambda: T.mera(6, 2, 2, fix_first_level=True),
    "tucker": lambda: T.tucker((6, 6), (6, 6), rank=3),
    "cp": lambda: T.cp((4, 4), (4, 4), rank=3),
    "block_term": lambda: T.block_term((6, 6), (6, 6), 2, 2),
    "kronecker": lambda: T.kronecker((6, 6), (6, 6), rank=2),
    "low_rank": lambda: T.low_rank(40, 30, rank=3),
    "monarch": lambda: T.monarch((6, 6), (6, 6)),
    "btt": lambda: T.btt((6, 6), (6, 6), rank=2),
    "butterfly": lambda: T.butterfly(64),
    "peps": lambda: T.peps(2, 3, 2, 2),
    "brickwall": lambda: T.brickwall(5, 2, 3),
}


def chain(cores: int, rank: int = 2) -> tn.Network:
    """Matrices in a row, six of them with a leg in and one out."""
    net = tn.Network("chain")
    ports = range(0, cores, max(1, cores // 5))
    net.input(**{f"i{k}": 2 for k in ports})
    net.output(**{f"j{k}": 2 for k in ports})
    net.bond(**{f"b{k}": rank for k in range(cores - 1)})
    for k in range(cores):
        bonds = [f"b{k - 1}"] * (k > 0), [f"b{k}"] * (k < cores - 1)
        net.tensor(f"A{k}", [*bonds[0], *([f"i{k}", f"j{k}"] if k in ports else []), *bonds[1]])
    return net


def mean_square(array: torch.Tensor) -> float:
    """The mean of |entry|^2, in float64."""
    return float(array.detach().to(torch.complex128).abs().square().mean())


def norms(layer: nn.Module) -> list[float]:
    """|gradient| x |parameter| of each parameter: of one size in a chain, whatever its scales."""
    found: list[float] = []
    for parameter in layer.parameters():
        assert parameter.grad is not None
        sizes = mean_square(parameter.grad), mean_square(parameter)
        found.append(parameter.numel() * math.sqrt(sizes[0] * sizes[1]))
    return found


def gains_of(layer: Any, dtype: torch.dtype, seeds: int = 20) -> list[float]:
    """Mean |y|^2 / mean |x|^2 after resets; each parameter's gradient is neither 0 nor inf."""
    found: list[float] = []
    for seed in range(seeds):
        torch.manual_seed(seed)
        layer.reset_parameters()
        layer.zero_grad()
        x = torch.randn(256, layer.in_features, dtype=dtype)
        y = layer(x)
        found.append(mean_square(y) / mean_square(x))
        y.abs().float().square().mean().backward()
        assert all(0 < norm < math.inf for norm in norms(layer))
    return found


@pytest.mark.crossed
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("name", TOPOLOGIES)
def test_topologies(name: str, dtype: torch.dtype) -> None:
    """The mean over 20 seeds, and each single one, for every topology and dtype."""
    layer = tn.Layer(TOPOLOGIES[name](), backend="torch", effort="fast", dtype=dtype)
    gains = gains_of(layer, dtype)
    assert 0.8 < np.mean(gains) < 1.25
    assert 0.5 < min(gains) <= max(gains) < 2


@pytest.mark.parametrize("name", ["mera", "tree", "brickwall", "tensor_train", "cp", "low_rank"])
@pytest.mark.parametrize("features", [(2, 300), (70, 5), (13, 37)], ids=str)
def test_fitted_layers(name: str, features: tuple[int, int]) -> None:
    """Layers of fit_budget, padded or not: for the features that x and y have."""
    fit = tn.fit_budget(getattr(T, name), *features, params=500 + 2 * sum(features), effort="fast")
    layer = fit.layer(backend="torch", effort="fast")
    gains = gains_of(layer, torch.float32, seeds=5)
    assert 0.7 < np.mean(gains) < 1.4


@pytest.mark.parametrize("name", ["mera of one size", "tree of one size", "brickwall"])
def test_orthogonal_maps_stay_orthogonal(name: str) -> None:
    """Where all gates are square the scale is 1: the whole map keeps the norm of every x."""
    layer = tn.Layer(TOPOLOGIES[name](), backend="torch", dtype=torch.float64)
    weight = layer.to_dense().detach()
    torch.testing.assert_close(weight @ weight.T, torch.eye(len(weight), dtype=torch.float64))


@pytest.mark.parametrize("net", [T.mera(12, 2, 2), T.brickwall(11, 2, 2)], ids=["mera", "bricks"])
def test_a_probe_finds_orthogonal_maps_exactly(net: tn.Network) -> None:
    """With more features than are tried one by one the scale of an orthogonal map is 1 too."""
    layer = tn.Layer(net, backend="torch", effort="fast", dtype=torch.float64)
    x = torch.randn(3, layer.in_features, dtype=torch.float64)
    torch.testing.assert_close(layer(x).norm(dim=1), x.norm(dim=1))


def test_a_scaled_isometry_is_a_multiple_of_one() -> None:
    """isometry= with init="scaled": A* A is c times the identity, and c gives Var(y) = Var(x)."""
    net = tn.Network()
    net.input(i=6)
    net.output(j=4)
    net.bond(a=4)
    net.tensor("A", "i a", isometry="i", init="scaled")
    net.tensor("B", "a j", isometry="a")
    layer = tn.Layer(net, dtype=torch.complex128)
    a, b = (layer.get_parameter(name).detach() for name in "AB")
    one = torch.eye(4, dtype=torch.complex128)
    torch.testing.assert_close(a.mH @ a, one)  # W*W has trace 4, for 4 features out
    torch.testing.assert_close(b.mH @ b, one)
    net.fix(i=2)
    layer = tn.Layer(net, dtype=torch.complex128)
    assert mean_square(layer.to_dense()) * layer.in_features == pytest.approx(1)
    torch.testing.assert_close(layer.get_parameter("B").mH @ layer.get_parameter("B"), one)


@pytest.mark.parametrize("options", [{}, {"isometry": "i", "value": np.eye(3)}], ids=["alone", "v"])
def test_scaled_goes_with_an_isometry(options: dict[str, Any]) -> None:
    """init="scaled" without an isometry, or beside a value, is refused when the net is frozen."""
    net = tn.Network()
    net.input(i=3)
    net.output(j=3)
    net.tensor("A", "i j", init="scaled", **options)
    with pytest.raises(tn.SpecError, match=r"'A'.*(scales an isometry|both init and value)"):
        net.freeze()


def test_scaled_isometries_survive_json_and_networkx() -> None:
    """Both flags are content of the network, and no initialiser may take the name."""
    net = T.tree(4, 2, 3)
    graph = net.freeze()
    assert tn.Network.from_json(net.to_json()).freeze() == graph
    assert tn.Network.from_networkx(net.to_networkx()).freeze() == graph
    with pytest.raises(tn.SpecError, match="registered already"):
        tn.register_initialiser("scaled", lambda tensor: tensor)


# -- far from 1 ------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", [torch.float16, torch.float32, torch.complex64], ids=str)
def test_a_chain_of_200_cores(dtype: torch.dtype) -> None:
    """It starts with Var(y) = Var(x), and all its cores learn: the last as well as the first."""
    layer = tn.Layer(chain(200), backend="torch", effort="fast", dtype=dtype)
    gains = gains_of(layer, dtype, seeds=3)
    assert 0.5 < min(gains) <= max(gains) < 2
    sizes = norms(layer)
    assert 0.02 < sizes[0] / sizes[-1] < 50


def planned(graph: Graph) -> Planned:
    """A graph with a plan that nobody ranked: what takes long for very long chains."""
    form = canonicalise(graph)
    plan = make_plan(form.graph, effort="fast")
    user = {canonical: name for name, canonical in form.tensor_names.items()}
    return Planned(graph, plan, tuple(user[value.name] for value in plan.parameters))


def run_plainly(
    network: Planned, x: torch.Tensor, arrays: Mapping[str, torch.Tensor]
) -> torch.Tensor:
    """A plan of contractions alone, in the dtype of the arrays, by matmul on two merged legs."""
    plan: Plan = network.plan
    sizes = {**plan.sizes, BATCH: len(x)}
    port = plan.ports[0]
    values = {port.name: x.reshape([sizes[leg] for leg in port.legs])}
    pairs = zip(plan.parameters, network.names, strict=True)
    values |= {value.name: arrays[name] for value, name in pairs}
    for step in plan.steps:
        assert isinstance(step, Contract)
        left, right = step.left.legs, step.right.legs
        summed = [leg for leg in left if leg in right and leg not in step.result.legs]
        assert set(left) & set(right) == set(summed)
        axes = [[legs.index(leg) for leg in summed] for legs in (left, right)]
        operands = values[step.left.value.name], values[step.right.value.name]
        made = torch.tensordot(*operands, dims=(axes[0], axes[1]))  # pyright: ignore
        legs = [leg for leg in (*left, *right) if leg not in summed]
        values[step.result.name] = made.permute([legs.index(leg) for leg in step.result.legs])
    output = plan.outputs[0]
    order = [output.operand.legs.index(leg) for leg in output.legs]
    return values[output.operand.value.name].permute(order).reshape(len(x), -1)


@pytest.mark.full
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("cores", [200, 1000])
def test_very_long_chains(cores: int, dtype: torch.dtype) -> None:
    """1,000 cores in every dtype: the plan that was initialised gives y of the variance of x."""
    graph = chain(cores).freeze()
    network = planned(graph)
    gains: list[float] = []
    for seed in range(20):
        torch.manual_seed(seed)
        arrays = {p.name: nn.Parameter(torch.empty(p.shape, dtype=dtype)) for p in graph.parameters}
        initialise([network], arrays)
        x = torch.randn(256, graph.in_features, dtype=dtype)
        y = run_plainly(network, x, arrays)
        gains.append(mean_square(y) / mean_square(x))
        y.abs().float().square().mean().backward()
        sizes = norms(nn.ParameterDict(arrays))
        assert all(0 < size < math.inf for size in sizes)
        assert 1e-3 < sizes[0] / sizes[-1] < 1e3
    assert 0.5 < np.mean(gains) < 2


@pytest.mark.parametrize("dtype", [torch.float16, torch.float64], ids=str)
def test_values_of_long_chains_keep_to_the_range(dtype: torch.dtype) -> None:
    """In half precision scales are balanced, so that no value of the plan is near an end of it."""
    graph = chain(120, rank=1).freeze()
    network = planned(graph)
    info = torch.finfo(torch.float16)
    outside = 0
    for seed in range(5):
        torch.manual_seed(seed)
        arrays = {p.name: torch.empty(p.shape, dtype=dtype) for p in graph.parameters}
        initialise([network], arrays)
        stored = {name: log_scaled(array) for name, array in arrays.items()}
        measured = measure([network], stored)
        assert measured.log_gain == pytest.approx(0, abs=0.7 if dtype == torch.float16 else 1e-9)
        for size in measured.sizes[0].values():
            inside = info.smallest_normal < math.exp(size.mean_square / 2) < info.max / 8
            outside += not inside
    # In float64 the same seeds leave the range of half precision.
    assert (outside == 0) == (dtype == torch.float16)


@pytest.mark.parametrize("factor", [1e30, 1e-30])
@pytest.mark.parametrize("count", [1, 250])
def test_constants_far_from_1(factor: float, count: int) -> None:
    """Free tensors make up for constants, however many: y has the variance of x, in float32."""
    net = tn.Network()
    (wire,) = net.input([3])
    constant = factor * np.eye(3)
    for k in range(count):
        (wire,) = net.tensor(f"C{k}", (wire,), out=(3,), value=constant, trainable=False)
        (wire,) = net.tensor(f"A{k}", (wire,), out=(3,))
    net.output((wire,))
    graph = net.freeze()
    network = planned(graph)
    arrays = {p.name: torch.empty(p.shape) for p in graph.parameters}
    initialise([network], arrays)
    assert all(array.isfinite().all() and array.any() for array in arrays.values())
    if count == 1:
        gain = mean_square(tn.Layer(net, backend="torch").to_dense()) * 3
        assert gain == pytest.approx(1, rel=1e-5)
    stored = {name: log_scaled(array) for name, array in arrays.items()}
    assert measure([network], stored).log_gain == pytest.approx(0, abs=1e-3)


def test_250_constant_gates() -> None:
    """The product of their mean squares is below 1e-308: a layer all the same."""
    net = tn.Network()
    (wire,) = net.input([16])
    gate = np.linalg.qr(np.random.default_rng(0).normal(size=(16, 16)))[0]
    for k in range(250):
        (wire,) = net.tensor(f"C{k}", (wire,), out=(16,), value=gate, trainable=False)
    (wire,) = net.tensor("A", (wire,), out=(16,))
    net.output((wire,))
    layer = tn.Layer(net, backend="torch", effort="fast")
    assert mean_square(layer.to_dense()) * 16 == pytest.approx(1, rel=1e-4)


def test_a_constant_ring_is_made_and_gives_its_trace() -> None:
    """A matrix with a value, used 60 times, and nothing free: no initialisation is asked for."""
    matrix = np.array([[math.e, 1 / math.e], [1 / math.e, math.e]]) * 100
    net = tn.Network("ring")
    net.output()
    net.bond(**{f"s{k}": 2 for k in range(60)})
    for k in range(60):
        kind: dict[str, Any] = {"share": "W0"} if k else {"value": matrix}
        net.tensor(f"W{k}", [f"s{k}", f"s{(k + 1) % 60}"], **kind)
    layer = tn.Layer(net, dtype=torch.float64, backend="torch", effort="fast")
    expected = np.trace(np.linalg.matrix_power(matrix, 60))
    np.testing.assert_allclose(layer().item(), expected, rtol=1e-12)


def test_no_scale_can_help() -> None:
    """Two constants of 1e30 beside each other in float32: a typed error with names and numbers."""
    net = tn.Network("hot")
    net.input(i=3)
    net.output(j=3)
    net.bond(a=2, b=2)
    net.tensor("C", "a b", value=np.full((2, 2), 1e30), trainable=False)
    net.tensor("D", "b a", value=np.full((2, 2), 1e30), trainable=False)
    net.tensor("A", "i j")
    with pytest.raises(tn.SpecError, match=r"(?s)'hot'.*C, D.*1e6[01].*free tensors \(A\).*dtype"):
        tn.Layer(net, backend="torch")
    layer = tn.Layer(net, backend="torch", dtype=torch.float64)
    assert mean_square(layer.to_dense()) * 3 == pytest.approx(1)


@pytest.mark.parametrize("size", [1e6, 1e-9])
def test_a_value_that_half_precision_does_not_hold(size: float) -> None:
    """It would become inf or 0 without a word; the error names the tensor, size and dtype."""
    kinds: list[dict[str, Any]] = [{"value": np.full((3, 3), size)}, {"init": size}]
    for options in kinds:
        net = tn.Network()
        net.input(i=3)
        net.output(j=3)
        net.tensor("A", "i j", **options)
        with pytest.raises(tn.SpecError, match=r"'A': (value|init).*e[+-]0.*float16"):
            tn.Layer(net, dtype=torch.float16, backend="torch")


def test_what_cannot_be_measured_raises_nothing() -> None:
    """Constants of inf or nan, or of zeros, leave free tensors finite."""
    for entry in (math.inf, math.nan, 0.0):
        net = tn.Network()
        net.input(i=3)
        net.output(j=3)
        net.bond(a=3)
        net.tensor("C", "i a", value=np.full((3, 3), entry), trainable=False)
        net.tensor("A", "a j")
        layer = tn.Layer(net, backend="torch")
        weight = layer.get_parameter("A")
        assert weight.isfinite().all() and weight.any()


def test_measured_in_parts_of_a_batch(monkeypatch: pytest.MonkeyPatch) -> None:
    """Basis states pass a few at a time where values are large; the mean is the same."""
    graph = T.tensor_train((4, 5), (3, 4), rank=3).freeze()
    network = planned(graph)
    arrays = {p.name: torch.randn(p.shape, dtype=torch.float64) for p in graph.parameters}
    stored: dict[str, LogScaled] = {name: log_scaled(array) for name, array in arrays.items()}
    whole = [measure([network], stored, part) for part in (Part(), Part(7, 5))]
    monkeypatch.setattr("tnlayer.nn.initialisation.measure_variance._VALUE_ENTRIES", 100)
    parts = [measure([network], stored, part) for part in (Part(), Part(7, 5))]
    dense = run_plainly(network, torch.eye(20, dtype=torch.float64), arrays)
    exact = [float(dense.square().sum()) / 12, float(dense[:7, :5].square().sum()) / 5]
    for found in (whole, parts):
        assert [one.log_gain for one in found] == pytest.approx([math.log(e) for e in exact])
    assert whole[0].sizes[0].keys() == parts[0].sizes[0].keys()


def test_several_inputs() -> None:
    """A bilinear map, and one with a port that has no batch: for random inputs of each."""
    for batched in (True, False):
        net = tn.Network()
        net.input("x", {"i": 30})
        net.input("c", {"k": 20})
        net.port("c", batched=batched)
        net.output(o=40)
        net.tensor("W", "i k o")
        gains: list[float] = []
        for _ in range(10):
            layer = tn.Layer(net, backend="torch")
            x, c = torch.randn(200, 30), torch.randn(*([200] if batched else []), 20)
            gains.append(mean_square(layer(x, c)))
        assert 0.7 < np.mean(gains) < 1.4
