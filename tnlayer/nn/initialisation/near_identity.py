"""Entries near the identity: which legs of a tensor are connected, by its place in the graph."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch

from ...graph.graph import Graph, TensorNode


@dataclass(frozen=True, slots=True)
class Sides:
    """The axes of a tensor, apart.

    Arguments:
        rows: towards the inputs.
        columns: towards the output; axes left over on either side are one matrix with the other.
        pairs: axes that are connected one with one: an input leg with an output leg.

    Axes that stand nowhere are constant.
    """

    rows: tuple[int, ...]
    columns: tuple[int, ...]
    pairs: tuple[tuple[int, int], ...] = ()


def near_identity_entries(
    graph: Graph, node: TensorNode, noise: float, dtype: torch.dtype
) -> torch.Tensor:
    """Entries of a tensor at full shape that let signals pass, with noise.

    Arguments:
        graph: that the tensor stands in.
        node: the tensor.
        noise: standard deviation of what is added to each entry.
        dtype: of the entries.
    """
    shape = graph.shape_of(node.legs)
    axes = range(len(shape))
    if node.isometry:
        columns = tuple(axis for axis in axes if axis not in node.isometry)
        sides = Sides(node.isometry, columns)
    else:
        sides = find_sides(graph, node)
    full = torch.ones(shape, dtype=dtype, device="cpu")
    for rows, columns in _matrices(sides):
        full *= _eye(shape, rows, columns)
    full += noise * torch.randn(shape, dtype=dtype, device="cpu")
    return _isometric(full, sides) if node.isometry else full


def find_sides(graph: Graph, node: TensorNode) -> Sides:
    """Which axes of a tensor are connected, where no isometry says so.

    Bonds to tensors nearer to the output lead there, bonds to others come from the inputs; those
    between equals are shared out, the first half to the inputs' side.
    """
    features = {leg for port in graph.inputs if port.product for leg in port.legs}
    entering = {leg for port in graph.inputs if not port.product for leg in port.legs}
    leaving = set(graph.output)
    distances = _distances(graph)
    near = _nearest(graph, node, distances)
    rows: list[int] = []
    columns: list[int] = []
    opened: tuple[list[int], list[int]] = ([], [])
    level: list[int] = []
    for axis, leg in enumerate(node.legs):
        is_bond = leg in near and leg not in features
        if leg in features or (leg in entering and leg in leaving):
            continue
        if leg in entering:
            opened[0].append(axis)
        elif leg in leaving:
            if entering:
                opened[1].append(axis)
        elif is_bond:
            here = distances[node.name]
            side = level if near[leg] == here else columns if near[leg] < here else rows
            side.append(axis)
    pairs = tuple(zip(*opened, strict=False))
    rows = [*opened[0][len(pairs) :], *rows]
    columns = [*opened[1][len(pairs) :], *columns]
    half = max(0, min(len(level), (len(rows) + len(columns) + len(level) + 1) // 2 - len(rows)))
    rows, columns = rows + level[:half], columns + level[half:]
    if len(rows) + len(columns) > 1 and not (rows and columns):
        both = rows or columns
        middle = (len(both) + 1) // 2
        rows, columns = both[:middle], both[middle:]
    return Sides(tuple(rows), tuple(columns), pairs)


def _distances(graph: Graph) -> Mapping[str, int]:
    """Steps from each tensor to one with an output leg; equal ones where there is no such path."""
    holders: dict[str, list[str]] = {}
    for tensor in graph.tensors:
        for leg in set(tensor.legs):
            holders.setdefault(leg, []).append(tensor.name)
    legs = {tensor.name: tensor.legs for tensor in graph.tensors}
    found: dict[str, int] = {}
    border = [name for leg in graph.output for name in holders.get(leg, ())]
    steps = 0
    while border:
        fresh = [name for name in dict.fromkeys(border) if name not in found]
        found.update(dict.fromkeys(fresh, steps))
        border = [other for name in fresh for leg in legs[name] for other in holders[leg]]
        steps += 1
    return {tensor.name: found.get(tensor.name, steps) for tensor in graph.tensors}


def _nearest(graph: Graph, node: TensorNode, distances: Mapping[str, int]) -> dict[str, int]:
    """For each leg that other tensors have, the least distance of those."""
    mine = set(node.legs)
    found: dict[str, int] = {}
    for tensor in graph.tensors:
        if tensor.name != node.name:
            for leg in mine.intersection(tensor.legs):
                found[leg] = min(distances[tensor.name], found.get(leg, distances[tensor.name]))
    return found


def _matrices(sides: Sides) -> list[tuple[tuple[int, ...], tuple[int, ...]]]:
    """The matrices whose product is the identity: one a pair where axes pair up, else one."""
    each = [((row,), (column,)) for row, column in sides.pairs]
    if len(sides.rows) == len(sides.columns):
        return each + [((r,), (c,)) for r, c in zip(sides.rows, sides.columns, strict=True)]
    return [*each, (sides.rows, sides.columns)]


def _eye(shape: Sequence[int], rows: Sequence[int], columns: Sequence[int]) -> torch.Tensor:
    """A matrix with ones on its diagonal, along axes of a tensor; no axes on a side: index 0."""
    sizes = [math.prod(shape[axis] for axis in side) for side in (rows, columns)]
    order = [*rows, *columns]
    matrix = torch.eye(*sizes, device="cpu").reshape([shape[axis] for axis in order])
    matrix = matrix.permute(sorted(range(len(order)), key=order.__getitem__))
    return matrix.reshape([size if axis in order else 1 for axis, size in enumerate(shape)])


def _isometric(full: torch.Tensor, sides: Sides) -> torch.Tensor:
    """The isometry that is nearest to a tensor's matrix: its polar factor."""
    order = [*sides.rows, *sides.columns]
    moved = full.permute(order)
    wide = torch.complex128 if full.is_complex() else torch.float64
    rows = math.prod(moved.shape[: len(sides.rows)])
    u, _, vh = torch.linalg.svd(moved.reshape(rows, -1).to(wide), full_matrices=False)
    back = sorted(range(len(order)), key=order.__getitem__)
    return (u @ vh).to(full.dtype).reshape(moved.shape).permute(back)
