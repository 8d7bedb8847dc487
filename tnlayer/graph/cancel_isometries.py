"""Take out what an isometry and its conjugate make of each other: the identity.

Where W^H W = 1 is certain, a pair of nodes whose legs meet that way is a wire. In the norm or the
energy of a MERA all tensors outside the light cone of the operator go, so that the rest costs what
the light cone costs.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace

from .graph import SCALED, Graph, TensorNode


def can_be_kept(node: TensorNode) -> bool:
    """Whether a tensor with ``isometry`` is trained, so that it has to be kept isometric."""
    return bool(node.isometry) and node.trainable and node.value is None


def is_scaled_isometry(node: TensorNode) -> bool:
    """Whether a tensor is a multiple of an isometry."""
    return bool(node.isometry) and node.init == SCALED


def cancel_isometries(graph: Graph) -> Graph:
    """The graph without pairs of an isometric tensor and its conjugate that make the identity.

    The two legs that remain of a pair become one. What has fixed legs stays, and so does a pair
    whose wire would join two legs of one port. One node is left where else there would be none.

    Arguments:
        graph: whose trainable tensors with ``isometry`` are exactly isometric.
    """
    while True:
        pair = next(_pairs(graph), None)
        if pair is None:
            return graph
        graph = _without(graph, *pair)


def _pairs(graph: Graph) -> Iterator[tuple[TensorNode, TensorNode, Mapping[str, str]]]:
    """Two nodes that make the identity, and the legs that become others."""
    if len(graph.tensors) <= 2 and not graph.inputs:
        return
    ends = Counter(leg for tensor in graph.tensors for leg in tensor.legs)
    ends.update(leg for legs in _port_legs(graph) for leg in legs)
    owners = {tensor.name: tensor for tensor in graph.tensors if tensor.share is None}
    users: dict[str, list[TensorNode]] = {}
    for tensor in graph.tensors:
        owner = owners[tensor.share or tensor.name]
        is_exact = can_be_kept(owner) and not is_scaled_isometry(owner)
        if is_exact and not any(leg in graph.pinned for leg in tensor.legs):
            users.setdefault(owner.name, []).append(tensor)
    for name, nodes in users.items():
        for one in (node for node in nodes if not node.conj):
            for other in (node for node in nodes if node.conj):
                for inner in _inner_sides(graph, owners[name]):
                    wires = _wires(graph, one, other, inner, ends)
                    if wires is not None:
                        yield one, other, wires


def _port_legs(graph: Graph) -> Iterator[tuple[str, ...]]:
    yield graph.output
    for port in graph.inputs:
        yield port.legs


def _inner_sides(graph: Graph, owner: TensorNode) -> list[tuple[int, ...]]:
    """Axes over which an isometry times its conjugate is the identity: the larger side's."""
    rows = owner.isometry
    columns = tuple(axis for axis in range(len(owner.legs)) if axis not in rows)
    sizes = [math.prod(graph.sizes[owner.legs[axis]] for axis in side) for side in (rows, columns)]
    sides = [(sizes[0], rows), (sizes[1], columns)]
    return [side for size, side in sides if size == max(sizes)]


def _wires(
    graph: Graph,
    one: TensorNode,
    other: TensorNode,
    inner: Sequence[int],
    ends: Mapping[str, int],
) -> Mapping[str, str] | None:
    """Which legs become others where a pair goes; None where it has to stay."""
    if len(set(one.legs)) < len(one.legs) or len(set(other.legs)) < len(other.legs):
        return None  # a diagonal
    for axis in inner:
        leg = one.legs[axis]
        if leg != other.legs[axis] or ends[leg] != 2 or leg in graph.summed:
            return None
    wires: dict[str, str] = {}
    for axis in range(len(one.legs)):
        if axis in inner:
            continue
        kept, gone = one.legs[axis], other.legs[axis]
        if {kept, gone} & graph.summed or kept in wires.values() or gone in wires:
            return None
        if kept == gone:
            if ends[kept] < 4:
                return None  # the trace of an identity is a number, which no leg holds
            continue
        if any(kept in legs and gone in legs for legs in _port_legs(graph)):
            return None
        wires[gone] = kept
    return None if set(wires) & set(wires.values()) else wires


def _without(graph: Graph, one: TensorNode, other: TensorNode, wires: Mapping[str, str]) -> Graph:
    """The graph without two nodes, its legs joined; who shares their array owns it now."""
    rest = [tensor for tensor in graph.tensors if tensor is not one and tensor is not other]
    name = one.share or one.name
    owner = graph.nodes[name]
    heir = None
    if owner is one or owner is other:
        heir = next((tensor for tensor in rest if tensor.share == name), None)
    tensors: list[TensorNode] = []
    for tensor in rest:
        node = tensor
        if tensor is heir:  # the array keeps its name
            node = replace(owner, legs=tensor.legs, conj=tensor.conj)
        tensors.append(replace(node, legs=_renamed(node.legs, wires)))
    inputs = tuple(replace(port, legs=_renamed(port.legs, wires)) for port in graph.inputs)
    output = _renamed(graph.output, wires)
    used = {leg for legs in (output, *(p.legs for p in inputs)) for leg in legs}
    used.update(leg for tensor in tensors for leg in tensor.legs)
    return Graph(
        label=graph.label,
        leg_sizes=tuple((leg, size) for leg, size in graph.leg_sizes if leg in used),
        inputs=inputs,
        output=output,
        tensors=tuple(tensors),
        summed=graph.summed,
        fixed=graph.fixed,
    )


def _renamed(legs: tuple[str, ...], wires: Mapping[str, str]) -> tuple[str, ...]:
    return tuple(wires.get(leg, leg) for leg in legs)
