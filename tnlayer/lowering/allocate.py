"""Places in a workspace: buffers that never live at one time may share memory.

A buffer lives from the first statement that touches it to the last one. Each takes the first gap
that is free while it lives, in an order that the caller chooses::

    place   0 .......... 8 ..... 12
    time 0  [ state 0    ]
         1  [ state 0    ] [ state 1 ]
         2  [ state 2 ]    [ state 1 ]      state 2 lies where state 0 was
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from ..ir.loops import Buffer, Space, Statement, buffers_of

# The first and the last statement that touches a buffer, by number.
Life = tuple[int, int]


def lives_of(body: Sequence[Statement]) -> dict[str, Life]:
    """When each buffer lives, by the statements of a body; those inside others count with them."""
    lives: dict[str, Life] = {}
    for number, statement in enumerate(body):
        for name in buffers_of((statement,)):
            first, _ = lives.get(name, (number, number))
            lives[name] = (first, number)
    return lives


def rounded(size: int, unit: int) -> int:
    """The size in whole units.

    >>> rounded(9, 4)
    12
    """
    return -(-size // unit) * unit


def first_fit(
    order: Sequence[str], sizes: Mapping[str, int], lives: Mapping[str, Life]
) -> tuple[dict[str, int], int]:
    """Each buffer at the first place that is free while it lives; and the end of all.

    Arguments:
        order: names of the buffers; those that come first lie lowest.
        sizes: entries of each, in whole units: then every place is a multiple of the unit.
        lives: when each lives, both ends included.

    >>> lives = {"a": (0, 1), "b": (1, 2), "c": (2, 3)}
    >>> first_fit(["a", "b", "c"], {"a": 8, "b": 4, "c": 8}, lives)
    ({'a': 0, 'b': 8, 'c': 0}, 12)
    """
    # A buffer that died before all that are still to come begin is in nobody's way: in the order of
    # time only the living are looked at, and thousands of buffers take no quadratic time.
    soonest = [lives[name][0] for name in order]
    for number in reversed(range(len(order) - 1)):
        soonest[number] = min(soonest[number], soonest[number + 1])
    offsets: dict[str, int] = {}
    placed: list[str] = []
    for name, begin in zip(order, soonest, strict=True):
        first, last = lives[name]
        placed = [other for other in placed if lives[other][1] >= begin]
        busy = sorted(
            (offsets[other], offsets[other] + sizes[other])
            for other in placed
            if lives[other][0] <= last and first <= lives[other][1]
        )
        at = 0
        for start, end in busy:
            if at + sizes[name] <= start:
                break
            at = max(at, end)
        offsets[name] = at
        placed.append(name)
    return offsets, max((offsets[name] + sizes[name] for name in order), default=0)


def one_after_another(
    buffers: Iterable[Buffer], spaces: Sequence[Space], unit: int
) -> tuple[dict[str, int], dict[Space, int]]:
    """Places of buffers that live as long as a call, and where each space ends.

    Arguments:
        buffers: all of a program.
        spaces: those whose buffers get a place.
        unit: entries to which sizes are rounded up.
    """
    offsets: dict[str, int] = {}
    ends = dict.fromkeys(spaces, 0)
    for buffer in buffers:
        if buffer.space in ends:
            offsets[buffer.name] = ends[buffer.space]
            ends[buffer.space] += rounded(buffer.size, unit)
    return offsets, ends
