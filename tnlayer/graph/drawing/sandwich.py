"""Sandwiches, such as <state|operator|state>: the state below, its conjugate mirrored above it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from statistics import fmean

from ..graph_values import GraphValues, Port, TensorNode
from .layers import keep_apart, layered_board
from .picture import COLUMN, ROW, STUB, Vertex, tensor_key
from .planes import planes_of
from .shapes import SPACING, grid_of, joints_of, ring_of, row_of

# Of a grid that is seen from the side: columns, rows, and how far each is to the right of the next.
_COLUMN, _ROW, _SHEAR = 2.6, 1.0, 0.8
# How far from a leg that passes by the middle of an operator is at least.
_CLEAR = 0.62


@dataclass(frozen=True, slots=True)
class Sandwich:
    """What is which in a network that has tensors twice, once conjugated.

    Arguments:
        pairs: tensors of the state and their conjugates, by name.
        between: all other tensors.
        beside: for legs of the state those of the conjugate in their place.
    """

    pairs: Mapping[str, str]
    between: tuple[str, ...]
    beside: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class _Place:
    """Where something of the state stands: from left to right, into a plane that is seen from the
    side, and how far from the operators."""

    x: float
    back: float = 0.0
    away: float = 0.0


def sandwich_of(graph: GraphValues) -> Sandwich | None:
    """The state, the conjugate and what is between; None for other networks.

    There is no input, most tensors stand in pairs that share their entries and of which one is
    conjugated, and the legs of the one half are joined as those of the other are. Sharing and
    joints count, not names.
    """
    if graph.inputs:
        return None
    users: dict[str, tuple[list[TensorNode], list[TensorNode]]] = {}
    for tensor in graph.tensors:
        users.setdefault(tensor.share or tensor.name, ([], []))[tensor.conj].append(tensor)
    both = [(plain, conj) for plain, conj in users.values() if plain and conj]
    if not both or any(len(plain) != len(conj) for plain, conj in both):
        return None
    # Of several uses of one tensor the first belongs to the first conjugate, or to the last.
    for step in (1, -1):
        pairs = [pair for plain, conj in both for pair in zip(plain, conj[::step], strict=True)]
        beside = _mirror(pairs)
        if beside is None:
            continue
        named = {plain.name: conj.name for plain, conj in pairs}
        taken = {*named, *named.values()}
        between = tuple(t.name for t in graph.tensors if t.name not in taken)
        return Sandwich(named, between, beside) if len(between) <= len(taken) else None
    return None


def _mirror(pairs: Iterable[tuple[TensorNode, TensorNode]]) -> dict[str, str] | None:
    """The leg of the conjugate for each of the state; None where two are joined otherwise."""
    there: dict[str, str] = {}
    back: dict[str, str] = {}
    for plain, conj in pairs:
        for one, other in zip(plain.legs, conj.legs, strict=True):
            if there.setdefault(one, other) != other or back.setdefault(other, one) != one:
                return None
    return there


def sandwich_places(graph: GraphValues, sandwich: Sandwich) -> dict[str, Vertex]:
    """The tensors of a sandwich, by their keys: the state below, upside down where its sites are
    the lowest level, the conjugate above as its mirror image, operators between.

    Arguments:
        graph: what is drawn.
        sandwich: what is which in it.
    """
    tensors, sites, is_turned = _arranged(_state(graph, sandwich))
    depth = max(place.back for place in tensors.values())
    levels = _levels(graph, sandwich)
    count = max(levels.values(), default=0)
    # Open sites of both have their marks in between.
    top = (count + 1) * ROW + 0.6 * depth + (STUB if graph.open_legs(graph.output) else 0.0)
    step = top / (count + 1)
    found: dict[str, Vertex] = {}
    for name, other in sandwich.pairs.items():
        at = tensors[name]
        low, high = at.back - at.away, top + at.back + at.away
        found[tensor_key(name)] = Vertex("tensor", name, at.x, low, flipped=is_turned)
        found[tensor_key(other)] = Vertex("tensor", other, at.x, high, flipped=not is_turned)
    known = {sandwich.beside[leg]: place for leg, place in sites.items()} | sites
    passing = [
        tensors[name].x
        for name, other in sandwich.pairs.items()
        if set(graph.nodes[name].legs) & set(graph.nodes[other].legs)
    ]
    for level in range(1, count + 1):
        row = [name for name in sandwich.between if levels[name] == level]
        for name, at in _between(graph, row, known, passing).items():
            known |= dict.fromkeys(graph.nodes[name].legs, at)
            found[tensor_key(name)] = Vertex("tensor", name, at.x, at.back + step * level)
    return found


def _state(graph: GraphValues, sandwich: Sandwich) -> GraphValues:
    """The state as a network whose inputs are its sites: what leaves it for operators and for the
    conjugate."""
    own = [tensor for tensor in graph.tensors if tensor.name in sandwich.pairs]
    ends = {leg for tensor in own for leg in tensor.legs}
    others = {leg for t in graph.tensors if t.name not in sandwich.pairs for leg in t.legs}
    sites = tuple(leg for leg, _ in graph.leg_sizes if leg in ends and leg in others)
    # Wires point away from what was declared first. In a circuit from a product state, whose sites
    # are on the last gates, they have to be followed back.
    ranks = [rank for rank, tensor in enumerate(own) if set(tensor.legs) & set(sites)]
    if ranks and fmean(ranks) > (len(own) - 1) / 2:
        own.reverse()
    used = tuple((leg, size) for leg, size in graph.leg_sizes if leg in ends)
    ports = (Port("sites", sites),) if sites else ()
    leaving = tuple(leg for leg in graph.output if leg in ends)
    return GraphValues(graph.label, used, ports, leaving, tuple(own), graph.summed & ends)


def _arranged(state: GraphValues) -> tuple[dict[str, _Place], dict[str, _Place], bool]:
    """Where tensors and sites of a state stand, and whether it is turned upside down for that:
    chains and rings in a row, grids in a plane that is seen from the side, others in levels, whose
    lowest comes next to the operators."""
    places = _regular(state)
    if places is not None:
        sites = {leg: places[t.name] for t in state.tensors for leg in t.legs}
        return places, sites, False
    state = _in_order(state)
    board = layered_board(state)
    planes = planes_of(state)
    tensors: dict[str, _Place] = {}
    for tensor in state.tensors:
        vertex = board.vertices[tensor_key(tensor.name)]
        back = 0.0 if planes is None else planes.seen(planes.tensors[tensor.name], 0)[1]
        tensors[tensor.name] = _Place(vertex.x, back, vertex.y - back)
    nearest = min(place.away for place in tensors.values())
    tensors = {name: replace(p, away=p.away - nearest) for name, p in tensors.items()}
    marks = [vertex for vertex in board.vertices.values() if vertex.kind != "tensor"]
    return tensors, {mark.leg: _Place(mark.x, mark.y) for mark in marks}, True


def _in_order(state: GraphValues) -> GraphValues:
    """The state with its sites in the order of the tensors that have them.

    Sites of upper levels, such as wires that are left of isometries that cancelled, are no part of
    the order in which legs were declared: the levels below tell where they are.
    """
    board = layered_board(state)
    joined = {leg: board.anchors[leg][-1] for port in state.inputs for leg in port.legs}
    low = {leg for leg, key in joined.items() if board.layers[key] == 1}
    if not low or len(low) == len(joined):
        return state
    kept = tuple(leg for leg in joined if leg in low)
    others = tuple(leg for leg in joined if leg not in low)
    lower = replace(state, inputs=(Port("sites", kept),), output=(*state.output, *others))
    x = {key: vertex.x for key, vertex in layered_board(lower).vertices.items()}
    order = sorted(joined, key=lambda leg: x[joined[leg]])
    return replace(state, inputs=(Port("sites", tuple(order)),))


def _regular(state: GraphValues) -> dict[str, _Place] | None:
    joints = joints_of(state, least=1)
    if joints is None:
        return None
    grid = grid_of(joints)
    if grid is not None:
        rows = max(row for row, _ in grid.values())
        return {
            name: _Place(_COLUMN * column + _SHEAR * (rows - row), _ROW * (rows - row))
            for name, (row, column) in grid.items()
        }
    order = ring_of(joints) or row_of(joints) or (list(joints) if len(joints) == 1 else None)
    return (
        None
        if order is None
        else {name: _Place(SPACING * number) for number, name in enumerate(order)}
    )


def _levels(graph: GraphValues, sandwich: Sandwich) -> dict[str, int]:
    """How many tensors lie between each operator and the state, and one more."""
    reached = {leg for name in sandwich.pairs for leg in graph.nodes[name].legs}
    found: dict[str, int] = {}
    waiting, level = list(sandwich.between), 0
    while waiting:
        level += 1
        row = [name for name in waiting if set(graph.nodes[name].legs) & reached]
        # What is joined to nothing stands in the first row.
        row = row or waiting
        # Legs of tensors of one row join them along it.
        found |= dict.fromkeys(row, level)
        reached |= {leg for name in row for leg in graph.nodes[name].legs}
        waiting = [name for name in waiting if name not in found]
    return found


def _between(
    graph: GraphValues,
    row: Sequence[str],
    legs: Mapping[str, _Place],
    passing: Sequence[float],
) -> dict[str, _Place]:
    """Operators of one level: each amid what it acts on, beside the legs that pass by."""
    amid: list[_Place] = []
    for name in row:
        ends = [legs[leg] for leg in graph.nodes[name].legs if leg in legs]
        x = fmean(end.x for end in ends) if ends else min(passing, default=0.0) - COLUMN
        amid.append(_Place(x, fmean(end.back for end in ends) if ends else 0.0))
    if any(place.back for place in amid):
        return dict(zip(row, amid, strict=True))
    apart = keep_apart([place.x for place in amid], COLUMN)
    return {name: _Place(_beside(x, passing)) for name, x in zip(row, apart, strict=True)}


def _beside(x: float, passing: Sequence[float]) -> float:
    """The place nearest to x that no leg passes by, of those between two of them."""
    lines = sorted(set(passing))
    if all(abs(x - line) >= _CLEAR for line in lines):
        return x
    gaps = [(a + b) / 2 for a, b in pairwise(lines) if b - a >= 2 * _CLEAR]
    return min((*gaps, lines[0] - COLUMN / 2, lines[-1] + COLUMN / 2), key=lambda at: abs(at - x))
