"""The CPU's pipeline: a forward plan becomes the loop programs of its forward and its backward."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace

from tnlayer.kernels.fuse import Placement, fuse
from tnlayer.kernels.loops import Program
from tnlayer.kernels.recompute import backward_without_saved
from tnlayer.kernels.tiles import Machine
from tnlayer.plan.plan import Plan
from tnlayer.plan.steps import BATCH

# Arithmetic of the dtypes that have none of their own on a CPU.
ARITHMETIC = {"float16": "float32", "bfloat16": "float32"}
_REAL_BYTES = {"float32": 4, "float64": 8, "complex64": 4, "complex128": 8}


@dataclass(frozen=True, slots=True)
class Cpu:
    """What kernels are made for.

    Arguments:
        vector_bytes: of one vector register.
        registers: number of vector registers.
    """

    vector_bytes: int = 64
    registers: int = 32

    def width(self, dtype: str) -> int:
        """Entries of a vector; a complex one takes two registers."""
        return self.vector_bytes // _REAL_BYTES[dtype]

    def machine(self, dtype: str) -> Machine:
        """What tiles are cut for."""
        return Machine(self.registers // 2 if dtype.startswith("complex") else self.registers)


def forward_program(plan: Plan, cpu: Cpu, name: str = "forward") -> Program:
    """The program of a forward plan."""
    plan = _in_arithmetic(plan)
    return _fuse(plan, cpu, name)


def backward_program(
    plan: Plan, wanted: Iterable[str], cpu: Cpu, name: str = "backward"
) -> Program:
    """The program that gives the gradients of a forward plan's inputs."""
    plan = _in_arithmetic(plan)
    return _fuse(backward_without_saved(plan, wanted), cpu, name)


def _fuse(plan: Plan, cpu: Cpu, name: str) -> Program:
    width = cpu.width(plan.dtype)
    lanes = {step.result.name: (BATCH,) for step in plan.steps}
    placement = Placement(width, lanes)
    return fuse(plan, placement, name=name, width=width, machine=cpu.machine(plan.dtype))


def _in_arithmetic(plan: Plan) -> Plan:
    return replace(plan, dtype=ARITHMETIC.get(plan.dtype, plan.dtype))
