"""The CUDA C++ of a plan's forward and backward: scheduled for a GPU, then printed."""

from __future__ import annotations

from collections.abc import Iterable

from ..codegen.cuda.source import CudaSource, print_source
from ..errors import PlanError
from ..hardware.gpu import Gpu
from ..ir.plan import Plan
from ..lowering.gpu.pipeline import GpuSchedule, schedule_backward, schedule_forward

# Arguments of a kernel are 32,764 bytes at most: its arrays, a workspace and two counts.
MOST_ARRAYS = (32764 - 8 - 8 - 4) // 8


def forward_source(plan: Plan, gpu: Gpu, name: str = "forward") -> CudaSource:
    """The kernels of a forward plan.

    Arguments:
        plan: a forward plan.
        gpu: what they are made for.
        name: name of the persistent kernel; others begin with it.
    """
    return printed(schedule_forward(plan, gpu, name))


def backward_source(
    plan: Plan, wanted: Iterable[str], gpu: Gpu, name: str = "backward"
) -> CudaSource:
    """The kernels that give the gradients of a forward plan's inputs.

    Arguments:
        plan: a forward plan.
        wanted: names of the inputs whose gradients are wanted.
        gpu: what they are made for.
        name: name of the persistent kernel; others begin with it.
    """
    return printed(schedule_backward(plan, wanted, gpu, name))


def printed(scheduled: GpuSchedule) -> CudaSource:
    """The translation unit of a placed program.

    Raises:
        PlanError: it has more arrays than a kernel takes.
    """
    program, layout = scheduled.program, scheduled.layout
    count = len(program.of("input", "output"))
    if count > MOST_ARRAYS:
        raise PlanError(
            f"kernel {program.name!r} has {count} arrays, and a CUDA kernel takes at most "
            f"{MOST_ARRAYS}: share or freeze tensors, or use backend='torch'"
        )
    return print_source(
        program,
        layout,
        scheduled.stored,
        segments=scheduled.segments,
        together=scheduled.together,
    )
