"""Loading a library from bytes: what was checked is what is loaded.

A path names another file tomorrow: between a check and ``dlopen`` somebody may put one there. So
the bytes that were checked are copied into memory that has no name, and loaded from there. That
also works where the cache or the folder for temporary files lies on a disk from which nothing is
executed.
"""

from __future__ import annotations

import _ctypes
import ctypes
import itertools
import os
import weakref
from collections.abc import Callable

from ...support.debug import debug
from .build_folder import build_folder

_numbers = itertools.count(1)
_unload: Callable[[int], None] | None = getattr(_ctypes, "dlclose", None)


def load_bytes(content: bytes, name: str) -> ctypes.CDLL:
    """The library that these bytes are.

    Arguments:
        content: of a shared object.
        name: for debuggers.

    Raises:
        OSError: they are none for this system.
        BuildError: there is no memory and no folder to load it from.
    """
    library = _loaded(content, name)
    # Python never unloads one. What calls it holds it: a function of ctypes holds its library.
    if _unload is not None:
        weakref.finalize(library, _unload, library._handle).atexit = False
    return library


def _loaded(content: bytes, name: str) -> ctypes.CDLL:
    make = getattr(os, "memfd_create", None)
    if make is not None:
        try:
            return _from_memory(content, make(f"tnlayer-{name}"))
        except OSError as error:
            debug(1, f"library {name} is not loaded from memory: {error}")
    with build_folder() as folder:
        path = folder / f"{name}.so"
        path.write_bytes(content)
        return ctypes.CDLL(str(path))


def _from_memory(content: bytes, descriptor: int) -> ctypes.CDLL:
    with os.fdopen(descriptor, "wb") as file:
        file.write(content)
        file.flush()
        # The loader takes a path that it has seen for the library that it loaded then, and numbers
        # of descriptors come again: so each gets a spelling of its own.
        spelling = f"{next(_numbers):b}".replace("1", "./").replace("0", "/")
        return ctypes.CDLL(f"/proc/self/fd/{spelling}{descriptor}")
