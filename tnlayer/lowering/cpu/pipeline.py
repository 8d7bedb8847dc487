"""The CPU's pipeline: a forward plan becomes the loop programs of its forward and its backward.

Each pass is one function with one value in and one out. To add one, write the function in a file of
its own and put it into a list here. ``TNLAYER_DEBUG=5`` shows what each pass makes.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace

from ...hardware.cpu import Cpu
from ...ir.loops import LoopProgram
from ...ir.loops_text import program_text
from ...ir.loops_verify import verified
from ...ir.plan import Plan
from ...ir.plan_parts import Memory
from ...passes.rematerialise import backward_without_saved
from ...support.dtypes import DTYPES
from ..passes_runner import after_each, run_passes, show_after
from .call_workspace import lay_out_workspace
from .choose_lanes import choose_lanes
from .fuse_loops import find_groups
from .lane_rotation import rotations_of_backward
from .lower_steps import lower_steps
from .place_buffers import place_buffers
from .prefetch import prefetch_next
from .schedule import CpuSchedule
from .shuffle_network import find_shuffles
from .sums_over_threads import carry_sums
from .vector_phases import lanes_of_backward

# Steps of a backward beyond which the code of each gets shorter, and the least share that is left.
MANY_STEPS, LEAST_SHARE = 56, 8


# -- passes on a plan ------------------------------------------------------------------------------


def use_arithmetic(scheduled: CpuSchedule) -> CpuSchedule:
    """In the dtype of the arithmetic, and without what a memory limit asked for: kernels keep no
    value of the size of the batch at all."""
    dtype = DTYPES[scheduled.plan.dtype]
    plan = replace(scheduled.plan, dtype=dtype.arithmetic, memory=Memory())
    return replace(scheduled, plan=plan, arguments=dtype.name if dtype.is_stored_only else "")


def differentiate(scheduled: CpuSchedule) -> CpuSchedule:
    """The backward in the place of the forward, if gradients are wanted; a step has the lanes of
    the one that it differentiates."""
    if scheduled.wanted is None:
        return scheduled
    forward = scheduled.plan
    backward = backward_without_saved(forward, scheduled.wanted)
    lanes, stored = scheduled.lanes, scheduled.stored
    if stored:
        lanes, stored = rotations_of_backward(forward, backward, lanes, stored)
    elif lanes:
        lanes = lanes_of_backward(lanes, backward)
    return replace(scheduled, plan=backward, lanes=lanes, stored=stored)


def shorten_code(scheduled: CpuSchedule) -> CpuSchedule:
    """Fewer products written out in the code of each step of a backward: it has five times the
    steps of a forward. Half the code for each, and less where there are very many, keeps the
    compiler under seconds."""
    if scheduled.wanted is None:
        return scheduled
    cpu = scheduled.cpu
    share = min(1.0, MANY_STEPS / max(1, len(scheduled.plan.steps))) ** 2
    written_out = max(cpu.written_out // LEAST_SHARE, int(cpu.written_out / 2 * share))
    return replace(scheduled, cpu=replace(cpu, written_out=written_out))


def group_steps(scheduled: CpuSchedule) -> CpuSchedule:
    """Steps that run together, so that a part of a large state stays near (fuse_loops.py)."""
    groups = find_groups(scheduled.plan, scheduled.step_lanes, scheduled.stored, scheduled.sizes)
    return replace(scheduled, groups=groups)


# -- passes on a loop program ----------------------------------------------------------------------


def place_workspace(program: LoopProgram) -> LoopProgram:
    """Each buffer of the workspace at its offset (place_buffers.py)."""
    buffers = place_buffers(program.buffers, program.samples, program.width)
    return replace(program, buffers=buffers)


def prefetch_samples(program: LoopProgram) -> LoopProgram:
    """Each step with its share of what the next block reads and writes (prefetch.py); arguments of
    another dtype are read and written as a whole, in a row, between blocks."""
    if program.arguments:
        return program
    itemsize = DTYPES[program.scalar].itemsize
    samples = prefetch_next(program.samples, program.buffers, program.block, itemsize)
    return replace(program, samples=samples)


# -- the lists -------------------------------------------------------------------------------------

# On a forward plan; what they decide is asked for by itself, too (schedule_lanes).
SCHEDULE_PASSES: tuple[Callable[[CpuSchedule], CpuSchedule], ...] = (
    use_arithmetic,
    choose_lanes,
)
# On the plan that is lowered.
PLAN_PASSES: tuple[Callable[[CpuSchedule], CpuSchedule], ...] = (
    differentiate,
    shorten_code,
    group_steps,
)
# Here ``lower_steps`` makes a loop program of it (lower_steps.py), and these go on.
LOOP_PASSES: tuple[Callable[[LoopProgram], LoopProgram], ...] = (
    carry_sums,
    find_shuffles,
    place_workspace,
    lay_out_workspace,
    prefetch_samples,
)


def schedule_lanes(plan: Plan, cpu: Cpu, *, backward: bool = False) -> CpuSchedule:
    """Legs or samples as lanes, whichever is foreseen to be faster for few or for many samples.

    Arguments:
        plan: a forward plan.
        cpu: what is scheduled for.
        backward: whether the lanes of the backward are wanted; they may be others.
    """
    name, wanted = ("backward", ()) if backward else ("forward", None)
    return run_passes(SCHEDULE_PASSES, CpuSchedule(plan, cpu, name, wanted), _text)


def lower(scheduled: CpuSchedule) -> Iterator[tuple[str, CpuSchedule | LoopProgram]]:
    """Each pass behind the schedule by its name, with what it made; the last is the program."""
    for name, after in after_each(PLAN_PASSES, scheduled):
        scheduled = after
        yield name, scheduled
    program = lower_steps(scheduled)
    yield lower_steps.__name__, program
    yield from after_each(LOOP_PASSES, program)


def finish(scheduled: CpuSchedule) -> LoopProgram:
    """The program that the passes behind the schedule make."""
    found: CpuSchedule | LoopProgram = scheduled
    for name, found in lower(scheduled):
        show_after(name, found, _text)
    assert isinstance(found, LoopProgram), "the last pass makes a program"
    return verified(found)


def _text(made: CpuSchedule | LoopProgram) -> str:
    return program_text(made) if isinstance(made, LoopProgram) else f"{made.name}: {made}"


def forward_program(plan: Plan, cpu: Cpu, name: str = "forward") -> LoopProgram:
    """The program of a forward plan."""
    return finish(replace(schedule_lanes(plan, cpu), name=name))


def backward_program(
    plan: Plan, wanted: Iterable[str], cpu: Cpu, name: str = "backward"
) -> LoopProgram:
    """The program that gives the gradients of a forward plan's inputs."""
    scheduled = schedule_lanes(plan, cpu, backward=True)
    return finish(replace(scheduled, name=name, wanted=tuple(wanted)))
