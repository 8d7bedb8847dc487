"""tn.compile: a network becomes a Program."""

from __future__ import annotations

from dataclasses import replace

from tnlayer.errors import SpecError
from tnlayer.graph import Graph
from tnlayer.network import Network
from tnlayer.planning.planner import (
    DEFAULT_BATCH,
    DEFAULT_MINIMIZE,
    PlanOptions,
    plan_graph,
)
from tnlayer.runtime.build import find_compiler
from tnlayer.runtime.nvrtc import check_arch, find_nvrtc
from tnlayer.runtime.program import Program
from tnlayer.runtime.ranged import FUSED_BACKENDS, program_of

# Fused kernels write no intermediates: the fewest FLOPs win, then the fewest steps.
FUSED_MINIMIZE = "combo-4"
BACKENDS = ("auto", "torch", "cpp", "cuda")


def compile(
    net: Network | Graph,
    *,
    batch: int = DEFAULT_BATCH,
    backend: str = "auto",
    arch: str | None = None,
    objective: str = "train",
    device: str = "cpu",
    memory_limit: int | None = None,
    effort: str = "default",
    dtype: str | None = None,
    minimize: str = DEFAULT_MINIMIZE,
) -> Program:
    """Compile a network to a differentiable function of its inputs and parameters.

    Arguments:
        net: the network.
        batch: the batch size to plan for; the program is right for every other too.
        backend: "torch", "cpp" or "cuda" for compiled kernels, or "auto", which takes torch yet.
        arch: of backend "cuda": what to build for, such as "sm_90", with a GPU or without; by
            default the device that the arrays of a call lie on. Other backends have none.
        objective, device, memory_limit, effort, dtype, minimize: as for :func:`tnlayer.plan`.

    Raises:
        SpecError: an option is unknown.
        BuildError: the backend that was asked for cannot be built.
        PlanError: no plan fits.

    >>> import torch, tnlayer as tn
    >>> net = tn.topologies.low_rank(6, 4, rank=2)
    >>> program = tn.compile(net)
    >>> arrays = {p.name: torch.ones(p.shape) for p in net.freeze().parameters}
    >>> program(torch.ones(3, 6), parameters=arrays).shape
    torch.Size([3, 4])
    """
    check_backend(backend)
    if arch is not None:
        if backend != "cuda":
            msg = (
                f"arch={arch!r} is for backend='cuda'; backend={backend!r} takes none: leave it out"
            )
            raise SpecError(msg)
        check_arch(arch)
    options = PlanOptions(batch, objective, device, memory_limit, effort, dtype, minimize)
    planned = plan_graph(net, options_for(options, backend))
    return program_of(planned, backend, arch)


def options_for(options: PlanOptions, backend: str) -> PlanOptions:
    """The options with the search objective of the backend, where the caller left it open.

    Raises:
        SpecError: the backend keeps no memory limit, and one is given.
    """
    if backend not in FUSED_BACKENDS:
        return options
    if options.memory_limit is not None:
        msg = (
            f"memory_limit={options.memory_limit} is for backend='torch'; fused kernels keep "
            "nothing of the batch's size but x: leave it out"
        )
        raise SpecError(msg)
    if options.minimize == DEFAULT_MINIMIZE:
        return replace(options, minimize=FUSED_MINIMIZE)
    return options


def check_backend(backend: str) -> None:
    """Refuse a backend that is unknown, or whose compiler is missing."""
    if backend not in BACKENDS:
        msg = f"backend={backend!r} is unknown; expected one of {', '.join(BACKENDS)}"
        raise SpecError(msg)
    if backend == "cpp":
        find_compiler()
    if backend == "cuda":
        find_nvrtc()
