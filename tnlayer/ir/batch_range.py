"""A range of batch sizes: what one plan is chosen for, and one program serves."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class BatchRange:
    """Batch sizes from ``least`` to ``greatest``, both included.

    >>> few, many = BatchRange(0, 15), BatchRange(16)
    >>> 7 in few, 7 in many, f"{few}, then {many}"
    (True, False, '0 to 15, then 16 or more')

    Arguments:
        least: the smallest batch size; 0 is an empty batch.
        greatest: the largest one; None where there is no end.
    """

    least: int = 0
    greatest: int | None = None

    def __post_init__(self) -> None:
        if self.least < 0 or (self.greatest is not None and self.greatest < self.least):
            msg = f"no batch size lies from {self.least} to {self.greatest}"
            raise ValueError(msg)

    def __contains__(self, batch: int) -> bool:
        return self.least <= batch and (self.greatest is None or batch <= self.greatest)

    def __str__(self) -> str:
        if self.greatest is None:
            return f"{self.least:,} or more"
        if self.least == self.greatest:
            return f"{self.least:,}"
        return f"{self.least:,} to {self.greatest:,}"

    def covers(self, other: BatchRange) -> bool:
        """Whether all of another range is in this one."""
        return self.common(other) == other

    def common(self, other: BatchRange) -> BatchRange | None:
        """The sizes that are in both ranges; None if there are none."""
        least = max(self.least, other.least)
        ends = [end for end in (self.greatest, other.greatest) if end is not None]
        greatest = min(ends, default=None)
        return None if greatest is not None and greatest < least else BatchRange(least, greatest)

    def without(self, *others: BatchRange) -> tuple[BatchRange, ...]:
        """What is left of the range where others are taken out, in ascending order."""
        left = [self]
        for other in others:
            left = [part for one in left for part in one._outside(other)]
        return tuple(left)

    def _outside(self, other: BatchRange) -> tuple[BatchRange, ...]:
        """The parts below and above another range."""
        sides: list[BatchRange] = []
        if other.least > 0:
            sides.append(BatchRange(0, other.least - 1))
        if other.greatest is not None:
            sides.append(BatchRange(other.greatest + 1))
        found = (self.common(side) for side in sides)
        return tuple(part for part in found if part is not None)
