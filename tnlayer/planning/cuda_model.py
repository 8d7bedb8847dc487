"""The time model of CUDA kernels: counted from their loop programs, with datasheet figures.

**Not fitted: no kernel was ever timed for it.** It knows what bounds a kernel on paper:
multiply-adds and other instructions that a multiprocessor issues, its shared memory and first
cache, bytes from L2 and from memory, thread loops that wait for each other, and launches. It is
good for telling a step that belongs into a GEMM library from one that does not, and no more.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass, field
from functools import lru_cache

from tnlayer.device.gpus import GpuRecord, record_of
from tnlayer.kernels.cuda_exchange import WARP
from tnlayer.kernels.cuda_prelude import itemsize
from tnlayer.kernels.cuda_source import (
    Gpu,
    Scheduled,
    schedule_backward,
    schedule_forward,
)
from tnlayer.kernels.loops import (
    At,
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
from tnlayer.kernels.pair import Mask, wanted_names
from tnlayer.plan.plan import ITEMSIZES, Plan
from tnlayer.plan.regions import batched_steps, stem_owners
from tnlayer.planning.time_model import Seconds


@dataclass(frozen=True, slots=True)
class CudaCosts:
    """What is not in a datasheet; guesses from published figures of similar kernels.

    Arguments:
        issue: instructions that a multiprocessor issues a cycle.
        warps: that it needs to issue that many.
        first_cache: cycles of a load from the first cache, where one from shared memory takes one.
        wait: cycles for which a thread loop waits at its barrier and for its first loads.
        spread: how evenly L2 serves the multiprocessors.
        first, next: seconds of a call with its first launch, and of each other launch.
        branch: share of the peak that steps on parameters reach.
    """

    issue: float = 4.0
    warps: float = 8.0
    first_cache: float = 2.0
    wait: float = 600.0
    spread: float = 0.8
    first: float = 12e-6
    next: float = 4e-6
    branch: float = 0.1


COSTS = CudaCosts()
# Multiply-adds of real numbers in one product, in those of float32.
_FACTORS = {"float32": 1.0, "float64": 2.0, "complex64": 4.0, "complex128": 8.0}


@dataclass(slots=True)
class Count:
    """What one group of samples costs a block, in instructions of whole warps and in bytes.

    Arguments:
        products: multiply-adds.
        moves: other instructions.
        shared: words of shared memory that a warp reads or writes, each for all lanes.
        cached: the same of global memory that all samples share, in the first cache if it fits.
        far_bytes: bytes from and to L2: states of blocks that shared memory does not hold.
    """

    products: float = 0.0
    moves: float = 0.0
    shared: float = 0.0
    cached: float = 0.0
    far_bytes: float = 0.0

    def add(self, other: Count) -> None:
        """Sum up."""
        for name in ("products", "moves", "shared", "cached", "far_bytes"):
            setattr(self, name, getattr(self, name) + getattr(other, name))


@dataclass(slots=True)
class Work:
    """What one program does.

    Arguments:
        scheduled: the program.
        loops: a count for each thread loop of a group, with the plan steps it has and the share of
            each in its multiply-adds.
        group: all of them together.
        weights: bytes of global memory that each group reads again.
        sample_bytes: bytes of inputs and results of one sample.
        once: multiply-adds before and after the samples.
        launches: kernels.
    """

    scheduled: Scheduled
    loops: list[tuple[Count, dict[str, float]]] = field(
        default_factory=list[tuple[Count, dict[str, float]]]
    )
    group: Count = field(default_factory=Count)
    weights: float = 0.0
    sample_bytes: float = 0.0
    once: float = 0.0
    launches: int = 1


def cuda_seconds(plan: Plan, mask: Mask, batch: int, gpu: Gpu, costs: CudaCosts = COSTS) -> Seconds:
    """Predicted time of the forward and backward kernels of a plan, without what autograd adds.

    Arguments:
        plan: a forward plan.
        mask: for each input, whether its gradient is wanted.
        batch: samples of a call.
        gpu: what the kernels are made for.
        costs: what is not in a datasheet.
    """
    works = _works(plan, wanted_names(plan, mask), gpu)
    return Seconds(*(_seconds(work, batch, gpu, costs) for work in works))


def cuda_step_seconds(
    plan: Plan, mask: Mask, batch: int, gpu: Gpu, costs: CudaCosts = COSTS
) -> dict[str, float]:
    """The share of each batched step in ``cuda_seconds``, with its part of the backward.

    By the name of the forward step's result; "" has what belongs to no step: launches, x and y.
    """
    owners = stem_owners(plan)
    found = dict.fromkeys((step.result.name for step in batched_steps(plan)), 0.0)
    total = 0.0
    for work in _works(plan, wanted_names(plan, mask), gpu):
        record = record_of(gpu.arch)
        for count, shares in work.loops:
            spent = _busy_seconds(work, count, 1, batch, record, costs)
            own: dict[str, float] = {}
            for name, share in shares.items():
                owner = owners.get(name, "")
                if owner in found:
                    own[owner] = own.get(owner, 0.0) + share
            for owner, share in own.items():
                found[owner] += spent * share / sum(own.values())
        total += _seconds(work, batch, gpu, costs)
    # What bounds the whole may be another thing than what bounds its parts.
    share = min(1.0, total / max(sum(found.values()), 1e-30))
    found = {name: share * seconds for name, seconds in found.items()}
    return found | {"": max(0.0, total - sum(found.values()))}


def cuda_bytes(plan: Plan, mask: Mask, gpu: Gpu) -> int:
    """Bytes of workspace of the larger one of forward and backward: of the grid's size at most,
    whatever the batch."""
    works = _works(plan, wanted_names(plan, mask), gpu)
    return max(workspace_bytes(work.scheduled, gpu) for work in works)


def workspace_bytes(scheduled: Scheduled, gpu: Gpu) -> int:
    """Bytes of the workspace of a program with a full grid."""
    layout = scheduled.layout
    blocks = scheduled.together * record_of(gpu.arch).multiprocessors
    return itemsize(scheduled.program.scalar) * (layout.call + blocks * layout.row)


def staged_bytes(scheduled: Scheduled) -> int:
    """Bytes of states of a block that its shared memory does not hold: they go through L2."""
    program = scheduled.program
    return itemsize(program.scalar) * program.size_of("blockspace")


@lru_cache(maxsize=512)
def scheduled_pair(plan: Plan, wanted: tuple[str, ...], gpu: Gpu) -> tuple[Scheduled, ...]:
    """The programs of the forward and, if gradients are wanted, of the backward."""
    forward = schedule_forward(plan, gpu)
    return (forward, schedule_backward(plan, wanted, gpu)) if wanted else (forward,)


# -- seconds -------------------------------------------------------------------------------------


def _seconds(work: Work, batch: int, gpu: Gpu, costs: CudaCosts) -> float:
    """A call: launches, then whatever bounds it."""
    record = record_of(gpu.arch)
    program = work.scheduled.program
    peak = record.multiprocessors * record.clock * costs.issue * WARP
    busy = _busy_seconds(work, work.group, len(work.loops), batch, record, costs)
    memory = batch * work.sample_bytes / record.memory_rate
    blocks = work.scheduled.together * record.multiprocessors
    partials = program.size_of("partial") * itemsize(program.scalar)
    sums = min(blocks, -(-batch // program.block)) * partials / record.cache_rate
    once = work.once * _FACTORS[program.scalar] / (costs.branch * peak)
    launches = costs.first + (work.launches - 1) * costs.next
    return launches + max(busy, memory) + 2 * sums + once


def _busy_seconds(
    work: Work, count: Count, loops: int, batch: int, record: GpuRecord, costs: CudaCosts
) -> float:
    """Seconds that the busiest multiprocessor works on its groups of samples."""
    program, together = work.scheduled.program, work.scheduled.together
    groups = -(-batch // program.block)
    turns = -(-groups // record.multiprocessors)
    resident = max(1, min(together, turns))
    size = itemsize(program.scalar)
    words = size / 4
    warps = resident * program.threads / WARP
    issued = (_FACTORS[program.scalar] * count.products + count.moves) / costs.issue
    issued /= min(1.0, warps / costs.warps)
    ports = words * (count.shared + costs.first_cache * count.cached)
    # What the first cache does not hold is read again from L2 by each group, in its share.
    room = record.first_cache - together * work.scheduled.layout.block * size
    far = 0.0
    if work.weights > max(0, room):
        far += work.weights * count.cached / max(1.0, work.group.cached)
    # States of all blocks at work that L2 does not hold come from memory.
    states = resident * min(groups, record.multiprocessors) * staged_bytes(work.scheduled)
    slower = record.cache_rate / record.memory_rate if states > record.cache_bytes else 1.0
    far += count.far_bytes * slower
    rate = costs.spread * record.cache_rate / record.multiprocessors / record.clock
    each = max(issued, ports, far / rate)
    waits = loops * costs.wait / resident
    return turns * (each + waits) / record.clock


# -- counting ------------------------------------------------------------------------------------


@lru_cache(maxsize=512)
def _works(plan: Plan, wanted: tuple[str, ...], gpu: Gpu) -> tuple[Work, ...]:
    return tuple(_work(scheduled, plan) for scheduled in scheduled_pair(plan, wanted, gpu))


def _work(scheduled: Scheduled, plan: Plan) -> Work:
    """Count a program."""
    program = scheduled.program
    spaces = {
        buffer.name: "samples"
        if buffer.batched
        else "block"
        if buffer.name in scheduled.layout.partials
        else buffer.space
        for buffer in program.buffers
    }
    work = Work(scheduled)
    read: set[str] = set()
    for step in _steps(program.samples):
        for loop in step.body:
            if isinstance(loop, Threads):
                count, shares = _loop(loop, spaces, program, read)
                work.loops.append((count, shares))
                work.group.add(count)
    size = itemsize(program.scalar)
    work.weights = size * sum(b.size for b in program.buffers if b.name in read)
    ports = [buffer for buffer in program.of("input", "output") if buffer.batched]
    work.sample_bytes = ITEMSIZES[plan.dtype] * sum(buffer.size for buffer in ports)
    outside = [*_steps(program.before), *_steps(program.after)]
    loops = [loop for loop in statements(outside) if isinstance(loop, Threads)]
    work.once = sum(loop.points * _products(loop.body) for loop in loops)
    work.launches = len(outside) + bool(program.samples)
    return work


def _steps(part: Iterable[Statement]) -> list[Step]:
    return [step for step in part if isinstance(step, Step)]


def _products(body: Iterable[Statement]) -> float:
    return sum(
        float(_terms(s) * len(s.rows) * len(s.columns)) for s in body if isinstance(s, Tile)
    ) + sum(1.0 for s in body if isinstance(s, SumLanes | Fill))


def _terms(tile: Tile) -> int:
    found = len(tile.sums)
    for axis in tile.loops:
        found *= axis.count
    return found


def _loop(
    loop: Threads, spaces: dict[str, str], program: Program, read: set[str]
) -> tuple[Count, dict[str, float]]:
    """A thread loop: its count, and the share of each result in it; notes weights that are read."""
    count, shares = Count(), dict[str, float]()
    warps = -(-loop.points // WARP)
    size = itemsize(program.scalar)

    def access(buffer: str, times: float, wide: int = 1) -> None:
        space = spaces[buffer]
        if space == "register":
            return
        count.moves += warps * times / (wide if space == "samples" else 1)
        if space == "block":
            count.shared += warps * times
        elif space in ("blockspace", "partial"):
            count.far_bytes += loop.points * times * size
        elif space != "samples":
            count.cached += warps * times
            read.add(buffer)

    seen: set[tuple[object, ...]] = set()

    def fresh(at: At, offsets: Iterable[int], times: int) -> int:
        """Entries that the loop has not loaded yet: a compiler loads each of them once."""
        if times > 1:
            return times * len(list(offsets))
        entries = {(at.buffer, at.terms, at.offset + offset) for offset in offsets} - seen
        seen.update(entries)
        return len(entries)

    for statement in loop.body:
        match statement:
            case Tile():
                terms, repeats = _terms(statement), _terms(statement) // len(statement.sums)
                left = (r + k for r, _ in statement.rows for k, _ in statement.sums)
                wide = statement.wide  # so many entries of x or y in one instruction
                access(statement.left.buffer, fresh(statement.left, left, repeats), wide)
                made = len(statement.rows) * len(statement.columns)
                if statement.right is not None:
                    right = (c + k for c, _ in statement.columns for _, k in statement.sums)
                    access(statement.right.buffer, fresh(statement.right, right, repeats))
                    count.products += warps * made * terms
                access(statement.target.buffer, made * (2 if statement.adds else 1), wide)
                name = _owner(statement.target.buffer)
                shares[name] = shares.get(name, 0.0) + made * terms
            case SumThreads():
                # Halving: about one exchange an entry, with its addition, and one to memory.
                count.shared += 3 * warps * statement.count
                count.moves += 4 * warps * statement.count
                name = _owner(statement.target.buffer)
                shares[name] = shares.get(name, 0.0) + 4 * statement.count
            case Fill():
                access(statement.target.buffer, statement.count)
            case _:
                pass
    return count, shares


def _owner(buffer: str) -> str:
    """The value that a buffer holds: names of registers begin with their segment's, those of
    partials end with "_p"."""
    return re.sub(r"^[fr]\d+_", "", buffer.removeprefix("out_")).removesuffix("_p")
