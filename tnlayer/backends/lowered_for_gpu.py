"""A plan lowered for a GPU: its loop programs, counted."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property, lru_cache

from ..hardware.gpu import Gpu
from ..lowering.calls.training_schedules import wanted_names
from ..targets.lowered import Lowered, plain
from ..time_models.gpu_kernels import (
    Work,
    cuda_seconds,
    cuda_step_seconds,
    staged_bytes,
    works_of,
    workspace_bytes,
)
from ..time_models.torch_calls import Seconds

# Kernels are the same at all batch sizes, at some twenty of which planning and break_even compare
# them with torch's calls; finding their schedule takes most of the time of planning.
_works_of = lru_cache(maxsize=256)(works_of)


@dataclass(frozen=True, eq=False)
class LoweredForGpu(Lowered):
    """A plan as loop programs of a GPU, counted."""

    @property
    def gpu(self) -> Gpu:
        """What the kernels are made for."""
        return self.target.compiled_gpu

    @cached_property
    def works(self) -> tuple[Work, ...]:
        """The programs of the forward and, if gradients are wanted, of the backward."""
        return _works_of(plain(self.plan, 1), wanted_names(self.plan, self.mask), self.gpu)

    def without_gradients(self) -> LoweredForGpu:
        """The same forward."""
        found = replace(self, mask=(False,) * len(self.mask))
        vars(found)["works"] = self.works[:1]  # where a cached property keeps its value
        return found

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
