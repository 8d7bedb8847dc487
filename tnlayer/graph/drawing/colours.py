"""What the marks of a picture look like: one colour and one shape a kind, and their names."""

from __future__ import annotations

import math

from ..graph_values import GraphValues, TensorNode
from .picture import Vertex

COLOURS = {
    "tensor": "#bcd6f2",
    "frozen": "#d9d9d9",
    "constant": "#efefef",
    "shared": "#e3d4f0",
    "conjugated": "#c9b6e4",
    "input": "#bfe3c0",
    "output": "#fbd3a2",
    "fix": "#f4a6a0",
    "sum": "#f2e394",
    "open": "#ffffff",
    "copy": "#222222",
}


def tensor_kind(tensor: TensorNode) -> str:
    """Which of the kinds above a tensor is."""
    if tensor.conj:
        return "conjugated"
    if tensor.share is not None:
        return "shared"
    if tensor.trainable:
        return "tensor"
    return "frozen" if tensor.value is None else "constant"


def tensor_kinds(graph: GraphValues) -> dict[str, str]:
    """The kind of each tensor by name."""
    return {tensor.name: tensor_kind(tensor) for tensor in graph.tensors}


def narrowing(graph: GraphValues, vertex: Vertex) -> int:
    """Whether a mark is an isometry that is narrower above, 1, or below, -1, where the legs stand
    that ``isometry=`` names; 0 of square ones, which keep all, and of other tensors."""
    node = graph.nodes.get(vertex.text) if vertex.kind == "tensor" else None
    if node is None:
        return 0
    node = graph.nodes[node.share] if node.share else node
    size = math.prod(graph.sizes[leg] for leg in node.legs)
    side = math.prod(graph.sizes[node.legs[axis]] for axis in node.isometry)
    if not node.isometry or side * side == size:
        return 0
    narrow = 1 if side * side > size else -1
    return -narrow if vertex.flipped else narrow
