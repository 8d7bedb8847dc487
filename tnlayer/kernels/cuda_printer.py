"""The CUDA C++ printer: a loop program becomes the source of its kernels. It decides nothing.

The samples are one kernel with a persistent grid: each block walks over groups of samples. Each
step before and after them is a kernel of its own: a step with barriers runs in one block.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from tnlayer.kernels.cuda_place import WARP, Layout
from tnlayer.kernels.cuda_prelude import cuda_prelude
from tnlayer.kernels.cuda_threads import SAMPLE
from tnlayer.kernels.loops import (
    At,
    Barrier,
    Buffer,
    Fill,
    Program,
    Statement,
    Step,
    SumLanes,
    SumThreads,
    Threads,
    Tile,
    statements,
)
from tnlayer.kernels.workspace import buffers_of


@dataclass(frozen=True, slots=True)
class Kernel:
    """A printed kernel: its name, and its grid: 0 blocks where the launcher chooses."""

    name: str
    blocks: int
    text: str


def print_cuda(
    program: Program, layout: Layout, stored: str, together: int = 1
) -> tuple[str, tuple[Kernel, ...]]:
    """Source of a translation unit, and its kernels in order of launch.

    Arguments:
        program: with its buffers placed and its barriers.
        layout: where they lie.
        stored: dtype of the arguments.
        together: blocks of the samples' kernel that a multiprocessor should hold: what bounds the
            registers of a thread.
    """
    kernels = _Printer(program, layout, together).kernels()
    texts = [cuda_prelude(program.scalar, stored), *(kernel.text for kernel in kernels)]
    return "\n".join(texts), kernels


@dataclass(slots=True)
class _Spread:
    """Gives short loops in a row threads of their own, so that they wait for memory together."""

    threads: int
    next: int = 0

    def place(self, points: int) -> int:
        """The first thread of a loop."""
        if self.next + points > self.threads:
            self.next = 0
        start, self.next = self.next, self.next + points
        return start


class _Printer:
    """Prints one program."""

    def __init__(self, program: Program, layout: Layout, together: int) -> None:
        self.program, self.layout, self.together = program, layout, together
        self.buffers = {buffer.name: buffer for buffer in program.buffers}
        self.in_samples = False
        self.guards = False
        self.ragged = False

    # -- kernels ---------------------------------------------------------------------------

    def kernels(self) -> tuple[Kernel, ...]:
        """Before, samples, after."""
        found = [self.outer("before", n, s) for n, s in enumerate(self.program.before)]
        if self.program.samples:
            found.append(Kernel(self.program.name, 0, self.main()))
        found += [self.outer("after", n, s) for n, s in enumerate(self.program.after)]
        return tuple(found)

    def head(self, name: str, together: int = 1) -> list[str]:
        """The signature, the same for all kernels."""
        arguments = [
            f"{'const ' if buffer.space == 'input' else ''}stored* __restrict__ "
            f"{'all_' if buffer.batched else ''}{buffer.name}"
            for buffer in self.program.of("input", "output")
        ]
        arguments += ["entry* __restrict__ workspace", "long long batch", "int blocks"]
        bounds = f"__launch_bounds__({self.program.threads}, {together})"
        return [
            f'extern "C" __global__ void {bounds}',
            f"{name}({', '.join(arguments)}) {{",
        ]

    def outer(self, part: str, number: int, step: Statement) -> Kernel:
        """A kernel for one step before or after the samples."""
        assert isinstance(step, Step)
        name = f"{self.program.name}_{part}{number}"
        loops = [statement for statement in step.body if isinstance(statement, Threads)]
        alone = any(isinstance(statement, Barrier) for statement in step.body)
        # Loops of one kernel do not wait for each other: each has blocks of its own.
        blocks = 1 if alone else sum(map(self.blocks, loops))
        first = 0
        lines = [f"// {step.comment}", *self.head(name)]
        for buffer in self.used(step, "shared"):
            lines.append(f"  entry* const {buffer.name} = workspace + {buffer.offset};")
        if any(isinstance(inner, SumLanes) for inner in statements(step.body)):
            lines.append(f"  __shared__ entry rows[{self.program.threads}];")
        for statement in step.body:
            if isinstance(statement, Barrier):
                lines.append("  __syncthreads();")
                continue
            assert isinstance(statement, Threads)
            if alone:
                lines += _indented(self.threads(statement))
                continue
            own = self.blocks(statement)
            if any(isinstance(inner, SumLanes) for inner in statement.body):
                body = self.sum_blocks(statement, own)
            else:
                body = self.threads(statement, grid=own)
            lines += ["  {", *self.own_blocks(first, own, blocks), *_indented(body, 2), "  }"]
            first += own
        return Kernel(name, blocks, "\n".join([*lines, "}", ""]))

    def own_blocks(self, first: int, own: int, blocks: int) -> list[str]:
        """The number of a block among those of a loop; others leave the loop alone."""
        number = f"blockIdx.x - {first}" if first else "blockIdx.x"
        if own == blocks:
            return [f"    const int turn = {number};"]
        return [f"    const int turn = (int){number};", f"    if (0 <= turn && turn < {own})"]

    def blocks(self, loop: Threads) -> int:
        """Blocks of a grid that has a thread for each point, within reason."""
        is_sum = any(isinstance(inner, SumLanes) for inner in loop.body)
        points = WARP if is_sum else self.program.threads
        return min(1024, -(-loop.points // points))

    def main(self) -> str:
        """The persistent kernel."""
        program, layout = self.program, self.layout
        block = program.block
        lines = [
            "// Each block takes its samples through all steps.",
            *self.head(program.name, self.together),
        ]
        body = (*program.prologue, *program.samples)
        if layout.block:
            lines.append("  extern __shared__ __align__(16) char memory[];")
            lines.append("  entry* const block = (entry*)memory;")
        if layout.row:
            row = f"workspace + {layout.call} + (long long)blockIdx.x * {layout.row}"
            lines.append(f"  entry* const row = {row};")
        for space in ("block", "blockspace", "shared"):
            base = {"block": "block", "blockspace": "row", "shared": "workspace"}[space]
            for buffer in self.used(Step("", "", body), space):
                lines.append(f"  entry* const {buffer.name} = {base} + {buffer.offset};")
        lines += self.partials_begin()
        spread = _Spread(program.threads)
        for step in program.prologue:
            lines += _indented(self.step(step, spread))
        lines.append(
            f"  for (long long first = (long long)blockIdx.x * {block}; first < batch; "
            f"first += (long long)gridDim.x * {block}) {{"
        )
        for buffer in self.used(Step("", "", program.samples), "input", "output"):
            if buffer.batched:
                const = "const " if buffer.space == "input" else ""
                lines.append(
                    f"    {const}stored* const {buffer.name} = "
                    f"all_{buffer.name} + first * {buffer.size};"
                )
        if any(axis.of_samples for s in statements(program.samples) if isinstance(s, Tile)
               for axis in s.loops):  # fmt: skip
            least = f"batch - first < {block} ? (int)(batch - first) : {block}"
            lines.append(f"    const int samples = {least};")
        self.in_samples = True
        for step in program.samples:
            lines += _indented(self.step(step), 2)
        self.in_samples = False
        lines.append("  }")
        lines += self.partials_end()
        return "\n".join([*lines, "}", ""])

    def used(self, step: Step, *spaces: str) -> list[Buffer]:
        names = buffers_of(step.body)
        return [b for b in self.program.buffers if b.name in names and b.space in spaces]

    def partials_begin(self) -> list[str]:
        """Partials with zeros in them."""
        lines: list[str] = []
        spread = _Spread(self.program.threads)
        for buffer in self.program.of("partial"):
            base, size = f"row + {self.layout.partials_at + buffer.offset}", buffer.size
            if buffer.name in self.layout.partials:
                at, copies = self.layout.partials[buffer.name]
                base, size = f"block + {at}", size * copies
            lines.append(f"  entry* const {buffer.name} = {base};")
            head = self.loop(size, spread.place(size))
            lines.append(f"  {head} {buffer.name}[p] = entry{{}};")
        return [*lines, "  __syncthreads();"] if lines else []

    def partials_end(self) -> list[str]:
        """Partials of shared memory go to the block's row, copies of warps summed in order."""
        lines: list[str] = []
        spread = _Spread(self.program.threads)
        for buffer in self.program.of("partial"):
            if buffer.name not in self.layout.partials:
                continue
            _, copies = self.layout.partials[buffer.name]
            target = f"row[{self.layout.partials_at + buffer.offset} + p]"
            lines.append(f"  {self.loop(buffer.size, spread.place(buffer.size))} {{")
            lines.append(f"    entry v = {buffer.name}[p];")
            if copies > 1:
                lines.append(
                    f"    for (int w = 1; w < {copies}; w++) "
                    f"v += {buffer.name}[w * {buffer.size} + p];"
                )
            lines += [f"    {target} = v;", "  }"]
        return ["  __syncthreads();", *lines] if lines else []

    def loop(self, count: int, start: int = 0) -> str:
        if start:
            return f"if (const int p = (int)threadIdx.x - {start}; 0 <= p && p < {count})"
        return f"for (int p = threadIdx.x; p < {count}; p += {self.program.threads})"

    # -- loops over points -----------------------------------------------------------------

    def step(self, step: Statement, spread: _Spread | None = None) -> list[str]:
        assert isinstance(step, Step)
        lines = [f"// {step.comment}"]
        for statement in step.body:
            if isinstance(statement, Barrier):
                lines.append("__syncthreads();")
            else:
                assert isinstance(statement, Threads)
                start = spread.place(statement.points) if spread else 0
                lines += self.threads(statement, start=start)
        return lines

    def threads(self, loop: Threads, *, grid: int = 0, start: int = 0) -> list[str]:
        """Points over the threads of a block, from ``start`` on, or of so many blocks."""
        threads, points = self.program.threads, loop.points
        names = buffers_of(loop.body)
        batched = any(self.buffers[name].batched for name in names)
        sums = any(isinstance(statement, SumThreads) for statement in loop.body)
        counts = any(isinstance(s, SumThreads) and bool(s.samples) for s in loop.body)
        self.guards = self.in_samples and self.program.block > 1 and (batched or counts)
        # A sum over points needs every lane of a warp: those without a point take the last one.
        self.ragged = sums and points % WARP != 0
        if grid:
            each = grid * threads
            head = f"for (int p = turn * {threads} + threadIdx.x; p < {points}; p += {each}) {{"
        elif start:
            head = f"if (const int p = (int)threadIdx.x - {start}; 0 <= p && p < {points}) {{"
        elif points == threads:
            head = "{ const int p = threadIdx.x;"
        elif points < threads:
            rounded = -(-points // WARP) * WARP if sums else points
            head = f"if (const int p = threadIdx.x; p < {rounded}) {{" if rounded < threads else (
                "{ const int p = threadIdx.x;"
            )  # fmt: skip
        else:
            rounded = -(-points // WARP) * WARP if sums else points
            head = self.loop(rounded) + " {"
        lines = [head]
        if self.ragged:
            lines.append(
                f"  const bool mine = p < {points}; const int q = mine ? p : {points - 1};"
            )
        lines += [f"  {line}" for line in _digits(loop.indices, "q" if self.ragged else "p")]
        if self.guards:
            lines.append(f"  const bool present = first + {SAMPLE} < batch;")
        for buffer in self.program.of("register"):
            if buffer.name in names:
                lines.append(f"  entry {buffer.name}[{buffer.size}];")
        for statement in loop.body:
            lines += _indented(self.statement(statement))
        self.guards = self.ragged = False
        return [*lines, "}"]

    def sum_blocks(self, loop: Threads, blocks: int) -> list[str]:
        """A sum over the blocks' partials: each warp takes some blocks, then warps are added."""
        fill, add = loop.body
        assert isinstance(fill, Fill) and isinstance(add, SumLanes), "a sum sets its target"
        warps = self.program.threads // WARP
        source = self.buffers[add.source.buffer]
        at = self.layout.call + self.layout.partials_at + source.offset + add.source.offset
        place = _sum_text([str(at), *(f"{i} * {s}" for i, s in add.source.terms)])
        return [
            "{",
            f"  for (int p0 = turn * {WARP}; p0 < {loop.points}; p0 += {blocks * WARP}) {{",
            f"    const int p = p0 + threadIdx.x % {WARP};",
            *(f"    {line}" for line in _digits(loop.indices, "p")),
            "    entry v = entry{};",
            f"    if (p < {loop.points})",
            f"      for (int k = threadIdx.x / {WARP}; k < blocks; k += {warps})",
            f"        v += workspace[(long long)k * {self.layout.row} + {place}];",
            "    rows[threadIdx.x] = v;",
            "    __syncthreads();",
            f"    if (threadIdx.x < {WARP} && p < {loop.points}) {{",
            f"      for (int w = 1; w < {warps}; w++) v += rows[w * {WARP} + threadIdx.x];",
            f"      {self.stored(add.target, self.place(add.target), 'v')}",
            "    }",
            "    __syncthreads();",
            "  }",
            "}",
        ]

    # -- statements ------------------------------------------------------------------------

    def statement(self, statement: Statement) -> list[str]:
        match statement:
            case Tile():
                return self.tile(statement)
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
        return f"{at.buffer}[{_sum_text([*terms, *moved])}]"

    def value(self, at: At, more: int = 0, moved: Sequence[str] = ()) -> str:
        """An entry: widened, conjugated, zero where its sample is missing."""
        text, buffer = self.place(at, more, moved), self.buffers[at.buffer]
        if buffer.space in ("input", "output"):
            text = f"wide({text})"
            if self.guards and buffer.batched:
                text = f"(present ? {text} : entry{{}})"
        return f"conj({text})" if at.conj else text

    def stored(self, at: At, place: str, value: str, sign: str = "=") -> str:
        """A store: narrowed, and left out where its sample is missing."""
        buffer = self.buffers[at.buffer]
        if buffer.space == "output":
            assert sign == "=", "outputs are never read"
            text = f"{place} = narrow({value});"
            conditions = ["present"] if self.guards and buffer.batched else []
        else:
            text = f"{place} {sign} {value};"
            conditions = list[str]()
        if self.ragged and buffer.space != "register":
            conditions.append("mine")
        return f"if ({' && '.join(conditions)}) {text}" if conditions else text

    def tile(self, tile: Tile) -> list[str]:
        if self.buffers[tile.target.buffer].space == "register" and not tile.loops:
            return self.in_registers(tile)
        return self.in_memory(tile)

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
                place = self.place(tile.target, row_target + column_target)
                sign = "+=" if tile.adds else "="
                lines.append(self.stored(tile.target, place, " + ".join(terms), sign))
        return lines

    def in_memory(self, tile: Tile) -> list[str]:
        """Sums in named variables, stored at the end."""
        rows, columns = range(len(tile.rows)), range(len(tile.columns))
        if len(rows) * len(columns) == 1 and not tile.loops and len(tile.sums) == 1:
            return self.in_registers(tile)
        lines = ["{"]
        names = ", ".join(f"sum{r}_{c} = entry{{}}" for r in rows for c in columns)
        lines.append(f"  entry {names};")
        depth = 1
        moved_left: list[str] = []
        moved_right: list[str] = []
        for number, axis in enumerate(tile.loops):
            k = f"k{number}"
            end = "samples" if axis.of_samples else axis.count
            lines.append("  " * depth + f"for (int {k} = 0; {k} < {end}; {k}++) {{")
            moved_left += [f"{k} * {axis.left}"] if axis.left else []
            moved_right += [f"{k} * {axis.right}"] if axis.right else []
            depth += 1
        for left, right in tile.sums:
            lines += _indented(self.products(tile, left, right, moved_left, moved_right), depth)
        lines += ["  " * number + "}" for number in range(depth - 1, 0, -1)]
        sign = "+=" if tile.adds else "="
        for r, (_, row) in enumerate(tile.rows):
            for c, (_, column) in enumerate(tile.columns):
                place = self.place(tile.target, row + column)
                lines.append("  " + self.stored(tile.target, place, f"sum{r}_{c}", sign))
        return [*lines, "}"]

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


def _digits(indices: Sequence[tuple[str, int]], name: str) -> list[str]:
    """Indices of a point from its number, the last one fastest."""
    found: list[str] = []
    below = 1
    for index, count in reversed(indices):
        text = name if below == 1 else f"{name} / {below}"
        text = text if index == indices[0][0] else f"{text} % {count}"
        found.append(f"const int {index} = {text};")
        below *= count
    return [" ".join(reversed(found))] if found else []


def _sum_text(terms: Sequence[str]) -> str:
    return " + ".join(terms) or "0"


def _indented(lines: Sequence[str], depth: int = 1) -> list[str]:
    return ["  " * depth + line for line in lines]
