"""The loop IR: what a fused kernel does, loop by loop. Fourth of the IRs.

A Program runs in three parts: ``before`` once a call, on parameters only; ``samples`` once for each
block of samples, in parallel; ``after`` once a call, on what the samples have summed up. All sizes
and offsets are constants; only the number of blocks is known at the call.

Where samples are missing in the last block, zeros stand for them; what becomes of those is in no
sum, for it may be 0 x inf. If lanes are samples that block is done first, and then the lanes of
missing samples are cleared in all partials. Else loops over samples that sum end at the last one
that exists (``of_samples``).

Grammar::

    program   = Program(name, scalar, width, block, buffers, before, samples, after, carried)
    buffer    = Buffer(name, size, space, offset, batched, value)
    space     = "input" | "output"                arguments; entries as torch stores them
              | "shared" | "thread" | "partial"   workspace: one a call, one a thread, and one a
                                                  thread that starts at zero and is summed at last
              | "block" | "blockspace" | "register"   of a GPU, see below
    statement = Step(name, comment, body)         a function of its own in printed source
              | For(index, count, body, of_samples)
              | Tile(target, left, right, rows, columns, sums, loops, adds, keeps_weights)
              | Mma(target, left, right, rows, columns, sums, precision, loops, adds, copies)
              | Transpose(target, source, targets, sources, padding)
              | Permute(target, source, targets, sources, entries, padding, network)
              | Gather(target, source, offsets, padding)
              | Fill(target, count)               zeros
              | SumPartials(target, source, offsets)
              | Prefetch(source, count, writes)   of the next block of samples
              | Threads(indices, body) | Barrier() | SumThreads(target, source, count)
    at        = At(buffer, offset, terms, form)   offset + sum of index * stride, in entries
    form      = "vector" (``width`` entries in a row) | "splat" (one entry, in all lanes) | "scalar"
              | "repeat" (``run`` entries in a row, again and again until the vector is full)

A Tile is one block of a contraction held in registers, the unit of all arithmetic::

    for r, c: target[r, c] (+)= sum over loops and sums of left[sum, r] * right[sum, c]

All of left is read before the target is written: where both are one buffer, a tile replaces what it
reads. ``rows``, ``columns`` and ``sums`` are lists of offset pairs and are written out in full;
``loops`` run around the sums with the accumulators in registers. Without ``right`` the product is
left alone: copies, sums over a leg and additions are Tiles, too.

On a GPU a block of threads takes the place of a thread of the CPU, and ``prologue`` runs once for
each block before its samples. The points of a ``Threads`` loop are shared by the block's threads:
its body must not depend on their order, and what other points wrote may be read only behind a
``Barrier``. Buffers of the space "block" are a block's shared memory, those of "blockspace" its
piece of global memory, those of "register" belong to one point and are addressed by constants.
``SumThreads`` adds an array of registers of every point to a partial of the block, save those of
missing samples. Each step of ``before`` and ``after`` is a kernel, and the samples with their
prologue are one; ``launches`` has their grids, and the ``Spread`` of a loop its threads.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Literal

from .launches import Launch, Spread
from .shuffles import ShuffleNetwork
from .workspace import CallWorkspace

Space = Literal["input", "output", "shared", "thread", "partial", "block", "blockspace", "register"]
Form = Literal["vector", "splat", "scalar", "repeat"]
OffsetPairs = tuple[tuple[int, int], ...]
HERE: OffsetPairs = ((0, 0),)
# The index of a thread loop that counts the samples of a block.
SAMPLE = "sample"


@dataclass(frozen=True, slots=True)
class Buffer:
    """A named array of entries.

    Arguments:
        name: canonical name.
        size: entries; of one sample where the buffer is batched.
        space: who owns it.
        offset: where it lies in its workspace, in entries; 0 for arguments.
        batched: whether it is an argument with one row a sample.
        value: the value of the plan whose entries, or partial sums, it is made for; "" if none.
    """

    name: str
    size: int
    space: Space
    offset: int = 0
    batched: bool = False
    value: str = ""


@dataclass(frozen=True, slots=True)
class At:
    """A place in a buffer. In ``samples`` batched buffers begin at the block's first sample."""

    buffer: str
    offset: int = 0
    terms: tuple[tuple[str, int], ...] = ()
    form: Form = "vector"
    conj: bool = False
    run: int = 0


@dataclass(frozen=True, slots=True)
class Axis:
    """A loop inside a Tile: how far each operand moves from one turn to the next.

    With ``of_samples`` it runs over the samples of a block that exist, at most ``count``; where
    points share them, over every ``step``-th one from that of the index ``first`` on. A compiler
    must not write out the turns of a ``rolled`` one: their loads would not fit the registers.
    """

    count: int
    left: int
    right: int
    of_samples: bool = False
    first: str = ""
    step: int = 1
    rolled: bool = False


@dataclass(frozen=True, slots=True)
class LoopRegion:
    """What one step of the plan does; printed as a function."""

    name: str
    comment: str
    body: tuple[Statement, ...]


@dataclass(frozen=True, slots=True)
class For:
    """``body`` for index = 0, ..., count - 1; with ``of_samples`` for the samples that exist."""

    index: str
    count: int
    body: tuple[Statement, ...]
    of_samples: bool = False


@dataclass(frozen=True, slots=True)
class Tile:
    """A block of a contraction in registers; see the head of this file.

    Arguments:
        rows: for each row its offset in left and in target.
        columns: for each column its offset in right and in target.
        sums: for each term written out its offset in left and in right.
        loops: loops around the sums, the outermost first.
        adds: whether the result is added to the target.
        keeps_weights: whether right may stay in registers from one tile to the next. If not it is
            read anew in each tile: a compiler that hoists it out of a loop runs out of registers.
        order: lane j of the target is lane order[j] of the result; () for the lanes as they are.
        wide: on a GPU, rows in a row that are one access of memory; see :func:`is_wide`.
        holds: on a CPU, the operand whose entries of one term all are in registers at once; those
            of the other one come one by one.
    """

    target: At
    left: At
    right: At | None
    rows: OffsetPairs = HERE
    columns: OffsetPairs = HERE
    sums: OffsetPairs = HERE
    loops: tuple[Axis, ...] = ()
    adds: bool = False
    keeps_weights: bool = True
    order: tuple[int, ...] = ()
    wide: int = 1
    holds: Literal["left", "right"] = "left"


Precision = Literal["tf32", "3xtf32", "bf16"]


@dataclass(frozen=True, slots=True)
class Mma:
    """A Tile whose products a warp does on tensor cores; a point is a warp.

    target[r, c] (+)= sum over loops and sums of left[sum, r] * right[sum, c], operands rounded:
    "tf32" to 10 bits of mantissa (ties away from zero), "bf16" to 7 (ties to even); "3xtf32" takes
    what tf32 leaves of an operand as a second one and drops the product of both rests. Offsets are
    sums over the bits of their number.

    Arguments:
        rows: 16 pairs of offsets in left and in target.
        columns: multiples of 8 pairs of offsets in right and in target.
        sums: multiples of 8 (bf16: of 16) pairs of offsets in left and in right.
        loops: loops around the sums, the outermost first.
        adds: whether the result is added to the target.
        copies: of the target, a partial; points that share the terms of one tile add to copies of
            their own, and a block sums those in order when its samples are done.
        copy: terms of the number of a point's copy.
    """

    target: At
    left: At
    right: At
    rows: OffsetPairs
    columns: OffsetPairs
    sums: OffsetPairs
    precision: Precision
    loops: tuple[Axis, ...] = ()
    adds: bool = False
    copies: int = 1
    copy: tuple[tuple[str, int], ...] = ()


@dataclass(frozen=True, slots=True)
class Transpose:
    """target[targets[i] + j] = source[sources[j] + i] for all i, j, at most a vector of each; then
    zeros up to ``padding`` entries."""

    target: At
    source: At
    targets: tuple[int, ...]
    sources: tuple[int, ...]
    padding: int = 0


@dataclass(frozen=True, slots=True)
class Permute:
    """target[targets[t] + j] = source[sources[s] + l] where (s, l) = entries[t][j]; then zeros up
    to ``padding`` entries. Both sides are at most vectors, and it is done in registers, by a
    ``network`` of shuffles; None until that is found."""

    target: At
    source: At
    targets: tuple[int, ...]
    sources: tuple[int, ...]
    entries: tuple[OffsetPairs, ...]
    padding: int = 0
    network: ShuffleNetwork | None = None

    @property
    def read(self) -> int:
        """Entries that are read from each source on."""
        return 1 + max(lane for row in self.entries for _, lane in row)


@dataclass(frozen=True, slots=True)
class Gather:
    """target[j] = source[offsets[j]]; then zeros up to ``padding`` entries."""

    target: At
    source: At
    offsets: tuple[int, ...]
    padding: int = 0


@dataclass(frozen=True, slots=True)
class Fill:
    """Zeros from the target on."""

    target: At
    count: int


@dataclass(frozen=True, slots=True)
class SumPartials:
    """target[offsets[j]] += source[j] summed over all threads in order; source is a partial."""

    target: At
    source: At
    offsets: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Prefetch:
    """Entries from the source on, in the thread's next block, are read or written soon: bring them
    near. In the last block they are those of this block."""

    source: At
    count: int
    writes: bool


@dataclass(frozen=True, slots=True)
class Threads:
    """``body`` for all points, in any order: index by index, the last one fastest.

    Arguments:
        indices: name and count of each index; none is one point.
        body: what is done at one point.
        spread: which threads take them; None until that is chosen.
    """

    indices: tuple[tuple[str, int], ...]
    body: tuple[Statement, ...]
    spread: Spread | None = None

    @property
    def points(self) -> int:
        """Number of points."""
        return math.prod(count for _, count in self.indices)


@dataclass(frozen=True, slots=True)
class Barrier:
    """The threads of a block wait for each other and see what each has written."""


@dataclass(frozen=True, slots=True)
class SumThreads:
    """target[k] += source[k] summed over the points of the loop, for k below count.

    Source is a register array, target a partial; the order of the sum is fixed. With ``samples``,
    an index of the loop, points of samples that do not exist are left out.
    """

    target: At
    source: At
    count: int
    samples: str = ""


Statement = (
    LoopRegion
    | For
    | Tile
    | Mma
    | Transpose
    | Permute
    | Gather
    | Fill
    | SumPartials
    | Prefetch
    | Threads
    | Barrier
    | SumThreads
)


@dataclass(frozen=True, slots=True)
class LoopProgram:
    """A kernel.

    Arguments:
        name: canonical name of the printed entry point.
        scalar: dtype of the entries: float32, float64, complex64 or complex128.
        width: entries of a vector.
        block: samples that ``samples`` takes at once.
        buffers: everything that is read or written.
        before, samples, after: the three parts.
        prologue: what each block of threads does before its samples; () on a CPU.
        threads: of a block; 1 on a CPU.
        lanes_are_samples: whether the lanes of all partials are the samples of a block.
        launches: of a GPU's kernels in order: one for each step of ``before``, one for the samples
            if there are any, one for each step of ``after``; () until they are chosen.
        carried: blocks of samples after which, at the soonest, a thread's partials are added to a
            second set of them, for long sums lose digits; 0 if there are none to carry.
        workspace: what a call on a CPU allocates; None until that is laid out.
        loads: of a GPU, rows of partials that a thread loads before it adds the first; 0 until it
            is chosen.
        arguments: dtype of inputs and outputs where a CPU reads and writes another one than the
            entries: they are converted once a call, batched ones block by block; "" for entries.
    """

    name: str
    scalar: str
    width: int
    block: int
    buffers: tuple[Buffer, ...]
    before: tuple[Statement, ...]
    samples: tuple[Statement, ...]
    after: tuple[Statement, ...]
    prologue: tuple[Statement, ...] = ()
    threads: int = 1
    lanes_are_samples: bool = False
    launches: tuple[Launch, ...] = ()
    carried: int = 0
    workspace: CallWorkspace | None = None
    loads: int = 0
    arguments: str = ""

    def of(self, *spaces: Space) -> tuple[Buffer, ...]:
        """The buffers of some spaces, in order."""
        return tuple(buffer for buffer in self.buffers if buffer.space in spaces)

    def size_of(self, space: Space) -> int:
        """Entries of a workspace, of one thread where each has its own."""
        return max((buffer.offset + buffer.size for buffer in self.of(space)), default=0)

    @property
    def values(self) -> dict[str, str]:
        """The value of the plan that each buffer holds."""
        return {buffer.name: buffer.value for buffer in self.buffers}

    @property
    def starts_ragged(self) -> bool:
        """Whether the block where samples are missing comes first; see the head of this file."""
        return self.lanes_are_samples and bool(self.of("partial"))


# For each statement the fields with the places that it reads, and with those that it writes; the
# places of a statement with a body are those of the body. A target that is added to is not listed
# as read. A prefetch is of the next block: it touches no buffer of this one.
PLACES: Mapping[type[Statement], tuple[tuple[str, ...], tuple[str, ...]]] = {
    LoopRegion: ((), ()),
    For: ((), ()),
    Threads: ((), ()),
    Tile: (("left", "right"), ("target",)),
    Mma: (("left", "right"), ("target",)),
    Transpose: (("source",), ("target",)),
    Permute: (("source",), ("target",)),
    Gather: (("source",), ("target",)),
    Fill: ((), ("target",)),
    SumPartials: (("source",), ("target",)),
    SumThreads: (("source",), ("target",)),
    Prefetch: ((), ()),
    Barrier: ((), ()),
}


def statements(body: Iterable[Statement]) -> Iterator[Statement]:
    """All statements of a body, those inside others as well."""
    for statement in body:
        yield statement
        if isinstance(statement, LoopRegion | For | Threads):
            yield from statements(statement.body)


def buffers_of(body: Iterable[Statement]) -> set[str]:
    """Names of all buffers that statements touch."""
    return _buffers(body, lambda reads, writes: (*reads, *writes))


def written_of(body: Iterable[Statement]) -> set[str]:
    """Names of all buffers that statements write."""
    return _buffers(body, lambda reads, writes: writes)


def _buffers(
    body: Iterable[Statement],
    choose: Callable[[tuple[str, ...], tuple[str, ...]], tuple[str, ...]],
) -> set[str]:
    places: Iterator[At | None] = (
        getattr(statement, name)
        for statement in statements(body)
        for name in choose(*PLACES[type(statement)])
    )
    return {place.buffer for place in places if place is not None}


def map_places(statement: Statement, change: Callable[[At], At]) -> Statement:
    """The statement with other places, those of the statements inside it as well."""
    if isinstance(statement, LoopRegion | For | Threads):
        return replace(statement, body=tuple(map_places(inner, change) for inner in statement.body))
    reads, writes = PLACES[type(statement)]
    places: dict[str, At | None] = {name: getattr(statement, name) for name in (*reads, *writes)}
    changed = {name: change(place) for name, place in places.items() if place is not None}
    return replace(statement, **changed)  # pyright: ignore[reportArgumentType]


def steps_of(part: Iterable[Statement]) -> Iterator[LoopRegion]:
    """The steps of a part of a GPU's program, which has nothing else."""
    for statement in part:
        assert isinstance(statement, LoopRegion), "a part is a list of steps"
        yield statement


def counts_samples(body: Iterable[Statement]) -> bool:
    """Whether a body needs to know how many samples a block has."""
    return any(
        (isinstance(statement, For) and statement.of_samples)
        or (isinstance(statement, Tile | Mma) and any(a.of_samples for a in statement.loops))
        or (isinstance(statement, SumThreads) and bool(statement.samples))
        for statement in statements(body)
    )


def prefetched(body: Iterable[Statement]) -> list[str]:
    """Arguments whose next block is asked for."""
    return sorted({s.source.buffer for s in statements(body) if isinstance(s, Prefetch)})


def is_sum(statement: Statement) -> bool:
    """Whether a thread loop sums over the blocks of a grid."""
    return isinstance(statement, Threads) and any(
        isinstance(inner, SumPartials) for inner in statement.body
    )


def is_wide(tile: Tile, side: int, wide: int, size: int) -> bool:
    """Whether each ``wide`` rows of a copy are a run at a multiple of it, for all indices.

    Arguments:
        tile: a copy: no right operand, no loops.
        side: 0 for its left operand, 1 for its target.
        wide: a power of two.
        size: entries of a sample in the buffer of that side.
    """
    at = (tile.left, tile.target)[side]
    places = [row[side] for row in tile.rows]
    runs = [places[k : k + wide] for k in range(0, len(places), wide)]
    moves = [size, *(stride for _, stride in at.terms), *(at.offset + run[0] for run in runs)]
    return (
        tile.right is None
        and not tile.loops
        and (len(tile.columns), len(tile.sums)) == (1, 1)
        and all(run == list(range(run[0], run[0] + wide)) for run in runs)
        and not any(move % wide for move in moves)
    )
