"""The replay tool finds what changed, and nothing else."""

from __future__ import annotations

from pathlib import Path

import pytest

import tnlayer as tn
from tests.support.replay import Lens, Subject, compare, record, recorded

KINDS = ["plans.txt", "torch.py"]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A record of one small network."""
    folder = tmp_path_factory.mktemp("record")
    net = tn.topologies.tensor_train((2, 3), (3, 2), rank=2)
    record(folder, [Subject("train", net.to_json(), ("float32", "float64"))], KINDS, jobs=1)
    return folder


def test_the_same_code_gives_the_same_texts(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Nothing differs where nothing changed, in any dtype."""
    assert compare(folder, recorded(folder), KINDS, 1, Lens(), 3) == 0
    assert "0 of 4 texts differ" in capsys.readouterr().out


def test_a_change_is_shown(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A line that differs is named with its file, once it is no listed rename."""
    path = folder / "train.float32.torch.py"
    text = path.read_text()
    path.write_text(text.replace("forward", "onward"))
    try:
        assert compare(folder, recorded(folder), KINDS, 1, Lens(), 8) == 1
        out = capsys.readouterr().out
        assert "DIFFERS train.float32.torch.py" in out
        assert "-def onward(" in out
        assert compare(folder, recorded(folder), KINDS, 1, Lens((("onward", "forward"),)), 3) == 0
    finally:
        path.write_text(text)


def test_comments_can_be_left_out() -> None:
    """Without comments two texts that say different things about the same code are one."""
    lens = Lens(comments=False)
    assert lens.new("a = 1;  // one\n// two\nb = 2;\n") == lens.new("a = 1;\nb = 2;\n")
    assert lens.new("#include <omp.h>\n") == "#include <omp.h>\n"
    assert Lens().new("a = 1;  // one\n") == "a = 1;  // one\n"
