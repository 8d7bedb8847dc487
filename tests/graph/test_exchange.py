"""JSON, networkx and einsum: what goes out comes back equal, and damage is refused."""

from __future__ import annotations

import json
from collections.abc import Callable

import networkx
import numpy as np
import pytest
from hypothesis import given, settings

import tnlayer as tn
from tests.support.strategies import networks

NETWORKS: dict[str, Callable[[], tn.Network]] = {
    "tensor_train": lambda: tn.topologies.tensor_train((2, 3), (3, 2), rank=2),
    "tensor_ring": lambda: tn.topologies.tensor_ring((2, 3), (3, 2), rank=2),
    "tree": lambda: tn.topologies.tree(5, 2, 3, fix_first_level=True),
    "mera": lambda: tn.topologies.mera(6, 2, 3, fix_first_level=True),
    "tucker": lambda: tn.topologies.tucker((2, 3), (3, 2), rank=2),
    "cp": lambda: tn.topologies.cp((2, 3), (3, 2), rank=2),
    "block_term": lambda: tn.topologies.block_term((2, 3), (3, 2), 2, 2),
    "kronecker": lambda: tn.topologies.kronecker((2, 3), (3, 2)),
    "low_rank": lambda: tn.topologies.low_rank(4, 5, rank=2),
    "monarch": lambda: tn.topologies.monarch((2, 3), (3, 2)),
    "btt": lambda: tn.topologies.btt((2, 3), (3, 2), rank=2),
    "butterfly": lambda: tn.topologies.butterfly(8),
    "peps": lambda: tn.topologies.peps(2, 2, 2, 2),
    "brickwall": lambda: tn.topologies.brickwall(4, 2, 2),
}


@pytest.mark.parametrize("name", NETWORKS)
def test_round_trips_of_topologies(name: str) -> None:
    """Through JSON text and through networkx a network comes back equal, values too."""
    net = NETWORKS[name]()
    first = net.freeze().parameters[0]
    net.set_values({first.name: np.arange(np.prod(first.full_shape)).reshape(first.full_shape)})
    graph = net.freeze()
    assert tn.Network.from_json(net.to_json()).freeze() == graph
    assert tn.Network.from_networkx(net.to_networkx()).freeze() == graph
    assert net.to_json() == tn.Network.from_json(net.to_json()).to_json()


@settings(max_examples=150)
@given(net=networks(is_complex=True))
def test_round_trips_of_random_networks(net: tn.Network) -> None:
    """Hyperedges, shares, fixed legs, sums, product ports, complex constants: all come back."""
    graph = net.freeze()
    assert tn.Network.from_json(net.to_json()).freeze() == graph
    assert tn.Network.from_networkx(net.to_networkx()).freeze() == graph
    assert tn.Network.from_graph(graph).freeze() == graph


def test_a_user_drawn_multigraph() -> None:
    """A network drawn by hand in networkx, as documented, is the network it draws."""
    drawn = networkx.MultiGraph()
    drawn.add_node("x", kind="input", legs=("i",))
    drawn.add_node("y", kind="output", legs=("j",))
    drawn.add_node("A", kind="tensor", legs=("i", "r"))
    drawn.add_node("B", kind="tensor", legs=("r", "j"))
    drawn.add_edge("x", "A", leg="i", dim=4)
    drawn.add_edge("A", "B", leg="r", dim=2)
    drawn.add_edge("B", "y", leg="j", dim=3)
    net = tn.Network()
    net.input(i=4)
    net.output(j=3)
    net.bond(r=2)
    net.tensor("A", "i r")
    net.tensor("B", "r j")
    assert tn.Network.from_networkx(drawn).freeze() == net.freeze()
    del drawn.nodes["A"]["kind"]
    with pytest.raises(tn.SpecError, match="kind"):
        tn.Network.from_networkx(drawn)


@pytest.mark.usefixtures("backend")
def test_from_einsum_is_the_network_of_the_equation() -> None:
    """Inputs, names and sizes are taken as given; values go in by name."""
    matrix = np.arange(6.0).reshape(2, 3)
    net = tn.Network.from_einsum(
        "j,jk->k", sizes={"j": 2, "k": 3}, inputs=(0,), names=("x", "A"), values={"A": matrix}
    )
    layer = tn.Layer(net)
    assert np.allclose(layer.to_dense().detach().numpy(), matrix.T)
    with pytest.raises(tn.SpecError, match=r"\.\.\."):
        tn.Network.from_einsum("...j,jk->...k", sizes={"j": 2, "k": 3})
    with pytest.raises(tn.SpecError, match="k"):
        tn.Network.from_einsum("j,jk->k", sizes={"j": 2})


def damaged(change: Callable[[dict[str, object]], None]) -> str:
    """The JSON text of a small network after a change."""
    document = json.loads(NETWORKS["low_rank"]().to_json())
    change(document)
    return json.dumps(document)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "{",
        "[]",
        "null",
        '{"schema": 1}',
        damaged(lambda d: d.update(surprise=1)),
        damaged(lambda d: d.clear()),
        damaged(lambda d: d.update(dict.fromkeys(d, 7))),
        NETWORKS["low_rank"]().to_json()[:-9],
        NETWORKS["low_rank"]().to_json().replace("4", "NaN", 1),
        "[" * 100_000,
    ],
    ids=range(11),
)
def test_damaged_json_is_refused(text: str) -> None:
    """Unknown keys, wrong types, cut text, deep nesting: a SpecError, never another exception."""
    with pytest.raises(tn.SpecError):
        tn.Network.from_json(text)


def test_callables_are_not_written() -> None:
    """An init that is a function has no text: to_json says so and names the tensor."""
    net = tn.Network()
    net.input(i=2)
    net.output(j=2)
    net.tensor("A", "i j", init=lambda tensor: tensor.zero_())
    with pytest.raises(tn.SpecError, match="'A'"):
        net.to_json()
