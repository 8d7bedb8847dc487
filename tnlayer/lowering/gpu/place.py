"""Where a GPU program's buffers lie, and where its threads wait."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

from ...ir.launches import WARP, MemoryMap
from ...ir.loops import (
    Barrier,
    Buffer,
    LoopProgram,
    LoopRegion,
    Mma,
    Statement,
    SumThreads,
    Threads,
    buffers_of,
    statements,
    steps_of,
    written_of,
)
from ...support.dtypes import DTYPES
from ..allocate import Life, first_fit, lives_of, one_after_another, rounded

# Entries to which a buffer's place is rounded up: 16 bytes of float32.
UNIT = 4
# Shared memory for what lies between the steps that one block does before or after the samples; a
# block has 48 KiB without asking.
MOST_INSIDE_BYTES = 24 * 1024


def place(program: LoopProgram, most_entries: int) -> tuple[LoopProgram, MemoryMap]:
    """Give each buffer its place; what does not fit shared memory goes to global memory.

    Arguments:
        program: as lowered; arrays of samples in the space "block".
        most_entries: entries of shared memory that a block may have.
    """
    order = (*program.prologue, *program.samples)
    lives = _lives(program.prologue, program.samples)
    copies = _copies(program)
    sizes = {
        buffer.name: rounded(buffer.size * copies.get(buffer.name, 1), UNIT)
        for buffer in program.of("block", "partial")
        if buffer.name in lives
    }
    for buffer in program.of("partial"):
        if buffer.name in lives:
            lives[buffer.name] = (0, len(order))
    inside = dict(sizes)
    while True:
        offsets, entries = _fitted(inside, lives)
        if entries <= most_entries:
            break
        movable = [name for name in inside if copies.get(name, 1) == 1]
        del inside[max(movable, key=lambda name: (inside[name], name))]
    outside = {name: size for name, size in sizes.items() if name not in inside}
    partials = {buffer.name for buffer in program.of("partial")}
    in_row, blockspace = _fitted({n: s for n, s in outside.items() if n not in partials}, lives)
    placed: list[Buffer] = []
    lasting, ends = one_after_another(program.buffers, ("shared", "partial"), UNIT)
    for buffer in program.buffers:
        if buffer.name in lasting:
            placed.append(replace(buffer, offset=lasting[buffer.name]))
        elif buffer.space != "block":
            placed.append(buffer)
        elif buffer.name in inside:
            placed.append(replace(buffer, offset=offsets[buffer.name]))
        elif buffer.name in in_row:
            placed.append(replace(buffer, space="blockspace", offset=in_row[buffer.name]))
    layout = MemoryMap(
        entries,
        {n: (offsets[n], copies.get(n, 1)) for n in inside if n in partials},
        blockspace + ends["partial"],
        blockspace,
        ends["shared"],
        _inside(program),
    )
    return replace(program, buffers=tuple(placed)), layout


def _inside(program: LoopProgram) -> frozenset[str]:
    """Buffers of the call that one block of one kernel makes, reads, and nobody else touches."""
    users: dict[str, list[Statement]] = {}
    alone: list[Statement] = []
    for kernel in (*program.before, *program.after):
        assert isinstance(kernel, LoopRegion)
        alone += [inner for inner in kernel.body if isinstance(inner, LoopRegion)]
        for inner in kernel.body:
            for name in buffers_of((inner,)):
                users.setdefault(name, []).append(inner)
    for name in buffers_of((*program.prologue, *program.samples)):
        users.setdefault(name, []).extend(program.samples[:1])
    found: set[str] = set()
    for inner in alone:
        left = MOST_INSIDE_BYTES // DTYPES[program.scalar].itemsize
        for buffer in program.of("shared"):
            if users.get(buffer.name) == [inner] and rounded(buffer.size, UNIT) <= left:
                left -= rounded(buffer.size, UNIT)
                found.add(buffer.name)
    return frozenset(found)


def warp_entries(program: LoopProgram) -> int:
    """Entries of shared memory that sums over threads need, which cannot lie elsewhere."""
    sizes = {buffer.name: buffer.size for buffer in program.of("partial")}
    return sum(rounded(sizes[name] * count, UNIT) for name, count in _copies(program).items())


def _copies(program: LoopProgram) -> dict[str, int]:
    """Partials that warps add to side by side, and their copies."""
    found: dict[str, int] = {}
    for statement in statements((*program.prologue, *program.samples)):
        match statement:
            case SumThreads():
                found[statement.target.buffer] = program.threads // WARP
            case Mma() if statement.copies > 1:
                found[statement.target.buffer] = statement.copies
            case _:
                pass
    return found


def _lives(prologue: Sequence[Statement], samples: Sequence[Statement]) -> dict[str, Life]:
    """When each buffer lives; what the prologue touches stays, for each group of samples reads it
    again."""
    end = len(prologue) + len(samples)
    lives = lives_of((*prologue, *samples))
    return {
        name: (0, end) if first < len(prologue) else (first, last)
        for name, (first, last) in lives.items()
    }


def _fitted(sizes: Mapping[str, int], lives: Mapping[str, Life]) -> tuple[dict[str, int], int]:
    """Offsets of buffers and the end of all: in the order in which they begin to live, or the
    largest first, whichever ends lower."""
    by_start = sorted(sizes, key=lambda name: (lives[name][0], -lives[name][1], name))
    by_size = sorted(by_start, key=lambda name: -sizes[name])
    return min(
        (first_fit(order, sizes, lives) for order in (by_start, by_size)), key=lambda one: one[1]
    )


# -- barriers --------------------------------------------------------------------------------


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
    pending: list[_Access] = []
    found: list[LoopRegion] = []
    for step in steps_of(part):
        body: list[Statement] = []
        for statement in step.body:
            assert isinstance(statement, Threads)
            accesses = _accesses(program, statement)
            if any(access.meets(other) for access in accesses for other in pending):
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
