"""A plan lowered for a GPU: its loop programs, counted."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property, lru_cache

from ..hardware.gpu import Gpu
from ..ir.plan import Plan
from ..lowering.calls.training_schedules import wanted_names
from ..lowering.gpu.pipeline import GpuSchedule, schedule_backward, schedule_forward
from ..targets.lowered import Lowered, plain
from ..time_models.gpu_kernels import (
    Work,
    count_work,
    cuda_seconds,
    cuda_step_seconds,
    staged_bytes,
    workspace_bytes,
)
from ..time_models.torch_calls import Seconds


@dataclass(frozen=True, eq=False)
class GpuKernel:
    """Kernels of one way on their way from a plan to a placed program; each part is made once, when
    it is first asked for.

    Arguments:
        plan: a forward plan.
        gpu: what the kernels are made for.
        wanted: names of the inputs whose gradients they give; None for a forward.
    """

    plan: Plan
    gpu: Gpu
    wanted: tuple[str, ...] | None

    @cached_property
    def scheduled(self) -> GpuSchedule:
        """What is printed.

        Raises:
            PlanError: no step can use the tensor cores that were asked for.
        """
        if self.wanted is None:
            return schedule_forward(self.plan, self.gpu)
        return schedule_backward(self.plan, self.wanted, self.gpu)

    @cached_property
    def work(self) -> Work:
        """What they do, counted."""
        return count_work(self.scheduled, self.gpu)


def kernel_of(plan: Plan, gpu: Gpu, wanted: tuple[str, ...] | None = None) -> GpuKernel:
    """The kernels of a plan: the same value for all plans and batch sizes with the same code.

    Arguments:
        plan: a forward plan.
        gpu: what they are made for.
        wanted: names of the inputs whose gradients they give; None for a forward.
    """
    return _kernel(plain(plan, 1), gpu, wanted)


# Plans of two batch sizes, and of two layers with equal networks, are searched for in calls of
# their own, between which no value can be handed on; finding a schedule takes most of the time.
_kernel = lru_cache(maxsize=256)(GpuKernel)


@dataclass(frozen=True, eq=False)
class LoweredForGpu(Lowered):
    """A plan as loop programs of a GPU, counted."""

    @property
    def gpu(self) -> Gpu:
        """What the kernels are made for."""
        return self.target.compiled_gpu

    @cached_property
    def kernels(self) -> tuple[GpuKernel, ...]:
        """Those of the forward and, if gradients are wanted, of the backward."""
        forward, wanted = kernel_of(self.plan, self.gpu), wanted_names(self.plan, self.mask)
        return (forward, kernel_of(self.plan, self.gpu, wanted)) if wanted else (forward,)

    @property
    def works(self) -> tuple[Work, ...]:
        """What the kernels do."""
        return tuple(kernel.work for kernel in self.kernels)

    def own_seconds(self, batch: int) -> Seconds:
        """Of both kernels."""
        return cuda_seconds(self.works, batch, self.gpu)

    def shares(self, batch: int) -> dict[str, float]:
        """Of each step in the kernels."""
        return cuda_step_seconds(self.plan, self.works, batch, self.gpu)

    @property
    def workspace(self) -> int:
        """Of the larger one of forward and backward: of the grid's size, whatever the batch."""
        return max(workspace_bytes(work.scheduled, self.gpu) for work in self.works)

    @property
    def how(self) -> str:
        """Segments, and where states lie."""
        found: list[str] = []
        for way, work in zip(("forward", "backward"), self.works, strict=False):
            scheduled = work.scheduled
            count = scheduled.segments
            text = f"{way} in {count} segment{'s' if count != 1 else ''}" if count else way
            staged = staged_bytes(scheduled)
            if staged:
                text += f", {staged:,} bytes of states of a block go through L2"
            room = workspace_bytes(scheduled, self.gpu)
            found.append(f"{text}, {room:,} bytes of workspace at any batch" if room else text)
        return f"kernels for {self.gpu.arch}: {'; '.join(found)}"
