"""Profiles that are wrong on purpose: every rate by a factor of its own, up to 4 either way."""

from __future__ import annotations

import random
from dataclasses import fields
from typing import Any

from tnlayer.hardware.profile.profile import CALLS, Profile
from tnlayer.hardware.profile.scaling import Factors, scaled_by

MOST = 4.0
# What is said of whole programs is no rate.
_RATES = [one.name for one in fields(Factors) if one.name not in ("calls", "starting", "working")]


def falsified(profile: Profile, seed: int) -> Profile:
    """The profile with each rate, and each kind of call, multiplied by a factor of its own.

    Arguments:
        profile: as it was measured.
        seed: of the factors, which are drawn evenly in their logarithms from 1/4 to 4.
    """
    draw = random.Random(seed)

    def factor() -> float:
        return MOST ** draw.uniform(-1, 1)

    rates: dict[str, Any] = {name: factor() for name in _RATES}
    calls = tuple((kind, factor()) for kind in CALLS)
    return scaled_by(profile, Factors(calls=calls, **rates))
