"""Probes: the batch sizes at which plans are ranked, four times apart."""

from __future__ import annotations

# Beyond the last one its winner holds.
PROBES = tuple(4**power for power in range(9))
FIRST_PROBE = PROBES[0]


def probes_around(batch: int, *, endless: bool = False) -> tuple[int, int | None]:
    """The probe at or below a batch size, and the next one.

    >>> probes_around(50), probes_around(64), probes_around(10**6)
    ((16, 64), (64, 256), (65536, None))

    Arguments:
        batch: samples of a call.
        endless: whether there are probes without end.
    """
    low = FIRST_PROBE
    while low * 4 <= batch and (endless or low < PROBES[-1]):
        low *= 4
    return low, low * 4 if endless or low < PROBES[-1] else None
