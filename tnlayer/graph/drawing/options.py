"""What a user may change of a picture: where things stand, their colours, and what is written."""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from statistics import fmean
from typing import get_args

from ...errors import SpecError
from ...support.option_words import Labels
from ..argument_checks import check_mapping, check_option, shown, suggest
from ..graph_values import GraphValues
from .colours import COLOURS, tensor_kinds
from .picture import Picture, Vertex

Positions = Mapping[str, tuple[float, float]]
Style = Mapping[str, str]

_COLOUR = re.compile(r"#[0-9a-fA-F]{6}")


def check_positions(
    positions: Positions | None, known: Iterable[str], what: str
) -> dict[str, tuple[float, float]]:
    """Places by name.

    Arguments:
        positions: as the user gave them.
        known: names that have a place.
        what: these are, in errors.

    Raises:
        SpecError: a name is not known, or a place is no pair of finite numbers.
    """
    if positions is None:
        return {}
    check_mapping(positions, "draw: positions", f"pairs of numbers by {what}")
    names = list(known)
    found: dict[str, tuple[float, float]] = {}
    for name, place in positions.items():
        if name not in names:
            msg = f"draw: positions: there is no {what} {shown(name)}{suggest(str(name), names)}"
            raise SpecError(msg)
        is_pair = isinstance(place, Sequence) and not isinstance(place, str) and len(place) == 2
        if not is_pair or not all(_is_finite(one) for one in place):
            msg = (
                f"draw: positions[{name!r}]={shown(place)}: expected two numbers, such as (0, 1.5)"
            )
            raise SpecError(msg)
        found[name] = (float(place[0]), float(place[1]))
    return found


def _is_finite(value: object) -> bool:
    if isinstance(value, bool) or not isinstance(value, int | float):
        return False
    return math.isfinite(value)


def check_style(style: Style | None, known: Iterable[str]) -> dict[str, str]:
    """Colours by what has them.

    Arguments:
        style: as the user gave it.
        known: kinds of marks, and names.

    Raises:
        SpecError: something is not known, or a colour is none.
    """
    if style is None:
        return {}
    check_mapping(style, "draw: style", "colours by kind or name")
    names = list(dict.fromkeys(known))
    for key, colour in style.items():
        if key not in names:
            msg = (
                f"draw: style: there is no kind and no name {shown(key)}{suggest(str(key), names)}"
            )
            raise SpecError(msg)
        if not isinstance(colour, str) or not _COLOUR.fullmatch(colour):
            msg = f"draw: style[{key!r}]={shown(colour)}: expected a colour such as '#bcd6f2'"
            raise SpecError(msg)
    return dict(style)


def check_labels(labels: object) -> Labels:
    """What is written beside legs.

    Raises:
        SpecError: it is none of the words.
    """
    return check_option(labels, "draw: labels", get_args(Labels))


def adjusted(picture: Picture, positions: Positions | None, labels: Labels) -> Picture:
    """A picture with marks where the user wants them and the labels that he wants.

    The marks of a tensor's ports move with it, the dot of a hyperedge stands amid its ends, unless
    they have places of their own.

    Arguments:
        picture: as it was placed.
        positions: of tensors by name, of dots and marks of ports by the name of their leg, in units
            of which a tensor takes about one; y is upward.
        labels: what stands beside legs.

    Raises:
        SpecError: see :func:`check_positions` and :func:`check_labels`.
    """
    check_labels(labels)
    keys = _keys_by_name(picture)
    places = check_positions(positions, sorted(keys), "tensor, dot or leg of a port")
    lines = tuple(replace(line, label=_label(line.label, labels)) for line in picture.lines)
    own = {keys[name]: place for name, place in places.items()}
    return Picture(_moved(picture, own) if own else picture.vertices, lines)


def _label(label: str, labels: Labels) -> str:
    """The part of "leg=size" that is wanted."""
    name, _, size = label.rpartition("=")
    return {"all": label, "names": name, "sizes": size, "none": ""}[labels]


def _keys_by_name(picture: Picture) -> dict[str, str]:
    """The key of what a name means: a tensor, else the dot of a leg, else its only mark."""
    marks = Counter(vertex.leg for vertex in picture.vertices.values() if vertex.kind != "copy")
    found = {v.leg: key for key, v in picture.vertices.items() if v.leg and marks[v.leg] == 1}
    found |= {v.leg: key for key, v in picture.vertices.items() if v.kind == "copy"}
    found |= {v.text: key for key, v in picture.vertices.items() if v.kind == "tensor"}
    return found


def _moved(picture: Picture, places: Positions) -> dict[str, Vertex]:
    """The vertices, with those of some keys elsewhere and others beside them as they were."""
    vertices = dict(picture.vertices)
    ends: dict[str, list[str]] = {key: [] for key in vertices}
    for line in picture.lines:
        ends[line.first].append(line.second)
        ends[line.second].append(line.first)

    def follow(key: str) -> None:
        for mark in ends[key]:
            is_mark = vertices[mark].kind not in ("tensor", "copy")
            if is_mark and len(ends[mark]) == 1 and mark not in places:
                _shift(vertices, picture, mark, key)

    for key, (x, y) in places.items():
        vertices[key] = replace(picture.vertices[key], x=x, y=y)
    for key in places:
        if vertices[key].kind == "tensor":
            follow(key)
    for key, vertex in picture.vertices.items():
        if vertex.kind != "copy":
            continue
        tensors = [end for end in ends[key] if vertices[end].kind == "tensor"]
        if key not in places and any(vertices[e] != picture.vertices[e] for e in tensors):
            middle = fmean(vertices[e].x for e in tensors), fmean(vertices[e].y for e in tensors)
            vertices[key] = replace(vertex, x=middle[0], y=middle[1])
        if vertices[key] != vertex:
            follow(key)
    return vertices


def _shift(vertices: dict[str, Vertex], picture: Picture, mark: str, beside: str) -> None:
    """Let a mark stand beside another as it did."""
    old, new = picture.vertices[beside], vertices[beside]
    before = picture.vertices[mark]
    vertices[mark] = replace(before, x=before.x + new.x - old.x, y=before.y + new.y - old.y)


def colours_of(graph: GraphValues, picture: Picture, style: Style | None) -> dict[str, str]:
    """The colour of each mark of a picture, by its key: that of its name, else of its kind.

    Arguments:
        graph: what is drawn.
        picture: where it stands.
        style: colours by the name of a tensor, or by kind.

    Raises:
        SpecError: see :func:`check_style`.
    """
    kinds = tensor_kinds(graph)
    own = check_style(style, (*COLOURS, *kinds))
    found: dict[str, str] = {}
    for key, vertex in picture.vertices.items():
        is_tensor = vertex.kind == "tensor"
        kind = kinds.get(vertex.text, "tensor") if is_tensor else vertex.kind
        named = own.get(vertex.text) if is_tensor and vertex.text not in COLOURS else None
        found[key] = named or own.get(kind, COLOURS[kind])
    return found
