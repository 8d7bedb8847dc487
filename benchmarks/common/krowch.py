"""TensorKrowch's side of the comparison: a network of its nodes with a contraction of ours.

TensorKrowch leaves the contraction of a network to its user, so this file is what a careful user
would write: pairwise contractions along a given tree, traced once.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

from benchmarks.common.problem import BATCH_LEG, Problem
from benchmarks.common.search import Path


def build_network(problem: Problem, path: Path) -> tuple[Callable[[Tensor], Tensor], list[Tensor]]:
    """Build and trace a network: a dense x with one edge a leg, one ParamNode a tensor.

    Arguments:
        problem: the network, its batch and its entries; no fixed legs, no shared tensors.
        path: contraction tree, as positions in a shrinking list of operands.

    Returns the callable from x (batch, features) to y, and the trainable tensors in order.
    """
    krowch: Any = importlib.import_module("tensorkrowch")
    network = krowch.TensorNetwork(name="pairwise")
    names = [_axis_names(term) for term in problem.terms]
    operands: list[Any] = [
        krowch.Node(
            shape=problem.x_shape, axes_names=names[0], name="data_x", network=network, data=True
        )
    ]
    for number, value in enumerate(problem.parameters.values(), start=1):
        node = krowch.ParamNode(
            axes_names=names[number],
            name=f"tensor_{number}",
            network=network,
            tensor=value.clone(),
        )
        operands.append(node)
    ends = _connect(krowch, operands, names)
    output_edges = [ends[axis][axis] for axis in _axis_names(problem.output_term)[1:]]
    # TensorKrowch wants a subclass with a method of this name; an attribute serves as well.
    network.contract = lambda: _contract(krowch, operands, path, output_edges)
    network.trace([torch.zeros(problem.x_shape)])

    def run(x: Tensor) -> Tensor:
        return network([x.reshape(problem.x_shape)]).reshape(len(x), -1)

    return run, [node.tensor for node in operands[1:]]


def _axis_names(term: Sequence[int]) -> tuple[str, ...]:
    """TensorKrowch knows batch axes by their names.

    No underscore before the number: TensorKrowch would count such names anew.
    """
    return tuple("batch" if leg == BATCH_LEG else f"leg{leg}" for leg in term)


def _connect(
    krowch: Any, operands: Sequence[Any], names: Sequence[tuple[str, ...]]
) -> dict[str, Any]:
    """Join the edges of equal name; returns the first node of each edge."""
    ends: dict[str, Any] = {}
    for node, axes in zip(operands, names, strict=True):
        for axis in axes:
            if axis in ends:
                krowch.connect(ends[axis][axis], node[axis])
            else:
                ends[axis] = node
    return ends


def _contract(krowch: Any, operands: Sequence[Any], path: Path, output_edges: Sequence[Any]) -> Any:
    """Contract pairwise along the path; the last operation gives y, batch first."""
    nodes = list(operands)
    for positions in path:
        pair = [nodes.pop(position) for position in sorted(positions, reverse=True)]
        nodes.append(krowch.contract_between(pair[1], pair[0]))
    (result,) = nodes
    # The batch edge of a result is a new edge: find it by its kind.
    order = [axis for axis, edge in enumerate(result.edges) if edge.is_batch()]
    if len(order) != 1:
        msg = f"the contracted network has {len(order)} batch edges: expected one"
        raise ValueError(msg)
    order += [result.edges.index(edge) for edge in output_edges]
    return result.permute(tuple(order))
