"""How much work a call is, without a clock: the same on every machine, however busy it is."""

from __future__ import annotations

import sys
import tracemalloc
from collections.abc import Callable
from dataclasses import dataclass
from types import FrameType
from typing import Any, ClassVar


@dataclass(frozen=True)
class Work:
    """What a call did.

    Arguments:
        calls: of functions, those of C included.
        peak: most bytes that Python's objects took at one time beside those that were there.
    """

    calls: int
    peak: int


def work_of(call: Callable[[], object]) -> Work:
    """Make a call, and count; what it raises is raised."""
    count = 0

    def note(frame: FrameType, event: str, argument: object) -> None:
        nonlocal count
        count += event in ("call", "c_call")

    before = sys.getprofile()
    tracemalloc.start()
    sys.setprofile(note)
    try:
        call()
    finally:
        sys.setprofile(before)
        _, peak = tracemalloc.get_traced_memory()
        tracemalloc.stop()
    return Work(count, peak)


class Word(str):
    """Text that counts how often any is compared: a search in a list is one call, but much work."""

    __slots__ = ()
    comparisons: ClassVar[int] = 0

    def __eq__(self, other: object) -> bool:
        Word.comparisons += 1
        return str.__eq__(self, other)

    def __ne__(self, other: object) -> bool:
        Word.comparisons += 1
        return str.__ne__(self, other)

    def __lt__(self, other: str) -> bool:
        Word.comparisons += 1
        return str.__lt__(self, other)

    __hash__ = str.__hash__


def with_words(value: Any) -> Any:
    """Parsed JSON with all of its texts as Words."""
    match value:
        case str():
            return Word(value)
        case list():
            return [with_words(part) for part in value]
        case dict():
            return {Word(key): with_words(part) for key, part in value.items()}
        case _:
            return value
