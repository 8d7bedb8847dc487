"""The CUDA C++ printer: a loop program becomes the source of its kernels. It decides nothing.

The samples are one kernel with a persistent grid: each block walks over groups of samples. Each
step before and after them is a kernel of its own: a step with barriers runs in one block.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from ...ir.loops import (
    Barrier,
    Buffer,
    Mma,
    Program,
    Statement,
    Step,
    SumThreads,
    Threads,
    Tile,
    statements,
)
from ...lowering.cpu.workspace import buffers_of
from ...lowering.gpu.bank_conflicts import WARP
from ...lowering.gpu.merge_kernels import SUM_THREADS, is_sum
from ...lowering.gpu.place import Layout
from ...lowering.gpu.thread_loop import SAMPLE
from .fragments import MMA_PRELUDE
from .prelude import cuda_prelude
from .statements import StatementPrinter, indented
from .sums import HELPERS, SumPrinter

# The largest number that an int holds.
MOST_INT = 2**31 - 1
# Turns of a loop that copies, up to which it is written out.
MOST_TURNS = 8


@dataclass(frozen=True, slots=True)
class Kernel:
    """A printed kernel: its name, and its grid: 0 blocks where the launcher chooses."""

    name: str
    blocks: int
    threads: int
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
    if any(isinstance(statement, Mma) for statement in statements(program.samples)):
        texts.insert(1, MMA_PRELUDE)
    return "\n".join(texts), kernels


@dataclass(slots=True)
class _Spread:
    """Gives short loops in a row threads of their own, so that they wait for memory together."""

    threads: int
    first: int = 0
    next: int = 0

    def place(self, points: int) -> int:
        """The first thread of a loop."""
        if self.next + points > self.threads:
            self.next = 0
        start, self.next = self.first + self.next, self.next + points
        return start


class _Printer(StatementPrinter):
    """Prints one program."""

    def __init__(self, program: Program, layout: Layout, together: int) -> None:
        super().__init__(program)
        self.layout, self.together = layout, together
        self.in_samples = False
        self.width = program.threads  # threads of a block of the kernel that is printed

    # -- kernels ---------------------------------------------------------------------------

    def kernels(self) -> tuple[Kernel, ...]:
        """Before, samples, after."""
        found = [self.outer("before", n, s) for n, s in enumerate(self.program.before)]
        if self.program.samples:
            self.width = self.program.threads
            found.append(Kernel(self.program.name, 0, self.width, self.main()))
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
        bounds = f"__launch_bounds__({self.width}, {together})"
        return [
            f'extern "C" __global__ void {bounds}',
            f"{name}({', '.join(arguments)}) {{",
        ]

    def outer(self, part: str, number: int, step: Statement) -> Kernel:
        """A kernel for what is done before or after the samples."""
        assert isinstance(step, Step)
        name = f"{self.program.name}_{part}{number}"
        sums = any(is_sum(statement) for statement in statements((step,)))
        self.width = SUM_THREADS if sums else self.program.threads
        lines = [f"// {step.comment}", *self.head(name)]
        for buffer in self.used(step, "shared"):
            if buffer.name in self.layout.inside:
                lines.append(f"  __shared__ entry {buffer.name}[{buffer.size}];")
            else:
                lines.append(f"  entry* const {buffer.name} = workspace + {buffer.offset};")
        row = [inner for inner in step.body if isinstance(inner, Step)]
        loops = [inner for inner in step.body if isinstance(inner, Threads)]
        if sums or row:
            blocks, body = self.row_and_sums(row[0] if row else Step("", "", ()), loops)
        else:
            blocks, body = self.apart(loops)
        return Kernel(name, blocks, self.width, "\n".join([*lines, *indented(body), "}", ""]))

    def apart(self, loops: Sequence[Threads]) -> tuple[int, list[str]]:
        """Loops that do not wait for each other: each has blocks of its own."""
        blocks = sum(map(self.blocks, loops))
        lines: list[str] = []
        first = 0
        for loop in loops:
            own = self.blocks(loop)
            body = indented(self.threads(loop, grid=own))
            lines += ["{", *self.own_blocks(first, own, blocks), *body, "}"]
            first += own
        return blocks, lines

    def row_and_sums(self, row: Step, sums: Sequence[Threads]) -> tuple[int, list[str]]:
        """Steps that the first block does in a row, with the sums that it needs, and other sums."""
        own = [inner for inner in row.body if isinstance(inner, Threads) and is_sum(inner)]
        rest = [inner for inner in row.body if not is_sum(inner)]
        if not own and not sums:
            return 1, [f"// {row.comment}", *self.row(rest)]
        assert own or not rest, "a row that reads no sum is a kernel of its own"
        printer = SumPrinter(self.layout, self.buffers, _digits, tuple(own), tuple(sums))
        lines = printer.first_half()
        wait = next((k for k, inner in enumerate(rest) if isinstance(inner, Barrier)), len(rest))
        early = self.row(rest[:wait], *HELPERS)
        if early:
            lines += ["if (blockIdx.x == 0) {", *indented(early), "}"]
        lines += ["__syncthreads();", *printer.second_half()]
        if rest[wait:]:
            lines += ["if (blockIdx.x > 0) return;", f"// {row.comment}", *self.row(rest[wait:])]
        return printer.blocks, lines

    def row(self, body: Sequence[Statement], first: int = 0, count: int = 0) -> list[str]:
        """Thread loops of one block, side by side between two barriers.

        Arguments:
            body: loops and barriers.
            first, count: the threads that do it; all without them.
        """
        lines: list[str] = []
        spread = _Spread(count or self.width, first)
        for inner in body:
            if isinstance(inner, Barrier):
                lines.append("__syncthreads();")
                spread.next = 0
                continue
            assert isinstance(inner, Threads)
            fits = inner.points <= spread.threads
            start = spread.place(inner.points) if fits else 0
            team = None if fits or not count else (first, count)
            lines += self.threads(inner, start=start, team=team)
        return lines

    def own_blocks(self, first: int, own: int, blocks: int) -> list[str]:
        """The number of a block among those of a loop; others leave the loop alone."""
        number = f"blockIdx.x - {first}" if first else "blockIdx.x"
        if own == blocks:
            return [f"    const int turn = {number};"]
        return [f"    const int turn = (int){number};", f"    if (0 <= turn && turn < {own})"]

    def blocks(self, loop: Threads) -> int:
        """Blocks of a grid that has a thread for each point, within reason."""
        return min(1024, -(-loop.points // self.width))

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
            lines += indented(self.step(step, spread))
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
        if any(axis.of_samples for s in statements(program.samples) if isinstance(s, Tile | Mma)
               for axis in s.loops):  # fmt: skip
            least = f"batch - first < {block} ? (int)(batch - first) : {block}"
            lines.append(f"    const int samples = {least};")
        self.in_samples = True
        for step in program.samples:
            lines += indented(self.step(step), 2)
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

    def threads(
        self,
        loop: Threads,
        *,
        grid: int = 0,
        start: int = 0,
        team: tuple[int, int] | None = None,
    ) -> list[str]:
        """Points over the threads of a block.

        Arguments:
            loop: the points, and what is done at each.
            grid: number of the blocks that do it together; 0 for one.
            start: first of the threads, one a point.
            team: first and number of the threads; None for all.
        """
        threads, points = self.width, loop.points
        names = buffers_of(loop.body)
        self.index = index = self.index_type(loop, names)
        batched = any(self.buffers[name].batched for name in names)
        sums = any(isinstance(statement, SumThreads) for statement in loop.body)
        counts = any(isinstance(s, SumThreads) and bool(s.samples) for s in loop.body)
        self.guards = self.in_samples and self.program.block > 1 and (batched or counts)
        # A sum over points needs every lane of a warp: those without a point take the last one.
        self.ragged = sums and points % WARP != 0
        by_warp = any(isinstance(statement, Mma) for statement in loop.body)
        unrolled = list[str]()
        if by_warp:
            # A point is a warp's.
            warps = threads // WARP
            head = f"for ({index} p = threadIdx.x / {WARP}; p < {points}; p += {warps}) {{"
        elif grid:
            each = grid * threads
            head = f"for ({index} p = turn * {threads} + threadIdx.x; p < {points}; p += {each}) {{"
        elif team:
            first = f"(int)threadIdx.x - {team[0]}"
            head = f"for ({index} p = {first}; 0 <= p && p < {points}; p += {team[1]}) {{"
        elif start:
            head = f"if (const {index} p = (int)threadIdx.x - {start}; 0 <= p && p < {points}) {{"
        else:
            rounded = -(-points // WARP) * WARP if sums else points
            # A vote is the same in all lanes, which a compiler knows: else it writes all that sums
            # over lanes a second time, for lanes of a warp that have parted.
            condition = f"__any_sync(0xffffffffu, p < {rounded})" if sums else f"p < {rounded}"
            if rounded == threads:
                head = f"{{ const {index} p = threadIdx.x;"
            elif rounded < threads:
                head = f"if (const {index} p = threadIdx.x; {condition}) {{"
            elif _is_copy(loop) and points % threads == 0 and points <= MOST_TURNS * threads:
                # Written out: all of a thread's loads are under way before one is waited for.
                unrolled = ["#pragma unroll"]
                head = f"for (int turn = 0; turn < {points // threads}; turn++) {{"
                head += f" const {index} p = threadIdx.x + turn * {threads};"
            else:
                head = f"for ({index} p = threadIdx.x; {condition}; p += {threads}) {{"
        # A compiler that unrolls over warps' tiles holds the fragments of several at once.
        lines = [*(["#pragma unroll 1"] if by_warp else unrolled), head]
        if self.ragged:
            lines.append(
                f"  const bool mine = p < {points}; const {index} q = mine ? p : {points - 1};"
            )
        lines += [f"  {line}" for line in _digits(loop.indices, "q" if self.ragged else "p", index)]
        if self.guards and any(name == SAMPLE for name, _ in loop.indices):
            lines.append(f"  const bool present = first + {SAMPLE} < batch;")
        for buffer in self.program.of("register"):
            if buffer.name in names:
                lines.append(f"  entry {buffer.name}[{buffer.size}];")
        for statement in loop.body:
            lines += indented(self.statement(statement))
        self.guards = self.ragged = False
        self.index = "int"
        return [*lines, "}"]

    def index_type(self, loop: Threads, names: set[str]) -> str:
        """Offsets in large arrays are larger than an int, of one sample alone."""
        sizes = [self.buffers[n].size * (self.program.block if self.buffers[n].batched else 1)
                 for n in names]  # fmt: skip
        # The number of a point goes beyond the last one by a grid of threads.
        return "long long" if max(*sizes, 2 * loop.points) > MOST_INT else "int"


def _is_copy(loop: Threads) -> bool:
    """Whether points do nothing but move entries."""
    return all(
        isinstance(statement, Tile) and statement.right is None and len(statement.sums) == 1
        and not statement.loops
        for statement in loop.body
    )  # fmt: skip


def _digits(indices: Sequence[tuple[str, int]], name: str, kind: str = "int") -> list[str]:
    """Indices of a point from its number, the last one fastest."""
    found: list[str] = []
    below = 1
    for index, count in reversed(indices):
        text = name if below == 1 else f"{name} / {below}"
        text = text if index == indices[0][0] else f"{text} % {count}"
        found.append(f"const {kind} {index} = {text};")
        below *= count
    return [" ".join(reversed(found))] if found else []
