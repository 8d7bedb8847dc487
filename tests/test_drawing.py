"""net.draw(): every tensor and leg is in the picture."""

from __future__ import annotations

from pathlib import Path

import tnlayer as tn


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
