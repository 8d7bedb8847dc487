"""Ranges of batch sizes: held against sets of numbers, for all small ranges."""

from __future__ import annotations

from itertools import product

import pytest

from tnlayer.ir.batch_range import BatchRange

END = 7
# Sizes beyond END are in exactly the ranges without an end, so one more stands for all of them.
SIZES = range(END + 2)
RANGES = [BatchRange(least, greatest)
          for least in range(END + 1) for greatest in (*range(least, END + 1), None)]  # fmt: skip


def sizes(*ranges: BatchRange) -> list[int]:
    """What is in ranges, in their order."""
    return [size for one in ranges for size in SIZES if size in one]


@pytest.mark.parametrize("one", RANGES, ids=str)
def test_ranges_are_sets_of_sizes(one: BatchRange) -> None:
    """Covering, what is common and what is left are those of the sets."""
    for other in RANGES:
        both = set(sizes(one)) & set(sizes(other))
        common = one.common(other)
        assert (set() if common is None else set(sizes(common))) == both
        assert one.covers(other) == (set(sizes(other)) <= set(sizes(one)))
        assert sizes(*one.without(other)) == sorted(set(sizes(one)) - set(sizes(other)))


def test_several_are_taken_out() -> None:
    """In any order; ranges that are left are in ascending order and not empty."""
    whole = BatchRange(1)
    holes = BatchRange(3, 4), BatchRange(8)
    for taken in (holes, holes[::-1]):
        assert whole.without(*taken) == (BatchRange(1, 2), BatchRange(5, 7))
    assert whole.without() == (whole,)
    assert whole.without(BatchRange()) == ()


@pytest.mark.parametrize(("least", "greatest"), [(5, 4), (-1, None), (-3, -2)])
def test_no_range_is_empty(least: int, greatest: int | None) -> None:
    """One without a size is refused."""
    with pytest.raises(ValueError, match=f"from {least} to {greatest}"):
        BatchRange(least, greatest)


def test_text() -> None:
    """As in reports."""
    assert [str(BatchRange(*ends)) for ends in ((1, 64), (2000,), (7, 7))] == [
        "1 to 64", "2,000 or more", "7",
    ]  # fmt: skip
    assert len({BatchRange(*ends) for ends in product((1, 2), (3, None))} | {BatchRange(1)}) == 4
