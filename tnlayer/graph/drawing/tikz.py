"""A placed picture as TikZ, for documents that are set by TeX."""

from __future__ import annotations

from collections.abc import Mapping

from ...support.tex import tex, tex_colours, tex_picture
from ..graph_values import GraphValues
from .colours import narrowing
from .labels import control, label_boxes, loops_of, outline, rows_of, vertex_box
from .picture import Line, Picture, Vertex

_EDGE, _BORDER, _LABEL = "#555555", "#444444", "#203060"


def picture_tikz(graph: GraphValues, picture: Picture, colours: Mapping[str, str]) -> str:
    """The picture of a graph as a ``tikzpicture``.

    Arguments:
        graph: what is drawn.
        picture: where everything stands.
        colours: of the marks, by their keys.
    """
    used = [_EDGE, _BORDER, _LABEL, *colours.values()]
    names = tex_colours(used)
    body = [
        _line(picture, line, names[_EDGE]) for line in picture.lines if line.first != line.second
    ]
    body += [
        rf"\draw[{names[_EDGE]}] ({x:.3f}, {y:.3f}) circle[radius={radius:.2f}];"
        for x, y, radius in loops_of(picture)
    ]
    body += [
        rf"\node[fill=white, inner sep=0.5pt, font=\tiny, text={names[_LABEL]}] "
        f"at ({box.x:.3f}, {box.y:.3f}) {{{tex(picture.lines[number].label)}}};"
        for number, box in label_boxes(picture).items()
    ]
    for key, vertex in picture.vertices.items():
        body += _vertex(graph, vertex, names[colours[key]], names[_BORDER])
    return tex_picture(body, used, "2.1cm")


def _line(picture: Picture, line: Line, colour: str) -> str:
    """A leg between two vertices."""
    a, b = picture.vertices[line.first], picture.vertices[line.second]
    start, end = f"({a.x:.3f}, {a.y:.3f})", f"({b.x:.3f}, {b.y:.3f})"
    if not line.bend:
        return rf"\draw[{colour}] {start} -- {end};"
    x, y = control(a, b, line.bend)
    # Of the same arc as one with two points that pull it.
    first = f"({a.x + 2 * (x - a.x) / 3:.3f}, {a.y + 2 * (y - a.y) / 3:.3f})"
    second = f"({b.x + 2 * (x - b.x) / 3:.3f}, {b.y + 2 * (y - b.y) / 3:.3f})"
    return rf"\draw[{colour}] {start} .. controls {first} and {second} .. {end};"


def _vertex(graph: GraphValues, vertex: Vertex, colour: str, border: str) -> list[str]:
    """A mark with its name."""
    at = f"({vertex.x:.3f}, {vertex.y:.3f})"
    if vertex.kind == "copy":
        return [rf"\fill[{colour}] {at} circle[radius=0.06];"]
    corners = outline(vertex_box(vertex), narrowing(graph, vertex))
    path = " -- ".join(f"({x:.3f}, {y:.3f})" for x, y in corners)
    words = r" \\ ".join(tex(row) for row in rows_of(vertex))
    return [
        rf"\filldraw[fill={colour}, draw={border}] {path} -- cycle;",
        rf"\node[align=center, font=\scriptsize] at {at} {{{words}}};",
    ]
