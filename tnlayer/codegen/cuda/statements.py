"""Statements of a point as CUDA C++: places, values, tiles. A printer: it decides nothing."""

from __future__ import annotations

from collections.abc import Sequence

from ...ir.launches import WARP
from ...ir.loops import SAMPLE, At, Fill, LoopProgram, Mma, Statement, SumThreads, Tile
from .fragments import mma_lines


class StatementPrinter:
    """Prints what a point does.

    Arguments:
        program: with its buffers placed.

    ``guards`` says whether the sample of a point may be missing, ``ragged`` whether a lane may have
    no point of its own, ``index`` the type of indices.
    """

    def __init__(self, program: LoopProgram) -> None:
        self.program = program
        self.buffers = {buffer.name: buffer for buffer in program.buffers}
        self.guards = False
        self.ragged = False
        self.index = "int"

    def statement(self, statement: Statement) -> list[str]:
        match statement:
            case Tile():
                return self.tile(statement)
            case Mma():
                size = self.buffers[statement.target.buffer].size
                return mma_lines(statement, size, self.value, self.stored_at)
            case Fill():
                assert statement.count == 1
                return [self.stored(statement.target, self.place(statement.target), "entry{}")]
            case SumThreads():
                return self.sum_threads(statement)
            case _:
                msg = f"a GPU has no {type(statement).__name__}"
                raise NotImplementedError(msg)

    def sum_threads(self, statement: SumThreads) -> list[str]:
        """Every warp adds to its own copy."""
        size = self.buffers[statement.target.buffer].size
        source = statement.source.buffer
        assert statement.source.offset == 0 and self.buffers[source].size == statement.count
        lines: list[str] = []
        counted = [*(["mine"] if self.ragged else []), *(["present"] if statement.samples else [])]
        if counted:
            missing = f"!({' && '.join(counted)})" if len(counted) > 1 else f"!{counted[0]}"
            loop = f"for (int k = 0; k < {statement.count}; k++)"
            lines.append(f"if ({missing}) {loop} {source}[k] = entry{{}};")
        target = f"{statement.target.buffer} + threadIdx.x / {WARP} * {size}"
        target += f" + {statement.target.offset}" if statement.target.offset else ""
        for start in range(0, statement.count, WARP):
            left = min(WARP, statement.count - start)
            lines.append(f"sum_warp<{1 << (left - 1).bit_length()}, {start}>({target}, {source});")
        return lines

    def place(self, at: At, more: int = 0, moved: Sequence[str] = ()) -> str:
        """An element of a buffer as it lies there."""
        terms = [str(at.offset + more)] if at.offset + more else []
        terms += [f"{index} * {stride}" if stride != 1 else index for index, stride in at.terms]
        return f"{at.buffer}[{sum_text([*terms, *moved])}]"

    def present(self, at: At, more: int = 0) -> str:
        """The condition that the sample of an entry exists; "" where it always does."""
        buffer = self.buffers[at.buffer]
        if not self.guards or not buffer.batched:
            return ""
        if any(index == SAMPLE for index, _ in at.terms):
            return "present"
        sample = (at.offset + more) // buffer.size
        return f"first + {sample} < batch" if sample else ""

    def value(self, at: At, more: int = 0, moved: Sequence[str] = ()) -> str:
        """An entry: widened, conjugated, zero where its sample is missing."""
        text, buffer = self.place(at, more, moved), self.buffers[at.buffer]
        if buffer.space in ("input", "output"):
            text = f"wide({text})"
            if present := self.present(at, more):
                text = f"({present} ? {text} : entry{{}})"
        return f"conj({text})" if at.conj else text

    def stored(self, at: At, place: str, value: str, sign: str = "=", more: int = 0) -> str:
        """A store: narrowed, and left out where its sample is missing."""
        buffer = self.buffers[at.buffer]
        if buffer.space == "output":
            assert sign == "=", "outputs are never read"
            text = f"{place} = narrow({value});"
            conditions = [present] if (present := self.present(at, more)) else []
        else:
            text = f"{place} {sign} {value};"
            conditions = list[str]()
        if self.ragged and buffer.space != "register":
            conditions.append("mine")
        return f"if ({' && '.join(conditions)}) {text}" if conditions else text

    def stored_at(self, at: At, more: int, moved: Sequence[str], value: str, sign: str) -> str:
        """A store at a place of an array."""
        return self.stored(at, self.place(at, more, moved), value, sign, more)

    def tile(self, tile: Tile) -> list[str]:
        if tile.wide > 1:
            return self.wide_copy(tile)
        if self.buffers[tile.target.buffer].space == "register" and not tile.loops:
            return self.in_registers(tile)
        return self.in_memory(tile)

    def wide_copy(self, tile: Tile) -> list[str]:
        """Runs of x or y, each as one access of global memory."""
        lines: list[str] = []
        for first in range(0, len(tile.rows), tile.wide):
            rows = tile.rows[first : first + tile.wide]
            if self.buffers[tile.left.buffer].space == "input":
                at = self.place(tile.left, rows[0][0])
                present = self.present(tile.left, rows[0][0]) or "true"
                lines.append(f"{{ const auto run = load<{tile.wide}>(&{at}, {present});")
                for k, (_, target) in enumerate(rows):
                    value = f"wide(run.v[{k}])"
                    value = f"conj({value})" if tile.left.conj else value
                    place = self.place(tile.target, target)
                    lines.append(f"  {self.stored(tile.target, place, value)}")
            else:
                lines.append(f"{{ together<{tile.wide}> run;")
                for k, (left, _) in enumerate(rows):
                    lines.append(f"  run.v[{k}] = narrow({self.value(tile.left, left)});")
                present = self.present(tile.target, rows[0][1])
                conditions = [*([present] if present else []), *(["mine"] if self.ragged else [])]
                condition = f"if ({' && '.join(conditions)}) " if conditions else ""
                lines.append(f"  {condition}store(&{self.place(tile.target, rows[0][1])}, run);")
            lines[-1] += " }"
        return lines

    def in_registers(self, tile: Tile) -> list[str]:
        """Each result as one expression: no other result waits for it."""
        lines: list[str] = []
        for row, row_target in tile.rows:
            for column, column_target in tile.columns:
                terms: list[str] = []
                for left, right in tile.sums:
                    term = self.value(tile.left, row + left)
                    if tile.right is not None:
                        term = f"{self.value(tile.right, column + right)} * {term}"
                    terms.append(term)
                more = row_target + column_target
                sign = "+=" if tile.adds else "="
                lines.append(self.stored_at(tile.target, more, (), " + ".join(terms), sign))
        return lines

    def in_memory(self, tile: Tile) -> list[str]:
        """Sums in named variables, stored at the end."""
        rows, columns = range(len(tile.rows)), range(len(tile.columns))
        if len(rows) * len(columns) == 1 and not tile.loops and len(tile.sums) == 1:
            return self.in_registers(tile)
        lines = ["{"]
        if tile.right is None and not tile.loops and len(tile.sums) == 1:
            # A copy: added to zero each entry would cost an instruction, for 0 + -0 is not -0.
            ((moved, _),) = tile.sums
            texts = [f"sum{r}_0 = {self.value(tile.left, row + moved)}"
                     for r, (row, _) in enumerate(tile.rows)]  # fmt: skip
            return [*lines, f"  const entry {', '.join(texts)};", *self.sums_stored(tile), "}"]
        names = ", ".join(f"sum{r}_{c} = entry{{}}" for r in rows for c in columns)
        lines.append(f"  entry {names};")
        if self.buffers[tile.left.buffer].space == "register":
            return [*lines, *self.written_out(tile), *self.sums_stored(tile), "}"]
        depth = 1
        moved_left: list[str] = []
        moved_right: list[str] = []
        for number, axis in enumerate(tile.loops):
            k = f"k{number}"
            end = "samples" if axis.of_samples else axis.count
            lines += ["  " * depth + "#pragma unroll 1"] if axis.rolled else []
            lines.append("  " * depth + f"for ({self.index} {k} = 0; {k} < {end}; {k}++) {{")
            moved_left += [f"{k} * {axis.left}"] if axis.left else []
            moved_right += [f"{k} * {axis.right}"] if axis.right else []
            depth += 1
        for left, right in tile.sums:
            lines += indented(self.products(tile, left, right, moved_left, moved_right), depth)
        lines += ["  " * number + "}" for number in range(depth - 1, 0, -1)]
        return [*lines, *self.sums_stored(tile), "}"]

    def written_out(self, tile: Tile) -> list[str]:
        """Terms of sums over the samples that a thread holds: registers have no moving places."""
        (axis,) = tile.loops
        lines: list[str] = []
        for k in range(axis.count):
            terms: list[str] = []
            for left, right in tile.sums:
                at = left + k * axis.left, right + k * axis.right
                terms += self.products(tile, *at, [], [])
            exists = f"if ({k} < samples) " if axis.of_samples and k else ""
            lines += [f"  {exists}{{", *indented(terms, 2), "  }"]
        return lines

    def sums_stored(self, tile: Tile) -> list[str]:
        """Each named variable to its place."""
        sign = "+=" if tile.adds else "="
        return [
            "  " + self.stored_at(tile.target, row + column, (), f"sum{r}_{c}", sign)
            for r, (_, row) in enumerate(tile.rows)
            for c, (_, column) in enumerate(tile.columns)
        ]  # fmt: skip

    def products(
        self, tile: Tile, left: int, right: int, moved_left: list[str], moved_right: list[str]
    ) -> list[str]:
        """One term of all sums."""
        rows = [self.value(tile.left, row + left, moved_left) for row, _ in tile.rows]
        if tile.right is None:
            return [f"sum{r}_0 += {text};" for r, text in enumerate(rows)]
        columns = [self.value(tile.right, c + right, moved_right) for c, _ in tile.columns]
        if len(rows) * len(columns) == 1:
            return [f"sum0_0 += {columns[0]} * {rows[0]};"]
        loads = [f"left{r} = {text}" for r, text in enumerate(rows)]
        loads += [f"right{c} = {text}" for c, text in enumerate(columns)]
        sums = [
            f"sum{r}_{c} += right{c} * left{r};"
            for r in range(len(rows))
            for c in range(len(columns))
        ]
        return [f"{{ const entry {', '.join(loads)};", f"  {' '.join(sums)} }}"]


def sum_text(terms: Sequence[str]) -> str:
    return " + ".join(terms) or "0"


def indented(lines: Sequence[str], depth: int = 1) -> list[str]:
    return ["  " * depth + line for line in lines]
