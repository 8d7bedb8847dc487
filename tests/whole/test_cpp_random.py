"""Random networks through the loop IR and compiled C++, against the oracle."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
import pytest
import torch
from hypothesis import given

import tnlayer as tn
from tests.support.cpp_units import build_together, has_compiler, programs_of
from tests.support.strategies import LEADS, Case, cases, fixed_series, random_array
from tests.whole.test_random_graphs import (
    KINDS,
    check_backward,
    check_forward,
    draw_inputs,
    fill,
    freeze_some,
    laid_out,
)
from tnlayer.graph.graph import Graph
from tnlayer.hardware.cpu import Cpu
from tnlayer.ir.loops_interpret import interpret
from tnlayer.lowering.calls.pair import Mask
from tnlayer.lowering.cpu.pipeline import backward_program, forward_program

needs_compiler = pytest.mark.skipif(not has_compiler(), reason="no C++ compiler")
CASES, FULL_CASES, FULL_SHARDS = 50, 250, 8
INTERPRETED = 100
# What is compiled: in single precision a vector has twice the lanes.
COMPILED = {"float32": torch.float32, **KINDS, "complex64": torch.complex64}
ALWAYS = ("float32", *KINDS)


def collect(is_complex: bool, seed: int, count: int) -> list[Case]:
    """A fixed series of random cases."""
    found: list[Case] = []

    @fixed_series(seed, count, shrink=False)
    @given(case=cases(is_complex))
    def take(case: Case) -> None:
        found.append(case)

    take()
    assert len(found) >= count
    return found


@dataclass
class Trial:
    """A case with its layer filled and its inputs drawn; compiled later, with many others."""

    case: Case
    dtype: torch.dtype
    graph: Graph = field(init=False)
    layer: tn.Layer = field(init=False)
    inputs: list[torch.Tensor] = field(init=False)
    stored: dict[str, np.ndarray] = field(init=False)
    random: np.random.Generator = field(init=False)

    def __post_init__(self) -> None:
        self.graph = self.case.net.freeze()
        self.random = np.random.default_rng(self.case.seed)
        self.layer = tn.Layer(self.case.net, dtype=self.dtype, backend="cpp")
        is_complex = self.dtype.is_complex
        self.stored = fill(self.layer, self.graph, self.random, is_complex)
        self.inputs = self.draw(self.case.lead)
        freeze_some(self.layer, self.inputs, self.case.frozen)

    def draw(self, lead: tuple[int, ...]) -> list[torch.Tensor]:
        """Inputs with these leading dimensions."""
        is_complex, single = self.dtype.is_complex, torch.finfo(self.dtype).bits == 32
        return draw_inputs(self.graph, self.case, lead, self.random, is_complex, single)

    @property
    def mask(self) -> Mask:
        """Which gradients the call will ask for."""
        (program,) = programs_of(self.layer)
        arrays = [
            *self.inputs,
            *(self.layer._stored.of(self.layer)[name] for name in program.parameter_order),
        ]
        return tuple(array.requires_grad for array in arrays)

    def check(self) -> None:
        """Value, gradients, and the value at another batch size, all against the oracle."""
        y = self.layer(*self.inputs)
        check_forward(self.graph, y, self.inputs, self.stored)
        if y.requires_grad:
            slope = random_array(self.random, tuple(y.shape), self.dtype.is_complex)
            grad_y = laid_out(slope, self.case.layouts[-1]).to(self.dtype)
            y.backward(grad_y)
            check_backward(self.layer, self.graph, self.inputs, self.stored, grad_y)
        lead = LEADS[self.case.seed % len(LEADS)]
        inputs = self.draw(lead)
        with torch.no_grad():
            check_forward(self.graph, self.layer(*inputs), inputs, self.stored)


def check_compiled(kind: str, seed: int, count: int) -> None:
    """Build a series of cases together, then check each."""
    dtype = COMPILED[kind]
    trials = [Trial(case, dtype) for case in collect(dtype.is_complex, seed, count)]
    build_together([(programs_of(trial.layer)[0], trial.mask) for trial in trials])
    for trial in trials:
        trial.check()


@needs_compiler
@pytest.mark.parametrize("kind", ALWAYS)
def test_random_networks_compiled_equal_the_oracle(kind: str) -> None:
    """Value and all gradients of a compiled random network must be the oracle's: 150 in all."""
    check_compiled(kind, 4000, CASES)


@needs_compiler
@pytest.mark.full
@pytest.mark.parametrize("shard", range(FULL_SHARDS))
@pytest.mark.parametrize("kind", COMPILED)
def test_many_random_networks_compiled_equal_the_oracle(kind: str, shard: int) -> None:
    """The same for 8,000 other cases."""
    check_compiled(kind, 5000 + shard, FULL_CASES)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("vector_bytes", [16, 64])
def test_random_networks_interpreted_equal_torch(kind: str, vector_bytes: int) -> None:
    """The loop program of a random network, run by the interpreter, gives what torch gives."""
    cpu = Cpu(vector_bytes, 32 if vector_bytes == 64 else 16)
    for case in collect(KINDS[kind].is_complex, 6000 + vector_bytes, INTERPRETED):
        check_interpreted(case, kind, cpu)


def check_interpreted(case: Case, kind: str, cpu: Cpu) -> None:
    """Forward and all gradients at a batch that is no multiple of a block."""
    program = tn.compile(case.net, backend="torch", dtype=kind)
    plan, batch = program.plan, 5
    random = np.random.default_rng(case.seed)
    arrays: dict[str, np.ndarray] = {}
    for value in plan.inputs:
        sizes = [plan.axis_size(axis) for axis in plan.axes_of(value)]
        shape = tuple(batch if size is None else size for size in sizes)
        arrays[value.name] = random_array(random, shape, KINDS[kind].is_complex)
    leaves = [torch.from_numpy(array).requires_grad_() for array in arrays.values()]
    y = program.reference(*leaves)[0]
    found = interpret(forward_program(plan, cpu), arrays, batch)["out_y"]
    np.testing.assert_allclose(found.reshape(y.shape), y.detach().resolve_conj().numpy(), 1e-9,
                               1e-9)  # fmt: skip
    if not leaves:
        return
    slope = random_array(random, tuple(y.shape), KINDS[kind].is_complex)
    expected = torch.autograd.grad(y, leaves, torch.from_numpy(slope))
    backward = backward_program(plan, list(arrays), cpu)
    taken = {buffer.name for buffer in backward.of("input")}
    given_ = {name: a for name, a in {**arrays, "g": slope}.items() if name in taken}
    results = interpret(backward, given_, batch)
    for name, gradient in zip(arrays, expected, strict=True):
        entries = results[f"out_d_{name}"].reshape(gradient.shape)
        wanted = gradient.resolve_conj().numpy()
        np.testing.assert_allclose(entries, wanted, 1e-8, 1e-8, err_msg=name)
