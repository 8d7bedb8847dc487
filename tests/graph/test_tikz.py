"""Pictures for TeX: by the rules of TeX and TikZ they compile, whatever names and shapes are."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings

import tnlayer as tn
from tests.support.strategies import networks
from tests.support.tikz import faults_of
from tnlayer.graph.drawing.drawing import MAX_DRAWN_NODES, place_checked
from tnlayer.graph.drawing.options import colours_of
from tnlayer.graph.drawing.tikz import picture_tikz
from tnlayer.support.tex import tex

T = tn.topologies


def text_of(graph: tn.Graph) -> str:
    """What ``draw`` writes into a file."""
    picture = place_checked(graph)
    return picture_tikz(graph, picture, colours_of(graph, picture, None))


@given(networks(is_complex=True))
@settings(max_examples=60)
def test_pictures_of_random_networks_compile(net: tn.Network) -> None:
    """Hyperedges, traces, sums, fixed legs, sharers and several inputs."""
    graph = net.freeze()
    if len(graph.tensors) <= MAX_DRAWN_NODES // 4:
        assert faults_of(text_of(graph)) == []


@pytest.mark.parametrize("name", T.__all__)
def test_pictures_of_topologies_compile(name: str) -> None:
    """Each, as its own page of the gallery has it."""
    from docs.pages_from_code.gallery import ENTRIES
    from tnlayer.cli.networks import load_network

    assert faults_of(text_of(load_network(ENTRIES[name].call).freeze())) == []


def test_a_state_and_its_conjugate_compile() -> None:
    """With bent legs and an operator."""
    ((graph),) = tn.energy(T.mps(6, 2, 4), {(0, 2): [[0.0] * 4] * 4})
    assert faults_of(text_of(graph)) == []


@pytest.mark.parametrize("labels", ["all", "names", "sizes", "none"])
def test_plans_compile(labels: Any, tmp_path: Path) -> None:
    """Forward and backward, with powers of ten and more."""
    plan = tn.plan(T.tensor_train((2,) * 11, (2,) * 11, rank=3), batch=4)
    for number, one in enumerate((plan, tn.backward_plan(plan))):
        path = tmp_path / f"{number}.tikz"
        one.draw(path, labels=labels)
        assert faults_of(path.read_text(encoding="utf-8")) == []


def test_powers_are_one_exponent() -> None:
    """Of two digits as well: TeX would set two exponents apart."""
    assert tex("2¹⁰·3²") == r"2$^{10}$$\cdot$3$^2$"


@pytest.mark.parametrize(
    ("change", "told"),
    [
        (lambda text: text.replace(";", "", 1), "ends with a semicolon"),
        (lambda text: text.replace("}", "", 1), "braces stay open"),
        (lambda text: text + "}", "closed that is not open"),
        (lambda text: text.replace(r"core\_0", "core_0"), "a meaning in TeX"),
        (lambda text: text.replace(r"core\_0", r"\input{a}"), "unknown command 'input'"),
        (lambda text: re.sub(r"\((-?\d+\.\d{3}),", "(nan,", text, count=1), "no path of points"),
        (lambda text: text.replace("draw=", "drawn=", 1), "unknown option"),
        (lambda text: re.sub(r"\\definecolor.*\n", "", text, count=1), "undefined colour"),
        (lambda text: text.replace(r"\end{tikzpicture}", r"\end{tikz}"), "no end"),
        (lambda text: text.replace(r"core\_0", "core$0"), "mathematics that is not closed"),
        (lambda text: text.replace(r"core\_0", "kerné"), "fonts of TeX may lack"),
    ],
)
def test_the_check_finds_faults(change: Any, told: str) -> None:
    """Each of those that it looks for."""
    text = text_of(T.tensor_train((4, 4), (4, 4), rank=2).freeze())
    assert faults_of(text) == []
    assert any(told in fault for fault in faults_of(change(text)))
