"""tn.compile: a network becomes a Program."""

from __future__ import annotations

from dataclasses import replace
from typing import Literal, overload

from ..backends.log_scale_program import ScaledProgram
from ..errors import SpecError
from ..graph.argument_checks import check_flag, shown
from ..graph.as_graph import AnyNetwork, dtype_asked_for
from ..lowering.gpu.tensor_cores.matrices import PRECISIONS
from ..planning.planner import DEFAULT_MINIMIZE, plan_graph, with_path
from ..planning.request import DEFAULT_BATCH, Request, device_option, dtype_option, memory_option
from ..runtime.program import Program
from ..support.option_words import (
    Backend,
    ContractionPath,
    Device,
    Dtype,
    Effort,
    Minimize,
    Objective,
    TensorCores,
)
from ..targets.backend import asked_backend, backend_of, check_option_name
from .available_backends import request_for
from .build_program import program_of
from .overflow import warn_of_values


@overload
def compile(
    net: AnyNetwork,
    *,
    batch: int = ...,
    backend: Backend = ...,
    arch: str | None = ...,
    objective: Objective = ...,
    device: Device = ...,
    memory_limit: int | str | None = ...,
    effort: Effort = ...,
    dtype: Dtype | None = ...,
    minimize: Minimize = ...,
    path: ContractionPath | None = ...,
    tensor_cores: TensorCores | None = ...,
    log_scale: Literal[False] = ...,
) -> Program: ...
@overload
def compile(
    net: AnyNetwork,
    *,
    batch: int = ...,
    backend: Backend = ...,
    arch: str | None = ...,
    objective: Objective = ...,
    device: Device = ...,
    memory_limit: int | str | None = ...,
    effort: Effort = ...,
    dtype: Dtype | None = ...,
    minimize: Minimize = ...,
    path: ContractionPath | None = ...,
    tensor_cores: TensorCores | None = ...,
    log_scale: Literal[True],
) -> ScaledProgram: ...
def compile(
    net: AnyNetwork,
    *,
    batch: int = DEFAULT_BATCH,
    backend: Backend = "auto",
    arch: str | None = None,
    objective: Objective = "train",
    device: Device = "cpu",
    memory_limit: int | str | None = None,
    effort: Effort = "default",
    dtype: Dtype | None = None,
    minimize: Minimize = DEFAULT_MINIMIZE,
    path: ContractionPath | None = None,
    tensor_cores: TensorCores | None = None,
    log_scale: bool = False,
) -> Program:
    """Compile a network to a differentiable function of its inputs and parameters.

    Arguments:
        net: the network; of a layer its network and dtype.
        batch: the batch size to plan for; the program is right for every other too.
        backend: "torch", "cpp" or "cuda" for compiled kernels, or "auto": the one that is predicted
            to be the fastest on the device, or a mixture; the environment variable TNLAYER_BACKEND
            names another default. With "cuda", too, steps with large bonds are left to torch's BLAS
            where that is predicted to be faster; ``explain()`` of a layer and ``source()`` say so.
        arch: of backend "cuda": what to build for, such as "sm_90", with a GPU or without; by
            default the device that the arrays of a call lie on. Other backends have none.
        tensor_cores: of backend "cuda": do products of merged steps on tensor cores, in precision
            "tf32" (operands rounded to 10 bits of mantissa, results off by about 1e-3), "3xtf32"
            (near float32) or "bf16" (7 bits, 1e-2); sums are float32. None: float32 arithmetic.
        log_scale: let the program return (mantissa, log_scale) with y = mantissa * exp(log_scale),
            where y itself may lie beyond the range of the dtype; see :class:`tnlayer.Layer`.
        objective, device, memory_limit, effort, dtype, minimize, path: as for
            :func:`tnlayer.plan`.

    Raises:
        SpecError: an option is unknown.
        BuildError: the backend that was asked for cannot be built.
        PlanError: no plan fits, or no step can use the tensor cores that were asked for.

    >>> import torch, tnlayer as tn
    >>> net = tn.topologies.low_rank(6, 4, rank=2)
    >>> program = tn.compile(net)
    >>> arrays = {p.name: torch.ones(p.shape) for p in net.freeze().parameters}
    >>> program(torch.ones(3, 6), parameters=arrays).shape
    torch.Size([3, 4])
    """
    check_backend(backend, arch)
    check_tensor_cores(tensor_cores, backend)
    check_log_scale(log_scale, memory_limit, tensor_cores)
    where, own = device_option(device), dtype_option(dtype_asked_for(net, dtype))
    limit = memory_option(memory_limit)
    request = Request(batch, objective, where, limit, effort, own, minimize, backend)
    request = with_path(request, net, path)
    planned = plan_graph(net, request_for(request, arch))
    if tensor_cores is not None:
        # All steps stay in the kernels: which of them tensor cores can do is decided there.
        given, plan = planned.lowered, replace(planned.plan, regions=())
        lowered = backend_of(backend).lower(plan, given.mask, given.target)
        planned = replace(planned, lowered=lowered)
    program = program_of(planned, arch, tensor_cores, log_scale=log_scale)
    if not log_scale:
        warn_of_values(program)
    return program


def check_log_scale(
    log_scale: object, memory_limit: int | str | None, tensor_cores: TensorCores | None = None
) -> None:
    """Refuse what a mantissa and the log of a scale cannot be had with."""
    check_flag(log_scale, "log_scale")
    if log_scale and memory_limit is not None:
        msg = (
            f"memory_limit={shown(memory_limit)} cannot be kept with log_scale=True: what is "
            "scaled on the way is kept for the backward; leave one of them out, or pass smaller "
            "batches"
        )
        raise SpecError(msg)
    if log_scale and tensor_cores is not None:
        msg = (
            f"tensor_cores={tensor_cores!r} cannot be had with log_scale=True; leave one of them "
            "out"
        )
        raise SpecError(msg)


def check_tensor_cores(tensor_cores: str | None, backend: str) -> None:
    """Refuse a precision that is unknown, or for another backend."""
    if tensor_cores is None:
        return
    if not isinstance(tensor_cores, str) or tensor_cores not in PRECISIONS:
        msg = (
            f"tensor_cores={shown(tensor_cores)} is unknown; expected one of "
            f"{', '.join(PRECISIONS)}, or None for float32 arithmetic"
        )
        raise SpecError(msg)
    asked = asked_backend(backend)
    if asked is None or not asked.has_tensor_cores:
        msg = (
            f"tensor_cores={tensor_cores!r} is for backend='cuda'; backend={backend!r} takes none: "
            "leave it out"
        )
        raise SpecError(msg)


def check_backend(backend: str, arch: str | None = None) -> None:
    """Refuse a backend that is unknown, or whose compiler is missing, or an architecture that it
    does not build for."""
    asked = asked_backend(check_option_name(backend))
    if asked is not None:
        asked.check()
    if arch is not None:
        if asked is None or not asked.takes_arch:
            msg = (
                f"arch={shown(arch)} is for backend='cuda'; backend={backend!r} takes none: leave "
                "it out"
            )
            raise SpecError(msg)
        asked.check_arch(arch)
