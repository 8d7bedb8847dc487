"""networkx and einsum in and out."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import networkx
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from opt_einsum import get_symbol

import tnlayer as tn
from tests.support.graphs import everything, three_cores
from tests.support.strategies import networks
from tnlayer.graph.canonical import canonicalise

# -- networkx ------------------------------------------------------------------------------------


@given(networks(is_complex=True))
@settings(max_examples=100)
def test_networkx_gives_back_equal_graphs(net: tn.Network) -> None:
    """to_networkx and from_networkx are inverse, flags and values included."""
    drawn = net.to_networkx()
    other = tn.Network.from_networkx(drawn)
    assert other.freeze() == net.freeze()
    assert other.label == net.label


def test_networkx_keeps_every_kind() -> None:
    """One of each thing survives the way out and back."""
    net = everything()
    drawn = net.to_networkx()
    kinds = {data["kind"] for _, data in drawn.nodes(data=True)}
    assert kinds == {"tensor", "input", "output", "copy", "fix", "sum"}
    assert tn.Network.from_networkx(drawn).freeze() == net.freeze()


def test_networkx_form() -> None:
    """A bond is an edge with leg and dim, a hyperedge a copy node, a pin a fix node with index."""
    drawn = three_cores().to_networkx()
    assert drawn.number_of_nodes() == 5
    assert drawn.edges["A", "B", 0] == {"leg": "a", "dim": 8}
    assert drawn.nodes["B"]["legs"] == ("a", "i2", "j2", "b")
    net = three_cores()
    net.fix(j3=2)
    drawn = net.to_networkx()
    assert drawn.nodes["fix:j3"] == {"kind": "fix", "index": 2}
    assert sorted(drawn.neighbors("copy:j3")) == ["C", "fix:j3", "output:"]


def test_networkx_node_names_are_free() -> None:
    """Nodes may be anything hashable; relabelled with names kept, the graph is the same."""
    net = everything()
    drawn = net.to_networkx()
    numbered: Any = networkx.convert_node_labels_to_integers(drawn)
    assert tn.Network.from_networkx(numbered).freeze() == net.freeze()


def drawn_by_hand() -> Any:
    """A matrix drawn with networkx alone, on a plain (not multi) graph."""
    drawn = networkx.Graph()
    drawn.add_node("x", kind="input", legs="i")
    drawn.add_node("A", kind="tensor", legs="i j")
    drawn.add_node("y", kind="output", legs=["j"])
    drawn.add_edge("x", "A", leg="i", dim=2)
    drawn.add_edge("A", "y", leg="j", dim=3)
    return drawn


def test_networkx_by_hand() -> None:
    """Nodes are named by themselves, and values come in by tensor name."""
    net = tn.Network.from_networkx(drawn_by_hand(), values={"A": np.ones((2, 3))})
    graph = net.freeze()
    assert (graph.in_features, graph.out_features) == (2, 3)
    assert graph.nodes["A"].value is not None


def _edit(change: Callable[[Any], object]) -> Any:
    drawn = drawn_by_hand()
    change(drawn)
    return drawn


def _two_edges_of_one_leg(drawn: Any) -> None:
    for first, second in (("B", "C"), ("D", "E")):
        drawn.add_node(first, kind="tensor", legs="a")
        drawn.add_node(second, kind="tensor", legs="a")
        drawn.add_edge(first, second, leg="a", dim=2)


def _copy_of_two_legs(drawn: Any) -> None:
    drawn.add_node("dot", kind="copy")
    drawn.add_edge("dot", "A", leg="i", dim=2)
    drawn.add_edge("dot", "y", leg="j", dim=3)


def _without_output(drawn: Any) -> None:
    drawn.remove_node("y")
    drawn.nodes["A"]["legs"] = "i"


def _sum_of_two(drawn: Any) -> None:
    drawn.add_node("S", kind="sum")
    drawn.add_edge("S", "A", leg="k", dim=2)
    drawn.add_edge("S", "x", leg="l", dim=3)
    drawn.nodes["A"]["legs"] = "i j k"
    drawn.nodes["x"]["legs"] = "i l"


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda g: g.nodes["A"].pop("kind"), r"node 'A' has no attribute 'kind'; .*tensor, input"),
        (lambda g: g.nodes["A"].update(kind="core"), r"node 'A' has kind 'core', expected one of"),
        (lambda g: g.nodes["A"].pop("legs"), r"node 'A' has no attribute 'legs'"),
        (lambda g: g.nodes["A"].update(colour=1), r"tensor node 'A' has unknown attributes"),
        (lambda g: g.nodes["A"].update(legs="i k"), r"node 'A' .*\('i', 'k'\).*\['i', 'j'\]"),
        (lambda g: g.edges["x", "A"].pop("leg"), r"edge 'x' - 'A' has no attribute 'leg'"),
        (lambda g: g.edges["x", "A"].pop("dim"), r"edge 'x' - 'A' has no attribute 'dim'"),
        (lambda g: g.edges["x", "A"].update(dim=0), r"edge 'x' - 'A': the size .* got 0"),
        (lambda g: g.edges["x", "A"].update(leg="j"), r"size clash on leg 'j': edge 'A' - 'y'"),
        (_without_output, r"expected one node of kind 'output', got \[\]"),
        (lambda g: g.add_node("z", kind="output", legs=""), r"kind 'output', got \['y', 'z'\]"),
        (lambda g: g.add_node("B", kind="tensor", name="A", legs=""), r"the name 'A'"),
        (lambda g: g.add_node("f", kind="fix"), r"fix or sum node 'f' needs one edge, got 0"),
        (lambda g: g.nodes["A"].update(conj=1), r"tensor 'A': conj must be True or False, got 1"),
        (_two_edges_of_one_leg, r"leg 'a' stands on 2 edges that no copy node joins"),
        (_copy_of_two_legs, r"copy node 'dot' joins the legs \['i', 'j'\]"),
        (_sum_of_two, r"node 'S' needs one edge, got 2"),
    ],
)  # fmt: skip
def test_networkx_errors_name_the_place(change: Callable[[Any], object], said: str) -> None:
    """Missing, wrong or clashing attributes give a SpecError with the node or edge."""
    with pytest.raises(tn.SpecError, match=said):
        tn.Network.from_networkx(_edit(change))


def test_networkx_fix_without_index() -> None:
    """A fix node without its index is refused by name."""
    net = three_cores()
    net.fix(j3=2)
    drawn = net.to_networkx()
    del drawn.nodes["fix:j3"]["index"]
    with pytest.raises(tn.SpecError, match="fix node 'fix:j3' has no attribute 'index'"):
        tn.Network.from_networkx(drawn)


@pytest.mark.parametrize(
    "drawn", [networkx.MultiDiGraph(), {}, None], ids=["directed", "dict", "None"]
)
def test_networkx_takes_undirected_graphs_only(drawn: Any) -> None:
    """Directed graphs and other things are refused by their type."""
    with pytest.raises(tn.SpecError, match=f"undirected .* got {type(drawn).__name__}"):
        tn.Network.from_networkx(drawn)


# -- einsum --------------------------------------------------------------------------------------

SIZES = {"i": 2, "j": 3, "k": 4, "l": 5}


def test_einsum_makes_ports_and_tensors() -> None:
    """Inputs become ports in the order asked for, the other operands tensors."""
    net = tn.Network.from_einsum(
        "ij,jk,kl->il", sizes=SIZES, inputs=(2, 0), names=("left", "M", "right")
    )
    graph = net.freeze()
    assert [(port.name, port.legs) for port in graph.inputs] == [
        ("right", ("k", "l")),
        ("left", ("i", "j")),
    ]
    assert (graph.output, graph.nodes["M"].legs) == (("i", "l"), ("j", "k"))


@pytest.mark.parametrize(
    ("equation", "output", "summed"),
    [
        ("ij,jk", ("i", "k"), set[str]()),
        (" i j , j k -> k i ", ("k", "i"), set[str]()),
        ("ji", ("i", "j"), set[str]()),
        ("ii,ij->j", ("j",), set[str]()),
        ("ii->", (), set[str]()),
        ("ij,kl->l", ("l",), {"i", "j", "k"}),
        ("i,->", (), {"i"}),
        ("iij,jj->ij", ("i", "j"), set[str]()),
    ],
)
def test_einsum_equations(equation: str, output: tuple[str, ...], summed: set[str]) -> None:
    """Implicit outputs are numpy's, blanks do not count, one-ended letters are summed."""
    graph = tn.Network.from_einsum(equation, sizes=SIZES, batch=None).freeze()
    assert (graph.output, graph.summed) == (output, summed)


def test_einsum_takes_any_letters() -> None:
    """Upper case and other alphabets are letters; what is no identifier gets a fresh name."""
    net = tn.Network.from_einsum(
        "Aж,ж猫->A猫",
        sizes={"A": 2, "ж": 3, "猫": 4},
        values={"t_1": np.ones((3, 4))},
        batch=None,
    )
    graph = net.freeze()
    assert graph.inputs[0].legs[0] == "A"
    assert all("." in leg for leg in graph.nodes["t_1"].legs)
    assert graph.out_features == 8


def test_einsum_closed_and_many_inputs() -> None:
    """No operand or every operand may be an input."""
    assert tn.Network.from_einsum("ij,ij->", sizes=SIZES, inputs=()).freeze().inputs == ()
    graph = tn.Network.from_einsum("i,j->ij", sizes=SIZES, inputs=(0, 1)).freeze()
    assert [port.name for port in graph.inputs] == ["x0", "x1"]


def test_einsum_and_builder_agree() -> None:
    """One network, told twice, has one canonical key."""
    net = tn.Network()
    net.input(a=2, b=3)
    net.output(d=5, a=2)
    net.bond(c=4)
    net.tensor("W", "b c")
    net.tensor("V", "c d")
    other = tn.Network.from_einsum("ij,jk,kl->li", sizes=SIZES)
    assert canonicalise(other.freeze()).key() == canonicalise(net.freeze()).key()


@pytest.mark.parametrize(
    ("equation", "options", "said"),
    [
        ("...i,ij->...j", {}, r"ellipsis is not supported; leave the batch out"),
        ("ij,jz->iz", {}, r"no size for 'z'; give one in sizes="),
        ("ij,jk->iz", {}, r"letter 'z' of the output is in no operand"),
        ("ij,jk->ii", {}, r"letter 'i' stands twice in the output"),
        ("ij->jk->k", {}, r"one '->'"),
        ("ij-jk", {}, r"one '->'"),
        ("ij->i,j", {}, r"one output"),
        (3, {}, r"must be a string .* got 3"),
        ("ij,jk->ik", {"inputs": (2,)}, r"positions from 0 to 1 .* got \(2,\)"),
        ("ij,jk->ik", {"inputs": (0, 0)}, r"different positions .* got \(0, 0\)"),
        ("ij,jk->ik", {"inputs": (-1,)}, r"positions from 0 to 1 .* got \(-1,\)"),
        ("ij,jk->ik", {"inputs": (True,)}, r"whole number, got True"),
        ("ij,jk->ik", {"names": ("x",)}, r"expected 2 names, .* got \('x',\)"),
        ("ij,jk->ik", {"names": ("x", "no name")}, r"tensor name 'no name' is not valid"),
        ("ij,jk,kl->il", {"names": ("x", "A", "A")}, r"tensor 'A' is declared 2 times"),
        ("ij,jk->ik", {"sizes": {"i": 2, "j": 0, "k": 4}}, r"letter 'j': the size .* got 0"),
        ("ij,jk->ik", {"values": {"B": 1}}, r"no tensor 'B' \(known: 't_1'\)"),
    ],
)
def test_einsum_errors(equation: Any, options: dict[str, Any], said: str) -> None:
    """Equations that have no meaning here give a SpecError with the letter or position."""
    arguments: dict[str, Any] = {"sizes": SIZES, **options}
    with pytest.raises(tn.SpecError, match=said):
        tn.Network.from_einsum(equation, **arguments)


# -- einsum equations: the batch, and the way out --------------------------------------------------


def test_einsum_takes_the_batch() -> None:
    """batch="b" is the batch and no feature: y = x W, whatever the leading dimensions."""
    net = tn.Network.from_einsum("bi,ij->bj", sizes={"i": 3, "j": 2}, batch="b")
    layer = tn.Layer(net, dtype=torch.float64, backend="torch")
    x = torch.randn(5, 7, 3, dtype=torch.float64)
    assert torch.allclose(layer(x), x @ layer.get_parameter("t_1"))
    several = tn.Network.from_einsum("bti,ij->btj", sizes={"i": 3, "j": 2}, batch="bt")
    assert several.freeze() == net.freeze()


def test_einsum_inputs_without_the_batch_are_not_batched() -> None:
    """Of two inputs one may have the batch and one not."""
    net = tn.Network.from_einsum(
        "bi,ik,kj->bj", sizes={"i": 3, "k": 2, "j": 2}, inputs=(0, 1), batch="b"
    )
    assert [port.batched for port in net.freeze().inputs] == [True, False]


@pytest.mark.parametrize(
    ("equation", "batch", "inputs"),
    [
        ("ib,ij->jb", "b", (0,)),
        ("bi,ij->jb", "b", (0,)),
        ("bi,ij->j", "b", (0,)),
        ("bi,bij->bj", "b", (0,)),
        ("bbi,ij->bj", "b", (0,)),
        ("bi,ij->bj", "c", (0,)),
        ("bti,bi,ij->btj", "bt", (0, 1)),
        ("bi,ij->bj", "i", (0,)),
        ("bi,ij->bj", 3, (0,)),
    ],
)
def test_einsum_batch_stands_first(equation: str, batch: Any, inputs: tuple[int, ...]) -> None:
    """Letters of the batch elsewhere than first, or on a tensor, are refused."""
    with pytest.raises(tn.SpecError, match=r"batch"):
        tn.Network.from_einsum(
            equation, sizes=dict.fromkeys("bcijt", 2), batch=batch, inputs=inputs
        )


def test_einsum_says_what_it_takes_for_a_feature() -> None:
    """A letter that could be the batch: a warning that says what to write; none with batch=None."""
    sizes = dict.fromkeys("bij", 2)
    with pytest.warns(UserWarning, match=r"'b' goes straight .* batch='b'.* batch=None"):
        net = tn.Network.from_einsum("bi,ij->bj", sizes=sizes)
    assert net.in_features == 4
    assert tn.Network.from_einsum("bi,ij->bj", sizes=sizes, batch=None).freeze() == net.freeze()
    with pytest.raises(tn.SpecError, match=r"no size for 'b'; .* batch="):
        tn.Network.from_einsum("bi,ij->bj", sizes={"i": 2, "j": 2})


def einsum_networks() -> list[tn.Network]:
    """Networks with hyperedges, traces, sums, pass-through legs, many legs and two inputs."""
    net = tn.Network("all")
    net.input("x", a=2, b=3)
    net.input("z", c=2)
    net.port("z", batched=False)
    net.output(e=2, a=2)
    net.bond(f=4, h=2, k=3)
    net.tensor("A", "b f c")
    net.tensor("B", "f e h h")
    net.tensor("C", "f k")
    net.sum("k")
    return [
        net,
        tn.topologies.butterfly(8),
        tn.topologies.mera(16, 2, 2),
        tn.topologies.tensor_train((2,) * 40, (2,) * 40, rank=2),
    ]


@pytest.mark.parametrize("number", range(4))
def test_einsum_round_trip(number: int) -> None:
    """from_einsum gives back what to_einsum wrote, up to what is no leg of a tensor."""
    net = einsum_networks()[number]
    form = net.to_einsum(batch=True)
    back = tn.Network.from_einsum(**form._asdict()).freeze()
    graph = net.freeze()
    tensors = tuple(replace(t, isometry=(), init=None) for t in graph.tensors)
    plain = replace(graph, tensors=tensors)
    assert back == plain
    if all(port.batched for port in graph.inputs):
        assert tn.Network.from_einsum(**net.to_einsum()._asdict()).freeze() == plain


def test_einsum_out_is_what_the_layer_computes() -> None:
    """numpy's einsum of the equation and the arrays by name is y of the layer."""
    net = einsum_networks()[0]
    layer = tn.Layer(net, dtype=torch.float64, backend="torch")
    x, z = torch.randn(5, 6, dtype=torch.float64), torch.randn(2, dtype=torch.float64)
    form = net.to_einsum(batch=True)
    arrays = {"x": x.reshape(5, 2, 3), "z": z, **dict(layer.named_parameters())}
    y = np.einsum(form.equation, *(arrays[name].detach().numpy() for name in form.names))
    assert np.allclose(layer(x, z).detach().numpy(), y.reshape(5, 4))
    assert (form.names, form.inputs) == (("x", "z", "A", "B", "C"), (0, 1))


def test_einsum_out_letters_are_those_of_opt_einsum() -> None:
    """52 letters, then the characters of opt_einsum, some of them blanks; own letters stay."""
    net = tn.topologies.tensor_train((1,) * 4000, (1,) * 4000, rank=1)
    form = net.to_einsum()
    letters = dict.fromkeys(form.equation)
    wanted = [get_symbol(k) for k in range(len(net.freeze().leg_sizes))]
    assert set(letters) - set(",->") == set(wanted)
    assert any(letter.isspace() for letter in wanted)
    assert tn.Network.from_einsum(**form._asdict()).freeze() == net.freeze()
    equation = "Aж,ж猫->A猫"
    same = tn.Network.from_einsum(equation, sizes=dict.fromkeys(equation, 2), batch=None)
    assert same.to_einsum().equation == equation


def test_einsum_out_names_a_shared_tensor_by_its_owner() -> None:
    """The names look arrays up in a state_dict, where a sharer has none."""
    net = tn.Network()
    net.input(i=2)
    net.output(k=2)
    net.bond(j=2)
    net.tensor("A", "i j")
    net.tensor("B", "j k", share="A")
    assert net.to_einsum()[:2] == ("i,ij,jk->k", ("x", "A", "A"))


def product_port(net: tn.Network) -> None:
    net.port("x", product=True)


def conjugated(net: tn.Network) -> None:
    net.tensor("C", "i", conj=True)


def fixed(net: tn.Network) -> None:
    net.fix(i=1)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (product_port, r"input 'x' is a product port"),
        (conjugated, r"tensor 'C' is conjugated"),
        (fixed, r"leg 'i' is fixed at index 1"),
    ],
)
def test_einsum_out_refuses(change: Callable[[tn.Network], None], said: str) -> None:
    """What an equation has no sign for is named."""
    net = tn.Network()
    net.input(i=2)
    net.output(j=2)
    net.tensor("A", "i j")
    change(net)
    with pytest.raises(tn.SpecError, match=said):
        net.to_einsum()


def test_einsum_out_needs_an_operand_and_a_batch() -> None:
    """A network without nodes has no equation; one without batched inputs none with the batch."""
    empty = tn.Network()
    empty.output()
    with pytest.raises(tn.SpecError, match=r"no node"):
        empty.to_einsum()
    closed = tn.Network.from_einsum("ij,ij->", sizes={"i": 2, "j": 2}, inputs=())
    assert closed.to_einsum().equation == "ij,ij->"
    with pytest.raises(tn.SpecError, match=r"no input has a batch"):
        closed.to_einsum(batch=True)
