"""Designs of tensor-network-editor: what is read of them, and what is told of others."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest
import torch

import tnlayer as tn

Read = tn.Network.from_tensor_network_editor


def tensor(key: str, name: str, data: Any = None, **indices: int) -> dict[str, Any]:
    """A record as the editor writes it; ids of indices are those of the tensor and their name."""
    return {
        "id": key,
        "name": name,
        "position": {"x": 10.0, "y": 20.0},
        "size": {"width": 180.0, "height": 108.0},
        "indices": [
            {
                "id": f"{key}_{index}",
                "name": index,
                "dimension": size,
                "offset": {"x": 0.0, "y": 0.0},
                "metadata": {},
            }
            for index, size in indices.items()
        ],
        "linear_periodic_role": None,
        "tensor_data": data,
        "metadata": {},
    }


def end(text: str) -> dict[str, str]:
    """The end of an edge at an index, such as "t0_a"."""
    return {"tensor_id": text.partition("_")[0], "index_id": text}


def edge(name: str, left: str, right: str) -> dict[str, Any]:
    return {"id": name, "name": name, "left": end(left), "right": end(right), "metadata": {}}


def hyperedge(name: str, *ends: str) -> dict[str, Any]:
    return {"id": name, "name": name, "endpoints": [end(one) for one in ends]}


def design(
    tensors: list[Any], edges: list[Any] | None = None, version: Any = 2, **others: Any
) -> str:
    """The text of a file."""
    network = {
        "id": "n",
        "name": "drawn",
        "tensors": tensors,
        "groups": [],
        "edges": edges or [],
        "hyperedges": [],
        "notes": [],
        "contraction_plan": None,
        "linear_periodic_chain": None,
        **others,
    }
    return json.dumps({"schema_version": version, "network": network})


def two_cores(data: Any = None) -> str:
    """A(i, a) and B(b, j), joined over a and b."""
    cores = [tensor("t0", "A", data, i=4, a=2), tensor("t1", "B", b=2, j=3)]
    return design(cores, [edge("bond", "t0_a", "t1_b")])


@pytest.mark.parametrize("version", [1, 2])
def test_edges_are_legs_and_open_indices_are_ports(version: int) -> None:
    """Legs are called as edges and open indices are; what is not x is y."""
    text = two_cores().replace('"schema_version": 2', f'"schema_version": {version}')
    net = Read(text, inputs=["A.i"])
    wanted = tn.Network("drawn")
    wanted.input(i=4)
    wanted.output(j=3)
    wanted.bond(bond=2)
    wanted.tensor("A", "i bond")
    wanted.tensor("B", "bond j")
    assert net.freeze() == wanted.freeze()
    assert net.label == "drawn"
    assert Read(text, inputs=["t0_i"]).freeze() == net.freeze()
    both = Read(text.encode(), output=["B.j", "A.i"]).freeze()
    assert both.inputs == () and both.output == ("j", "i")
    summed = Read(text, inputs=["A.i"], output=[]).freeze()
    assert summed.output == () and summed.summed == {"j"}


def test_hyperedges_traces_and_names_that_are_none() -> None:
    """All ends of a hyperedge have one leg, both ends of a loop too; names are made fit and kept
    apart."""
    tensors = [
        tensor("t0", "core 1", phys=2, r=3, up=5, down=5),
        tensor("t1", "core 1", phys=2, r=3),
        tensor("t2", "bias", r=3),
    ]
    text = design(
        tensors,
        [edge("a-b", "t0_up", "t0_down")],
        hyperedges=[hyperedge("2", "t0_r", "t1_r", "t2_r")],
    )
    graph = Read(text, inputs=["t0_phys"]).freeze()
    assert [one.name for one in graph.tensors] == ["core_1", "core_1_1", "bias_1"]
    assert [one.legs for one in graph.tensors] == [
        ("core_1_phys", "e_2", "a_b", "a_b"),
        ("core_1_phys_1", "e_2"),
        ("e_2",),
    ]
    assert (graph.inputs[0].legs, graph.output) == (("core_1_phys",), ("core_1_phys_1",))
    with pytest.raises(
        tn.SpecError, match=r"several open indices are called 'core 1.phys'.*t0_phys"
    ):
        Read(text, inputs=["core 1.phys"])


@pytest.mark.parametrize("trainable", [True, False])
@pytest.mark.parametrize(
    ("data", "entries"),
    [
        ({"mode": "zeros"}, np.zeros((2, 2))),
        ({"mode": "ones", "dtype": "float64"}, np.ones((2, 2))),
        ({"mode": "identity"}, np.eye(2)),
        ({"mode": "copy"}, np.eye(2)),
        ({"mode": "fill", "fill_value": 0.5}, np.full((2, 2), 0.5)),
        ({"mode": "literal", "values": [[1, 2.5], [3, 4]]}, [[1, 2.5], [3, 4]]),
        (
            {"mode": "literal", "values": [[{"real": 0, "imag": 1}, 0], [0, 1]]},
            [[1j, 0], [0, 1]],
        ),
    ],
)
def test_entries_of_a_design_are_where_a_layer_starts(
    data: Any, entries: Any, trainable: bool
) -> None:
    """Parameters, or constants."""
    net = Read(design([tensor("t", "A", data, i=2, j=2)]), inputs=["A.i"], trainable=trainable)
    layer = tn.Layer(net, backend="torch", effort="fast")
    assert torch.equal(layer.to_dense(), torch.as_tensor(entries, dtype=layer.dtype).T)
    assert net.freeze().tensors[0].trainable is trainable


def test_random_entries_are_drawn_and_those_elsewhere_are_given() -> None:
    """A design says how they are drawn; a file beside it is not opened."""
    drawn = {"mode": "random", "seed": 3, "distribution": "uniform"}
    assert Read(two_cores(drawn), inputs=["A.i"]).freeze().nodes["A"].init == "uniform"
    outside = two_cores({"mode": "external", "file_path": "/etc/passwd"})
    with pytest.raises(
        tn.SpecError, match=r"tensor 'A'.*not read from a design; pass them as value"
    ):
        Read(outside, inputs=["A.i"])
    net = Read(outside, inputs=["A.i"], values={"A": np.ones((4, 2))})
    value = net.freeze().nodes["A"].value
    assert value is not None and (value.array == 1).all()


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("{}", "expected the JSON of a design"),
        ("[1]", "expected the JSON of a design"),
        ("{", "not valid JSON"),
        (design([], version=3), "schema_version is 3; versions 1 and 2 are known"),
        (design([], linear_periodic_chain={"cells": []}), "the design is periodic"),
        (design([3]), "tensors must be a list of objects"),
        (design([{"id": "t", "name": 5, "indices": []}]), "name must be a text, got 5"),
        (design([tensor("t", "A", i=0)]), "the size of a leg must be from 1"),
        (design([tensor("t", "A", i="2")]), "the size of a leg"),  # type: ignore[arg-type]
        (design([tensor("t", "A", i=2), tensor("t", "B", i=2)]), "two indices of the design have"),
        (design([tensor("t", "A", i=2)], [edge("e", "t_i", "u_j")]), "which is no index"),
        (
            design([tensor("t", "A", i=2, j=3)], [edge("e", "t_i", "t_j")]),
            "joins indices of different sizes: A.i=2, A.j=3",
        ),
        (
            design(
                [tensor("t", "A", i=2, j=2, k=2)],
                [edge("e", "t_i", "t_j"), edge("f", "t_k", "t_j")],
            ),
            "the index 'A.j' stands on two edges",
        ),
        (two_cores({"mode": "literal", "values": [[1, 2], [3]]}), "have not the shape (4, 2)"),
        (two_cores({"mode": "fill", "fill_value": "1"}), "expected a number, got '1'"),
        (two_cores({"mode": ["zeros"]}), "not read from a design"),
        (two_cores(5), "not read from a design"),
    ],
)
def test_what_is_no_design_is_refused(text: str, told: str) -> None:
    """With what is wrong and where."""
    with pytest.raises(tn.SpecError) as caught:
        Read(text).freeze()
    assert told in str(caught.value)


@pytest.mark.parametrize(
    ("name", "told"),
    [
        ("A.k", "there is no index 'A.k'; open ones: A.i B.j"),
        ("A.a", "the index 'A.a' is not open: it stands on an edge"),
    ],
)
def test_inputs_that_are_none(name: str, told: str) -> None:
    """The message lists the open ones."""
    with pytest.raises(tn.SpecError) as caught:
        Read(two_cores(), inputs=[name])
    assert told in str(caught.value)
