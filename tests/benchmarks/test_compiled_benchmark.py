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
    arguments = ["--cases", case, "--batches", "2", "--budget", "0.001", "--copies", "0"]
    arguments += ["--output", str(output)]
    assert compiled.main(arguments) == 0
    torch.compiler.reset()
    (record,) = json.loads(output.read_text())["cases"]
    assert record["first_step"]["compiled"] > 0
    assert [cell["mode"] for cell in record["cells"]] == list(compiled.MODES)
    for cell in record["cells"]:
        assert set(cell["methods"]) == set(compiled.METHODS)
    assert case in capsys.readouterr().out


@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning")
def test_the_large_model_is_timed_beside_a_dense_one() -> None:
    """Its layers have the dense ones' features; each batch size has its seconds, over the dense."""
    dense, ours = compiled.many("dense", 1), compiled.many("torch", 1)
    sizes = [[(m.in_features, m.out_features) for m in [*one][::2]] for one in (dense, ours)]
    assert sizes[0] == sizes[1] and len(sizes[0]) == len(compiled.SHAPES)
    threads = torch.get_num_threads()
    try:
        record = compiled.measure_many("dense", 1)
    finally:
        torch.set_num_threads(threads)
        torch.compiler.reset()
    assert [step["batch"] for step in record["steps"]] == [*compiled.MANY_BATCHES]
    assert all(step["cpu"] > 0 for step in record["steps"])
    assert "1.00" in compiled.many_table([record])
