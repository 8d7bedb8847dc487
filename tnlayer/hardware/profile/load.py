"""Which Profile holds: the one that was measured here, or the nearest that ships with us.

The latter is of another machine, which may be several times as fast. Before anything is planned by
it, it is scaled to this one (``scale_nearest``), once on a machine.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Generator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field
from datetime import datetime
from functools import cache, cached_property
from importlib import resources
from typing import Any

import torch

from ...errors import SpecError
from ...support.debug import debug
from ...support.dtypes import DTYPES
from ...support.locks import Lock
from ..detect_processor import processor_name
from ..half_precision import wide_products
from ..machine_load import load_note
from .derived import derived_profiles
from .op_times import OpTimes
from .profile import Profile
from .scaling import Factors, scaled_by
from .stored import (
    MeasuredProfile,
    ProfileKey,
    clear_profiles,
    key_of,
    major_minor,
    read_profile,
    write_profile,
)
from .stored_factors import ScaledTo, read_factors, write_factors

# Says whether shipped profiles are scaled.
VARIABLE, SHIPPED = "TNLAYER_PROFILE", "shipped"


@dataclass(frozen=True, slots=True)
class LoadedProfile:
    """A profile and where it comes from.

    Arguments:
        profile: the rates.
        source: in words, for reports.
        measured: when it was measured on this machine; None if it was not.
        is_foreign: whether it is of another machine, and could be scaled to this one; or scaled
            again, for other programs disturbed that then and do not now.
    """

    profile: Profile
    source: str
    measured: str | None = None
    is_foreign: bool = False


@dataclass(frozen=True)
class ShippedProfile:
    """A profile that ships with the package: what it was measured on, and its rates when asked for.

    To read all rates of all of them takes longer than to start a small layer.

    Arguments:
        device, name, dtype, threads: what it was measured on.
        read: reads its document.
    """

    device: str
    name: str
    dtype: str
    threads: int
    read: Callable[[], Any] = field(compare=False, repr=False)

    @cached_property
    def profile(self) -> Profile:
        """With its rates, checked."""
        return Profile.from_document(self.read())


def shipped_profiles() -> tuple[Profile, ...]:
    """The profiles that ship with the package, all read."""
    return tuple(one.profile for one in shipped())


@cache
def shipped() -> tuple[ShippedProfile, ...]:
    """The profiles that ship with the package, as a list beside them says what they are of.

    Where nothing tells which one is nearer, the first one serves.
    """
    folder = resources.files("tnlayer.hardware.profile")

    def reader(name: str) -> Callable[[], Any]:
        return lambda: json.loads((folder / "shipped" / name).read_text())

    listed = json.loads((folder / "shipped.json").read_text())
    return tuple(
        ShippedProfile(
            one["device"], one["name"], one["dtype"], one["threads"], reader(one["file"])
        )
        for one in listed
    )


_OVERRIDE: ContextVar[LoadedProfile | None] = ContextVar("profile", default=None)


@contextmanager
def use_profile(profile: Profile, source: str = "given") -> Generator[None]:
    """Let a profile hold inside a with-block, whatever was measured or shipped."""
    token = _OVERRIDE.set(LoadedProfile(profile, source))
    try:
        yield
    finally:
        _OVERRIDE.reset(token)


def is_overridden() -> bool:
    """Whether a profile was given for now, which no other process knows."""
    return _OVERRIDE.get() is not None


def load_profile(dtype: str = "float32", device: str = "cpu") -> LoadedProfile:
    """The profile for a dtype on a device, with torch's present number of threads."""
    given = _OVERRIDE.get()
    if given is not None:
        return given
    threads = torch.get_num_threads() if device == "cpu" else 1
    measured = DTYPES[dtype].arithmetic if wide_products(dtype, device) else dtype
    return _load(measured, device, threads)


def op_times(dtype: str, device: str = "cpu") -> OpTimes:
    """What operations of a dtype cost on a device."""
    return _op_times(load_profile(dtype, device).profile, dtype)


def keep_profile(profile: Profile, note: str = "") -> LoadedProfile:
    """Let a profile that was measured just now hold, here and in later processes.

    Arguments:
        profile: what was measured.
        note: what reports say of the measurement.
    """
    measured = write_profile(profile, note)
    _MEASURED[key_of(profile)] = measured
    _load.cache_clear()
    return _named(measured)


# Measures how long things take here, in times of what a profile says.
Measure = Callable[[Profile], Factors]
_MEASURE: list[Measure] = []


def register_measure(measure: Measure) -> None:
    """Take what measures factors: it needs what stands below this room."""
    _MEASURE[:] = [measure]


def scale_nearest(dtype: str = "float32", device: str = "cpu") -> None:
    """See that the profile that holds is scaled to this machine, before something is planned by it.

    It takes about half a second, once on a machine; once more where other programs ran beside it,
    when they do no longer. Nothing is done where a profile was measured or
    given, and for GPUs, of which none ships that was measured.

    Raises:
        SpecError: TNLAYER_PROFILE says what is not known.
    """
    if not load_profile(dtype, device).is_foreign or not _MEASURE or _is_as_shipped():
        return
    with _SCALING:
        if not load_profile(dtype, device).is_foreign:
            return  # another thread has done it
        # One thread: beside a program that takes all cores two would wait for each other.
        reference = _nearest_shipped(ProfileKey(device, processor_name(device), "float32", 1))
        profile = reference if isinstance(reference, Profile) else reference.profile
        note = load_note()
        factors = _MEASURE[0](profile)
        now = f"{datetime.now():%Y-%m-%d %H:%M}"
        found = ScaledTo(
            processor_name(device),
            reference.name,
            major_minor(torch.__version__),
            factors,
            now,
            note,
        )
        _SCALED[found.reference] = write_factors(found)
        _load.cache_clear()


def _is_as_shipped() -> bool:
    """Whether shipped profiles hold as they are, so that all machines plan alike."""
    text = os.environ.get(VARIABLE, "")
    if text not in ("", SHIPPED):
        msg = (
            f"{VARIABLE}={text!r}: expected {SHIPPED!r}, to plan alike on all machines, or nothing"
        )
        raise SpecError(msg)
    return text == SHIPPED


def look_again() -> None:
    """Take up what another process has measured and stored since."""
    _load.cache_clear()


def forget_measured() -> None:
    """Forget what was measured on this machine: profiles, and factors of shipped ones."""
    clear_profiles()
    reload_profiles()


def reload_profiles() -> None:
    """Look again which profiles there are."""
    _MEASURED.clear()
    _SCALED.clear()
    _load.cache_clear()


# What this process measured holds where nothing can be stored, too.
_MEASURED: dict[ProfileKey, MeasuredProfile] = {}
_SCALED: dict[str, ScaledTo] = {}
_SCALING = Lock()


@cache
def _load(dtype: str, device: str, threads: int) -> LoadedProfile:
    key = ProfileKey(device, processor_name(device), dtype, threads)
    measured = _MEASURED.get(key) or read_profile(key)
    loaded = _named(measured) if measured is not None else _nearest(key)
    debug(1, f"device profile for {device}, {dtype}, {threads} threads: {loaded.source}")
    return loaded


def _named(measured: MeasuredProfile) -> LoadedProfile:
    note = f" ({measured.note})" if measured.note else ""
    source = f"measured here on {measured.measured}{note}"
    return LoadedProfile(measured.profile, source, measured.measured)


def _nearest(key: ProfileKey) -> LoadedProfile:
    """The shipped profile that is most like what is asked for, scaled if that was measured."""
    shipped = _nearest_shipped(key)
    if isinstance(shipped, Profile):
        source = f"of an {shipped.name} by its datasheet, {shipped.dtype}: nothing was measured"
        return LoadedProfile(shipped, source)
    threads = f"{shipped.threads} thread{'s' if shipped.threads != 1 else ''}"
    source = f"shipped with tnlayer, measured on {shipped.name}, {shipped.dtype}, {threads}"
    scaled = _SCALED.get(shipped.name) or read_factors(key.name, shipped.name)
    if scaled is None:
        return LoadedProfile(shipped.profile, source, is_foreign=key.device == "cpu")
    source = f"{source}, scaled to this machine on {scaled.measured}"
    if scaled.note:
        source += f" ({scaled.note}; it is done again when it is quiet)"
    again = bool(scaled.note) and not load_note()
    return LoadedProfile(scaled_by(shipped.profile, scaled.factors), source, is_foreign=again)


def _nearest_shipped(key: ProfileKey) -> Profile | ShippedProfile:
    """The profile that is most like what is asked for; device and dtype count most.

    Then the processor's name: torch's libraries run other code on another vendor's processor,
    so that one of the same vendor is nearer than one of another.
    Of GPUs none ships that was measured: those from datasheets stand in.
    """

    def distance(profile: Profile | ShippedProfile) -> tuple[float, ...]:
        differs = (
            profile.device != key.device,
            profile.dtype != key.dtype,
            profile.dtype != _measured_as(key.dtype),
        )
        other = profile.name not in key.name
        return (
            *map(int, differs),
            _unlike(profile.name, key.name) if other else 0.0,
            abs(profile.threads - key.threads),
        )

    found = shipped()
    if any(one.device == key.device for one in found):
        return min(found, key=distance)
    return min((*found, *derived_profiles()), key=distance)


def _unlike(name: str, other: str) -> float:
    """The share of the words of a processor's name that another one's has not.

    >>> _unlike("Maker Model T", "Maker Model S 2-Core Processor")
    0.3333333333333333
    """
    words = name.split()
    return sum(word not in other.split() for word in words) / max(1, len(words))


def _measured_as(dtype: str) -> str:
    """Arithmetic of a complex dtype is that of its parts, that of half precision is float32's."""
    return DTYPES[DTYPES[dtype].arithmetic].part


_TIMES: dict[tuple[str, str], OpTimes] = {}


def _op_times(profile: Profile, dtype: str) -> OpTimes:
    key = (profile.digest, dtype)
    if key not in _TIMES:
        _TIMES[key] = OpTimes(profile, dtype)
    return _TIMES[key]
