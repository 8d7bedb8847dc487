"""The GPU's pipeline: a forward plan becomes the loop programs of its forward and its backward.

A plan has many schedules: segments in registers or one loop a step, other samples and results of a
thread. Each goes through the same passes and is counted, and the one with the fewest cycles is
taken (docs/decisions/0019-counted-schedules.md)::

    FORWARD_PASSES   once, on the forward plan; then for each schedule
    PLAN_PASSES          on the plan that is lowered
        chain in segments    lower_chain.py
        one loop a step      lower_steps.py
        tensor cores         tensor_cores/      where asked for; choose_lowering.py ranks
    LOOP_PASSES          on the loop program; then cycles, block_work.py

Each pass is one function with one value in and one out. To add one, write the function in a file of
its own and put it into a list here: FORWARD_PASSES if all schedules have it in common, PLAN_PASSES
if it needs the chain of one or the backward, LOOP_PASSES if it is about loops and memory.
``TNLAYER_DEBUG=5`` shows what each pass makes.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace

from ...errors import PlanError
from ...hardware.gpu import Gpu, Tiling
from ...ir.counts import elements
from ...ir.launches import MemoryMap
from ...ir.loops import LoopProgram
from ...ir.loops_text import launches_text, program_text
from ...ir.loops_verify import verified
from ...ir.plan import Plan
from ...ir.plan_parts import Memory
from ...ir.steps import BATCH, owner_of
from ...passes.rematerialise import backward_without_saved
from ...support.dtypes import DTYPES
from ..passes_runner import run_passes
from .barriers import find_race, insert_barriers
from .chain import Chain, adds_by_point, find_chain, points_of
from .coalescing import widen_accesses
from .launch import choose_launches
from .lower_chain import ChainLowering
from .lower_steps import Lowering
from .merge_kernels import merge_kernels
from .place_buffers import place, warp_entries
from .schedule import GpuSchedule
from .tensor_cores.choose_lowering import best_lowering
from .tensor_cores.matrices import ADVICE, OLDEST, merge_blocks

# Entries of the largest state of all samples that a block takes at once, and samples at most.
MOST_TOGETHER, MOST_SAMPLES = 1024, 16
# Samples that a thread is tried to hold, where points have weights of their own.
HELD_SAMPLES = (2, 3, 4)
# Samples of a block that are tried besides, and the part of the cycles that each has to get to.
MORE_SAMPLES, WORTH_SAMPLES = (2, 3, 4, 6, 8), 0.85


# -- passes on a plan --------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class PlanDraft:
    """A plan on its way to a schedule.

    Arguments:
        plan: a forward plan, until it is differentiated.
        gpu: what it is scheduled for.
        name: name of the program's entry point.
        stored: dtype of the arguments.
        wanted: inputs whose gradients the program gives; None for a forward.
        chain: the segments that hold the plan's state in registers; None: one loop a step.
    """

    plan: Plan
    gpu: Gpu
    name: str
    stored: str
    wanted: tuple[str, ...] | None = None
    chain: Chain | None = None


def use_arithmetic(draft: PlanDraft) -> PlanDraft:
    """In the dtype of the arithmetic, and without what a memory limit asked for: kernels keep no
    value of the size of the batch at all."""
    plan = draft.plan
    plan = replace(plan, dtype=DTYPES[plan.dtype].arithmetic, memory=Memory())
    return replace(draft, plan=plan)


def merge_for_tensor_cores(draft: PlanDraft) -> PlanDraft:
    """One step a segment, with the product of its weights, if tensor cores are asked for.

    Raises:
        PlanError: no step can use them: asked for, they are never left out silently.
    """
    plan, gpu = draft.plan, draft.gpu
    if gpu.tensor_cores is None:
        return draft
    if DTYPES[plan.dtype].itemsize != 4:
        raise PlanError(f"tensor_cores={gpu.tensor_cores!r} takes no {plan.dtype}; {ADVICE}")
    if int(gpu.arch.strip("sm_af")) < int(OLDEST.strip("sm_")):
        raise PlanError(
            f"tensor_cores={gpu.tensor_cores!r} needs {OLDEST}, not {gpu.arch}; {ADVICE}"
        )
    return replace(draft, plan=merge_blocks(plan))


def follow_chain(draft: PlanDraft) -> PlanDraft:
    """Steps in the order of the chain's segments, if there is one."""
    return draft if draft.chain is None else replace(draft, plan=draft.chain.plan)


def differentiate(draft: PlanDraft) -> PlanDraft:
    """The backward in the place of the forward, if gradients are wanted."""
    if draft.wanted is None:
        return draft
    return replace(draft, plan=backward_without_saved(draft.plan, draft.wanted))


# -- passes on a loop program ------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Draft:
    """A GPU's program on its way through the passes.

    Arguments:
        program: as far as it is done.
        gpu: what it is made for.
        stored: dtype of the arguments.
        layout: where its buffers lie; None until they are placed.
    """

    program: LoopProgram
    gpu: Gpu
    stored: str
    layout: MemoryMap | None = None


def lowered(lowering: Lowering, gpu: Gpu, name: str, stored: str) -> Draft:
    """What the passes begin with: one thread loop a step or segment, nothing placed."""
    lowering.start()
    lowering.lower_all()
    return Draft(lowering.program(name), gpu, stored)


def merge_small_kernels(draft: Draft) -> Draft:
    """All sums over blocks in one kernel, small steps in a row in one block of it."""
    return replace(draft, program=merge_kernels(draft.program))


def lay_out_memory(draft: Draft) -> Draft:
    """States in shared memory while they are needed, the largest in global memory."""
    program = draft.program
    program, layout = place(program, shared_entries(draft.gpu, program.scalar))
    return replace(draft, program=program, layout=layout)


def widen_edges(draft: Draft) -> Draft:
    """Neighbouring entries of x and y as one access."""
    wide = widen_accesses(draft.program, DTYPES[draft.stored].itemsize)
    return replace(draft, program=wide)


def put_barriers(draft: Draft) -> Draft:
    """Threads wait where one loop reads what another one writes."""
    return replace(draft, program=insert_barriers(draft.program))


def choose_threads(draft: Draft) -> Draft:
    """The grid of each kernel, and the threads that take the points of each loop."""
    assert draft.layout is not None, "buffers are placed before"
    return replace(draft, program=choose_launches(draft.program, draft.layout))


# -- the lists ---------------------------------------------------------------------------------

PlanPass = Callable[[PlanDraft], PlanDraft]
# On a forward plan, before it is known whether its state stays in registers.
FORWARD_PASSES: tuple[PlanPass, ...] = (
    use_arithmetic,
    merge_for_tensor_cores,
)
# On the plan that is lowered.
PLAN_PASSES: tuple[PlanPass, ...] = (
    follow_chain,
    differentiate,
)
LoopPass = Callable[[Draft], Draft]
# Here a lowering makes a loop program of it, and these go on. Kernels are merged before memory is
# laid out, for a value that passes inside one needs none of the call's. Barriers depend on places,
# since buffers share them. Threads come last: which loops are side by side depends on the barriers
# between them.
LOOP_PASSES: tuple[LoopPass, ...] = (
    merge_small_kernels,
    lay_out_memory,
    widen_edges,
    put_barriers,
    choose_threads,
)


def shown(draft: PlanDraft | Draft) -> str:
    """A draft as a text."""
    if isinstance(draft, PlanDraft):
        return f"{draft.name}: {draft.plan}"
    return program_text(draft.program) + launches_text(draft.program)


# -- the choice of a schedule ------------------------------------------------------------------


def schedule_forward(plan: Plan, gpu: Gpu, name: str = "forward") -> GpuSchedule:
    """The placed program of a forward plan."""
    return _scheduled(PlanDraft(plan, gpu, name, plan.dtype))


def schedule_backward(
    plan: Plan, wanted: Iterable[str], gpu: Gpu, name: str = "backward"
) -> GpuSchedule:
    """The placed program of a forward plan's gradients."""
    return _scheduled(PlanDraft(plan, gpu, name, plan.dtype, tuple(wanted)))


def _scheduled(draft: PlanDraft) -> GpuSchedule:
    """In segments where all of it fits registers; else what is counted faster."""
    draft = run_passes(FORWARD_PASSES, draft, shown)
    if draft.gpu.tensor_cores is not None:
        return _by_tensor_cores(draft)
    found = list[GpuSchedule]()
    for chain in _chains(draft):
        scheduled = by_segments(draft, chain)
        if draft.wanted is not None and scheduled is not None:
            chain, scheduled = _longer(draft, chain, scheduled)
        if scheduled is not None and _is_good(chain):
            return scheduled
        found += [scheduled] if scheduled is not None else []
    return _fastest(found, _by_steps(run_passes(PLAN_PASSES, draft, shown)))


def _longer(draft: PlanDraft, chain: Chain, scheduled: GpuSchedule) -> tuple[Chain, GpuSchedule]:
    """A backward in segments with more registers, if it is counted faster: where a block has a
    multiprocessor to itself, twice the registers cost nothing."""
    if scheduled.together > 1 or chain.held > 1:
        return chain, scheduled
    longer = find_chain(draft.plan, draft.gpu, trains=True, stored=chain.stored, alone=True)
    assert longer is not None, "more registers hold what fewer do"
    other = by_segments(draft, longer)
    if other is None:
        return chain, scheduled
    most = max(1, draft.gpu.resident // 2 // other.program.threads)
    other = replace(other, together=min(other.together, most))
    return (longer, other) if other.cycles < scheduled.cycles else (chain, scheduled)


def _chains(draft: PlanDraft) -> list[Chain]:
    """The stem in segments; where points have weights of their own, also for several samples that
    a thread holds at once."""

    def chain(held: int = 1) -> Chain | None:
        trains, stored = draft.wanted is not None, DTYPES[draft.stored].itemsize
        return find_chain(draft.plan, draft.gpu, trains=trains, stored=stored, held=held)

    found = [chain()]
    if found[0] is not None and adds_by_point(found[0]):
        found += [chain(held) for held in HELD_SAMPLES]
    return [one for one in found if one is not None]


def _is_good(chain: Chain) -> bool:
    """Whether all steps run in registers, with weights that all threads read alike: step by step
    they would take more."""
    return not adds_by_point(chain) and not any(segment.large for segment in chain.segments)


def _fastest(found: Sequence[GpuSchedule], other: GpuSchedule) -> GpuSchedule:
    """The one with the fewest cycles a sample, as they are counted; but one that takes more samples
    at once, which a small batch may not have, has to gain enough."""
    best = other
    for scheduled in sorted(found, key=lambda one: -one.program.block):
        share = WORTH_SAMPLES if best.program.block < scheduled.program.block else 1.0
        share = 1 / WORTH_SAMPLES if best.program.block > scheduled.program.block else share
        if scheduled.cycles <= share * best.cycles:
            best = scheduled
    return best


def _by_steps(draft: PlanDraft) -> GpuSchedule:
    """One thread loop a step; as many results a point and samples a block as take fewest cycles."""
    plan, gpu = draft.plan, draft.gpu

    def made(samples: int, tiling: Tiling) -> GpuSchedule:
        found = _placed(Lowering(plan, samples, gpu.threads, tiling=tiling), draft)
        assert found is not None, "only segments sum over threads"
        return found

    samples = _samples_together(plan)
    best = min((made(samples, tiling) for tiling in gpu.tilings), key=lambda one: one.cycles)
    if not any(BATCH in value.legs for value in plan.ports):
        return best
    # More samples read a weight, and add to a partial in global memory, once for all; but where
    # they do not gain enough, a small batch rather has more blocks.
    for more in MORE_SAMPLES:
        if samples < more:
            found = min((made(more, tiling) for tiling in gpu.tilings), key=lambda one: one.cycles)
            if found.cycles < WORTH_SAMPLES * best.cycles:
                best = found
    return best


def _by_tensor_cores(forward: PlanDraft) -> GpuSchedule:
    """One loop a merged step, over warps where its sizes fill the tensor cores; padded such that as
    little as possible lies in global memory, and lanes meet in banks as seldom as possible.

    Raises:
        PlanError: no step can use them: asked for, they are never left out silently.
    """
    draft, gpu = run_passes(PLAN_PASSES, forward, shown), forward.gpu
    assert gpu.tensor_cores is not None
    samples = 1 << (_samples_together(forward.plan).bit_length() - 1)
    return best_lowering(
        draft.plan, samples, gpu.threads, gpu.tensor_cores,
        lambda blocks: shared_entries(gpu, draft.plan.dtype, blocks),
        lambda lowering: _placed(lowering, draft),
    )  # fmt: skip


def by_segments(draft: PlanDraft, chain: Chain) -> GpuSchedule | None:
    """One thread loop a segment; fewer samples at once where states do not fit shared memory.

    None where sums over threads alone would fill it: then each sum is a step of its own.

    Arguments:
        draft: behind FORWARD_PASSES.
        chain: of its plan.
    """
    draft = run_passes(PLAN_PASSES, replace(draft, chain=chain), shown)
    plan, most_threads = draft.plan, draft.gpu.threads
    points = points_of(chain, plan.sizes)
    if chain.held > 1:
        return _placed(ChainLowering(plan, chain.held, most_threads, chain=chain), draft)
    samples = MOST_SAMPLES
    if any(segment.large for segment in chain.segments) or adds_by_point(chain):
        samples = 1
    while samples > 1 and samples * min(points) > most_threads // 2:
        samples //= 2
    while True:
        threads = min(most_threads, max(64, -(-samples * max(points) // 32) * 32))
        lowering = ChainLowering(plan, samples, threads, chain=chain)
        scheduled = _placed(lowering, draft)
        if scheduled is None:
            return None
        if samples == 1 or not scheduled.program.of("blockspace"):
            return scheduled
        samples //= 2


def _placed(lowering: Lowering, of: PlanDraft) -> GpuSchedule | None:
    """What the passes make of a lowering; None where sums over threads would fill shared memory."""
    gpu, stored = of.gpu, of.stored
    draft = lowered(lowering, gpu, of.name, stored)
    if warp_entries(draft.program) > shared_entries(gpu, draft.program.scalar) // 2:
        return None
    draft = run_passes(LOOP_PASSES, draft, shown)
    program, layout = verified(draft.program), draft.layout
    assert layout is not None, "a pass places the buffers"
    assert not find_race(program), find_race(program)
    loops = lowering.loops if isinstance(lowering, ChainLowering) else 0
    owners = {step.result.name: owner_of(step) for step in lowering.plan.steps}
    return GpuSchedule(program, layout, stored, loops, _together(program, layout, gpu), owners)


def _together(program: LoopProgram, layout: MemoryMap, gpu: Gpu) -> int:
    """Blocks on a multiprocessor: as many as its shared memory holds, up to the threads that leave
    enough registers. With more a compiler would spill what segments hold."""
    blocks = max(1, gpu.resident // program.threads)
    while blocks > 1 and layout.block > shared_entries(gpu, program.scalar, blocks):
        blocks -= 1
    return blocks


def shared_entries(gpu: Gpu, scalar: str, blocks: int = 1) -> int:
    """Entries of shared memory of each block if a multiprocessor holds so many. Each block takes
    1 KiB more, and a multiprocessor has that much more than one block may have."""
    return ((gpu.shared_bytes + 1024) // blocks - 1024) // DTYPES[scalar].itemsize


def _samples_together(plan: Plan) -> int:
    """Samples that fill a block's threads."""
    values = [step.result for step in plan.steps if BATCH in step.result.legs]
    largest = max((elements(v.legs, plan.sizes).at(1) for v in (*plan.ports, *values)), default=1)
    return max(1, min(MOST_SAMPLES, MOST_TOGETHER // largest))
