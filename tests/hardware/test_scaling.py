"""A profile that ships with the package is scaled to the machine before it plans anything."""

from __future__ import annotations

import itertools
import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch

import tnlayer as tn
from tests.support.profiles import fixed_profile
from tests.support.small_profile import small_profile
from tnlayer.hardware.detect_processor import processor_name
from tnlayer.hardware.profile import load, stored_factors
from tnlayer.hardware.profile.load import (
    keep_profile,
    load_profile,
    reload_profiles,
    scale_nearest,
    use_profile,
)
from tnlayer.hardware.profile.profile import CALLS, Profile
from tnlayer.hardware.profile.scaling import LEAST, MOST, Factors, is_far, scaled_by
from tnlayer.hardware.profile.stored import major_minor
from tnlayer.hardware.profile.stored_factors import (
    ScaledTo,
    read_factors,
    write_factors,
)
from tnlayer.support.file_store import cache_folder

SLOW = Factors(multiply_add=2.5, stream=2.0, calls=tuple((kind, 3.0) for kind in CALLS))


class Measured:
    """Stands for the measurement; counts how often it is asked for."""

    def __init__(self, factors: Factors = SLOW) -> None:
        self.factors, self.of = factors, list[Profile]()

    def __call__(self, profile: Profile) -> Factors:
        self.of.append(profile)
        return self.factors


@pytest.fixture
def measured(own_profiles: None, monkeypatch: pytest.MonkeyPatch) -> Measured:
    """An empty cache, and a measurement that says what is known."""
    del own_profiles
    monkeypatch.delenv("TNLAYER_PROFILE")
    found = Measured()
    monkeypatch.setattr(load, "_MEASURE", [found])
    return found


def entry() -> Path:
    """The one file of factors."""
    folder = cache_folder()
    assert folder is not None
    (found,) = (folder / "profiles").glob("factors-*")
    return found


# -- the arithmetic --------------------------------------------------------------------------------


def test_factors_of_one_change_nothing() -> None:
    """A machine that is as fast as the other one has its profile."""
    profile = small_profile(multiply_add=1e-10)
    same = scaled_by(profile, Factors())
    assert same.document() == profile.document()


@pytest.mark.parametrize("name", ["batched", "small", "stream", "strided", "transposed", "reduce"])
def test_each_table_has_its_factor(name: str) -> None:
    """One factor scales one table and leaves the others."""
    profile = small_profile()
    scaled = scaled_by(profile, replace(Factors(), **{name: 3.0}))
    own, before = getattr(scaled, name), getattr(profile, name)
    grids = [(own, before)] if not isinstance(own, tuple) else list(zip(own, before, strict=True))
    for grid, old in grids:
        assert grid.seconds == pytest.approx([3 * seconds for seconds in old.seconds])
    assert replace(scaled, **{name: before}) == profile


@pytest.mark.parametrize("name", ["row", "block", "fault", "multiply_add"])
def test_each_number_has_its_factor(name: str) -> None:
    """The same for what is one number."""
    profile = small_profile(multiply_add=1e-10)
    scaled = scaled_by(profile, replace(Factors(), **{name: 0.5}))
    assert getattr(scaled, name) == pytest.approx(0.5 * getattr(profile, name))
    assert replace(scaled, **{name: getattr(profile, name)}) == profile


def test_calls_start_by_their_own_factor_within_products() -> None:
    """Of a small product the start of its call is most, of a large one the arithmetic."""
    profile = small_profile()
    calls = tuple((kind, 10.0) for kind in CALLS)
    scaled = scaled_by(profile, replace(Factors(), calls=calls))
    assert scaled.call_seconds["sum"] == pytest.approx(10 * profile.call_seconds["sum"])
    small, large = profile.gemm[0].axes[0][0], profile.gemm[0].axes[0][-1]

    def ratio(size: int) -> float:
        sizes = (size,) * 3
        return scaled.gemm[0].per_unit(*sizes) / profile.gemm[0].per_unit(*sizes)

    assert ratio(small) > ratio(large)
    assert 1 <= ratio(large) <= ratio(small) <= 10


def test_products_beyond_caches_have_a_factor_of_their_own() -> None:
    """A product with a matrix of 16 MiB is slower where memory is, one of small matrices is not."""
    profile = fixed_profile()
    grid = profile.gemm[0]
    scaled = scaled_by(profile, replace(Factors(), far=2.0)).gemm[0]
    sizes = list(itertools.product(*grid.axes))
    far = [size for size in sizes if is_far(size[0], size[1], size[2])]
    assert 0 < len(far) < len(sizes)
    for size in sizes:
        ratio = scaled.per_unit(*size) / grid.per_unit(*size)
        assert (ratio > 1.0) is (size in far)
        assert ratio <= 2.0


def test_factors_beyond_belief_are_bounded() -> None:
    """What a busy machine makes of a measurement has bounds."""
    calls = tuple((kind, 1e9) for kind in CALLS)
    wild = Factors(gemm=1e6, row=1e-9, calls=calls).bounded()
    assert (wild.gemm, wild.row, wild.stream) == (MOST, LEAST, 1.0)
    assert set(dict(wild.calls).values()) == {MOST}


# -- when it is done -------------------------------------------------------------------------------


def test_planning_scales_the_nearest_once(measured: Measured) -> None:
    """The first plan measures, for all dtypes and threads; loading a profile alone does not."""
    before = load_profile()
    assert before.is_foreign
    assert not measured.of
    tn.plan(tn.topologies.low_rank(8, 8, rank=2), effort="fast")
    tn.cost(tn.topologies.low_rank(8, 8, rank=2), effort="fast", dtype="float64")
    assert len(measured.of) == 1
    assert measured.of[0].threads == 1  # beside a busy program two would wait for each other
    after = load_profile()
    assert not after.is_foreign
    assert "scaled to this machine on" in after.source
    assert after.profile == scaled_by(before.profile, SLOW)
    assert after.profile.digest != before.profile.digest  # plans are found by it
    assert not load_profile("float64").is_foreign


def test_other_processes_read_it(measured: Measured) -> None:
    """A process that begins later finds what was measured."""
    scale_nearest()
    known = load_profile()
    reload_profiles()
    assert load_profile().profile.digest == known.profile.digest
    scale_nearest()
    assert len(measured.of) == 1


def test_of_two_processes_the_first_counts(measured: Measured) -> None:
    """What was stored meanwhile holds, for plans are found by their profile."""
    reference = load_profile().profile.name
    quicker = ScaledTo(
        processor_name(),
        reference,
        major_minor(torch.__version__),
        Factors(stream=7.0),
        "2026-01-01 00:00",
    )
    assert load_profile().is_foreign  # known to this process as it was
    write_factors(quicker)
    scale_nearest()
    assert load_profile().source.endswith("scaled to this machine on 2026-01-01 00:00")
    assert len(measured.of) == 1


def test_what_was_measured_beside_other_programs_is_measured_again(
    measured: Measured, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A profile of a busy half second decided between backends for good, and did not say so."""
    monkeypatch.setattr(load, "load_note", lambda: "other programs ran: load 3 on 2 cores")
    scale_nearest()
    busy = load_profile()
    assert busy.source.endswith(
        "(other programs ran: load 3 on 2 cores; it is done again when it is quiet)"
    )
    reload_profiles()  # as another process, as busy
    scale_nearest()
    assert load_profile() == busy and len(measured.of) == 1
    monkeypatch.setattr(load, "load_note", lambda: "")
    measured.factors = replace(SLOW, stream=3.0)
    reload_profiles()  # and one when it is quiet
    assert load_profile().is_foreign and load_profile().profile == busy.profile
    for _ in range(2):
        scale_nearest()
        reload_profiles()
    quiet = load_profile()
    assert not quiet.is_foreign and "other programs" not in quiet.source
    assert quiet.profile != busy.profile and len(measured.of) == 2


def test_look_again_takes_what_another_process_stored(measured: Measured) -> None:
    """As when a worker in the background has measured."""
    found = load_profile()
    now = "2026-01-01 00:00"
    write_factors(
        ScaledTo(processor_name(), found.profile.name, major_minor(torch.__version__), SLOW, now)
    )
    assert load_profile().is_foreign
    load.look_again()
    assert not load_profile().is_foreign
    assert not measured.of


def test_what_was_measured_or_given_is_not_scaled(measured: Measured) -> None:
    """A profile of this machine, and one for a with-block, hold as they are."""
    with use_profile(small_profile()):
        scale_nearest()
    own = small_profile(
        name=processor_name(), threads=torch.get_num_threads(), torch=torch.__version__
    )
    kept = keep_profile(own)
    scale_nearest()
    assert load_profile() == kept
    scale_nearest(device="cuda")
    assert not measured.of


def test_shipped_profiles_may_hold_as_they_are(
    measured: Measured, monkeypatch: pytest.MonkeyPatch
) -> None:
    """TNLAYER_PROFILE=shipped: all machines of a kind plan alike; what means nothing is told."""
    monkeypatch.setenv("TNLAYER_PROFILE", "shipped")
    scale_nearest()
    assert load_profile().is_foreign
    assert not measured.of
    monkeypatch.setenv("TNLAYER_PROFILE", "mine")
    with pytest.raises(tn.SpecError, match="TNLAYER_PROFILE='mine': expected 'shipped'"):
        tn.plan(tn.topologies.low_rank(8, 8, rank=2))


@pytest.mark.parametrize(
    "damage",
    [
        lambda record: record.pop("measured"),
        lambda record: record.update(processor="another"),
        lambda record: record.update(schema=0),
        lambda record: record["factors"].update(gemm=0),
        lambda record: record["factors"].update(gemm=1e9),
        lambda record: record["factors"].update(gemm="nan"),
        lambda record: record["factors"].update(calls=[["mm", 1.0]]),
        lambda record: record.update(note="two\nlines"),
    ],
    ids=["a field less", "foreign", "schema", "zero", "huge", "a word", "calls", "note"],
)
def test_damaged_factors_are_a_miss(measured: Measured, damage: object) -> None:
    """What cannot be of this machine is measured again."""
    scale_nearest()
    reference = load_profile().profile.name
    path = entry()
    content = path.read_bytes()
    record = json.loads(content[: content.rindex(b"\nsha256:")])
    damage(record)  # type: ignore[operator]
    path.unlink()
    stored_factors._STORE.write(path.name, json.dumps(record).encode())
    assert read_factors(processor_name(), reference) is None
    reload_profiles()
    assert load_profile().is_foreign


def test_layers_and_costs_have_one_profile(measured: Measured) -> None:
    """What a layer says of its plan and what tn.cost says rest on the same rates."""
    net = tn.topologies.low_rank(16, 16, rank=2)
    layer = tn.Layer(net, tiers=False)
    assert "scaled to this machine" in tn.cost(net).profile
    assert layer.costs()[0].profile == tn.cost(net, batch=256).profile
    assert len(measured.of) == 1
