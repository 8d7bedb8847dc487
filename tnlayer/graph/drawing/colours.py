"""What the marks of a picture look like: one colour and one shape a kind, and their names."""

from __future__ import annotations

from ..graph_values import GraphValues, TensorNode

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
