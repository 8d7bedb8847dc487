"""Run a C++ compiler: on files, for what it says, and with its own words where it fails.

Which compiler that is and what it is asked for, find_cpp_compiler.py and cpp_build.py know.
"""

from __future__ import annotations

import ctypes
from pathlib import Path

from ...errors import BuildError
from .library import load_bytes
from .processes import Finished, Processes

_ENVIRONMENT = {"LC_ALL": "C"}  # messages in English
_HINT = (
    "-fopenmp needs OpenMP (gcc: libgomp, clang: libomp-dev); set CXX to another compiler, or use "
    "backend='torch'"
)


def write_source(path: Path, text: str) -> None:
    """Write a translation unit.

    Raises:
        BuildError: the disk is full, say.
    """
    try:
        path.write_text(text, encoding="utf-8")
    except OSError as error:
        msg = f"source of a kernel cannot be written: {error}; set TMPDIR to a disk with room"
        raise BuildError(msg) from error


def compile_files(
    command: list[str], folder: Path, processes: Processes, timeout: float
) -> Finished:
    """Run a compiler that makes files in a folder, its own temporary ones too.

    Raises:
        BuildError: it does not run, takes too long, or fails; has its words.
    """
    environment = {**_ENVIRONMENT, "TMPDIR": str(folder)}
    done = processes.run(command, timeout=timeout, environment=environment)
    if done.code:
        raise failed(command, f"failed with exit code {done.code}", done)
    return done


def load_made(
    made: Path, name: str, command: list[str], done: Finished
) -> tuple[bytes, ctypes.CDLL]:
    """The bytes of a library that a compiler made, and the library.

    Raises:
        BuildError: there is none, or it cannot be loaded; has the compiler's words.
    """
    try:
        content = made.read_bytes()
        return content, load_bytes(content, name)
    except OSError as error:
        what = f"ended without an error, but its library cannot be used: {error}. It said"
        raise failed(command, what, done) from error


def failed(command: list[str], what: str, done: Finished) -> BuildError:
    """What happened, the compiler's words, and what may help."""
    return BuildError(f"{' '.join(command)} {what}:\n{done.words()}\n{_HINT}")


def output_of(command: list[str], timeout: float) -> str:
    """What a compiler writes to its output, as text.

    Raises:
        BuildError: it fails, or that is not UTF-8.
    """
    done = Processes().run(command, timeout=timeout, environment=_ENVIRONMENT)
    if done.code:
        raise failed(command, f"failed with exit code {done.code}", done)
    try:
        return done.output.decode()
    except UnicodeDecodeError as error:
        raise failed(command, f"is not understood: {error}", done) from None
