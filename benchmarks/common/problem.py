"""A network filled with numbers, in the terms that einsum libraries speak: integer legs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

from torch import Tensor

from benchmarks.common.search import Path
from benchmarks.common.workloads import draw_inputs, draw_parameters
from tnlayer.graph.graph import Graph, TensorNode

BATCH_LEG = 0


@dataclass(frozen=True)
class Problem:
    """A network with numbers in it, x and the gradient of y.

    Arguments:
        graph: the network; one batched input.
        batch: rows of x.
        parameters: float32 entries by name, in stored shapes.
        x: float32, shape (batch, in_features).
        grad: float32, shape (batch, out_features): what training feeds into the backward.
        stored: contraction trees of earlier runs that the cotengra baseline may use.
        memo: what was found for this problem and serves several methods.
    """

    graph: Graph
    batch: int
    parameters: dict[str, Tensor]
    x: Tensor
    grad: Tensor
    stored: tuple[Path, ...] = ()
    memo: dict[str, Any] = field(default_factory=dict)

    @classmethod
    def draw(
        cls, graph: Graph, batch: int, stored: tuple[Path, ...] = (), seed: int = 0
    ) -> Problem:
        """Fill a network with reproducible numbers."""
        if len(graph.inputs) != 1 or not graph.inputs[0].batched or graph.inputs[0].product:
            msg = (
                f"network {graph.label!r} has {len(graph.inputs)} inputs: expected one batched "
                "input that is no product state; benchmark such a network with a script of its own"
            )
            raise ValueError(msg)
        x, grad = draw_inputs(graph, batch, seed)
        return cls(graph, batch, draw_parameters(graph, seed), x, grad, stored)

    @cached_property
    def leg_numbers(self) -> dict[str, int]:
        """Legs as integers from 1 on; 0 is the batch."""
        return {leg: number for number, (leg, _) in enumerate(self.graph.leg_sizes, start=1)}

    def numbered(self, legs: Sequence[str]) -> tuple[int, ...]:
        """Open legs as integers."""
        return tuple(self.leg_numbers[leg] for leg in legs if leg not in self.graph.pinned)

    @cached_property
    def terms(self) -> tuple[tuple[int, ...], ...]:
        """Legs of the operands: x with its batch, then one term a tensor node."""
        x_term = (BATCH_LEG, *self.numbered(self.graph.inputs[0].legs))
        return (x_term, *(self.numbered(node.legs) for node in self.graph.tensors))

    @cached_property
    def output_term(self) -> tuple[int, ...]:
        """Legs of y, batch first."""
        return (BATCH_LEG, *self.numbered(self.graph.output))

    @cached_property
    def sizes(self) -> dict[int, int]:
        """Size of each numbered leg, the batch too."""
        sizes = {self.leg_numbers[leg]: size for leg, size in self.graph.leg_sizes}
        return {BATCH_LEG: self.batch, **sizes}

    @cached_property
    def x_shape(self) -> tuple[int, ...]:
        """Shape of x with one axis a leg."""
        return tuple(self.sizes[leg] for leg in self.terms[0])

    def operands(self, parameters: dict[str, Tensor]) -> list[Tensor]:
        """One tensor a node: its parameter without the slices that this node does not use."""
        return [self._operand(node, parameters) for node in self.graph.tensors]

    def _operand(self, node: TensorNode, parameters: dict[str, Tensor]) -> Tensor:
        owner = node.share or node.name
        pins = {p.name: p.pins for p in self.graph.parameters}[owner]
        kept = [leg for leg, pin in zip(node.legs, pins, strict=True) if pin is None]
        value = parameters[owner]
        for axis, leg in reversed(list(enumerate(kept))):
            if leg in self.graph.pinned:
                value = value.select(axis, self.graph.pinned[leg])
        return value.conj() if node.conj else value
