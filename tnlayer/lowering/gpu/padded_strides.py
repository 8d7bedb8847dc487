"""Strides of an array in shared memory that leaves an entry out after every so many.

A leg of stride u has u + u/32 instead, for a period of 32. Which padding is free of conflicts of
banks, bank_conflicts.py and tensor_cores/ count.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from ..array_layout import Sizes

Strides = dict[str, int]


def padded(legs: Sequence[str], sizes: Sizes, *periods: int) -> Strides:
    """Strides with the last leg fastest and an entry left out after every so many; 0 for none.

    The stride of a leg is u + u/period + ... with u its stride without padding, which is above the
    sum of all that faster legs can add: no two entries meet.
    """
    strides: Strides = {}
    unit = 1
    for leg in reversed(legs):
        strides[leg] = unit + sum(unit // period for period in periods if period)
        unit *= sizes[leg]
    return dict(reversed(strides.items()))


def extent(strides: Mapping[str, int], sizes: Sizes) -> int:
    """Entries from the first to the last one."""
    return 1 + sum(stride * (sizes[leg] - 1) for leg, stride in strides.items())


def is_injective(strides: Mapping[str, int], sizes: Sizes) -> bool:
    """Whether no two combinations of indices have one place: each stride is above the reach of all
    smaller ones. Sufficient, and what ``padded`` keeps to."""
    reach = 0
    for leg in sorted(strides, key=lambda leg: strides[leg]):
        if sizes[leg] == 1:
            continue
        if strides[leg] <= reach:
            return False
        reach += strides[leg] * (sizes[leg] - 1)
    return True
