"""From printed C++ to a loaded library: the system's compiler, and a store of what it made.

A library is stored under a key made of the source, the compiler, its version, the flags and the
features of the CPU. The store (support/file_store.py) writes it at once or not at all and verifies
it, and the bytes that were verified are loaded. Two processes that build the same kernel at once
both succeed.
"""

from __future__ import annotations

import ctypes
import hashlib
import os
import weakref
from collections import deque
from collections.abc import Callable, MutableMapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from ...support.debug import debug
from ...support.file_store import Store
from ...support.locks import Lock, after_fork
from .build_folder import build_folder
from .find_cpp_compiler import FLAGS, Compiler, find_compiler
from .library import load_bytes
from .processes import Finished, Processes
from .run_compiler import compile_files, load_made, write_source

OPTIMISE = "-O3"
TIMEOUT_SECONDS = 600
KERNELS = Store("kernels", bounded=True)
_lock = Lock()
_building: dict[str, Lock] = {}
# Libraries that were loaded last, by key; of the others only those that are in use stay loaded.
_KEPT = 64
_kept: deque[ctypes.CDLL] = deque(maxlen=_KEPT)
_loaded: MutableMapping[str, ctypes.CDLL] = weakref.WeakValueDictionary()
after_fork(_building.clear)  # what other threads built the child builds itself


def _anything(_: ctypes.CDLL) -> bool:
    return True


def load_library(
    *units: str, optimise: str = OPTIMISE, fits: Callable[[ctypes.CDLL], bool] = _anything
) -> ctypes.CDLL:
    """Compile C++ source, or take it from the store, and load it.

    Arguments:
        units: translation units of one library, which are compiled side by side.
        optimise: as for the compiler; -O1 where only the result matters.
        fits: whether a stored library is the one; else it is built anew.

    Raises:
        BuildError: no compiler, or it failed.
    """
    key = library_key(*units, optimise=optimise)
    with _lock:
        building = _building.setdefault(key, Lock())
    with building:  # others may build other sources meanwhile
        library = open_library(key)
        if library is None or not fits(library):
            for unit in units:
                debug(4, f"kernel {key}\n{unit}")
            library = _keep(key, _build(units, find_compiler(), (optimise, *FLAGS), key))
    return library


def _keep(key: str, library: ctypes.CDLL) -> ctypes.CDLL:
    _loaded[key] = library
    _kept.append(library)
    return library


def library_key(*units: str, optimise: str = OPTIMISE) -> str:
    """Where the library of a source is stored: a digest of all that it is made from."""
    return _digest(*units, *toolchain(optimise))


def compilers_at_once() -> int:
    """How many units are worth while: processors that this process may use, at most four."""
    own = getattr(os, "sched_getaffinity", None)
    return min(4, len(own(0)) if own else os.cpu_count() or 1)


def toolchain(optimise: str = OPTIMISE) -> tuple[str, ...]:
    """All that a library depends on but its source: compiler, version, flags, CPU features."""
    compiler = find_compiler()
    return (*compiler.command, compiler.version, optimise, *FLAGS, *sorted(compiler.macros))


def open_library(key: str) -> ctypes.CDLL | None:
    """The library under a key, if it was loaded before or is stored, whole and trusted."""
    library = _loaded.get(key)
    if library is None:
        content = KERNELS.read(f"{key}.so")
        if content is None:
            return None
        try:
            library = _keep(key, load_bytes(content, key))
        except OSError as error:  # made for another system
            debug(1, f"kernel {key} is not used: {error}")
            return None
        debug(1, f"kernel {key} from the cache")
    return library


def _build(
    units: tuple[str, ...], compiler: Compiler, flags: tuple[str, ...], key: str
) -> ctypes.CDLL:
    with build_folder() as folder:
        debug(1, f"building kernel {key} with {compiler.version}")
        made = folder / "kernel.so"
        command = [*compiler.command, *flags]
        done = _compile(units, command, made)
        content, library = load_made(made, key, command, done)
        KERNELS.write(f"{key}.so", content)
        return library


def _compile(units: tuple[str, ...], command: list[str], made: Path) -> Finished:
    """Make a library of some units: one by one compiler, several by as many, then linked."""
    folder = made.parent
    sources = [folder / f"unit{number}.cpp" for number in range(len(units))]
    for source, unit in zip(sources, units, strict=True):
        write_source(source, unit)
    processes = Processes()

    def run(words: list[str]) -> Finished:
        return _run(words, folder, processes)

    try:
        if len(units) > 1:
            objects = [source.with_suffix(".o") for source in sources]
            commands = [
                [*(word for word in command if word != "-shared"), "-c", str(source), "-o", str(o)]
                for source, o in zip(sources, objects, strict=True)
            ]
            with ThreadPoolExecutor(len(units)) as pool:
                try:
                    list(pool.map(run, commands))
                except BaseException:
                    processes.stop()  # or the pool waits for the others
                    raise
            sources = objects
        return run([*command, *map(str, sources), "-o", str(made)])
    except BaseException:
        processes.stop()
        raise


def _run(command: list[str], folder: Path, processes: Processes) -> Finished:
    return compile_files(command, folder, processes, TIMEOUT_SECONDS)


def _digest(*parts: str) -> str:
    return hashlib.sha256("\0".join(parts).encode("utf-8", "surrogateescape")).hexdigest()[:32]
