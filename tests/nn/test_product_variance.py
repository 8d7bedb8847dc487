"""Product ports: E|y|^2 = 1 over all product states, exactly, against sums that share no code."""

from __future__ import annotations

import itertools
import math
from typing import Any

import numpy as np
import pytest
import torch

import tnlayer as tn
from tnlayer.nn.initialisation import doubled_network

# How far E|y|^2 may be from 1: entries are rounded once; in half precision one tensor makes up for
# it until the logarithm is within 0.1.
TOLERANCE = {
    torch.float64: 1e-9,
    torch.float32: 1e-4,
    torch.complex64: 1e-4,
    torch.bfloat16: 0.11,
}


def mps(sites: int, bond: int, own: str = "A") -> tn.Network:
    """A matrix product state, with the output on the middle site; site 0 is always called A0."""
    net = tn.Network("mps")
    net.port("x", product=True)
    net.input("x", {f"i{k}": 2 for k in range(sites)})
    net.output(j=5)
    net.bond(**{f"a{k}": bond for k in range(1, sites)})
    for k in range(sites):
        left, right = [f"a{k}"] * (k > 0), [f"a{k + 1}"] * (k < sites - 1)
        name = f"{own}{k}" if k else "A0"
        net.tensor(name, [*left, f"i{k}", *["j"] * (k == sites // 2), *right])
    return net


def transferred(layer: tn.Layer, sites: int, pins: dict[int, int] | None = None) -> float:
    """E|y|^2 of :func:`mps` an entry of y, by one transfer matrix a site after another.

    Arguments:
        layer: of such a network.
        sites: of it.
        pins: the index of each fixed local feature, by site.
    """
    pins = pins or {}
    left = np.ones((1, 1), complex)
    log = 0.0
    for k in range(sites):
        array = layer.get_parameter(f"A{k}").detach().to(torch.complex128).numpy()
        ends = (1 if k == 0 else array.shape[0], 1 if k == sites - 1 else array.shape[-1])
        local = 1 if k in pins else 2  # a fixed leg is gone from the array
        array = array.reshape(ends[0], local, -1, ends[1])
        left = np.einsum("ab,aijc,bijd->cd", left, array, array.conj(), optimize=True) / local
        size = np.abs(left).max()
        left, log = left / size, log + math.log(size)
    return float(left[0, 0].real) * math.exp(log) / layer.out_features


@pytest.mark.crossed
@pytest.mark.parametrize("dtype", TOLERANCE, ids=str)
@pytest.mark.parametrize(("sites", "bond"), [(10, 8), (64, 4), (200, 2)])
def test_matrix_product_states(sites: int, bond: int, dtype: torch.dtype) -> None:
    """Each seed gives 1, not only their mean; by samples 64 sites of bond 4 came to 2 ... 400."""
    layer = tn.Layer(mps(sites, bond), dtype=dtype, backend="torch", effort="fast")
    for seed in range(3):
        torch.manual_seed(seed)
        layer.reset_parameters()
        assert transferred(layer, sites) == pytest.approx(1, rel=TOLERANCE[dtype])


@pytest.mark.parametrize("dtype", [torch.float64, torch.complex128], ids=str)
def test_fixed_sites(dtype: torch.dtype) -> None:
    """A fixed local feature is an index that is taken: nothing is averaged there."""
    pins = {0: 1, 7: 0, 19: 1}
    net = mps(20, 3)
    net.fix(**{f"i{k}": index for k, index in pins.items()})
    layer = tn.Layer(net, dtype=dtype, backend="torch", effort="fast")
    assert transferred(layer, 20, pins) == pytest.approx(1)


def irregular() -> tn.Network:
    """A trace, hyperedges, a conjugate, a dense port; a feature in y, one without a tensor."""
    net = tn.Network("irregular")
    net.port("p", product=True)
    net.input("p", {"a": 3, "b": 3, "c": 3, "e": 3})
    net.input("x", {"i": 4})
    net.output(o=2, b=3)
    net.bond(u=2, v=3, w=2, t=2)
    net.sum("e")
    net.tensor("A", "a u v")
    net.tensor("B", "b v w u")
    net.tensor("C", "c t t w")
    net.tensor("D", "a v u", conj=True)
    net.tensor("E", "i o w")
    return net


def brute_force(layer: tn.Layer) -> float:
    """E|y|^2 an entry of y: basis vectors of all ports stand for all x, with 1/d a product leg."""
    found: list[float] = []
    for *local, i in itertools.product(range(3), range(3), range(3), range(3), range(4)):
        p = torch.eye(3, dtype=layer.dtype)[local]
        x = torch.eye(4, dtype=layer.dtype)[i]
        found.append(float(layer(p, x).detach().abs().square().sum()))
    return sum(found) / 3**4 / layer.out_features


@pytest.mark.parametrize("dtype", [torch.float64, torch.complex128], ids=str)
def test_an_irregular_network(dtype: torch.dtype) -> None:
    """All that a graph may have, beside all basis states of all ports."""
    layer = tn.Layer(irregular(), dtype=dtype, backend="torch")
    assert brute_force(layer) == pytest.approx(1)


def test_shared_and_conjugated_tensors() -> None:
    """One matrix at all sites, each second one conjugated."""
    net = tn.Network("tied")
    net.port("x", product=True)
    net.input("x", {f"i{k}": 2 for k in range(6)})
    net.output()
    net.bond(**{f"a{k}": 3 for k in range(6)})
    for k in range(6):
        kind: dict[str, Any] = {"share": "A0", "conj": k % 2 == 1} if k else {}
        net.tensor(f"A{k}", [f"a{k}", f"i{k}", f"a{(k + 1) % 6}"], **kind)
    layer = tn.Layer(net, dtype=torch.complex128, backend="torch")
    states = itertools.product(range(2), repeat=6)
    x = torch.stack([torch.eye(2, dtype=torch.complex128)[[*state]] for state in states])
    assert float(layer(x).detach().abs().square().mean()) == pytest.approx(1)


def test_sums_of_networks() -> None:
    """Two states with a tensor in common: their sum is measured with what is between the two."""
    nets = [mps(6, 3), mps(6, 3, "B")]
    layer = tn.Layer(nets, shared="A0", dtype=torch.float64, backend="torch")
    states = itertools.product(range(2), repeat=6)
    x = torch.stack([torch.eye(2, dtype=torch.float64)[[*state]] for state in states])
    assert float(layer(x).detach().square().mean()) == pytest.approx(1, rel=1e-5)


def test_what_is_too_large_is_sampled(monkeypatch: pytest.MonkeyPatch) -> None:
    """Then E|y|^2 = 1 over the x that were tried, as for a network whose double is small."""
    monkeypatch.setattr(doubled_network, "_MOST_OPERATIONS", 10)
    torch.manual_seed(0)
    layer = tn.Layer(mps(10, 4), dtype=torch.float64, backend="torch", effort="fast")
    found = transferred(layer, 10)
    assert found != pytest.approx(1, rel=1e-3) and 0.3 < found < 3


def test_y_stays_in_the_range_of_the_dtype() -> None:
    """Of 120 sites of bond 2 the x that one meets give far less than the mean over all: y of these
    would be 0 in float16, so that it is the mean over them that is 1."""
    torch.manual_seed(0)
    layer = tn.Layer(mps(120, 2), dtype=torch.float16, backend="torch", effort="fast")
    assert transferred(layer, 120) > 1e3
    x = torch.nn.functional.normalize(torch.randn(50, 120, 2), dim=-1)
    assert layer(x.half()).detach().abs().max() > 0.01
