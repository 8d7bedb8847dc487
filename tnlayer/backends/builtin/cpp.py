"""Backend "cpp": a plan as C++ kernels, counted from their lanes and loops."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping

from ...graph.graph import Graph
from ...hardware.host import usual_cpu
from ...ir.backend_names import CPP
from ...ir.batch_range import BatchRange
from ...ir.plan import Plan
from ...lowering.calls.training_schedules import Mask
from ...lowering.cpu.kernel_batch import FEW, MANY_FROM, kernel_batch
from ...targets.backend import Backend, Build
from ...targets.lowered import Lowered
from ...targets.target import Machine, Target
from ...time_models import cpu_kernels
from ..cpp_program import CppProgram
from ..cpu_program import this_cpu
from ..lowered_for_cpu import LoweredForCpu
from ..toolchains.find_cpp_compiler import find_compiler, is_known

COMPILED = (
    "kernels are compiled at the first call that needs them, or by prepare(): seconds, up to a "
    "minute for 50 tensors and more, once a machine"
)


class CppBackend(Backend):
    """Kernels of C++ for this machine's CPU."""

    name = CPP
    stands_for_auto = True
    device, where = "cpu", "the CPU"
    auto_device = "cpu"
    may_use_torch = True
    handicap = 1.1  # kernels have to be compiled
    one_plan = True
    keeps_values = False
    notes = (COMPILED,)
    until_built = COMPILED

    def lower(self, plan: Plan, mask: Mask, target: Target) -> LoweredForCpu:
        """The plan as loop programs."""
        return LoweredForCpu(CPP, plan, mask, target)

    def start_seconds(self, mask: Mask, target: Target) -> float:
        """What a call of a kernel costs."""
        start = cpu_kernels.start_seconds(target.profile)
        return start.total if any(mask) else start.forward

    def key(self, target: Target) -> str:
        """Vectors and costs."""
        cpu = target.compiled_cpu
        costs = hashlib.sha256(repr(cpu_kernels.COSTS).encode()).hexdigest()[:12]
        return f", {cpu.vector_bytes} bytes, {cpu.registers} registers, costs {costs}"

    def made_for(self, batch: int) -> int:
        """Kernels are made twice at most: for few samples, and for many."""
        return kernel_batch(batch)

    def serves(self, batch: int) -> BatchRange:
        """Few samples, or many."""
        return BatchRange(0, MANY_FROM - 1) if kernel_batch(batch) == FEW else BatchRange(MANY_FROM)

    def check(self) -> None:
        """It needs a compiler."""
        find_compiler()

    def is_checked(self) -> bool:
        """Whether the compiler was found by this process or an earlier one."""
        return is_known()

    def machine(self, arch: str | None = None) -> Machine:
        """This CPU, as the compiler uses it."""
        del arch
        return Machine(cpu=this_cpu())

    def usual_machine(self) -> Machine:
        """This CPU by torch's word."""
        return Machine(cpu=usual_cpu())

    def program(
        self, graph: Graph, lowered: Lowered, tensor_names: Mapping[str, str], build: Build
    ) -> CppProgram:
        """Compiled C++."""
        return CppProgram(
            graph,
            lowered.plan,
            tensor_names,
            limit=build.limit,
            device=build.device,
            lowered=lowered,
        )
