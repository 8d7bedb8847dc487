"""The algebra of nested loops against offsets that are counted one by one."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise, product

from hypothesis import given
from hypothesis import strategies as st

from tnlayer.lowering.loop_nest import Loop, Side, merge, offsets, pairs, runs

SIDES: tuple[Side, ...] = ("target", "left", "right")
STRIDES = st.sampled_from((0, 1, 2, 3, 4, 6, 8, 12, 24, -1))
LOOPS = st.builds(Loop, st.integers(1, 4), STRIDES, STRIDES, STRIDES, of_samples=st.booleans())
NESTS = st.lists(LOOPS, max_size=4)


def counted(loops: list[Loop]) -> list[tuple[int, ...]]:
    """Where the three arrays are in each turn, the last loop fastest: nothing is merged here."""
    found: list[tuple[int, ...]] = []
    for turn in product(*(range(loop.count) for loop in loops)):
        moves = [[k * loop.moves(side) for k, loop in zip(turn, loops, strict=True)]
                 for side in SIDES]  # fmt: skip
        found.append(tuple(sum(side) for side in moves))
    return found


@given(NESTS)
def test_pairs_are_the_places_of_each_turn(loops: list[Loop]) -> None:
    """Any two arrays, and each by itself."""
    places = counted(loops)
    for a, first in enumerate(SIDES):
        assert offsets((one.count, one.moves(first)) for one in loops) == tuple(
            place[a] for place in places
        )
        for b, second in enumerate(SIDES):
            assert pairs(loops, first, second) == tuple((p[a], p[b]) for p in places)


@given(NESTS)
def test_merged_loops_do_the_same(loops: list[Loop]) -> None:
    """The same places in the same order, in as few loops as neighbours allow."""
    merged = merge(loops)
    assert counted(merged) == counted(loops)
    assert not any(inner.is_inside(outer) for outer, inner in pairwise(merged))
    assert merge(merged) == merged


@given(NESTS)
def test_samples_stay_by_themselves(loops: list[Loop]) -> None:
    """The end of a loop over samples is known at the call only."""
    assert [one for one in merge(loops) if one.of_samples] == [x for x in loops if x.of_samples]


@given(LOOPS, st.integers(1, 4))
def test_a_split_loop_does_the_same(loop: Loop, inner: int) -> None:
    """Outer and inner part, one in the other; and merged it is what it was."""
    loop = replace(loop, count=loop.count * inner)
    parts = loop.split(inner)
    assert [part.count for part in parts] == [loop.count // inner, inner]
    assert counted(list(parts)) == counted([loop])
    assert loop.of_samples or merge(parts) == [loop]


@given(st.lists(st.integers(0, 3), max_size=8))
def test_runs_are_cut_where_neighbours_do_not_join(items: list[int]) -> None:
    """Every item once and in order."""
    found = runs(items, int.__le__)
    assert [item for run in found for item in run] == items
    assert all(run == sorted(run) for run in found)
    assert all(a[-1] > b[0] for a, b in pairwise(found))
