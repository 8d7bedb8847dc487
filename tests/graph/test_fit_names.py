"""Names that bridges make: those of the user stay, and every bridge makes them by one rule."""

from __future__ import annotations

import json
from types import SimpleNamespace
from typing import Any

import networkx
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import tnlayer as tn
from tnlayer.graph.argument_checks import IDENTIFIER, RESERVED_NAMES
from tnlayer.graph.bridges.fit_names import leg_names, tensor_names

TEXTS = st.lists(
    st.one_of(st.text(max_size=6), st.sampled_from(["A", "t_0", "t_1", "0", "1", "bias", "A_1"]))
)


@given(TEXTS)
def test_names_are_names_and_apart(texts: list[str]) -> None:
    """Whatever the texts are; each that is a name has it where it stands first."""
    found = tensor_names(texts)
    assert len(found) == len(texts) == len(set(found))
    assert all(IDENTIFIER.fullmatch(name) and name not in RESERVED_NAMES for name in found)
    for position, text in enumerate(texts):
        is_name = IDENTIFIER.fullmatch(text) and text not in RESERVED_NAMES
        if is_name and text not in texts[:position]:
            assert found[position] == text


def test_wires_are_names_of_legs_where_they_may_be() -> None:
    """With a dot in them."""
    assert leg_names(["gate.2", "a"], dots=True) == ["gate.2", "a"]
    assert leg_names(["gate.2", "gate_2"]) == ["gate_2_1", "gate_2"]


def plain(nodes: list[Any]) -> tn.Network:
    """A path of networkx over these nodes."""
    return tn.Network.from_networkx(networkx.path_graph(nodes), bond=2)


def quimb_like(tags: list[str]) -> tn.Network:
    """What from_quimb reads of a chain of matrices with these tags."""
    ones = np.ones((2, 2))
    tensors = [
        SimpleNamespace(inds=(f"b{k}", f"b{k + 1}"), tags=[tag] if tag else [], data=ones)
        for k, tag in enumerate(tags)
    ]
    return tn.Network.from_quimb(SimpleNamespace(tensors=tensors))


def design(names: list[str]) -> tn.Network:
    """What from_tensor_network_editor reads of tensors with these names."""
    tensors = [
        {
            "id": f"i{k}",
            "name": name,
            "indices": [{"id": f"x{k}", "name": f"x{k}", "dimension": 2}],
        }
        for k, name in enumerate(names)
    ]
    document = {"schema_version": 2, "network": {"name": "", "tensors": tensors}}
    return tn.Network.from_tensor_network_editor(json.dumps(document))


@pytest.mark.parametrize("read", [plain, quimb_like, design])
def test_bridges_agree(read: Any) -> None:
    """What is called 0 is t_0, unless a user's tensor has that name, wherever it stands."""

    def names(*given: Any) -> list[str]:
        return [tensor.name for tensor in read(list(given)).freeze().tensors]

    assert names("A", "core 1", "bias") == ["A", "core_1", "bias_1"]
    assert names("A", "core 1", "core_1") == ["A", "core_1_1", "core_1"]
    if read is not quimb_like:  # a tag that begins with a digit is none
        assert names("0", "1", "t_0") == ["t_0_1", "t_1", "t_0"]


def test_a_tensor_without_a_name_is_called_by_its_position() -> None:
    """In einsum equations and in networks of quimb; beside users' names."""
    net = tn.Network.from_einsum("i,ij,jk->k", sizes={"i": 2, "j": 2, "k": 2}, batch=None)
    assert [tensor.name for tensor in net.freeze().tensors] == ["t_1", "t_2"]
    assert [t.name for t in quimb_like(["", "", "t_0"]).freeze().tensors] == ["t_0_1", "t_1", "t_0"]


def test_made_legs_stand_beside_those_of_the_user() -> None:
    """Edges that are called as others would be, and open legs as edges are."""
    drawn: Any = networkx.path_graph(["A", "B", "C", "D"])
    drawn.edges["C", "D"]["leg"] = "e_0"
    drawn.edges["B", "C"]["leg"] = "i_A"
    net = tn.Network.from_networkx(drawn, bond=2, input={"A": 3}, output={"D": 5})
    graph = net.freeze()
    assert graph.inputs[0].legs == ("i_A_1",)
    assert [tensor.legs for tensor in graph.tensors] == [
        ("e_0_1", "i_A_1"), ("e_0_1", "i_A"), ("i_A", "e_0"), ("e_0", "j_D"),
    ]  # fmt: skip
    assert graph.sizes["i_A"] == 2 and graph.sizes["i_A_1"] == 3


def test_an_edge_of_a_design_leaves_the_name_of_an_open_index() -> None:
    """The index has it as it stands."""
    tensors = [
        {"id": "t", "name": "A", "indices": [
            {"id": k, "name": n, "dimension": 2} for k, n in (("p", "p"), ("q", "q"), ("r", "a_b"))
        ]},
    ]  # fmt: skip
    ends = [{"tensor_id": "t", "index_id": k} for k in "pq"]
    edges = [{"id": "e", "name": "a-b", "left": ends[0], "right": ends[1]}]
    document = {"schema_version": 2, "network": {"name": "", "tensors": tensors, "edges": edges}}
    graph = tn.Network.from_tensor_network_editor(json.dumps(document)).freeze()
    assert graph.output == ("a_b",) and graph.tensors[0].legs == ("a_b_1", "a_b_1", "a_b")
