"""What notebooks show: a table and a picture of networks, plans, costs and layers, all escaped."""

from __future__ import annotations

import xml.etree.ElementTree as ElementTree
from collections.abc import Callable
from typing import Any

import pytest
import torch

import tnlayer as tn
from tnlayer.support.html import HasHtml, html_of

LABEL = '<script>alert("x")</script> & $e^{x}$'


def net(label: str = LABEL) -> tn.Network:
    """Two cores whose label is markup."""
    made = tn.topologies.tensor_train((4, 4), (4, 4), rank=2)
    made.label = label
    return made


def everything() -> tn.Network:
    """Traces, hyperedges, shared, frozen and constant tensors, fixed and summed legs, two ports."""
    made = tn.Network("everything")
    made.input("x", {"i": 2, "k": 3, "p": 4})
    made.input("z", [2, 2])
    made.port("z", product=True)
    made.bond(a=2, t=3, h=2)
    made.tensor("A", "i t t a", init=0.5)
    made.tensor("F", "a h", trainable=False)
    made.tensor("G", "h z.0", share="F", conj=True)
    made.tensor("K", "h z.1", trainable=False, value=[[1.0, 0.0], [0.0, 1.0]])
    made.output("p")
    made.fix(p=1)
    made.sum("k")
    return made


def model() -> torch.nn.Module:
    """Two matrices, of which one has a name that is markup."""
    made = torch.nn.Sequential(torch.nn.Linear(16, 16))
    made.add_module(LABEL, torch.nn.Linear(16, 4))
    return made


SHOWN: dict[str, Callable[[], Any]] = {
    "network": net,
    "graph": lambda: net().freeze(),
    "plan": lambda: tn.plan(net()),
    "backward plan": lambda: tn.backward_plan(net()),
    "cost": lambda: tn.cost(net(), backend="torch"),
    "costs": lambda: tn.Layer(net(), backend="torch").costs(),
    "comparison": lambda: tn.compare(net(), net("other")),
    "layer": lambda: tn.Layer(net(), backend="torch"),
    "summary": lambda: tn.summary(model()),
    "suggestions": lambda: tn.suggest(
        24, 24, params=20, topologies=[tn.topologies.low_rank, tn.topologies.butterfly]
    ),
    "compressed": lambda: tn.compress(model(), tn.topologies.low_rank, compression=1.5),
    "unfinished": lambda: tn.Network(LABEL),
    "everything": everything,
    "large": lambda: tn.topologies.tensor_train((1,) * 200, (1,) * 200, rank=1),
}


def parsed(html: str) -> ElementTree.Element:
    """As XML, which it is: nothing is left open."""
    return ElementTree.fromstring(html)


@pytest.mark.parametrize("name", SHOWN)
def test_well_formed_and_escaped(name: str) -> None:
    """Nothing of the user's is markup, and no tag is left open."""
    shown: HasHtml = SHOWN[name]()
    html = html_of(shown)
    page = parsed(html)
    assert not page.findall(".//script") and "<script>" not in html
    told = (
        "network",
        "graph",
        "cost",
        "layer",
        "unfinished",
        "comparison",
        "summary",
        "compressed",
    )
    if name in told:
        assert "alert" in "".join(page.itertext())


@pytest.mark.parametrize("name", ["network", "graph", "plan", "cost", "layer", "everything"])
def test_a_table_and_a_picture(name: str) -> None:
    """Both are there, and every tensor is in the picture."""
    page = parsed(html_of(SHOWN[name]()))
    svg = page.find(".//{http://www.w3.org/2000/svg}svg")
    assert svg is not None and page.find(".//table") is not None
    if name in ("network", "graph", "plan", "layer"):
        text = "".join(svg.itertext())
        assert "core" in text


def test_a_large_network_has_no_picture() -> None:
    """And says how many rows are left out."""
    page = parsed(html_of(SHOWN["large"]()))
    assert page.find(".//{http://www.w3.org/2000/svg}svg") is None
    assert "142 more" in "".join(page.itertext())


def test_a_label_with_dollars_can_be_drawn() -> None:
    """It is no mathematics for matplotlib, whether it is any or not."""
    axes = net("costs $5 or $\\frac{$").draw()
    axes.figure.canvas.draw()
    assert axes.get_title().startswith("costs $5")


def test_printed_like_the_rest() -> None:
    """A graph prints as its network, costs one below the other; a repr is one line."""
    layer = tn.Layer(net("two"), backend="torch")
    assert str(layer.graph) == str(net("two"))
    assert str(layer.costs()) == str(layer.costs()[0])
    for one in (layer.graph, layer.costs()[0], tn.plan(net("two"))):
        assert "\n" not in repr(one) and len(repr(one)) < 200


@pytest.mark.parametrize(
    "make",
    [
        lambda: tn.Layer(tn.topologies.low_rank(4, 3, rank=2), backend="torch").explain(),
        lambda: tn.plan(tn.topologies.mera(6)),
        lambda: tn.backward_plan(tn.topologies.mera(6)),
        lambda: tn.cost(tn.topologies.mera(6), batch=16),
        lambda: tn.compare(tn.topologies.mera(6), batch=16),
        lambda: tn.topologies.low_rank(4, 3, rank=2),
        lambda: tn.fit_budget(tn.topologies.low_rank, 8, 8, params=32),
    ],
)
def test_no_words_of_the_workshop(make: Callable[[], object]) -> None:
    """What users see says nothing of branches and stems, of how searches are named inside, or of
    one tensors."""
    text = f"{make()}\n{make()!r}".lower()
    for word in ("combo", "branch", "stem", "rebuild", "e+0", " 1 tensors", " 1 parameters"):
        assert word not in text, word


@pytest.mark.parametrize("name", ["summary", "suggestions", "compressed"])
def test_what_models_cost_is_a_table(name: str) -> None:
    """Every word that is printed stands in a notebook, too, and the numbers in a table."""
    shown = SHOWN[name]()
    page = parsed(html_of(shown))
    text = " ".join(page.itertext())
    assert [word for word in str(shown).split() if word not in text] == []
    assert page.findall(".//tbody/tr")
