"""A placed picture as SVG: text alone, which needs no other library and no network access."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from ...support.html import text
from ..graph_values import GraphValues
from .colours import narrowing
from .labels import Box, control, extent, label_boxes, loops_of, outline, rows_of, vertex_box
from .options import Style, colours_of
from .picture import Line, Picture, Vertex

# Pixels of a drawing unit, and of a line of text.
UNIT, LINE = 62.0, 12.0
_MARGIN = 46.0
_EDGE, _LABEL = "#555555", "#203060"


_Place = Callable[[float, float], tuple[float, float]]


def picture_svg(
    graph: GraphValues,
    picture: Picture,
    marks: Mapping[str, str] | None = None,
    style: Style | None = None,
) -> str:
    """The picture of a graph as an SVG element, to stand inside a page.

    Arguments:
        graph: what is drawn; each tensor tells its legs where the mouse rests on it.
        picture: where everything stands.
        marks: for a page that connects pictures: what stands in ``data-steps`` of tensors, by name.
        style: colours by kind or by name; see :func:`.options.colours_of`.
    """
    boxes = label_boxes(picture)
    left, right, low, high = extent(picture, boxes.values())
    width = UNIT * (right - left) + 2 * _MARGIN
    height = UNIT * (high - low) + 2 * _MARGIN

    def at(x: float, y: float) -> tuple[float, float]:
        return _MARGIN + UNIT * (x - left), height - _MARGIN - UNIT * (y - low)

    colours = colours_of(graph, picture, style)
    parts = [_line(picture, line, at) for line in picture.lines if line.first != line.second]
    parts += _loops(picture, at)
    parts += [_label(picture.lines[number], box, at) for number, box in boxes.items()]
    for key, vertex in picture.vertices.items():
        drawn = _vertex(graph, vertex, at, colours[key])
        mark = (marks or {}).get(vertex.text) if vertex.kind == "tensor" else None
        parts.append(f'<g data-steps="{text(mark)}">{drawn}</g>' if mark else drawn)
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{width:.0f}" height="{height:.0f}" '
        f'viewBox="0 0 {width:.0f} {height:.0f}" font-family="sans-serif" font-size="11" '
        f'role="img" aria-label="{text(graph.label or "network")}">{"".join(parts)}</svg>'
    )


def _line(picture: Picture, line: Line, at: _Place) -> str:
    """A leg between two vertices, an arc where it is bent."""
    a, b = picture.vertices[line.first], picture.vertices[line.second]
    (x1, y1), (x2, y2) = at(a.x, a.y), at(b.x, b.y)
    if not line.bend:
        return f'<path d="M{x1:.1f} {y1:.1f}L{x2:.1f} {y2:.1f}" stroke="{_EDGE}" fill="none"/>'
    x, y = at(*control(a, b, line.bend))
    return (
        f'<path d="M{x1:.1f} {y1:.1f}Q{x:.1f} {y:.1f} {x2:.1f} {y2:.1f}" stroke="{_EDGE}" '
        'fill="none"/>'
    )


def _label(line: Line, box: Box, at: _Place) -> str:
    """Name and size of a leg, on a ground that hides the line."""
    x, y = at(box.x, box.y)
    half_x, half_y = UNIT * box.half_x, UNIT * box.half_y
    return (
        f'<rect x="{x - half_x:.1f}" y="{y - half_y:.1f}" width="{2 * half_x:.1f}" '
        f'height="{2 * half_y:.1f}" fill="white" fill-opacity="0.85"/>'
        f'<text x="{x:.1f}" y="{y + 3.5:.1f}" text-anchor="middle" '
        f'font-size="10" fill="{_LABEL}">{text(line.label)}</text>'
    )


def _loops(picture: Picture, at: _Place) -> list[str]:
    """A circle beside the tensor for each leg that joins two of its own axes."""
    return [
        f'<circle cx="{at(x, y)[0]:.1f}" cy="{at(x, y)[1]:.1f}" r="{UNIT * radius:.1f}" '
        f'stroke="{_EDGE}" fill="none"/>'
        for x, y, radius in loops_of(picture)
    ]


def _vertex(graph: GraphValues, vertex: Vertex, at: _Place, colour: str) -> str:
    """A mark with its name, and its legs for the mouse."""
    x, y = at(vertex.x, vertex.y)
    if vertex.kind == "copy":
        return f'<circle cx="{x:.1f}" cy="{y:.1f}" r="4" fill="{colour}"/>'
    box, rows = vertex_box(vertex), rows_of(vertex)
    told = ""
    if vertex.kind == "tensor" and vertex.text in graph.nodes:
        legs = " ".join(f"{leg}={graph.sizes[leg]}" for leg in graph.nodes[vertex.text].legs)
        told = f"<title>{text(f'{vertex.text}: {legs}')}</title>"
    first = y - LINE * (len(rows) - 1) / 2 + 4
    words = "".join(
        f'<tspan x="{x:.1f}" y="{first + LINE * number:.1f}">{text(row)}</tspan>'
        for number, row in enumerate(rows)
    )
    points = [at(*point) for point in outline(box, narrowing(graph, vertex))]
    shape = " ".join(f"{px:.1f},{py:.1f}" for px, py in points)
    return (
        f'<g>{told}<polygon points="{shape}" fill="{colour}" stroke="#444444" '
        f'stroke-width="0.8" stroke-linejoin="round"/><text text-anchor="middle">{words}</text></g>'
    )
