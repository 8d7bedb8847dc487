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
import struct
import weakref
from collections.abc import Callable

from ...support.debug import debug
from .build_folder import build_folder

# Magic bytes, 64 bits, little endian.
_ELF64_LITTLE = b"\x7fELF\x02\x01"
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


def _check_whole(content: bytes) -> None:
    """Refuse an ELF file that ends before its segments do: the loader maps what is not there, and
    the process ends with SIGBUS. Linkers leave such files on full disks, some with exit code 0.

    Raises:
        OSError: says how many bytes there are.
    """
    if content[:6] != _ELF64_LITTLE or len(content) < 64:
        return  # no ELF file of 64 bits: the loader says so itself, or maps no more than a page
    (table,), (size, count) = (
        struct.unpack_from("<Q", content, 32),
        struct.unpack_from("<HH", content, 54),
    )
    ends = [table + size * count]
    if len(content) >= ends[0] and size >= 56:
        for place in range(table, ends[0], size):
            offset, length = struct.unpack_from("<Q16xQ", content, place + 8)
            ends.append(offset + length)
    if max(ends) > len(content):
        msg = f"the library has {len(content)} bytes, its segments {max(ends)}: it was cut short"
        raise OSError(msg)


def _loaded(content: bytes, name: str) -> ctypes.CDLL:
    _check_whole(content)
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
