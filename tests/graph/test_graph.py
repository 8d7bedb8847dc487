"""The frozen Graph: what is content, what it counts, pickling."""

from __future__ import annotations

import copy
import pickle
from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given, settings

import tnlayer as tn
from tests.support.strategies import networks
from tnlayer.graph.graph import ArrayValue


def two_cores(label: str = "", **options: object) -> tn.Network:
    """Two cores, with options for the second one."""
    net = tn.Network(label)
    net.input(i=2, k=2)
    net.output(j=2, l=2)
    net.bond(a=2)
    net.tensor("A", "i j a")
    net.tensor("B", "a k l", **options)  # type: ignore[arg-type]
    return net


def renamed_legs() -> tn.Network:
    """two_cores with other leg names, declared in another order."""
    net = tn.Network("another label")
    net.tensor("B", "r k2 l2")
    net.tensor("A", "i2 j2 r")
    net.bond(r=2)
    net.output(j2=2, l2=2)
    net.input(i2=2, k2=2)
    return net


def test_names_of_legs_label_and_order_are_no_content() -> None:
    """Graphs that differ in label, leg names and order of declaration only are equal."""
    assert two_cores().freeze() == renamed_legs().freeze()
    assert hash(two_cores().freeze()) == hash(renamed_legs().freeze())
    assert len({two_cores().freeze(), renamed_legs().freeze()}) == 1


def _other_axis_order() -> tn.Network:
    net = two_cores()
    net.reorder(output="l j")
    return net


def _fixed() -> tn.Network:
    net = two_cores()
    net.fix(j=0)
    return net


def _other_port() -> tn.Network:
    net = two_cores()
    net.port("x", batched=False)
    return net


def _other_tensor_name() -> tn.Network:
    net = tn.Network()
    net.input(i=2, k=2)
    net.output(j=2, l=2)
    net.bond(a=2)
    net.tensor("A", "i j a")
    net.tensor("C", "a k l")
    return net


@pytest.mark.parametrize(
    "other",
    [
        _other_axis_order,
        _fixed,
        _other_port,
        _other_tensor_name,
        lambda: two_cores(conj=True),
        lambda: two_cores(trainable=False),
        lambda: two_cores(share="A"),
        lambda: two_cores(init=0.1),
        lambda: two_cores(init="zeros"),
        lambda: two_cores(isometry="a"),
        lambda: two_cores(value=np.ones((2, 2, 2))),
    ],
)
def test_content_tells_graphs_apart(other: Callable[[], tn.Network]) -> None:
    """Each flag, value, name, axis order and pin is content."""
    assert other().freeze() != two_cores().freeze()


def test_values_are_compared_by_content_and_dtype() -> None:
    """Equal arrays are equal values; another dtype or shape is not."""
    ones = ArrayValue(np.ones(4))
    assert ones == ArrayValue(np.ones(4))
    assert hash(ones) == hash(ArrayValue(np.ones(4)))
    assert ones != ArrayValue(np.ones(4, dtype=np.float32))
    assert ones != ArrayValue(np.ones((2, 2)))
    with pytest.raises(ValueError, match="read-only"):
        ones.array[0] = 2


def test_pickle_and_deepcopy_keep_content_only() -> None:
    """A pickled graph is equal, has the same hash, and carries no cached table."""
    graph = two_cores(value=np.ones((2, 2, 2))).freeze()
    assert graph.parameter_count == 16
    for other in (pickle.loads(pickle.dumps(graph)), copy.deepcopy(graph)):
        assert other == graph
        assert hash(other) == hash(graph)
        assert "parameters" not in vars(other)
    value = graph.nodes["B"].value
    assert value is not None
    assert not pickle.loads(pickle.dumps(value)).array.flags.writeable


def test_features_of_ports() -> None:
    """Product ports have n*d features; fixed legs leave; closed networks have no in_features."""
    net = tn.Network("product")
    net.input([3] * 4)
    net.port("x", product=True)
    net.output(net.tensor("A", ["x.0", "x.1", "x.2", "x.3"], out=(5,)))
    graph = net.freeze()
    assert graph.input_shape(graph.inputs[0]) == (4, 3)
    assert (graph.in_features, graph.out_features) == (12, 5)
    assert graph.dense_parameter_count == 81 * 5
    net.fix({"x.3": 1})
    graph = net.freeze()
    assert graph.input_shape(graph.inputs[0]) == (3, 3)
    closed = tn.Network("closed")
    closed.output()
    with pytest.raises(tn.SpecError, match="'closed' has no input"):
        closed.freeze().in_features  # noqa: B018


@given(networks())
@settings(max_examples=50)
def test_random_graphs_equal_their_copies(net: tn.Network) -> None:
    """freeze() is a function of what was said: twice, copied and pickled, it gives equal graphs."""
    graph = net.freeze()
    for other in (net.freeze(), net.copy().freeze(), pickle.loads(pickle.dumps(graph))):
        assert other == graph
        assert hash(other) == hash(graph)
    assert tn.Network.from_graph(graph).freeze() == graph
