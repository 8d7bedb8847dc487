"""Where the nodes of a drawing stand, and how legs run between them."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable
from dataclasses import replace
from statistics import fmean

from ..graph_values import GraphValues
from .labels import control, vertex_box
from .layers import Board, keep_apart, layered_board
from .picture import ROW, STUB, Line, Picture, Vertex, short_label, tensor_key
from .sandwich import Sandwich, sandwich_of, sandwich_places
from .shapes import Places, regular_places, stub_directions

# Bends of legs that have to go around a mark, the best first.
_BENDS = (0.0, 0.14, -0.14, 0.22, -0.22, 0.3, -0.3, 0.4, -0.4)


def place(graph: GraphValues, dangling: frozenset[str] = frozenset()) -> Picture:
    """Positions for all nodes of a graph: a state below its conjugate; rings, grids and chains
    without inputs as such, with the marks of ports beside their tensors; else input legs in a row
    below, or in rows and columns where they are sites of a plane, and each output leg a stub.

    Arguments:
        graph: what is drawn.
        dangling: legs of its sums that have no other end yet, which have marks of their own.
    """
    sandwich = sandwich_of(graph)
    if sandwich is not None:
        return _layers_of(graph, sandwich, dangling)
    regular = regular_places(graph)
    if regular is not None:
        return _beside(graph, regular, dangling)
    board = layered_board(graph)
    _place_copies(board)
    _place_stubs(board, dangling)
    _draw_legs(board)
    return Picture(board.vertices, tuple(board.lines))


def _beside(graph: GraphValues, places: Places, dangling: frozenset[str]) -> Picture:
    """A ring or a grid: tensors where they are told to stand, marks of ports beside them."""
    vertices = {tensor_key(name): Vertex("tensor", name, x, y) for name, (x, y) in places.items()}
    lines: list[Line] = []
    entering = {
        leg: (f"input:{port.name}:{axis}", f"{port.name}\n{axis}", "input")
        for port in graph.inputs
        for axis, leg in enumerate(port.legs)
    }
    leaving = {leg: (f"out:{leg}", f"y\n{axis}", "output") for axis, leg in enumerate(graph.output)}
    leaving |= {leg: (f"sum:{leg}", *_end(leg, dangling)) for leg in sorted(graph.summed)}
    for tensor in graph.tensors:
        x, y = places[tensor.name]
        sides = [[leg for leg in tensor.legs if leg in marks] for marks in (entering, leaving)]
        both = stub_directions(places, tensor.name, *map(len, sides))
        for legs, marks, directions in zip(sides, (entering, leaving), both, strict=True):
            for leg, (dx, dy) in zip(legs, directions, strict=True):
                key, text, kind = marks[leg]
                if leg in graph.pinned:
                    text, kind = f"|{graph.pinned[leg]}⟩", "fix"
                vertices[key] = Vertex(kind, text, x + dx, y + dy, leg)
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


def _layers_of(graph: GraphValues, sandwich: Sandwich, dangling: frozenset[str]) -> Picture:
    """A state, what acts on it, and its conjugate above."""
    board = Board(graph, {leg: [] for leg, _ in graph.leg_sizes})
    for tensor in graph.tensors:
        for leg in tensor.legs:
            board.anchors[leg].append(tensor_key(tensor.name))
    board.vertices.update(sandwich_places(graph, sandwich))
    for state, conjugate in sandwich.pairs.items():
        board.sides |= {tensor_key(state): -1, tensor_key(conjugate): 1}
    _place_copies(board)
    _place_stubs(board, dangling)
    _draw_legs(board)
    return Picture(board.vertices, tuple(board.lines))


def _end(leg: str, dangling: frozenset[str]) -> tuple[str, str]:
    """Text and kind of the mark of a leg with one end."""
    return ("open", "open") if leg in dangling else ("Σ", "sum")


def _place_copies(board: Board) -> None:
    """A dot for each hyperedge, amid its ends or above them where they stand in one row; below
    them in a state under its conjugate."""
    rows: dict[float, list[tuple[str, float]]] = {}
    for leg, ends in board.anchors.items():
        if len(ends) + (leg in board.graph.output) <= 2 or _is_pinned_pair(board, leg):
            continue
        heights = [board.vertices[end].y for end in ends]
        side = _side_of(board, ends)
        y = fmean(heights) if len(set(heights)) > 1 else heights[0] + (side or 1) * ROW / 2
        board.sides[f"copy:{leg}"] = side
        rows.setdefault(y, []).append((leg, fmean(board.vertices[end].x for end in ends)))
    for y, legs in rows.items():
        for (leg, _), x in zip(legs, keep_apart([x for _, x in legs], STUB), strict=True):
            board.vertices[f"copy:{leg}"] = Vertex("copy", "", x, y, leg)


def _side_of(board: Board, keys: Iterable[str]) -> int:
    """-1 where all of these are of the state below, 1 of the conjugate above, 0 else."""
    sides = {board.sides.get(key, 0) for key in keys}
    return sides.pop() if len(sides) == 1 else 0


def _is_pinned_pair(board: Board, leg: str) -> bool:
    """A pinned leg of both ports joins nothing in between: no dot, one line."""
    return leg in board.graph.pinned and len(board.anchors[leg]) <= 1


def _place_stubs(board: Board, dangling: frozenset[str]) -> None:
    """Marks of output legs, of sums and of legs without another end, beside what carries them."""
    graph = board.graph
    stubs = [
        *((leg, "output" if leg not in graph.pinned else "fix", f"y\n{axis}")
          for axis, leg in enumerate(graph.output)),
        *((leg, *_end(leg, dangling)[::-1]) for leg in sorted(graph.summed)),
    ]  # fmt: skip
    bases: dict[tuple[str, int], list[tuple[str, str, str]]] = {}
    for leg, kind, text in stubs:
        base = f"copy:{leg}" if f"copy:{leg}" in board.vertices else board.anchors[leg][0]
        shown = f"|{graph.pinned[leg]}⟩" if kind == "fix" else text
        bases.setdefault((base, _way(board, base, kind)), []).append((leg, kind, shown))
    for (base, way), marks in bases.items():
        root = board.vertices[base]
        side = _free_side(board, base, way)
        for position, (leg, kind, text) in enumerate(marks):
            spread = (position - (len(marks) - 1) / 2) * STUB
            shift = spread if side == 0 else side * (0.42 * STUB + abs(position) * STUB)
            rise = STUB
            if root.kind == "copy":
                shift, rise = (side or 1) * 0.95 * STUB, 0.7 * STUB
            key = f"{kind}:{leg}:out"
            board.vertices[key] = Vertex(kind, text, root.x + shift, root.y + way * rise, leg)
            board.lines.append(Line(base, key, short_label(graph, leg)))


def _way(board: Board, base: str, kind: str) -> int:
    """Whether a stub goes up, 1, or down, -1: of a state and its conjugate what is open points to
    the middle, and what is closed away from it."""
    side = board.sides.get(base, 0)
    return (-side if kind == "output" else side) or 1


def _free_side(board: Board, base: str, way: int) -> int:
    """The side, -1 or 1, where no leg goes up (or down); 0 where none goes there at all."""
    root = board.vertices[base]
    there = [
        board.vertices[end].x - root.x
        for leg, ends in board.anchors.items()
        if base in ends
        for end in ((f"copy:{leg}",) if f"copy:{leg}" in board.vertices else ends)
        if way * (board.vertices[end].y - root.y) > 0
    ]
    if not there:
        return 0
    return -1 if fmean(there) >= 0 else 1


def _draw_legs(board: Board) -> None:
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
            # Legs of one pair of nodes fan out, from the node that comes first by name; of a state
            # and its conjugate from the lower one, so that both fan out in one order.
            first, second = sorted(
                ends, key=lambda end: _height(board, end) if board.sides else end
            )
            twin = drawn[frozenset(ends)] - (pairs[frozenset(ends)] - 1) / 2
            drawn[frozenset(ends)] += 1
            line = Line(first, second, label, 0.6 * twin)
            if board.sides:
                board.lines.append(_around(board, _flatter(board, line)))
            else:
                board.lines.append(replace(line, bend=line.bend + _detour(board, first, second)))


def _height(board: Board, key: str) -> tuple[float, float]:
    return board.vertices[key].y, board.vertices[key].x


def _flatter(board: Board, line: Line) -> Line:
    """A leg that is bent no further out than one between neighbours is."""
    a, b = board.vertices[line.first], board.vertices[line.second]
    return replace(
        line, bend=line.bend * min(1.0, 2 * ROW / (math.dist((a.x, a.y), (b.x, b.y)) or 1.0))
    )


def _detour(board: Board, first: str, second: str) -> float:
    """The bend of a leg along a row, past a third node; upward legs are straight."""
    a, b = board.vertices[first], board.vertices[second]
    if a.y == b.y and any(
        v.y == a.y and min(a.x, b.x) < v.x < max(a.x, b.x) for v in board.vertices.values()
    ):
        return 0.25 if a.x < b.x else -0.25
    return 0.0


def _around(board: Board, line: Line) -> Line:
    """A leg of a state, its conjugate or between them, bent around the marks in its way; away from
    the middle, if it can."""
    a, b = board.vertices[line.first], board.vertices[line.second]
    away = -1 if (a.x > b.x) == (_side_of(board, (line.first, line.second)) < 0) else 1
    others = [
        vertex_box(vertex)
        for key, vertex in board.vertices.items()
        if key not in (line.first, line.second)
    ]

    def met(bend: float) -> int:
        x, y = control(a, b, bend)
        count = 0
        for part in (k / 24 for k in range(1, 24)):
            first, pull, last = (1 - part) ** 2, 2 * part * (1 - part), part**2
            at_x, at_y = first * a.x + pull * x + last * b.x, first * a.y + pull * y + last * b.y
            count += any(box.holds(at_x, at_y, 0.05) for box in others)
        return count

    if line.first == line.second:
        return line
    bends = (line.bend + away * bend for bend in _BENDS)
    return replace(line, bend=min(bends, key=met))
