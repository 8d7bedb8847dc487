"""Layouts that show what a network is: rings as rings, grids as grids, states of chains as rows."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import networkx

from ..graph_values import GraphValues

# Distance of neighbours in a grid and on a ring, in drawing units.
SPACING = 2.4
_MOST = 144

Places = Mapping[str, tuple[float, float]]


def regular_places(graph: GraphValues) -> Places | None:
    """Where the tensors of a ring, of a grid or of a chain without inputs stand, by name; None for
    other networks.

    Only the joints count, not the names. All legs of ports must have one tensor each, and all
    others two: hyperedges, traces and wires through levels are for the layered layout.
    """
    joints = joints_of(graph)
    if joints is None:
        return None
    grid = grid_of(joints)  # four in a ring are a square
    if grid is not None:
        rows = max(row for row, _ in grid.values())
        return {name: (SPACING * c, SPACING * (rows - r)) for name, (r, c) in grid.items()}
    ring = ring_of(joints)
    if ring is not None:
        return _circle(ring)
    # What enters a chain has its place below: levels show that.
    row = None if graph.inputs else row_of(joints)
    return (
        None if row is None else {name: (SPACING * number, 0.0) for number, name in enumerate(row)}
    )


def joints_of(graph: GraphValues, least: int = 3) -> networkx.Graph[str] | None:
    """Which tensors are joined, where that is all that counts: each leg of a port has one tensor,
    each other leg two, none is a wire, and the tensors are neither few nor many.

    Arguments:
        graph: what is drawn.
        least: of how few tensors there are joints.
    """
    if not least <= len(graph.tensors) <= _MOST:
        return None
    ports = {leg for port in graph.inputs for leg in port.legs} | set(graph.output)
    ends: dict[str, list[str]] = {leg: [] for leg in graph.sizes}
    for tensor in graph.tensors:
        for leg in tensor.legs:
            ends[leg].append(tensor.name)
    found: networkx.Graph[str] = networkx.Graph()
    found.add_nodes_from(tensor.name for tensor in graph.tensors)
    for leg, names in ends.items():
        wanted = 1 if leg in ports or leg in graph.summed else 2
        if len(set(names)) != wanted or len(names) != wanted or "." in leg:
            return None
        if wanted == 2:
            found.add_edge(*names)
    seen = [leg for port in graph.inputs for leg in port.legs] + list(graph.output)
    return found if len(set(seen)) == len(seen) else None


def ring_of(joints: networkx.Graph[str]) -> Sequence[str] | None:
    """The tensors of a ring, once around; None for what is none."""
    if not networkx.is_connected(joints) or any(degree != 2 for _, degree in joints.degree()):
        return None
    return [one for one, _ in networkx.find_cycle(joints, next(iter(joints)))]


def _circle(order: Sequence[str]) -> Places:
    radius = SPACING / (2 * math.sin(math.pi / len(order)))
    step = 2 * math.pi / len(order)
    angles = (math.pi / 2 - step * number for number in range(len(order)))
    return {
        name: (radius * math.cos(angle), radius * math.sin(angle))
        for name, angle in zip(order, angles, strict=True)
    }


def row_of(joints: networkx.Graph[str]) -> Sequence[str] | None:
    """A chain from one end to the other, beginning with the end that was declared first; None for
    what is none."""
    ends = [name for name, degree in joints.degree() if degree == 1]
    if len(ends) != 2 or not networkx.is_connected(joints):
        return None
    if any(degree > 2 for _, degree in joints.degree()):
        return None
    return networkx.shortest_path(joints, *ends)


def grid_of(joints: networkx.Graph[str]) -> Mapping[str, tuple[float, float]] | None:
    """Rows and columns of a grid of two by two and more; None for what is none."""
    count = len(joints)
    for rows in range(2, math.isqrt(count) + 1):
        columns, rest = divmod(count, rows)
        lines = rows * (columns - 1) + columns * (rows - 1)
        if rest or joints.number_of_edges() != lines:
            continue
        places = _rows(joints, rows, columns)
        if places is not None:
            return places
    return None


def _rows(
    joints: networkx.Graph[str], rows: int, columns: int
) -> Mapping[str, tuple[float, float]] | None:
    """The sites by a walk: distances from one corner and from a second tell row and column."""
    corners = [name for name, degree in joints.degree() if degree == 2]
    if not corners or not networkx.is_connected(joints):
        return None
    first = next(name for name in joints if name in corners)  # the order of declaration
    far = networkx.single_source_shortest_path_length(joints, first)
    for second in corners:
        if far[second] != columns - 1:
            continue
        near = networkx.single_source_shortest_path_length(joints, second)
        # row + column from the first corner, row + (columns - 1 - column) from the second.
        at: dict[str, tuple[float, float]] = {}
        for name in joints:
            down, across = far[name] + near[name], far[name] - near[name]
            at[name] = (down - columns + 1) / 2, (across + columns - 1) / 2
        wanted = {(float(r), float(c)) for r in range(rows) for c in range(columns)}
        steps = (math.dist(at[one], at[other]) for one, other in joints.edges())
        if set(at.values()) == wanted and all(step == 1 for step in steps):
            return at
    return None


def stub_directions(
    places: Places, name: str, inputs: int, outputs: int
) -> tuple[Sequence[tuple[float, float]], Sequence[tuple[float, float]]]:
    """Where the marks of a tensor's open legs stand, from its own place: those of x and of y.

    Arguments:
        places: of all tensors.
        name: of one.
        inputs, outputs: how many marks.
    """
    x, y = places[name]
    middle = [sum(axis) / len(places) for axis in zip(*places.values(), strict=True)]
    radii = {round(math.dist(place, middle), 3) for place in places.values()}
    if len(radii) == 1 and len(places) != 4:  # a ring: y outside, x inside
        out = math.atan2(y - middle[1], x - middle[0])
        return _fan(out + math.pi, inputs), _fan(out, outputs)
    if len({place[1] for place in places.values()}) == 1:  # a row: y above
        return _fan(-0.5 * math.pi, inputs), _fan(0.5 * math.pi, outputs)
    return _fan(-0.75 * math.pi, inputs), _fan(0.25 * math.pi, outputs)


def _fan(angle: float, count: int, length: float = 1.0) -> list[tuple[float, float]]:
    """Some directions about an angle."""
    spread = [angle + 0.6 * (number - (count - 1) / 2) for number in range(count)]
    return [(length * math.cos(one), length * math.sin(one)) for one in spread]
