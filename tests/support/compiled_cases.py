"""Random cases through the loop IR: compiled with many others, or run by the interpreter."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
import torch

import tnlayer as tn
from tests.support.against_oracle import (
    KINDS,
    check_backward,
    check_forward,
    draw_inputs,
    fill,
    freeze_some,
    laid_out,
)
from tests.support.cpp_units import programs_of
from tests.support.strategies import LEADS, Case, random_array
from tnlayer.graph.graph import Graph
from tnlayer.hardware.cpu import Cpu
from tnlayer.ir.loops_interpret import interpret
from tnlayer.lowering.calls.training_schedules import Mask
from tnlayer.lowering.cpu.pipeline import backward_program, forward_program


@dataclass
class CompiledCase:
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
