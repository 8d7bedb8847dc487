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
