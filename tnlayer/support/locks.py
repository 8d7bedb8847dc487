"""Locks that a forked child finds open.

A child has the thread that forked and no other. What another thread held at that moment nobody
there will ever release: so each lock of the package is made here, and made anew in a child.
"""

from __future__ import annotations

import os
import sys
import threading
import weakref
from collections.abc import Callable
from functools import cached_property
from types import TracebackType
from typing import Any

_known: weakref.WeakSet[Lock] = weakref.WeakSet()
_known_lock = threading.Lock()
_after_fork: list[Callable[[], object]] = []


class Lock:
    """A lock for ``with`` statements.

    Arguments:
        reentrant: whether the thread that holds it may take it again.
    """

    __slots__ = ("__weakref__", "_inner", "_make")

    def __init__(self, *, reentrant: bool = False) -> None:
        self._make: Callable[[], Any] = threading.RLock if reentrant else threading.Lock
        self._inner = self._make()
        with _known_lock:
            _known.add(self)

    def __enter__(self) -> None:
        self._inner.acquire()

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        try:
            self._inner.release()
        except RuntimeError:
            # The thread forked while it held it: in the child it is another lock.
            if not _is_child:
                raise

    def renew(self) -> None:
        """Open it, whoever held it."""
        self._inner = self._make()

    def __reduce__(self) -> tuple[Any, ...]:
        return _lock, (self._make is threading.RLock,)


def _lock(reentrant: bool) -> Lock:
    return Lock(reentrant=reentrant)


def after_fork(function: Callable[[], object]) -> None:
    """Call a function in each forked child, once all locks are open."""
    _after_fork.append(function)


_is_child = False


def _renew() -> None:
    """In a child: open all locks."""
    global _known_lock, _is_child
    _is_child = True
    _known_lock = threading.Lock()
    for lock in list(_known):
        lock.renew()
    _renew_cached_properties()
    for function in _after_fork:
        function()


def _renew_cached_properties() -> None:
    """Before Python 3.12 each cached property has a lock, one for all objects of its class."""
    if sys.version_info >= (3, 12):
        return
    for name, module in list(sys.modules.items()):
        if name.partition(".")[0] != __name__.partition(".")[0]:
            continue
        for kind in list(vars(module).values()):
            for value in list(vars(kind).values()) if isinstance(kind, type) else ():
                if isinstance(value, cached_property):
                    value.lock = threading.RLock()  # type: ignore[attr-defined]


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_renew)
