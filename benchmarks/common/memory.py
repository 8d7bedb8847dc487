"""The most memory that a call holds at once, measured."""

from __future__ import annotations

import gc
from collections.abc import Callable
from typing import Any

import torch
from torch.profiler import ProfilerActivity, profile

_ALLOCATION = torch._C._profiler._EventType.Allocation  # pyright: ignore


def allocator_peak(call: Callable[[], object]) -> int:
    """Peak of the bytes that a call holds of torch's CPU allocator at once, measured there: what an
    operation takes inside counts too, and compiled kernels run as they do for a user.

    Workspaces that kernels allocate by themselves are not in it.
    """
    gc.collect()  # what is freed of others would be taken off
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as profiler:
        kept = call()
    assert profiler.profiler is not None and profiler.profiler.kineto_results is not None
    waiting: list[Any] = [*profiler.profiler.kineto_results.experimental_event_tree()]
    sizes: list[tuple[int, int]] = []
    while waiting:
        event = waiting.pop()
        waiting += event.children
        if event.tag == _ALLOCATION:
            sizes.append((event.start_time_ns, event.extra_fields.alloc_size))
    del kept
    held = peak = 0
    for _, size in sorted(sizes, key=lambda one: one[0]):
        held += size
        peak = max(peak, held)
    return peak
