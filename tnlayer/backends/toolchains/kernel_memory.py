"""The memory that a compiled kernel keeps between calls, given back with its last user."""

from __future__ import annotations

import ctypes
import weakref
from typing import Any

from ...support.locks import Lock


class KernelMemory:
    """The memory of one kernel; when the last program that holds this is collected, it is freed."""

    __slots__ = ("__weakref__",)


_memories: weakref.WeakValueDictionary[tuple[int, str], KernelMemory] = (
    weakref.WeakValueDictionary()
)
_lock = Lock()


def memory_of(library: ctypes.CDLL, release: str) -> KernelMemory:
    """What stands for the memory of a kernel; all its users hold the same.

    Arguments:
        library: that has the kernel; it stays loaded as long as it is held.
        release: name of its function that gives the memory back. A call that runs meanwhile keeps
            its own.
    """
    key = library._handle, release
    with _lock:
        memory = _memories.get(key)
        if memory is None:
            memory = _memories[key] = KernelMemory()
            # By index: as an attribute the function would hold the library that holds it.
            give_back: Any = library[release]
            give_back.argtypes, give_back.restype = (), None
            weakref.finalize(memory, give_back).atexit = False
    return memory
