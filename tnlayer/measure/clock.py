"""The clock by which calls are timed."""

from __future__ import annotations

import time
from collections.abc import Callable

import torch


def clock(device: str) -> Callable[[], float]:
    """What tells the time: where one thread of this process does all, that thread's own, which
    stands still while other programs have the core.

    Arguments:
        device: type of the device.
    """
    is_alone = device == "cpu" and torch.get_num_threads() == 1
    return time.thread_time if is_alone else time.perf_counter
