"""The table of programs by batch size."""

from __future__ import annotations

from typing import cast

from tnlayer.dispatch.programs_by_batch import _Table
from tnlayer.ir.batch_range import BatchRange
from tnlayer.runtime.program import Program


def test_a_range_around_another_serves_both_sides() -> None:
    """What is there stays; the new program has all that was free, below and above."""
    inner, outer = (cast("Program", name) for name in ("inner", "outer"))
    table = _Table().with_range(BatchRange(5, 6), inner).with_range(BatchRange(2), outer)
    assert table.ranges == (BatchRange(2, 4), BatchRange(5, 6), BatchRange(7))
    found = [table.find(batch) for batch in (1, 2, 4, 5, 6, 7, 10**9)]
    assert found == [None, outer, outer, inner, inner, outer, outer]
    assert table.with_range(BatchRange(3, 8), inner) == table
