"""Plain networkx graphs and quimb's networks as networks, against numpy."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import networkx
import numpy as np
import pytest

import tnlayer as tn
from tests.support import oracle


def test_a_grid_is_a_peps() -> None:
    """Each node a tensor, each edge a bond, open legs where they are asked for."""
    drawn: Any = networkx.grid_2d_graph(2, 2)
    net = tn.Network.from_networkx(drawn, bond=3, input=2, output={(0, 0): 5})
    graph = net.freeze()
    assert (graph.in_features, graph.out_features) == (16, 5)
    assert [t.name for t in graph.tensors] == ["t_0_0", "t_0_1", "t_1_0", "t_1_1"]
    assert graph.parameter_count == 9 * (2 * 5 + 3 * 2)


def test_a_path_is_a_chain_of_matrices() -> None:
    """Sizes of its own on an edge; the map is the product."""
    drawn = networkx.path_graph(["A", "B", "C"])
    drawn.edges["A", "B"]["dim"] = 4
    net = tn.Network.from_networkx(drawn, bond=2, input={"A": 3}, output={"C": 5})
    graph = net.freeze()
    generator = np.random.default_rng(0)
    arrays = {p.name: generator.standard_normal(p.shape) for p in graph.parameters}
    found = oracle.evaluate(graph, [np.eye(3)], arrays)
    a, b, c = (arrays[name] for name in "ABC")
    np.testing.assert_allclose(found, a.T @ b @ c)


def test_parallel_edges_and_loops() -> None:
    """Two legs between two tensors, and a trace."""
    drawn = networkx.MultiGraph([("A", "B"), ("A", "B"), ("A", "A")])
    graph = tn.Network.from_networkx(drawn, bond=2, output={"B": 3}).freeze()
    assert [len(t.legs) for t in graph.tensors] == [4, 3]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({}, r"edge \(0, 1\) has no size; .* bond="),
        ({"bond": 0}, "edge"),
        ({"bond": 2, "input": {7: 2}}, "input= names 7, which is no node"),
    ],
)
def test_what_a_plain_graph_lacks(options: dict[str, Any], message: str) -> None:
    """Is told."""
    with pytest.raises(tn.SpecError, match=message):
        tn.Network.from_networkx(networkx.path_graph(2), **options)


def quimb_like() -> Any:
    """What from_quimb reads of a quimb MPO of two sites, with one of quimb's own index names."""
    generator = np.random.default_rng(1)
    tensors = [
        SimpleNamespace(inds=("k0", "b0", "_0a+b"), tags=["I0"], data=generator.random((2, 3, 4))),
        SimpleNamespace(inds=("_0a+b", "k1", "b1"), tags=["I1"], data=generator.random((4, 2, 3))),
    ]
    return SimpleNamespace(tensors=tensors)


def test_from_quimb() -> None:
    """Indices are legs, tags names, and entries values."""
    network = quimb_like()
    graph = tn.Network.from_quimb(network, inputs=["k0", "k1"]).freeze()
    assert [t.name for t in graph.tensors] == ["I0", "I1"]
    found = oracle.evaluate(graph, [np.eye(4)], oracle.stored_values(graph))
    first, second = (tensor.data for tensor in network.tensors)
    expected = np.einsum("abx,xcd->acbd", first, second).reshape(4, 9)
    np.testing.assert_allclose(found, expected)
    with pytest.raises(tn.SpecError, match="no index 'k7'; open ones: k0 b0 k1 b1"):
        tn.Network.from_quimb(network, inputs=["k7"])
    with pytest.raises(tn.SpecError, match="expected a quimb TensorNetwork, got 3"):
        tn.Network.from_quimb(3)


def test_quimb_and_back() -> None:
    """quimb contracts the network to the dense map; only where quimb is installed."""
    pytest.importorskip("quimb")
    layer = tn.Layer(tn.topologies.tensor_train((2, 3), (3, 2), 2), backend="torch")
    net = tn.Network.from_graph(layer.graph)
    made = net.to_quimb(dict(layer.named_parameters()))
    dense = made.to_dense(layer.graph.output, layer.graph.inputs[0].legs)
    np.testing.assert_allclose(dense, layer.to_dense().detach(), rtol=1e-5)
    back = tn.Network.from_quimb(made, layer.graph.inputs[0].legs, layer.graph.output)
    assert back.parameter_count == layer.parameter_count
