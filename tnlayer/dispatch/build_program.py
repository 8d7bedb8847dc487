"""Programs by backend."""

from __future__ import annotations

from ..backends.log_scale_program import ScaledProgram
from ..planning.planner import PlannedGraph
from ..runtime.program import Program
from ..targets.backend import Build, asked_backend, auto_kernels, backend_of


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
    request, lowered = planned.request, planned.lowered
    asked = asked_backend(request.backend)
    build = Build(request.memory_limit, request.device, arch, tensor_cores)
    arguments = (planned.graph, lowered, planned.form.tensor_names)
    program: Program
    if log_scale:
        compiled = asked.name if asked is not None and asked.runs_alone else None
        program = ScaledProgram(
            planned.graph,
            lowered.plan,
            planned.form.tensor_names,
            limit=build.limit,
            device=build.device,
            arch=arch,
            compiled=compiled,
            lowered=lowered,
        )
    elif asked is not None:
        program = asked.program_as_asked(*arguments, build)
    else:
        program = backend_of(lowered.backend).program(*arguments, build)
    if asked is None:
        # On a GPU a kernel may also fail to load while a graph is captured, which torch would not
        # mend.
        kernels = auto_kernels(request.device)
        program.may_use_torch = kernels is not None and kernels.may_use_torch
    return program
