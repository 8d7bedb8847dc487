"""The canonical form: renaming and reordering always hit, different structures never do."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import tnlayer as tn
from tests.support.graphs import mera_like, relabelled, ring, scalars
from tests.support.strategies import networks
from tests.support.work import work_of
from tnlayer.graph import canonical
from tnlayer.graph.canonical import CanonicalForm, canonicalise
from tnlayer.graph.graph import Graph
from tnlayer.graph.validate import validate


def check_tables(graph: Graph, form: CanonicalForm) -> None:
    """The tables map the user's graph to the form's graph, leg by leg."""
    nodes = form.graph.nodes
    for tensor in graph.tensors:
        plain = nodes[form.tensor_names[tensor.name]]
        assert plain.legs == tuple(form.leg_names[leg] for leg in tensor.legs)
        assert plain.share == (None if tensor.share is None else form.tensor_names[tensor.share])
        assert (plain.conj, plain.trainable) == (tensor.conj, tensor.trainable)
    assert form.graph.output == tuple(form.leg_names[leg] for leg in graph.output)
    assert form.graph.sizes == {form.leg_names[leg]: size for leg, size in graph.leg_sizes}
    assert form.graph.pinned == {form.leg_names[leg]: index for leg, index in graph.fixed}
    assert form.graph.summed == {form.leg_names[leg] for leg in graph.summed}


@given(networks(), st.integers(0, 1000))
@settings(max_examples=150)
def test_relabelled_networks_have_one_form(net: tn.Network, seed: int) -> None:
    """Other names and another order give the same form and key, and the tables are right."""
    graph = net.freeze()
    form, other = canonicalise(graph), canonicalise(relabelled(graph, seed))
    assert form.exact and other.exact
    assert form.graph == other.graph
    assert form.key() == other.key()
    check_tables(graph, form)
    validate(form.graph)


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize(
    "graph",
    [mera_like(12, 3).freeze(), ring(9), scalars(8), scalars(2)],
    ids=["mera", "ring", "scalars", "two"],
)
def test_symmetric_networks_have_one_form(graph: Graph, seed: int) -> None:
    """Ties between look-alike tensors are broken the same way under all names and orders."""
    form, other = canonicalise(graph), canonicalise(relabelled(graph, seed))
    assert form.exact and other.exact
    assert form.key() == other.key()


def test_names_of_the_form() -> None:
    """The form has tensors n0.., legs e0.., inputs x0.., and neither label nor values."""
    net = tn.Network("mine")
    net.input("left", i=2)
    net.input("right", k=3)
    net.output(j=4)
    net.tensor("A", "k j", value=np.ones((3, 4)))
    net.tensor("B", "i", isometry="i")
    graph = canonicalise(net.freeze()).graph
    assert [port.name for port in graph.inputs] == ["x0", "x1"]
    assert [tensor.name for tensor in graph.tensors] == ["n0", "n1"]
    assert [leg for leg, _ in graph.leg_sizes] == ["e0", "e1", "e2"]
    assert graph.label == ""
    assert all((t.value, t.init, t.isometry) == (None, None, ()) for t in graph.tensors)


def test_values_are_no_part_of_the_key_but_complex_is() -> None:
    """Real values leave the key alone; a complex one is noted, for the arithmetic differs."""
    net = mera_like(4, 2)
    key = canonicalise(net.freeze()).key()
    net.set_values({"top": np.ones((2, 2, 2, 2))})
    assert canonicalise(net.freeze()).key() == key
    net.set_values({"top": np.ones((2, 2, 2, 2)) * 1j})
    form = canonicalise(net.freeze())
    assert form.is_complex
    assert form.key() != key


def _variant(name: str) -> Graph:
    """Networks that are alike but for one thing."""
    net = tn.Network()
    net.input(i=2, k=2)
    net.output(j=2, l=2)
    net.bond(a=2, b=3 if name == "size" else 2)
    net.tensor("A", "i j b a" if name == "axes" else "i j a b", trainable=name != "frozen")
    share = "A" if name == "share" else None
    net.tensor("B", "b a k l" if name == "twist" else "a b k l", share=share, conj=name == "conj")
    if name == "pin":
        net.fix(j=0)
    if name == "other pin":
        net.fix(j=1)
    if name == "port":
        net.port("x", batched=False)
    if name == "output":
        net.reorder(output="l j")
    if name == "input":
        net.reorder(input="k i")
    return net.freeze()


def test_different_networks_have_different_keys() -> None:
    """Sizes, flags, pins, ports and the order of their legs tell networks apart.

    "axes" and "twist" swap the two bonds on one side: these two are one network.
    """
    names = ("plain", "size", "axes", "frozen", "share", "conj", "pin", "other pin", "port")
    keys = {name: canonicalise(_variant(name)).key() for name in (*names, "output", "input")}
    assert len(set(keys.values())) == len(keys)
    assert canonicalise(_variant("twist")).key() == keys["axes"]


def test_rings_of_different_shape_differ() -> None:
    """Two rings of three and one of six look alike tensor by tensor, and are told apart."""
    net = tn.Network()
    net.bond(**{f"b{k}": 3 for k in range(6)})
    for k in range(6):
        follower = 3 * (k // 3) + (k + 1) % 3
        net.tensor(f"T{k}", [f"b{k}", f"b{follower}"])
    net.output()
    assert canonicalise(net.freeze()).key() != canonicalise(ring(6)).key()


def test_circuits_are_little_work_and_exact(monkeypatch: pytest.MonkeyPatch) -> None:
    """A 12-leg MERA needs two rounds, 200 tensors two hundred, of one update a tensor; both are
    exact."""
    for graph, updates, calls in (
        (mera_like(12, 3).freeze(), 40, 5_000),
        (ring(200), 41_000, 800_000),
    ):
        monkeypatch.setattr(canonical, "MAX_COLOUR_UPDATES", updates)
        assert canonicalise(graph).exact
        assert work_of(lambda graph=graph: canonicalise(graph)).calls < calls


def test_past_the_bound_names_decide(monkeypatch: pytest.MonkeyPatch) -> None:
    """With no work allowed the form says so, is still a right form, and repeats itself."""
    monkeypatch.setattr(canonical, "MAX_COLOUR_UPDATES", 5)
    graph = ring(9)
    form = canonicalise(graph)
    assert not form.exact
    check_tables(graph, form)
    assert canonicalise(graph).key() == form.key()


def test_large_symmetric_networks_stop_at_the_bound() -> None:
    """4,000 look-alike tensors end at the bound, not exact, and the tables are right."""
    graph = scalars(4000)
    assert work_of(lambda: canonicalise(graph)).calls < 10 * canonical.MAX_COLOUR_UPDATES
    form = canonicalise(graph)
    assert not form.exact
    check_tables(graph, form)


def test_key_does_not_depend_on_the_hash_seed() -> None:
    """Three processes with different hash seeds print the same keys."""
    program = (
        "from tests.support.graphs import mera_like, ring, scalars\n"
        "from tnlayer.graph.canonical import canonicalise\n"
        "graphs = mera_like(12, 3).freeze(), ring(9), scalars(5)\n"
        "print(*(canonicalise(graph).key() for graph in graphs))"
    )
    root = Path(__file__).parents[2]
    printed = {
        subprocess.run(
            [sys.executable, "-c", program],
            env={"PYTHONHASHSEED": str(seed), "PYTHONPATH": str(root)},
            capture_output=True,
            text=True,
            check=True,
        ).stdout
        for seed in range(3)
    }
    assert len(printed) == 1
    graphs = (mera_like(12, 3).freeze(), ring(9), scalars(5))
    assert printed == {" ".join(canonicalise(graph).key() for graph in graphs) + "\n"}
