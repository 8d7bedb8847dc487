"""Where buffers lie in their workspace: arrays of samples share memory once they are dead."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from ...ir.loops import Buffer, Statement
from ..allocate import first_fit, lives_of, one_after_another, rounded


def place_buffers(
    buffers: Sequence[Buffer], samples: Sequence[Statement], width: int
) -> tuple[Buffer, ...]:
    """Give each workspace buffer its offset, a multiple of a vector.

    Thread buffers are reused: one that is made by a statement of ``samples`` takes the first gap
    among those that are still read later. Shared and partial ones lie one after another.
    """
    lives = lives_of(samples)
    lasting, _ = one_after_another(buffers, ("shared", "partial"), width)
    threads = [buffer for buffer in buffers if buffer.space == "thread" and buffer.name in lives]
    threads.sort(key=lambda buffer: lives[buffer.name])
    sizes = {buffer.name: whole_vectors(buffer.size, width) for buffer in threads}
    reused, _ = first_fit([buffer.name for buffer in threads], sizes, lives)
    offsets = {**lasting, **reused}
    kept = [buffer for buffer in buffers if buffer.space != "thread"]
    return tuple(
        replace(buffer, offset=offsets.get(buffer.name, buffer.offset))
        for buffer in (*kept, *threads)
    )


def whole_vectors(size: int, width: int) -> int:
    """Entries of the vectors that hold so many."""
    return rounded(size, width)
