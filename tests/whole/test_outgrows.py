"""The example of a layer that outgrows a process: what is counted is there, and one is refused."""

from __future__ import annotations

import subprocess
import sys

import pytest

import tnlayer as tn
from examples import outgrows
from tests.support.subprocesses import ROOT


def test_one_process_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    """The same layer in one process holds more than the limit; nothing runs."""
    assert outgrows.main(["--processes", "1"]) == 1
    assert "are more than the limit: not run" in capsys.readouterr().out


def test_a_part_is_one_of_as_many() -> None:
    """Split along the leg of all tensors, two processes hold half of everything; with the limit of
    the example four hold what one cannot."""
    whole = outgrows.predict(outgrows.network(16))
    half, quarter = (outgrows.predict(outgrows.network(terms)) for terms in (8, 4))
    assert (half.tensors * 2, half.moments * 2) == (whole.tensors, whole.moments)
    assert half.step < 0.6 * whole.step
    assert quarter.total < 8 * outgrows.MIB < whole.total
    assert all("t" in tensor.legs for tensor in outgrows.network(16).freeze().tensors)


def test_two_processes_hold_what_was_predicted() -> None:
    """Each of two processes trains with its part alone; the example checks the bytes itself."""
    arguments = ["--processes", "2", "--terms", "4", "--limit", "8", "--steps", "12"]
    done = subprocess.run(
        [sys.executable, "-m", "examples.outgrows", *arguments],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
        timeout=300,
    )
    assert done.returncode == 0, done.stderr
    line = next(line for line in done.stdout.splitlines() if line.startswith("loss"))
    words = line.replace(",", "").split()
    assert float(words[words.index("first") - 2]) > float(words[words.index("after") - 1])


def test_parts_start_like_the_whole() -> None:
    """Each process draws its own part, so that the sum of all has Var(y) = Var(x)."""
    layer = tn.Layer(outgrows.network(4))
    outgrows.draw(layer, seed=0)
    gain = layer.to_dense().detach().square().sum() / layer.out_features
    assert 0.5 < float(gain) < 2
