"""Useful sizes of bonds: beyond them a larger bond describes no more maps.

Take a bond e away from one of its ends, v. What is left on its other side is one big tensor; for
each index of the legs that v holds, it is a matrix from e to the open legs that it reaches. Its
rank is at most the smallest cut between e and those open legs, and v can absorb the rest. So the
useful size of e is the smallest such cut, over its ends (a maximum flow with capacities log(size)).

For a tensor train this is the rank of the unfolding, the product of the legs on the smaller side;
in a block tensor train it is the block's smaller side; for the hyperedge of a CP the product of all
legs but the largest. In a network with loops it is an upper bound.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import networkx

from ..graph.graph import Graph
from .shapes import ceiling_root

# Capacities are whole numbers, so that equal cuts compare equal: bits of log2(size).
_RESOLUTION = 2**20

# Above what all legs of a network together can carry.
_UNBOUNDED = 2**60

_SOURCE, _SINK = ("source", ""), ("sink", "")


def useful_sizes(graph: Graph, bonds: Iterable[str]) -> dict[str, int]:
    """The largest useful size of each bond, whatever sizes these bonds have now.

    Arguments:
        graph: the network.
        bonds: legs on no port, whose sizes are free. All others keep theirs.

    A network with shared, frozen or constant tensors cannot absorb a matrix into any tensor. There
    a bond is bounded by the entries of the dense map only.

    >>> from tnlayer.topologies import tensor_train
    >>> useful_sizes(tensor_train((2, 2, 2), (2, 2, 2), rank=1).freeze(), ["b0", "b1"])
    {'b0': 4, 'b1': 4}
    """
    free = list(bonds)
    largest = graph.dense_parameter_count
    if any(tensor.share or not tensor.trainable for tensor in graph.tensors):
        return dict.fromkeys(free, largest)
    wires = _Wires(_holders(graph), _open_legs(graph), frozenset(free))
    sizes = {leg: 1 if leg in graph.pinned else size for leg, size in graph.leg_sizes}
    sizes.update(dict.fromkeys(free, largest))
    # Bonds bound each other, where a cut through other bonds is smaller than one through open legs.
    changed = True
    while changed:
        changed = False
        for bond in free:
            useful = _useful_size(wires, bond, sizes)
            if useful < sizes[bond]:
                sizes[bond], changed = useful, True
    return {bond: sizes[bond] for bond in free}


@dataclass(frozen=True, slots=True)
class _Wires:
    """Which tensors each leg joins, which legs are open, and which have free sizes."""

    holders: Mapping[str, frozenset[str]]
    open_legs: frozenset[str]
    free: frozenset[str]


def _holders(graph: Graph) -> dict[str, frozenset[str]]:
    """The tensors on each leg."""
    holders: dict[str, set[str]] = {leg: set() for leg, _ in graph.leg_sizes}
    for tensor in graph.tensors:
        for leg in tensor.legs:
            holders[leg].add(tensor.name)
    return {leg: frozenset(names) for leg, names in holders.items()}


def _open_legs(graph: Graph) -> frozenset[str]:
    ports = {leg for port in graph.inputs for leg in port.legs} | set(graph.output)
    return frozenset(ports - set(graph.pinned))


def _useful_size(wires: _Wires, bond: str, sizes: Mapping[str, int]) -> int:
    """The smallest cut between a bond and the open legs, over the end that is taken away.

    Free bonds between the same tensors act as one, with the product of their sizes: each gets a
    root of it.
    """
    ends = wires.holders[bond]
    if len(ends) < 2:
        return 1  # a trace over one tensor: its diagonal can be summed beforehand
    parallel = sum(1 for leg in wires.free if wires.holders[leg] == ends)
    cuts = (_cut(wires, bond, end, sizes) for end in sorted(ends))
    return ceiling_root(min(cuts), parallel)


def _cut(wires: _Wires, bond: str, removed: str, sizes: Mapping[str, int]) -> int:
    """Product of the legs of the smallest cut between a bond and the open legs.

    Arguments:
        wires: the network.
        bond: the bond to start from; its ends but one are the sources.
        removed: that end. Each of its legs is one fixed index at a time.
        sizes: size of each leg.
    """
    legs = {
        leg: names
        for leg, names in wires.holders.items()
        if removed not in names and sizes[leg] > 1
    }
    network: Any = networkx.DiGraph()
    network.add_nodes_from((_SOURCE, _SINK))
    for name in wires.holders[bond] - {removed}:
        network.add_edge(_SOURCE, ("tensor", name))
    for (tail, head), capacity in _capacities(legs, wires.open_legs, sizes).items():
        network.add_edge(tail, head, capacity=capacity)
    _, (near, _) = networkx.minimum_cut(
        network, _SOURCE, _SINK, flow_func=networkx.algorithms.flow.edmonds_karp
    )
    return math.prod(
        sizes[leg]
        for leg, names in legs.items()
        if any(("tensor", name) in near for name in names)
        and (leg in wires.open_legs or any(("tensor", name) not in near for name in names))
    )


def _capacities(
    legs: Mapping[str, frozenset[str]], open_legs: frozenset[str], sizes: Mapping[str, int]
) -> dict[tuple[tuple[str, str], tuple[str, str]], float]:
    """Capacities between tensors, and to the sink for open legs; a hyperedge is two nodes."""
    capacities: Counter[tuple[tuple[str, str], tuple[str, str]]] = Counter()
    for leg, names in legs.items():
        capacity = round(_RESOLUTION * math.log2(sizes[leg]))
        ends = [("tensor", name) for name in sorted(names)]
        ends += [_SINK] if leg in open_legs else []
        if len(ends) == 2:
            capacities[ends[0], ends[1]] += capacity
            capacities[ends[1], ends[0]] += capacity
        elif len(ends) > 2:
            into, out = ("into", leg), ("out", leg)
            capacities[into, out] = capacity
            for end in ends:
                capacities[end, into] = capacities[out, end] = _UNBOUNDED
    return dict(capacities)
