"""layer.tensors(): what training made of the tensors of a network, by name."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

import tnlayer as tn

T = tn.topologies
X, Z = np.array([[0.0, 1.0], [1.0, 0.0]]), np.diag([1.0, -1.0])
OPTIONS: dict[str, Any] = {
    "shared": True, "backend": "torch", "effort": "fast", "dtype": "float64"
}  # fmt: skip


def energy(net: tn.Network, field: float = 1.0, **options: Any) -> tn.Layer:
    """Two terms on the first two sites."""
    terms = tn.energy(net, {(0, 1): np.kron(-Z, Z), 0: -field * X})
    return tn.Layer(terms, **{**OPTIONS, **options})


def mera() -> tn.Network:
    """A state over four sites, of shared isometries."""
    net = T.periodic_mera(4, 2, 2, share=True)
    net.fix(dict.fromkeys(net.freeze().output, 0))
    return net


def test_they_are_the_parameters() -> None:
    """Live, with gradients; the operator's constants are not among them, nor is a bias."""
    layer = energy(T.mps(3, 2, 2))
    found = layer.tensors()
    assert found.keys() == {"site_0", "site_1", "site_2"}
    assert all(array is layer.get_parameter(name) for name, array in found.items())
    dense = tn.Layer(T.low_rank(6, 4, rank=2), bias=True, backend="torch")
    assert list(dense.tensors()) == ["V", "U"]


def test_frozen_tensors_are_among_them() -> None:
    """Who declared a tensor without a value wants it back; who gave one has it."""
    net = tn.Network("three")
    net.input(i=2)
    net.output(j=2)
    net.bond(a=3, b=3)
    net.tensor("free", "i a")
    net.tensor("frozen", "a b", trainable=False)
    net.tensor("constant", "b j", trainable=False, value=np.ones((3, 2)))
    assert list(tn.Layer(net, backend="torch").tensors()) == ["free", "frozen"]


@pytest.mark.parametrize("kind", ["float64", "complex128"])
def test_kept_isometries_are_tensors(kind: str) -> None:
    """After a step the tensors are isometries, carry gradients to what is trained, and give the
    state whose energy the layer told."""
    torch.manual_seed(0)
    layer = energy(mera(), isometries="keep", dtype=kind)
    optimiser = torch.optim.Adam(layer.parameters(), lr=0.1)
    layer().real.sum().backward()
    optimiser.step()
    found = layer.tensors()
    assert not any("operator" in name or "free" in name for name in found)
    assert all(array.requires_grad for array in found.values())
    psi = tn.Layer(mera(), backend="torch", effort="fast", dtype=kind)
    psi.load_state_dict(found, strict=False)
    vector = psi.to_dense() if psi.graph.inputs else psi()
    flat = vector.detach().numpy().reshape(-1)
    full = np.kron(np.kron(-Z, Z) + np.kron(-X, np.eye(2)), np.eye(4))
    # A state over input legs is contracted with x, not conjugated.
    told = layer().detach().numpy().reshape(())
    np.testing.assert_allclose(flat.conj() @ full @ flat, told, atol=1e-9)


def test_they_go_into_another_layer() -> None:
    """A state that was found for one operator goes on with another, whose terms stay."""
    first, second = energy(T.mps(3, 2, 2)), energy(T.mps(3, 2, 2), field=7.0)
    told = second.get_buffer("operator_1").clone()
    missing = second.load_state_dict(first.tensors(), strict=False)
    assert missing.missing_keys == ["operator_0", "operator_1"] and not missing.unexpected_keys
    assert torch.equal(second.get_buffer("operator_1"), told)
    assert torch.equal(second.get_parameter("site_1"), first.get_parameter("site_1"))
    kept = energy(mera(), isometries="keep")
    again = energy(mera(), isometries="keep", field=2.0)
    again.load_state_dict(kept.tensors(), strict=False)
    for name, array in kept.tensors().items():
        torch.testing.assert_close(again.tensors()[name], array)


def test_checkpoints_have_the_constants_and_load() -> None:
    """A state_dict is the whole layer, as it always was: with the operator's terms."""
    layer, other = energy(T.mps(3, 2, 2)), energy(T.mps(3, 2, 2))
    saved = layer.state_dict()
    assert {"operator_0", "operator_1"} < saved.keys()
    other.load_state_dict(saved)
    assert torch.equal(layer(), other())
