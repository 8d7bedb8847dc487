"""The pages of the docs: which there are, what they list, and the code in them."""

from __future__ import annotations

import re
from pathlib import Path

DOCS = Path(__file__).parents[2] / "docs"
_CELL = re.compile(r"```\{code-cell\} python\n(.*?)```", re.DOTALL)
_TOCTREE = re.compile(r"```\{toctree\}\n(.*?)```", re.DOTALL)


def page_files() -> list[Path]:
    """All pages that are written by hand."""
    found = sorted(DOCS.rglob("*.md"))
    return [path for path in found if not {"_build", "generated"} & {*path.parts}]


def cells(text: str) -> list[str]:
    """The cells that the build runs, without their options."""
    return [re.sub(r"\A(:.*\n)+", "", cell).strip("\n") for cell in _CELL.findall(text)]


def listed_pages(page: Path) -> set[Path]:
    """The pages that a page's tables of contents name."""
    found: set[Path] = set()
    for body in _TOCTREE.findall(page.read_text(encoding="utf-8")):
        for line in body.splitlines():
            name = re.sub(r".*<(.*)>", r"\1", line.strip())
            if name.startswith(":") or not name:
                continue
            if "*" in name:
                found |= {*page.parent.glob(f"{name}.md")} - {page}
            else:
                found.add((page.parent / f"{name}.md").resolve())
    return found
