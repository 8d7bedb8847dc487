"""The benchmark of compiled layers runs, and says what it measured."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

import benchmarks.compiled as compiled
from benchmarks.common.workloads import TINY_WORKLOADS


@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning")
def test_compiled_prints_a_table_and_writes_json(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Each method in each cell, with the time until the first step is done."""
    case, output = next(iter(TINY_WORKLOADS)), tmp_path / "compiled.json"
    arguments = ["--cases", case, "--batches", "2", "--budget", "0.001", "--output", str(output)]
    assert compiled.main(arguments) == 0
    torch.compiler.reset()
    (record,) = json.loads(output.read_text())["cases"]
    assert record["first_step"]["compiled"] > 0
    assert [cell["mode"] for cell in record["cells"]] == list(compiled.MODES)
    for cell in record["cells"]:
        assert set(cell["methods"]) == set(compiled.METHODS)
    assert case in capsys.readouterr().out
