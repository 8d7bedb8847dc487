"""The time model of CUDA kernels: counted from their loop programs, with datasheet figures.

**Not fitted: no kernel was ever timed for it.** It knows what bounds a kernel on paper:
multiply-adds and other instructions that a multiprocessor issues, its shared memory and first
cache, bytes from L2 and from memory, thread loops that wait for each other, and launches. It is
good for telling a step that belongs into a GEMM library from one that does not, and no more.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace

from ..hardware.datasheets import GpuRecord, record_of
from ..hardware.gpu import Gpu
from ..ir.launches import WARP
from ..ir.loops import Threads, statements, steps_of
from ..ir.plan import Plan
from ..lowering.gpu.block_work import BlockWork, Count, Multiprocessor, made_by, products_of
from ..lowering.gpu.pipeline import GpuSchedule
from ..support.dtypes import DTYPES
from .torch_calls import Seconds


@dataclass(frozen=True, slots=True)
class CudaCosts:
    """What is not in a datasheet; guesses from published figures of similar kernels.

    Arguments:
        of: what a multiprocessor does; its share of L2 and its memory are the device's.
        spread: how evenly L2 serves the multiprocessors.
        first, next: seconds of a call with its first launch, and of each other launch.
        branch: share of the peak that steps on parameters reach.
    """

    of: Multiprocessor = field(default_factory=Multiprocessor)
    spread: float = 0.8
    first: float = 12e-6
    next: float = 4e-6
    branch: float = 0.1


COSTS = CudaCosts()


@dataclass(slots=True)
class Work:
    """What one program does.

    Arguments:
        scheduled: the program.
        counts: what a block does for a group of samples.
        sample_bytes: bytes of inputs and results of one sample.
        once: multiply-adds on parameters, by the value that they make: before and after the
            samples, and those that each block of a full grid does for itself.
        launches: kernels.
    """

    scheduled: GpuSchedule
    counts: BlockWork
    sample_bytes: float
    once: dict[str, float]
    launches: int


def cuda_seconds(works: Sequence[Work], batch: int, gpu: Gpu, costs: CudaCosts = COSTS) -> Seconds:
    """Predicted time of the forward and backward kernels of a plan, without what autograd adds.

    Arguments:
        works: what they do.
        batch: samples of a call.
        gpu: what the kernels are made for.
        costs: what is not in a datasheet.
    """
    return Seconds(*(_seconds(work, batch, gpu, costs) for work in works))


def cuda_step_seconds(
    plan: Plan, works: Sequence[Work], batch: int, gpu: Gpu, costs: CudaCosts = COSTS
) -> dict[str, float]:
    """The share of each step in ``cuda_seconds``, with its part of the backward.

    By the name of the forward step's result; "" has what belongs to no step: launches, x and y.
    """
    found = dict.fromkeys((step.result.name for step in plan.steps), 0.0)
    total = 0.0
    for work in works:
        record = record_of(gpu.arch)
        owners = work.scheduled.owners
        for count, shares in work.counts.loops:
            spent = _busy_seconds(work, count, 1, batch, record, costs)
            own: dict[str, float] = {}
            for name, share in shares.items():
                owner = owners.get(name, "")
                if owner in found:
                    own[owner] = own.get(owner, 0.0) + share
            for owner, share in own.items():
                found[owner] += spent * share / sum(own.values())
        for name, products in work.once.items():
            owner = owners.get(name, "")
            if owner in found:
                found[owner] += _once_seconds(work, products, record, costs)
        total += _seconds(work, batch, gpu, costs)
    # What bounds the whole may be another thing than what bounds its parts.
    share = min(1.0, total / max(sum(found.values()), 1e-30))
    found = {name: share * seconds for name, seconds in found.items()}
    return found | {"": max(0.0, total - sum(found.values()))}


def workspace_bytes(scheduled: GpuSchedule, gpu: Gpu) -> int:
    """Bytes of the workspace of a program with a full grid."""
    layout = scheduled.layout
    blocks = scheduled.together * record_of(gpu.arch).multiprocessors
    return DTYPES[scheduled.program.scalar].itemsize * (layout.call + blocks * layout.row)


def staged_bytes(scheduled: GpuSchedule) -> int:
    """Bytes of states of a block that its shared memory does not hold: they go through L2."""
    program = scheduled.program
    return DTYPES[program.scalar].itemsize * program.size_of("blockspace")


# -- seconds -------------------------------------------------------------------------------------


def _seconds(work: Work, batch: int, gpu: Gpu, costs: CudaCosts) -> float:
    """A call: launches, then whatever bounds it."""
    record = record_of(gpu.arch)
    program = work.scheduled.program
    busy = _busy_seconds(work, work.counts.group, len(work.counts.loops), batch, record, costs)
    memory = batch * work.sample_bytes / record.memory_rate
    blocks = work.scheduled.together * record.multiprocessors
    partials = program.size_of("partial") * DTYPES[program.scalar].itemsize
    sums = min(blocks, -(-batch // program.block)) * partials / record.cache_rate
    once = _once_seconds(work, sum(work.once.values()), record, costs)
    launches = costs.first + (work.launches - 1) * costs.next
    return launches + max(busy, memory) + 2 * sums + once


def _once_seconds(work: Work, products: float, record: GpuRecord, costs: CudaCosts) -> float:
    """Seconds of multiply-adds on parameters."""
    peak = record.multiprocessors * record.clock * costs.of.issue * WARP
    return products * DTYPES[work.scheduled.program.scalar].work / (costs.branch * peak)


def _busy_seconds(
    work: Work, count: Count, loops: int, batch: int, record: GpuRecord, costs: CudaCosts
) -> float:
    """Seconds that the busiest multiprocessor works on its groups of samples."""
    groups = -(-batch // work.scheduled.program.block)
    turns = -(-groups // record.multiprocessors)
    resident = max(1, min(work.scheduled.together, turns))
    rate = costs.spread * record.cache_rate / record.multiprocessors / record.clock
    of = replace(costs.of, cache_bytes=rate, first_bytes=record.first_cache)
    # States of all blocks at work that L2 does not hold come from memory.
    states = resident * min(groups, record.multiprocessors) * staged_bytes(work.scheduled)
    if states > record.cache_bytes:
        slower = record.cache_rate / record.memory_rate
        count = replace(count, far_bytes=count.far_bytes * slower)
    return turns * work.counts.cycles(count, loops, resident, of) / record.clock


# -- counting ------------------------------------------------------------------------------------


def count_work(scheduled: GpuSchedule, gpu: Gpu) -> Work:
    """What a program does.

    Arguments:
        scheduled: of a forward or a backward.
        gpu: what the kernels are made for.
    """
    program = scheduled.program
    ports = [buffer for buffer in program.of("input", "output") if buffer.batched]
    outside = [*steps_of(program.before), *steps_of(program.after)]
    loops = [loop for loop in statements(outside) if isinstance(loop, Threads)]
    once: dict[str, float] = {}
    # What each block does for itself all multiprocessors do at the same time, their blocks in turn.
    own = [s for s in statements(steps_of(program.prologue)) if isinstance(s, Threads)]
    repeats = scheduled.together * record_of(gpu.arch).multiprocessors
    for loop, times in (*((loop, 1) for loop in loops), *((loop, repeats) for loop in own)):
        name = made_by(loop, program.values)
        once[name] = once.get(name, 0.0) + times * loop.points * products_of(loop.body)
    return Work(
        scheduled,
        scheduled.counts,
        DTYPES[scheduled.stored].itemsize * sum(buffer.size for buffer in ports),
        once,
        len(outside) + bool(program.samples),
    )
