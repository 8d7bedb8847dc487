"""Which backends can run a plan here, and what "auto" stands for."""

from __future__ import annotations

from dataclasses import replace

from ..backends.cpp import this_cpu
from ..backends.toolchains.cpp_build import find_compiler
from ..backends.toolchains.nvrtc import find_nvrtc
from ..errors import BuildError, SpecError
from ..hardware.gpu import Gpu, gpu_of
from ..hardware.host import USUAL_ARCH, VARIABLE, auto_stands_for, usual_cpu
from ..ir.backend_names import AUTO, CPP, CUDA, TORCH
from ..planning.planner import PlanOptions
from ..runtime import cuda_devices


def options_for(options: PlanOptions, arch: str | None = None) -> PlanOptions:
    """The options with the backends that may run the plan here, and what kernels are compiled for.

    Arguments:
        options: as asked for.
        arch: what CUDA kernels are built for; None: the device that is there.

    Raises:
        BuildError: backend is "cpp", and there is no compiler.
        SpecError: backend is "cuda", which keeps no memory limit, and one is given.
    """
    taken, _ = taken_backend(options.backend, options.device)
    if taken == CUDA:
        return _for_cuda(options, arch)
    if taken == TORCH:
        return replace(options, backend=TORCH, cpu=None, gpu=None)
    if options.device == CUDA and taken == AUTO:
        return replace(options, backend=AUTO, cpu=None, gpu=_gpu(arch))
    return replace(options, backend=taken, cpu=this_cpu(), gpu=None)


def foreseen_options(options: PlanOptions) -> PlanOptions:
    """As ``options_for``, for what nobody runs: a backend that cannot be built here is foreseen for
    a usual machine, and CUDA kernels for a memory limit, too."""
    taken, _ = taken_backend(options.backend, options.device)
    if taken == CUDA:
        return _on_cuda(options, None)
    if taken == CPP and options.device == CUDA:
        return replace(options, backend=TORCH, cpu=None, gpu=None)
    try:
        return options_for(options)
    except BuildError:
        return replace(options, backend=taken, cpu=usual_cpu(), gpu=None)


def _for_cuda(options: PlanOptions, arch: str | None) -> PlanOptions:
    """Wherever the layer lies now, it will run on a CUDA device."""
    if options.memory_limit is not None:
        msg = (
            f"memory_limit={options.memory_limit} is for other backends than 'cuda', whose kernels "
            "keep nothing of the batch's size but x: leave it out"
        )
        raise SpecError(msg)
    return _on_cuda(options, arch)


def _on_cuda(options: PlanOptions, arch: str | None) -> PlanOptions:
    return replace(options, backend=CUDA, device=CUDA, cpu=None, gpu=_gpu(arch))


def _gpu(arch: str | None) -> Gpu:
    """What kernels are planned for: where no GPU is there and none was named, a usual one."""
    if arch is None and cuda_devices.has_gpu():
        arch = cuda_devices.arch_of(cuda_devices.current_gpu())
    return gpu_of(arch or USUAL_ARCH)


def taken_backend(backend: str, device: str = "cpu") -> tuple[str, str]:
    """The backend whose plans are looked for, and why it is not the one that was asked for.

    "auto" stands for the fastest of all that can be built for the device; the environment variable
    TNLAYER_BACKEND names another one to stand for it.

    Arguments:
        backend: as asked for.
        device: where the plan will run, "cpu" or "cuda".

    Raises:
        SpecError: TNLAYER_BACKEND is no backend that "auto" may stand for.
    """
    if backend != AUTO:
        return backend, ""
    named = auto_stands_for()
    if named != AUTO:
        if named == CPP and device != "cpu":
            return TORCH, f"{VARIABLE}={named}, whose kernels run on the CPU, not on {device!r}"
        return named, f"{VARIABLE}={named}"
    if device not in ("cpu", CUDA):
        return TORCH, f"kernels are compiled for CPUs and CUDA devices, not for {device!r}"
    try:
        if device == CUDA:
            find_nvrtc()
        else:
            find_compiler()
    except BuildError as error:
        return TORCH, str(error)
    return AUTO, ""
