"""A plan lowered for a CPU: counted from its lanes, built from its loop programs."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property, lru_cache

import torch

from ..hardware.cpu import Cpu
from ..ir.loops import LoopProgram as LoopProgram
from ..lowering.calls.training_schedules import wanted_names
from ..lowering.cpu.batch_sizes import kernel_batch
from ..lowering.cpu.call_workspace import call_bytes
from ..lowering.cpu.pipeline import backward_program, forward_program, schedule_lanes
from ..targets.lowered import Lowered, plain
from ..time_models.cpu_kernels import Work, count_works, fused_step_seconds, kernel_seconds
from ..time_models.torch_calls import Seconds

# Kernels are the same for few samples and for many; planning and break_even compare them with
# torch's calls at some twenty batch sizes.
_count_works = lru_cache(maxsize=256)(count_works)


@dataclass(frozen=True, eq=False)
class LoweredForCpu(Lowered):
    """A plan as loop programs of a CPU."""

    @property
    def cpu(self) -> Cpu:
        """What the kernels are made for."""
        return self.target.compiled_cpu

    @cached_property
    def works(self) -> tuple[Work, ...]:
        """What the kernels do."""
        return _count_works(plain(self.plan, kernel_batch(self.plan.batch)), self.mask, self.cpu)

    def without_gradients(self) -> LoweredForCpu:
        """The same forward."""
        found = replace(self, mask=(False,) * len(self.mask))
        vars(found)["works"] = self.works[:1]  # where a cached property keeps its value
        return found

    def own_seconds(self, batch: int) -> Seconds:
        """Of both kernels."""
        profile = self.target.profile
        return kernel_seconds(self.plan, self.mask, batch, profile, self.cpu, works=self.works)

    def shares(self, batch: int) -> dict[str, float]:
        """Of each step in the kernels."""
        profile = self.target.profile
        return fused_step_seconds(self.plan, self.mask, batch, profile, self.cpu, works=self.works)

    @cached_property
    def programs(self) -> tuple[LoopProgram, ...]:
        """The loop programs of the forward and, if gradients are wanted, of the backward."""
        forward = forward_program(self.plan, self.cpu)
        wanted = wanted_names(self.plan, self.mask)
        return (forward, backward_program(self.plan, wanted, self.cpu)) if wanted else (forward,)

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
        scheduled = schedule_lanes(self.plan, self.cpu)
        if not scheduled.lanes:
            return f"one kernel each way, samples as lanes: {scheduled.reason}"
        names = dict(self.plan.names)
        sets = dict.fromkeys(scheduled.lanes.values())
        shown = ", then ".join(" ".join(names.get(leg, leg) for leg in lanes) for lanes in sets)
        return f"one kernel each way, legs as lanes: {shown}"
