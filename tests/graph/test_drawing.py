"""net.draw(): every tensor and leg is in the picture."""

from __future__ import annotations

import itertools
import math
import sys
from pathlib import Path

import pytest

import tnlayer as tn
from tnlayer.graph.drawing.placement import place


def test_a_drawing_has_all_names(tmp_path: Path) -> None:
    """Tensor names, leg names and sizes stand as texts; the file is a PNG."""
    net = tn.Network("named")
    net.input(i1=4, i2=5)
    net.output(j1=6)
    net.bond(a=3)
    net.tensor("First", "i1 a")
    net.tensor("Second", "a i2 j1")
    path = tmp_path / "net.png"
    axes = net.draw(path)
    texts = " ".join(text.get_text() for text in axes.texts)
    for word in ("First", "Second", "a=3", "i1=4", "i2=5", "j1=6"):
        assert word in texts
    assert path.read_bytes()[:4] == b"\x89PNG"


def test_hyperedges_fixed_legs_and_sums_are_drawn() -> None:
    """A network with every kind of node has a picture."""
    net = tn.topologies.cp((2, 2), (2, 2), rank=3)
    net.fix(j0=1)
    assert net.draw().texts
    assert tn.topologies.mera(12, 2, 2).draw().texts


def test_marks_do_not_cover_each_other() -> None:
    """In the 12-leg MERA no two marks stand nearer than half a box; ports lie at the bottom."""
    marks = list(place(tn.topologies.mera(12, 2, 3).freeze()).vertices.values())
    assert sum(mark.kind == "tensor" for mark in marks) == 19
    assert sum(mark.kind == "output" for mark in marks) == 12
    assert {mark.y for mark in marks if mark.kind == "input"} == {min(mark.y for mark in marks)}
    for first, second in itertools.combinations(marks, 2):
        assert math.hypot(first.x - second.x, first.y - second.y) > 0.5


def test_a_drawing_without_matplotlib(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where matplotlib is missing, the error says how to install it."""
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    with pytest.raises(tn.BuildError, match=r"pip install tnlayer\[viz\]"):
        tn.topologies.low_rank(4, 4, rank=2).draw()


def test_drawings_too_large_or_of_unknown_format(tmp_path: Path) -> None:
    """A network beyond reading and a suffix that matplotlib does not write are SpecErrors."""
    with pytest.raises(tn.SpecError, match=r"at most 600; print\(net\)"):
        tn.Network.from_einsum(",".join("i" * 700), sizes={"i": 1}).draw()
    with pytest.raises(tn.SpecError, match=r"cannot be saved to .*net\.nothing"):
        tn.topologies.low_rank(4, 4, rank=2).draw(tmp_path / "net.nothing")


# -- legs with one end -----------------------------------------------------------------------------


def ends_of_legs(net: tn.Network) -> dict[str, tuple[str, str]]:
    """The mark at the end of each leg that has one, as its kind and text, by the leg's label."""
    graph, missing = net._drawn()
    picture = place(graph, frozenset() if missing is None else missing.ends)
    return {
        line.label: (mark.kind, mark.text)
        for line in picture.lines
        if (mark := picture.vertices[line.second]).kind in ("sum", "fix", "open")
    }


def test_summed_and_fixed_legs_are_stubs_with_their_names() -> None:
    """On a tensor and on x alone, in levels, in a ring and in a row."""
    net = tn.Network("sums")
    net.input(i=2, k=3, m=4)
    net.output(j=2, f=5)
    net.bond(a=3, s=7)
    net.tensor("A", "i a s")
    net.tensor("B", "a j f")
    net.sum("s", "k")
    net.fix(f=3)
    net.sum("m")
    sums = ("sum", "Σ")
    assert ends_of_legs(net) == {"s=7": sums, "k=3": sums, "m=4": sums, "f=5": ("fix", "|3⟩")}
    ring = tn.topologies.tensor_ring((2,) * 5, (2,) * 5, rank=2)
    ring.fix(j1=0, i2=1)
    assert ends_of_legs(ring) == {"j1=2": ("fix", "|0⟩"), "i2=2": ("fix", "|1⟩")}
    row = tn.topologies.mps(4, 2, 2)
    row.fix(j1=1)
    assert ends_of_legs(row) == {"j1=2": ("fix", "|1⟩")}


def unfinished() -> tn.Network:
    """Three cores, of which the last one is not there yet."""
    net = tn.Network("three cores")
    net.input(i1=4, i2=4, i3=4)
    net.output(j1=4, j2=4, j3=4)
    net.bond(a=2, b=2)
    net.tensor("A", "i1 j1 a")
    net.tensor("B", "a i2 j2 b")
    return net


@pytest.mark.parametrize("suffix", [".svg", ".png", ".tikz"])
def test_a_network_that_is_not_finished_is_drawn(suffix: str, tmp_path: Path) -> None:
    """Legs with one end are stubs that are open; the title says what no tensor has."""
    net = unfinished()
    assert ends_of_legs(net) == {"b=2": ("open", "open"), "i3=4": ("open", "open")}
    path = tmp_path / f"net{suffix}"
    axes = net.draw(path)
    assert path.stat().st_size > 500
    title = axes.get_title().splitlines()
    assert title[:2] == ["three cores, 96 parameters so far, not finished", "no tensor has j3"]
    assert {"b=2", "i3=4", "open"} <= {text.get_text() for text in axes.texts}
    net.tensor("C", "b i3 j3")
    assert net.draw().get_title().splitlines()[0] == "three cores, 128 parameters"


def test_without_an_output_and_without_anything() -> None:
    """What is missing altogether is no reason not to draw the rest; nothing is a picture, too."""
    net = tn.Network("begun")
    net.input(i=4)
    net.bond(j=3)
    net.tensor("A", "i j")
    assert ends_of_legs(net) == {"j=3": ("open", "open")}
    assert tn.Network("empty").draw().get_title().startswith("empty, 0 parameters so far")


def test_what_is_wrong_and_not_only_unfinished_is_told() -> None:
    """A picture of it would be one of something else."""
    net = unfinished()
    net.tensor("C", "b i3 j3 k")
    with pytest.raises(tn.SpecError, match="leg 'k', which is not declared"):
        net.draw()
    net = unfinished()
    net.tensor("C", "b i3 j3", share="nothing")
    with pytest.raises(tn.SpecError, match="shares 'nothing'"):
        net.draw()
