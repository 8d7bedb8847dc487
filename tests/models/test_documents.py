"""docs/compress.md: its three snippets run as they are written, and what it promises holds."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest

import tnlayer as tn

PAGE = Path(__file__).parents[2] / "docs" / "compress.md"
SNIPPETS = re.findall(r"```python\n(.*?)```", PAGE.read_text(encoding="utf-8"), re.DOTALL)


def run(code: str) -> dict[str, Any]:
    """What a reader has after a snippet."""
    names: dict[str, Any] = {}
    exec(code, names)  # as a reader would
    return names


def test_shrink_a_linear(capsys: pytest.CaptureFixture[str]) -> None:
    """The layer maps the same features with a quarter of the parameters."""
    names = run(SNIPPETS[0])
    assert names["layer"].parameter_count <= 256 * 256 / 4
    assert names["layer"](names["torch"].zeros(2, 256)).shape == (2, 256)
    assert "dense" in capsys.readouterr().out


def test_shrink_a_model(capsys: pytest.CaptureFixture[str]) -> None:
    """The model has half the parameters or fewer, and both tables were printed."""
    names = run(SNIPPETS[1])
    assert names["report"].compression >= 2
    assert names["model"](names["data"]).shape == (512, 32)
    printed = capsys.readouterr().out
    assert "total" in printed and str(names["report"]) in printed


def test_save_and_load(capsys: pytest.CaptureFixture[str]) -> None:
    """The twin gives the same outputs."""
    names = run(SNIPPETS[2])
    x = names["torch"].randn(3, 64)
    assert names["torch"].equal(names["twin"](x), names["model"](x))
    assert isinstance(names["twin"][0], tn.Layer)
    assert "tensor train" in capsys.readouterr().out
