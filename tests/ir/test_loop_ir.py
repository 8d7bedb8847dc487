"""The loop IR: golden text and C++, legality, and three ways to run one program."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest

import tnlayer as tn
from tests.support import oracle
from tests.support.cpp_units import has_compiler
from tests.support.golden import Golden
from tests.support.loop_programs import run_compiled
from tests.support.strategies import random_array
from tnlayer import topologies
from tnlayer.codegen.cpp.prelude import prelude
from tnlayer.codegen.cpp.printer import print_cpp, print_kernel
from tnlayer.hardware.cpu import Cpu
from tnlayer.ir.loops import (
    At,
    Axis,
    Buffer,
    Fill,
    For,
    Gather,
    LoopProgram,
    LoopRegion,
    Permute,
    Statement,
    SumPartials,
    Tile,
    Transpose,
    statements,
)
from tnlayer.ir.loops_interpret import interpret
from tnlayer.ir.loops_text import program_text
from tnlayer.ir.loops_verify import verified
from tnlayer.ir.plan import Plan
from tnlayer.lowering.cpu.pipeline import backward_program, forward_program, schedule_lanes

# Vectors of four float32: every CPU has them, so that the text is the same on each machine.
CPU = Cpu(vector_bytes=16, registers=16, written_out=200)
NETWORKS: dict[str, Callable[[], tn.Network]] = {
    "legs_as_lanes": lambda: topologies.tensor_train((2, 2, 2, 2), (2, 2, 2, 2), rank=2),
    "samples_as_lanes": lambda: topologies.tensor_train((3, 2), (2, 3), rank=2),
    "hyperedge": lambda: topologies.cp((2, 2), (2, 2), rank=3),
    "complex": lambda: topologies.low_rank(3, 2, rank=2),
    "branch": lambda: topologies.tree(3, 2, 2),
    "trace": lambda: traced(),
    "fixed_legs": lambda: fixed(),
    "bilinear": lambda: bilinear(),
    "shared": lambda: shared(),
    "half_precision": lambda: bilinear(),
}
DTYPES = {"complex": "complex64", "shared": "complex64", "half_precision": "float16"}


def traced() -> tn.Network:
    """A trace, a diagonal, a sum and a leg that passes through."""
    net = tn.Network("traced")
    net.input(i=2, k=3)
    net.output(j=2, k=3)
    net.bond(t=2, d=3, s=2)
    net.sum("s")
    net.tensor("A", "i t t d d")
    net.tensor("B", "d j s")
    return net


def fixed() -> tn.Network:
    """A train with a leg of x and a leg of y pinned."""
    net = topologies.tensor_train((2, 3), (3, 2), rank=2)
    net.fix(i0=1, j1=0)
    return net


def bilinear() -> tn.Network:
    """Two batched inputs, and one that is not."""
    net = tn.Network("bilinear")
    net.input("x", {"i": 2})
    net.input("z", {"j": 3})
    net.input("c", {"k": 2})
    net.port("c", batched=False)
    net.output(o=2)
    net.tensor("W", "i j k o")
    return net


def shared() -> tn.Network:
    """A matrix and its own adjoint."""
    net = tn.Network("W W*")
    net.input(i=3)
    net.output(j=3)
    net.bond(k=2)
    net.tensor("W", "i k")
    net.tensor("V", "j k", share="W", conj=True)
    return net


def plan_of(name: str) -> Plan:
    return tn.plan(NETWORKS[name](), batch=8, minimize="flops", dtype=DTYPES.get(name, "float32"))


def programs(name: str) -> tuple[LoopProgram, LoopProgram]:
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
    """The printed C++ behind the prelude is the text in the golden file; the prelude has its own,
    in tests/codegen/test_preludes.py."""
    pair = programs(name)
    for program in pair:
        head = prelude(program.scalar, program.width)
        assert print_cpp(program) == head + print_kernel(program)
    golden.check("\n".join(map(print_kernel, pair)), suffix="cpp")


def test_the_goldens_show_both_schedules() -> None:
    """Legs are the lanes of the first network, samples those of the second."""
    assert schedule_lanes(plan_of("legs_as_lanes"), CPU).lanes
    assert not schedule_lanes(plan_of("samples_as_lanes"), CPU).lanes
    kinds = {type(s) for name in NETWORKS for p in programs(name)
             for s in statements((*p.before, *p.samples, *p.after))}  # fmt: skip
    assert kinds == {LoopRegion, For, Tile, Transpose, Permute, Gather, Fill, SumPartials}


@pytest.mark.skipif(not has_compiler(), reason="no C++ compiler")
@pytest.mark.parametrize("name", NETWORKS)
def test_interpreter_compiled_code_and_oracle_agree(name: str) -> None:
    """One program, three ways: y and all gradients are the same numbers at a ragged batch."""
    graph = NETWORKS[name]().freeze()
    plan, batch = plan_of(name), 7
    random = np.random.default_rng(5)
    names = dict(plan.names)
    wide = np.complex128 if plan.is_complex else np.float64

    def draw(shape: list[int]) -> np.ndarray:
        return random_array(random, tuple(shape), plan.is_complex).astype(plan.dtype)

    arrays = {
        value.name: draw(
            [batch if (n := plan.axis_size(axis)) is None else n for axis in plan.axes_of(value)]
        )
        for value in plan.inputs
    }
    arrays["g"] = draw([batch, graph.out_features])
    stored = {names[v.name]: arrays[v.name].astype(wide) for v in plan.parameters}
    inputs = [arrays[port.name].astype(wide) for port in plan.ports]
    exact = {"out_y": oracle.evaluate(graph, inputs, stored)}
    of_inputs, of_stored = oracle.gradients(graph, inputs, stored, arrays["g"].astype(wide))
    exact |= {f"out_d_{v.name}": a for v, a in zip(plan.ports, of_inputs, strict=True)}
    exact |= {f"out_d_{v.name}": of_stored[names[v.name]] for v in plan.parameters}
    for program in programs(name):
        given = {b.name: arrays[b.name] for b in program.of("input")}
        interpreted = interpret(program, given, batch)
        compiled = run_compiled(program, given, batch)
        for buffer in program.of("output"):
            wanted = exact[buffer.name].reshape(-1)
            wanted = wanted if plan.is_complex else np.real(wanted)
            for found in (interpreted[buffer.name], compiled[buffer.name]):
                # Beside float32's, the one rounding of a result in half precision.
                close = 2e-5 if plan.dtype != "float16" else 1e-3
                np.testing.assert_allclose(found, wanted, close, close, err_msg=buffer.name)


def broken(change: Callable[[Tile], Statement]) -> LoopProgram:
    """A legal program of one tile, with the tile changed."""
    tile = Tile(At("y"), At("x"), At("w", form="splat"))
    body = (LoopRegion("t0", "y = x w", (change(tile),)),)
    buffers = (
        Buffer("x", 8, "input"),
        Buffer("w", 2, "input"),
        Buffer("y", 8, "output"),
    )
    return LoopProgram("p", "float32", 4, 1, buffers, body, (), ())


def test_verify_accepts_what_is_legal() -> None:
    """The tile that the next test breaks is legal."""
    program = broken(lambda tile: tile)
    assert verified(program) is program


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
        (lambda t: For("i0", 1, (t,), of_samples=True), "a loop over 1 samples"),
        (lambda t: replace(t, loops=(Axis(1, 0, 0, of_samples=True),)), "a loop over 1 samples"),
        (lambda t: Fill(At("y", form="scalar"), 9), "entries 0 to 8 of y"),
        (lambda t: SumPartials(At("y"), At("x", form="scalar"), (0,) * 4), "no partial"),
        (lambda t: Transpose(At("y"), At("x"), (0,), (0,) * 5), "square"),
        (lambda t: Transpose(At("y", 5), At("x"), (0,), (0,), padding=4), "entries 5 to 8 of y"),
        (lambda t: Permute(At("y"), At("x"), (0,), (5,), (((0, 3),),)), "entries 5 to 8 of x"),
        (lambda t: Permute(At("y"), At("x"), (0,), (0,), (((1, 0),),)), "a source that it lacks"),
    ],
)  # fmt: skip
def test_verify_names_what_is_illegal(change: Callable[[Tile], Statement], message: str) -> None:
    """Each kind of fault is found, and the step is named."""
    with pytest.raises(tn.BuildError, match=message) as caught:
        verified(broken(change))
    assert "t0" in str(caught.value)


def test_workspace_is_reused() -> None:
    """The states of a long chain share the memory of two, in the forward."""
    net = topologies.mera(8, 2, 2)
    program = forward_program(tn.plan(net, minimize="flops"), CPU)
    largest = max(buffer.size for buffer in program.of("thread"))
    assert program.size_of("thread") <= 2 * largest
    assert sum(buffer.size for buffer in program.of("thread")) > 4 * largest
