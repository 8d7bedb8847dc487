"""The README where it is read: its pictures, and what an index of packages shows of it."""

from __future__ import annotations

import re
import tomllib
import xml.etree.ElementTree as ElementTree
from pathlib import Path

import pytest

import tnlayer as tn
from examples.readme_gallery import OUT, networks, picture
from hatch_build import Readme, for_an_index

ROOT = Path(__file__).parents[2]
README = (ROOT / "README.md").read_text(encoding="utf-8")
LINK = re.compile(r"\]\(([^)]+)\)")


def test_the_gallery_is_that_of_the_package() -> None:
    """As its networks are drawn today, well-formed, with nothing to load."""
    text = OUT.read_text(encoding="utf-8")
    assert text == picture()
    root = ElementTree.fromstring(text)
    assert set(networks()) <= {part.text for part in root.iter() if part.text}
    assert "script" not in text and "href" not in text
    assert f"All {len(tn.topologies.__all__)} ready-made networks" in README


def test_every_topology_is_listed() -> None:
    """In the README's list of what is in it."""
    listed = README.split("Ready-made:")[1].split(". Your own")[0]
    words = re.findall(r"[a-z0-9_]+", listed)
    assert set(tn.topologies.__all__) <= set(words)


def test_the_cost_of_the_readme_is_what_is_printed() -> None:
    """Line by line; FLOPs are those of the fastest plan, which depends on the machine, and may be
    more than the fewest."""
    net = tn.topologies.tensor_train((16,) * 3, (16,) * 3, rank=8)
    net.label = "three cores"
    text = README.split("shows, among others:\n\n```text\n")[1].split("```")[0]
    shown = [re.split(r"\s{2,}", line.strip()) for line in text.splitlines()]
    fewest = tn.cost(net, batch=256, minimize="flops", backend="torch", effort="fast")
    printed = [re.split(r"\s{2,}", line.strip()) for line in str(fewest).splitlines()[:6]]
    assert shown[:4] == printed[:4] and len(shown) == 6
    for line, least in zip(shown[4:], printed[4:], strict=True):
        assert (line[0], line[-1]) == (least[0], least[-1])
        assert int(line[1].replace(",", "")) >= int(least[1].replace(",", ""))


def test_an_index_gets_absolute_links() -> None:
    """Of pages and pictures, at the tag of the version; places in the page stay."""
    text = "![p](docs/a.svg) [b](docs/b.md#c) [d](#d) [e](https://arxiv.org/abs/1)"
    made = for_an_index(text, "https://example.org/tnlayer/", "v1.2.3")
    assert LINK.findall(made) == [
        "https://example.org/tnlayer/raw/v1.2.3/docs/a.svg",
        "https://example.org/tnlayer/blob/v1.2.3/docs/b.md#c",
        "#d",
        "https://arxiv.org/abs/1",
    ]
    assert for_an_index(text, None, "v1.2.3") == " b [d](#d) [e](https://arxiv.org/abs/1)"


@pytest.mark.parametrize("repository", [None, "https://example.org/tnlayer"])
def test_the_metadata_has_a_readme_without_relative_links(repository: str | None) -> None:
    """With an address and without one; the project asks for it."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    assert project["project"]["dynamic"] == ["readme"]
    assert "custom" in project["tool"]["hatch"]["metadata"]["hooks"]
    metadata = dict(project["project"])
    if repository:
        metadata["urls"] = {"Repository": repository}
    Readme(str(ROOT), {}).update(metadata)
    readme = metadata["readme"]
    assert readme["content-type"] == "text/markdown"
    links = LINK.findall(readme["text"])
    assert links and all(link.startswith(("https://", "#")) for link in links)
    relative = [link for link in LINK.findall(README) if "://" not in link and link[0] != "#"]
    assert len(links) == len(LINK.findall(README)) - (0 if repository else len(relative))
