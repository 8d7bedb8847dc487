"""Several compiled programs in one translation unit: what a compiler reads once a unit it reads
once for all of them."""

from __future__ import annotations

import ctypes
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import torch

import tnlayer as tn
from tnlayer.backends.cpp_program import CppProgram
from tnlayer.backends.toolchains.cpp_build import load_library
from tnlayer.backends.toolchains.find_cpp_compiler import find_compiler
from tnlayer.codegen.cpp.prelude import prelude
from tnlayer.codegen.cpp.printer import print_kernel
from tnlayer.errors import BuildError
from tnlayer.hardware.cpu import Cpu
from tnlayer.ir import loops
from tnlayer.ir.batch_range import BatchRange
from tnlayer.lowering.calls.training_schedules import Mask


def has_compiler() -> bool:
    """Whether compiled backends can be tested here."""
    try:
        find_compiler()
    except BuildError:
        return False
    return True


def small_code(cpu: Cpu) -> Cpu:
    """The same CPU, with more loops and less code: it compiles sooner."""
    return replace(cpu, written_out=cpu.written_out // 6)


def build_together(wanted: Iterable[tuple[CppProgram, Mask]], kernels_a_unit: int = 40) -> None:
    """Compile the forward and the backward of programs in few units, at -O1."""
    waiting: dict[tuple[str, int], list[tuple[CppProgram, loops.LoopProgram]]] = {}
    for number, (program, mask) in enumerate(wanted):
        program.prefix = f"k{number}_"
        program.cpu = small_code(program.cpu)
        for kernel in program.programs(mask):
            waiting.setdefault((kernel.scalar, kernel.width), []).append((program, kernel))
    units = [
        (kind, kernels[start : start + kernels_a_unit])
        for kind, kernels in waiting.items()
        for start in range(0, len(kernels), kernels_a_unit)
    ]
    libraries: dict[str, ctypes.CDLL] = {}

    def build(unit: tuple[tuple[str, int], list[tuple[CppProgram, loops.LoopProgram]]]) -> None:
        kind, kernels = unit
        source = prelude(*kind) + "".join(print_kernel(kernel) for _, kernel in kernels)
        library = load_library(source, optimise="-O1")
        libraries.update({kernel.name: library for _, kernel in kernels})

    with ThreadPoolExecutor(torch.get_num_threads()) as pool:
        list(pool.map(build, units))
    for program, _ in wanted:
        program.load = lambda kernel: libraries[kernel.name]  # type: ignore[method-assign]


def programs_of(layer: tn.Layer) -> list[CppProgram]:
    """The compiled programs of a layer, each of which serves all batch sizes from now on."""
    found: list[CppProgram] = []
    for ranged in layer._programs_for(layer.dtype):
        assert isinstance(ranged.main, CppProgram)
        ranged.replace_range(BatchRange(), ranged.main)
        found.append(ranged.main)
    return found
