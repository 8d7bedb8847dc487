"""Timing of calls side by side."""

from __future__ import annotations

import random
import statistics
import time
from collections.abc import Callable, Mapping

_SEED = 7


def median_seconds(
    calls: Mapping[str, Callable[[], object]],
    *,
    budget: float = 2.0,
    most: int = 51,
    progress: Callable[[float], object] = lambda share: None,
) -> dict[str, float]:
    """Median time of each call; the calls take turns in shuffled order, after a warm-up.

    Arguments:
        calls: what to time, by name.
        budget: seconds for all calls together; each runs three times at least.
        most: timed runs of each call at most.
        progress: called with the share done, from 0 to 1.
    """
    for call in calls.values():
        call()
    times: dict[str, list[float]] = {name: [] for name in calls}
    order = list(calls)
    shuffle = random.Random(_SEED).shuffle
    start = time.perf_counter()
    for turn in range(most):
        if turn >= 3 and time.perf_counter() - start > budget:
            break
        shuffle(order)
        for name in order:
            before = time.perf_counter()
            calls[name]()
            times[name].append(time.perf_counter() - before)
        progress(max((turn + 1) / most, (time.perf_counter() - start) / budget))
    return {name: statistics.median(found) for name, found in times.items()}
