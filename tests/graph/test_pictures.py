"""Pictures of every topology: what overlaps and what does not, and shapes that show the network."""

from __future__ import annotations

import math
import re
from collections.abc import Callable
from itertools import combinations
from pathlib import Path
from typing import Any

import pytest
from matplotlib.colors import to_hex
from matplotlib.patches import Polygon

import tnlayer as tn
from tnlayer.graph.drawing.labels import label_boxes, loops_of, rows_of, vertex_box
from tnlayer.graph.drawing.options import adjusted
from tnlayer.graph.drawing.placement import place
from tnlayer.graph.drawing.planes import planes_of
from tnlayer.graph.drawing.shapes import SPACING, regular_places
from tnlayer.graph.drawing.svg import picture_svg
from tnlayer.support.tex import tex

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


def test_a_ring_of_four_is_a_square() -> None:
    """Marks of ports stand on diagonals: neighbours are to the side, above or below."""
    graph = T.tensor_ring((2,) * 4, (2,) * 4, rank=2).freeze()
    places = regular_places(graph)
    assert places is not None
    assert sorted(places.values()) == [(0, 0), (0, SPACING), (SPACING, 0), (SPACING, SPACING)]


def test_a_chain_without_inputs_is_a_row() -> None:
    """In the order of the chain, whatever was declared first, with y above."""
    net = tn.Network("chain")
    net.output(a=2, b=2, c=2)
    net.bond(p=3, q=3)
    net.tensor("middle", "p b q")
    net.tensor("left", "a p")
    net.tensor("right", "q c")
    picture = place(net.freeze()).vertices
    xs = [picture[f"tensor:{name}"].x for name in ("left", "middle", "right")]
    assert xs in (sorted(xs), sorted(xs, reverse=True)) and len(set(xs)) == 3
    assert len({picture[f"tensor:{name}"].y for name in ("left", "middle", "right")}) == 1
    for name, leg in (("left", "a"), ("middle", "b"), ("right", "c")):
        core, mark = picture[f"tensor:{name}"], picture[f"out:{leg}"]
        assert mark.x == pytest.approx(core.x) and mark.y > core.y


@pytest.mark.parametrize(("rows", "columns"), [(2, 4), (4, 2), (4, 4), (4, 8)])
def test_a_plane_is_a_plane(rows: int, columns: int) -> None:
    """Sites in rows and columns, each tensor in the middle of its block, levels one above the
    other; whatever the names are."""
    net = T.mera_2d(rows, columns, 2, 2)
    names = {tensor.name: f"t{k}" for k, tensor in enumerate(net.freeze().tensors)}
    graph = net.renamed(names).freeze()
    planes = planes_of(graph)
    assert planes is not None and planes.rows == rows
    spots = [(row, column) for row in range(rows) for column in range(columns)]
    assert list(planes.legs.values()) == spots
    first = names["isometry_0_0_0"], names["isometry_0_0_1" if columns > 2 else "isometry_0_1_0"]
    wanted = (0.5, 2.5) if columns > 2 else (2.5, 0.5)
    assert [planes.tensors[name] for name in first] == [(0.5, 0.5), wanted]
    assert planes.tensors[names["top"]] == ((rows - 1) / 2, (columns - 1) / 2)
    picture = place(graph).vertices
    x = [picture[f"input:x:{k}"] for k in range(rows * columns)]
    for k, (row, column) in enumerate(spots):
        if column:
            assert x[k].y == x[k - 1].y and x[k].x - x[k - 1].x == pytest.approx(x[1].x - x[0].x)
        if row:
            assert x[k].y < x[k - columns].y
    heights = [max(mark.y for mark in x), *(picture[f"tensor:{n}"].y for n in (*first, "t0"))]
    assert heights[0] < min(heights[1:]) < picture[f"tensor:{names['top']}"].y


@pytest.mark.parametrize("name", sorted(set(PICTURES) - {"mera_2d"}))
def test_other_networks_are_no_planes(name: str) -> None:
    """Blocks of a line, circuits of pairs and hyperedges are not."""
    assert planes_of(PICTURES[name]().freeze()) is None


@pytest.mark.parametrize("legs", [3, 5])
def test_dots_are_not_behind_marks(legs: int) -> None:
    """The dot above the middle factor has its own place beside y."""
    picture = place(T.kronecker((4,) * legs, (4,) * legs, 2).freeze())
    boxes = {key: vertex_box(vertex) for key, vertex in picture.vertices.items()}
    assert [pair for pair in combinations(boxes, 2) if boxes[pair[0]].meets(boxes[pair[1]])] == []


@pytest.mark.parametrize("name", ["mera", "tree", "cp", "tensor_train", "butterfly"])
def test_other_networks_have_levels(name: str) -> None:
    """They are neither rings nor grids nor rows."""
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


# -- what a user changes ---------------------------------------------------------------------------


def two_cores() -> tn.Network:
    """Legs i0 i1, j0 j1 of size 4, and a bond of size 2."""
    return T.tensor_train((4, 4), (4, 4), rank=2)


def test_tensors_stand_where_they_are_told_to() -> None:
    """Their ports move with them, and what is not named stays; the dot of a hyperedge is amid."""
    placed = place(two_cores().freeze())
    moved = adjusted(placed, {"core_1": (7.0, -2.0)}, "all").vertices
    core, was = moved["tensor:core_1"], placed.vertices["tensor:core_1"]
    assert (core.x, core.y) == (7.0, -2.0)
    assert moved["tensor:core_0"] == placed.vertices["tensor:core_0"]
    marks = [key for key, vertex in moved.items() if vertex != placed.vertices[key]]
    assert sorted(marks) == sorted(["tensor:core_1", "input:x:1", "output:j1:out"])
    for key in marks:
        before = placed.vertices[key]
        shift = (moved[key].x - before.x, moved[key].y - before.y)
        assert shift == pytest.approx((7.0 - was.x, -2.0 - was.y))
    dots = PICTURES["cp"]().freeze()
    names = [tensor.name for tensor in dots.tensors]
    across = {name: (3.0 * k, 1.0) for k, name in enumerate(names)}
    after = adjusted(place(dots), across, "all").vertices
    (dot,) = [vertex for vertex in after.values() if vertex.kind == "copy"]
    assert (dot.x, dot.y) == pytest.approx((1.5 * (len(names) - 1), 1.0))


def test_dots_stand_where_they_are_told_to() -> None:
    """By the name of their leg; what hangs on a dot goes with it, tensors stay, and the dot of a
    moved tensor stays where it was told to be."""
    net = T.cp((4, 4), (4, 4), rank=3)
    placed = place(net.freeze())
    (dot,) = [key for key, vertex in placed.vertices.items() if vertex.kind == "copy"]
    leg = placed.vertices[dot].leg
    moved = adjusted(placed, {leg: (5.0, 6.0)}, "all").vertices
    assert (moved[dot].x, moved[dot].y) == (5.0, 6.0)
    assert {key: v for key, v in moved.items() if key != dot} == {
        key: v for key, v in placed.vertices.items() if key != dot
    }
    name = net.freeze().tensors[0].name
    both = adjusted(placed, {leg: (5.0, 6.0), name: (9.0, 9.0)}, "all").vertices
    assert (both[dot].x, both[dot].y) == (5.0, 6.0)
    assert (both[f"tensor:{name}"].x, both[f"tensor:{name}"].y) == (9.0, 9.0)
    diagonal = tn.Network("diagonal")
    diagonal.input(i=3)
    diagonal.output("i")
    diagonal.tensor("D", "i")
    before = place(diagonal.freeze())
    after = adjusted(before, {"i": (4.0, 4.0)}, "all").vertices
    (key,) = [key for key, vertex in after.items() if vertex.kind == "copy"]
    assert (after[key].x, after[key].y) == (4.0, 4.0)
    for mark, vertex in after.items():
        if vertex.kind in ("input", "output"):
            was = before.vertices[mark]
            shift = (vertex.x - was.x, vertex.y - was.y)
            there = (4.0 - before.vertices[key].x, 4.0 - before.vertices[key].y)
            assert shift == pytest.approx(there)


def test_marks_of_ports_stand_where_they_are_told_to() -> None:
    """By the name of their leg; where a tensor has that name, it is meant."""
    placed = place(two_cores().freeze())
    moved = adjusted(placed, {"i0": (-3.0, 0.5), "core_0": (1.0, 1.0)}, "all").vertices
    assert (moved["input:x:0"].x, moved["input:x:0"].y) == (-3.0, 0.5)
    assert (moved["tensor:core_0"].x, moved["tensor:core_0"].y) == (1.0, 1.0)
    net = two_cores().renamed(legs={"i0": "core_0"})
    named = adjusted(place(net.freeze()), {"core_0": (1.0, 1.0)}, "all").vertices
    assert (named["tensor:core_0"].x, named["tensor:core_0"].y) == (1.0, 1.0)


def test_pictures_without_title_and_legend(tmp_path: Path) -> None:
    """Each by itself; a file of TeX has neither."""
    axes = two_cores().draw()
    assert axes.get_title() and axes.get_legend() is not None
    axes = two_cores().freeze().draw(title=False)
    assert not axes.get_title() and axes.get_legend() is not None
    axes = two_cores().draw(legend=False)
    assert axes.get_title() and axes.get_legend() is None
    two_cores().draw(tmp_path / "a.tikz")
    two_cores().draw(tmp_path / "b.tikz", title=False, legend=False)
    assert (tmp_path / "a.tikz").read_bytes() == (tmp_path / "b.tikz").read_bytes()


@pytest.mark.parametrize(
    ("labels", "expected"),
    [("all", {"b0=2"}), ("names", {"b0"}), ("sizes", {"2"}), ("none", set[str]())],
)
def test_labels_of_legs(labels: Any, expected: set[str]) -> None:
    """Name and size, one of them, or nothing; matplotlib and SVG show the same."""
    picture = adjusted(place(two_cores().freeze()), None, labels)
    shown = {line.label for line in picture.lines} - {""}
    assert expected <= shown
    assert bool(shown) == bool(expected)
    axes = two_cores().draw(labels=labels)
    drawn = {text.get_text() for text in axes.texts}
    assert shown <= drawn and ("b0=2" in drawn) == (labels == "all")


def test_colours_by_kind_and_by_name() -> None:
    """A tensor's own colour counts before that of its kind, in every format."""
    style = {"tensor": "#111111", "core_0": "#222222", "input": "#333333"}
    graph = two_cores().freeze()
    picture = place(graph)
    svg = picture_svg(graph, picture, style=style)
    fills = [part.split('fill="')[1][:7] for part in svg.split("<polygon ")[1:]]
    wanted = {"#111111": 1, "#222222": 1, "#333333": 2, "#fbd3a2": 2}
    assert {colour: fills.count(colour) for colour in set(fills)} == wanted
    axes = two_cores().draw(style=style)
    faces = [to_hex(patch.get_facecolor()) for patch in axes.patches if isinstance(patch, Polygon)]
    assert {colour: faces.count(colour) for colour in set(faces)} == wanted


@pytest.mark.parametrize(
    ("options", "told"),
    [
        (
            {"positions": {"core_2": (0, 0)}},
            "there is no tensor, dot or leg of a port 'core_2' (did",
        ),
        ({"positions": {"b0": (0, 0)}}, "there is no tensor, dot or leg of a port 'b0'"),
        ({"positions": {"core_0": (0, float("nan"))}}, "expected two numbers"),
        ({"positions": {"core_0": 3}}, "expected two numbers"),
        ({"positions": [(0, 0)]}, "expected a mapping"),
        ({"labels": "size"}, "did you mean 'sizes'"),
        ({"title": "no"}, "draw: title='no': expected True or False"),
        ({"legend": 0}, "draw: legend=0: expected True or False"),
        ({"style": {"tensors": "#123456"}}, "did you mean 'tensor'"),
        ({"style": {"tensor": "red"}}, "expected a colour such as '#bcd6f2'"),
        ({"style": {"tensor": '#123456" onload="x'}}, "expected a colour"),
    ],
)
def test_what_is_no_place_no_label_and_no_colour(options: Any, told: str) -> None:
    """The message names the mistake and what is expected."""
    with pytest.raises(tn.SpecError) as caught:
        two_cores().draw(**options)
    assert told in str(caught.value)


def tex_commands(text: str) -> set[str]:
    """The commands in a text of TeX."""
    return set(re.findall(r"\\([A-Za-z]+)", text))


@pytest.mark.parametrize("name", ["mera", "tensor_ring", "cp", "peps"])
def test_tikz_has_what_the_picture_has(name: str, tmp_path: Path) -> None:
    """Each mark, each leg and each label, in balanced TeX; .tex is a document around it."""
    net = PICTURES[name]()
    net.label = r"\input{/etc/passwd} $100 & {"
    net.draw(tmp_path / "a.tikz")
    net.draw(tmp_path / "a.tex")
    text = (tmp_path / "a.tikz").read_text(encoding="utf-8")
    assert text in (tmp_path / "a.tex").read_text(encoding="utf-8")
    picture = place(net.freeze())
    marks = [vertex for vertex in picture.vertices.values() if vertex.kind != "copy"]
    assert text.count(r"\filldraw") == len(marks)
    assert text.count("\n  \\draw[") == len(picture.lines)
    assert text.count("fill=white") == sum(bool(line.label) for line in picture.lines)
    for tensor in net.freeze().tensors:
        rows = rows_of(picture.vertices[f"tensor:{tensor.name}"])
        assert all(row.replace("_", r"\_") in text for row in rows)
    plain = re.sub(r"\\[\\{}]", "", text)
    depth = 0
    for character in plain:
        depth += {"{": 1, "}": -1}.get(character, 0)
        assert depth >= 0
    assert depth == 0
    known = {"definecolor", "begin", "end", "draw", "node", "filldraw", "fill", "tiny"}
    assert tex_commands(text) <= known | {"scriptsize", "Sigma", "rangle", "textbar"}


def test_no_text_is_a_command_of_tex() -> None:
    """Whatever stands in a name."""
    told = tex(r"\input{x} %$#&_^~" + "\n\x00")
    assert tex_commands(told) == {"textbackslash", "textasciicircum", "textasciitilde"}
    assert re.sub(r"\\.", "", told).count("%") == 0
    assert "\n" not in told and "\x00" not in told


def test_traces_are_loops_that_can_be_seen() -> None:
    """Beside a tensor with a long name, too, the second around the first."""
    net = tn.Network("traces")
    net.input(i=2)
    net.output(j=2)
    net.bond(a=2, b=3)
    net.tensor("disentangler_0_0", "i a a b b j")
    picture = place(net.freeze())
    (box,) = [vertex_box(v) for v in picture.vertices.values() if v.kind == "tensor"]
    loops = loops_of(picture)
    assert len(loops) == 2 and len({radius for _, _, radius in loops}) == 2
    for x, y, radius in loops:
        assert x < box.x - box.half_x < x + radius and y == box.y
    assert picture_svg(net.freeze(), picture).count('fill="none"/>') == len(picture.lines)
