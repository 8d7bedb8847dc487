"""The benchmark of long chains: its networks, and what it prints and writes."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

import tnlayer as tn
from benchmarks.planner import chains


def test_networks_are_whole() -> None:
    """A chain gives its results; a random network has loops."""
    layer = tn.Layer(chains.matrix_product_state(9), backend="torch")
    assert layer(torch.rand(3, 9, 2)).shape == (3, 10)
    graph = chains.random_network(40, 1).freeze()
    assert len(graph.tensors) == 40
    assert len(graph.leg_sizes) >= 39 + 4 + 8 + 1


def test_it_prints_a_table_and_writes_json(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A row each, with both times."""
    monkeypatch.setenv("TNLAYER_CACHE", "1")
    for name, value in (("SITES", (5,)), ("TENSORS", 24), ("SEEDS", (0,)), ("REPEATS", 1)):
        monkeypatch.setattr(chains, name, value)
    monkeypatch.setattr(chains, "RESULTS", tmp_path)
    chains.main()
    assert "5 sites" in capsys.readouterr().out
    assert (tmp_path / "chains.json").read_text().count('"first y"') == 2
