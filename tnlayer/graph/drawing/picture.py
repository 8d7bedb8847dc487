"""A picture as values: marks, lines between them, and the words beside legs."""

from __future__ import annotations

from dataclasses import dataclass

from ..graph_values import GraphValues

# Distances in drawing units; a tensor's box is about one unit wide.
COLUMN = 1.5
ROW = 1.7
STUB = 0.72


@dataclass(frozen=True, slots=True)
class Vertex:
    """A mark of the drawing: kind is tensor, input, output, fix, sum, open or copy.

    Arguments:
        kind: what it is.
        text: what is written on it.
        x, y: where its middle stands; y is upward.
        leg: the leg that ends at a mark of a port, or that a dot stands for.
        flipped: whether the tensor stands upside down, its legs to what is below at its top.
    """

    kind: str
    text: str
    x: float
    y: float
    leg: str = ""
    flipped: bool = False


@dataclass(frozen=True, slots=True)
class Line:
    """A leg between two vertices; bend is the height of its arc as a part of its length."""

    first: str
    second: str
    label: str
    bend: float = 0.0


@dataclass(frozen=True, slots=True)
class Picture:
    """Vertices by key, and lines between keys."""

    vertices: dict[str, Vertex]
    lines: tuple[Line, ...]


def short_label(graph: GraphValues, leg: str) -> str:
    """The leg's name and size; of a fresh name, which starts with its maker's, the end."""
    _, dot, suffix = leg.rpartition(".")
    return f"{dot}{suffix}={graph.sizes[leg]}"


def tensor_key(name: str) -> str:
    """The key of a tensor in a picture."""
    return f"tensor:{name}"
