"""The command line: each command on a small network, and wrong input as one line."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

import tnlayer as tn
from tnlayer.cli import main


@pytest.fixture
def net_file(tmp_path: Path) -> str:
    """A small network as a file."""
    path = tmp_path / "net.json"
    net = tn.topologies.tensor_train((4, 4), (4, 4), rank=2)
    path.write_text(net.to_json(), encoding="utf-8")
    return str(path)


def test_show(net_file: str, capsys: pytest.CaptureFixture[str]) -> None:
    """The printed network names its tensors."""
    assert main(["show", net_file]) == 0
    assert "core_0" in capsys.readouterr().out


def test_cost(net_file: str, capsys: pytest.CaptureFixture[str]) -> None:
    """The numbers are those of tn.cost, as text and as JSON; --plan adds the steps."""
    expected = tn.cost(tn.topologies.tensor_train((4, 4), (4, 4), rank=2), batch=8)
    assert main(["cost", net_file, "--batch", "8", "--plan"]) == 0
    out = capsys.readouterr().out
    assert f"{expected.forward_flops:,}" in out
    assert "stem" in out
    assert main(["cost", net_file, "--batch", "8", "--json"]) == 0
    assert json.loads(capsys.readouterr().out) == {
        **expected.numbers(),
        "label": expected.label,
    }


def test_code(net_file: str, capsys: pytest.CaptureFixture[str]) -> None:
    """The generated source compiles and has a forward and a backward."""
    assert main(["code", net_file]) == 0
    out = capsys.readouterr().out
    compile(out, "out", "exec")
    assert "def forward(" in out
    assert "def backward(" in out


def test_bench(net_file: str, capsys: pytest.CaptureFixture[str]) -> None:
    """All three methods are timed and agree."""
    assert main(["bench", net_file, "--batch", "4"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert {line.split()[0] for line in lines[2:5]} == {"tnlayer", "dense", "einsum"}
    errors = [float(line.split(" tnlayer ")[1].split()[0]) for line in lines if "largest" in line]
    assert len(errors) == 3
    assert max(errors) < 1e-4


def test_bench_says_what_it_leaves_out(capsys: pytest.CaptureFixture[str]) -> None:
    """A network with fixed legs has no plain einsum; the table says so."""
    assert main(["bench", "test_cli:fixed_network", "--batch", "2"]) == 0
    assert "einsum: left out" in capsys.readouterr().out


def fixed_network() -> tn.Network:
    """A MERA whose first level's outputs are fixed."""
    return tn.topologies.mera(6, 2, 2, fix_first_level=True)


def test_module_and_function() -> None:
    """A topology with defaults is a network; run as a process."""
    done = subprocess.run(
        [sys.executable, "-m", "tnlayer", "show", "tnlayer.topologies:mera"],
        capture_output=True,
        text=True,
        check=True,
    )
    assert "304 parameters" in done.stdout


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["show", "missing.json"], "missing.json"),
        (["show", "no_such_module:f"], "no_such_module"),
        (["show", "tnlayer.topologies:nothing"], "nothing"),
        (["show", "tnlayer.topologies:tensor_train"], "no arguments"),
        (["show", "os:getcwd"], "expected a tnlayer.Network"),
        (["code", "tnlayer.topologies:mera", "--dtype", "floaty"], "floaty"),
        (["cost", "tnlayer.topologies:mera", "--dtype", "int8"], "int8"),
        (["code", "tnlayer.topologies:mera", "--batch", "0"], "--batch 0"),
    ],
)
def test_wrong_input_is_one_line(
    arguments: list[str], words: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """Exit status 2, one line on stderr that quotes what was wrong, no traceback."""
    assert main(arguments) == 2
    error = capsys.readouterr().err
    assert words in error
    assert error.count("\n") == 1
