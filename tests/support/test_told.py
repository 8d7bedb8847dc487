"""Work that takes longer than a second says so, once; what is quick says nothing."""

from __future__ import annotations

import io
import sys
import time

import pytest

from tnlayer.support import told as module
from tnlayer.support.told import told


class Terminal(io.StringIO):
    """Where somebody looks on."""

    def isatty(self) -> bool:
        """It is one."""
        return True


@pytest.fixture(autouse=True)
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """A second is over soon."""
    monkeypatch.setattr(module, "_PATIENCE", 0.05)
    monkeypatch.setattr(module, "_TICK", 0.02)


def test_a_line_where_nobody_looks_on(capsys: pytest.CaptureFixture[str]) -> None:
    """One line of the outermost piece of work, however long it takes."""
    with told("compiling 'a'"), told("a part of it"):
        time.sleep(0.3)
    assert capsys.readouterr().err == "tnlayer: compiling 'a' ...\n"


def test_some_work_is_given_more_time(capsys: pytest.CaptureFixture[str]) -> None:
    """It says nothing before."""
    with told("fitting 'a'", after=30):
        time.sleep(0.2)
    assert capsys.readouterr().err == ""


def test_work_with_a_bar_of_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    """On a terminal nothing is said beside it, in a file there is a line."""
    terminal, file = Terminal(), io.StringIO()
    for stream in (terminal, file):
        monkeypatch.setattr(sys, "stderr", stream)
        with told("fitting 'a'", bar=False):
            time.sleep(0.2)
    assert terminal.getvalue() == ""
    assert file.getvalue() == "tnlayer: fitting 'a' ...\n"


def test_quick_work_is_silent(capsys: pytest.CaptureFixture[str]) -> None:
    """Nothing is said of it, whether it goes well or not."""
    with told("nothing much"):
        pass
    with pytest.raises(ValueError, match="gone wrong"), told("nothing much"):
        raise ValueError("gone wrong")
    assert capsys.readouterr().err == ""


def test_a_bar_on_a_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    """It moves, and what stays is one line with the seconds."""
    terminal = Terminal()
    monkeypatch.setattr(sys, "stderr", terminal)
    with told("compiling 'a'"):
        time.sleep(0.3)
    text = terminal.getvalue()
    assert text.count("#####") > 1
    assert text.endswith(" s\n")
    assert "\n" not in text[:-1]


def test_no_stream_is_no_error(monkeypatch: pytest.MonkeyPatch) -> None:
    """A service may have closed it."""
    monkeypatch.setattr(sys, "stderr", None)
    with told("compiling 'a'"):
        time.sleep(0.1)
