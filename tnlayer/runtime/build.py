"""From printed C++ to a loaded library: the system's compiler, and a store of what it made.

A library is stored under a key made of the source, the compiler, its version, the flags and the
features of the CPU; files.py writes it at once or not at all, and verifies it before it is opened.
Two processes that build the same kernel at once both succeed. What a compiler says of itself and of
the CPU is stored too: asking it takes longer than loading a kernel.
"""

from __future__ import annotations

import ctypes
import hashlib
import json
import os
import shutil
import subprocess
import tempfile
import threading
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

from tnlayer.debug import debug
from tnlayer.device.processor import processor_features
from tnlayer.errors import BuildError
from tnlayer.files import Store

COMPILERS = ("c++", "clang++")
OPTIMISE = "-O3"
# What decides which features of the CPU a compiler uses.
TARGET = ("-march=native", "-fopenmp")
# Contraction of a * b + c aside, none of these changes a value: NaN and Inf propagate.
FLAGS = (
    "-std=c++17",
    *TARGET,
    "-shared",
    "-fPIC",
    "-fno-math-errno",
    "-fno-trapping-math",
    "-ffp-contract=fast",
    "-fno-exceptions",
    "-fno-rtti",
    "-w",
)
TIMEOUT_SECONDS = 600
KERNELS = Store("kernels", bounded=True)
_COMPILERS = Store("compilers", limit=2**20)
_lock = threading.Lock()
_building: dict[str, threading.Lock] = {}
_loaded: dict[str, ctypes.CDLL] = {}


@dataclass(frozen=True, slots=True)
class Compiler:
    """A C++ compiler of this machine.

    Arguments:
        path: of the program.
        version: what it says of itself.
        macros: the features of the CPU that -march=native switches on.
    """

    path: str
    version: str
    macros: frozenset[str]

    @property
    def vector_bytes(self) -> int:
        """Bytes of the widest vector."""
        if "__AVX512F__" in self.macros:
            return 64
        return 32 if "__AVX__" in self.macros else 16

    @property
    def registers(self) -> int:
        """Number of vector registers."""
        return 32 if self.macros & {"__AVX512F__", "__aarch64__"} else 16


def find_compiler() -> Compiler:
    """The compiler in $CXX, else the first of c++ and clang++ that is installed.

    Raises:
        BuildError: there is none, or it does not run; says how to install one.
    """
    wanted = os.environ.get("CXX")
    names = (wanted,) if wanted else COMPILERS
    for name in names:
        path = shutil.which(name)
        if path is not None:
            return _inspect(path)
    msg = (
        f"no C++ compiler found (looked for {', '.join(names)}): install one, for example with "
        "`apt-get install g++` or `conda install cxx-compiler`, or use backend='torch'"
    )
    raise BuildError(msg)


@lru_cache(maxsize=8)
def _inspect(path: str) -> Compiler:
    """A compiler's version and what it knows of this CPU, as it says or once said."""
    real = Path(path).resolve()
    try:
        found = real.stat()
    except OSError as error:
        msg = f"the compiler {path} cannot be read: {error}; set CXX to another one"
        raise BuildError(msg) from error
    program = (str(real), found.st_size, found.st_mtime_ns)
    key = _digest(path, repr(program), processor_features(), *TARGET)
    try:
        record = json.loads(_COMPILERS.read(key) or b"null")
        return Compiler(path, record["version"], frozenset(record["macros"]))
    except (TypeError, KeyError, ValueError):
        compiler = _ask(path)
    record = {"version": compiler.version, "macros": sorted(compiler.macros)}
    _COMPILERS.write(key, json.dumps(record).encode())
    return compiler


def _ask(path: str) -> Compiler:
    """Ask a compiler for its version and for what it knows of this CPU."""
    version = _run([path, "--version"]).splitlines()[0]
    defined = _run([path, *TARGET, "-dM", "-E", "-x", "c++", os.devnull])
    macros = frozenset(line.split()[1] for line in defined.splitlines() if line.count(" ") >= 1)
    return Compiler(path, version, frozenset(m for m in macros if m.startswith("__")))


def _run(command: list[str]) -> str:
    try:
        done = subprocess.run(
            command, capture_output=True, text=True, timeout=TIMEOUT_SECONDS, check=False
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        msg = f"the compiler {command[0]} does not run: {error}; set CXX to another one"
        raise BuildError(msg) from error
    if done.returncode:
        shown = "\n".join(done.stderr.splitlines()[:20])
        msg = (
            f"{' '.join(command)} failed with exit code {done.returncode}:\n{shown}\n"
            "-fopenmp needs OpenMP (clang: install libomp-dev); otherwise please report it"
        )
        raise BuildError(msg)
    return done.stdout


def load_library(*units: str, optimise: str = OPTIMISE) -> ctypes.CDLL:
    """Compile C++ source, or take it from the store, and load it.

    Arguments:
        units: translation units of one library, which are compiled side by side.
        optimise: as for the compiler; -O1 where only the result matters.

    Raises:
        BuildError: no compiler, or it failed.
    """
    key = library_key(*units, optimise=optimise)
    with _lock:
        building = _building.setdefault(key, threading.Lock())
    with building:  # others may build other sources meanwhile
        library = open_library(key)
        if library is None:
            for unit in units:
                debug(4, f"kernel {key}\n{unit}")
            library = _loaded[key] = _build(units, find_compiler(), (optimise, *FLAGS), key)
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
    return (compiler.path, compiler.version, optimise, *FLAGS, *sorted(compiler.macros))


def open_library(key: str) -> ctypes.CDLL | None:
    """The library under a key, if it was loaded before or is stored, whole and trusted."""
    if key not in _loaded:
        path = KERNELS.find(f"{key}.so")
        if path is None:
            return None
        try:
            _loaded[key] = ctypes.CDLL(str(path))
        except OSError as error:  # removed meanwhile, or made for another system
            debug(1, f"kernel {key} is not used: {error}")
            return None
        debug(1, f"kernel {key} from the cache")
    return _loaded[key]


def _build(
    units: tuple[str, ...], compiler: Compiler, flags: tuple[str, ...], key: str
) -> ctypes.CDLL:
    with tempfile.TemporaryDirectory(prefix="tnlayer-") as name:
        folder = Path(name)
        debug(1, f"building kernel {key} with {compiler.version}")
        built = _compile(units, [compiler.path, *flags], folder)
        KERNELS.write(f"{key}.so", built.read_bytes())
        return open_library(key) or ctypes.CDLL(str(built))


def _compile(units: tuple[str, ...], command: list[str], folder: Path) -> Path:
    """The library of some units: one by one compiler, several by as many, then linked."""
    built = folder / "kernel.so"
    sources = [folder / f"unit{number}.cpp" for number in range(len(units))]
    for source, unit in zip(sources, units, strict=True):
        source.write_text(unit)
    if len(units) > 1:
        objects = [source.with_suffix(".o") for source in sources]
        commands = [
            [*(word for word in command if word != "-shared"), "-c", str(source), "-o", str(made)]
            for source, made in zip(sources, objects, strict=True)
        ]
        with ThreadPoolExecutor(len(units)) as pool:
            list(pool.map(_run, commands))
        sources = objects
    _run([*command, *map(str, sources), "-o", str(built)])
    return built


def _digest(*parts: str) -> str:
    return hashlib.sha256("\0".join(parts).encode()).hexdigest()[:32]
