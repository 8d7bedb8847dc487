"""All pages that are made from the code: gallery, command line, reference."""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from pathlib import Path

from .command_line import command_line_page
from .gallery import gallery_pages
from .reference import reference_pages


def write_all(folder: Path) -> None:
    """Write the pages anew; what was there is gone.

    Arguments:
        folder: of these pages, inside the sources of the docs.
    """
    shutil.rmtree(folder, ignore_errors=True)
    _write(folder / "gallery", gallery_pages())
    _write(folder / "reference", reference_pages())
    _write(folder, {"command-line.md": command_line_page()})


def _write(folder: Path, pages: Mapping[str, str]) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for name, text in pages.items():
        (folder / name).write_text(text, encoding="utf-8")
