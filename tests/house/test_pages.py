"""The pages of the docs: each listed, links lead somewhere, snippets run, lists are complete."""

from __future__ import annotations

import io
import re
import xml.etree.ElementTree as ElementTree
from contextlib import redirect_stdout
from pathlib import Path
from typing import Any

import matplotlib
import pytest

import tnlayer as tn
from docs.pages_from_code.command_line import WIDTH, command_line_page, commands
from docs.pages_from_code.gallery import ENTRIES, formula, gallery_pages
from docs.pages_from_code.reference import PAGES, reference_pages
from docs.pages_from_code.write import write_all
from tests.support.pages import DOCS, cells, listed_pages, page_files
from tnlayer.cli.commands import command_parser, main

ROOT = DOCS.parent
RUN = [path for path in page_files() if cells(path.read_text(encoding="utf-8"))]


def relative(path: Path) -> str:
    return str(path.relative_to(DOCS))


def test_every_page_is_listed() -> None:
    """From index.md each page is reached by tables of contents, and each of these names a page."""
    found, waiting = set[Path](), [DOCS / "index.md"]
    while waiting:
        page = waiting.pop()
        found.add(page)
        if "generated" not in page.parts:
            waiting += listed_pages(page) - found
    written = {page for page in found if "generated" not in page.parts}
    assert written == set(page_files())
    made = {relative(page) for page in found - written}
    assert made == {
        "generated/gallery/index.md",
        "generated/reference/index.md",
        "generated/command-line.md",
    }


def test_links_lead_to_files(tmp_path: Path) -> None:
    """Of pages by hand and of pages that are made."""
    write_all(tmp_path)
    for page in page_files():
        text = page.read_text(encoding="utf-8")
        for link in re.findall(r"\]\(([^)#:]+\.\w+)(?:#[^)]*)?\)", text):
            made = tmp_path / link.partition("generated/")[2]
            there = (page.parent / link).exists() or ("generated/" in link and made.exists())
            assert there, (relative(page), link)
    for page in tmp_path.rglob("*.md"):
        for link in re.findall(r"\]\(([^)#:]+)\)", page.read_text(encoding="utf-8")):
            here = DOCS / "generated" / page.relative_to(tmp_path).parent / link
            assert (page.parent / link).exists() or here.resolve().exists(), (page.name, link)


@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning")
@pytest.mark.parametrize("page", RUN, ids=relative)
def test_snippets_run(page: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """One after the other, as the build runs them."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("TNLAYER_DEBUG", raising=False)
    names: dict[str, Any] = {"__name__": "page"}
    with matplotlib.rc_context({"backend": "agg"}):
        for cell in cells(page.read_text(encoding="utf-8")):
            exec(compile(cell, relative(page), "exec"), names)


# -- the gallery -----------------------------------------------------------------------------------


def test_the_gallery_has_every_topology() -> None:
    """A page each, with a picture that draw() made, a formula, a cost and when to use it; a new
    topology without an entry is an error."""
    pages = gallery_pages()
    names = tn.topologies.__all__
    assert {f"{name}.md" for name in names} | {f"{name}.svg" for name in names} | {
        "index.md"
    } == set(pages)
    for name in names:
        assert ElementTree.fromstring(pages[f"{name}.svg"]).tag.endswith("svg")
        page = pages[f"{name}.md"]
        heads = re.findall(r"^## (.*)$", page, re.MULTILINE)
        assert heads == ["When to use it", "What it computes", "What it costs", "Source", "Call"]
        assert re.search(r"\| parameters \| [\d,]+ \|", page)
        assert f"]({name}.md)" in pages["index.md"]


def test_a_topology_without_an_entry_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    """The build fails; it does not leave the topology out."""
    monkeypatch.delitem(ENTRIES, "mera")
    with pytest.raises(LookupError, match="mera"):
        gallery_pages()


def test_formulas_are_those_of_the_networks() -> None:
    """With legs, or letters where there are wires; fixed by hand here."""
    assert (
        formula(tn.topologies.low_rank(4, 6, rank=2)) == "y[j] = sum over i r of x[i] V[r i] U[j r]"
    )
    net = tn.Network()
    net.output(net.tensor("gate", net.input([2, 3]), out=(4,)))
    assert formula(net) == "y[c] = sum over a b of x[a b] gate[a b c]"


# -- reference, command line, environment ----------------------------------------------------------


def test_the_reference_has_every_public_name(monkeypatch: pytest.MonkeyPatch) -> None:
    """Once; what is missing is an error."""
    text = "\n".join(reference_pages().values())
    for name in set(tn.__all__) - {"topologies"}:
        assert len(re.findall(rf"^\.\. auto\w+:: tnlayer\.{name}$", text, re.MULTILINE)) == 1
    for name in tn.topologies.__all__:
        assert f".. autofunction:: tnlayer.topologies.{name}\n" in text
    monkeypatch.delitem(PAGES, "errors.md")
    with pytest.raises(LookupError, match="SpecError"):
        reference_pages()


def test_the_page_of_the_command_line_is_what_help_prints(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of the command line and of each command, at the width of the page."""
    page = command_line_page()
    monkeypatch.setenv("COLUMNS", str(WIDTH))
    names = list(commands(command_parser()))
    assert len(names) > 10
    for words in ([], *([name] for name in names)):
        printed = io.StringIO()
        with redirect_stdout(printed), pytest.raises(SystemExit):
            main([*words, "--help"])
        assert f"```text\n{printed.getvalue()}```" in page, words


def test_the_environment_page_has_every_variable() -> None:
    """Those that the code reads, and no others."""
    read = {
        name
        for path in (ROOT / "tnlayer").rglob("*.py")
        for name in re.findall(r"\"(TNLAYER_[A-Z_]+)\"", path.read_text(encoding="utf-8"))
    }
    page = (DOCS / "environment.md").read_text(encoding="utf-8")
    assert set(re.findall(r"^\| `(TNLAYER_[A-Z_]+)` \|", page, re.MULTILINE)) == read
    assert len(read) >= 6
