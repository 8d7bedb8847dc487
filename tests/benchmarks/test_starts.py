"""The benchmark of first calls: two fresh processes that share a store, empty at first."""

from __future__ import annotations

from typing import Any

import pytest

import benchmarks.starts as starts


def test_the_second_process_finds_what_the_first_one_stored() -> None:
    """The first begins with torch's calls and goes on until what stays is there."""
    cell = starts.start_times("low-rank")
    assert cell["failure"] == ""
    empty, filled = cell[starts.EMPTY], cell[starts.FILLED]
    assert empty["first tier"] and not filled["first tier"]
    assert empty["backend"] == filled["backend"] == ["torch"]
    rows = starts.table([cell]).splitlines()
    assert any(row.split()[0] == "low-rank" for row in rows)


def test_a_failure_and_a_missed_target_are_told() -> None:
    """Neither is left out of the table."""
    slow = {**dict.fromkeys(starts.STAGES, 9.0), "first tier": True, "changed after": 1.0}
    cells: list[dict[str, Any]] = [
        {"case": "broken", "failure": "empty store: no compiler"},
        {
            "case": "slow",
            "failure": "",
            starts.EMPTY: slow,
            starts.FILLED: {**slow, "backend": ["cpp"]},
        },
    ]
    text = starts.table(cells)
    assert "broken failed: empty store: no compiler" in text
    assert text.count("MISSED") == 3


def test_a_process_that_takes_too_long_is_a_failure(monkeypatch: pytest.MonkeyPatch) -> None:
    """It is told as one, and no cell is made up."""
    monkeypatch.setattr(starts, "SECONDS", 0.01)
    cell = starts.start_times("low-rank")
    assert cell["failure"] == f"{starts.EMPTY}: stopped after 0.01 s"
    assert starts.EMPTY not in cell
