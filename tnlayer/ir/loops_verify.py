"""What makes a loop program legal: known buffers and indices, places inside them, whole tiles."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace

from ..errors import BuildError
from ..support.dtypes import DTYPES
from .loops import (
    At,
    Axis,
    Barrier,
    Fill,
    For,
    Gather,
    LoopProgram,
    LoopRegion,
    Mma,
    OffsetPairs,
    Permute,
    Prefetch,
    Statement,
    SumPartials,
    SumThreads,
    Threads,
    Tile,
    Transpose,
    is_wide,
)
from .shuffles import makes, wanted_registers


def verified(program: LoopProgram) -> LoopProgram:
    """Return the program itself if it is legal.

    Raises:
        BuildError: names the statement with an unknown index or buffer, one outside its buffer,
            or one that writes an input.
    """
    kernels = len(program.before) + bool(program.samples) + len(program.after)
    if program.launches and len(program.launches) != kernels:
        msg = f"program {program.name}: {len(program.launches)} launches of {kernels} kernels"
        raise BuildError(f"{msg}; please report it")
    for part in (program.before, program.prologue, program.samples, program.after):
        _Verifier(program, counts_samples=part is program.samples).check_body(part, {}, "")
    return program


class _Verifier:
    """Walks a body with the ranges of the indices that are in scope."""

    def __init__(self, program: LoopProgram, *, counts_samples: bool) -> None:
        self.program, self.counts_samples = program, counts_samples
        self.buffers = {buffer.name: buffer for buffer in program.buffers}
        self.in_threads = False
        if len(self.buffers) != len(program.buffers):
            raise BuildError(f"program {program.name}: two buffers have one name")

    def check_body(self, body: tuple[Statement, ...], ranges: dict[str, int], step: str) -> None:
        for statement in body:
            match statement:
                case LoopRegion():
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
        spread = loop.spread
        if spread is not None and (
            min(spread.threads, spread.first + 1) < 1
            or (spread.turns and spread.turns * spread.threads != loop.points)
        ):
            self.fail(step, f"{loop.points} points over {spread}")
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
                    if axis.first or axis.step != 1:
                        self.fail(step, "points share samples only on tensor cores")
                self.check_in_place(statement, step)
                if statement.wide > 1:
                    self.check_wide(statement, step)
            case Mma():
                loops = tuple(replace(axis, first="", step=1) for axis in statement.loops)
                tile = Tile(statement.target, statement.left, statement.right, statement.rows,
                            statement.columns, statement.sums, loops,
                            statement.adds)  # fmt: skip
                self.check_statement(tile, ranges, step)
                depth = 16 if statement.precision == "bf16" else 8
                counts = len(statement.columns) % 8, len(statement.sums) % depth
                lists = (statement.rows, statement.columns, statement.sums)
                if len(statement.rows) != 16 or any(counts) or not all(map(_is_additive, lists)):
                    self.fail(step, "rows, columns or sums do not fill tensor cores")
                self.check_copies(statement, ranges, step)
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
                self.check_network(statement, step)
            case Gather():
                self.check_at(statement.source, _span(statement.offsets), ranges, step)
                last = max(len(statement.offsets), statement.padding) - 1
                self.check_at(statement.target, (0, last), ranges, step, writes=True)
            case Fill():
                self.check_at(statement.target, (0, statement.count - 1), ranges, step, writes=True)
            case SumPartials():
                last = len(statement.offsets) - 1
                self.check_at(statement.source, (0, last), ranges, step)
                if self.buffers[statement.source.buffer].space != "partial":
                    self.fail(step, f"SumPartials reads {statement.source.buffer}, no partial")
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
            case LoopRegion() | For() | Threads():
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

    def check_network(self, permute: Permute, step: str) -> None:
        """The shuffles that were found make what the statement says."""
        if permute.network is None:
            return
        is_complex = DTYPES[self.program.scalar].is_complex
        wanted = wanted_registers(permute.entries, self.program.width, is_complex=is_complex)
        if not makes(permute.network, (1 + is_complex) * len(permute.sources), wanted):
            self.fail(step, "the shuffles of a Permute give other entries")

    def check_copies(self, mma: Mma, ranges: dict[str, int], step: str) -> None:
        """Points of one place of the target have copies of their own, and only a partial's."""
        own = {index for index, _ in mma.copy}
        for axis in mma.loops:
            shared = axis.of_samples and ranges.get(axis.first) == axis.step and axis.first in own
            if (axis.first or axis.step != 1) and not shared:
                self.fail(step, f"samples from {axis.first or 0} by {axis.step}")
        reach = 1
        for index, stride in mma.copy:
            if stride != reach or index not in ranges:
                self.fail(step, f"the number of a copy by {mma.copy}")
            reach *= ranges.get(index, 1)
        sums = mma.adds and self.buffers[mma.target.buffer].space == "partial"
        moved = {index for index, _ in mma.target.terms}
        if reach != mma.copies or (mma.copies > 1 and (not sums or own & moved)):
            self.fail(step, f"{mma.copies} copies of {mma.target.buffer}")

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


def _is_additive(pairs: OffsetPairs) -> bool:
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
