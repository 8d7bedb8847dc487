"""truncate, round and grow: errors as promised, outputs as before, optimizers that go on."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from torch.nn.utils import parametrizations

import tnlayer as tn
from tests.support.small_topologies import NETWORKS
from tnlayer.nn.padded import Padded

T = tn.topologies
SMALL = {
    "train": lambda: T.tensor_train((3, 2, 4), (2, 4, 3), rank=5),
    "tree": lambda: T.tree(4, 2, 4),
    "tucker": lambda: T.tucker((4, 3), (3, 4), rank=3),
    "ring": lambda: T.tensor_ring((4, 4, 2), (2, 4, 4), rank=3),
    "cp": lambda: T.cp((4, 4), (3, 4), rank=5),
    "btt": lambda: T.btt((4, 4), (4, 4), rank=3),
    "kronecker": lambda: T.kronecker((2, 3, 2), (2, 2, 3), rank=3),
}
TREES = ("train", "tree", "tucker")


def made(name: str, dtype: torch.dtype = torch.float64, **options: Any) -> tn.Layer:
    """A layer whose entries depend on nothing else."""
    torch.manual_seed(3)
    return tn.Layer(SMALL[name](), dtype=dtype, backend="torch", effort="fast", **options)


def dense(layer: tn.Layer | Padded) -> np.ndarray:
    """Its matrix."""
    return layer.to_dense().detach().double().numpy()


def distance(one: np.ndarray, other: np.ndarray) -> float:
    """Relative Frobenius norm."""
    return float(np.linalg.norm(one - other) / np.linalg.norm(other))


def count(layer: torch.nn.Module) -> int:
    """Entries of all parameters."""
    return sum(p.numel() for p in layer.parameters())


@pytest.mark.crossed
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("eps", [1e-6, 0.05, 0.3, 0.9])
@pytest.mark.parametrize("name", sorted(SMALL))
def test_round_keeps_its_promise(name: str, eps: float, dtype: torch.dtype) -> None:
    """||W - W'|| <= eps ||W|| as numpy measures it, with no more parameters than before."""
    layer = made(name, dtype)
    before, entries = dense(layer), count(layer)
    assert layer.round(eps) is layer
    assert distance(dense(layer), before) <= eps
    assert count(layer) <= entries
    assert layer.fit is not None
    assert math.isclose(
        distance(dense(layer), before), layer.fit.residual, rel_tol=1e-2, abs_tol=1e-6
    )
    x = torch.randn(5, layer.in_features, dtype=dtype)
    assert torch.allclose(
        layer(x).double(), x.double() @ torch.from_numpy(dense(layer)).mT, atol=1e-4
    )


@pytest.mark.parametrize("name", TREES)
def test_a_tree_that_is_too_large_for_its_rank(name: str) -> None:
    """Grown bonds add nothing: rounding takes them away again, to the same map."""
    layer = made(name)
    before, sizes = dense(layer), dict(layer.graph.leg_sizes)
    layer.grow(bond=9)
    assert distance(dense(layer), before) < 1e-12
    layer.round(1e-9)
    assert distance(dense(layer), before) < 1e-9
    assert all(size <= sizes[leg] for leg, size in layer.graph.leg_sizes)


def test_a_train_is_cut_by_the_singular_values_of_its_unfoldings() -> None:
    """Ranks after rounding are those that numpy's singular values of the dense tensor ask for."""
    layer = made("train")
    before = dense(layer)
    tensor = before.reshape(2, 4, 3, 3, 2, 4).transpose(3, 0, 4, 1, 5, 2)
    for eps in (0.1, 0.4, 0.7):
        other = copy.deepcopy(layer).round(eps)
        first = np.linalg.svd(tensor.reshape(6, 96), compute_uv=False)
        room = eps * np.linalg.norm(before)
        # One bond may take all of the error, both together no more.
        least = next(r for r in range(1, 7) if np.linalg.norm(first[r:]) <= room)
        half = next(r for r in range(1, 7) if np.linalg.norm(first[r:]) <= room / math.sqrt(2))
        sizes = dict(other.graph.leg_sizes)
        assert least <= sizes["b0"] <= half


@pytest.mark.parametrize("name", sorted(SMALL))
def test_a_budget_of_parameters(name: str) -> None:
    """Within the budget, for the first cuts that are; and as near as layer.fit says."""
    layer = made(name)
    before, entries = dense(layer), layer.parameter_count
    layer.truncate(params=entries * 2 // 3)
    assert entries // 4 <= layer.parameter_count <= entries * 2 // 3
    assert layer.fit is not None
    assert math.isclose(distance(dense(layer), before), layer.fit.residual, rel_tol=1e-6)
    assert layer.fit.residual < 1


def test_a_budget_of_time() -> None:
    """The predicted time of the layer's batch is within what was asked for."""
    torch.manual_seed(0)
    layer = tn.Layer(T.low_rank(512, 512, rank=256), batch=256, backend="torch")
    dear = tn.cost(layer.graph, batch=256, effort="fast").fastest.training
    cheap = tn.cost(T.low_rank(512, 512, rank=8), batch=256, effort="fast").fastest.training
    limit = (dear + cheap) / 2
    layer.truncate(time=limit)
    assert tn.cost(layer.graph, batch=256, effort="fast").fastest.training <= limit
    assert 8 <= dict(layer.graph.leg_sizes)["r"] < 256


@pytest.mark.parametrize("name", sorted(NETWORKS))
def test_growing_leaves_all_outputs(name: str) -> None:
    """Each topology in float64: outputs to rounding, and gradients reach the new entries within a
    few steps."""
    torch.manual_seed(1)
    layer = tn.Layer(NETWORKS[name](), dtype=torch.float64, backend="torch", effort="fast")
    x = torch.randn(6, layer.in_features, dtype=torch.float64)
    before, old = layer(x).detach(), {n: p.shape for n, p in layer.named_parameters()}
    layer.grow(bond=6)
    after = layer(x).detach()
    assert float((after - before).norm()) <= 1e-12 * float(before.norm())
    if name in ("butterfly", "monarch"):
        assert old == {n: p.shape for n, p in layer.named_parameters()}
        return
    assert any(p.shape != old[n] for n, p in layer.named_parameters())
    wanted = torch.randn_like(before)
    reached = {n: torch.zeros_like(p, dtype=torch.bool) for n, p in layer.named_parameters()}
    optimizer = torch.optim.SGD(layer.parameters(), lr=1e-3)
    for _ in range(4):
        optimizer.zero_grad()
        (layer(x) - wanted).square().mean().backward()
        for n, p in layer.named_parameters():
            assert p.grad is not None
            reached[n] |= p.grad != 0
        optimizer.step()
    for n, p in layer.named_parameters():
        new = torch.ones_like(p, dtype=torch.bool)
        new[tuple(slice(0, size) for size in old[n])] = False
        assert bool(reached[n][new].all())


@pytest.mark.parametrize("kind", [torch.optim.Adam, torch.optim.SGD, torch.optim.AdamW])
def test_an_optimizer_goes_on(kind: Any) -> None:
    """Handed over, it trains the grown layer with what it knew: one more step moves the old entries
    as it would have moved them, and it holds the new parameters alone."""
    options: dict[str, Any] = {"momentum": 0.9} if kind is torch.optim.SGD else {}

    def step(layer: tn.Layer, optimizer: torch.optim.Optimizer) -> None:
        optimizer.zero_grad()
        x = torch.linspace(-1, 1, 4 * layer.in_features, dtype=torch.float64)
        layer(x.reshape(4, -1)).square().sum().backward()
        optimizer.step()

    layers = [made("train"), made("train")]
    optimizers = [kind(layer.parameters(), lr=1e-3, **options) for layer in layers]
    for layer, optimizer in zip(layers, optimizers, strict=True):
        for _ in range(3):
            step(layer, optimizer)
    grown, plain = layers
    shapes = {n: p.shape for n, p in plain.named_parameters()}
    grown.grow(bond={"b0": 7}, optimizer=optimizers[0])
    held = [p for group in optimizers[0].param_groups for p in group["params"]]
    assert {id(p) for p in held} == {id(p) for p in grown.parameters()}
    for layer, optimizer in zip(layers, optimizers, strict=True):
        step(layer, optimizer)
    for n, p in grown.named_parameters():
        old = p.detach()[tuple(slice(0, size) for size in shapes[n])]
        assert torch.allclose(old, plain.get_parameter(n).detach(), atol=1e-12)
    grown.truncate(tol=0.1, optimizer=optimizers[0])
    held = [p for group in optimizers[0].param_groups for p in group["params"]]
    assert {id(p) for p in held} == {id(p) for p in grown.parameters()}
    step(grown, optimizers[0])


def test_shared_tensors_grow_together() -> None:
    """A chain of one tensor: its bonds have one size, and outputs stay."""
    net = tn.Network("uniform")
    net.input(i0=2, i1=2, i2=2)
    net.output(j0=2, j1=2, j2=2)
    net.bond(a=3, b=3)
    net.tensor("L", "i0 j0 a")
    net.tensor("M", "a i1 j1 b")
    net.tensor("R", "b i2 j2")
    layer = tn.Layer(net, dtype=torch.float64)
    before = dense(layer)
    layer.grow(bond={"a": 5})
    assert distance(dense(layer), before) < 1e-12
    ring = tn.Network("chain")
    ring.input(i0=2, i1=2)
    ring.output(j0=2, j1=2)
    ring.bond(a=3, b=3, c=3)
    ring.tensor("L", "a")
    ring.tensor("M", "a i0 j0 b")
    ring.tensor("N", "b i1 j1 c", share="M")
    ring.tensor("R", "c")
    layer = tn.Layer(ring, dtype=torch.float64)
    before = dense(layer)
    layer.grow(bond={"b": 5})
    assert dict(layer.graph.leg_sizes)["a"] == dict(layer.graph.leg_sizes)["c"] == 5
    assert distance(dense(layer), before) < 1e-12
    layer.truncate(params=layer.parameter_count // 2)
    assert layer.fit is not None
    assert math.isclose(
        distance(dense(layer), before), layer.fit.residual, rel_tol=1e-6, abs_tol=1e-14
    )


def test_sums_and_padded_layers() -> None:
    """A sum of networks, and a padded layer, whose cut features do not count."""
    first, second = T.low_rank(12, 12, rank=4), T.kronecker((3, 4), (4, 3), rank=2)
    layer = tn.Layer([first, second], dtype=torch.float64)
    before = dense(layer)
    layer.grow(bond=5)
    assert distance(dense(layer), before) < 1e-12
    layer.truncate(tol=0.2)
    assert distance(dense(layer), before) <= 0.2
    padded = tn.fit_budget(T.tensor_train, 11, 13, params=200, legs=2).layer(dtype=torch.float64)
    assert isinstance(padded, Padded)
    before = dense(padded)
    assert padded.grow(bond=9) is padded
    assert distance(dense(padded), before) < 1e-12
    padded.round(0.3)
    assert distance(dense(padded), before) <= 0.3
    assert padded.fit is not None
    x = torch.randn(2, 11, dtype=torch.float64)
    assert padded(x).shape == (2, 13)


def test_a_chain_of_200_tensors_is_rounded_without_a_dense_tensor() -> None:
    """Two to the 200 features: cut by its canonical form, and norms stay in range."""
    net = tn.Network("chain")
    net.input("x", [2] * 200)
    net.port("x", product=True)
    net.output()
    net.bond(**{f"b{k}": 6 for k in range(199)})
    for k in range(200):
        bonds = [f"b{k - 1}"] * (k > 0) + [f"b{k}"] * (k < 199)
        net.tensor(f"A{k}", [*bonds, f"x.{k}"])
    layer = tn.Layer(net, effort="fast", backend="torch")
    layer.grow(bond=8)
    layer.round(1e-4)
    assert layer.fit is not None
    assert layer.fit.residual <= 1e-4
    assert max(size for _, size in layer.graph.leg_sizes) <= 6


def test_layers_go_on_after_a_change() -> None:
    """state_dict, deepcopy, compiled kernels and half precision after truncate."""
    layer = tn.Layer(T.tensor_train((8, 8), (8, 8), rank=16), bias=True)
    x = torch.randn(32, 64)
    layer(x)
    layer.truncate(params=1000)
    y = layer(x)
    other = copy.deepcopy(layer)
    other.load_state_dict(layer.state_dict())
    assert torch.allclose(other(x), y, atol=1e-6)
    assert layer.bias is not None
    assert torch.allclose(y, x @ layer.to_dense().mT + layer.bias, atol=1e-5)
    half = tn.Layer(T.low_rank(16, 16, rank=8), dtype=torch.bfloat16).truncate(params=128)
    assert half(torch.ones(2, 16, dtype=torch.bfloat16)).shape == (2, 16)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({}, "exactly one"),
        ({"tol": 0.1, "params": 3}, "exactly one"),
        ({"tol": 0}, "tol=0"),
        ({"tol": float("nan")}, "tol=nan"),
        ({"params": 1}, "too small"),
        ({"params": 2.5}, "whole number"),
        ({"time": -1}, "time=-1"),
        ({"tol": 0.1, "optimizer": 3}, "expected a torch.optim.Optimizer"),
    ],
)
def test_truncations_that_are_refused(options: dict[str, Any], message: str) -> None:
    """Each is named, and the layer is as it was."""
    layer = made("train")
    before = dense(layer)
    with pytest.raises(tn.SpecError, match=message):
        layer.truncate(**options)
    assert np.array_equal(dense(layer), before)


@pytest.mark.parametrize(
    ("bond", "message"),
    [
        ({"b0": 1}, "truncate makes bonds smaller"),
        ({"i0": 9}, "leg of a port"),
        ({"bb": 9}, "unknown"),
        (0, "at least 1"),
        (2.5, "whole number"),
        (2, r"grow: bond=2, and all bonds have .* already.*layer\.truncate makes bonds smaller"),
    ],
)
def test_growth_that_is_refused(bond: Any, message: str) -> None:
    """Legs of ports, unknown ones, smaller sizes, of one leg or of all."""
    with pytest.raises(tn.SpecError, match=message):
        made("train").grow(bond=bond)


def test_bonds_that_are_larger_stay_where_others_grow() -> None:
    """The size is the least that a bond has afterwards; the same size again changes nothing."""
    layer = made("train").grow(bond={"b0": 9})
    sizes = dict(layer.graph.leg_sizes)
    assert sizes["b0"] == 9 > sizes["b1"]
    again = dict(layer.grow(bond=7).grow(bond=7).graph.leg_sizes)
    assert again == {**sizes, "b1": 7}


def test_layers_that_cannot_change() -> None:
    """Parametrized tensors, the meta device, tensors that would be zero at both ends of a bond."""
    layer = made("train")
    parametrizations.weight_norm(layer, "core_0")
    with pytest.raises(tn.SpecError, match="parametrized"):
        layer.grow(bond=9)
    meta = tn.Layer(T.low_rank(8, 8, rank=2), device="meta")
    with pytest.raises(tn.SpecError, match="no entries"):
        meta.truncate(tol=0.1)
    net = tn.Network("square")
    net.input(i=4)
    net.output(j=4)
    net.bond(a=2)
    net.tensor("A", "a i")
    net.tensor("B", "a j", share="A")
    with pytest.raises(tn.SpecError, match="zero at both ends"):
        tn.Layer(net).grow(bond=4)


@pytest.mark.parametrize("options", [{"tol": 0.3}, {"params": 100}])
def test_ctrl_c_leaves_the_layer(options: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    """Ctrl-C in the refit of a network with loops is passed on, and the layer is as it was: what a
    single fit would keep may be far beyond the error that was asked for."""

    def interrupted(*_: object) -> None:
        raise KeyboardInterrupt

    layer = made("ring")
    before, entries = dense(layer), count(layer)
    assert entries > 100
    monkeypatch.setattr("tnlayer.fitting.search._search", interrupted)
    with pytest.raises(KeyboardInterrupt):
        layer.truncate(**options)
    assert count(layer) == entries
    assert np.array_equal(dense(layer), before)


@pytest.mark.parametrize("name", ["Adafactor", "Adagrad", "ASGD", "NAdam", "RMSprop", "Rprop"])
def test_every_optimizer_of_torch_goes_on(name: str) -> None:
    """Whatever it keeps, a number for each entry, sums over rows or numbers for all: it trains the
    grown layer and the truncated one, each tensor of it, to finite entries."""
    layer = made("train")
    optimizer: torch.optim.Optimizer = getattr(torch.optim, name)(layer.parameters(), lr=1e-3)
    x = torch.linspace(-1, 1, 4 * layer.in_features, dtype=torch.float64).reshape(4, -1)
    changes: tuple[Callable[[], object], ...] = (
        lambda: None,
        lambda: layer.grow(7, optimizer=optimizer),
        lambda: layer.truncate(params=60, optimizer=optimizer),
    )
    for change in changes:
        change()
        before = {n: p.detach().clone() for n, p in layer.named_parameters()}
        optimizer.zero_grad()
        layer(x).square().sum().backward()
        optimizer.step()
        for n, p in layer.named_parameters():
            assert bool(torch.isfinite(p).all()), n
            assert not torch.equal(p, before[n]), n


def test_lbfgs_is_refused() -> None:
    """It keeps vectors as long as all parameters, and a list of the old ones: it would go on with
    these, in silence."""
    layer = made("train")
    optimizer = torch.optim.LBFGS(layer.parameters())
    before = count(layer)
    for change in (
        lambda: layer.grow(7, optimizer=optimizer),
        lambda: layer.truncate(params=60, optimizer=optimizer),
    ):
        with pytest.raises(tn.SpecError, match="LBFGS"):
            change()
    assert count(layer) == before
