"""The benchmark against dense layers runs, and says who is faster."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

import benchmarks.against_dense as against
import tnlayer as tn


def test_it_prints_tables_and_writes_json(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two cells a batch size, each with both times, what was predicted, and the share of FLOPs."""
    monkeypatch.setattr(against, "FEATURES", 16)
    small = {"small": lambda: tn.topologies.tensor_train((4, 4), (4, 4), rank=2)}
    monkeypatch.setattr(against, "LAYERS", small)
    output = tmp_path / "dense.json"
    arguments = ["--layers", "small", "--batches", "1", "3", "--budget", "0.001"]
    assert against.main([*arguments, "--output", str(output)]) == 0
    record = json.loads(output.read_text())
    assert [(c["batch"], c["mode"]) for c in record["cells"]] == [
        (batch, mode) for batch in (1, 3) for mode in ("forward", "training")
    ]
    for cell in record["cells"]:
        assert cell["ms"]["layer"] > 0 and cell["ms"]["dense"] > 0
        assert cell["ratio"] == pytest.approx(cell["ms"]["layer"] / cell["ms"]["dense"])
        assert cell["flops_over_dense"] > 0
        assert cell["for_this_size_over_layer"] > 0
    assert record["summary"]["cells"] == 4
    assert "small" in capsys.readouterr().out


def test_preparing_times_nothing(tmp_path: Path) -> None:
    """Kernels are built, and no file is written."""
    output = tmp_path / "none.json"
    arguments = ["--layers", "tucker rank 8", "--batches", "1", "--prepare"]
    assert against.main([*arguments, "--output", str(output)]) == 0
    assert not output.exists()


def test_the_summary_counts_what_is_lost() -> None:
    """Cells beyond what was wanted, and those that were called wrong."""
    cells = [
        {"ratio": 0.5, "for_this_size_over_layer": 1.2, "predicted_ms": {"layer": 1, "dense": 2}},
        {"ratio": 1.3, "for_this_size_over_layer": 1.0, "predicted_ms": {"layer": 1, "dense": 2}},
        {"ratio": 0.9, "for_this_size_over_layer": 0.8, "predicted_ms": {"layer": 3, "dense": 2}},
    ]
    assert against.summary(cells) == {
        "cells": 3, "beyond_1.15": 1, "largest": 1.3, "called_wrong": 2,
        "called_wrong_by_more_than_1.15": 1, "slower_for_one_size": 1,
        "slowest_for_one_size": 1.2,
    }  # fmt: skip
