"""The loop IR: what a fused kernel does, loop by loop. Fourth of the IRs.

A Program runs in three parts: ``before`` once a call, on parameters only; ``samples`` once for each
block of samples, in parallel; ``after`` once a call, on what the samples have summed up. All sizes
and offsets are constants; only the number of blocks is known at the call.

Where samples are missing in the last block, zeros stand for them; what becomes of those is in no
sum, for it may be 0 x inf. If lanes are samples that block is done first, and then the lanes of
missing samples are cleared in all partials. Else loops over samples that sum end at the last one
that exists (``of_samples``).

Grammar::

    program   = Program(name, scalar, width, block, buffers, before, samples, after)
    buffer    = Buffer(name, size, space, offset, batched)
    space     = "input" | "output"                arguments; entries as torch stores them
              | "shared" | "thread" | "partial"   workspace: one a call, one a thread, and one a
                                                  thread that starts at zero and is summed at last
              | "block" | "blockspace" | "register"   of a GPU, see below
    statement = Step(name, comment, body)         a function of its own in printed source
              | For(index, count, body, of_samples)
              | Tile(target, left, right, rows, columns, sums, loops, adds, keeps_weights)
              | Mma(target, left, right, rows, columns, sums, precision)
              | Transpose(target, source, targets, sources, padding)
              | Permute(target, source, targets, sources, entries, padding)
              | Gather(target, source, offsets, padding)
              | Fill(target, count)               zeros
              | SumLanes(target, source, offsets)
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
missing samples.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from typing import Literal

from tnlayer.errors import BuildError

Space = Literal["input", "output", "shared", "thread", "partial", "block", "blockspace", "register"]
Form = Literal["vector", "splat", "scalar", "repeat"]
Pairs = tuple[tuple[int, int], ...]
HERE: Pairs = ((0, 0),)


@dataclass(frozen=True, slots=True)
class Buffer:
    """A named array of entries.

    Arguments:
        name: canonical name.
        size: entries; of one sample where the buffer is batched.
        space: who owns it.
        offset: where it lies in its workspace, in entries; 0 for arguments.
        batched: whether it is an argument with one row a sample.
    """

    name: str
    size: int
    space: Space
    offset: int = 0
    batched: bool = False


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

    With ``of_samples`` it runs over the samples of a block that exist, at most ``count``.
    """

    count: int
    left: int
    right: int
    of_samples: bool = False


@dataclass(frozen=True, slots=True)
class Step:
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
    """

    target: At
    left: At
    right: At | None
    rows: Pairs = HERE
    columns: Pairs = HERE
    sums: Pairs = HERE
    loops: tuple[Axis, ...] = ()
    adds: bool = False
    keeps_weights: bool = True
    order: tuple[int, ...] = ()
    wide: int = 1


Precision = Literal["tf32", "3xtf32", "bf16"]


@dataclass(frozen=True, slots=True)
class Mma:
    """A Tile whose products a warp does on tensor cores; a point is a warp.

    target[r, c] = sum over sums of left[sum, r] * right[sum, c], with operands rounded first:
    "tf32" to 10 bits of mantissa (ties away from zero), "bf16" to 7 (ties to even); "3xtf32" takes
    what tf32 leaves of an operand as a second one and drops the product of both rests. Offsets are
    sums over the bits of their number.

    Arguments:
        rows: 16 pairs of offsets in left and in target.
        columns: multiples of 8 pairs of offsets in right and in target.
        sums: multiples of 8 (bf16: of 16) pairs of offsets in left and in right.
    """

    target: At
    left: At
    right: At
    rows: Pairs
    columns: Pairs
    sums: Pairs
    precision: Precision


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
    to ``padding`` entries. Both sides are at most vectors, and it is done in registers."""

    target: At
    source: At
    targets: tuple[int, ...]
    sources: tuple[int, ...]
    entries: tuple[Pairs, ...]
    padding: int = 0

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
class SumLanes:
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
    """

    indices: tuple[tuple[str, int], ...]
    body: tuple[Statement, ...]

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
    Step
    | For
    | Tile
    | Mma
    | Transpose
    | Permute
    | Gather
    | Fill
    | SumLanes
    | Prefetch
    | Threads
    | Barrier
    | SumThreads
)


@dataclass(frozen=True, slots=True)
class Program:
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

    def of(self, *spaces: Space) -> tuple[Buffer, ...]:
        """The buffers of some spaces, in order."""
        return tuple(buffer for buffer in self.buffers if buffer.space in spaces)

    def size_of(self, space: Space) -> int:
        """Entries of a workspace, of one thread where each has its own."""
        return max((buffer.offset + buffer.size for buffer in self.of(space)), default=0)

    @property
    def starts_ragged(self) -> bool:
        """Whether the block where samples are missing comes first; see the head of this file."""
        return self.lanes_are_samples and bool(self.of("partial"))

    def verify(self) -> Program:
        """Return the program itself if it is legal.

        Raises:
            BuildError: names the statement with an unknown index or buffer, one outside its buffer,
                or one that writes an input.
        """
        for part in (self.before, self.prologue, self.samples, self.after):
            _Verifier(self, counts_samples=part is self.samples).check_body(part, {}, "")
        return self


def statements(body: Iterable[Statement]) -> Iterator[Statement]:
    """All statements of a body, those inside others as well."""
    for statement in body:
        yield statement
        if isinstance(statement, Step | For | Threads):
            yield from statements(statement.body)


def counts_samples(body: Iterable[Statement]) -> bool:
    """Whether a body needs to know how many samples a block has."""
    return any(
        (isinstance(statement, For) and statement.of_samples)
        or (isinstance(statement, Tile) and any(axis.of_samples for axis in statement.loops))
        or (isinstance(statement, SumThreads) and bool(statement.samples))
        for statement in statements(body)
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


class _Verifier:
    """Walks a body with the ranges of the indices that are in scope."""

    def __init__(self, program: Program, *, counts_samples: bool) -> None:
        self.program, self.counts_samples = program, counts_samples
        self.buffers = {buffer.name: buffer for buffer in program.buffers}
        self.in_threads = False
        if len(self.buffers) != len(program.buffers):
            raise BuildError(f"program {program.name}: two buffers have one name")

    def check_body(self, body: tuple[Statement, ...], ranges: dict[str, int], step: str) -> None:
        for statement in body:
            match statement:
                case Step():
                    self.check_body(statement.body, ranges, statement.name)
                case For():
                    if statement.index in ranges or statement.count < 1:
                        self.fail(step, f"loop {statement.index} of {statement.count} turns")
                    self.check_samples(statement, step)
                    inner = ranges | {statement.index: statement.count}
                    self.check_body(statement.body, inner, step)
                case Threads():
                    self.check_threads(statement, ranges, step)
                case _:
                    self.check_statement(statement, ranges, step)

    def check_threads(self, loop: Threads, ranges: dict[str, int], step: str) -> None:
        names = [name for name, _ in loop.indices]
        if self.in_threads or ranges or len(set(names)) < len(names):
            self.fail(step, f"a thread loop over {names} inside another loop, or an index twice")
        if any(count < 1 for _, count in loop.indices):
            self.fail(step, f"thread loop of {loop.points} points")
        self.in_threads = True
        self.check_body(loop.body, dict(loop.indices), step)
        self.in_threads = False

    def check_statement(self, statement: Statement, ranges: dict[str, int], step: str) -> None:
        match statement:
            case Tile():
                left, right = _reach(statement)
                self.check_at(statement.left, left, ranges, step)
                if statement.right is not None:
                    self.check_at(statement.right, right, ranges, step)
                ends = [r + c for _, r in statement.rows for _, c in statement.columns]
                self.check_at(statement.target, (min(ends), max(ends)), ranges, step, writes=True)
                self.check_forms(statement, step)
                for axis in statement.loops:
                    self.check_samples(axis, step)
                self.check_in_place(statement, step)
                if statement.wide > 1:
                    self.check_wide(statement, step)
            case Mma():
                tile = Tile(statement.target, statement.left, statement.right, statement.rows,
                            statement.columns, statement.sums)  # fmt: skip
                self.check_statement(tile, ranges, step)
                depth = 16 if statement.precision == "bf16" else 8
                counts = len(statement.columns) % 8, len(statement.sums) % depth
                lists = (statement.rows, statement.columns, statement.sums)
                if len(statement.rows) != 16 or any(counts) or not all(map(_is_additive, lists)):
                    self.fail(step, "rows, columns or sums do not fill tensor cores")
            case Transpose():
                if max(len(statement.targets), len(statement.sources)) > self.program.width:
                    self.fail(step, "a Transpose is at most a square of the vector's width")
                first, last = _span(statement.sources)
                span = first, last + len(statement.targets) - 1
                self.check_at(replace(statement.source, form="scalar"), span, ranges, step)
                self.check_rows(statement, len(statement.sources), ranges, step)
            case Permute():
                longest = max(map(len, statement.entries))
                if max(statement.read, longest) > self.program.width:
                    self.fail(step, "a Permute takes and makes at most vectors")
                if len(statement.entries) != len(statement.targets):
                    self.fail(step, "a Permute names the entries of each target")
                if any(s >= len(statement.sources) for row in statement.entries for s, _ in row):
                    self.fail(step, "a Permute takes entries of a source that it lacks")
                first, last = _span(statement.sources)
                span = first, last + statement.read - 1
                self.check_at(replace(statement.source, form="scalar"), span, ranges, step)
                self.check_rows(statement, longest, ranges, step)
            case Gather():
                self.check_at(statement.source, _span(statement.offsets), ranges, step)
                last = max(len(statement.offsets), statement.padding) - 1
                self.check_at(statement.target, (0, last), ranges, step, writes=True)
            case Fill():
                self.check_at(statement.target, (0, statement.count - 1), ranges, step, writes=True)
            case SumLanes():
                last = len(statement.offsets) - 1
                self.check_at(statement.source, (0, last), ranges, step)
                if self.buffers[statement.source.buffer].space != "partial":
                    self.fail(step, f"SumLanes reads {statement.source.buffer}, no partial")
                self.check_at(statement.target, _span(statement.offsets), ranges, step, writes=True)
            case Prefetch():
                self.check_at(statement.source, (0, statement.count - 1), ranges, step)
                if not self.buffers[statement.source.buffer].batched:
                    self.fail(step, f"prefetches {statement.source.buffer}, no batched argument")
            case SumThreads():
                last = statement.count - 1
                self.check_at(statement.source, (0, last), ranges, step)
                self.check_at(statement.target, (0, last), ranges, step, writes=True)
                spaces = [self.buffers[at.buffer].space for at in (statement.target,
                                                                   statement.source)]  # fmt: skip
                if spaces != ["partial", "register"] or statement.target.terms:
                    self.fail(step, f"SumThreads of a {spaces[1]} into a {spaces[0]}")
                if statement.samples and ranges.get(statement.samples) != self.program.block:
                    self.fail(step, f"no index {statement.samples} over the samples of a block")
            case Barrier():
                if self.in_threads:
                    self.fail(step, "a barrier inside a thread loop")
            case Step() | For() | Threads():
                pass

    def check_rows(
        self, statement: Transpose | Permute, count: int, ranges: dict[str, int], step: str
    ) -> None:
        """What is written from each target on: so many entries, or zeros behind them."""
        if statement.padding > self.program.width:
            self.fail(step, "padding is at most a vector")
        first, last = _span(statement.targets)
        span = first, last + max(count, statement.padding) - 1
        self.check_at(replace(statement.target, form="scalar"), span, ranges, step, writes=True)

    def check_samples(self, loop: For | Axis, step: str) -> None:
        """A loop over samples has the turns of a block."""
        if loop.of_samples and (loop.count != self.program.block or not self.counts_samples):
            self.fail(step, f"a loop over {loop.count} samples")

    def check_in_place(self, tile: Tile, step: str) -> None:
        """Tiles that write what they have read must leave alone what other tiles read."""
        left, target = tile.left, tile.target
        if tile.adds or left.buffer != target.buffer:
            return
        sums = {at for at, _ in tile.sums}
        for axis in tile.loops:
            sums = {at + k * axis.left for at in sums for k in range(axis.count)}
        read = {row + at for row, _ in tile.rows for at in sums}
        written = {row + at for _, row in tile.rows for _, at in tile.columns}
        if read != written or (left.offset, left.terms) != (target.offset, target.terms):
            self.fail(
                step, f"a Tile in place of {target.buffer} that reads and writes other places"
            )

    def check_wide(self, tile: Tile, step: str) -> None:
        sides = [self.buffers[at.buffer] for at in (tile.left, tile.target)]
        if not any(b.batched and is_wide(tile, k, tile.wide, b.size) for k, b in enumerate(sides)):
            self.fail(step, f"no runs of {tile.wide} rows in {sides[0].name} or {sides[1].name}")

    def check_forms(self, tile: Tile, step: str) -> None:
        forms = {tile.left.form} | ({tile.right.form} if tile.right else set())
        whole = {"vector", "splat", "repeat"}
        expected = {"scalar"} if tile.target.form == "scalar" else whole
        if tile.target.form in ("splat", "repeat") or not forms <= expected:
            self.fail(step, f"a Tile of {sorted(forms)} cannot give a {tile.target.form}")
        for at in (tile.left, tile.right):
            if (
                at is not None
                and at.form == "repeat"
                and (at.run < 1 or self.program.width % at.run)
            ):
                self.fail(step, f"{at.run} entries do not fill a vector")
        if tile.order and (
            tile.adds
            or tile.target.form != "vector"
            or sorted(tile.order) != list(range(self.program.width))
        ):
            self.fail(step, f"no order of lanes: {tile.order}")

    def check_at(
        self,
        at: At,
        span: tuple[int, int],
        ranges: dict[str, int],
        step: str,
        *,
        writes: bool = False,
    ) -> None:
        """Refuse a place that may lie outside its buffer, or in an input that is written."""
        buffer = self.buffers.get(at.buffer)
        if buffer is None:
            self.fail(step, f"unknown buffer {at.buffer}")
            return
        if writes and buffer.space == "input":
            self.fail(step, f"writes the input {at.buffer}")
        if buffer.space == "register" and (at.terms or not self.in_threads):
            self.fail(step, f"register array {at.buffer} without a thread, or at a moving place")
        first, last = at.offset + span[0], at.offset + span[1]
        for index, stride in at.terms:
            if index not in ranges:
                self.fail(step, f"unknown index {index}")
                return
            first += min(0, stride * (ranges[index] - 1))
            last += max(0, stride * (ranges[index] - 1))
        last += {"vector": self.program.width - 1, "repeat": at.run - 1}.get(at.form, 0)
        size = buffer.size * (self.program.block if buffer.batched else 1)
        if first < 0 or last >= size:
            self.fail(step, f"entries {first} to {last} of {at.buffer}, which has {size}")

    def fail(self, step: str, what: str) -> None:
        msg = f"program {self.program.name}, step {step}: {what}; please report it"
        raise BuildError(msg)


def _is_additive(pairs: Pairs) -> bool:
    """Whether offsets are sums over the bits of their number."""
    return len(pairs) & (len(pairs) - 1) == 0 and all(
        pairs[n][side] == pairs[0][side] + sum(
            pairs[1 << bit][side] - pairs[0][side] for bit in range(n.bit_length()) if n >> bit & 1
        )
        for n in range(len(pairs))
        for side in (0, 1)
    )  # fmt: skip


def _span(offsets: Iterable[int]) -> tuple[int, int]:
    found = tuple(offsets)
    return min(found), max(found)


def _reach(tile: Tile) -> tuple[tuple[int, int], tuple[int, int]]:
    """First and last offset that a tile reads in left and in right."""
    sides: list[tuple[int, int]] = []
    for side, own in ((0, tile.rows), (1, tile.columns)):
        first = min(pair[0] for pair in own) + min(pair[side] for pair in tile.sums)
        last = max(pair[0] for pair in own) + max(pair[side] for pair in tile.sums)
        for axis in tile.loops:
            stride = (axis.left, axis.right)[side] * (axis.count - 1)
            first, last = first + min(0, stride), last + max(0, stride)
        sides.append((first, last))
    return sides[0], sides[1]
