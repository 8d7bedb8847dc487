"""What this machine can run: the CPU and the GPU that kernels are planned for.

What a compiler makes of the CPU only the compiler knows (backends/cpp_program.py asks it). Whoever
plans, for a layer or for its cost, comes through dispatch/available_backends.py, so that both plan
for one machine.
"""

from __future__ import annotations

import torch

from .cpu import Cpu

# Bytes of a vector and number of registers, by torch's word for what a CPU can do.
_VECTORS = {"AVX512": (64, 32), "AVX2": (32, 16)}


def cpu_with(vector_bytes: int, registers: int) -> Cpu:
    """A CPU with such vectors and this process's threads.

    Arguments:
        vector_bytes: of one vector register.
        registers: number of vector registers.
    """
    return Cpu(vector_bytes, registers, threads=torch.get_num_threads())


def usual_cpu() -> Cpu:
    """What a compiler would make kernels for, by torch's word: for costs where there is none."""
    return cpu_with(*_VECTORS.get(torch.backends.cpu.get_cpu_capability(), (16, 16)))


# What CUDA kernels are foreseen for where no GPU is there and none was named.
USUAL_ARCH = "sm_90"
