"""Where the labels of legs stand, and how large everything is: no box meets another, if it can."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass

from .picture import Line, Picture, Vertex

# Drawing units of a character and of a line of text, in marks and in labels.
CHARACTER, LINE = 0.102, 0.195
LABEL_CHARACTER, LABEL_LINE = 0.094, 0.21
# What every picture leaves beyond the middles of its marks.
_MARGIN = 0.7
# Parts of a leg's length at which its label may stand, the best first.
_PARTS = (0.5, 0.42, 0.58, 0.34, 0.66, 0.27, 0.73, 0.2, 0.8)
# And how far beside it, in drawing units.
_BESIDE = (
    *((0.0, y) for y in (0.0, 0.21, -0.21)),
    *((x, y) for x in (0.25, -0.25, 0.42, -0.42) for y in (0.0, 0.15, -0.15)),
    *((x, y) for y in (0.42, -0.42) for x in (0.0, 0.3, -0.3)),
)

# Left, right, low and high.
Reach = tuple[float, float, float, float]


@dataclass(frozen=True, slots=True)
class Box:
    """A rectangle by its middle and half its sides."""

    x: float
    y: float
    half_x: float
    half_y: float

    def meets(self, other: Box, gap: float = 0.0) -> bool:
        """Whether two boxes have a point in common, or are nearer than a gap."""
        return (
            abs(self.x - other.x) < self.half_x + other.half_x + gap
            and abs(self.y - other.y) < self.half_y + other.half_y + gap
        )

    def holds(self, x: float, y: float, gap: float = 0.0) -> bool:
        """Whether a point lies in the box, or is nearer than a gap."""
        return abs(self.x - x) < self.half_x + gap and abs(self.y - y) < self.half_y + gap


def wrapped(name: str) -> list[str]:
    """A long name on two lines, parted at an underscore."""
    head, bar, tail = name.partition("_")
    return [head, tail] if bar and head and tail and len(name) > 7 else [name]


def rows_of(vertex: Vertex) -> list[str]:
    """The lines of text of a mark."""
    return wrapped(vertex.text) if vertex.kind == "tensor" else vertex.text.split("\n")


def vertex_box(vertex: Vertex) -> Box:
    """The rectangle of a mark."""
    if vertex.kind == "copy":
        return Box(vertex.x, vertex.y, 0.065, 0.065)
    rows = rows_of(vertex)
    half_x = CHARACTER * max(map(len, rows)) / 2 + 0.08
    return Box(vertex.x, vertex.y, half_x, LINE * len(rows) / 2 + 0.05)


def outline(box: Box, narrow: int) -> list[tuple[float, float]]:
    """The corners of a mark: of an isometry a triangle without its tip, else a rectangle.

    Arguments:
        box: the rectangle.
        narrow: 1 for what is narrower above, -1 below, 0 for a rectangle.
    """
    top, bottom = {1: (0.55, 1.25), 0: (1.0, 1.0), -1: (1.25, 0.55)}[narrow]
    low, high = box.y - box.half_y, box.y + box.half_y
    return [
        (box.x - bottom * box.half_x, low),
        (box.x + bottom * box.half_x, low),
        (box.x + top * box.half_x, high),
        (box.x - top * box.half_x, high),
    ]


def control(a: Vertex, b: Vertex, bend: float) -> tuple[float, float]:
    """The point that pulls an arc, as matplotlib's arc3 has it."""
    return (a.x + b.x) / 2 + bend * (b.y - a.y), (a.y + b.y) / 2 - bend * (b.x - a.x)


def on_line(picture: Picture, line: Line, part: float) -> tuple[float, float]:
    """A point of a leg; of a loop one beside its tensor."""
    a, b = picture.vertices[line.first], picture.vertices[line.second]
    if line.first == line.second:
        box = vertex_box(a)
        return a.x - box.half_x - 0.55, a.y + (0.5 - part)
    x, y = control(a, b, line.bend)
    first, pull, last = (1 - part) ** 2, 2 * part * (1 - part), part**2
    return first * a.x + pull * x + last * b.x, first * a.y + pull * y + last * b.y


def loops_of(picture: Picture) -> list[tuple[float, float, float]]:
    """Middle and radius of the circle of each leg that joins two axes of one tensor: at its left
    side, half behind it, the second around the first."""
    found: list[tuple[float, float, float]] = []
    counts: Counter[str] = Counter()
    for line in picture.lines:
        if line.first == line.second:
            box = vertex_box(picture.vertices[line.first])
            radius = 0.22 + 0.12 * counts[line.first]
            counts[line.first] += 1
            found.append((box.x - box.half_x - 0.6 * radius, box.y, radius))
    return found


def label_boxes(picture: Picture) -> dict[int, Box]:
    """The rectangle of each label by the number of its line: the first place that is free, or the
    one that meets the fewest."""
    taken = [vertex_box(vertex) for vertex in picture.vertices.values()]
    found: dict[int, Box] = {}
    for number, line in enumerate(picture.lines):
        if line.label:
            found[number] = _free_place(picture, line, taken)
            taken.append(found[number])
    return found


def _free_place(picture: Picture, line: Line, taken: list[Box]) -> Box:
    half_x = LABEL_CHARACTER * len(line.label) / 2 + 0.02
    best: tuple[int, Box] | None = None
    for right, up in _BESIDE:
        for part in _PARTS:
            x, y = on_line(picture, line, part)
            box = Box(x + right, y + up, half_x, LABEL_LINE / 2)
            met = sum(box.meets(other, 0.01) for other in taken)
            if not met:
                return box
            if best is None or met < best[0]:
                best = (met, box)
    assert best is not None
    return best[1]


def extent(picture: Picture, labels: Iterable[Box]) -> Reach:
    """How far a picture reaches: left, right, low and high, up to the middles of its marks, and
    further where a leg that is bent or a label would leave the margin that marks have.

    Arguments:
        picture: what is drawn.
        labels: where the labels of its legs stand.
    """
    vertices = picture.vertices
    xs = [vertex.x for vertex in vertices.values()] or [0.0]
    ys = [vertex.y for vertex in vertices.values()] or [0.0]
    left, right, low, high = min(xs), max(xs), min(ys), max(ys)
    boxes = list(labels)
    bent = [line for line in picture.lines if line.bend and line.first != line.second]
    boxes += [Box(*on_line(picture, line, 0.5), 0.0, 0.1) for line in bent]
    for box in boxes:
        left = min(left, box.x - box.half_x + _MARGIN)
        right = max(right, box.x + box.half_x - _MARGIN)
        low = min(low, box.y - box.half_y + _MARGIN)
        high = max(high, box.y + box.half_y - _MARGIN)
    return left, right, low, high
