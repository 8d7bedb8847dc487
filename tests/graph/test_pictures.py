"""Pictures of every topology: what overlaps and what does not, and shapes that show the network."""

from __future__ import annotations

import math
from collections.abc import Callable
from itertools import combinations

import pytest

import tnlayer as tn
from tnlayer.graph.drawing.labels import label_boxes, vertex_box
from tnlayer.graph.drawing.placement import place
from tnlayer.graph.drawing.shapes import SPACING, regular_places
from tnlayer.graph.drawing.svg import picture_svg

T = tn.topologies
PICTURES: dict[str, Callable[[], tn.Network]] = {
    "augmented_tree": lambda: T.augmented_tree(6, 2, 2),
    "blast": lambda: T.blast(16, 16, blocks=4, rank=2),
    "block_term": lambda: T.block_term((4, 4), (4, 4), terms=2, rank=2),
    "brickwall": lambda: T.brickwall(6, 2, 3),
    "btt": lambda: T.btt((4, 4), (4, 4), rank=2),
    "butterfly": lambda: T.butterfly(8),
    "cp": lambda: T.cp((4, 4), (4, 4), rank=3),
    "kronecker": lambda: T.kronecker((4, 4), (4, 4), 2),
    "low_rank": lambda: T.low_rank(16, 16, rank=2),
    "mera": lambda: T.mera(8, 2, 3),
    "mera_2d": lambda: T.mera_2d(4, 4, 2, 2),
    "monarch": lambda: T.monarch((4, 4), (4, 4)),
    "mps": lambda: T.mps(6, 2, 4),
    "mps_classifier": lambda: T.mps_classifier(6, 2, 4, classes=10),
    "peps": lambda: T.peps(3, 3, 2, 2),
    "peps_classifier": lambda: T.peps_classifier(3, 3, 2, 2, classes=10),
    "peps_state": lambda: T.peps_state(3, 4, 2, 2),
    "periodic_mera": lambda: T.periodic_mera(8, 2, 4),
    "quanta": lambda: T.quanta((4, 4, 4)),
    "random_circuit": lambda: T.random_circuit(5, 2, depth=3, gates=4),
    "tensor_ring": lambda: T.tensor_ring((2,) * 6, (2,) * 6, rank=2),
    "tensor_train": lambda: T.tensor_train((4,) * 4, (4,) * 4, rank=2),
    "ternary_mera": lambda: T.ternary_mera(9, 2, 2),
    "tree": lambda: T.tree(8, 2, 2),
    "tucker": lambda: T.tucker((4, 4), (4, 4), 2),
}


def test_every_topology_has_a_picture() -> None:
    """A new one comes into this file."""
    assert set(PICTURES) == set(T.__all__)


@pytest.mark.parametrize("name", PICTURES)
def test_nothing_overlaps(name: str) -> None:
    """No label meets another or a node, and no node another."""
    picture = place(PICTURES[name]().freeze())
    nodes = {key: vertex_box(vertex) for key, vertex in picture.vertices.items()}
    labels = {f"{picture.lines[k].label} ({k})": box for k, box in label_boxes(picture).items()}
    boxes = {**nodes, **labels}
    assert [(a, b) for a, b in combinations(boxes, 2) if boxes[a].meets(boxes[b])] == []


def test_a_ring_is_a_ring() -> None:
    """All cores at one distance from the middle, neighbours at one distance of each other."""
    graph = PICTURES["tensor_ring"]().freeze()
    places = regular_places(graph)
    assert places is not None
    assert {round(math.hypot(*place), 6) for place in places.values()} == {round(SPACING, 6)}
    order = [places[f"core_{k}"] for k in range(6)]
    for k in range(6):
        assert math.dist(order[k], order[(k + 1) % 6]) == pytest.approx(SPACING)


@pytest.mark.parametrize(("rows", "columns"), [(2, 2), (2, 5), (3, 4), (4, 4)])
def test_a_grid_is_a_grid(rows: int, columns: int) -> None:
    """Neighbours beside one another, whatever the names are."""
    graph = T.peps_state(rows, columns, 2, 2).freeze()
    places = regular_places(graph)
    assert places is not None
    for row in range(rows):
        for column in range(columns):
            here = places[f"site_{row}_{column}"]
            for other in ((row + 1, column), (row, column + 1)):
                name = "site_{}_{}".format(*other)
                if name in places:
                    assert math.dist(here, places[name]) == pytest.approx(SPACING)


@pytest.mark.parametrize("name", ["mera", "tree", "cp", "tensor_train", "butterfly"])
def test_other_networks_have_levels(name: str) -> None:
    """They are neither rings nor grids."""
    assert regular_places(PICTURES[name]().freeze()) is None


def test_isometries_and_kinds_are_told_apart() -> None:
    """An isometry is narrower at one end; constants, frozen and conjugated tensors have colours of
    their own."""
    net = tn.Network("kinds")
    net.input(i=4)
    net.output(j=2)
    net.bond(a=2, b=2, c=2)
    net.tensor("W", "i a", isometry="i")
    net.tensor("C", "a b", trainable=False, value=[[1.0, 0.0], [0.0, 1.0]])
    net.tensor("F", "b c", trainable=False)
    net.tensor("G", "c j", share="F", conj=True)
    graph = net.freeze()
    svg = picture_svg(graph, place(graph))
    fills = [part.split('fill="')[1][:7] for part in svg.split("<polygon ")[1:]]
    assert len(set(fills)) == 6  # input, output and four kinds of tensors
    triangle = svg.split("<title>W: ")[1].split('points="')[1].split('"')[0]
    xs = [float(point.split(",")[0]) for point in triangle.split()]
    assert xs[1] - xs[0] > 1.5 * (xs[2] - xs[3])
