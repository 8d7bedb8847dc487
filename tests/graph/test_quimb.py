"""quimb's own networks as layers, and back; where quimb is installed (`pip install quimb`)."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import tnlayer as tn
from tnlayer import topologies as T

quimb: Any = pytest.importorskip("quimb.tensor")

Case = tuple[Any, list[str], list[str]]


def chain(made: Any) -> Case:
    """A matrix product operator: k enters, b leaves."""
    sites = range(made.L)
    return made, [f"k{site}" for site in sites], [f"b{site}" for site in sites]


def circuit() -> Case:
    """A unitary of gates, whose open indices quimb does not list in the order of the qubits."""
    gates = quimb.Circuit(4)
    for qubit in range(3):
        gates.h(qubit)
        gates.cnot(qubit, qubit + 1)
    gates.rz(0.3, 2)
    qubits = range(4)
    return gates.get_uni(), [f"b{q}" for q in qubits], [f"k{q}" for q in qubits]


def hyperedge() -> Case:
    """One index of three tensors."""
    generator = np.random.default_rng(0)
    tensors = [
        quimb.Tensor(generator.random((3, size)), ("r", name), tags=name.upper())
        for name, size in (("a", 4), ("b", 5), ("c", 2))
    ]
    return quimb.TensorNetwork(tensors), ["a"], ["b", "c"]


def grid() -> Case:
    """A state on a grid: nothing enters."""
    made = quimb.PEPS.rand(2, 3, bond_dim=2, phys_dim=2, dtype="float64", seed=0)
    return made, [], list(made.site_inds)


def equalised() -> Case:
    """Tensors of norm 1: what they lost is in the network's exponent."""
    made, inputs, output = chain(quimb.MPO_rand(5, 4, phys_dim=2, dtype="float64", seed=0) * 1e9)
    made.equalize_norms_(1.0)
    assert made.exponent > 9
    return made, inputs, output


NETWORKS: dict[str, Callable[[], Case]] = {
    "random operator": lambda: chain(quimb.MPO_rand(5, 4, phys_dim=2, dtype="float64", seed=0)),
    "complex": lambda: chain(quimb.MPO_rand(4, 3, phys_dim=2, dtype="complex128", seed=0)),
    "Ising Hamiltonian": lambda: chain(quimb.MPO_ham_ising(6)),
    "circuit": circuit,
    "hyperedge": hyperedge,
    "grid": grid,
    "equalised norms": equalised,
}


@pytest.mark.parametrize("name", NETWORKS)
def test_quimbs_networks_are_the_maps_that_quimb_gives(name: str) -> None:
    """Entry by entry, in float64 or complex128."""
    made, inputs, output = NETWORKS[name]()
    net = tn.Network.from_quimb(made, inputs=inputs, output=output)
    layer = tn.Layer(net, dtype="complex128", bias=False, backend="torch")
    whole = made.contract(output_inds=(*output, *inputs)).data
    found = layer().reshape(-1, 1) if not inputs else layer.to_dense()
    expected = whole.reshape(found.shape)
    np.testing.assert_allclose(found.detach().numpy(), expected, rtol=1e-9, atol=1e-12)


def test_a_mera_brings_its_isometries() -> None:
    """Each tensor but the top, of which quimb makes a state of norm 2; they can be kept, and
    cancel in an energy."""
    made = quimb.MERA.rand(8, max_bond=4, phys_dim=2, dtype="float64", seed=0)
    net = tn.Network.from_quimb(made, output=[f"k{site}" for site in range(8)])
    tensors = net.freeze().tensors
    assert [bool(tensor.isometry) for tensor in tensors] == [True] * 13 + [False]
    layer = tn.Layer(net, isometries="keep", dtype="float64", bias=False, backend="torch")
    whole = made.contract(output_inds=[f"k{site}" for site in range(8)]).data.reshape(1, -1)
    np.testing.assert_allclose(layer().detach().reshape(1, -1), whole, rtol=1e-9, atol=1e-12)
    one = tn.energy(net, {3: np.eye(2)}, isometric=True)[0]
    assert len(one.tensors) < len(tn.energy(net, {3: np.eye(2)})[0].tensors) - 10
    found = tn.Layer(one, dtype="float64", backend="torch", effort="fast")()
    np.testing.assert_allclose(found.item(), 2.0)


@pytest.mark.parametrize(
    "net", [T.mera(6), T.cp((2, 4), (4, 2), 3), T.tensor_ring((2, 2), (2, 2), 2)]
)
def test_topologies_go_to_quimb(net: tn.Network) -> None:
    """quimb contracts them to the dense map, hyperedges too."""
    layer = tn.Layer(net, dtype="float64", bias=False, backend="torch")
    made = net.to_quimb(dict(layer.named_parameters()))
    graph = layer.graph
    whole = made.contract(output_inds=(*graph.output, *graph.inputs[0].legs)).data
    expected = layer.to_dense().detach().numpy()
    np.testing.assert_allclose(whole.reshape(expected.shape), expected, rtol=1e-8, atol=1e-10)
