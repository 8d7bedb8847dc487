"""The time that a fit may take."""

from __future__ import annotations

import math
import time
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Clock:
    """A time at which a search ends; what was the best until then is kept.

    Arguments:
        until: of ``time.perf_counter``; inf: never.

    >>> Clock.of(None).is_over(), Clock.of(0.0).is_over()
    (False, True)
    """

    until: float = math.inf

    @classmethod
    def of(cls, seconds: float | None) -> Clock:
        """One that ends so many seconds from now; None: never."""
        return cls(math.inf if seconds is None else time.perf_counter() + seconds)

    def is_over(self) -> bool:
        """Whether the time is up."""
        return time.perf_counter() >= self.until

    @property
    def left(self) -> float:
        """Seconds until then, at least a little."""
        return max(1e-3, self.until - time.perf_counter())
