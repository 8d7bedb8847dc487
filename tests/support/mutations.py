"""Seeded damage to JSON documents and to bytes, for what is read from files."""

from __future__ import annotations

import copy
import random
from collections.abc import Iterator
from typing import Any

STRANGE: tuple[Any, ...] = (
    None, True, False, 0, 1, -1, 2, 3, 10**6, 2**70, 1.5, "", "b", "e0", "e1", "t0", "x0", "n0",
    "y", "contract", "reduce", "__import__('os')", "n0; import os", [], {}, [[]], ["e0"], [0, 0],
    ["n0", True], ["t0", ["e0"]],
)  # fmt: skip


def places(document: Any) -> Iterator[tuple[Any, Any]]:
    """Every place in a document: the container and the key or index."""
    if not isinstance(document, dict | list):
        return
    keys: list[Any] = list(document) if isinstance(document, dict) else list(range(len(document)))
    for key in keys:
        yield document, key
        yield from places(document[key])


def mutated(document: Any, seed: int) -> Any:
    """A copy of a document with one to three changes in random places."""
    chance = random.Random(seed)
    changed = copy.deepcopy(document)
    for _ in range(chance.choice((1, 1, 1, 2, 3))):
        found = list(places(changed))
        if not found:
            break
        container, key = chance.choice(found)
        other_container, other_key = chance.choice(found)
        match chance.randrange(6):
            case 0:
                del container[key]
            case 1:
                container[key] = copy.deepcopy(chance.choice(STRANGE))
            case 2:
                container[key] = copy.deepcopy(other_container[other_key])
            case 3 if isinstance(container, list):
                container.insert(key, copy.deepcopy(container[key]))
            case 4 if isinstance(container, list):
                chance.shuffle(container)
            case 5 if type(container[key]) is int:
                container[key] += chance.choice((-1, 1, 10))
            case 5 if type(container[key]) is bool:
                container[key] = not container[key]
            case _ if isinstance(container, dict):
                container[f"{key}x"] = container.pop(key)
            case _:
                container.append(None)
    return changed


def mutated_bytes(content: bytes, seed: int) -> bytes:
    """The content with a few bytes changed, cut, doubled or added."""
    chance = random.Random(seed)
    changed = bytearray(content)
    for _ in range(chance.choice((1, 1, 2, 5))):
        place = chance.randrange(len(changed) + 1)
        span = chance.choice((1, 1, 2, 8, 64, 512))
        match chance.randrange(5):
            case 0:
                del changed[place : place + span]
            case 1:
                del changed[place:]
            case 2:
                changed[place:place] = chance.randbytes(span)
            case 3:
                changed[place:place] = changed[place : place + span]
            case _ if place < len(changed):
                changed[place] ^= 1 << chance.randrange(8)
            case _:
                changed += b"\n"
    return bytes(changed)
