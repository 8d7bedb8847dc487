"""Which backends can run a plan here, and what "auto" stands for."""

from __future__ import annotations

from dataclasses import replace

from tnlayer.errors import BuildError
from tnlayer.planning.host import VARIABLE, auto_stands_for
from tnlayer.planning.planner import PlanOptions
from tnlayer.runtime.build import find_compiler
from tnlayer.runtime.cpp import this_cpu


def options_for(options: PlanOptions) -> PlanOptions:
    """The options with the backends that may run the plan here, and what kernels are compiled for.

    Arguments:
        options: as asked for.

    Raises:
        BuildError: backend is "cpp", and there is no compiler.
    """
    taken, _ = taken_backend(options.backend, options.device)
    if taken == "torch":
        return replace(options, backend="torch", cpu=None)
    return replace(options, backend=taken, cpu=this_cpu())


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
