"""Kernels found by what they are made from, so that a known one is loaded and not made again.

A library is stored under its source. To schedule and print that source takes longer than to load
the library; so beside it lies a note, under a digest of the plan, the CPU, the compiler and the
code of the passes and printers, which says how the library's entry point is called.

A note is not believed. Each library has a digest of what its entry point was made from and of
how it is called: a note that names another library, or another way to call it, is no note.
"""

from __future__ import annotations

import ctypes
import hashlib
import json
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property, lru_cache
from pathlib import Path
from typing import Any

from ...errors import SpecError
from ...ir.loops import LoopProgram
from ...ir.loops_text import program_text
from ...ir.plan import Plan
from ...ir.plan_document import document_from_plan
from ...lowering.cpu.kernel_batch import kernel_batch
from ...support.debug import debug, debug_level
from ...support.file_store import Store
from ...support.json_text import canonical_json, parse_json
from .cpp_build import (
    KERNELS,
    compilers_at_once,
    library_key,
    load_library,
    open_library,
    toolchain,
)
from .translation_units import print_units

_LIBRARY = re.compile(r"[0-9a-f]{32}")
_DIGEST = re.compile(rb"[0-9a-f]{64}")
_DIGESTS = Store("code", limit=64, bounded=True)
# What of the package shapes a kernel, rooms and files: a change there must not find kernels of
# before. A test holds the imports of passes and printers against it.
SHAPING = (
    "support/dtypes.py",
    "ir",
    "passes",
    "hardware",
    "lowering",
    "codegen",
    "backends/toolchains/translation_units.py",
)
# Parts of a plan that say why it was chosen; no kernel depends on them.
_REASONS = ("batch", "minimize", "proven_optimal", "aborted")


@dataclass(frozen=True, slots=True)
class EntryPoint:
    """How a kernel is called.

    Arguments:
        inputs: names of the inputs, in order, and whether each has the batch.
        outputs: names of the outputs, which come behind.
    """

    inputs: tuple[tuple[str, bool], ...]
    outputs: tuple[str, ...]


class Kernel:
    """One entry point, made when it is needed or found in the store.

    Arguments:
        name: of its function.
        plan, made_from: what it is made from: a forward plan, and all else that has a say.
        make: its loop program.
    """

    def __init__(
        self, name: str, plan: Plan, made_from: Mapping[str, Any], make: Callable[[], LoopProgram]
    ) -> None:
        self.name, self.plan, self.made_from, self.make = name, plan, made_from, make
        self._found: tuple[ctypes.CDLL, EntryPoint] | None = None

    @cached_property
    def program(self) -> LoopProgram:
        """The loop program; making it takes a while."""
        return self.make()

    @cached_property
    def entry(self) -> EntryPoint:
        """How it is called."""
        known = self._known
        return known[1] if known else entry_of(self.program)

    @property
    def is_stored(self) -> bool:
        """Whether the store has it."""
        return self._known is not None

    def load(self) -> ctypes.CDLL:
        """The library that has it, from the store or built now.

        Raises:
            BuildError: no compiler, or it failed.
        """
        # Who wants to see the source has it printed.
        known = self._known
        if known and debug_level() < 3:
            return known[0]
        debug(3, program_text(self.program))
        entry = entry_of(self.program)
        *units, last = print_units(self.program, compilers_at_once())
        told = f'extern "C" const char {self._mark}[] = "{self._description(entry)}";\n'
        units = (*units, f"{last}\n{told}")
        library = load_library(*units, fits=lambda library: self._has(library, entry))
        note = {"library": library_key(*units), "inputs": entry.inputs, "outputs": entry.outputs}
        KERNELS.write(self._key, json.dumps(note).encode())
        return library

    @cached_property
    def _key(self) -> str:
        """A digest of all that the kernel depends on."""
        text = "\0".join((self._content, code_digest(), *toolchain()))
        return f"{hashlib.sha256(text.encode()).hexdigest()[:32]}.json"

    @cached_property
    def _content(self) -> str:
        """All that the kernel depends on but the code that makes it and the compiler."""
        document = document_from_plan(self.plan)
        document = {name: part for name, part in document.items() if name not in _REASONS}
        made_for = {"few or many": kernel_batch(self.plan.batch), **self.made_from}
        return f"{self.name}\0{canonical_json([document, made_for])}"

    @property
    def _mark(self) -> str:
        """The symbol of the library's own description."""
        return f"{self.name}_made_from"

    def _description(self, entry: EntryPoint) -> str:
        """A digest of what the kernel is made from and of how it is called."""
        called = canonical_json([[list(pair) for pair in entry.inputs], list(entry.outputs)])
        return hashlib.sha256(f"{self._content}\0{called}".encode()).hexdigest()

    def _has(self, library: ctypes.CDLL, entry: EntryPoint) -> bool:
        """Whether a library says of itself that it has this kernel, called like this."""
        try:
            found = (ctypes.c_char * 65).in_dll(library, self._mark).value
        except ValueError:  # there is no such symbol
            return False
        return found == self._description(entry).encode()

    @property
    def _known(self) -> tuple[ctypes.CDLL, EntryPoint] | None:
        """The library and how it is called, if they are stored; looked for until they are."""
        if self._found is None:
            self._found = self._look()
        return self._found

    def _look(self) -> tuple[ctypes.CDLL, EntryPoint] | None:
        """The library and how it is called, if a note and the library itself say so."""
        note = _read_note(KERNELS.read(self._key))
        if note is None:
            return None
        library = open_library(note[0])
        if library is None or not self._has(library, note[1]):
            debug(1, f"note {self._key} is not used: its library is gone, or has another kernel")
            return None
        return library, note[1]


def _read_note(content: bytes | None) -> tuple[str, EntryPoint] | None:
    """The library's key and how it is called, of a note that has these and nothing else."""
    try:
        note: Any = parse_json(content or b"null")
    except SpecError:
        return None
    if not isinstance(note, dict) or set(note) != {"library", "inputs", "outputs"}:
        return None
    library, inputs, outputs = note["library"], note["inputs"], note["outputs"]
    if not isinstance(library, str) or not _LIBRARY.fullmatch(library):
        return None
    if not isinstance(inputs, list) or not isinstance(outputs, list):
        return None
    pairs_fit = all(
        isinstance(pair, list)
        and len(pair) == 2
        and isinstance(pair[0], str)
        and isinstance(pair[1], bool)
        for pair in inputs
    )
    if not pairs_fit or not all(isinstance(name, str) for name in outputs):
        return None
    return library, EntryPoint(tuple((name, flag) for name, flag in inputs), tuple(outputs))


def entry_of(program: LoopProgram) -> EntryPoint:
    """How a loop program is called."""
    return EntryPoint(
        tuple((buffer.name, buffer.batched) for buffer in program.of("input")),
        tuple(buffer.name for buffer in program.of("output")),
    )


@lru_cache(maxsize=1)
def code_digest() -> str:
    """A digest of the code that turns a plan into source.

    To read all of it takes longer than to load a kernel: so the digest is stored under what the
    file system says of the files, which is new whenever one of them is written.
    """
    package = Path(__file__).parents[2]
    files = kernel_sources(package)
    states = [(str(path), *_state(path)) for path in files]
    key = hashlib.sha256(repr(states).encode("utf-8", "surrogateescape")).hexdigest()
    stored = _DIGESTS.read(key)
    if stored is not None and _DIGEST.fullmatch(stored):
        return stored.decode()
    digest = hashlib.sha256()
    for path in files:
        digest.update(path.relative_to(package).as_posix().encode() + b"\0" + path.read_bytes())
    found = digest.hexdigest()
    _DIGESTS.write(key, found.encode())
    return found


def _state(path: Path) -> tuple[int, ...]:
    found = path.stat()
    return found.st_ino, found.st_size, found.st_mtime_ns, found.st_ctime_ns


def kernel_sources(package: Path) -> list[Path]:
    """The files whose code shapes a kernel, in whatever folder below these rooms they lie."""
    found: list[Path] = []
    for name in SHAPING:
        path = package / name
        found += path.rglob("*.py") if path.is_dir() else [path]
    return sorted(found)
