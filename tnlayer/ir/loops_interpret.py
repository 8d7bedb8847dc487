"""The interpreter of the loop IR: runs a program slowly and exactly, on one thread, in numpy."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

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
    Permute,
    Precision,
    Prefetch,
    Statement,
    SumPartials,
    SumThreads,
    Threads,
    Tile,
    Transpose,
)

Entries = np.ndarray[Any, np.dtype[Any]]


def interpret(
    program: LoopProgram, inputs: Mapping[str, Entries], batch: int
) -> dict[str, Entries]:
    """Run a program.

    Arguments:
        program: verified.
        inputs: flat entries of each input buffer by name, batched ones with ``batch`` rows.
        batch: number of samples.

    Returns the flat entries of each output buffer, in the dtype of the inputs.
    """
    return _Interpreter(program, inputs, batch).run()


def rounded(values: Entries, precision: Precision) -> Entries:
    """Entries as tensor cores take them, in the dtype they came in.

    >>> rounded(np.array([1 + 2**-11, 1 + 2**-12]), "tf32").tolist()
    [1.0009765625, 1.0]
    """
    bits = np.asarray(values, np.float32).view(np.uint32)
    if precision == "bf16":
        nearest = (bits + (0x7FFF + (bits >> 16 & 1)).astype(np.uint32)) & np.uint32(0xFFFF0000)
    else:
        nearest = (bits + np.uint32(0x1000)) & np.uint32(0xFFFFE000)
    found = np.where(np.isfinite(values), nearest.view(np.float32), values)
    return found.astype(values.dtype)


class _Interpreter:
    """All buffers as flat arrays; batched ones are seen through a window of one block."""

    def __init__(self, program: LoopProgram, inputs: Mapping[str, Entries], batch: int) -> None:
        self.program, self.batch = program, batch
        dtype = np.result_type(np.dtype(program.scalar), *inputs.values())
        self.whole: dict[str, Entries] = {
            buffer.name: np.array(inputs[buffer.name], dtype).reshape(-1)
            if buffer.space == "input"
            else np.zeros(buffer.size * (batch if buffer.batched else 1), dtype)
            for buffer in program.buffers
        }
        self.seen = dict(self.whole)
        self.indices: dict[str, int] = {}
        self.valid = program.block

    def run(self) -> dict[str, Entries]:
        self.body(self.program.before)
        batched = [buffer for buffer in self.program.buffers if buffer.batched]
        self.body(self.program.prologue)
        block = self.program.block
        starts = range(0, self.batch if batched else 0, block)
        for first in reversed(starts) if self.program.starts_ragged else starts:
            valid = self.valid = min(block, self.batch - first)
            for buffer in batched:
                rows = self.whole[buffer.name].reshape(self.batch, buffer.size)
                window = np.zeros((block, buffer.size), rows.dtype)
                window[:valid] = rows[first : first + valid]
                self.seen[buffer.name] = window.reshape(-1)
            self.body(self.program.samples)
            for buffer in batched:
                if buffer.space == "output":
                    rows = self.whole[buffer.name].reshape(self.batch, buffer.size)
                    window = self.seen[buffer.name].reshape(block, buffer.size)
                    rows[first : first + valid] = window[:valid]
            if self.program.starts_ragged and valid < block:
                for buffer in self.program.of("partial"):
                    self.whole[buffer.name].reshape(-1, self.program.width)[:, valid:] = 0
        self.body(self.program.after)
        return {buffer.name: self.whole[buffer.name] for buffer in self.program.of("output")}

    def body(self, body: Sequence[Statement]) -> None:
        for statement in body:
            self.statement(statement)

    def statement(self, statement: Statement) -> None:
        match statement:
            case LoopRegion():
                self.body(statement.body)
            case For():
                for turn in range(self.turns(statement)):
                    self.indices[statement.index] = turn
                    self.body(statement.body)
                del self.indices[statement.index]
            case Tile():
                self.tile(statement)
            case Mma():
                self.mma(statement)
            case Transpose():
                values = np.array(
                    [self.take(statement.source, start, len(statement.targets))
                     for start in statement.sources]
                )  # fmt: skip
                for row, start in enumerate(statement.targets):
                    self.put_row(statement, start, values[:, row])
            case Permute():
                rows = [self.take(statement.source, start, statement.read)
                        for start in statement.sources]  # fmt: skip
                for start, entries in zip(statement.targets, statement.entries, strict=True):
                    self.put_row(statement, start, np.array([rows[s][at] for s, at in entries]))
            case Gather():
                values = [self.take(statement.source, offset, 1)[0] for offset in statement.offsets]
                values += [0] * (statement.padding - len(values))
                self.put(statement.target, 0, np.array(values))
            case Fill():
                self.put(statement.target, 0, np.zeros(statement.count))
            case Threads():
                for point in np.ndindex(*(count for _, count in statement.indices)):
                    names = (name for name, _ in statement.indices)
                    self.indices = dict(zip(names, point, strict=True))
                    for buffer in self.program.of("register"):
                        self.seen[buffer.name][:] = np.nan  # what another point left is not seen
                    self.body(statement.body)
                self.indices = {}
            case Barrier() | Prefetch():
                pass
            case SumThreads():
                if statement.samples and self.indices[statement.samples] >= self.valid:
                    return
                total = self.take(statement.target, 0, statement.count)
                total += self.take(statement.source, 0, statement.count)
                self.put(statement.target, 0, total)
            case SumPartials():
                for lane, offset in enumerate(statement.offsets):
                    total = self.take(statement.target, offset, 1)
                    self.put(statement.target, offset,
                             total + self.take(statement.source, lane, 1))  # fmt: skip

    def turns(self, loop: For | Axis) -> int:
        """How often a loop runs."""
        return min(loop.count, self.valid) if loop.of_samples else loop.count

    def run_of(self, axis: Axis) -> range:
        """Values of the counter of a loop inside a tile."""
        return range(self.indices.get(axis.first, 0), self.turns(axis), axis.step)

    def put_row(self, statement: Transpose | Permute, start: int, values: Entries) -> None:
        """A vector or a part of one, then zeros."""
        missing = max(0, statement.padding - len(values))
        self.put(statement.target, start, np.pad(values, (0, missing)))

    def start(self, at: At) -> int:
        return at.offset + sum(self.indices[index] * stride for index, stride in at.terms)

    def take(self, at: At, offset: int, count: int) -> Entries:
        first = self.start(at) + offset
        found = self.seen[at.buffer][first : first + count]
        assert first >= 0 and len(found) == count, f"{at} reads outside its buffer"
        return found.conj() if at.conj else found.copy()

    def put(self, at: At, offset: int, values: Entries) -> None:
        first = self.start(at) + offset
        assert 0 <= first <= len(self.seen[at.buffer]) - len(values), f"{at} writes outside"
        self.seen[at.buffer][first : first + len(values)] = values

    def operand(self, at: At, offset: int) -> Entries:
        """A vector, or one entry, which numpy repeats by itself."""
        if at.form == "repeat":
            return np.tile(self.take(at, offset, at.run), self.program.width // at.run)
        return self.take(at, offset, self.program.width if at.form == "vector" else 1)

    def mma(self, mma: Mma) -> None:
        """The products of rounded operands, summed as exactly as the program's entries are."""
        sums = self.sums_of(mma)
        if not sums and mma.adds:
            return  # all samples of this point are missing
        left = np.array([[self.take(mma.left, r + s, 1)[0] for s, _ in sums] for r, _ in mma.rows])
        right = np.array(
            [[self.take(mma.right, c + s, 1)[0] for c, _ in mma.columns] for _, s in sums]
        )
        if mma.precision == "3xtf32":
            big, wide = rounded(left, "tf32"), rounded(right, "tf32")
            small, thin = rounded(left - big, "tf32"), rounded(right - wide, "tf32")
            total = small @ wide + big @ thin + big @ wide
        else:
            total = rounded(left, mma.precision) @ rounded(right, mma.precision)
        for r, (_, row) in enumerate(mma.rows):
            for c, (_, column) in enumerate(mma.columns):
                found = total[r, c : c + 1]
                if mma.adds:
                    found = found + self.take(mma.target, row + column, 1)
                self.put(mma.target, row + column, found)

    def sums_of(self, tile: Tile | Mma) -> list[tuple[int, int]]:
        """Offsets in left and right of all terms, loops included."""
        offsets = [(0, 0)]
        for axis in tile.loops:
            offsets = [(a + k * axis.left, b + k * axis.right)
                       for a, b in offsets for k in self.run_of(axis)]  # fmt: skip
        return [(a + c, b + d) for a, b in offsets for c, d in tile.sums]

    def tile(self, tile: Tile) -> None:
        count = self.program.width if tile.target.form == "vector" else 1
        sums = self.sums_of(tile)
        results: list[tuple[int, Entries]] = []
        for row, row_target in tile.rows:
            for column, column_target in tile.columns:
                total: Any = 0
                for left, right in sums:
                    value = self.operand(tile.left, row + left)
                    if tile.right is not None:
                        value = value * self.operand(tile.right, column + right)
                    total = total + value
                vector = np.broadcast_to(total, count)
                if tile.order:
                    vector = vector[list(tile.order)]
                results.append((row_target + column_target, vector))
        for offset, total in results:
            if tile.adds:
                total = total + self.take(tile.target, offset, count)
            self.put(tile.target, offset, total)
