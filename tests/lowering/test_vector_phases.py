"""Legs as lanes in every dtype: chains of random legs, split legs, blocks of samples."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

import tnlayer as tn
from tests.support import oracle
from tests.support.cpp_units import has_compiler
from tnlayer import topologies
from tnlayer.backends.cpp_program import LoadedEntry
from tnlayer.backends.toolchains.cpp_build import load_library
from tnlayer.backends.toolchains.kernel_store import entry_of
from tnlayer.codegen.cpp.prelude import prelude
from tnlayer.codegen.cpp.printer import print_kernel
from tnlayer.hardware.cpu import Cpu
from tnlayer.ir.loops import LoopProgram
from tnlayer.ir.loops_interpret import interpret
from tnlayer.ir.plan import Plan
from tnlayer.ir.steps import Select
from tnlayer.lowering.cpu import choose_lanes
from tnlayer.lowering.cpu.pipeline import backward_program, forward_program, schedule_lanes
from tnlayer.passes.split_legs import find_splits, split_legs

DTYPES = ("float32", "float64", "complex64", "complex128")
BATCH_SIZE = 5
TOLERANCES = {"float32": 1e-4, "complex64": 1e-4, "float64": 1e-10, "complex128": 1e-10}


def chain(seed: int) -> tn.Network:
    """A train of random legs and ranks; some legs are longer than a vector, or prime."""
    random = np.random.default_rng(seed)
    sizes = (2, 2, 2, 3, 4, 4, 5, 7, 8, 12)
    count = int(random.integers(3, 5))
    inputs = [int(random.choice(sizes)) for _ in range(count)]
    outputs = [int(random.choice(sizes)) for _ in range(count)]
    if seed % 3 == 0:
        inputs[0], outputs[-1] = 36, 24
    if np.prod(inputs) > 500 or np.prod(outputs) > 500:
        inputs[1:3] = outputs[1:3] = [2, 2]
    return topologies.tensor_train(inputs, outputs, rank=int(random.integers(1, 5)))


def conjugates(seed: int) -> tn.Network:
    """A chain in which a tensor stands twice, once as its conjugate."""
    net = tn.Network(f"conjugates {seed}")
    net.input(a=4, b=2, c=4, d=4)
    net.output(e=4, f=2, c=4, d=4)
    net.bond(g=4, h=2)
    net.tensor("U", "a b g h")
    net.tensor("V", "g h e f", share="U", conj=True)
    return net


NETWORKS = [lambda seed=seed: chain(seed) for seed in range(8)] + [
    lambda: conjugates(0),
    lambda: topologies.mera(6, 2, 2),
    lambda: topologies.btt((32, 8), (8, 32), 2),
    lambda: topologies.tensor_train((64, 20), (20, 64), rank=2),
]


def exact(
    net: tn.Network, plan: Plan, seed: int
) -> tuple[dict[str, np.ndarray], dict[str, np.ndarray]]:
    """Random inputs, and y with all gradients by the oracle."""
    graph = net.freeze()
    random = np.random.default_rng(seed)

    def draw(*shape: int) -> np.ndarray:
        found = random.standard_normal(shape)
        if plan.is_complex:
            found = found + 1j * random.standard_normal(shape)
        return found

    names = dict(plan.names)
    arrays = {
        value.name: draw(
            *(BATCH_SIZE if (n := plan.axis_size(a)) is None else n for a in plan.axes_of(value))
        )
        for value in plan.inputs
    }
    arrays["g"] = draw(BATCH_SIZE, graph.out_features)
    stored = {names[v.name]: arrays[v.name] for v in plan.parameters}
    port = plan.ports[0].name
    results = {"out_y": oracle.evaluate(graph, [arrays[port]], stored)}
    of_inputs, of_stored = oracle.gradients(graph, [arrays[port]], stored, arrays["g"])
    results[f"out_d_{port}"] = of_inputs[0]
    results |= {f"out_d_{v.name}": of_stored[names[v.name]] for v in plan.parameters}
    return arrays, results


def compare(found: dict[str, np.ndarray], wanted: dict[str, np.ndarray], dtype: str) -> None:
    for name, entries in found.items():
        expected = wanted[name].reshape(-1)
        if not dtype.startswith("complex"):
            expected = np.real(expected)
        scale = max(1.0, float(np.abs(expected).max()))
        tolerance = TOLERANCES[dtype]
        np.testing.assert_allclose(entries, expected, tolerance, tolerance * scale, err_msg=name)


def programs_for(plan: Plan, cpu: Cpu, name: str = "") -> tuple[LoopProgram, LoopProgram]:
    wanted = [value.name for value in plan.inputs]
    return (
        forward_program(plan, cpu, f"{name}forward"),
        backward_program(plan, wanted, cpu, f"{name}backward"),
    )


@pytest.mark.parametrize("vector_bytes", [16, 32, 64])
@pytest.mark.parametrize("dtype", ["float64", "complex128"])
def test_chains_interpreted_equal_the_oracle(dtype: str, vector_bytes: int) -> None:
    """y and all gradients of each chain, whatever its lanes, at a batch of one and of many."""
    cpu = Cpu(vector_bytes, 16, 200, threads=1)
    with_legs = 0
    for seed, make in enumerate((*NETWORKS[:4], NETWORKS[8])):
        plan = tn.plan(make(), batch=1, dtype=dtype, minimize="flops")
        arrays, wanted = exact(make(), plan, seed)
        for batch in (1, 16):
            planned = replace(plan, batch=batch)
            with_legs += bool(schedule_lanes(planned, cpu).lanes)
            for program in programs_for(planned, cpu):
                given = {b.name: arrays[b.name] for b in program.of("input")}
                compare(interpret(program, given, BATCH_SIZE), wanted, dtype)
    assert with_legs >= 3


@pytest.mark.skipif(not has_compiler(), reason="no C++ compiler")
@pytest.mark.parametrize("half", [0, pytest.param(1, marks=pytest.mark.full)])
@pytest.mark.parametrize("dtype", DTYPES)
def test_chains_compiled_equal_the_oracle(dtype: str, half: int) -> None:
    """The same in C++ for the vectors of this machine, half of the chains in one unit; the halves
    of the dtypes are such that each chain is compiled once as real and once as complex, and in both
    precisions."""
    cpu = Cpu(64, 32, 100, threads=1)
    cases: list[tuple[dict[str, np.ndarray], dict[str, np.ndarray], LoopProgram]] = []
    blocks: set[int] = set()
    for number, make in enumerate(NETWORKS):
        # Of two neighbours one is for a batch of one, the other for many.
        if (half + number // 2) % 2 != (dtype in ("float64", "complex64")):
            continue
        plan = tn.plan(make(), batch=1, dtype=dtype, minimize="flops")
        arrays, wanted = exact(make(), plan, number)
        planned = replace(plan, batch=(1, 64)[number % 2])
        scheduled = schedule_lanes(planned, cpu, backward=True)
        blocks |= {scheduled.block} if scheduled.lanes else set()
        for program in programs_for(planned, cpu, f"k{number}_"):
            cases.append((arrays, wanted, program))
    width = cases[0][2].width
    source = prelude(dtype, width) + "".join(print_kernel(program) for _, _, program in cases)
    library = load_library(source, optimise="-O1")
    for arrays, wanted, program in cases:
        call = LoadedEntry(program.name, entry_of(program), library)
        inputs = [torch.from_numpy(arrays[b.name]).to(getattr(torch, dtype))
                  for b in program.of("input")]  # fmt: skip
        outputs = {
            b.name: torch.full((b.size * (BATCH_SIZE if b.batched else 1),), torch.nan,
                               dtype=getattr(torch, dtype))
            for b in program.of("output")
        }  # fmt: skip
        call.run([*inputs, *outputs.values()], BATCH_SIZE)
        compare({name: o.numpy() for name, o in outputs.items()}, wanted, dtype)
    assert 1 in blocks


@pytest.mark.parametrize("block", [2, 4])
def test_blocks_of_samples_equal_the_oracle(block: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """With legs as lanes a block may have several samples; the last one may lack some."""
    monkeypatch.setattr(choose_lanes, "blocks_of", lambda setting: [block])
    monkeypatch.setattr(choose_lanes, "cycles", lambda stem, lanes, *_: 1.0 if lanes else 1e9)
    cpu = Cpu(32, 16, 200)
    for seed, make in enumerate(NETWORKS[:3]):
        plan = tn.plan(make(), batch=64, dtype="complex128", minimize="flops")
        if not schedule_lanes(plan, cpu).lanes:
            continue
        arrays, wanted = exact(make(), plan, seed)
        for program in programs_for(plan, cpu):
            assert program.block == block
            given = {b.name: arrays[b.name] for b in program.of("input")}
            compare(interpret(program, given, BATCH_SIZE), wanted, "complex128")


def test_long_legs_are_split() -> None:
    """A leg of 64 has an inner leg of a vector; primes and legs that fit stay whole."""
    net = topologies.tensor_train((64, 17, 8), (8, 34, 100), rank=3)
    plan = tn.plan(net, batch=4, minimize="flops")
    sizes = {size: leg for leg, size in plan.leg_sizes}
    splits = find_splits(plan, 16)
    assert splits == {sizes[64]: 16, sizes[34]: 2, sizes[100]: 10}
    split = split_legs(plan, splits)
    assert dict(split.leg_sizes)[f"{sizes[64]}.o"] == 4
    assert split.counts == plan.counts
    assert [plan.axis_size(a) for a in plan.axes_of(plan.ports[0])] == [
        split.axis_size(a) for a in split.axes_of(split.ports[0])
    ]
    assert split_legs(plan, {}) is plan
    whole = topologies.tensor_train((64, 64), (64, 64), rank=3)
    assert schedule_lanes(tn.plan(whole, batch=1, minimize="flops"), Cpu()).lanes


def test_shared_tensors_have_their_legs_split_alike() -> None:
    """One parameter under two sets of legs: its legs are addressed by position, so both sets are
    split alike, and y and the gradients, which add up axis by axis, are right."""
    net = tn.Network("shared")
    net.input(a=24, p=4)
    net.output(d=24, p=4)
    net.bond(c=24)
    net.tensor("U", "a c")
    net.tensor("V", "c d", share="U")
    plan = tn.plan(net, batch=1, dtype="float64", minimize="flops")
    selects = [step for step in plan.steps if isinstance(step, Select)]
    by_position = {leg for step in selects for leg in (*step.result.legs, *step.operand.legs)}
    assert by_position
    splits = find_splits(plan, 8)
    assert {leg: splits[leg] for leg in by_position} == dict.fromkeys(by_position, 8)
    arrays, wanted = exact(net, plan, 3)
    for program in programs_for(plan, Cpu(64, 32, 200)):
        given = {b.name: arrays[b.name] for b in program.of("input")}
        compare(interpret(program, given, BATCH_SIZE), wanted, "float64")


def test_the_estimate_prefers_legs_at_batch_one() -> None:
    """One sample leaves 15 of 16 lanes empty if samples are the lanes."""
    net = topologies.btt((64, 64), (64, 64), 2)
    plan = tn.plan(net, batch=1, minimize="flops")
    one = schedule_lanes(plan, Cpu(threads=2))
    many = schedule_lanes(replace(plan, batch=256), Cpu(threads=2), backward=True)
    assert one.lanes and one.block == 1
    assert many.block > 1


def test_few_lanes_are_refused_for_many_samples() -> None:
    """Nine lanes of 16 lose against 16 samples; the reason is said."""
    plan = tn.plan(topologies.tree(7, 3, 2), batch=256, minimize="flops")
    scheduled = schedule_lanes(plan, Cpu(threads=2))
    assert not scheduled.lanes
    assert "foreseen" in scheduled.reason
