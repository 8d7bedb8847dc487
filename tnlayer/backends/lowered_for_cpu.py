"""A plan lowered for a CPU: counted from its lanes, built from its loop programs."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property, lru_cache

import torch

from ..hardware.cpu import Cpu
from ..ir.loops import LoopProgram as LoopProgram
from ..ir.plan import Plan
from ..lowering.calls.training_schedules import wanted_names
from ..lowering.cpu.call_workspace import call_bytes
from ..lowering.cpu.kernel_batch import kernel_batch
from ..lowering.cpu.pipeline import finish, schedule_lanes
from ..lowering.cpu.schedule import CpuSchedule
from ..lowering.cpu.supported_plans import can_fuse
from ..targets.lowered import Lowered, plain
from ..time_models.cpu_kernels import Work, count_work, fused_step_seconds, kernel_seconds
from ..time_models.torch_calls import Seconds


@dataclass(frozen=True, eq=False)
class CpuKernel:
    """A kernel on its way from a plan to its loop program; each part is made once, when it is
    first asked for.

    Arguments:
        plan: a forward plan.
        cpu: what the kernel is made for.
        wanted: names of the inputs whose gradients it gives; None for a forward.
    """

    plan: Plan
    cpu: Cpu
    wanted: tuple[str, ...] | None

    @cached_property
    def scheduled(self) -> CpuSchedule:
        """Its lanes."""
        found = schedule_lanes(self.plan, self.cpu, backward=self.wanted is not None)
        return found if self.wanted is None else replace(found, wanted=self.wanted)

    @cached_property
    def work(self) -> Work:
        """What it does, counted."""
        return count_work(self.scheduled)

    @cached_property
    def program(self) -> LoopProgram:
        """What is printed."""
        return finish(self.scheduled)

    def program_named(self, name: str) -> LoopProgram:
        """The program with another entry point."""
        return replace(self.program, name=name)


def kernel_of(plan: Plan, cpu: Cpu, wanted: tuple[str, ...] | None = None) -> CpuKernel:
    """The kernel of a plan: the same value for all plans and batch sizes with the same code.

    Arguments:
        plan: a forward plan that can be fused.
        cpu: what it is made for.
        wanted: names of the inputs whose gradients it gives; None for a forward.
    """
    return _kernel(plain(plan, kernel_batch(plan.batch)), cpu, wanted)


# Plans of two batch sizes, and of two layers with equal networks, are searched for in calls of
# their own, between which no value can be handed on.
_kernel = lru_cache(maxsize=256)(CpuKernel)


@dataclass(frozen=True, eq=False)
class LoweredForCpu(Lowered):
    """A plan as loop programs of a CPU."""

    @property
    def cpu(self) -> Cpu:
        """What the kernels are made for."""
        return self.target.compiled_cpu

    @cached_property
    def kernels(self) -> tuple[CpuKernel, ...]:
        """The kernels of the forward and, if gradients are wanted, of the backward."""
        forward, wanted = kernel_of(self.plan, self.cpu), wanted_names(self.plan, self.mask)
        return (forward, kernel_of(self.plan, self.cpu, wanted)) if wanted else (forward,)

    @property
    def why_not(self) -> str:
        """Sizes set bounds."""
        return can_fuse(self.plan, self.cpu)

    @property
    def gains_alone(self) -> bool:
        """A part may have lanes that the whole has not."""
        return not self.kernels[0].scheduled.lanes

    @property
    def code(self) -> Plan:
        """The plan that stands for all with the same kernels."""
        return plain(self.plan, kernel_batch(self.plan.batch))

    @property
    def works(self) -> tuple[Work, ...]:
        """What the kernels do."""
        return tuple(kernel.work for kernel in self.kernels)

    def own_seconds(self, batch: int) -> Seconds:
        """Of both kernels."""
        profile = self.target.profile
        return kernel_seconds(self.plan, self.mask, batch, profile, self.cpu, works=self.works)

    def shares(self, batch: int) -> dict[str, float]:
        """Of each step in the kernels."""
        profile = self.target.profile
        return fused_step_seconds(self.plan, self.mask, batch, profile, self.cpu, works=self.works)

    @property
    def programs(self) -> tuple[LoopProgram, ...]:
        """The loop programs of the kernels."""
        return tuple(kernel.program for kernel in self.kernels)

    @property
    def workspace(self) -> int:
        """Of all threads that may share a batch."""
        return self.workspace_of(max(self.target.profile.threads, torch.get_num_threads()))

    def workspace_of(self, threads: int) -> int:
        """Bytes that the kernels allocate beside x, y, the parameters and their gradients.

        They are kept between calls, so those of forward and backward count both; nothing of them
        is of the size of the batch.

        Arguments:
            threads: that share the samples.
        """
        return sum(call_bytes(program, threads) for program in self.programs)

    @property
    def how(self) -> str:
        """What fills the vectors."""
        scheduled = self.kernels[0].scheduled
        if not scheduled.lanes:
            return f"one kernel each way, samples as lanes: {scheduled.reason}"
        names = dict(self.plan.names)
        sets = dict.fromkeys(scheduled.lanes.values())
        shown = ", then ".join(" ".join(names.get(leg, leg) for leg in lanes) for lanes in sets)
        return f"one kernel each way, legs as lanes: {shown}"
