"""Which backends can run a plan here, and what "auto" stands for."""

from __future__ import annotations

from dataclasses import replace

from tnlayer.errors import BuildError, SpecError
from tnlayer.planning.backends import CUDA
from tnlayer.planning.host import VARIABLE, auto_stands_for
from tnlayer.planning.planner import DEFAULT_MINIMIZE, PlanOptions
from tnlayer.runtime.build import find_compiler
from tnlayer.runtime.cpp import this_cpu

# What CUDA plans are searched by: kernels write no intermediates.
FUSED_MINIMIZE = "flops"


def options_for(options: PlanOptions) -> PlanOptions:
    """The options with the backends that may run the plan here, and what kernels are compiled for.

    Arguments:
        options: as asked for.

    Raises:
        BuildError: backend is "cpp", and there is no compiler.
        SpecError: backend is "cuda", which keeps no memory limit, and one is given.
    """
    taken, _ = taken_backend(options.backend, options.device)
    if taken == CUDA:
        return _for_cuda(options)
    if taken == "torch":
        return replace(options, backend="torch", cpu=None)
    return replace(options, backend=taken, cpu=this_cpu())


def _for_cuda(options: PlanOptions) -> PlanOptions:
    """CUDA kernels are not ranked by time yet: the fewest FLOPs win."""
    if options.memory_limit is not None:
        msg = (
            f"memory_limit={options.memory_limit} is for other backends than 'cuda', whose kernels "
            "keep nothing of the batch's size but x: leave it out"
        )
        raise SpecError(msg)
    minimize = FUSED_MINIMIZE if options.minimize == DEFAULT_MINIMIZE else options.minimize
    return replace(options, backend=CUDA, cpu=None, minimize=minimize)


def taken_backend(backend: str, device: str = "cpu") -> tuple[str, str]:
    """The backend whose plans are looked for, and why it is not the one that was asked for.

    "auto" stands for the fastest of all that can be built; the environment variable
    TNLAYER_BACKEND names another one to stand for it.

    Arguments:
        backend: as asked for.
        device: where the plan will run.

    Raises:
        SpecError: TNLAYER_BACKEND is no backend that "auto" may stand for.
    """
    if backend != "auto":
        return backend, ""
    named = auto_stands_for()
    if named != "auto":
        return named, f"{VARIABLE}={named}"
    if device != "cpu":
        return "torch", f"kernels are compiled for the CPU only, not for {device!r}"
    try:
        find_compiler()
    except BuildError as error:
        return "torch", str(error)
    return "auto", ""
