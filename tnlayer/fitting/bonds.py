"""Bonds whose size may change, and networks with other sizes of them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

from ..graph.graph import Graph
from ..graph.validate import validate


@dataclass(frozen=True, slots=True)
class Bond:
    """Legs that have one size: one inner leg, or several that shared tensors tie to each other.

    Arguments:
        legs: their names; the first one stands for all.
        size: of each.
        axes: the axes of stored arrays on them, as (tensor, axis of the full shape).
    """

    legs: tuple[str, ...]
    size: int
    axes: frozenset[tuple[str, int]]


def bonds_of(graph: Graph) -> dict[str, Bond]:
    """The bonds that may get another size, by the name of each of their legs.

    Legs of ports and fixed legs keep theirs, and so do legs of tensors that are frozen or constant.
    """
    ports = {leg for port in graph.inputs for leg in port.legs} | set(graph.output)
    held = ports | set(graph.pinned)
    root = {leg: leg for leg, _ in graph.leg_sizes}

    def find(leg: str) -> str:
        while root[leg] != leg:
            leg = root[leg]
        return leg

    for tensor in graph.tensors:
        owner = graph.nodes[tensor.share] if tensor.share else tensor
        for mine, other in zip(tensor.legs, owner.legs, strict=True):
            root[find(mine)] = find(other)
        if not owner.trainable:
            held |= set(tensor.legs)
    kept = {find(leg) for leg in held}
    groups: dict[str, list[str]] = {}
    for leg, _ in graph.leg_sizes:
        if find(leg) not in kept:
            groups.setdefault(find(leg), []).append(leg)
    found: dict[str, Bond] = {}
    for legs in groups.values():
        axes = frozenset(
            (tensor.share or tensor.name, axis)
            for tensor in graph.tensors
            for axis, leg in enumerate(tensor.legs)
            if leg in legs
        )
        bond = Bond(tuple(legs), graph.sizes[legs[0]], axes)
        found |= dict.fromkeys(legs, bond)
    return found


def with_sizes(graph: Graph, sizes: Mapping[str, int]) -> Graph:
    """The network with other sizes of some legs; values that no longer fit are left out.

    Arguments:
        graph: the network.
        sizes: new sizes by leg, the same for legs of one bond.
    """
    changed = {leg for leg, size in graph.leg_sizes if sizes.get(leg, size) != size}
    if not changed:
        return graph
    tensors = tuple(
        replace(tensor, value=None) if changed & set(tensor.legs) else tensor
        for tensor in graph.tensors
    )
    legs = tuple((leg, sizes.get(leg, size)) for leg, size in graph.leg_sizes)
    made = replace(graph, leg_sizes=legs, tensors=tensors)
    validate(made)
    return made
