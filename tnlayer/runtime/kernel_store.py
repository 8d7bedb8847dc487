"""Kernels found by what they are made from, so that a known one is loaded and not made again.

A library is stored under its source. To schedule and print that source takes longer than to load
the library; so beside it lies a note, under a digest of the plan, the CPU, the compiler and the
code of the passes and printers, which says how the library's entry point is called.
"""

from __future__ import annotations

import ctypes
import hashlib
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property, lru_cache
from pathlib import Path
from typing import Any

from tnlayer.debug import debug, debug_level
from tnlayer.kernels.cpp_parts import print_units
from tnlayer.kernels.cpu import kernel_batch
from tnlayer.kernels.loops import Program
from tnlayer.kernels.loops_text import program_text
from tnlayer.plan.document import document_from_plan
from tnlayer.plan.plan import Plan
from tnlayer.runtime.build import (
    KERNELS,
    compilers_at_once,
    library_key,
    load_library,
    open_library,
    toolchain,
)
from tnlayer.spec import canonical_json

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
        self, name: str, plan: Plan, made_from: Mapping[str, Any], make: Callable[[], Program]
    ) -> None:
        self.name, self.plan, self.made_from, self.make = name, plan, made_from, make

    @cached_property
    def program(self) -> Program:
        """The loop program; making it takes a while."""
        return self.make()

    @cached_property
    def entry(self) -> EntryPoint:
        """How it is called."""
        return self._note[1] if self._note else entry_of(self.program)

    def load(self) -> ctypes.CDLL:
        """The library that has it, from the store or built now.

        Raises:
            BuildError: no compiler, or it failed.
        """
        # Who wants to see the source has it printed.
        library = open_library(self._note[0]) if self._note and debug_level() < 3 else None
        if library is None:
            debug(3, program_text(self.program))
            units = print_units(self.program, compilers_at_once())
            library = load_library(*units)
            self._write_note(library_key(*units))
        return library

    @cached_property
    def _key(self) -> str:
        """A digest of all that the kernel depends on."""
        document = document_from_plan(self.plan)
        document = {name: part for name, part in document.items() if name not in _REASONS}
        made_for = {"few or many": kernel_batch(self.plan.batch), **self.made_from}
        parts = (self.name, canonical_json([document, made_for]), code_digest())
        text = "\0".join((*parts, *toolchain()))
        return f"{hashlib.sha256(text.encode()).hexdigest()[:32]}.json"

    @cached_property
    def _note(self) -> tuple[str, EntryPoint] | None:
        """The library's key and how it is called, if there is a note."""
        try:
            note = json.loads(KERNELS.read(self._key) or b"null")
            inputs = tuple((str(name), bool(batched)) for name, batched in note["inputs"])
            entry = EntryPoint(inputs, tuple(map(str, note["outputs"])))
            return str(note["library"]), entry
        except (TypeError, KeyError, ValueError):
            return None

    def _write_note(self, library: str) -> None:
        entry = entry_of(self.program)
        note = {"library": library, "inputs": entry.inputs, "outputs": entry.outputs}
        KERNELS.write(self._key, json.dumps(note).encode())


def entry_of(program: Program) -> EntryPoint:
    """How a loop program is called."""
    return EntryPoint(
        tuple((buffer.name, buffer.batched) for buffer in program.of("input")),
        tuple(buffer.name for buffer in program.of("output")),
    )


@lru_cache(maxsize=1)
def code_digest() -> str:
    """A digest of the code that turns a plan into source."""
    package = Path(__file__).parents[1]
    digest = hashlib.sha256()
    for folder in ("plan", "kernels"):
        for path in sorted((package / folder).glob("*.py")):
            digest.update(path.name.encode() + b"\0" + path.read_bytes())
    return digest.hexdigest()
