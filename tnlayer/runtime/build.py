"""From printed C++ to a loaded library: the system's compiler, and a cache of what it made.

A library is stored under a key made of the source, the compiler, its version, the flags and the
features of the CPU. It is written beside its place and moved there, so that readers see a whole
file or none; a checksum is verified before it is opened; damage of any kind is a miss. Two
processes that build the same kernel at once both succeed: each takes what the other left for damage
until library and checksum fit.
"""

from __future__ import annotations

import ctypes
import hashlib
import os
import shutil
import subprocess
import tempfile
import threading
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

from tnlayer.debug import debug
from tnlayer.errors import BuildError

COMPILERS = ("c++", "clang++")
# Contraction of a * b + c aside, none of these changes a value: NaN and Inf propagate.
FLAGS = (
    "-std=c++17",
    "-march=native",
    "-fopenmp",
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
_lock = threading.Lock()
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
    """Ask a compiler for its version and for what it knows of this CPU."""
    version = _run([path, "--version"]).splitlines()[0]
    defined = _run([path, "-march=native", "-fopenmp", "-dM", "-E", "-x", "c++", os.devnull])
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


def load_library(source: str, *, optimise: str = "-O3") -> ctypes.CDLL:
    """Compile C++ source, or take it from the cache, and load it.

    Arguments:
        source: a translation unit.
        optimise: -O3, or -O1 where only the result matters.

    Raises:
        BuildError: no compiler, or it failed.
    """
    compiler = find_compiler()
    flags = (optimise, *FLAGS)
    key = _key(source, compiler, flags)
    with _lock:
        if key not in _loaded:
            debug(4, f"kernel {key}\n{source}")
            _loaded[key] = _load(source, compiler, flags, key)
        return _loaded[key]


def _key(source: str, compiler: Compiler, flags: tuple[str, ...]) -> str:
    parts = (source, compiler.path, compiler.version, *flags, *sorted(compiler.macros))
    return hashlib.sha256("\0".join(parts).encode()).hexdigest()[:32]


def _load(source: str, compiler: Compiler, flags: tuple[str, ...], key: str) -> ctypes.CDLL:
    folder = cache_folder()
    if folder is None:
        with tempfile.TemporaryDirectory(prefix="tnlayer-") as scratch:
            return ctypes.CDLL(str(_compile(source, compiler, flags, Path(scratch))))
    library, checksum = folder / f"{key}.so", folder / f"{key}.sha256"
    try:
        if checksum.read_text() == _digest(library):
            debug(1, f"kernel {key} from the cache")
            return ctypes.CDLL(str(library))
    except OSError:
        pass
    with tempfile.TemporaryDirectory(prefix="build-", dir=folder) as scratch:
        built = _compile(source, compiler, flags, Path(scratch))
        found = _digest(built)
        note = Path(scratch) / "sum"
        note.write_text(found)
        loaded = ctypes.CDLL(str(built))
        # The library first: a reader that sees the old sum beside it takes it for damage.
        built.replace(library)
        note.replace(checksum)
    return loaded


def _digest(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def _compile(source: str, compiler: Compiler, flags: tuple[str, ...], folder: Path) -> Path:
    unit, library = folder / "kernel.cpp", folder / "kernel.so"
    unit.write_text(source)
    debug(1, f"building {library.name} with {compiler.version}")
    _run([compiler.path, *flags, str(unit), "-o", str(library)])
    return library


def cache_folder() -> Path | None:
    """Where kernels are kept; None if TNLAYER_CACHE=0 or no private folder can be had.

    The folder is $TNLAYER_CACHE_DIR/kernels, else tnlayer/kernels in the user's cache folder. It
    must belong to the user and be closed to others, for what lies in it is run.
    """
    if os.environ.get("TNLAYER_CACHE") == "0":
        return None
    base = os.environ.get("XDG_CACHE_HOME") or str(Path.home() / ".cache")
    folder = Path(os.environ.get("TNLAYER_CACHE_DIR") or f"{base}/tnlayer") / "kernels"
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        found = folder.stat()
    except OSError:
        return None
    if found.st_uid != os.getuid() or found.st_mode & 0o077:
        debug(1, f"{folder} is open to others or belongs to another user: kernels are not kept")
        return None
    return folder
