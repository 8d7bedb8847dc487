"""Golden files: printed text that is read before it is committed."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import pytest

GOLDEN_ROOT = Path(__file__).parents[1] / "golden"


@dataclass(frozen=True)
class Golden:
    """Compares printed text with a file under tests/golden/<test file>/.

    Arguments:
        folder: where the files of this test file lie.
        name: name of the test; the stem of the file's name.
        update: whether to write the files instead.
    """

    folder: Path
    name: str
    update: bool

    def check(self, text: str, suffix: str = "txt") -> None:
        """Hold ``text`` against the golden file; ``suffix`` tells the files of one test apart."""
        path = self.folder / f"{self.name}.{suffix}"
        text = text.rstrip("\n") + "\n"
        if self.update:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text, encoding="utf-8")
            return
        shown = path.relative_to(GOLDEN_ROOT.parent.parent)
        if not path.exists():
            pytest.fail(f"{shown} does not exist: run pytest with --update-golden and read it")
        expected = path.read_text(encoding="utf-8")
        assert text == expected, f"text differs from {shown}; --update-golden accepts the new text"
