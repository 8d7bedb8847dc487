"""Backend "cuda": a plan as CUDA kernels, counted from their loop programs."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping

from ...graph.graph import Graph
from ...hardware.datasheets import record_of
from ...hardware.gpu import gpu_of
from ...hardware.host import USUAL_ARCH
from ...ir.backend_names import CUDA, MIXED
from ...ir.plan import Plan
from ...lowering.calls.training_schedules import Mask
from ...runtime import cuda_devices
from ...runtime.program import Program
from ...targets.backend import Backend, Build, Contest, backend_of
from ...targets.lowered import Lowered
from ...targets.target import Machine, Target
from ...time_models import gpu_kernels
from ..cuda_program import CudaProgram
from ..lowered_for_gpu import LoweredForGpu
from ..toolchains.nvrtc import check_arch, find_nvrtc
from .cpp import COMPILED

# Where "cuda" was asked for, torch alone must be foreseen to be so much faster.
TORCH_AGAINST_CUDA = 1.5


class CudaBackend(Backend):
    """Kernels of CUDA C++."""

    name = CUDA
    device, where = CUDA, "a CUDA device"
    moves_device = True
    auto_device = CUDA
    handicap = 1.1  # kernels have to be compiled
    # CUDA kernels are counted exactly, so that more trees can be told apart: one with a smaller
    # largest state and a few more FLOPs, say, which stays in shared memory.
    objectives = ("combo-4", "flops", "combo-64", "size")
    runs_alone = False
    keeps_values = False
    takes_arch = has_tensor_cores = True
    why_no_limit = "whose kernels keep nothing of the batch's size but x"
    notes = (
        COMPILED,
        "times of CUDA kernels are computed from datasheet figures: none was ever measured",
    )
    until_built = COMPILED
    beaten = (
        f"torch alone is foreseen to be {TORCH_AGAINST_CUDA} times faster than any CUDA kernel, or "
        "more"
    )

    def lower(self, plan: Plan, mask: Mask, target: Target) -> LoweredForGpu:
        """The plan as loop programs."""
        return LoweredForGpu(CUDA, plan, mask, target)

    def start_seconds(self, mask: Mask, target: Target) -> float:
        """The first launch of a call."""
        del target
        return gpu_kernels.COSTS.first * (2 if any(mask) else 1)

    def contest(self) -> Contest:
        """Torch's calls stand beside the kernels: they take steps with large bonds, or all."""
        return Contest(self, calls=True, beside=True, calls_factor=TORCH_AGAINST_CUDA)

    def key(self, target: Target) -> str:
        """Architecture and costs."""
        gpu = target.compiled_gpu
        told = repr((gpu, record_of(gpu.arch), gpu_kernels.COSTS))
        return f", {gpu.arch}, costs {hashlib.sha256(told.encode()).hexdigest()[:12]}"

    def check(self) -> None:
        """It needs NVRTC."""
        find_nvrtc()

    def check_arch(self, arch: str) -> None:
        """NVRTC builds for some."""
        check_arch(arch)

    def machine(self, arch: str | None = None) -> Machine:
        """The device that is there, or a usual one."""
        if arch is None and cuda_devices.has_gpu():
            arch = cuda_devices.arch_of(cuda_devices.current_gpu())
        return Machine(gpu=gpu_of(arch or USUAL_ARCH))

    def program(
        self, graph: Graph, lowered: Lowered, tensor_names: Mapping[str, str], build: Build
    ) -> CudaProgram:
        """CUDA C++."""
        return CudaProgram(
            graph,
            lowered.plan,
            tensor_names,
            limit=build.limit,
            device=build.device,
            arch=build.arch,
            tensor_cores=build.tensor_cores,
            lowered=lowered,
        )

    def program_as_asked(
        self, graph: Graph, lowered: Lowered, tensor_names: Mapping[str, str], build: Build
    ) -> Program:
        """Spans of both where torch does a part of it, or all: an architecture may be named."""
        alone = build.tensor_cores is not None or lowered.backend == CUDA
        chosen = self if alone else backend_of(MIXED)
        return chosen.program(graph, lowered, tensor_names, build)
