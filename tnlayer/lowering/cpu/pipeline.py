"""The CPU's pipeline: a forward plan becomes the loop programs of its forward and its backward.

Each pass is one function with one value in and one out. To add one, write the function in a file of
its own and put it into a list here. ``TNLAYER_DEBUG=5`` shows what each pass makes.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace
from functools import lru_cache

from ...hardware.cpu import Cpu
from ...ir.loops import Program
from ...ir.loops_text import program_text
from ...ir.loops_verify import verified
from ...ir.plan import Plan
from ...ir.plan_parts import Memory
from ...passes.rematerialise import backward_without_saved
from ...support.debug import debug, debug_level
from ...support.dtypes import DTYPES
from .choose_lanes import choose_lanes
from .fuse import lower_steps
from .fuse_loops import find_groups
from .lane_rotation import turns_of_backward
from .prefetch import prefetch_next
from .reduce import carry_sums
from .scheduled import Scheduled
from .vector_phases import lanes_of_backward
from .workspace import place_buffers

# Steps of a backward beyond which the code of each gets shorter, and the least share that is left.
MANY_STEPS, LEAST_SHARE = 56, 8


# -- passes on a plan ------------------------------------------------------------------------------


def use_arithmetic(scheduled: Scheduled) -> Scheduled:
    """In the dtype of the arithmetic, and without what a memory limit asked for: kernels keep no
    value of the size of the batch at all."""
    plan = scheduled.plan
    plan = replace(plan, dtype=DTYPES[plan.dtype].arithmetic, memory=Memory())
    return replace(scheduled, plan=plan)


def differentiate(scheduled: Scheduled) -> Scheduled:
    """The backward in the place of the forward, if gradients are wanted; a step has the lanes of
    the one that it differentiates."""
    if scheduled.wanted is None:
        return scheduled
    forward = scheduled.plan
    backward = backward_without_saved(forward, scheduled.wanted)
    lanes, stored = scheduled.lanes, scheduled.stored
    if stored:
        lanes, stored = turns_of_backward(forward, backward, lanes, stored)
    elif lanes:
        lanes = lanes_of_backward(lanes, backward)
    return replace(scheduled, plan=backward, lanes=lanes, stored=stored)


def shorten_code(scheduled: Scheduled) -> Scheduled:
    """Fewer products written out in the code of each step of a backward: it has five times the
    steps of a forward. Half the code for each, and less where there are very many, keeps the
    compiler under seconds."""
    if scheduled.wanted is None:
        return scheduled
    cpu = scheduled.cpu
    share = min(1.0, MANY_STEPS / max(1, len(scheduled.plan.steps))) ** 2
    written_out = max(cpu.written_out // LEAST_SHARE, int(cpu.written_out / 2 * share))
    return replace(scheduled, cpu=replace(cpu, written_out=written_out))


def group_steps(scheduled: Scheduled) -> Scheduled:
    """Steps that run together, so that a part of a large state stays near (fuse_loops.py)."""
    groups = find_groups(scheduled.plan, scheduled.step_lanes, scheduled.stored, scheduled.sizes)
    return replace(scheduled, groups=groups)


# -- passes on a loop program ----------------------------------------------------------------------


def place_workspace(program: Program) -> Program:
    """Each buffer of the workspace at its offset (workspace.py)."""
    buffers = place_buffers(program.buffers, program.samples, program.width)
    return replace(program, buffers=buffers)


def prefetch_samples(program: Program) -> Program:
    """Each step with its share of what the next block reads and writes (prefetch.py)."""
    itemsize = DTYPES[program.scalar].itemsize
    samples = prefetch_next(program.samples, program.buffers, program.block, itemsize)
    return replace(program, samples=samples)


# -- the lists -------------------------------------------------------------------------------------

# On a forward plan; what they decide is asked for by itself, too (schedule_lanes).
SCHEDULE_PASSES: tuple[Callable[[Scheduled], Scheduled], ...] = (
    use_arithmetic,
    choose_lanes,
)
# On the plan that is lowered.
PLAN_PASSES: tuple[Callable[[Scheduled], Scheduled], ...] = (
    differentiate,
    shorten_code,
    group_steps,
)
# Here ``lower_steps`` makes a loop program of it (fuse.py), and these go on.
LOOP_PASSES: tuple[Callable[[Program], Program], ...] = (
    carry_sums,
    place_workspace,
    prefetch_samples,
)


@lru_cache(maxsize=256)
def schedule_lanes(plan: Plan, cpu: Cpu, *, backward: bool = False) -> Scheduled:
    """Legs or samples as lanes, whichever is foreseen to be faster for few or for many samples.

    Arguments:
        plan: a forward plan.
        cpu: what is scheduled for.
        backward: whether the lanes of the backward are wanted; they may be others.
    """
    name, wanted = ("backward", ()) if backward else ("forward", None)
    found = Scheduled(plan, cpu, name, wanted)
    for one in SCHEDULE_PASSES:
        found = one(found)
        _show(one.__name__, found)
    return found


def lower(scheduled: Scheduled) -> Iterator[tuple[str, Scheduled | Program]]:
    """Each pass behind the schedule by its name, with what it made; the last is the program."""
    for plan_pass in PLAN_PASSES:
        scheduled = plan_pass(scheduled)
        yield plan_pass.__name__, scheduled
    program = lower_steps(scheduled)
    yield lower_steps.__name__, program
    for loop_pass in LOOP_PASSES:
        program = loop_pass(program)
        yield loop_pass.__name__, program


def _finish(scheduled: Scheduled) -> Program:
    """The program that the passes make."""
    found: Scheduled | Program = scheduled
    for name, found in lower(scheduled):
        _show(name, found)
    assert isinstance(found, Program), "the last pass makes a program"
    return verified(found)


def _show(name: str, made: Scheduled | Program) -> None:
    """What a pass made, where TNLAYER_DEBUG asks for it."""
    if debug_level() >= 5:  # the text of a program takes longer than most passes
        text = program_text(made) if isinstance(made, Program) else str(made)
        debug(5, f"after {name} of {made.name}:\n{text}")


def forward_program(plan: Plan, cpu: Cpu, name: str = "forward") -> Program:
    """The program of a forward plan."""
    return _finish(replace(schedule_lanes(plan, cpu), name=name))


def backward_program(
    plan: Plan, wanted: Iterable[str], cpu: Cpu, name: str = "backward"
) -> Program:
    """The program that gives the gradients of a forward plan's inputs."""
    scheduled = schedule_lanes(plan, cpu, backward=True)
    return _finish(replace(scheduled, name=name, wanted=tuple(wanted)))
