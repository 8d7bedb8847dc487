"""From a Graph to the terms of one contraction: every node as a value with distinct, needed legs.

Fixed legs become slices, shared tensors views of one parameter, product ports one vector a leg,
repeated legs diagonals, and legs that only one node has are summed: what is left is a plain
hypergraph that a path search understands.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from itertools import chain, count

from ..graph.graph import Graph, Parameter, Port, TensorNode
from ..ir.steps import BATCH, Diagonal, Operand, Reduce, Select, Step, Value
from ..ir.value_numbering import Numbering


@dataclass(frozen=True, slots=True)
class Terms:
    """A network made ready for contraction.

    Arguments:
        leg_sizes: sizes of all legs that occur, axes of product ports included.
        ports: one value an input port.
        parameters: one value a stored array.
        steps: the unary steps that make the terms.
        terms: what is multiplied: distinct legs each, every leg on two terms or on the output.
        output: legs of each axis of y, the batch first.
        port_axes: legs of each axis with which the input of a port comes.
    """

    leg_sizes: tuple[tuple[str, int], ...]
    ports: tuple[Value, ...]
    parameters: tuple[Value, ...]
    steps: tuple[Step, ...]
    terms: tuple[Operand, ...]
    output: tuple[tuple[str, ...], ...]
    port_axes: tuple[tuple[str, tuple[tuple[str, ...], ...]], ...]


def make_terms(graph: Graph, *, is_complex: bool) -> Terms:
    """Turn a graph into terms; conjugation flags stay only where the arithmetic is complex."""
    maker = _Maker(graph, is_complex)
    for port in graph.inputs:
        maker.add_port(port)
    for parameter in graph.parameters:
        maker.add_parameter(parameter)
    for tensor in graph.tensors:
        maker.add_tensor(tensor)
    batch = ((BATCH,),) if any(port.batched for port in graph.inputs) else ()
    output = (*batch, graph.open_legs(graph.output))
    maker.simplify(frozenset(leg for axis in output for leg in axis))
    return Terms(
        tuple(maker.sizes.items()),
        tuple(maker.ports),
        tuple(maker.parameters.values()),
        tuple(maker.steps),
        tuple(maker.terms),
        output,
        tuple(maker.port_axes.items()),
    )


def numbered(terms: Terms) -> Numbering:
    """A numbering in which terms with equal entries are equal."""
    numbering = Numbering((*terms.ports, *terms.parameters))
    for step in terms.steps:
        numbering.add(step)
    return numbering


class _Maker:
    """Collects values, steps and terms while the graph is walked once."""

    def __init__(self, graph: Graph, is_complex: bool) -> None:
        self.graph = graph
        self.is_complex = is_complex
        self.sizes = dict(graph.leg_sizes)
        self.ports: list[Value] = []
        self.port_axes: dict[str, tuple[tuple[str, ...], ...]] = {}
        self.parameters: dict[str, Value] = {}
        self.stored = {parameter.name: parameter for parameter in graph.parameters}
        self.steps: list[Step] = []
        self.terms: list[Operand] = []

    def add_port(self, port: Port) -> None:
        """An input becomes one term, a product port one term a leg."""
        batch = (BATCH,) if port.batched else ()
        legs = self.graph.open_legs(port.legs)
        if not port.product:
            value = Value(port.name, (*batch, *legs))
            self.ports.append(value)
            self.port_axes[port.name] = (batch, legs) if batch else (legs,)
            self.terms.append(Operand(value))
            return
        count, size = self.graph.input_shape(port)
        which, component = f"{port.name}_n", f"{port.name}_d"
        self.sizes |= {which: count, component: size}
        value = Value(port.name, (*batch, which, component))
        self.ports.append(value)
        self.port_axes[port.name] = tuple((leg,) for leg in value.legs)
        for position, leg in enumerate(legs):
            vector = Value(f"{port.name}_{position}", (*batch, leg))
            self.steps.append(Select(vector, Operand(value), ((len(batch), position),)))
            self.terms.append(Operand(vector))

    def add_parameter(self, parameter: Parameter) -> None:
        """A stored array has the legs of its owner, without the axes that were cut off."""
        axes = zip(parameter.node.legs, parameter.pins, strict=True)
        legs = tuple(leg for leg, pin in axes if pin is None)
        self.parameters[parameter.name] = Value(parameter.name, legs)

    def add_tensor(self, tensor: TensorNode) -> None:
        """A node is its parameter, or a view of it with slices taken and legs renamed."""
        owner = tensor.share or tensor.name
        stored, value = self.stored[owner], self.parameters[owner]
        axes = zip(tensor.legs, stored.pins, strict=True)
        legs = tuple(leg for leg, pin in axes if pin is None)
        pinned = self.graph.pinned
        pins = tuple((axis, pinned[leg]) for axis, leg in enumerate(legs) if leg in pinned)
        if pins or legs != value.legs:
            left = tuple(leg for leg in legs if leg not in pinned)
            name = tensor.name if tensor.share else f"{tensor.name}_s"
            view = Value(name, left)
            self.steps.append(Select(view, Operand(value), pins))
            value = view
        self.terms.append(Operand(value, tensor.conj and self.is_complex))

    def unused(self, name: str) -> str:
        """The name, or with a number behind it: nodes that share a parameter share its name."""
        taken = {step.result.name for step in self.steps}
        return next(n for n in chain((name,), (f"{name}{k}" for k in count(1))) if n not in taken)

    def simplify(self, output: frozenset[str]) -> None:
        """Take diagonals of repeated legs, then sum legs that stand on one term only."""
        numbering = Numbering((*self.ports, *self.parameters.values()))
        for step in self.steps:
            numbering.add(step)
        for index, term in enumerate(self.terms):
            distinct = tuple(dict.fromkeys(term.legs))
            if distinct != term.legs:
                value = Value(self.unused(f"{term.value.name}_d"), distinct)
                self.terms[index] = self.once(Diagonal(value, term), numbering)
        ends = Counter(leg for term in self.terms for leg in term.legs)
        for index, term in enumerate(self.terms):
            kept = tuple(leg for leg in term.legs if leg in output or ends[leg] > 1)
            if kept != term.legs:
                value = Value(self.unused(f"{term.value.name}_r"), kept)
                self.terms[index] = self.once(Reduce(value, term), numbering)

    def once(self, step: Diagonal | Reduce, numbering: Numbering) -> Operand:
        """The result of a step, which only gets a new name if an earlier step computed it."""
        same = numbering.add(step)
        if same is None:
            self.steps.append(step)
            return Operand(step.result)
        value = Value(step.result.name, same.legs(step.result))
        self.steps.append(Select(value, Operand(same.first), ()))
        numbering.add(self.steps[-1])
        return Operand(value, same.conj)
