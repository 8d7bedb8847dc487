"""Padded: between features that the ports do not have, the network's matrix without its edges."""

from __future__ import annotations

import copy
from typing import Any

import numpy as np
import pytest
import torch

import tnlayer as tn
from tnlayer.nn.padded import Padded

pytestmark = pytest.mark.usefixtures("backend")


def make(bias: bool = False) -> Padded:
    """11 -> 10 features on a train between 12 and 12."""
    net = tn.topologies.tensor_train((4, 3), (3, 4), rank=3)
    return Padded(net, 11, 10, bias=bias, dtype=torch.float64, batch=5)


def cores(layer: Padded) -> np.ndarray:
    """The network's whole matrix from its parameters, by numpy."""
    a, b = (layer.get_parameter(f"core_{k}").detach().numpy() for k in range(2))
    return np.einsum("ija,akl->jlik", a, b).reshape(12, 12)


@pytest.mark.parametrize("lead", [(), (5,), (2, 3), (0,)])
@pytest.mark.parametrize("bias", [False, True])
def test_forward(lead: tuple[int, ...], bias: bool) -> None:
    """y = W[:10, :11] x + bias for any leading dimensions."""
    layer = make(bias)
    if layer.bias is not None:
        torch.nn.init.normal_(layer.bias)
    x = torch.randn(*lead, 11, dtype=torch.float64)
    added = 0 if layer.bias is None else layer.bias.detach().numpy()
    expected = x.numpy() @ cores(layer)[:10, :11].T + added
    y = layer(x)
    assert y.shape == (*lead, 10)
    np.testing.assert_allclose(y.detach().numpy(), expected, rtol=1e-12, atol=1e-12)
    np.testing.assert_allclose(
        layer.to_dense().detach().numpy(), cores(layer)[:10, :11], rtol=1e-12, atol=1e-12
    )


def test_gradients() -> None:
    """Gradients of x, bias and all parameters agree with finite differences."""
    layer = make(bias=True)
    names, values = zip(*layer.named_parameters(), strict=True)
    assert set(names) == {"bias", "core_0", "core_1"}
    x = torch.randn(2, 11, dtype=torch.float64, requires_grad=True)

    def run(x: torch.Tensor, *arrays: torch.Tensor) -> torch.Tensor:
        return torch.func.functional_call(layer, dict(zip(names, arrays, strict=True)), (x,))

    assert torch.autograd.gradcheck(run, (x, *values))


def test_variance_is_kept() -> None:
    """Zeros in x do not lower the variance of y, also where the inner layer is reset alone."""
    net = tn.topologies.tensor_train((8, 8), (8, 8), rank=8)
    layer = Padded(net, 40, 64)
    for reset in (layer.reset_parameters, layer.reset_parameters, lambda: None):
        # The squared norm of the part that is used is the number of its rows.
        used = layer.to_dense().detach().double()
        assert float(used.square().sum()) == pytest.approx(64, rel=1e-5)
        reset()


def test_bias_starts_at_zero() -> None:
    """The bias has the features of y, and reset_parameters() sets it to zero again."""
    layer = make(bias=True)
    assert layer.bias is not None
    assert torch.equal(layer.bias, torch.zeros(10, dtype=torch.float64))
    torch.nn.init.ones_(layer.bias)
    layer.reset_parameters()
    assert torch.equal(layer.bias, torch.zeros(10, dtype=torch.float64))


def test_isometries_stay_isometries() -> None:
    """What the user named is not touched: an isometry, an init, a value, a deviation."""
    net = tn.Network()
    net.input(i=8)
    net.output(j=8)
    net.tensor("A", "i j", isometry="i")
    weight = Padded(net, 5, 6, dtype=torch.float64).get_parameter("A").detach()
    torch.testing.assert_close(weight @ weight.T, torch.eye(8, dtype=torch.float64))
    kinds: list[dict[str, Any]] = [{"init": "ones"}, {"value": np.ones((64, 8))}, {"init": 0.0}]
    for kind in kinds:
        net = tn.Network()
        net.input(i=64)
        net.output(j=8)
        net.tensor("A", "i j", **kind)
        given = Padded(net, 16, 8).get_parameter("A")
        assert given.eq(kind.get("init") != 0.0).all()


def test_a_shared_tensor_counts_each_time() -> None:
    """A tensor that is used four times makes up for the padding once, not four times."""
    net = tn.Network()
    net.input(i=64)
    net.output(j=64)
    net.bond(a=64, b=64, c=64)
    net.tensor("A", "i a")
    for name, legs in (("B", "a b"), ("C", "b c"), ("D", "c j")):
        net.tensor(name, legs, share="A")
    layer = Padded(net, 16, 64)
    assert float(layer.to_dense().detach().square().sum()) == pytest.approx(64, rel=1e-4)


def test_it_is_a_module(backend: str) -> None:
    """State, copies, dtype moves and the text of the layer behave."""
    layer, other = make(bias=True), make(bias=True)
    other.load_state_dict(layer.state_dict())
    x = torch.randn(3, 11, dtype=torch.float64)
    assert torch.equal(layer(x), other(x))
    assert torch.equal(copy.deepcopy(layer)(x), layer(x))
    assert layer.float()(x.float()).dtype == torch.float32
    assert "in_features=11 (+1), out_features=10 (+2), bias=True" in repr(layer)
    assert f"{'def' if backend == 'torch' else 'int'} forward(" in layer.source()
    assert "parameters" in layer.explain()


def test_no_padding_of_one_side() -> None:
    """Only the side that differs is padded or cut."""
    net = tn.topologies.low_rank(6, 4, rank=2)
    layer = Padded(net, 6, 3, dtype=torch.float64)
    x = torch.randn(2, 6, dtype=torch.float64)
    whole = tn.Layer(net, dtype=torch.float64)
    whole.load_state_dict(layer.state_dict())
    assert torch.equal(layer(x), whole(x)[:, :3])


def test_wrong_use() -> None:
    """Features beyond the network's, product ports and wrong inputs are errors that say so."""
    net = tn.topologies.low_rank(6, 4, rank=2)
    for features in ((7, 4), (6, 5), (0, 4)):
        with pytest.raises(tn.SpecError, match="expected at least"):
            Padded(net, *features)
    product = tn.Network("product")
    legs = product.input("x", [2, 2])
    product.port("x", product=True)
    product.output(product.tensor("A", legs, out=(4,)))
    with pytest.raises(tn.SpecError, match="one batched input"):
        Padded(product, 3, 3)
    layer = make()
    with pytest.raises(tn.SpecError, match=r"\(\.\.\., 11\), got \(2, 12\)"):
        layer(torch.zeros(2, 12, dtype=torch.float64))
    with pytest.raises(tn.SpecError, match="dtype"):
        layer(torch.zeros(2, 11))


def test_tensors_are_found_by_the_former_name() -> None:
    """Where padding was a module around a layer, users wrote ``padded.layer``."""
    padded = Padded(tn.topologies.low_rank(8, 6, rank=2), 7, 5, backend="torch")
    assert padded.layer.state_dict().keys() == padded.state_dict().keys()
    assert [name for name, _ in padded.named_modules()] == [""]
