"""The CUDA C++ printer: a loop program becomes the source of its kernels. It decides nothing.

The samples are one kernel with a persistent grid: each block walks over groups of samples. Each
step before and after them is a kernel of its own: a step with barriers runs in one block.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from ...ir.launches import WARP, Launch, MemoryMap, Spread
from ...ir.loops import (
    SAMPLE,
    Barrier,
    Buffer,
    LoopProgram,
    LoopRegion,
    Mma,
    Statement,
    SumThreads,
    Threads,
    Tile,
    buffers_of,
    is_sum,
    statements,
)
from .fragments import MMA_PRELUDE
from .prelude import cuda_prelude
from .statements import StatementPrinter, indented
from .sums_over_blocks import SumPrinter

# The largest number that an int holds.
MOST_INT = 2**31 - 1


@dataclass(frozen=True, slots=True)
class Kernel:
    """A printed kernel: its name, and its grid: 0 blocks where the launcher chooses."""

    name: str
    blocks: int
    threads: int
    text: str


def print_cuda(
    program: LoopProgram, layout: MemoryMap, stored: str, together: int = 1
) -> tuple[str, tuple[Kernel, ...]]:
    """Source of a translation unit, and its kernels in order of launch.

    Arguments:
        program: with its buffers placed, its barriers and its launches.
        layout: where the buffers lie.
        stored: dtype of the arguments.
        together: blocks of the samples' kernel that a multiprocessor should hold: what bounds the
            registers of a thread.
    """
    kernels = _Printer(program, layout, together).kernels()
    prelude = cuda_prelude(program.scalar, stored, program.loads)
    texts = [prelude, *(kernel.text for kernel in kernels)]
    if any(isinstance(statement, Mma) for statement in statements(program.samples)):
        texts.insert(1, MMA_PRELUDE)
    return "\n".join(texts), kernels


class _Printer(StatementPrinter):
    """Prints one program."""

    def __init__(self, program: LoopProgram, layout: MemoryMap, together: int) -> None:
        super().__init__(program)
        self.layout, self.together = layout, together
        self.in_samples = False
        self.width = program.threads  # threads of a block of the kernel that is printed
        assert program.launches or not program.samples, "launches are chosen before printing"

    # -- kernels ---------------------------------------------------------------------------

    def kernels(self) -> tuple[Kernel, ...]:
        """Before, samples, after: each has its launch."""
        program, found = self.program, list[Kernel]()
        parts = [*program.before, *([None] if program.samples else []), *program.after]
        for launch, step in zip(program.launches, parts, strict=True):
            self.width = launch.threads
            text = self.main(launch) if step is None else self.outer(launch, step)
            found.append(Kernel(launch.name, launch.blocks, launch.threads, text))
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

    def outer(self, launch: Launch, step: Statement) -> str:
        """A kernel for what is done before or after the samples."""
        assert isinstance(step, LoopRegion)
        lines = [f"// {step.comment}", *self.head(launch.name)]
        for buffer in self.used(step, "shared"):
            if buffer.name in self.layout.inside:
                lines.append(f"  __shared__ entry {buffer.name}[{buffer.size}];")
            else:
                lines.append(f"  entry* const {buffer.name} = workspace + {buffer.offset};")
        row = next((inner for inner in step.body if isinstance(inner, LoopRegion)), None)
        loops = [inner for inner in step.body if isinstance(inner, Threads)]
        if launch.reduction is not None:
            body = self.row_and_sums(launch, row or LoopRegion("", "", ()), loops)
        elif row is not None:
            body = [f"// {row.comment}", *self.row(row.body)]
        else:
            body = self.apart(loops, launch.blocks)
        return "\n".join([*lines, *indented(body), "}", ""])

    def apart(self, loops: Sequence[Threads], blocks: int) -> list[str]:
        """Loops that do not wait for each other: each has blocks of its own."""
        lines: list[str] = []
        for loop in loops:
            spread = _spread_of(loop)
            head = self.own_blocks(spread.first_block, spread.blocks, blocks)
            lines += ["{", *head, *indented(self.threads(loop)), "}"]
        return lines

    def row_and_sums(self, launch: Launch, row: LoopRegion, sums: Sequence[Threads]) -> list[str]:
        """Steps that the first block does in a row, with the sums that it needs, and other sums."""
        assert launch.reduction is not None
        own = [inner for inner in row.body if isinstance(inner, Threads) and is_sum(inner)]
        rest = [inner for inner in row.body if not is_sum(inner)]
        assert own or not rest, "a row that reads no sum is a kernel of its own"
        printer = SumPrinter(
            self.layout, self.buffers, _digits, launch.reduction, tuple(own), tuple(sums)
        )
        lines = printer.first_half()
        wait = next((k for k, inner in enumerate(rest) if isinstance(inner, Barrier)), len(rest))
        if early := self.row(rest[:wait]):
            lines += ["if (blockIdx.x == 0) {", *indented(early), "}"]
        lines += ["__syncthreads();", *printer.second_half()]
        if rest[wait:]:
            lines += ["if (blockIdx.x > 0) return;", f"// {row.comment}", *self.row(rest[wait:])]
        return lines

    def row(self, body: Sequence[Statement]) -> list[str]:
        """Thread loops of one block, and where its threads wait for each other."""
        lines: list[str] = []
        for inner in body:
            if isinstance(inner, Barrier):
                lines.append("__syncthreads();")
            else:
                assert isinstance(inner, Threads)
                lines += self.threads(inner)
        return lines

    def own_blocks(self, first: int, own: int, blocks: int) -> list[str]:
        """The number of a block among those of a loop; others leave the loop alone."""
        number = f"blockIdx.x - {first}" if first else "blockIdx.x"
        if own == blocks:
            return [f"    const int turn = {number};"]
        return [f"    const int turn = (int){number};", f"    if (0 <= turn && turn < {own})"]

    def main(self, launch: Launch) -> str:
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
            for buffer in self.used(LoopRegion("", "", body), space):
                lines.append(f"  entry* const {buffer.name} = {base} + {buffer.offset};")
        lines += self.partials_begin(launch)
        for step in program.prologue:
            lines += indented(self.step(step))
        lines.append(
            f"  for (long long first = (long long)blockIdx.x * {block}; first < batch; "
            f"first += (long long)gridDim.x * {block}) {{"
        )
        for buffer in self.used(LoopRegion("", "", program.samples), "input", "output"):
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
        lines += self.partials_end(launch)
        return "\n".join([*lines, "}", ""])

    def used(self, step: LoopRegion, *spaces: str) -> list[Buffer]:
        names = buffers_of(step.body)
        return [b for b in self.program.buffers if b.name in names and b.space in spaces]

    def partials_begin(self, launch: Launch) -> list[str]:
        """Partials with zeros in them."""
        lines: list[str] = []
        partials = self.program.of("partial")
        for buffer, spread in zip(partials, launch.clears, strict=True):
            base, size = f"row + {self.layout.partials_at + buffer.offset}", buffer.size
            if buffer.name in self.layout.partials:
                at, copies = self.layout.partials[buffer.name]
                base, size = f"block + {at}", size * copies
            lines.append(f"  entry* const {buffer.name} = {base};")
            lines.append(f"  {_entries(size, spread)} {buffer.name}[p] = entry{{}};")
        return [*lines, "  __syncthreads();"] if lines else []

    def partials_end(self, launch: Launch) -> list[str]:
        """Partials of shared memory go to the block's row, copies of warps summed in order."""
        lines: list[str] = []
        inside = [b for b in self.program.of("partial") if b.name in self.layout.partials]
        for buffer, spread in zip(inside, launch.collects, strict=True):
            _, copies = self.layout.partials[buffer.name]
            target = f"row[{self.layout.partials_at + buffer.offset} + p]"
            lines.append(f"  {_entries(buffer.size, spread)} {{")
            lines.append(f"    entry v = {buffer.name}[p];")
            if copies > 1:
                lines.append(
                    f"    for (int w = 1; w < {copies}; w++) "
                    f"v += {buffer.name}[w * {buffer.size} + p];"
                )
            lines += [f"    {target} = v;", "  }"]
        return ["  __syncthreads();", *lines] if lines else []

    # -- loops over points -----------------------------------------------------------------

    def step(self, step: Statement) -> list[str]:
        assert isinstance(step, LoopRegion)
        return [f"// {step.comment}", *self.row(step.body)]

    def threads(self, loop: Threads) -> list[str]:
        """Points over the threads that its spread names."""
        points = loop.points
        names = buffers_of(loop.body)
        self.index = index = self.index_type(loop, names)
        batched = any(self.buffers[name].batched for name in names)
        sums = any(isinstance(statement, SumThreads) for statement in loop.body)
        counts = any(isinstance(s, SumThreads) and bool(s.samples) for s in loop.body)
        self.guards = self.in_samples and self.program.block > 1 and (batched or counts)
        # A sum over points needs every lane of a warp: those without a point take the last one.
        self.ragged = sums and points % WARP != 0
        lines = self.loop_head(loop, sums)
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

    def loop_head(self, loop: Threads, sums: bool) -> list[str]:
        """The loop over a thread's points; no loop where it has one at most.

        Arguments:
            loop: the points.
            sums: whether lanes are summed, so that all lanes of a warp have to go through.
        """
        index, points, spread = self.index, loop.points, _spread_of(loop)
        threads, first = spread.threads, spread.first
        if any(isinstance(statement, Mma) for statement in loop.body):
            # A point is a warp's.
            head = f"p = threadIdx.x / {WARP}; p < {points}; p += {threads // WARP}"
            return [*(["#pragma unroll 1"] if spread.rolled else []), f"for ({index} {head}) {{"]
        if spread.blocks:
            each = spread.blocks * threads
            start = f"turn * {threads} + threadIdx.x"
            return [f"for ({index} p = {start}; p < {points}; p += {each}) {{"]
        if first and points > threads:
            start, mine = f"(int)threadIdx.x - {first}", f"0 <= p && p < {points}"
            return [f"for ({index} p = {start}; {mine}; p += {threads}) {{"]
        if first:
            return [f"if (const {index} p = (int)threadIdx.x - {first}; 0 <= p && p < {points}) {{"]
        rounded = -(-points // WARP) * WARP if sums else points
        # A vote is the same in all lanes, which a compiler knows: else it writes all that sums
        # over lanes a second time, for lanes of a warp that have parted.
        condition = f"__any_sync(0xffffffffu, p < {rounded})" if sums else f"p < {rounded}"
        if rounded == threads:
            return [f"{{ const {index} p = threadIdx.x;"]
        if rounded < threads:
            return [f"if (const {index} p = threadIdx.x; {condition}) {{"]
        if spread.turns:
            head = f"for (int turn = 0; turn < {spread.turns}; turn++) {{"
            return ["#pragma unroll", f"{head} const {index} p = threadIdx.x + turn * {threads};"]
        return [f"for ({index} p = threadIdx.x; {condition}; p += {threads}) {{"]

    def index_type(self, loop: Threads, names: set[str]) -> str:
        """Offsets in large arrays are larger than an int, of one sample alone."""
        sizes = [self.buffers[n].size * (self.program.block if self.buffers[n].batched else 1)
                 for n in names]  # fmt: skip
        # The number of a point goes beyond the last one by a grid of threads.
        return "long long" if max(*sizes, 2 * loop.points) > MOST_INT else "int"


def _spread_of(loop: Threads) -> Spread:
    assert loop.spread is not None, "threads are chosen before printing"
    return loop.spread


def _entries(count: int, spread: Spread) -> str:
    """A loop over the entries of a buffer."""
    if spread.first:
        return f"if (const int p = (int)threadIdx.x - {spread.first}; 0 <= p && p < {count})"
    return f"for (int p = threadIdx.x; p < {count}; p += {spread.threads})"


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
