"""Measuring allocation: the bytes of the tensors that calls made and that are still alive."""

from __future__ import annotations

import weakref
from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves


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
