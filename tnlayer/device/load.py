"""Which Profile holds: the one that was measured here, or one that ships with the package."""

from __future__ import annotations

import json
from collections.abc import Generator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from functools import cache
from importlib import resources

import torch

from tnlayer.device.op_times import OpTimes
from tnlayer.device.profile import Profile


@dataclass(frozen=True, slots=True)
class LoadedProfile:
    """A profile and where it comes from.

    Arguments:
        profile: the rates.
        source: in words, for reports.
    """

    profile: Profile
    source: str


@cache
def shipped_profiles() -> tuple[Profile, ...]:
    """The profiles that ship with the package."""
    folder = resources.files("tnlayer.device") / "profiles"
    files = sorted((f for f in folder.iterdir() if f.name.endswith(".json")), key=lambda f: f.name)
    return tuple(Profile.from_document(json.loads(f.read_text())) for f in files)


_OVERRIDE: ContextVar[LoadedProfile | None] = ContextVar("profile", default=None)


@contextmanager
def use_profile(profile: Profile, source: str = "given") -> Generator[None]:
    """Let a profile hold inside a with-block, whatever was measured or shipped."""
    token = _OVERRIDE.set(LoadedProfile(profile, source))
    try:
        yield
    finally:
        _OVERRIDE.reset(token)


def load_profile(dtype: str = "float32", device: str = "cpu") -> LoadedProfile:
    """The profile for a dtype on a device, with torch's present number of threads."""
    given = _OVERRIDE.get()
    if given is not None:
        return given
    threads = torch.get_num_threads() if device == "cpu" else 1
    return _load(dtype, device, threads)


def op_times(dtype: str, device: str = "cpu") -> OpTimes:
    """What operations of a dtype cost on a device."""
    return _op_times(load_profile(dtype, device).profile, dtype)


@cache
def _load(dtype: str, device: str, threads: int) -> LoadedProfile:
    def distance(profile: Profile) -> tuple[int, int, int]:
        return (profile.device != device, profile.dtype != dtype, abs(profile.threads - threads))

    profile = min(shipped_profiles(), key=distance)
    return LoadedProfile(profile, f"shipped with tnlayer: {profile.name}")


_TIMES: dict[tuple[str, str], OpTimes] = {}


def _op_times(profile: Profile, dtype: str) -> OpTimes:
    key = (profile.digest, dtype)
    if key not in _TIMES:
        _TIMES[key] = OpTimes(profile, dtype)
    return _TIMES[key]
