"""The loop IR: golden text and C++, legality, and three ways to run one program."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import oracle
import pytest
import torch
from conftest import Golden
from cpp_units import has_compiler

import tnlayer as tn
from tnlayer import topologies
from tnlayer.kernels.cpp_printer import print_cpp
from tnlayer.kernels.cpu import Cpu, backward_program, forward_program, schedule_lanes
from tnlayer.kernels.interpret import interpret
from tnlayer.kernels.loops import (
    At,
    Buffer,
    Fill,
    For,
    Gather,
    Program,
    Statement,
    Step,
    SumLanes,
    Tile,
    Transpose,
    statements,
)
from tnlayer.kernels.loops_text import program_text
from tnlayer.plan.plan import Plan
from tnlayer.runtime.build import load_library
from tnlayer.runtime.cpp import _Call
from tnlayer.runtime.kernel_store import entry_of

# Vectors of four float32: every CPU has them, so that the text is the same on each machine.
CPU = Cpu(vector_bytes=16, registers=16, written_out=200)
NETWORKS: dict[str, Callable[[], tn.Network]] = {
    "legs_as_lanes": lambda: topologies.tensor_train((2, 2, 2, 2), (2, 2, 2, 2), rank=2),
    "samples_as_lanes": lambda: topologies.tensor_train((3, 2), (2, 3), rank=2),
    "hyperedge": lambda: topologies.cp((2, 2), (2, 2), rank=3),
}


def plan_of(name: str) -> Plan:
    return tn.plan(NETWORKS[name](), batch=8, minimize="flops")


def programs(name: str) -> tuple[Program, Program]:
    """Forward, and backward with all gradients."""
    plan = plan_of(name)
    wanted = [value.name for value in plan.inputs]
    return forward_program(plan, CPU), backward_program(plan, wanted, CPU)


@pytest.mark.parametrize("name", NETWORKS)
def test_golden_loops(name: str, golden: Golden) -> None:
    """The printed loop programs are the text in the golden file."""
    golden.check("\n".join(map(program_text, programs(name))))


@pytest.mark.parametrize("name", NETWORKS)
def test_golden_cpp(name: str, golden: Golden) -> None:
    """The printed C++ is the text in the golden file."""
    golden.check("\n".join(map(print_cpp, programs(name))), suffix="cpp")


def test_the_goldens_show_both_schedules() -> None:
    """Legs are the lanes of the first network, samples those of the second."""
    assert schedule_lanes(plan_of("legs_as_lanes"), CPU).lanes
    assert not schedule_lanes(plan_of("samples_as_lanes"), CPU).lanes
    kinds = {type(s) for name in NETWORKS for p in programs(name)
             for s in statements((*p.before, *p.samples, *p.after))}  # fmt: skip
    assert kinds == {Step, For, Tile, Transpose, Gather, Fill, SumLanes}


@pytest.mark.skipif(not has_compiler(), reason="no C++ compiler")
@pytest.mark.parametrize("name", NETWORKS)
def test_interpreter_compiled_code_and_oracle_agree(name: str) -> None:
    """One program, three ways: y and all gradients are the same numbers at a ragged batch."""
    graph = NETWORKS[name]().freeze()
    plan, batch = plan_of(name), 7
    random = np.random.default_rng(5)
    names = dict(plan.names)
    arrays = {
        value.name: random.standard_normal(
            [batch if (n := plan.axis_size(axis)) is None else n for axis in plan.axes_of(value)]
        ).astype(np.float32)
        for value in plan.inputs
    }
    arrays["g"] = random.standard_normal((batch, graph.out_features)).astype(np.float32)
    stored = {names[v.name]: arrays[v.name].astype(np.float64) for v in plan.parameters}
    x = arrays[plan.ports[0].name].astype(np.float64)
    exact = {"out_y": oracle.evaluate(graph, [x], stored)}
    of_inputs, of_stored = oracle.gradients(graph, [x], stored, arrays["g"].astype(np.float64))
    exact[f"out_d_{plan.ports[0].name}"] = of_inputs[0]
    exact |= {f"out_d_{v.name}": of_stored[names[v.name]] for v in plan.parameters}
    for program in programs(name):
        given = {b.name: arrays[b.name] for b in program.of("input")}
        interpreted = interpret(program, given, batch)
        compiled = run_compiled(program, given, batch)
        for buffer in program.of("output"):
            wanted = np.real(exact[buffer.name]).reshape(-1)
            for found in (interpreted[buffer.name], compiled[buffer.name]):
                np.testing.assert_allclose(found, wanted, 2e-5, 2e-5, err_msg=buffer.name)


def run_compiled(
    program: Program, given: dict[str, np.ndarray], batch: int
) -> dict[str, np.ndarray]:
    """The same as interpret(), by the compiler."""
    library = load_library(print_cpp(program), optimise="-O1")
    call = _Call(program.name, entry_of(program), library, torch.float32)
    inputs = [torch.from_numpy(given[buffer.name]) for buffer in program.of("input")]
    outputs = {
        b.name: torch.full((b.size * (batch if b.batched else 1),), torch.nan)
        for b in program.of("output")
    }
    call.run([*inputs, *outputs.values()], batch)
    return {name: tensor.numpy() for name, tensor in outputs.items()}


def broken(change: Callable[[Tile], Statement]) -> Program:
    """A legal program of one tile, with the tile changed."""
    tile = Tile(At("y"), At("x"), At("w", form="splat"))
    body = (Step("t0", "y = x w", (change(tile),)),)
    buffers = (
        Buffer("x", 8, "input"),
        Buffer("w", 2, "input"),
        Buffer("y", 8, "output"),
    )
    return Program("p", "float32", 4, 1, buffers, body, (), ())


def test_verify_accepts_what_is_legal() -> None:
    """The tile that the next test breaks is legal."""
    program = broken(lambda tile: tile)
    assert program.verify() is program


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda t: replace(t, left=At("z")), "unknown buffer z"),
        (lambda t: replace(t, left=At("x", terms=(("i0", 4),))), "unknown index i0"),
        (lambda t: replace(t, target=At("x")), "writes the input x"),
        (lambda t: replace(t, left=At("x", 5)), "entries 5 to 8 of x"),
        (lambda t: replace(t, rows=((0, 0), (0, 5))), "entries 0 to 8 of y"),
        (lambda t: replace(t, sums=((0, 0), (0, -1))), "entries -1 to 0 of w"),
        (lambda t: For("i0", 3, (replace(t, left=At("x", 0, (("i0", 4),))),)), "entries 0 to 11"),
        (lambda t: replace(t, target=At("y", form="splat")), "cannot give a splat"),
        (lambda t: For("i0", 0, (t,)), "loop i0 of 0 turns"),
        (lambda t: Fill(At("y", form="scalar"), 9), "entries 0 to 8 of y"),
        (lambda t: SumLanes(At("y"), At("x", form="scalar"), (0,) * 4), "no partial"),
        (lambda t: Transpose(At("y"), At("x"), (0,), (0,)), "square"),
    ],
)  # fmt: skip
def test_verify_names_what_is_illegal(change: Callable[[Tile], Statement], message: str) -> None:
    """Each kind of fault is found, and the step is named."""
    with pytest.raises(tn.BuildError, match=message) as caught:
        broken(change).verify()
    assert "t0" in str(caught.value)


def test_workspace_is_reused() -> None:
    """The states of a long chain share the memory of two, in the forward."""
    net = topologies.mera(8, 2, 2)
    program = forward_program(tn.plan(net, minimize="flops"), CPU)
    largest = max(buffer.size for buffer in program.of("thread"))
    assert program.size_of("thread") <= 2 * largest
    assert sum(buffer.size for buffer in program.of("thread")) > 4 * largest
