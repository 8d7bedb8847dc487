"""Where the threads of a block wait for each other: between loops that touch the same memory.

A thread loop gives its points to threads in no order. So what one loop writes may be read by the
next only after all threads are through with the first; and what one reads, the next may overwrite
only then. One barrier serves all pairs of loops on its two sides::

    loop 0   writes a
    loop 1   reads x, writes b        touches nothing of loop 0: no barrier
    ------   barrier                  loop 2 reads what loops 0 and 1 wrote
    loop 2   reads a, b, writes c

``find_race`` looks for pairs without one; each program is held against it before it is printed.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace

from ...ir.loops import (
    Barrier,
    LoopProgram,
    LoopRegion,
    Statement,
    Threads,
    buffers_of,
    statements,
    steps_of,
    written_of,
)


@dataclass(frozen=True, slots=True)
class _Access:
    """A range of memory that a thread loop reads or writes."""

    space: str
    first: int
    last: int
    writes: bool

    def meets(self, other: _Access) -> bool:
        """Whether the order of two accesses matters."""
        return (
            (self.writes or other.writes)
            and self.space == other.space
            and self.first < other.last
            and other.first < self.last
        )


def insert_barriers(program: LoopProgram) -> LoopProgram:
    """Barriers between thread loops of which one writes what the other touches."""
    samples = _with_barriers(program, program.samples)
    if samples:
        # The samples before may still be worked on by other threads.
        first = samples[0]
        samples = (replace(first, body=(Barrier(), *first.body)), *samples[1:])
    return replace(
        program,
        before=tuple(_kernel_with_barriers(program, step) for step in steps_of(program.before)),
        prologue=_with_barriers(program, program.prologue),
        samples=samples,
        after=tuple(_kernel_with_barriers(program, step) for step in steps_of(program.after)),
    )


def _kernel_with_barriers(program: LoopProgram, kernel: LoopRegion) -> LoopRegion:
    """Barriers where one block does steps in a row; what else is in a kernel has other blocks."""
    return replace(
        kernel,
        body=tuple(
            _with_barriers(program, (inner,))[0] if isinstance(inner, LoopRegion) else inner
            for inner in kernel.body
        ),
    )


def find_race(program: LoopProgram) -> str:
    """Two thread loops without a barrier between them that touch one place, or ""."""
    # Kernels run one after the other. Inside of one, blocks come in any order and never wait for
    # each other; only a row of steps is done by one block.
    kernels = [*steps_of(program.before), *steps_of(program.after)]
    rows = [inner for kernel in kernels for inner in kernel.body if isinstance(inner, LoopRegion)]
    for part in (program.prologue, program.samples, *((row,) for row in rows)):
        pending: list[_Access] = []
        for statement in statements(part):
            if isinstance(statement, Barrier):
                pending = []
            elif isinstance(statement, Threads):
                found = _accesses(program, statement)
                for access in found:
                    if any(access.meets(other) for other in pending):
                        return f"{access} without a barrier"
                pending += found
    for kernel in kernels:
        others: list[_Access] = []
        for inner in kernel.body:
            found = _accesses(program, inner)
            if any(access.meets(other) for access in found for other in others):
                return f"blocks of {kernel.name} touch what others write"
            others += found
    if program.samples and not isinstance(next(iter(steps_of(program.samples))).body[0], Barrier):
        return "samples do not begin with a barrier"
    return ""


def _with_barriers(program: LoopProgram, part: Iterable[Statement]) -> tuple[LoopRegion, ...]:
    # All that was touched since the last barrier, by whatever loop.
    pending: list[_Access] = []
    found: list[LoopRegion] = []
    for step in steps_of(part):
        body: list[Statement] = []
        for statement in step.body:
            assert isinstance(statement, Threads)
            accesses = _accesses(program, statement)
            if any(access.meets(other) for access in accesses for other in pending):
                # As late as possible: one barrier then serves the most loops before it.
                body.append(Barrier())
                pending = []
            pending += accesses
            body.append(statement)
        found.append(replace(step, body=tuple(body)))
    return tuple(found)


def _accesses(program: LoopProgram, loop: Statement) -> list[_Access]:
    """What a thread loop touches of memory that other loops write, a buffer as a whole."""
    found: list[_Access] = []
    touched = buffers_of((loop,))
    written = written_of((loop,))
    for buffer in program.of("block", "blockspace", "shared", "partial"):
        if buffer.name in touched:
            end = buffer.offset + buffer.size
            found.append(_Access(buffer.space, buffer.offset, end, buffer.name in written))
    return found
