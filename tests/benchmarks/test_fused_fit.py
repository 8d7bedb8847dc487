"""The fit of the time model of compiled kernels: it finds costs that it was given."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from benchmarks.calibration import run as calibration
from benchmarks.calibration.run import (
    Chosen,
    Row,
    choices,
    errors_of,
    fit,
    left_out,
    planned_of,
    rows_of,
    summary,
    table_times,
)
from tnlayer.hardware.profile.load import shipped_profiles
from tnlayer.hardware.profile.profile import Profile
from tnlayer.lowering.calls.training_schedules import Mask
from tnlayer.time_models.cpu_kernels import COST_NAMES, COSTS, fused_seconds

COST = np.array([getattr(COSTS, name) for name in COST_NAMES])
# Of the tables' cells those that are planned in a moment, all of btt among them.
CHECKED = {f"{name} {batch}" for name in ("btt", "tt-3") for batch in (1, 50, 256)}
PROFILES = [p for p in shipped_profiles() if (p.dtype, p.threads) == ("float32", 2)]


def record_of(profile: Profile, seconds: calibration.Times) -> dict[str, Any]:
    """Timings as --measure writes them on the machine of a profile."""
    machine = {"cpu": profile.name, "torch_threads": profile.threads}
    return {"machine": machine, "seconds": seconds}


def made_rows(count: int, noise: float) -> list[Row]:
    """Timings that follow the model's own costs, with relative noise."""
    source = np.random.default_rng(0)
    found = list[Row]()
    for number in range(count):
        counts = source.lognormal(0, 2, len(COST_NAMES)) * 1e-3 / np.where(COST > 1e-9, COST, 1.0)
        seconds = float(counts @ COST) * (1 + noise * source.standard_normal())
        found.append(Row("m", f"n{number % 20}", 16, "forward", tuple(counts), 0.0, seconds))
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


@pytest.mark.parametrize("profile", PROFILES, ids=lambda profile: profile.name)
def test_rows_hold_what_the_package_predicts(profile: Profile) -> None:
    """With the package's costs a row is the model's own prediction by its machine's profile."""
    times = {"forward": 1e-4, "training": 1e-3}
    rows = rows_of(record_of(profile, {f"tree-3 {batch}": times for batch in (1, 16, 256)}))
    for row, error in zip(rows, errors_of(rows, COST), strict=True):
        plan = planned_of("tree-3", row.batch).plan
        mask: Mask = (row.part == "training",) * len(plan.inputs)
        found = fused_seconds(plan, mask, row.batch, profile, calibration.CPU).total
        assert times[row.part] * (1 + error) == pytest.approx(found)


def test_outdated_timings_are_judged_but_not_fitted() -> None:
    """Wild timings change no cost once they are called outdated."""
    rows = made_rows(200, 0.0)
    wild = [replace(row, seconds=5 * row.seconds, outdated=True) for row in rows[:50]]
    assert np.allclose(fit([*rows, *wild]), fit(rows))
    assert not np.allclose(fit([*rows, *(replace(r, outdated=False) for r in wild)]), fit(rows))


def test_timings_need_a_profile_of_their_machine() -> None:
    """Timings of a machine of which no profile ships: an error that says how to make one."""
    machine = {"cpu": "Model T", "torch_threads": 2}
    with pytest.raises(SystemExit, match="tnlayer profile --output"):
        rows_of({"machine": machine, "seconds": {}})


@pytest.mark.parametrize(
    ("foreseen", "measured", "wrong"),
    [(0.5, 0.8, False), (0.5, 1.25, True), (2.0, 0.8, True), (0.95, 1.1, False)],
)
def test_a_choice_is_wrong_where_the_other_one_is_faster(
    foreseen: float, measured: float, wrong: bool
) -> None:
    """Kernels are taken if they are foreseen to win by a tenth; regret is what that loses."""
    one = Chosen("n 1 training", foreseen, measured)
    assert one.wrong == wrong
    assert one.regret == pytest.approx(max(measured, 1 / measured) if wrong else 1.0)


@pytest.mark.parametrize("table", calibration.TABLES.values(), ids=lambda path: path.stem)
def test_training_runs_the_faster_one_in_the_kernels_tables(table: Path) -> None:
    """On each machine on record training takes what was faster, in all cells of the table."""
    name = json.loads(table.read_text())["machine"]["cpu"]
    profile = next(one for one in PROFILES if one.name == name)
    cases = {key: times for key, times in table_times(table).items() if key in CHECKED}
    found = choices(profile, cases, COSTS)
    assert len(found) == 2 * len(CHECKED)
    assert not [one for one in found if one.name.endswith("training") and one.wrong]


def test_a_summary_names_median_and_tail() -> None:
    """Ten errors: the median, and the largest of them as the worst tenth."""
    errors = [0.01 * sign * n for n, sign in zip(range(10), [1, -1] * 5, strict=True)]
    assert summary(errors) == "median 4%, worst tenth above 9%"


def test_without_timings_it_says_how_to_get_them(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A clone has none until they are measured: an error that names the option, no traceback."""
    monkeypatch.setattr(calibration, "TIMINGS", tmp_path / "none.json")
    monkeypatch.setattr(calibration, "TABLES", {})
    monkeypatch.setattr("sys.argv", ["calibration"])
    with pytest.raises(SystemExit):
        calibration.main()
    assert "--measure" in capsys.readouterr().err
