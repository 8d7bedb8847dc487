"""Take out what an isometry and its conjugate make of each other: the identity.

Where W^H W = 1 is certain, a pair of nodes whose legs meet that way is a wire. In the norm or the
energy of a MERA all tensors outside the light cone of the operator go, so that the rest costs what
the light cone costs.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from ..errors import SpecError
from .graph import SCALED, Graph, TensorNode

# How far W^H W of a value may be from the identity: it was rounded, or printed with few digits.
_CLOSE = 1e-3


def can_be_kept(node: TensorNode) -> bool:
    """Whether a tensor with ``isometry`` is trained, so that it has to be kept isometric."""
    return bool(node.isometry) and node.trainable


def is_scaled_isometry(node: TensorNode) -> bool:
    """Whether a tensor is a multiple of an isometry."""
    return bool(node.isometry) and node.init == SCALED


def check_values(graph: Graph) -> None:
    """Refuse values of trained tensors with ``isometry`` that are none.

    Raises:
        SpecError: an entry of W^H W differs from that of the identity by more than 0.001.
    """
    for node in graph.tensors:
        if node.value is None or not can_be_kept(node):
            continue
        off = off_isometry(node.value.array, node.isometry)
        if not off <= _CLOSE:
            legs = " ".join(node.legs[axis] for axis in node.isometry)
            msg = (
                f"tensor {node.name!r}: its value is no isometry with {legs!r} on one side: "
                f"W^H W differs from the identity by {off:.3g}, expected at most {_CLOSE}. Give "
                "the nearest one, u @ vh of numpy.linalg.svd of the matrix, or leave isometry= out"
            )
            raise SpecError(msg)


def off_isometry(array: np.ndarray, isometry: Sequence[int]) -> float:
    """The largest entry of W^H W - 1; nan where it has no meaning.

    Arguments:
        array: a tensor's entries.
        isometry: axes of one side of it as a matrix; the larger side has the rows.
    """
    sizes = array.shape
    other = [axis for axis in range(len(sizes)) if axis not in isometry]
    rows, columns = sorted(
        (list(isometry), other), key=lambda side: math.prod(sizes[axis] for axis in side)
    )[::-1]
    entries = array.transpose([*rows, *columns])
    matrix = entries.reshape(math.prod(sizes[axis] for axis in rows), -1).astype(complex)
    with np.errstate(over="ignore", invalid="ignore"):  # far off is infinite, or nan
        product = matrix.conj().T @ matrix
    return float(np.abs(product - np.eye(len(product))).max(initial=0.0))


def cancel_isometries(graph: Graph, *, even_scaled: bool = False) -> Graph:
    """The graph without pairs of an isometric tensor and its conjugate that make the identity.

    The two legs that remain of a pair become one; where both are fixed at one index they are gone.
    A pair stays whose wire would join two legs of one port, and one node is left where else there
    would be none.

    Arguments:
        graph: whose trainable tensors with ``isometry`` are exactly isometric.
        even_scaled: whether those with init="scaled" are isometries, too, and no multiples.

    Raises:
        SpecError: the value of such a tensor is no isometry.
    """
    check_values(graph)
    while True:
        pair = next(_pairs(graph, even_scaled=even_scaled), None)
        if pair is None:
            return graph
        graph = _without(graph, pair)


@dataclass(frozen=True, slots=True)
class _Pair:
    """Two nodes that make the identity.

    Arguments:
        nodes: the tensor and its conjugate.
        wires: for legs of the one the legs of the other that they become.
        gone: fixed legs that nothing has any more.
    """

    nodes: tuple[TensorNode, TensorNode]
    wires: Mapping[str, str]
    gone: frozenset[str]


def _pairs(graph: Graph, *, even_scaled: bool) -> Iterator[_Pair]:
    if len(graph.tensors) <= 2 and not graph.inputs:
        return
    ends = Counter(leg for tensor in graph.tensors for leg in tensor.legs)
    ends.update(leg for legs in _port_legs(graph) for leg in legs)
    owners = {tensor.name: tensor for tensor in graph.tensors if tensor.share is None}
    users: dict[str, list[TensorNode]] = {}
    for tensor in graph.tensors:
        owner = owners[tensor.share or tensor.name]
        if can_be_kept(owner) and (even_scaled or not is_scaled_isometry(owner)):
            users.setdefault(owner.name, []).append(tensor)
    for name, nodes in users.items():
        for one in (node for node in nodes if not node.conj):
            for other in (node for node in nodes if node.conj):
                for inner in _inner_sides(graph, owners[name]):
                    pair = _pair(graph, one, other, inner, ends)
                    if pair is not None:
                        yield pair


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


def _pair(
    graph: Graph,
    one: TensorNode,
    other: TensorNode,
    inner: Sequence[int],
    ends: Mapping[str, int],
) -> _Pair | None:
    """A tensor and its conjugate, if they meet on all inner axes; None where they have to stay."""
    if len(set(one.legs)) < len(one.legs) or len(set(other.legs)) < len(other.legs):
        return None  # a diagonal
    pinned, summed = graph.pinned, graph.summed
    for axis in inner:
        leg = one.legs[axis]
        if leg != other.legs[axis] or ends[leg] != 2 or leg in summed or leg in pinned:
            return None
    wires: dict[str, str] = {}
    gone: set[str] = set()
    for axis in (axis for axis in range(len(one.legs)) if axis not in inner):
        kept, left = one.legs[axis], other.legs[axis]
        if kept in pinned or left in pinned:
            # A node and a port each, or both nodes and a port.
            few = ends[kept] == 3 if kept == left else ends[kept] == ends[left] == 2
            if pinned.get(kept) != pinned.get(left) or not few:
                return None
            gone |= {kept, left}
            continue
        if {kept, left} & summed or kept in wires.values() or left in wires:
            return None
        if kept == left:
            if ends[kept] < 4:
                return None  # the trace of an identity is a number, which no leg holds
            continue
        if any(kept in legs and left in legs for legs in _port_legs(graph)):
            return None
        wires[left] = kept
    if set(wires) & set(wires.values()):
        return None
    return _Pair((one, other), wires, frozenset(gone))


def _without(graph: Graph, pair: _Pair) -> Graph:
    """The graph without two nodes, its legs joined; who shares their array owns it now."""
    rest = [tensor for tensor in graph.tensors if tensor not in pair.nodes]
    name = pair.nodes[0].share or pair.nodes[0].name
    owner = graph.nodes[name]
    heir = None
    if owner in pair.nodes:
        heir = next((tensor for tensor in rest if tensor.share == name), None)
    tensors: list[TensorNode] = []
    for tensor in rest:
        node = tensor
        if tensor is heir:  # the array keeps its name
            node = replace(owner, legs=tensor.legs, conj=tensor.conj)
        tensors.append(replace(node, legs=_joined(node.legs, pair)))
    inputs = tuple(replace(port, legs=_joined(port.legs, pair)) for port in graph.inputs)
    output = _joined(graph.output, pair)
    used = {leg for legs in (output, *(p.legs for p in inputs)) for leg in legs}
    used.update(leg for tensor in tensors for leg in tensor.legs)
    return Graph(
        label=graph.label,
        leg_sizes=tuple((leg, size) for leg, size in graph.leg_sizes if leg in used),
        inputs=inputs,
        output=output,
        tensors=tuple(tensors),
        summed=graph.summed,
        fixed=tuple((leg, index) for leg, index in graph.fixed if leg in used),
    )


def _joined(legs: tuple[str, ...], pair: _Pair) -> tuple[str, ...]:
    return tuple(pair.wires.get(leg, leg) for leg in legs if leg not in pair.gone)
