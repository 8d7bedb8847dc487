"""A kernel as several translation units, which as many compilers read side by side."""

from __future__ import annotations

from collections.abc import Sequence

from ...codegen.cpp.prelude import prelude
from ...codegen.cpp.printer import print_functions
from ...ir.loops import LoopProgram

# Characters that are worth a unit of their own: a compiler reads the prelude in the same time.
LEAST_UNIT = 40_000

# Seen by the other units, but not outside of the library.
_SHARED = """
#undef STEP
#define STEP __attribute__((noinline, visibility("hidden"))) void
"""


def print_units(program: LoopProgram, most: int = 1) -> tuple[str, ...]:
    """Source of a library with one entry point, ``program.name``; the last unit has it.

        Arguments:
            program: what is printed.
    <        most: units at most; with one the text is that of ``print_cpp`` (printer.py).
    """
    head = prelude(program.scalar, program.width)
    functions, rest = print_functions(program)
    count = min(most, len(functions), 1 + sum(map(len, functions)) // LEAST_UNIT)
    if count == 1:
        return ("".join((head, *functions, rest)),)
    parts = _cut(functions, count)
    known = "".join(f"{_heading(text)};\n" for part in parts[:-1] for text in part)
    first = ("".join((head, _SHARED, *part)) for part in parts[:-1])
    return (*first, "".join((head, _SHARED, "\n", known, *parts[-1], rest)))


def _cut(functions: Sequence[str], count: int) -> list[list[str]]:
    """The functions in parts of about equal length, in order in each.

    The longest ones are dealt out first: steps of one kind, which are about equally long and take
    about equally long to compile, come into different parts.
    """
    parts: list[list[int]] = [[] for _ in range(count)]
    lengths = [0] * count
    for number in sorted(range(len(functions)), key=lambda n: (-len(functions[n]), n)):
        least = lengths.index(min(lengths))
        parts[least].append(number)
        lengths[least] += len(functions[number])
    return [[functions[number] for number in sorted(part)] for part in parts]


def _heading(text: str) -> str:
    """What stands before the body of a printed function."""
    (line,) = (line for line in text.splitlines() if line.startswith("STEP "))
    return line.removesuffix(" {")
