"""What is said of each statement of the loop IR, once and for all who ask."""

from __future__ import annotations

from dataclasses import fields, replace
from typing import get_args

import pytest

from tnlayer.ir.loops import (
    PLACES,
    At,
    Fill,
    For,
    LoopRegion,
    Prefetch,
    Statement,
    SumPartials,
    Threads,
    Tile,
    buffers_of,
    map_places,
    written_of,
)

X, Y, W = At("x", 0, (("i0", 2),)), At("y"), At("w", 3)
BODY = (
    LoopRegion("s", "", (For("i0", 4, (Tile(Y, X, W), Fill(At("z"), 1))),)),
    Threads((), (Tile(Y, At("v"), None),)),
    Prefetch(At("next"), 4, writes=True),
)


@pytest.mark.parametrize("kind", get_args(Statement), ids=lambda kind: kind.__name__)
def test_every_place_of_a_statement_is_read_or_written(kind: type[Statement]) -> None:
    """A new statement says what it reads and writes; a prefetch touches no buffer of its block."""
    reads, writes = PLACES[kind]
    places = {field.name for field in fields(kind) if str(field.type).startswith("At")}
    assert {*reads, *writes} == (set() if kind is Prefetch else places)
    assert not set(reads) & set(writes)


def test_buffers_of_a_body() -> None:
    """Statements inside others count, an operand that is missing does not."""
    assert buffers_of(BODY) == {"x", "y", "w", "v", "z"}
    assert written_of(BODY) == {"y", "z"}
    assert written_of((SumPartials(Y, At("p"), (0,)),)) == {"y"}


def test_places_are_mapped_wherever_they_stand() -> None:
    """Nothing else changes."""
    renamed = tuple(map_places(s, lambda at: replace(at, buffer=f"{at.buffer}2")) for s in BODY)
    assert buffers_of(renamed) == {"x2", "y2", "w2", "v2", "z2"}
    assert renamed[2] == BODY[2]
    back = tuple(map_places(s, lambda at: replace(at, buffer=at.buffer[:-1])) for s in renamed)
    assert back == BODY
