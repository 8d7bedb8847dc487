"""Compiled kernels of either kind, as planning sees them: whether, how long, how much memory."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from functools import lru_cache

from ..hardware.cpu import Cpu
from ..ir.backend_names import CUDA
from ..ir.plan import Plan
from ..ir.steps import Value
from ..lowering.calls.pair import Mask, wanted_names
from ..lowering.cpu.bounds import can_fuse
from ..lowering.cpu.call_workspace import call_bytes
from ..lowering.cpu.pipeline import backward_program, forward_program
from ..support.dtypes import DTYPES
from . import loops_cpu, loops_gpu
from .calls import Seconds, with_autograd
from .loops_cpu import fused_step_seconds, kernel_seconds
from .loops_gpu import cuda_bytes, cuda_seconds, cuda_step_seconds
from .rates import Rates


def why_no_kernels(plan: Plan, backend: str) -> str:
    """Why a forward plan cannot become kernels of a backend; "" if it can."""
    return "" if backend == CUDA else can_fuse(plan)


def compiled_seconds(backend: str, plan: Plan, mask: Mask, batch: int, rates: Rates) -> Seconds:
    """Predicted time of the kernels of a plan, without what autograd adds."""
    if backend == CUDA:
        return cuda_seconds(plan, mask, batch, rates.compiled_gpu)
    return kernel_seconds(plan, mask, batch, rates.profile, rates.compiled_cpu)


def whole_seconds(backend: str, plan: Plan, mask: Mask, batch: int, rates: Rates) -> Seconds:
    """As ``compiled_seconds``, through autograd."""
    found = compiled_seconds(backend, plan, mask, batch, rates)
    if not any(mask):
        return found
    return with_autograd(found.forward, found.backward, len(plan.inputs), rates.times)


def compiled_step_seconds(
    backend: str, plan: Plan, mask: Mask, batch: int, rates: Rates
) -> dict[str, float]:
    """The share of each step, with its part of the backward; "" has the rest."""
    if backend == CUDA:
        return cuda_step_seconds(plan, mask, batch, rates.compiled_gpu)
    return fused_step_seconds(plan, mask, batch, rates.profile, rates.compiled_cpu)


def start_seconds(backend: str, mask: Mask, rates: Rates) -> float:
    """What the calls of a region of kernels cost before any work is done."""
    if backend == CUDA:
        return loops_gpu.COSTS.first * (2 if any(mask) else 1)
    start = loops_cpu.start_seconds(rates.profile)
    return start.total if any(mask) else start.forward


def compiled_bytes(backend: str, plan: Plan, mask: Mask, rates: Rates, threads: int) -> int:
    """Bytes that kernels allocate beside x, y, the parameters and their gradients; none of it is of
    the batch's size.

    Arguments:
        threads: of the CPU that share the samples.
    """
    if backend == CUDA:
        return cuda_bytes(plan, mask, rates.compiled_gpu)
    return kernel_bytes(plan, mask, rates.compiled_cpu, threads)


@lru_cache(maxsize=256)
def kernel_bytes(plan: Plan, mask: Mask, cpu: Cpu, threads: int) -> int:
    """Bytes that compiled kernels allocate beside x, y, the parameters and their gradients.

    They are kept between calls, so those of forward and backward count both; nothing of them is of
    the size of the batch.

    Arguments:
        plan: a forward plan that can be fused.
        mask: for each input, whether its gradient is wanted.
        cpu: what the kernels are made for.
        threads: that share the samples.
    """
    programs = [forward_program(plan, cpu)]
    wanted = wanted_names(plan, mask)
    if wanted:
        programs.append(backward_program(plan, wanted, cpu))
    return sum(call_bytes(program, threads) for program in programs)


def cast_bytes(plan: Plan, mask: Mask, batch: int) -> int:
    """Bytes of what is copied at a call because kernels compute in another dtype: x, parameters and
    y in the forward; in the backward the gradients in the place of y.

    Arguments:
        plan: a forward plan.
        mask: for each input, whether its gradient is wanted.
        batch: samples of a call.
    """
    arithmetic = DTYPES[plan.dtype].arithmetic
    if arithmetic == plan.dtype:
        return 0
    wide = replace(plan, dtype=arithmetic)

    def size(values: Iterable[Value]) -> int:
        return sum(wide.bytes_of(value).at(batch) for value in values)

    y = [Value("y", plan.outputs[0].operand.legs)]
    wanted = [value for value, asked in zip(plan.inputs, mask, strict=True) if asked]
    # The backward reads the gradient of y.
    return size(plan.inputs) + size(y) + size(wanted)
