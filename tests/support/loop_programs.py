"""Loop programs, run by the interpreter or by the compiler."""

from __future__ import annotations

import numpy as np
import torch

import tnlayer as tn
from tests.support import oracle
from tnlayer.backends.cpp_program import LoadedEntry
from tnlayer.backends.toolchains.cpp_build import load_library
from tnlayer.backends.toolchains.kernel_store import entry_of
from tnlayer.codegen.cpp.printer import print_cpp
from tnlayer.hardware.cpu import Cpu
from tnlayer.ir.loops import LoopProgram, Tile, statements
from tnlayer.ir.loops_interpret import interpret
from tnlayer.lowering.cpu.pipeline import backward_program, forward_program

CPU = Cpu(vector_bytes=64, registers=32, written_out=200)


def run_compiled(
    program: LoopProgram, given: dict[str, np.ndarray], batch: int
) -> dict[str, np.ndarray]:
    """The same as interpret(), by the compiler."""
    dtype: torch.dtype = getattr(torch, program.arguments or program.scalar)
    library = load_library(print_cpp(program), optimise="-O1")
    call = LoadedEntry(program.name, entry_of(program), library)
    inputs = [torch.from_numpy(given[buffer.name]) for buffer in program.of("input")]
    outputs = {
        b.name: torch.full((b.size * (batch if b.batched else 1),), torch.nan, dtype=dtype)
        for b in program.of("output")
    }
    call.run([*inputs, *outputs.values()], batch)
    return {name: tensor.numpy() for name, tensor in outputs.items()}


def tiles(program: LoopProgram) -> list[Tile]:
    """All tiles of the part that runs for each sample."""
    return [s for s in statements(program.samples) if isinstance(s, Tile)]


def checked_by_interpreter(net: tn.Network) -> tuple[LoopProgram, LoopProgram]:
    """Forward and backward of a network, after the interpreter has run both against the oracle."""
    graph, batch = net.freeze(), 5
    plan = tn.plan(net, batch=64, minimize="combo-4")
    random = np.random.default_rng(3)
    names = dict(plan.names)
    arrays = {
        value.name: random.standard_normal(
            [batch if (n := plan.axis_size(axis)) is None else n for axis in plan.axes_of(value)]
        )
        for value in plan.inputs
    }
    arrays["g"] = random.standard_normal((batch, graph.out_features))
    stored = {names[v.name]: arrays[v.name] for v in plan.parameters}
    x = arrays[plan.ports[0].name]
    exact = {"out_y": oracle.evaluate(graph, [x], stored)}
    of_inputs, of_stored = oracle.gradients(graph, [x], stored, arrays["g"])
    exact[f"out_d_{plan.ports[0].name}"] = of_inputs[0]
    exact |= {f"out_d_{v.name}": of_stored[names[v.name]] for v in plan.parameters}
    wanted = [value.name for value in plan.inputs]
    programs = forward_program(plan, CPU), backward_program(plan, wanted, CPU)
    for program in programs:
        given = {b.name: arrays[b.name] for b in program.of("input")}
        found = interpret(program, given, batch)
        for buffer in program.of("output"):
            expected = np.real(exact[buffer.name]).reshape(-1)
            np.testing.assert_allclose(found[buffer.name], expected, 1e-9, 1e-9)
    return programs
