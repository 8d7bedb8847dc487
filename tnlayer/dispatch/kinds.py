"""Programs by backend."""

from __future__ import annotations

from ..backends.cuda import CudaProgram
from ..backends.log_scaled import ScaledProgram
from ..backends.mixed import MixedProgram, region_program
from ..ir.backend_names import AUTO
from ..planning.planner import PlannedGraph
from ..runtime.program import Program


def program_of(
    planned: PlannedGraph,
    arch: str | None = None,
    tensor_cores: str | None = None,
    *,
    log_scale: bool = False,
) -> Program:
    """The program of a planned graph, on the backends of its plan.

    Arguments:
        planned: with the backend that was asked for.
        arch: of CUDA kernels: what to build for; None: the device of the arrays of a call.
        tensor_cores: of backend "cuda": the precision of products on tensor cores, or None.
        log_scale: whether it gives a mantissa and the log of a scale instead of y.

    Raises:
        BuildError: the backend that was asked for cannot run it.
    """
    program = _program_of(planned, arch, tensor_cores, log_scale=log_scale)
    # On a GPU a kernel may also fail to load while a graph is captured, which torch would not mend.
    program.may_use_torch = planned.request.backend == AUTO and planned.request.device == "cpu"
    return program


def _program_of(
    planned: PlannedGraph, arch: str | None, tensor_cores: str | None, *, log_scale: bool
) -> Program:
    asked, plan = planned.request.backend, planned.plan
    limit, device = planned.request.memory_limit, planned.request.device
    arguments = (planned.graph, plan, planned.form.tensor_names)
    if tensor_cores is not None:
        return CudaProgram(
            *arguments, limit=limit, device=device, arch=arch, tensor_cores=tensor_cores
        )
    if log_scale:
        compiled = "cpp" if asked == "cpp" else None
        return ScaledProgram(*arguments, limit=limit, device=device, arch=arch, compiled=compiled)
    if plan.backend == "mixed" or (asked == "cuda" and plan.backend != "cuda"):
        return MixedProgram(*arguments, limit=limit, device=device, arch=arch)
    backend = "cpp" if asked == "cpp" else plan.backend
    return region_program(backend, *arguments, limit=limit, device=device, arch=arch)
