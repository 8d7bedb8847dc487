"""The picture of the README is what examples/readme_picture.py makes of the package."""

from __future__ import annotations

import re
import xml.etree.ElementTree as ElementTree

from examples.readme_picture import OUT, WIDTH, excerpt, network, picture

SVG = "{http://www.w3.org/2000/svg}"


def networks_part(root: ElementTree.Element) -> str:
    """The picture of the network inside."""
    part = root.find(f"{SVG}svg[@aria-label='MERA']")
    assert part is not None
    return ElementTree.tostring(part, encoding="unicode")


def test_the_picture_is_that_of_the_package() -> None:
    """Well-formed, as wide as a README shows it, and the network is drawn as it is today."""
    text = OUT.read_text(encoding="utf-8")
    root = ElementTree.fromstring(text)
    assert root.get("width") == str(WIDTH) == "800"
    words = "".join(root.itertext())
    for tensor in network().freeze().tensors:
        assert tensor.name in words
    assert "The order of contraction" in words and "forward_samples" in words
    assert not root.findall(f".//{SVG}script") and "href" not in text
    # The plan and the code depend on the machine that they were made on.
    assert networks_part(ElementTree.fromstring(picture())) == networks_part(root)


def test_isometries_are_told_apart() -> None:
    """Some are narrower above, some below, and squares have upright sides."""
    text = networks_part(ElementTree.fromstring(OUT.read_text(encoding="utf-8")))
    found: set[int] = set()
    for points in re.findall(r'points="([^"]*)"', text):
        xs = [float(point.split(",")[0]) for point in points.split()]
        below, above = xs[1] - xs[0], xs[2] - xs[3]
        found.add(0 if abs(below - above) < 1 else 1 if below > above else -1)
    assert found == {-1, 0, 1}


def test_an_excerpt_of_a_kernel() -> None:
    """The calls of a sample's steps, then the beginning of the first."""
    source = "\n".join(
        ("// t1 = a x b", "STEP forward_samples0_t1(int i) {", *["  work();"] * 20, "}",
         "STEP forward_samples(const forward_frame& f) {", "  forward_samples0_t1(1);", "}", "end")
    )  # fmt: skip
    lines = excerpt(source)
    assert lines[:4] == [
        "STEP forward_samples(const forward_frame& f) {",
        "  forward_samples0_t1(1);",
        "}",
        "",
    ]
    assert lines[4:6] == ["// t1 = a x b", "STEP forward_samples0_t1(int i) {"]
    assert lines[-1] == "    ..." and "end" not in lines
