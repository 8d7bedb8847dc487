"""Places in buffers, and tables of offsets, as C++."""

from __future__ import annotations

from collections.abc import Sequence

from ...ir.loops import At


def pointer(at: At) -> str:
    """A place as a pointer."""
    terms = [f" + {index} * {stride}" for index, stride in at.terms]
    return at.buffer + (f" + {at.offset}" if at.offset else "") + "".join(terms)


def offset_table(name: str, offsets: Sequence[int]) -> str:
    """Offsets as a constant array."""
    return f"static const int {name}[] = {{{', '.join(map(str, offsets))}}};"
