"""The CUDA C++ printer: a loop program becomes the source of its kernels. It decides nothing.

The samples are one kernel with a persistent grid: each block walks over groups of samples. Each
step before and after them is a kernel of its own: a step with barriers runs in one block.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from tnlayer.kernels.cuda_exchange import WARP
from tnlayer.kernels.cuda_fragments import MMA_PRELUDE
from tnlayer.kernels.cuda_place import Layout
from tnlayer.kernels.cuda_prelude import cuda_prelude
from tnlayer.kernels.cuda_statements import StatementPrinter, indented, sum_text
from tnlayer.kernels.cuda_threads import SAMPLE
from tnlayer.kernels.loops import (
    Barrier,
    Buffer,
    Fill,
    Mma,
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

# Turns of a loop that copies, up to which it is written out.
MOST_TURNS = 8


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
    if any(isinstance(statement, Mma) for statement in statements(program.samples)):
        texts.insert(1, MMA_PRELUDE)
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


class _Printer(StatementPrinter):
    """Prints one program."""

    def __init__(self, program: Program, layout: Layout, together: int) -> None:
        super().__init__(program)
        self.layout, self.together = layout, together
        self.in_samples = False

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
                lines += indented(self.threads(statement))
                continue
            own = self.blocks(statement)
            if any(isinstance(inner, SumLanes) for inner in statement.body):
                body = self.sum_blocks(statement, own)
            else:
                body = self.threads(statement, grid=own)
            lines += ["  {", *self.own_blocks(first, own, blocks), *indented(body, 2), "  }"]
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
        by_warp = any(isinstance(statement, Mma) for statement in loop.body)
        unrolled = list[str]()
        if by_warp:
            # A point is a warp's.
            warps = threads // WARP
            head = f"for (int p = threadIdx.x / {WARP}; p < {points}; p += {warps}) {{"
        elif grid:
            each = grid * threads
            head = f"for (int p = turn * {threads} + threadIdx.x; p < {points}; p += {each}) {{"
        elif start:
            head = f"if (const int p = (int)threadIdx.x - {start}; 0 <= p && p < {points}) {{"
        else:
            rounded = -(-points // WARP) * WARP if sums else points
            # A vote is the same in all lanes, which a compiler knows: else it writes all that sums
            # over lanes a second time, for lanes of a warp that have parted.
            condition = f"__any_sync(0xffffffffu, p < {rounded})" if sums else f"p < {rounded}"
            if rounded == threads:
                head = "{ const int p = threadIdx.x;"
            elif rounded < threads:
                head = f"if (const int p = threadIdx.x; {condition}) {{"
            elif (
                not sums
                and _is_copy(loop)
                and points in range(0, MOST_TURNS * threads + 1, threads)
            ):
                # Written out: all of a thread's loads are under way before one is waited for.
                unrolled = ["#pragma unroll"]
                head = f"for (int turn = 0; turn < {points // threads}; turn++) {{"
                head += f" const int p = threadIdx.x + turn * {threads};"
            else:
                head = f"for (int p = threadIdx.x; {condition}; p += {threads}) {{"
        # A compiler that unrolls over warps' tiles holds the fragments of several at once.
        lines = [*(["#pragma unroll 1"] if by_warp else unrolled), head]
        if self.ragged:
            lines.append(
                f"  const bool mine = p < {points}; const int q = mine ? p : {points - 1};"
            )
        lines += [f"  {line}" for line in _digits(loop.indices, "q" if self.ragged else "p")]
        if self.guards and any(index == SAMPLE for index, _ in loop.indices):
            lines.append(f"  const bool present = first + {SAMPLE} < batch;")
        for buffer in self.program.of("register"):
            if buffer.name in names:
                lines.append(f"  entry {buffer.name}[{buffer.size}];")
        for statement in loop.body:
            lines += indented(self.statement(statement))
        self.guards = self.ragged = False
        return [*lines, "}"]

    def sum_blocks(self, loop: Threads, blocks: int) -> list[str]:
        """A sum over the blocks' partials: each warp takes some blocks, then warps are added."""
        fill, add = loop.body
        assert isinstance(fill, Fill) and isinstance(add, SumLanes), "a sum sets its target"
        warps = self.program.threads // WARP
        source = self.buffers[add.source.buffer]
        at = self.layout.call + self.layout.partials_at + source.offset + add.source.offset
        place = sum_text([str(at), *(f"{i} * {s}" for i, s in add.source.terms)])
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


def _is_copy(loop: Threads) -> bool:
    """Whether points do nothing but move entries."""
    return all(
        isinstance(statement, Tile) and statement.right is None and len(statement.sums) == 1
        and not statement.loops
        for statement in loop.body
    )  # fmt: skip


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
