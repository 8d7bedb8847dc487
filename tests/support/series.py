"""How long a series of random cases is: short in each run, long with ``-m full``."""

from __future__ import annotations

from typing import Any

import pytest


def short_and_full(short: int, full: int) -> list[Any]:
    """Values of a parameter ``count``: the series of a run, and the one behind the marker."""
    return [short, pytest.param(full, marks=pytest.mark.full)]
