"""Which blocks and threads take the points of each loop: the last pass, its results are printed.

Loops that wait for each other use all threads of one block. Short loops between two barriers do
not, so each gets threads of its own and they wait for memory together::

    threads   0 ....... 63 | 64 ...... 127 | 128 .. 159 | idle
    loops     copy A       | copy B        | zeros      |

Kernels before and after the samples have a grid with a thread for each point. The samples' kernel
is persistent: its grid is what the device holds at once, and the launcher counts that.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from ...ir.launches import WARP, Launch, MemoryMap, Spread
from ...ir.loops import (
    Barrier,
    LoopProgram,
    LoopRegion,
    Mma,
    Statement,
    Threads,
    Tile,
    is_sum,
    statements,
    steps_of,
)
from .sums_over_blocks import (
    FIRST_HELPER,
    HELPERS,
    SUM_THREADS,
    choose_reduction,
    groups_of,
    loads_together,
)

# Turns of a loop that copies, up to which it is written out.
MOST_TURNS = 8
# Blocks of a grid that share the points of a loop: more wait for their turn.
MOST_BLOCKS = 1024


def choose_launches(program: LoopProgram, layout: MemoryMap) -> LoopProgram:
    """The program with the grid of each kernel and the threads of each loop.

    Arguments:
        program: with its barriers.
        layout: where its buffers lie.
    """
    before, first = _kernels(program, "before")
    after, last = _kernels(program, "after")
    launches = (*first, *_of_samples(program, layout), *last)
    prologue = _in_a_row(program.prologue, _SideBySide(program.threads))
    samples = tuple(
        replace(step, body=tuple(_by_all(loop, program.threads) for loop in step.body))
        for step in steps_of(program.samples)
    )
    return replace(
        program,
        before=before,
        prologue=prologue,
        samples=samples,
        after=after,
        launches=launches,
        loads=loads_together(program.scalar),
    )


@dataclass(slots=True)
class _SideBySide:
    """Gives loops in a row threads of their own, as long as there are any."""

    threads: int
    first: int = 0
    next: int = 0

    def start(self, points: int) -> int:
        """The first thread of a loop."""
        if self.next + points > self.threads:
            self.next = 0
        start, self.next = self.first + self.next, self.next + points
        return start

    def spread(self, points: int) -> Spread:
        """The threads of a loop of one point each; all of them where that is not enough."""
        return Spread(self.threads, self.start(points))


def _of_samples(program: LoopProgram, layout: MemoryMap) -> tuple[Launch, ...]:
    """The launch of the samples' kernel; () if there are no samples."""
    if not program.samples:
        return ()
    clearing, collecting = _SideBySide(program.threads), _SideBySide(program.threads)
    clears, collects = list[Spread](), list[Spread]()
    # Partials start at zero in each block; those in shared memory go to its row at the end.
    for buffer in program.of("partial"):
        _, copies = layout.partials.get(buffer.name, (0, 1))
        clears.append(clearing.spread(buffer.size * copies))
        if buffer.name in layout.partials:
            collects.append(collecting.spread(buffer.size))
    return (Launch(program.name, program.threads, 0, tuple(clears), tuple(collects)),)


def _in_a_row(part: Sequence[Statement], beside: _SideBySide) -> tuple[LoopRegion, ...]:
    """Steps before the samples: loops side by side."""
    return tuple(
        replace(
            step,
            body=tuple(
                _spread(loop, _by_all_of(loop, beside.threads, beside.start(loop.points)))
                if isinstance(loop, Threads)
                else loop
                for loop in step.body
            ),
        )
        for step in steps_of(part)
    )


def _by_all(loop: Statement, threads: int) -> Statement:
    """A loop by all threads of a block; a barrier as it is."""
    return _spread(loop, _by_all_of(loop, threads)) if isinstance(loop, Threads) else loop


def _by_all_of(loop: Threads, threads: int, first: int = 0) -> Spread:
    """All threads of a block; a copy of few turns is written out."""
    turns = loop.points // threads
    whole = not first and loop.points % threads == 0 and 1 < turns <= MOST_TURNS
    # Written out, a thread would hold the fragments of several tiles.
    rolled = any(isinstance(statement, Mma) for statement in loop.body)
    return Spread(threads, first, turns=turns if whole and _is_copy(loop) else 0, rolled=rolled)


def _spread(loop: Threads, spread: Spread) -> Threads:
    return replace(loop, spread=spread)


def _is_copy(loop: Threads) -> bool:
    """Whether points do nothing but move entries."""
    return all(
        isinstance(statement, Tile) and statement.right is None and len(statement.sums) == 1
        and not statement.loops
        for statement in loop.body
    )  # fmt: skip


# -- kernels before and after the samples ------------------------------------------------------


def _kernels(program: LoopProgram, part: str) -> tuple[tuple[LoopRegion, ...], tuple[Launch, ...]]:
    """The kernels of a part with their launches."""
    found = [
        _kernel(f"{program.name}_{part}{number}", kernel, program.threads)
        for number, kernel in enumerate(steps_of(getattr(program, part)))
    ]
    return tuple(kernel for kernel, _ in found), tuple(launch for _, launch in found)


def _kernel(name: str, kernel: LoopRegion, threads: int) -> tuple[LoopRegion, Launch]:
    row = next((inner for inner in kernel.body if isinstance(inner, LoopRegion)), None)
    loops = [inner for inner in kernel.body if isinstance(inner, Threads)]
    if any(is_sum(statement) for statement in statements((kernel,))):
        return _sums(name, kernel, row, loops)
    if row is not None:
        body = _side_by_side(row.body, _SideBySide(threads), threads)
        return replace(kernel, body=(replace(row, body=body),)), Launch(name, threads, 1)
    # Loops of one kernel do not wait for each other: each has blocks of its own.
    found, blocks = list[Threads](), 0
    for loop in loops:
        own = min(MOST_BLOCKS, -(-loop.points // threads))
        found.append(_spread(loop, Spread(threads, 0, own, blocks)))
        blocks += own
    return replace(kernel, body=tuple(found)), Launch(name, threads, blocks)


def _sums(
    name: str, kernel: LoopRegion, row: LoopRegion | None, others: Sequence[Threads]
) -> tuple[LoopRegion, Launch]:
    """Sums over blocks, a block for each group; the first block does a row of steps besides."""
    own = [loop for loop in (row.body if row else ()) if isinstance(loop, Threads) and is_sum(loop)]
    grouped, groups = list[Threads](), 0
    for loop in (*own, *others):
        grouped.append(_spread(loop, Spread(WARP, 0, groups_of([loop]), groups)))
        groups += groups_of([loop])
    # Other blocks have nothing but their sums; the row of steps is the first block's.
    body: list[Statement] = list(grouped[len(own) :])
    if row is not None:
        rest = [inner for inner in row.body if not is_sum(inner)]
        wait = next((k for k, inner in enumerate(rest) if isinstance(inner, Barrier)), len(rest))
        # What no step of the row has made is brought while the sums are.
        early = _side_by_side(rest[:wait], _SideBySide(HELPERS, FIRST_HELPER), SUM_THREADS)
        late = _side_by_side(rest[wait:], _SideBySide(SUM_THREADS), SUM_THREADS)
        body.append(replace(row, body=(*grouped[: len(own)], *early, *late)))
    blocks = bool(own) + groups_of(others)
    launch = Launch(name, SUM_THREADS, blocks, reduction=choose_reduction(own))
    return replace(kernel, body=tuple(body)), launch


def _side_by_side(
    body: Sequence[Statement], beside: _SideBySide, threads: int
) -> tuple[Statement, ...]:
    """Thread loops of one block, side by side between two barriers."""
    found: list[Statement] = []
    for inner in body:
        if isinstance(inner, Barrier):
            beside.next = 0
        elif isinstance(inner, Threads):
            fits = inner.points <= beside.threads
            first = beside.start(inner.points) if fits else beside.first
            inner = _spread(inner, _by_all_of(inner, beside.threads, first))
        found.append(inner)
    return tuple(found)
