"""Runs of the paper's reproduction: each row trains, and a kill changes no number."""

from __future__ import annotations

import fcntl
import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from benchmarks.paper.model import PaperNetwork
from benchmarks.paper.precision import runs_in_bfloat16
from benchmarks.paper.protocols import PROTOCOLS
from benchmarks.paper.rows import ROWS
from benchmarks.paper.runs import Clock, Setting, run_all, run_one
from tests.support.small_paper import SMALL, setting
from tnlayer.hardware import half_precision

ROOT = Path(__file__).parents[2]


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    """So small a network is faster with one thread, and pytest has several workers."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.mark.parametrize("name", list(ROWS))
def test_every_row_trains(name: str, tmp_path: Path) -> None:
    """Two steps on 64 images give finite numbers, change every weight, and count as they should."""
    row = ROWS[name]
    here = setting(tmp_path, PROTOCOLS["smoke"])
    torch.manual_seed(3)
    start = {k: p.detach().clone() for k, p in PaperNetwork(row, SMALL).named_parameters()}
    assert run_all(here, [row], [3], Clock(None))
    record = json.loads(here.result_file(row, 3).read_text())
    assert record["steps"] == 2
    assert [entry["step"] for entry in record["curve"]] == [1, 2]
    assert all(0 < entry["loss"] < 10 for entry in record["curve"])
    assert all(0 <= entry["accuracy"] <= 1 for entry in record["curve"])
    hidden = sum(graph.parameter_count for graph in row.graphs(SMALL.legs))
    assert sum(record["hidden_parameters"]) == hidden
    assert record["learned_parameters"] == sum(p.numel() for p in start.values())
    assert not list((tmp_path / "cache").rglob("*.pt"))


def curve_of(here: Setting, name: str) -> list[dict[str, float]]:
    """The curve of a run that is over."""
    return json.loads(here.result_file(ROWS[name], 1).read_text())["curve"]


@pytest.mark.parametrize("name", ["MERA-3", "FC-1"])
@pytest.mark.parametrize("stop_after", [1, 4, 6])
def test_a_stopped_run_goes_on_with_the_same_numbers(
    name: str, stop_after: int, tmp_path: Path
) -> None:
    """Stopped within an epoch, between tests or at its end, a run gives the same curve, bitwise."""
    whole, parts = setting(tmp_path / "whole"), setting(tmp_path / "parts")
    assert run_one(whole, ROWS[name], 1, Clock(None))
    asked = iter([False] * (stop_after - 1) + [True] + [False] * 100)

    class Once(Clock):
        def __call__(self) -> bool:
            return next(asked)

    assert not run_one(parts, ROWS[name], 1, Once(None))
    assert not parts.result_file(ROWS[name], 1).exists()
    torch.manual_seed(99)  # nothing may hang on what the process did before
    assert run_one(parts, ROWS[name], 1, Clock(None))
    assert curve_of(parts, name) == curve_of(whole, name)
    sessions = json.loads(parts.result_file(ROWS[name], 1).read_text())["sessions"]
    assert [session["from_step"] for session in sessions] == [0, stop_after]


def test_minutes_make_a_run_go_on_at_the_next_call(tmp_path: Path) -> None:
    """With no time at all each call does one step; the curve is that of one long call."""
    whole, parts = setting(tmp_path / "whole"), setting(tmp_path / "parts")
    assert run_one(whole, ROWS["TT-3"], 1, Clock(None))
    calls = 1
    while not run_one(parts, ROWS["TT-3"], 1, Clock(0)):
        calls += 1
    assert calls == 12
    assert curve_of(parts, "TT-3") == curve_of(whole, "TT-3")


def test_a_killed_run_goes_on_with_the_same_numbers(tmp_path: Path) -> None:
    """A process that SIGKILL ends in its fifth step leaves a run that ends as if never killed."""
    whole, parts = setting(tmp_path / "whole"), setting(tmp_path / "parts")
    assert run_one(whole, ROWS["MERA-2"], 1, Clock(None))
    call = f"small_paper.run_and_die({str(tmp_path / 'parts')!r}, 'MERA-2', 5)"
    code = f"from tests.support import small_paper; {call}"
    child = subprocess.run(
        [sys.executable, "-c", code], env={**os.environ, "PYTHONPATH": str(ROOT)}, check=False
    )
    assert child.returncode == -signal.SIGKILL
    assert not parts.result_file(ROWS["MERA-2"], 1).exists()
    assert parts.checkpoint_file(ROWS["MERA-2"], 1).exists()
    assert run_one(parts, ROWS["MERA-2"], 1, Clock(None))
    assert curve_of(parts, "MERA-2") == curve_of(whole, "MERA-2")
    record = json.loads(parts.result_file(ROWS["MERA-2"], 1).read_text())
    # The last checkpoint before the kill was that of the test after step 3.
    assert [session["from_step"] for session in record["sessions"]] == [0, 3]


def test_a_run_that_another_process_holds_is_passed_by(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Two processes with the same command share the runs; neither touches the other's."""
    here = setting(tmp_path)
    lock = here.checkpoint_file(ROWS["FC-2"], 1).with_suffix(".lock")
    lock.parent.mkdir(parents=True)
    with lock.open("w") as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        assert not run_all(here, [ROWS["FC-2"], ROWS["low-rank-1"]], [1], Clock(None))
    assert "FC-2 seed 1: another process runs it" in capsys.readouterr().out
    assert not here.result_file(ROWS["FC-2"], 1).exists()
    assert here.result_file(ROWS["low-rank-1"], 1).exists()
    assert run_all(here, [ROWS["FC-2"]], [1], Clock(None))


def test_convolutions_are_float32_where_bfloat16_would_be_emulated(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """What the processor can decides, unless the user does; a GPU has bfloat16."""
    cpu = torch.device("cpu")
    for able in (True, False):
        words = "flags : amx_bf16" if able else "flags : avx512f"
        monkeypatch.setattr(half_precision, "processor_features", lambda words=words: words)
        assert runs_in_bfloat16("auto", cpu) == able
        assert runs_in_bfloat16("bfloat16", cpu)
        assert not runs_in_bfloat16("float32", cpu)
        assert runs_in_bfloat16("auto", torch.device("cuda"))
