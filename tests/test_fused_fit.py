"""The fit of the time model of compiled kernels: it finds costs that it was given."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from benchmarks import fused_fit
from benchmarks.fused_fit import Row, errors_of, fit, left_out, rows_of, summary
from tnlayer.planning.fused_model import COSTS, SECONDS, cost_names

NAMES = (*cost_names(), *SECONDS)
COST = np.array([getattr(COSTS, name) for name in NAMES])


def made_rows(count: int, noise: float) -> list[Row]:
    """Timings that follow the model's own costs, with relative noise."""
    source = np.random.default_rng(0)
    found = list[Row]()
    for number in range(count):
        counts = source.lognormal(0, 2, len(NAMES)) * 1e-3 / np.where(COST > 1e-9, COST, 1.0)
        seconds = float(counts @ COST) * (1 + noise * source.standard_normal())
        found.append(Row(f"n{number % 20}", 16, "forward", tuple(counts), 0.0, seconds))
    return found


def test_a_fit_predicts_what_follows_the_model() -> None:
    """400 exact timings are met within 1 percent in the median, and all nearly; left out, too."""
    rows = made_rows(400, 0.0)
    for errors in (errors_of(rows, fit(rows)), left_out(rows)):
        assert np.median(np.abs(errors)) < 0.01
        assert max(map(abs, errors)) < 0.1


def test_noise_does_not_carry_over() -> None:
    """Timings with 10 percent of noise are met within about that."""
    rows = made_rows(400, 0.1)
    assert np.median(np.abs(errors_of(rows, fit(rows)))) < 0.1


def test_rows_hold_what_the_package_predicts() -> None:
    """With the package's costs a row is the kernel model's own prediction, which grows."""
    rows = rows_of(
        {f"tree-3 {batch}": {"forward": 1e-4, "training": 1e-3} for batch in (1, 16, 256)}
    )
    predicted = [1e-4 * (1 + error) for error in errors_of(rows[::2], COST)]
    assert 0 < predicted[0] < predicted[1] < predicted[2]


def test_a_summary_names_median_and_tail() -> None:
    """Ten errors: the median, and the largest of them as the worst tenth."""
    errors = [0.01 * sign * n for n, sign in zip(range(10), [1, -1] * 5, strict=True)]
    assert summary(errors) == "median 4%, worst tenth above 9%"


def test_without_timings_it_says_how_to_get_them(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A clone has none until they are measured: an error that names the option, no traceback."""
    monkeypatch.setattr(fused_fit, "TIMINGS", tmp_path / "none.json")
    monkeypatch.setattr("sys.argv", ["fused_fit"])
    with pytest.raises(SystemExit):
        fused_fit.main()
    assert "--measure" in capsys.readouterr().err
