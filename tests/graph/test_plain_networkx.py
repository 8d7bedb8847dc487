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


def with_exponent(exponent: object, scale: float = 1.0) -> Any:
    """The same network, whose entries say 10**exponent times less than they mean."""
    network = quimb_like()
    for tensor in network.tensors:
        tensor.data = tensor.data * scale
    return SimpleNamespace(tensors=network.tensors, exponent=exponent)


def dense_of(network: Any) -> Any:
    """The dense map of the network that from_quimb makes."""
    graph = tn.Network.from_quimb(network, inputs=["k0", "k1"]).freeze()
    return oracle.evaluate(graph, [np.eye(4)], oracle.stored_values(graph))


@pytest.mark.parametrize("exponent", [9.0, np.float64(-3.5), 0.0])
def test_quimbs_exponent_is_multiplied_in(exponent: float) -> None:
    """It is the log10 of a factor of the whole: a part of it goes into each tensor."""
    expected = dense_of(quimb_like()) * 10.0**exponent
    np.testing.assert_allclose(dense_of(with_exponent(exponent)), expected, rtol=1e-12)


def test_a_large_exponent_is_spread() -> None:
    """Entries stay in range where a single tensor would have left it, and in single precision."""
    small = dense_of(with_exponent(500.0, 1e-250))
    np.testing.assert_allclose(small, dense_of(quimb_like()), rtol=1e-12)
    single = with_exponent(60.0, 1e-30)
    for tensor in single.tensors:
        tensor.data = tensor.data.astype(np.float32)
    np.testing.assert_allclose(dense_of(single), dense_of(quimb_like()), rtol=1e-5)


@pytest.mark.parametrize("exponent", [700.0, -700.0, -np.inf, np.nan, "much"])
def test_an_exponent_beyond_all_numbers_is_refused(exponent: object) -> None:
    """No entry becomes infinite or zero without a word."""
    with pytest.raises(tn.SpecError, match="from_quimb: the network's exponent is"):
        dense_of(with_exponent(exponent))


def test_an_exponent_needs_a_tensor() -> None:
    """A factor of nothing is told."""
    with pytest.raises(tn.SpecError, match=r"exponent is 2\.0, and it has no tensor"):
        tn.Network.from_quimb(SimpleNamespace(tensors=[], exponent=2.0))


def isometric_like(*, scale: float = 1.0, left: tuple[str, ...] = ("k0", "k1")) -> Any:
    """Two tensors that say which of their indices are on the left: an isometry from the two
    smaller legs up, and a matrix that is none."""
    generator = np.random.default_rng(2)
    square = np.linalg.qr(generator.standard_normal((4, 4)))[0]
    tensors = [
        SimpleNamespace(
            inds=("b", "k0", "k1"), tags=["W"], left_inds=left,
            data=scale * square[:3].reshape(3, 2, 2),
        ),
        SimpleNamespace(
            inds=("b", "top"), tags=["T"], left_inds=("b",), data=generator.random((3, 2))
        ),
    ]  # fmt: skip
    return SimpleNamespace(tensors=tensors, exponent=0.0)


def isometries_of(network: Any) -> dict[str, tuple[int, ...]]:
    """The axes of each tensor's isometry, as from_quimb says."""
    graph = tn.Network.from_quimb(network, inputs=["k0", "k1"]).freeze()
    return {tensor.name: tensor.isometry for tensor in graph.tensors}


def test_left_inds_are_an_isometry_where_the_entries_are_one() -> None:
    """quimb keeps them as a hint, also where entries have changed since."""
    assert isometries_of(isometric_like()) == {"W": (1, 2), "T": ()}
    assert isometries_of(isometric_like(left=("b",))) == {"W": (0,), "T": ()}
    assert isometries_of(isometric_like(left=("k0",))) == {"W": (), "T": ()}
    assert isometries_of(isometric_like(scale=1.001)) == {"W": (), "T": ()}
    assert isometries_of(isometric_like(scale=0.0)) == {"W": (), "T": ()}
    single = isometric_like()
    for tensor in single.tensors:
        tensor.data = tensor.data.astype(np.float32)
    assert isometries_of(single) == {"W": (1, 2), "T": ()}
    net = tn.Network.from_quimb(isometric_like(), inputs=["k0", "k1"])
    kept = tn.Layer(net, isometries="keep", dtype="float64", backend="torch")
    first = kept.tensors()["W"].detach().numpy()
    np.testing.assert_allclose(first, isometric_like().tensors[0].data, atol=1e-12)


def test_isometries_take_no_part_of_the_exponent() -> None:
    """What is no isometry takes all of it; each tensor a part where nothing else is there, or
    where the entries would leave the range."""
    network = isometric_like()
    network.exponent = 2.0
    assert isometries_of(network) == {"W": (1, 2), "T": ()}
    values = oracle.stored_values(tn.Network.from_quimb(network, inputs=["k0", "k1"]).freeze())
    np.testing.assert_allclose(values["T"], 100 * network.tensors[1].data)
    network.exponent = 400.0
    assert isometries_of(network) == {"W": (), "T": ()}
    alone = SimpleNamespace(tensors=isometric_like().tensors[:1], exponent=2.0)
    assert isometries_of(alone) == {"W": ()}


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


# -- copy nodes ------------------------------------------------------------------------------------


def star() -> Any:
    """Three matrices that a copy node joins."""
    drawn: Any = networkx.Graph()
    drawn.add_node("r", copy=True)
    drawn.add_edges_from([("r", "A"), ("r", "B"), ("r", "C")], dim=3)
    return drawn


def test_a_copy_node_is_one_leg() -> None:
    """All its edges: a CP network, as the builder writes it; and it comes back from a graph that
    says what each node is."""
    net = tn.Network.from_networkx(star(), input={"A": 2, "B": 4}, output={"C": 5})
    wanted = tn.Network("CP")
    wanted.input(i=2, k=4)
    wanted.output(j=5)
    wanted.bond(r=3)
    for name, leg in (("A", "i"), ("B", "k"), ("C", "j")):
        wanted.tensor(name, ["r", leg])
    graph = net.freeze()
    assert graph == wanted.freeze()
    assert graph.sizes["r"] == 3 and [t.legs[0] for t in graph.tensors] == ["r"] * 3
    back = net.to_networkx()
    assert back.nodes["copy:r"] == {"kind": "copy"}
    assert tn.Network.from_networkx(back).freeze() == graph
    generator = np.random.default_rng(0)
    arrays = {p.name: generator.standard_normal(p.shape) for p in graph.parameters}
    found = oracle.evaluate(graph, [np.eye(8)], arrays)
    expected = np.einsum("ri,rk,rj->ikj", *(arrays[name] for name in "ABC")).reshape(8, 5)
    np.testing.assert_allclose(found, expected)


def test_open_legs_at_a_copy_node_are_the_leg_itself() -> None:
    """An integer is of tensors alone; by name a leg of x and of y at once is a diagonal."""
    net = tn.Network.from_networkx(star(), input={"r": 3}, output={"r": 3})
    graph = net.freeze()
    assert graph.inputs[0].legs == graph.output == ("r",)
    assert [t.legs for t in graph.tensors] == [("r",)] * 3
    every = tn.Network.from_networkx(star(), input=2, output={"C": 2}).freeze()
    assert every.in_features == 8 and "r" not in every.inputs[0].legs


def test_copy_nodes_that_meet_are_one() -> None:
    """A tree of copy nodes is one of more legs; one with a single edge sums over it."""
    drawn = star()
    drawn.add_node("s", copy=True)
    drawn.add_edge("r", "s")
    drawn.add_edge("s", "D")
    graph = tn.Network.from_networkx(drawn, output={"D": 2}).freeze()
    (leg,) = {tensor.legs[0] for tensor in graph.tensors}
    assert graph.sizes[leg] == 3 and len(graph.tensors) == 4
    single: Any = networkx.path_graph(["A", "ones"])
    single.nodes["ones"]["copy"] = True
    graph = tn.Network.from_networkx(single, bond=4, output={"A": 2}).freeze()
    assert graph.summed == {"ones"} and [t.name for t in graph.tensors] == ["A"]


def test_names_and_sizes_of_copies() -> None:
    """The leg is called as its edges are, else as its node; a size on one edge is that of all, and
    counts before bond=."""
    drawn = star()
    for end in "BC":
        del drawn.edges["r", end]["dim"]
    drawn.edges["r", "A"]["leg"] = "rank"
    graph = tn.Network.from_networkx(drawn, bond=7, output=2).freeze()
    assert graph.sizes["rank"] == 3 and len(graph.sizes) == 4
    numbered: Any = networkx.star_graph(3)
    numbered.nodes[0]["copy"] = True
    graph = tn.Network.from_networkx(numbered, bond=2, output=3).freeze()
    assert [t.name for t in graph.tensors] == ["t_1", "t_2", "t_3"]
    assert {tensor.legs[0] for tensor in graph.tensors} == {"e_0"}


def _named_apart(drawn: Any) -> None:
    drawn.edges["r", "A"]["leg"] = "a"
    drawn.edges["r", "B"]["leg"] = "b"


def _without_sizes(drawn: Any) -> None:
    for _, _, data in drawn.edges(data=True):
        del data["dim"]


def _alone(drawn: Any) -> None:
    drawn.add_node("s", copy=True)


@pytest.mark.parametrize(
    ("change", "options", "told"),
    [
        (
            lambda g: g.edges["r", "B"].update(dim=4),
            {},
            r"the copy node 'r' joins legs of different sizes: the edge \('r', 'A'\) has 3, "
            r"the edge \('r', 'B'\) has 4; a copy tensor has one size for all",
        ),
        (lambda g: None, {"input": {"r": 5}}, r"'r' joins .* has 3, input= for 'r' has 5"),
        (_named_apart, {}, r"the copy node 'r' joins edges with the names \['a', 'b'\]"),
        (_without_sizes, {}, r"the copy node 'r' has no size; give one of its edges .* bond="),
        (_alone, {}, r"the copy node 's' joins no tensor"),
        (lambda g: g.nodes["A"].update(copy="yes"), {}, r"node 'A': copy='yes': expected True or"),
    ],
)  # fmt: skip
def test_what_is_wrong_with_a_copy_node(change: Any, options: dict[str, Any], told: str) -> None:
    """Is told, with its edges."""
    drawn = star()
    change(drawn)
    with pytest.raises(tn.SpecError, match=told):
        tn.Network.from_networkx(drawn, **options)


def test_a_size_under_another_name_is_told() -> None:
    """An attribute that looks like the size, and is not read, is no bond of the usual size."""
    drawn = networkx.Graph()
    drawn.add_edge("A", "B", size=6)
    with pytest.raises(tn.SpecError, match="attribute 'size', which is not read; call it dim"):
        tn.Network.from_networkx(drawn, bond=3, input={"A": 2}, output={"B": 2})
