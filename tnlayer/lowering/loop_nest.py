"""Nests of loops over strided arrays: legs as loops, merged, split, and written out as offsets.

A leg is a loop: as many turns as it has indices, and each array moves by its stride in a turn. An
array that lacks the leg does not move. Neighbours are one loop where every array moves by as much
in a turn of the outer one as in all turns of the inner one::

    legs      a   b   c                  ab  c                    offsets of ab x c, c fastest
    turns     2   3   4     merged        6  4     in target:     0 1 2 3  4 5 6 7  ...  20 .. 23
    target   12   4   1    -------->      4  1
    left      3   1   0                   1  0     in left:       0 0 0 0  1 1 1 1  ...  5 5 5 5

(``b`` and ``c`` are one run in target, but not in left, so they stay two loops.)
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Literal, TypeVar

from ..ir.loops import OffsetPairs

Side = Literal["target", "left", "right"]
Item = TypeVar("Item")


@dataclass(frozen=True, slots=True)
class Loop:
    """A loop over a leg, over a part of one, or over several that are one run in every array.

    Arguments:
        count: turns.
        target, left, right: entries that each array moves in a turn.
        leg: the leg, of several the innermost; "" where nobody asks.
        of_samples: whether it runs over the samples of a block, of which the last ones may be
            missing: then no other loop may be merged with it.
    """

    count: int
    target: int
    left: int
    right: int = 0
    leg: str = ""
    of_samples: bool = False

    def moves(self, side: Side) -> int:
        """Entries that one array moves in a turn."""
        match side:
            case "target":
                return self.target
            case "left":
                return self.left
            case "right":
                return self.right

    def __mul__(self, turns: int) -> Loop:
        """A loop each of whose turns is several of this one's."""
        return replace(self, target=self.target * turns, left=self.left * turns,
                       right=self.right * turns)  # fmt: skip

    def split(self, inner: int) -> tuple[Loop, Loop]:
        """Two loops that do the same, the inner one with so many turns.

        >>> Loop(6, 1, 10).split(3)[0]
        Loop(count=2, target=3, left=30, right=0, leg='', of_samples=False)
        """
        return replace(self * inner, count=self.count // inner), replace(self, count=inner)

    def is_inside(self, outer: Loop) -> bool:
        """Whether this loop and one right around it are one run in every array."""
        whole = self * self.count
        return (
            not (self.of_samples or outer.of_samples)
            and (outer.target, outer.left, outer.right) == (whole.target, whole.left, whole.right)
        )  # fmt: skip


def merge(loops: Iterable[Loop]) -> list[Loop]:
    """Fewer loops that do the same, the outermost first.

    >>> [loop.count for loop in merge([Loop(2, 12, 3), Loop(3, 4, 1), Loop(4, 1, 0)])]
    [6, 4]
    """
    found: list[Loop] = []
    for loop in loops:
        if found and loop.is_inside(found[-1]):
            # The strides of the inner loop, for the turns of both.
            found[-1] = replace(loop, count=loop.count * found[-1].count)
        else:
            found.append(loop)
    return found


def runs(items: Iterable[Item], joins: Callable[[Item, Item], bool]) -> list[list[Item]]:
    """Items in order, cut where two neighbours do not join.

    >>> runs([1, 2, 4, 5], lambda before, after: after == before + 1)
    [[1, 2], [4, 5]]
    """
    found: list[list[Item]] = []
    for item in items:
        if found and joins(found[-1][-1], item):
            found[-1].append(item)
        else:
            found.append([item])
    return found


def strides_in(source: Sequence[str], sizes: Mapping[str, int]) -> dict[str, int]:
    """By leg, how far an array that is stored in this order moves in a turn; a leg that stands
    twice is walked along the diagonal.

    >>> strides_in("abc", {"a": 2, "b": 3, "c": 4}), strides_in("aa", {"a": 3})
    ({'c': 1, 'b': 4, 'a': 12}, {'a': 4})
    """
    found: dict[str, int] = {}
    stride = 1
    for leg in reversed(source):
        found[leg] = found.get(leg, 0) + stride
        stride *= sizes[leg]
    return found


def loops_over(
    target: Iterable[str], source: Sequence[str], sizes: Mapping[str, int]
) -> list[tuple[int, int]]:
    """Size, and stride in the source, of each leg of a target; legs that it lacks are repeated.

    >>> loops_over("cax", "abc", {"a": 2, "b": 3, "c": 4, "x": 5})
    [(4, 1), (2, 12), (5, 0)]
    """
    strides = strides_in(source, sizes)
    return [(sizes[leg], strides.get(leg, 0)) for leg in target]


def offsets(steps: Iterable[tuple[int, int]]) -> tuple[int, ...]:
    """Where an array is in each turn of loops of (turns, stride), the last loop fastest.

    >>> offsets([(2, 10), (3, 1)])
    (0, 1, 2, 10, 11, 12)
    """
    found = (0,)
    for count, stride in steps:
        found = tuple(at + k * stride for at in found for k in range(count))
    return found


def pairs(loops: Sequence[Loop], first: Side, second: Side) -> OffsetPairs:
    """Where two arrays are in each turn of loops, the last loop fastest."""
    sides = (offsets((loop.count, loop.moves(side)) for loop in loops) for side in (first, second))
    return tuple(zip(*sides, strict=True))
