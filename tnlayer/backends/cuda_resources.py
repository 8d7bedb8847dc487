"""What a built CUDA kernel takes of a multiprocessor, read from what ptxas said of it."""

from __future__ import annotations

import re
from dataclasses import dataclass

from ..errors import BuildError

_ENTRY = re.compile(r"Compiling entry function '(?P<name>\w+)' for '\w+'")
_LOCAL = re.compile(
    r"(?P<stack>\d+) bytes stack frame, (?P<stores>\d+) bytes spill stores, "
    r"(?P<loads>\d+) bytes spill loads"
)
_REGISTERS = re.compile(r"Used (?P<count>\d+) registers")
_SHARED = re.compile(r"(?P<count>\d+) bytes smem")


@dataclass(frozen=True, slots=True)
class Resources:
    """What one kernel takes.

    Arguments:
        name: of the entry point.
        registers: of a thread.
        spill_bytes: what did not fit the registers, stores and loads of a thread.
        stack_bytes: local memory of a thread; spills lie there, too.
        shared_bytes: of a block, static and dynamic.
        threads: of a block.
        segments: runs of steps without an exchange through shared memory; 0 where there is none.
    """

    name: str
    registers: int
    spill_bytes: int
    stack_bytes: int
    shared_bytes: int
    threads: int
    segments: int


@dataclass(frozen=True, slots=True)
class Assembled:
    """What ptxas says of one entry point; fields as in :class:`Resources`."""

    registers: int
    spill_bytes: int
    stack_bytes: int
    static_bytes: int


def read_ptxas(log: str) -> dict[str, Assembled]:
    """What ptxas said of each entry point, from the log of ``-Xptxas -v``.

    Raises:
        BuildError: a part of the log does not say what it should.

    >>> read_ptxas(
    ...     "ptxas info    : Compiling entry function 'f' for 'sm_90'\\n"
    ...     "ptxas         .     0 bytes stack frame, 0 bytes spill stores, 0 bytes spill loads\\n"
    ...     "ptxas info    : Used 32 registers, used 1 barriers, 256 bytes smem\\n"
    ... )
    {'f': Assembled(registers=32, spill_bytes=0, stack_bytes=0, static_bytes=256)}
    """
    found: dict[str, Assembled] = {}
    starts = list(_ENTRY.finditer(log))
    ends = [match.start() for match in starts[1:]] + [len(log)]
    for match, end in zip(starts, ends, strict=False):
        part = log[match.end() : end]
        local, registers, shared = (
            pattern.search(part) for pattern in (_LOCAL, _REGISTERS, _SHARED)
        )
        if local is None or registers is None:
            msg = (
                f"ptxas says nothing of the registers of {match['name']!r} in\n{log}\n"
                "its text has changed; please report it"
            )
            raise BuildError(msg)
        found[match["name"]] = Assembled(
            registers=int(registers["count"]),
            spill_bytes=int(local["stores"]) + int(local["loads"]),
            stack_bytes=int(local["stack"]),
            static_bytes=int(shared["count"]) if shared else 0,
        )
    return found
