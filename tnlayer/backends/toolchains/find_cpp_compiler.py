"""Find the C++ compiler of this machine: which it is, what it says of the CPU, whether it works.

Asking takes longer than loading a kernel, so what was found is stored, under a key of all programs
that its command names.
"""

from __future__ import annotations

import hashlib
import json
import os
import shlex
import shutil
import time
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

from ...errors import BuildError, SpecError
from ...hardware.detect_processor import processor_features
from ...support.file_store import Store
from ...support.json_text import parse_json
from .build_folder import build_folder
from .processes import Processes
from .run_compiler import compile_files, failed, load_made, output_of, write_source

COMPILERS = ("c++", "clang++")
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
ASK_SECONDS = 60
# A compiler that hangs is not asked at each call; one that had no room is asked again some time.
_RETRY_SECONDS = 300.0
_RECORDS = Store("compilers", limit=2**20)
# All that kernels take from headers, threads included.
_TRIAL = """
#include <cstdlib>
#include <cstring>
#include <omp.h>
extern "C" int tnlayer_trial(int n) {
  int sum = 0;
#pragma omp parallel for reduction(+ : sum)
  for (int k = 0; k < n; ++k) sum += k;
  return sum + (omp_get_max_threads() < 1);
}
"""


# Path, size and time of each program that a command names.
Programs = tuple[tuple[str, int, int], ...]
_failures: dict[tuple[tuple[str, ...], Programs], tuple[str, float]] = {}


@dataclass(frozen=True, slots=True)
class Compiler:
    """A C++ compiler of this machine.

    Arguments:
        path: of the program.
        version: what it says of itself.
        macros: the features of the CPU that -march=native switches on.
        arguments: what CXX has behind the program, as in "ccache g++".
    """

    path: str
    version: str
    macros: frozenset[str]
    arguments: tuple[str, ...] = ()

    @property
    def command(self) -> tuple[str, ...]:
        """The program with the arguments that always follow."""
        return (self.path, *self.arguments)

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
    """The compiler in $CXX, with its arguments, else the first of c++ and clang++ that works.

    Raises:
        BuildError: there is none, or it does not work; has its words, or says how to install one.
    """
    wanted = os.environ.get("CXX", "").strip()
    commands = [_words(wanted)] if wanted else [(name,) for name in COMPILERS]
    installed = [words for words in commands if shutil.which(words[0]) is not None]
    if not installed:
        names = ", ".join(words[0] for words in commands)
        msg = (
            f"no C++ compiler found (looked for {names}): install one, for example with "
            "`apt-get install g++` or `conda install cxx-compiler`, or use backend='torch'"
        )
        raise BuildError(msg)
    failures: list[str] = []
    for words in installed:
        key = (words, _programs(words))
        message, since = _failures.get(key, ("", 0.0))
        if message and time.monotonic() - since < _RETRY_SECONDS:
            failures.append(message)
            continue
        try:
            return _inspect(*key)
        except BuildError as error:
            failures.append(str(error))
            _failures[key] = (str(error), time.monotonic())
    raise BuildError(failures[0])


def is_known() -> bool:
    """Whether ``find_compiler`` answers at once: there is none, or one that was found to work."""
    wanted = os.environ.get("CXX", "").strip()
    try:
        commands = [_words(wanted)] if wanted else [(name,) for name in COMPILERS]
        installed = [words for words in commands if shutil.which(words[0]) is not None]
        return not installed or any(_recorded(words, _programs(words)) for words in installed)
    except BuildError:
        return True


def _words(command: str) -> tuple[str, ...]:
    """The program and its arguments; a path with blanks that exists is one word."""
    if shutil.which(command) is not None:
        return (command,)
    try:
        return tuple(shlex.split(command)) or (command,)
    except ValueError as error:
        msg = f"CXX={command!r} is no command: {error}"
        raise BuildError(msg) from None


def _programs(words: tuple[str, ...]) -> Programs:
    """Each program that a command names, with the size and the time of its file."""
    found: list[tuple[str, int, int]] = []
    for path in filter(None, map(shutil.which, words)):
        try:
            real = Path(path).resolve()
            state = real.stat()
        except (OSError, RuntimeError) as error:
            msg = f"the compiler {path} cannot be read: {error}; set CXX to another one"
            raise BuildError(msg) from error
        found.append((str(real), state.st_size, state.st_mtime_ns))
    return tuple(found)


@lru_cache(maxsize=8)
def _inspect(words: tuple[str, ...], programs: Programs) -> Compiler:
    """A compiler, as it says or once said, if it works.

    Raises:
        BuildError: it does not.
    """
    stored = _recorded(words, programs)
    if stored is not None:
        return stored
    path = shutil.which(words[0]) or words[0]
    compiler = _ask(path, words[1:])
    _try(compiler)
    record = {"version": compiler.version, "macros": sorted(compiler.macros)}
    _RECORDS.write(_record_key(words, programs), json.dumps(record).encode())
    return compiler


def _recorded(words: tuple[str, ...], programs: Programs) -> Compiler | None:
    """A compiler as it once said that it is, if it did."""
    path = shutil.which(words[0]) or words[0]
    return _compiler_of(_RECORDS.read(_record_key(words, programs)), path, words[1:])


def _record_key(words: tuple[str, ...], programs: Programs) -> str:
    path = shutil.which(words[0]) or words[0]
    parts = (path, *words[1:], repr(programs), processor_features(), *FLAGS, _TRIAL)
    return hashlib.sha256("\0".join(parts).encode("utf-8", "surrogateescape")).hexdigest()[:32]


def _compiler_of(content: bytes | None, path: str, arguments: tuple[str, ...]) -> Compiler | None:
    """The compiler of a stored record, if that is one."""
    try:
        record: Any = parse_json(content or b"null")
    except SpecError:
        return None
    if not isinstance(record, dict) or set(record) != {"version", "macros"}:
        return None
    version, macros = record["version"], record["macros"]
    if not isinstance(version, str) or not isinstance(macros, list):
        return None
    if not all(isinstance(m, str) and m.isidentifier() and m[:2] == "__" for m in macros):
        return None
    return Compiler(path, version, frozenset(macros), arguments)


def _ask(path: str, arguments: tuple[str, ...]) -> Compiler:
    """Ask a compiler for its version and for what it knows of this CPU."""
    said = output_of([path, *arguments, "--version"], ASK_SECONDS).splitlines()
    asked = [path, *arguments, *TARGET, "-dM", "-E", "-x", "c++", os.devnull]
    defined = output_of(asked, ASK_SECONDS)
    words = [line.split()[1] for line in defined.splitlines() if len(line.split()) > 1]
    macros = frozenset(word for word in words if word[:2] == "__" and word.isidentifier())
    return Compiler(path, said[0][:500] if said else "", macros, arguments)


def _try(compiler: Compiler) -> None:
    """Build and run a library of a few lines, as kernels are built.

    Raises:
        BuildError: that does not work; has the compiler's words.
    """
    with build_folder() as folder:
        source, made = folder / "trial.cpp", folder / "trial.so"
        command = [*compiler.command, "-O1", *FLAGS, str(source), "-o", str(made)]
        write_source(source, _TRIAL)
        done = compile_files(command, folder, Processes(), ASK_SECONDS)
        _, library = load_made(made, "trial", command, done)
        function = getattr(library, "tnlayer_trial", None)
        if function is None or function(100) != 4950:
            raise failed(command, "made a library that does not compute. It said", done)
