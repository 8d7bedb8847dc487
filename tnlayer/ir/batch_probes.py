"""Probes: the batch sizes at which plans are ranked, four times apart."""

from __future__ import annotations

FIRST_PROBE, PROBE_FACTOR = 1, 4
# Beyond the last one its winner holds.
LAST_PROBE = PROBE_FACTOR**8


def probes_around(batch: int, *, endless: bool = False) -> tuple[int, int | None]:
    """The probe at or below a batch size, and the next one.

    >>> probes_around(50), probes_around(64), probes_around(10**6)
    ((16, 64), (64, 256), (65536, None))

    Arguments:
        batch: samples of a call.
        endless: whether there are probes without end.
    """
    low = FIRST_PROBE
    while low * PROBE_FACTOR <= batch and (endless or low < LAST_PROBE):
        low *= PROBE_FACTOR
    return low, low * PROBE_FACTOR if endless or low < LAST_PROBE else None
