"""A plan run step by step in float64 with numpy.einsum: what it computes, whatever made it.

It shares no code with the printers. Forward plans only: Contract, Reduce, Diagonal, Select.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from tests.support import oracle
from tnlayer.graph.graph import Graph
from tnlayer.ir.plan import Plan
from tnlayer.ir.steps import BATCH, Contract, Diagonal, Operand, Reduce, Select

Array = np.ndarray
SAMPLES = 3


def random_data(graph: Graph, is_complex: bool) -> tuple[list[Array], dict[str, Array]]:
    """Inputs for a few samples, and stored arrays; integers, so that any order gives equal sums."""
    random = np.random.default_rng(0)

    def draw(shape: tuple[int, ...]) -> Array:
        real = random.integers(-3, 4, shape).astype(float)
        return real + 1j * random.integers(-3, 4, shape) if is_complex else real

    shapes = oracle.input_shapes(graph)
    lead = {port.name: (SAMPLES,) if port.batched else () for port in graph.inputs}
    inputs = [draw((*lead[port.name], *shapes[port.name])) for port in graph.inputs]
    return inputs, {name: draw(shape) for name, shape in oracle.stored_shapes(graph).items()}


def run_plan(plan: Plan, inputs: list[Array], stored: dict[str, Array]) -> Array:
    """What a forward plan gives for these arrays."""
    values: dict[str, Array] = {}
    for port, x in zip(plan.ports, inputs, strict=True):
        values[port.name] = x.reshape([_size(plan, leg) for leg in port.legs])
    values.update({value.name: stored[value.name] for value in plan.parameters})
    numbers = {leg: number for number, leg in enumerate([BATCH, *plan.sizes])}

    def term(operand: Operand) -> tuple[Array, list[int]]:
        array = values[operand.value.name]
        return array.conj() if operand.conj else array, [numbers[leg] for leg in operand.legs]

    def einsum(operands: tuple[Operand, ...], legs: tuple[str, ...]) -> Array:
        compact: dict[int, int] = {}
        arguments: list[Any] = []
        for array, labels in map(term, operands):
            arguments += [array, [compact.setdefault(n, len(compact)) for n in labels]]
        return np.array(np.einsum(*arguments, [compact[numbers[leg]] for leg in legs]))

    for step in plan.steps:
        match step:
            case Contract() | Reduce() | Diagonal():
                result = einsum(step.operands, step.result.legs)
            case Select():
                pins = dict(step.pins)
                array, labels = term(step.operand)
                result = array[tuple(pins.get(axis, slice(None)) for axis in range(len(labels)))]
            case _:
                msg = f"a forward plan has no {type(step).__name__}"
                raise AssertionError(msg)
        values[step.result.name] = result
    output = plan.outputs[0]
    y = einsum((output.operand,), output.legs)
    return y.reshape([math.prod(_size(plan, leg) for leg in axis) for axis in output.axes])


def _size(plan: Plan, leg: str) -> int:
    return SAMPLES if leg == BATCH else plan.sizes[leg]


def computes(plan: Plan, graph: Graph) -> bool:
    """Whether a plan computes a graph, by numbers."""
    inputs, stored = random_data(graph, plan.is_complex)
    expected = oracle.evaluate(graph, inputs, stored)
    y = run_plan(plan, inputs, stored)
    return y.shape == expected.shape and np.allclose(y, expected, rtol=1e-9, atol=1e-6)
