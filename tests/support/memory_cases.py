"""Programs with a random Memory, held against the oracle."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import torch

import tnlayer as tn
from tests.support import oracle
from tests.support.against_oracle import check_forward, draw_inputs, laid_out, numpy_of
from tests.support.strategies import Case, random_array
from tnlayer.ir.plan import Plan
from tnlayer.ir.plan_parts import Memory
from tnlayer.passes.slice_legs import looped_together, sliceable_legs
from tnlayer.planning.planner import Request, plan_graph
from tnlayer.runtime.program import Program

BATCH = 64


def everything(plan: Plan) -> tuple[str, ...]:
    """All values that a backward can make again."""
    return tuple(step.result.name for step in plan.steps)


def program_with(
    net: tn.Network,
    memory: Memory | Callable[[Plan], Memory],
    *,
    batch: int = BATCH,
    dtype: str = "float32",
) -> Program:
    """A program whose plan has this Memory."""
    planned = plan_graph(net, Request(batch=batch, dtype=dtype))
    found = memory if isinstance(memory, Memory) else memory(planned.plan)
    plan = replace(planned.plan, memory=found)
    return Program(planned.graph, plan, planned.form.tensor_names)


def random_memory(plan: Plan, random: np.random.Generator) -> Memory:
    """Any recompute set, a chunk of 1 to 3 samples or none, any slices that can go together."""
    names = [name for name in everything(plan) if random.random() < 0.5]
    chunk = [None, 1, 2, 3][random.integers(4)]
    looped = set() if chunk is None else {"b"}
    for leg in random.permutation(sliceable_legs(plan)):
        if not looped_together(plan, looped | {str(leg)}):
            looped.add(str(leg))
    return Memory(tuple(names), chunk, tuple(sorted(looped - {"b"})))


def check_memory(case: Case, dtype: str) -> Memory:
    """Value and wanted gradients of a program with a random Memory are the oracle's."""
    is_complex = dtype.startswith("complex")
    random = np.random.default_rng(case.seed)
    program = program_with(case.net, lambda plan: random_memory(plan, random), dtype=dtype)
    graph = program.graph
    lead = (int(np.prod(case.lead)),)
    stored = {
        name: random_array(random, shape, is_complex)
        for name, shape in oracle.stored_shapes(graph).items()
    }
    inputs = [x.to(program.dtype) for x in draw_inputs(graph, case, lead, random, is_complex)]
    arrays = {name: torch.from_numpy(value.copy()) for name, value in stored.items()}
    for tensor in (*inputs, *arrays.values()):
        tensor.requires_grad_(case.frozen == 0 or random.random() < 0.5)
    check_program(program, inputs, arrays, laid_out_gradient(case, random, is_complex))
    return program.plan.memory


def laid_out_gradient(
    case: Case, random: np.random.Generator, is_complex: bool
) -> Callable[[torch.Tensor], torch.Tensor]:
    """Random gradients of y in one of the layouts."""
    return lambda y: laid_out(random_array(random, tuple(y.shape), is_complex), case.layouts[-1])


def check_program(
    program: Program,
    inputs: list[torch.Tensor],
    arrays: dict[str, torch.Tensor],
    gradient_of: Callable[[torch.Tensor], torch.Tensor],
) -> None:
    """Value and gradients against the oracle; nothing where no gradient is wanted."""
    graph = program.graph
    stored = {name: numpy_of(array) for name, array in arrays.items()}
    y = program(*inputs, parameters=arrays)
    check_forward(graph, y, inputs, stored)
    with torch.no_grad():
        check_forward(graph, program(*inputs, parameters=arrays), inputs, stored)
    takers = [array for array in (*inputs, *arrays.values()) if array.requires_grad]
    assert y.requires_grad == bool(takers)
    if not takers:
        return
    grad_y = gradient_of(y)
    found = iter(torch.autograd.grad(y, takers, grad_y))
    plain = [numpy_of(x) for x in inputs]
    expected = oracle.gradients(graph, plain, stored, numpy_of(grad_y))
    sizes = oracle.gradients(
        graph,
        [np.abs(x) for x in plain],
        {name: np.abs(w) for name, w in stored.items()},
        np.abs(numpy_of(grad_y)),
    )
    every = [
        *zip(inputs, expected[0], sizes[0], strict=True),
        *((arrays[name], expected[1][name], sizes[1][name]) for name in arrays),
    ]
    for array, gradient, magnitude in every:
        if array.requires_grad:
            oracle.assert_close(numpy_of(next(found)), gradient, magnitude, "gradient")
