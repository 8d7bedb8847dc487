"""The recipes of docs/recipes.md run as they stand there, one after the other."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
import torch.distributed as dist

PAGE = (Path(__file__).parents[2] / "docs" / "recipes.md").read_text(encoding="utf-8")


@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning")
# dynamo asks arrays between blocks for their gradient.
@pytest.mark.filterwarnings("ignore:The .grad attribute:UserWarning")
def test_all_recipes_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """In one process; those of several processes, in a group of one."""
    monkeypatch.chdir(tmp_path)
    names: dict[str, Any] = {}
    store = f"file://{tmp_path / 'store'}"
    dist.init_process_group("gloo", init_method=store, rank=0, world_size=1)
    try:
        blocks = re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL)
        assert len(blocks) > 8
        for code in blocks:
            exec(code, names)
    finally:
        dist.destroy_process_group()
    assert (tmp_path / "layer_in_c" / "CMakeLists.txt").exists()
