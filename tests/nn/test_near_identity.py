"""init="identity" and tn.near_identity(): signals pass. And the variance of product ports."""

from __future__ import annotations

import json
import math
from typing import Any

import numpy as np
import pytest
import torch

import tnlayer as tn
from tnlayer import topologies
from tnlayer.errors import SpecError

EXACT = tn.near_identity(noise=0)


def chain(
    sites: int, bond: int, init: Any = None, label: int | None = None, out: int = 3
) -> tn.Network:
    """A matrix product state over local features of size 2, the label on one site or on none."""
    net = tn.Network("mps")
    net.port("x", product=True)
    net.input("x", {f"i{k}": 2 for k in range(sites)})
    net.output(**({} if label is None else {"j": out}))
    net.bond(**{f"a{k}": bond for k in range(1, sites)})
    for k in range(sites):
        left, right = [f"a{k}"] if k else [], [f"a{k + 1}"] if k < sites - 1 else []
        net.tensor(f"A{k}", [*left, f"i{k}", *(["j"] if k == label else []), *right], init=init)
    return net


def binary_tree(levels: int, bond: int, init: Any) -> tn.Network:
    """A tree over product features without isometries: two legs in, one out, a label at the top."""
    net = tn.Network("tree")
    net.port("x", product=True)
    legs = list(net.input([2] * 2**levels))
    while len(legs) > 1:
        size = bond if len(legs) > 2 else 3
        pairs = zip(legs[::2], legs[1::2], strict=True)
        legs = [net.tensor(f"T{len(legs)}_{k}", [*p], out=(size,), init=init)[0]
                for k, p in enumerate(pairs)]  # fmt: skip
    net.output(legs)
    return net


def unit_vectors(samples: int, sites: int) -> torch.Tensor:
    """Vectors of norm 1 in all directions alike."""
    return torch.nn.functional.normalize(torch.randn(samples, sites, 2), dim=-1)


# -- exact identities ------------------------------------------------------------------------------


@pytest.mark.parametrize("rank", [1, 3])
def test_a_square_train_is_the_identity(rank: int) -> None:
    """Without noise y = x, whatever the rank; with noise, y is near x."""
    shape = (4, 3, 2, 4)
    exact = tn.Layer(topologies.tensor_train(shape, shape, rank, init=EXACT), backend="torch")
    assert torch.equal(exact.to_dense(), torch.eye(96))
    torch.manual_seed(0)
    near = tn.Layer(topologies.tensor_train(shape, shape, rank, init="identity"), backend="torch")
    difference = near.to_dense() - torch.eye(96)
    assert 0 < difference.abs().max() < 0.2


def test_a_train_between_shapes_is_a_part_of_the_identity() -> None:
    """Each pair of legs is connected index by index, as far as both go."""
    net = topologies.tensor_train((4, 2), (2, 3), 2, init=EXACT)
    w = tn.Layer(net, backend="torch").to_dense().reshape(2, 3, 4, 2)
    right = torch.einsum("ac,bd->abcd", torch.eye(2, 4), torch.eye(3, 2))
    assert torch.equal(w, right)


def test_a_low_rank_pair_passes_its_first_features() -> None:
    """Tensors without a leg of the other port lead from the input to the bond to the output."""
    net = tn.Network("low rank")
    net.input(i=5)
    net.output(j=4)
    net.bond(a=3)
    net.tensor("V", "a j", init=EXACT)
    net.tensor("U", "i a", init=EXACT)
    right = torch.zeros(4, 5)
    right[range(3), range(3)] = 1
    assert torch.equal(tn.Layer(net, backend="torch").to_dense(), right)


def test_a_ring_gives_its_trace() -> None:
    """A ring of identities is rank times the identity, as the docs say."""
    net = topologies.tensor_ring((4, 4), (4, 4), 3, init=EXACT)
    assert torch.equal(tn.Layer(net, backend="torch").to_dense(), 3 * torch.eye(16))


@pytest.mark.parametrize("bond", [2, 3])
@pytest.mark.parametrize("name", ["tree", "mera"])
def test_trees_and_mera_keep_the_norm(name: str, bond: int) -> None:
    """Their tensors are isometries near the identity. Without noise the legs pass unchanged, in the
    order in which they leave; with noise every tensor is an isometry still."""
    make = getattr(topologies, name)
    w = tn.Layer(make(6, 2, bond, init=EXACT), backend="torch").to_dense()
    torch.testing.assert_close(w.abs().sum(0), torch.ones(64))
    torch.testing.assert_close(w @ w.T, torch.eye(64))
    net = make(6, 2, bond, init=tn.near_identity(noise=0.2))
    layer = tn.Layer(net, backend="torch", dtype=torch.float64)
    for tensor in net.freeze().tensors:
        array = layer.get_parameter(tensor.name).detach()
        side = math.prod(array.shape[: len(tensor.isometry)])
        matrix = array.reshape(side, -1)
        if matrix.shape[0] > matrix.shape[1]:
            matrix = matrix.T
        gram = matrix @ matrix.T
        torch.testing.assert_close(gram, torch.eye(len(gram), dtype=torch.float64))
        assert not torch.equal(gram, torch.eye(len(gram), dtype=torch.float64))


@pytest.mark.parametrize("label", [None, 0, 3, 7])
def test_a_matrix_product_state_multiplies_sums_of_features(label: int | None) -> None:
    """Without noise each y is the product over sites of the sum of the features, wherever the
    label stands."""
    x = torch.rand(5, 8, 2)
    y = tn.Layer(chain(8, 4, EXACT, label), backend="torch")(x)
    right = x.sum(-1).prod(-1, keepdim=True)
    torch.testing.assert_close(y, right.expand_as(y))


def test_a_tree_multiplies_sums_of_features() -> None:
    """The same on a tree of tensors with three bonds."""
    x = torch.rand(5, 8, 2)
    y = tn.Layer(binary_tree(3, 4, EXACT), backend="torch")(x)
    torch.testing.assert_close(y, x.sum(-1).prod(-1, keepdim=True).expand_as(y))


@pytest.mark.parametrize("dtype", [torch.float32, torch.complex64, torch.float16])
def test_noise_has_the_deviation_that_was_asked_for(dtype: torch.dtype) -> None:
    """E|w - identity|^2 is noise^2, half of it in each part of a complex entry."""
    torch.manual_seed(1)
    net = chain(3, 60, tn.near_identity(noise=0.1), 2)
    layer = tn.Layer(net, dtype=dtype, backend="torch")
    entries = layer.get_parameter("A1").detach().to(torch.complex64)
    off = entries - torch.eye(60).unsqueeze(1)
    assert float(off.abs().square().mean().sqrt()) == pytest.approx(0.1, rel=0.03)
    if dtype.is_complex:
        assert float(off.real.square().mean()) == pytest.approx(0.005, rel=0.06)


# -- starts that can train -------------------------------------------------------------------------


@pytest.mark.parametrize("sites", [64, 200])
def test_long_chains_start_at_one(sites: int) -> None:
    """A matrix product state near the identity gives y, and gradients of every core, of the size
    of 1 for features of norm 1 near the first basis vector."""
    torch.manual_seed(2)
    layer = tn.Layer(chain(sites, 8, "identity", sites // 2), backend="torch", effort="fast")
    angles = 0.02 * torch.randn(20, sites)
    y = layer(torch.stack([angles.cos(), angles.sin()], -1))
    assert 0.2 < float(y.detach().square().mean().sqrt()) < 5
    y.square().mean().backward()
    for parameter in layer.parameters():
        assert parameter.grad is not None and 0.01 < float(parameter.grad.norm()) < 100


@pytest.mark.parametrize(("sites", "bond"), [(1, 1), (8, 4), (20, 16)])
def test_product_ports_are_normalised(sites: int, bond: int) -> None:
    """Random cores are scaled so that E|y|^2 = 1 over local features of norm 1: measured here over
    seeds and vectors."""
    found: list[float] = []
    for seed in range(10):
        torch.manual_seed(seed)
        label = sites // 2
        layer = tn.Layer(chain(sites, bond, None, label, out=16), backend="torch", effort="fast")
        with torch.no_grad():
            found.append(float(layer(unit_vectors(2000, sites)).square().mean()))
    assert 0.5 < float(np.median(found)) < 2, found


def test_product_ports_beside_others_are_normalised() -> None:
    """A network with a product port and a dense one: E|y|^2 = 1 for x of variance 1 there."""
    net = tn.Network("both")
    net.port("p", product=True)
    net.input("p", {"a": 3, "b": 3})
    net.input("x", {"i": 20})
    net.output(j=30)
    net.tensor("A", "a b i j")
    torch.manual_seed(3)
    layer = tn.Layer(net, backend="torch")
    p = torch.nn.functional.normalize(torch.randn(5000, 2, 3), dim=-1)
    y = layer(p, torch.randn(5000, 20))
    assert float(y.detach().square().mean()) == pytest.approx(1, rel=0.1)


# -- the value -------------------------------------------------------------------------------------


def test_it_is_a_value() -> None:
    """Graphs with equal noise are equal, others are not; JSON and networkx keep it."""
    one = topologies.tensor_train((2, 2), (2, 2), 2, init=tn.near_identity(noise=0.5))
    same = topologies.tensor_train((2, 2), (2, 2), 2, init=tn.near_identity(0.5))
    other = topologies.tensor_train((2, 2), (2, 2), 2, init=EXACT)
    assert one.freeze() == same.freeze() != other.freeze()
    assert hash(one.freeze()) == hash(same.freeze())
    assert tn.Network.from_json(one.to_json()).freeze() == one.freeze()
    assert tn.Network.from_networkx(one.to_networkx()).freeze() == one.freeze()
    assert repr(tn.near_identity(0.5)) == "near_identity(noise=0.5)"


@pytest.mark.parametrize("noise", [-1.0, math.inf, math.nan, "0.1", True, None])
def test_wrong_noise_is_refused(noise: Any) -> None:
    """Noise has to be a finite deviation: SpecError says so, also out of a document."""
    with pytest.raises(SpecError, match="noise"):
        tn.near_identity(noise=noise)
    document = json.loads(topologies.tensor_train((2,), (2,), 1, init=EXACT).to_json())
    document["tensors"][0]["init"]["near_identity"] = "x" if noise is None else -1
    with pytest.raises(SpecError):
        tn.Network.from_json(json.dumps(document))


def test_a_value_and_the_identity_clash() -> None:
    """A tensor cannot have both; an isometry can."""
    net = tn.Network()
    net.input(i=2)
    net.output(j=2)
    net.tensor("A", "i j", value=np.eye(2), init=EXACT)
    with pytest.raises(SpecError, match="both init and value"):
        net.freeze()
