"""What programs have in common whose compiled kernels read arrays on the CPU by their addresses."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from functools import cached_property

import torch

from ..errors import BuildError
from ..hardware.cpu import Cpu
from ..hardware.host import cpu_with
from ..ir.backend_names import TORCH
from ..ir.plan_parts import Memory
from ..lowering.calls.training_schedules import Mask
from ..planning.memory_limit import LimitRefused, check_limit, keep_limit
from ..runtime.array_checks import PLAIN
from ..runtime.autograd import functorch_is_active, jit_state, stands_for_many
from ..runtime.program import Program
from ..targets.lowered_calls import LoweredCalls
from ..targets.target import Target, target_for
from .toolchains.find_cpp_compiler import find_compiler


def this_cpu() -> Cpu:
    """What the compiler of this machine makes of its CPU."""
    compiler = find_compiler()
    return cpu_with(compiler.vector_bytes, compiler.registers)


class CpuProgram(Program):
    """A compiled network with kernels of this machine's CPU. Where torch wants to see each call,
    the generated torch code runs instead."""

    makes_results = True

    @cached_property
    def cpu(self) -> Cpu:
        """What the kernels are made for."""
        return this_cpu()

    def target(self) -> Target:
        """This CPU."""
        return target_for(self.plan.dtype, self.device, self.cpu)

    @cached_property
    def stand_in(self) -> Program | None:  # pyright: ignore
        """torch's calls within the memory limit, for modes that want to see each call."""
        return self.as_calls()

    def as_calls(self, *, adds: bool = False, keeps: bool = True) -> Program | None:
        """torch's calls within the memory limit; None where there is none, or it cannot be kept.

        Arguments:
            adds: whether results are added to those of other networks.
            keeps: whether the forward may keep values for the backward.
        """
        limit = self.limit
        if limit is None:
            return None
        plan = replace(self.plan, regions=(), memory=Memory(adds=adds))
        calls = LoweredCalls(TORCH, plan, self.training_mask(), self.target())
        try:
            plan = keep_limit(calls, plan.batch, limit, keeps=keeps).plan
        except LimitRefused:
            return None
        return Program(self.graph, plan, self.tensor_names, limit=limit, device=self.device)

    def check_limit(self, mask: Mask) -> None:
        """Refuse a mask whose backward takes more than the memory limit; plans are made for one.

        Raises:
            PlanError: it does.
        """
        if self.limit is None:
            return
        batch = self.plan.batch
        try:
            check_limit((self.workspace_bytes(mask, batch), 0), self.limit, batch)
        except LimitRefused as error:
            raise self.refused(error) from None

    def infer(self, *arrays: torch.Tensor) -> tuple[torch.Tensor, ...]:
        """The forward where no gradient is wanted."""
        if not self.can_take(arrays):
            return self.reference(*arrays)
        return self.kernels(self.nothing).forward(*arrays)

    def can_take_gradient(self, gradient: torch.Tensor) -> bool:
        """The same for the gradient of y, which may stand for a batch of gradients besides."""
        return self.can_take((gradient,)) and not stands_for_many(gradient)

    def can_take(self, arrays: Sequence[torch.Tensor]) -> bool:
        """Whether arrays are memory of this process, which compiled code can read: torch's own, on
        the CPU, and nothing wants to see each call.

        In a backward torch.func may be active where it was not in the forward.

        Raises:
            BuildError: an array is on another device.
        """
        if torch._C._len_torch_dispatch_stack():  # pyright: ignore[reportPrivateUsage]
            return False
        if functorch_is_active() or jit_state() is not None:
            return False
        for array in arrays:
            if type(array) not in PLAIN:
                return False
            if not array.is_cpu:
                if array.is_meta:
                    return False
                msg = (
                    f"backend={self.backend!r} runs on the CPU, got an array on {array.device}; "
                    "move it with x.cpu(), or make the layer with backend='torch'"
                )
                raise BuildError(msg)
        return True


def dense(array: torch.Tensor, dtype: torch.dtype) -> torch.Tensor:
    """Entries in a row and as they are meant: no lazy conjugate or negative, no other dtype."""
    if (
        array.dtype is dtype
        and array.is_contiguous()
        and not array.is_neg()
        and not array.is_conj()
    ):
        return array
    if array.layout is not torch.strided:
        array = array.to_dense()
    return array.to(dtype).resolve_conj().resolve_neg().contiguous()
