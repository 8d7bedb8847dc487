"""The benchmark of models: its model learns, its table has each cell, on a text made here."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

from benchmarks.models import run
from benchmarks.models.gpt import Gpt, Size, train, validation_loss
from benchmarks.models.text import Text

SIZE = Size(width=16, layers=1, heads=2, length=8, batch=4, steps=30, rate=1e-2)


def made() -> Text:
    """A text of one sentence again and again."""
    sentence = "the cat sat on the mat. "
    alphabet = "".join(sorted(set(sentence)))
    data = torch.tensor([alphabet.index(c) for c in sentence * 600])
    return Text(data[:-6000], data[-6000:], alphabet)


def test_training_lowers_the_loss() -> None:
    """A few steps on such a text are enough."""
    text = made()
    model = Gpt(SIZE, len(text.alphabet))
    held_out = text.held_out(32, SIZE.length)
    before = validation_loss(model, held_out)
    train(model, text, SIZE, SIZE.steps, rate=SIZE.rate, seed=0, shown=False)
    assert validation_loss(model, held_out) < 0.6 * before


def test_the_table(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Asked for one topology and a budget it writes their cells, what cannot be had among them, and
    reads the dense model again."""
    monkeypatch.setattr(run, "load_text", made)
    monkeypatch.setattr(run, "size_of", lambda *_: SIZE)  # type: ignore[misc]
    monkeypatch.setattr(run, "forward_ms", lambda *_: (1.0, 2.0))  # type: ignore[misc]
    output, dense = tmp_path / "table.json", tmp_path / "dense.safetensors"
    options = ["--steps", "30", "--width", "16", "--dense", str(dense), "--output", str(output)]
    run.main([*options, "--only", "low rank (SVD)", "--levels", "2"])
    document = json.loads(output.read_text())
    cells = document["cells"]
    assert [(cell["level"], cell["whitened"]) for cell in cells] == [(2, False), (2, True)]
    for cell in cells:
        assert cell["networks"] == 4 and not cell["error"]
        assert cell["parameters"] < document["dense"]["parameters"]
    run.main([*options, "--only", "tn.Budget", "--levels", "16"])
    (cell,) = json.loads(output.read_text())["cells"]
    assert "cannot be had" in cell["error"]
    printed = capsys.readouterr().out
    assert printed.count("dense") >= 2
    text = made()
    model = run.trained(SIZE, text, dense)
    loss = validation_loss(model, text.held_out(512, SIZE.length))
    assert loss == pytest.approx(document["dense"]["before"], rel=1e-5)
