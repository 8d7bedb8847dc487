"""Measuring allocation: the bytes of the tensors that calls made and that are still alive."""

from __future__ import annotations

import gc
import weakref
from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch.profiler import ProfilerActivity, profile
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

_ALLOCATION = torch._C._profiler._EventType.Allocation  # pyright: ignore


class LiveBytes(TorchDispatchMode):
    """Bytes of the storages that calls under this mode made and that are still alive.

    ``peak`` is the largest number of them at any time; ``live`` has the size of each, and
    ``changes`` what came and went: the number of a storage, and its bytes or less than nothing.
    """

    def __init__(self) -> None:
        super().__init__()
        self.live: dict[int, int] = {}
        self.numbers: dict[int, int] = {}
        self.changes: list[tuple[int, int]] = []
        self.peak = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        known = {
            t.untyped_storage().data_ptr()
            for t in tree_leaves((args, kwargs))
            if isinstance(t, torch.Tensor)
        }
        out = func(*args, **(kwargs or {}))
        for tensor in tree_leaves(out):
            if isinstance(tensor, torch.Tensor):
                storage = tensor.untyped_storage()
                key = storage.data_ptr()
                if key not in known and key not in self.live:
                    self.live[key] = storage.nbytes()
                    self.numbers[key] = len(self.changes)
                    self.changes.append((self.numbers[key], storage.nbytes()))
                    weakref.finalize(storage, self._forget, key)
        self.peak = max(self.peak, sum(self.live.values()))
        return out

    def _forget(self, key: int) -> None:
        self.changes.append((self.numbers.pop(key), -self.live.pop(key)))

    def peak_beside(self, results: Iterable[torch.Tensor]) -> int:
        """The largest number of bytes at any time, without those of results while they were alive.

        A result that keeps more memory than it has entries does not hide the rest of it.
        """
        own: dict[int, int] = {}
        for tensor in results:
            number = self.numbers.get(tensor.untyped_storage().data_ptr())
            if number is not None:
                own[number] = tensor.numel() * tensor.element_size()
        held = peak = 0
        for number, size in self.changes:
            hidden = own.get(number, 0)
            held += size - hidden if size > 0 else size + hidden
            peak = max(peak, held)
        return peak


def measured_peak(call: Callable[[], object]) -> int:
    """Peak of the bytes that a call allocates at once."""
    with LiveBytes() as mode:
        call()
    return mode.peak


def peak_beside(call: Callable[[], Iterable[torch.Tensor]]) -> int:
    """Peak of the bytes that a call allocates at once beside what it returns."""
    with LiveBytes() as mode:
        results = tuple(call())
    return mode.peak_beside(results)


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
