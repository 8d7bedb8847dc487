"""Dataclasses as JSON and back: what is written is read, and nothing else is."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any, Literal

import pytest

from tnlayer.support.codec import Codec, CodecError, Form, text, whole


@dataclass(frozen=True)
class Leaf:
    """Of each plain type."""

    name: str
    size: int
    share: float
    known: bool
    side: Literal["left", "right"]


@dataclass(frozen=True)
class Pair:
    """Of the second kind of a union; shown is for people only."""

    leaves: tuple[Leaf, ...]
    ends: tuple[str, int]
    rest: Leaf | Pair | None = None
    best: int | None = None
    shown: str = ""


LEAF = Leaf("a", 3, 0.5, True, "left")
PAIR = Pair((LEAF, LEAF), ("b", 0), Pair((), ("c", 1), LEAF), 4)
CODEC = Codec(left_out=frozenset({"shown"}))


@pytest.mark.parametrize("value", [LEAF, PAIR, Pair((), ("", 0))])
def test_what_is_written_is_read(value: Any) -> None:
    """Through the text of JSON, nested values and all."""
    plain = json.loads(json.dumps(CODEC.write(type(value), value)))
    assert CODEC.read(type(value), plain, "value") == value
    assert "shown" not in plain


def changed(path: tuple[Any, ...], value: Any) -> Any:
    """PAIR's document with something else in one place."""
    plain = json.loads(json.dumps(CODEC.write(Pair, PAIR)))
    place = plain
    for key in path[:-1]:
        place = place[key]
    if value is None:
        del place[path[-1]]
    else:
        place[path[-1]] = value
    return plain


@pytest.mark.parametrize(
    ("path", "value", "where"),
    [
        (("leaves", 1, "size"), True, "value.leaves[1].size: expected a whole number"),
        (("leaves", 1, "size"), -1, "value.leaves[1].size"),
        (("leaves", 1, "size"), 2**60, "value.leaves[1].size"),
        (("leaves", 0, "share"), float("nan"), "value.leaves[0].share: expected a finite number"),
        (("leaves", 0, "known"), 1, "value.leaves[0].known: expected true or false"),
        (("leaves", 0, "side"), "top", "value.leaves[0].side: expected one of left, right"),
        (("leaves", 0, "name"), 3, "value.leaves[0].name: expected a string"),
        (("leaves",), {}, "value.leaves: expected a list"),
        (("ends",), ["b"], "value.ends: expected a list of 2 items"),
        (("rest", "kind"), "tree", "value.rest.kind: expected one of leaf, pair"),
        (("rest", "kind"), 3, "value.rest: expected an object with a kind"),
        (("rest", "kind"), None, "value.rest: expected an object with a kind"),
        (("rest", "rest", "more"), 1, "value.rest.rest: expected an object with the keys"),
        (("best",), None, "value: expected an object with the keys leaves ends rest best"),
    ],
)
def test_what_is_wrong_is_told_with_its_place(
    path: tuple[Any, ...], value: Any, where: str
) -> None:
    """Wrong types, unknown and missing keys, numbers out of bounds."""
    with pytest.raises(CodecError) as error:
        CODEC.read(Pair, changed(path, value), "value")
    assert str(error.value).startswith(where)


def test_a_type_may_have_a_form_of_its_own() -> None:
    """It is used wherever the type stands."""
    even = Form(lambda value: value // 2, lambda item, where: 2 * whole(item, where))
    codec = Codec({int: even}, frozenset({"shown"}))
    plain = codec.write(Pair, Pair((), ("b", 6), best=4))
    assert (plain["ends"], plain["best"]) == (["b", 3], 2)
    assert codec.read(Pair, plain, "value").ends == ("b", 6)


def test_a_field_may_have_a_form_of_its_own() -> None:
    """Only there: other fields of the type keep theirs."""
    shouted = Form(str.upper, lambda item, where: text(item, where).lower())
    plain = Codec({(Leaf, "name"): shouted}).write(Leaf, LEAF)
    assert (plain["name"], plain["side"]) == ("A", "left")


def test_a_dataclass_may_be_a_row() -> None:
    """A list of its fields, and of nothing else."""
    codec = Codec(rows={Leaf: "a leaf"})
    row = codec.write(Leaf, LEAF)
    assert row == ["a", 3, 0.5, True, "left"]
    assert codec.read(Leaf, row, "value") == LEAF
    for wrong in (row[:-1], [*row, 1], {"name": "a"}, None):
        with pytest.raises(CodecError, match=r"^value: expected a leaf$"):
            codec.read(Leaf, wrong, "value")


def test_a_type_without_a_form_is_refused() -> None:
    """At the first use, by name."""
    with pytest.raises(TypeError, match="set"):
        Codec().write(set[int], set())
