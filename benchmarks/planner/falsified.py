"""Profiles that are wrong on purpose: every rate by a factor of its own, up to 4 either way."""

from __future__ import annotations

import random
from dataclasses import fields, replace
from typing import Any

from tnlayer.hardware.profile.grid import Grid
from tnlayer.hardware.profile.profile import Profile

MOST = 4.0


def falsified(profile: Profile, seed: int) -> Profile:
    """The profile with each rate, and each kind of call, multiplied by a factor of its own.

    Arguments:
        profile: as it was measured.
        seed: of the factors, which are drawn evenly in their logarithms from 1/4 to 4.
    """
    draw = random.Random(seed)

    def factor() -> float:
        return MOST ** draw.uniform(-1, 1)

    changes: dict[str, Any] = {}
    for field in fields(profile):
        value = getattr(profile, field.name)
        if isinstance(value, Grid):
            changes[field.name] = _times(value, factor())
        elif isinstance(value, float):
            changes[field.name] = value * factor()
        elif field.name in ("gemm", "batched"):
            # One factor: transposed operands are not wrong by themselves.
            rate = factor()
            changes[field.name] = tuple(_times(grid, rate) for grid in value)
        elif field.name == "calls":
            changes[field.name] = tuple((kind, seconds * factor()) for kind, seconds in value)
    return replace(profile, **changes)


def _times(grid: Grid, rate: float) -> Grid:
    return replace(grid, seconds=tuple(seconds * rate for seconds in grid.seconds))
