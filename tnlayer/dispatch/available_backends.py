"""Which backends can run a plan here, what they compile for, and what "auto" stands for.

Whoever plans, for a layer or for its cost, finds the machine here.
"""

from __future__ import annotations

import os
from dataclasses import replace

from ..errors import BuildError, SpecError
from ..ir.backend_names import AUTO
from ..planning.request import Request
from ..targets.backend import (
    Backend,
    asked_backend,
    auto_kernels,
    auto_names,
    calls_backend,
)
from ..targets.target import Machine

# Names what "auto" stands for.
VARIABLE = "TNLAYER_BACKEND"


def request_for(request: Request, arch: str | None = None) -> Request:
    """The request with the backends that may run the plan here, and what kernels are compiled for.

    Arguments:
        request: as asked for.
        arch: what CUDA kernels are built for; None: the device that is there.

    Raises:
        BuildError: backend is "cpp", and there is no compiler.
        SpecError: backend is "cuda", which keeps no memory limit, and one is given.
    """
    taken, _ = taken_backend(request.backend, request.device)
    backend = _compiling(taken, request.device)
    if backend.why_no_limit and request.memory_limit is not None and taken == backend.name:
        msg = (
            f"memory_limit={request.memory_limit} is for other backends than {taken!r}, "
            f"{backend.why_no_limit}: leave it out"
        )
        raise SpecError(msg)
    return _with(request, taken, backend.machine(arch))


def is_found_at_once(request: Request) -> bool:
    """Whether ``request_for`` answers in no time: to find a compiler takes longer than a first call
    may."""
    named = auto_stands_for() if request.is_free else request.backend
    backend = asked_backend(named) or auto_kernels(request.device)
    return backend is None or backend.is_checked()


def foreseen_request(request: Request) -> Request:
    """As ``request_for``, for what nobody runs: a backend that cannot be built here is foreseen for
    a usual machine, and one that keeps no memory limit for one, too."""
    taken, _ = taken_backend(request.backend, request.device)
    backend = _compiling(taken, request.device)
    asked = asked_backend(taken)
    if asked is not None and not asked.moves_device and asked.device not in (None, request.device):
        return _with(request, calls_backend().name, Machine())
    try:
        machine = backend.machine()
    except BuildError:
        machine = backend.usual_machine()
    return _with(request, taken, machine)


def _compiling(taken: str, device: str) -> Backend:
    """The backend whose kernels are considered; torch's calls where there are none."""
    return asked_backend(taken) or auto_kernels(device) or calls_backend()


def _with(request: Request, taken: str, machine: Machine) -> Request:
    asked = asked_backend(taken)
    # Wherever a layer lies now, it will run on the backend's device.
    moves = asked is not None and asked.moves_device and asked.device
    device = moves or request.device
    return replace(request, backend=taken, device=device, cpu=machine.cpu, gpu=machine.gpu)


def auto_stands_for() -> str:
    """What the environment variable TNLAYER_BACKEND lets "auto" stand for.

    Raises:
        SpecError: it names no backend that may.
    """
    named = os.environ.get(VARIABLE) or AUTO
    *others, last = auto_names()
    if named not in (*others, last):
        msg = f"{VARIABLE}={named!r}: expected {', '.join(others)} or {last}; correct or unset it"
        raise SpecError(msg)
    return named


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
    if asked_backend(backend) is not None:
        return backend, ""
    calls, named = calls_backend().name, auto_stands_for()
    standing = asked_backend(named)
    if standing is not None:
        if standing.device not in (None, device):
            why = f"{VARIABLE}={named}, whose kernels run on {standing.where}, not on {device!r}"
            return calls, why
        return named, f"{VARIABLE}={named}"
    kernels = auto_kernels(device)
    if kernels is None:
        return calls, f"kernels are compiled for CPUs and CUDA devices, not for {device!r}"
    try:
        kernels.check()
    except BuildError as error:
        return calls, str(error)
    return AUTO, ""
