"""Initialisation: variance is preserved for any topology; isometries are isometric."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch

import tnlayer as tn

T = tn.topologies
NETWORKS: dict[str, Callable[[], tn.Network]] = {
    "tensor_train, 12 legs": lambda: T.tensor_train([2] * 12, [2] * 12, rank=4),
    "tensor_train, 3 legs": lambda: T.tensor_train((8, 8, 8), (4, 8, 16), rank=16),
    "tensor_ring": lambda: T.tensor_ring((4, 4, 4), (4, 4, 4), rank=3),
    "tucker": lambda: T.tucker((8, 8), (8, 8), rank=4),
    "cp": lambda: T.cp((8, 8, 8), (4, 4, 4), rank=5),
    "block_term": lambda: T.block_term((8, 8), (8, 8), 3, 2),
    "low_rank": lambda: T.low_rank(300, 200, rank=7),
    "kronecker": lambda: T.kronecker((8, 8), (8, 8), rank=3),
    "btt": lambda: T.btt((16, 16), (16, 16), rank=3),
    "butterfly": lambda: T.butterfly(256),
    "peps": lambda: T.peps(3, 3, 2, 3),
}


@pytest.mark.parametrize("dtype", [torch.float32, torch.complex64], ids=str)
@pytest.mark.parametrize("name", NETWORKS)
def test_variance_is_preserved(name: str, dtype: torch.dtype) -> None:
    """The mean of |y|^2 is that of |x|^2, within the scatter of a probe."""
    layer = tn.Layer(NETWORKS[name](), dtype=dtype)
    x = torch.randn(400, layer.in_features, dtype=dtype)
    with torch.no_grad():
        gain = float(layer(x).abs().square().mean() / x.abs().square().mean())
    assert 0.75 < gain < 1.33


@pytest.mark.usefixtures("backend")
def test_isometries_are_isometric() -> None:
    """Each tensor of a MERA of bond 2 is orthogonal, so the layer keeps the norm of x."""
    layer = tn.Layer(T.mera(8, 2, 2), dtype=torch.float64)
    for array in layer.parameters():
        matrix = array.detach().reshape(4, 4)
        assert torch.allclose(matrix @ matrix.T, torch.eye(4, dtype=torch.float64), atol=1e-12)
    x = torch.randn(5, 256, dtype=torch.float64)
    assert torch.allclose(layer(x).norm(dim=1), x.norm(dim=1))


def test_the_smaller_side_is_orthonormal() -> None:
    """Also if the named legs are not the first ones, and in complex."""
    net = tn.Network()
    net.input(i=3)
    net.output(j=5, k=2)
    net.tensor("A", "j i k", isometry="i")
    layer = tn.Layer(net, dtype=torch.complex128)
    array = next(layer.parameters()).detach().permute(1, 0, 2).reshape(3, 10)
    assert torch.allclose(array @ array.mH, torch.eye(3, dtype=torch.complex128), atol=1e-12)


def test_fixed_legs_are_cut_after_initialisation() -> None:
    """An isometry is drawn at full shape, then sliced; a value is sliced at the pinned index."""
    full = np.arange(12.0).reshape(3, 4)
    net = tn.Network()
    net.input(i=3)
    net.output(j=4)
    net.tensor("A", "i j", value=full)
    net.fix(j=2)
    layer = tn.Layer(net, dtype=torch.float64)
    assert layer.state_dict()["A"].tolist() == full[:, 2].tolist()


def test_named_inits() -> None:
    """zeros, ones, eye, a standard deviation, a registered name and a callable do what they say."""
    tn.register_initialiser("sevens_of_this_test", lambda tensor: tensor.fill_(7))
    inits = {
        "zeros": "zeros",
        "ones": "ones",
        "eye": "eye",
        "small": 0.01,
        "named": "sevens_of_this_test",
        "called": lambda tensor: tensor.fill_(3),
    }
    net = tn.Network()
    (wire,) = net.input([40])
    for name, init in inits.items():
        (wire,) = net.tensor(name, (wire,), out=(40,), init=init)
    net.output((wire,))
    state = tn.Layer(net).state_dict()
    assert state["zeros"].eq(0).all()
    assert state["ones"].eq(1).all()
    assert state["eye"].equal(torch.eye(40))
    assert 0.009 < float(state["small"].std()) < 0.011
    assert state["named"].eq(7).all()
    assert state["called"].eq(3).all()
    with pytest.raises(tn.SpecError, match="registered already"):
        tn.register_initialiser("zeros", lambda tensor: tensor)


def _with_init(init: Any) -> tn.Network:
    net = tn.Network("one")
    net.input(i=3)
    net.output(j=4)
    net.tensor("A", "j i", init=init)
    return net


def test_an_initialiser_may_give_its_tensor() -> None:
    """One that returns a tensor of the shape, and touches no argument, is as good."""
    layer = tn.Layer(_with_init(lambda t: torch.full_like(t, 5)), backend="torch")
    assert layer.A.eq(5).all()
    layer = tn.Layer(_with_init(torch.nn.init.zeros_), backend="torch")
    assert layer.A.eq(0).all()


def _first_row(tensor: torch.Tensor) -> None:
    tensor[0] = 1


@pytest.mark.parametrize(
    ("init", "message"),
    [
        (_first_row, "tensor 'A': the initialiser '_first_row' left 9 of 12 entries unfilled"),
        (lambda _: None, "'<lambda>' left 12 of 12 entries unfilled, or NaN; fill its argument"),
        (lambda _: torch.ones(3), r"gave a tensor of shape \(3,\), expected \(4, 3\); give one"),
    ],
)
def test_an_initialiser_that_fills_nothing_is_told(init: Any, message: str) -> None:
    """Entries that nobody filled are never what memory held before."""
    with pytest.raises(tn.SpecError, match=message):
        tn.Layer(_with_init(init), backend="torch")


def test_a_cell_that_runs_again_registers_again() -> None:
    """A function of the same place and name takes the name; another one does not."""

    def define(value: float) -> Any:
        def filled(tensor: torch.Tensor) -> None:
            tensor.fill_(value)

        return filled

    tn.register_initialiser("of_a_cell", define(1))
    tn.register_initialiser("of_a_cell", define(2))
    assert tn.Layer(_with_init("of_a_cell"), backend="torch").A.eq(2).all()
    with pytest.raises(tn.SpecError, match="registered already"):
        tn.register_initialiser("of_a_cell", torch.nn.init.zeros_)


@pytest.mark.usefixtures("backend")
def test_summed_networks_share_the_variance() -> None:
    """Of two networks each gives half of the variance of y."""
    one, two = T.low_rank(200, 200, rank=20), T.tensor_train((10, 20), (20, 10), rank=6)
    layer = tn.Layer([one, two])
    x = torch.randn(300, 200)
    with torch.no_grad():
        assert 0.75 < float(layer(x).square().mean()) < 1.33


def test_the_seed_decides() -> None:
    """The same seed gives the same entries, another seed others; nothing depends on the batch."""

    def entries(seed: int, batch: int) -> torch.Tensor:
        torch.manual_seed(seed)
        layer = tn.Layer(T.tensor_train((4, 4), (4, 4), rank=2), batch=batch)
        return torch.cat([p.detach().flatten() for p in layer.parameters()])

    assert entries(1, 16).equal(entries(1, 16))
    assert torch.allclose(entries(1, 16), entries(1, 4096), rtol=1e-4)
    assert not entries(1, 16).equal(entries(2, 16))
    assert math.isfinite(float(entries(1, 16).sum()))
