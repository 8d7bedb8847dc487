"""Where the nodes of a drawing stand: layers upward from the inputs, few crossings, no overlaps."""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from statistics import fmean

from ..graph_values import GraphValues
from .planes import Planes, planes_of
from .shapes import Places, regular_places, stub_directions

# Distances in drawing units; a tensor's box is about one unit wide.
COLUMN = 1.5
ROW = 1.7
STUB = 0.72


@dataclass(frozen=True, slots=True)
class Vertex:
    """A mark of the drawing: kind is tensor, input, output, fix, sum or copy."""

    kind: str
    text: str
    x: float
    y: float


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


@dataclass(slots=True)
class _Board:
    """The picture while it grows. Anchors: keys of the vertices that each leg joins."""

    graph: GraphValues
    anchors: dict[str, list[str]]
    layers: dict[str, int] = field(default_factory=dict)
    vertices: dict[str, Vertex] = field(default_factory=dict)
    lines: list[Line] = field(default_factory=list)


def place(graph: GraphValues) -> Picture:
    """Positions for all nodes of a graph: rings, grids and chains without inputs as such, with the
    marks of ports beside their tensors; else input legs in a row below, or in rows and columns
    where they are sites of a plane, and each output leg a stub."""
    regular = regular_places(graph)
    if regular is not None:
        return _beside(graph, regular)
    board = _Board(graph, {leg: [] for leg, _ in graph.leg_sizes})
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
    _place_copies(board)
    _place_stubs(board)
    _draw_legs(board)
    return Picture(board.vertices, tuple(board.lines))


def _beside(graph: GraphValues, places: Places) -> Picture:
    """A ring or a grid: tensors where they are told to stand, marks of ports beside them."""
    vertices = {tensor_key(name): Vertex("tensor", name, x, y) for name, (x, y) in places.items()}
    lines: list[Line] = []
    entering = {
        leg: (f"input:{port.name}:{axis}", f"{port.name}\n{axis}", "input")
        for port in graph.inputs
        for axis, leg in enumerate(port.legs)
    }
    leaving = {leg: (f"out:{leg}", f"y\n{axis}", "output") for axis, leg in enumerate(graph.output)}
    leaving |= {leg: (f"sum:{leg}", "Σ", "sum") for leg in sorted(graph.summed)}
    for tensor in graph.tensors:
        x, y = places[tensor.name]
        sides = [[leg for leg in tensor.legs if leg in marks] for marks in (entering, leaving)]
        both = stub_directions(places, tensor.name, *map(len, sides))
        for legs, marks, directions in zip(sides, (entering, leaving), both, strict=True):
            for leg, (dx, dy) in zip(legs, directions, strict=True):
                key, text, kind = marks[leg]
                if leg in graph.pinned:
                    text, kind = f"|{graph.pinned[leg]}⟩", "fix"
                vertices[key] = Vertex(kind, text, x + dx, y + dy)
                lines.append(Line(tensor_key(tensor.name), key, short_label(graph, leg)))
    joined: dict[frozenset[str], list[str]] = {}
    owners: dict[str, list[str]] = {}
    for tensor in graph.tensors:
        for leg in tensor.legs:
            owners.setdefault(leg, []).append(tensor_key(tensor.name))
    for leg, ends in owners.items():
        if len(ends) == 2:
            joined.setdefault(frozenset(ends), []).append(leg)
    for legs in joined.values():
        for number, leg in enumerate(legs):
            first, second = owners[leg]
            bend = 0.3 * (number - (len(legs) - 1) / 2)
            lines.append(Line(first, second, short_label(graph, leg), bend))
    return Picture(vertices, tuple(lines))


def short_label(graph: GraphValues, leg: str) -> str:
    """The leg's name and size; of a fresh name, which starts with its maker's, the end."""
    _, dot, suffix = leg.rpartition(".")
    return f"{dot}{suffix}={graph.sizes[leg]}"


def tensor_key(name: str) -> str:
    """The key of a tensor in a picture."""
    return f"tensor:{name}"


def _place_inputs(board: _Board) -> None:
    """One mark a leg; a leg that stands in several ports has a mark in each."""
    x = 0.0
    for port in board.graph.inputs:
        for axis, leg in enumerate(port.legs):
            key = f"input:{port.name}:{axis}"
            pin = board.graph.pinned.get(leg)
            kind, text = ("input", port.name) if pin is None else ("fix", f"|{pin}⟩")
            board.vertices[key] = Vertex(kind, f"{text}\n{axis}" if pin is None else text, x, 0.0)
            board.layers[key] = 0
            board.anchors[leg].append(key)
            x += COLUMN
        x += COLUMN / 2


def _layer_tensors(board: _Board) -> None:
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


def _distances(board: _Board) -> dict[str, int]:
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


def _place_in_planes(board: _Board, planes: Planes) -> None:
    """Sites in rows and columns seen from the side, and each level in a plane above them."""
    for key, leg in zip(board.vertices, planes.legs, strict=True):
        x, y = planes.seen(planes.legs[leg], 0)
        board.vertices[key] = replace(board.vertices[key], x=x, y=y)
    for name, spot in planes.tensors.items():
        x, y = planes.seen(spot, board.layers[tensor_key(name)])
        board.vertices[tensor_key(name)] = Vertex("tensor", name, x, y)


def _place_tensors(board: _Board) -> None:
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


def _place_copies(board: _Board) -> None:
    """A dot for each hyperedge, amid its ends or above them where they stand in one row."""
    rows: dict[float, list[tuple[str, float]]] = {}
    for leg, ends in board.anchors.items():
        if len(ends) + (leg in board.graph.output) <= 2 or _is_pinned_pair(board, leg):
            continue
        heights = [board.vertices[end].y for end in ends]
        y = fmean(heights) if len(set(heights)) > 1 else heights[0] + ROW / 2
        rows.setdefault(y, []).append((leg, fmean(board.vertices[end].x for end in ends)))
    for y, legs in rows.items():
        for (leg, _), x in zip(legs, keep_apart([x for _, x in legs], STUB), strict=True):
            board.vertices[f"copy:{leg}"] = Vertex("copy", "", x, y)


def _is_pinned_pair(board: _Board, leg: str) -> bool:
    """A pinned leg of both ports joins nothing in between: no dot, one line."""
    return leg in board.graph.pinned and len(board.anchors[leg]) <= 1


def _place_stubs(board: _Board) -> None:
    """Marks of output legs and of sums, beside the vertex that carries them."""
    graph = board.graph
    stubs = [
        *((leg, "output" if leg not in graph.pinned else "fix", f"y\n{axis}")
          for axis, leg in enumerate(graph.output)),
        *((leg, "sum", "Σ") for leg in sorted(graph.summed)),
    ]  # fmt: skip
    bases: dict[str, list[tuple[str, str, str]]] = {}
    for leg, kind, text in stubs:
        base = f"copy:{leg}" if f"copy:{leg}" in board.vertices else board.anchors[leg][0]
        shown = f"|{graph.pinned[leg]}⟩" if kind == "fix" else text
        bases.setdefault(base, []).append((leg, kind, shown))
    for base, marks in bases.items():
        root = board.vertices[base]
        side = _free_side(board, base)
        for position, (leg, kind, text) in enumerate(marks):
            spread = (position - (len(marks) - 1) / 2) * STUB
            shift = spread if side == 0 else side * (0.42 * STUB + abs(position) * STUB)
            rise = STUB
            if root.kind == "copy":
                shift, rise = (side or 1) * 0.95 * STUB, 0.7 * STUB
            key = f"{kind}:{leg}:out"
            board.vertices[key] = Vertex(kind, text, root.x + shift, root.y + rise)
            board.lines.append(Line(base, key, short_label(graph, leg)))


def _free_side(board: _Board, base: str) -> int:
    """The side, -1 or 1, where no leg goes up; 0 where none goes up at all."""
    root = board.vertices[base]
    above = [
        board.vertices[end].x - root.x
        for leg, ends in board.anchors.items()
        if base in ends
        for end in ((f"copy:{leg}",) if f"copy:{leg}" in board.vertices else ends)
        if board.vertices[end].y > root.y
    ]
    if not above:
        return 0
    return -1 if fmean(above) >= 0 else 1


def _draw_legs(board: _Board) -> None:
    """A line for each leg with two ends, a star of lines for each hyperedge."""
    pairs = Counter(frozenset(ends) for ends in board.anchors.values() if len(ends) == 2)
    drawn: Counter[frozenset[str]] = Counter()
    for leg, ends in board.anchors.items():
        label = short_label(board.graph, leg)
        copy = f"copy:{leg}"
        if copy in board.vertices:
            # The size once, on the dot's first line: it holds for all of them.
            for position, end in enumerate(ends):
                board.lines.append(Line(copy, end, label if position == 0 else ""))
        elif len(ends) == 2:
            # Legs of one pair of nodes fan out, from the node that comes first by name.
            first, second = sorted(ends)
            twin = drawn[frozenset(ends)] - (pairs[frozenset(ends)] - 1) / 2
            drawn[frozenset(ends)] += 1
            bend = 0.6 * twin + _detour(board, first, second)
            board.lines.append(Line(first, second, label, bend))


def _detour(board: _Board, first: str, second: str) -> float:
    """The bend of a leg along a row, past a third node; upward legs are straight."""
    a, b = board.vertices[first], board.vertices[second]
    if a.y == b.y and any(
        v.y == a.y and min(a.x, b.x) < v.x < max(a.x, b.x) for v in board.vertices.values()
    ):
        return 0.25 if a.x < b.x else -0.25
    return 0.0
