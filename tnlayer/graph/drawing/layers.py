"""Where tensors stand in layers upward from the inputs: few crossings, no overlaps."""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from statistics import fmean

from ..graph_values import GraphValues
from .picture import COLUMN, ROW, Line, Vertex, tensor_key
from .planes import Planes, planes_of


@dataclass(slots=True)
class Board:
    """A picture while it grows.

    Arguments:
        graph: what is drawn.
        anchors: keys of the vertices that each leg joins.
        layers: how far above the inputs each vertex is, by key.
        vertices: what stands already, by key.
        lines: what is drawn between them.
        sides: -1 for the keys of a state, 1 for those of the conjugate above it; else empty.
    """

    graph: GraphValues
    anchors: dict[str, list[str]]
    layers: dict[str, int] = field(default_factory=dict)
    vertices: dict[str, Vertex] = field(default_factory=dict)
    lines: list[Line] = field(default_factory=list)
    sides: dict[str, int] = field(default_factory=dict)


def layered_board(graph: GraphValues) -> Board:
    """The marks of inputs in a row below, or in rows and columns where they are sites of a plane,
    and the tensors above them."""
    board = Board(graph, {leg: [] for leg, _ in graph.leg_sizes})
    _place_inputs(board)
    for tensor in graph.tensors:
        for leg in tensor.legs:
            board.anchors[leg].append(tensor_key(tensor.name))
    _layer_tensors(board)
    planes = planes_of(graph)
    if planes is None:
        _place_tensors(board)
    else:
        _place_in_planes(board, planes)
    return board


def _place_inputs(board: Board) -> None:
    """One mark a leg; a leg that stands in several ports has a mark in each."""
    x = 0.0
    for port in board.graph.inputs:
        for axis, leg in enumerate(port.legs):
            key = f"input:{port.name}:{axis}"
            pin = board.graph.pinned.get(leg)
            kind, text = ("input", port.name) if pin is None else ("fix", f"|{pin}⟩")
            words = f"{text}\n{axis}" if pin is None else text
            board.vertices[key] = Vertex(kind, words, x, 0.0, leg)
            board.layers[key] = 0
            board.anchors[leg].append(key)
            x += COLUMN
        x += COLUMN / 2


def _layer_tensors(board: Board) -> None:
    """Wires point upward from their maker; elsewhere the distance from the inputs counts."""
    distances = _distances(board)
    for tensor in board.graph.tensors:
        key = tensor_key(tensor.name)
        makers = [
            board.layers[end]
            for leg in tensor.legs
            if "." in leg and (end := board.anchors[leg][0]) != key and end in board.layers
        ]
        board.layers[key] = 1 + max(makers) if makers else distances[key]


def _distances(board: Board) -> dict[str, int]:
    """Distance of each vertex from the inputs; parts without inputs start at their first tensor."""
    neighbours: dict[str, list[str]] = {}
    for ends in board.anchors.values():
        for end in ends:
            neighbours.setdefault(end, []).extend(ends)
    found = dict.fromkeys(board.vertices, 0)
    waiting = deque(found)
    for tensor in board.graph.tensors:
        key = tensor_key(tensor.name)
        while waiting:
            near = waiting.popleft()
            for end in neighbours.get(near, ()):
                if end not in found:
                    found[end] = found[near] + 1
                    waiting.append(end)
        if key not in found:
            found[key] = 1
            waiting.append(key)
    return found


def _place_in_planes(board: Board, planes: Planes) -> None:
    """Sites in rows and columns seen from the side, and each level in a plane above them."""
    for key, leg in zip(board.vertices, planes.legs, strict=True):
        x, y = planes.seen(planes.legs[leg], 0)
        board.vertices[key] = replace(board.vertices[key], x=x, y=y)
    for name, spot in planes.tensors.items():
        x, y = planes.seen(spot, board.layers[tensor_key(name)])
        board.vertices[tensor_key(name)] = Vertex("tensor", name, x, y)


def _place_tensors(board: Board) -> None:
    """Row by row: each tensor above the mean of what it joins below, kept apart."""
    rows: dict[int, list[str]] = {}
    for tensor in board.graph.tensors:
        key = tensor_key(tensor.name)
        rows.setdefault(board.layers[key], []).append(key)
    names = {tensor_key(tensor.name): tensor.name for tensor in board.graph.tensors}
    for layer in sorted(rows):
        wanted: list[float] = []
        for position, key in enumerate(rows[layer]):
            legs = board.graph.nodes[names[key]].legs
            below = [
                board.vertices[end].x
                for leg in legs
                for end in board.anchors[leg]
                if end in board.vertices
            ]
            wanted.append(fmean(below) if below else position * COLUMN)
        for key, x in zip(rows[layer], keep_apart(wanted, COLUMN), strict=True):
            board.vertices[key] = Vertex("tensor", names[key], x, layer * ROW)


def keep_apart(wanted: Sequence[float], gap: float) -> list[float]:
    """Positions at least a gap apart, in the order wanted, as near as possible to those wanted.

    Source: pool adjacent violators (isotonic regression) of the positions less their offsets.
    """
    order = sorted(range(len(wanted)), key=wanted.__getitem__)
    pools: list[list[float]] = []
    for rank, item in enumerate(order):
        pools.append([wanted[item] - rank * gap])
        while len(pools) > 1 and fmean(pools[-2]) > fmean(pools[-1]):
            last = pools.pop()
            pools[-1] += last
    level = [fmean(pool) for pool in pools for _ in pool]
    placed = [0.0] * len(wanted)
    for rank, item in enumerate(order):
        placed[item] = level[rank] + rank * gap
    return placed
