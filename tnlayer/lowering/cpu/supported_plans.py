"""Which plans become kernels: sizes set the bounds, kinds of steps do not."""

from __future__ import annotations

from ...hardware.cpu import Cpu
from ...ir.counts import elements
from ...ir.cuts import batched_steps
from ...ir.plan import Plan
from ...ir.steps import BATCH
from ...support.dtypes import DTYPES
from .compare_lanes_and_blocks import MOST_SAMPLES
from .pipeline import schedule_lanes

# Entries of one array, whose offsets are ints, and of all that a thread keeps: 2 GiB of float32.
MOST_ENTRIES = 2**30
MOST_ROOM = 2**29


def can_fuse(plan: Plan, cpu: Cpu) -> str:
    """Why a forward plan cannot become fused kernels, as a text; "" if it can.

    Every kind of step can be fused; sizes set the bounds: an offset has 32 bits, and each thread
    keeps the states of a block of samples and vectors of partial sums.

    Arguments:
        plan: a forward plan.
        cpu: what the kernels would be made for.
    """
    width = cpu.width(DTYPES[plan.dtype].arithmetic)
    # Most plans fit in any case; whether legs can be lanes is a search.
    if not _does_not_fit(plan, width, max(width, MOST_SAMPLES)):
        return ""
    block = max(schedule_lanes(plan, cpu, backward=back).block for back in (False, True))
    return _does_not_fit(plan, width, block)


def _does_not_fit(plan: Plan, width: int, block: int) -> str:
    """Which bound a plan breaks where so many samples run at once; "" if none."""
    states = weights = 0
    for step in batched_steps(plan):
        entries = elements(step.result.legs, plan.sizes).at(block)
        if entries > MOST_ENTRIES:
            return (
                f"step {step.result.name} makes {entries} entries for a block of {block} samples; "
                f"kernels take at most {MOST_ENTRIES}"
            )
        states += entries
        for operand in step.operands:
            if BATCH not in operand.legs:
                weights += elements(operand.legs, plan.sizes).fixed
    needed = states + weights * width
    if needed > MOST_ROOM:
        return (
            f"the backward needs room for {needed} entries a thread ({states} of states, {weights} "
            f"weights with {width} partial sums each); kernels take at most {MOST_ROOM}"
        )
    return ""
