"""Where buffers lie in their workspace: arrays of samples share memory once they are dead."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from ...ir.loops import Buffer, Statement, buffers_of


def place_buffers(
    buffers: Sequence[Buffer], samples: Sequence[Statement], width: int
) -> tuple[Buffer, ...]:
    """Give each workspace buffer its offset, a multiple of a vector.

    Thread buffers are reused: one that is made by a statement of ``samples`` takes the first gap
    among those that are still read later. Shared and partial ones lie one after another.
    """
    lives = _lives(samples)
    placed: list[Buffer] = []
    ends = {"shared": 0, "partial": 0}
    for buffer in buffers:
        if buffer.space in ("shared", "partial"):
            placed.append(replace(buffer, offset=ends[buffer.space]))
            ends[buffer.space] += whole_vectors(buffer.size, width)
        elif buffer.space != "thread":
            placed.append(buffer)
    threads = [buffer for buffer in buffers if buffer.space == "thread" and buffer.name in lives]
    taken: list[Buffer] = []
    # Those that are still read, with the last statement that does.
    alive: list[tuple[Buffer, int]] = []
    for buffer in sorted(threads, key=lambda buffer: lives[buffer.name]):
        first, last = lives[buffer.name]
        alive = [(other, end) for other, end in alive if end >= first]
        busy = sorted(
            (other.offset, other.offset + whole_vectors(other.size, width)) for other, _ in alive
        )
        offset = 0
        for start, end in busy:
            if offset + buffer.size <= start:
                break
            offset = max(offset, end)
        taken.append(replace(buffer, offset=offset))
        alive.append((taken[-1], last))
    return (*placed, *taken)


def whole_vectors(size: int, width: int) -> int:
    """Entries of the vectors that hold so many."""
    return -(-size // width) * width


def _lives(samples: Sequence[Statement]) -> dict[str, tuple[int, int]]:
    """First and last top-level statement that touches each buffer."""
    lives: dict[str, tuple[int, int]] = {}
    for number, statement in enumerate(samples):
        for name in buffers_of((statement,)):
            first, _ = lives.get(name, (number, number))
            lives[name] = (first, number)
    return lives
