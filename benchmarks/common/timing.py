"""Median timing of several callables side by side: warm, in shuffled turns, in one process.

Timing one method after the other lets a change of clock or a noisy neighbour look like a
difference between methods. Here the methods take turns, in a new random order each round.
"""

from __future__ import annotations

import ctypes
import gc
import random
import statistics
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass

Call = Callable[[], object]

# A turn repeats a quick call, so that its caches are its own and not the last method's.
CALLS_A_TURN = 5
WARM_CALLS = 2
# A call longer than this needs no warm-up within its turns: it fills the caches by itself.
LONG_CALL = 0.2


@dataclass(frozen=True, slots=True)
class Timing:
    """Statistics of the timed calls of one method; all times in seconds.

    Arguments:
        runs: number of timed calls.
        median: median of the timed calls.
        minimum: the fastest call.
        lower_quartile: a quarter of the calls took no longer.
        upper_quartile: three quarters of the calls took no longer.
        slow: the call is beyond the limit for slow methods, so it was timed once or twice.
    """

    runs: int
    median: float
    minimum: float
    lower_quartile: float
    upper_quartile: float
    slow: bool = False

    @classmethod
    def from_samples(cls, samples: list[float], slow: bool = False) -> Timing:
        """Summarise the durations of single calls.

        >>> Timing.from_samples([3.0, 1.0, 2.0]).median
        2.0
        """
        if not samples:
            msg = "no timed call: expected at least one duration"
            raise ValueError(msg)
        if len(samples) == 1:
            lower = upper = samples[0]
        else:
            lower, _, upper = statistics.quantiles(samples, n=4, method="inclusive")
        middle = statistics.median(samples)
        return cls(len(samples), middle, min(samples), lower, upper, slow)


def keep_freed_memory() -> None:
    """Have the C library keep what is freed: else a time hangs on what was freed before it,
    for pages that were given back have to be mapped again. Does nothing outside of glibc."""
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is not None:
        for option in (-3, -1):  # M_MMAP_THRESHOLD, M_TRIM_THRESHOLD
            mallopt(option, 2**30)


def time_call(call: Call) -> float:
    """Duration of one call in seconds."""
    start = time.perf_counter()
    call()
    return time.perf_counter() - start


def time_alternating(
    calls: Mapping[str, Call],
    *,
    budget: float = 0.5,
    slow_limit: float = 3.0,
    known: Mapping[str, float] | None = None,
    seed: int = 0,
) -> dict[str, Timing]:
    """Time several callables in shuffled turns.

    Arguments:
        calls: what to time, by name.
        budget: seconds of timed calls that each callable may use, warm-up not counted.
        slow_limit: a callable that needs more seconds a call than this is timed once or twice.
        known: duration of a call that already ran (its first), by name. If it is twice the
            slow_limit or more, it is the only sample.
        seed: seed of the shuffling.

    Returns the statistics by name, in the order of ``calls``.
    """
    first = {name: (known or {}).get(name) or time_call(call) for name, call in calls.items()}
    samples: dict[str, list[float]] = {name: [] for name in calls}
    turns: dict[str, int] = {}
    calls_a_turn: dict[str, int] = {}
    for name, call in calls.items():
        if first[name] >= 2 * slow_limit:
            samples[name], turns[name] = [first[name]], 0
            continue
        # The first call pays for allocation and set-up; the second says how long a call takes.
        estimate = max(time_call(call), 1e-7)
        if estimate > slow_limit:
            samples[name], turns[name] = [first[name], estimate], 0
            continue
        wanted = max(3, min(200, int(budget / estimate)))
        calls_a_turn[name] = 1 if estimate > LONG_CALL else CALLS_A_TURN
        turns[name] = -(-wanted // calls_a_turn[name])
    collecting = gc.isenabled()
    gc.disable()
    try:
        _take_turns(calls, turns, calls_a_turn, samples, random.Random(seed))
    finally:
        if collecting:
            gc.enable()
    return {name: Timing.from_samples(samples[name], slow=turns[name] == 0) for name in calls}


def _take_turns(
    calls: Mapping[str, Call],
    turns: Mapping[str, int],
    calls_a_turn: Mapping[str, int],
    samples: dict[str, list[float]],
    shuffler: random.Random,
) -> None:
    """Give each callable its turns, spread evenly over as many rounds as the quickest has."""
    rounds = max(turns.values(), default=0)
    names = list(calls)
    for step in range(rounds):
        shuffler.shuffle(names)
        for name in names:
            # Even spreading: floor((s+1) t / r) grows t times while s runs over r rounds.
            if (step + 1) * turns[name] // rounds == step * turns[name] // rounds:
                continue
            if calls_a_turn[name] > 1:
                for _ in range(WARM_CALLS):
                    calls[name]()
            samples[name] += [time_call(calls[name]) for _ in range(calls_a_turn[name])]
