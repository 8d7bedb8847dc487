"""Networks over sites in a plane, level over level: where sites and tensors stand in that plane."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean

from ..graph_values import GraphValues, TensorNode

# Distances of neighbours in the plane, seen from the side: columns, rows, and how far each row is
# to the right of the one before it; and the height of a level above the one below, to which most
# of the depth of the plane is added.
_COLUMN, _ROW, _SHEAR, _RISE = 1.9, 0.75, 0.65, 1.8

Spot = tuple[float, float]


@dataclass(frozen=True, slots=True)
class Planes:
    """Row and column of each leg of x, in their order, and of each tensor by name."""

    rows: int
    legs: Mapping[str, Spot]
    tensors: Mapping[str, Spot]

    def seen(self, spot: Spot, level: int) -> Spot:
        """Where a spot of a level stands in the picture: rows go back and up, levels up.

        Arguments:
            spot: row and column.
            level: 0 for x.
        """
        row, column = spot
        back = self.rows - 1 - row
        height = 0.6 * (self.rows - 1) * _ROW + _RISE
        return _COLUMN * column + _SHEAR * back, _ROW * back + height * level


def planes_of(graph: GraphValues) -> Planes | None:
    """The plane of a network whose tensors act on blocks of neighbours in it; None for others.

    The legs of x, row by row, are the sites. In the order of declaration each tensor takes legs
    that are there, which must fill a rectangle of neighbours, and gives as many again, that stay
    where they are, or one, in their middle. Two tensors at least must act on rows and columns at
    once. Legs and their order count, not names.
    """
    if len(graph.inputs) != 1 or graph.inputs[0].product:
        return None
    legs = graph.inputs[0].legs
    ends = Counter(leg for tensor in graph.tensors for leg in tensor.legs)
    if any(ends[leg] != 1 for leg in legs) or any(count > 2 for count in ends.values()):
        return None
    for rows in range(2, len(legs) // 2 + 1):
        columns, rest = divmod(len(legs), rows)
        if not rest:
            sites = {leg: (k // columns, k % columns) for k, leg in enumerate(legs)}
            found = _placed(graph.tensors, sites, ends)
            if found is not None:
                return Planes(rows, sites, found)
    return None


def _placed(
    tensors: Sequence[TensorNode], sites: Mapping[str, Spot], ends: Mapping[str, int]
) -> dict[str, Spot] | None:
    """The middle of what each tensor acts on; None where something is no block of neighbours."""
    live: dict[str, Spot] = dict(sites)
    found: dict[str, Spot] = {}
    blocks = 0
    for tensor in tensors:
        taken = {leg: live.pop(leg) for leg in tensor.legs if leg in live}
        spots = list(taken.values())
        if not _is_block(spots, live.values()):
            return None
        sides = {row for row, _ in spots}, {column for _, column in spots}
        blocks += min(map(len, sides)) > 1
        middle = fmean(row for row, _ in spots), fmean(column for _, column in spots)
        found[tensor.name] = middle
        # What another tensor takes: legs of y have one end.
        made = [leg for leg in tensor.legs if leg not in taken and ends[leg] == 2]
        if len(made) == len(spots):
            live |= dict(zip(made, spots, strict=True))
        elif len(made) == 1:
            live[made[0]] = middle
        elif made:
            return None
    return found if blocks > 1 else None


def _is_block(spots: Sequence[Spot], others: Iterable[Spot]) -> bool:
    """Whether these fill a rectangle in which no other one lies."""
    if not spots:
        return False
    rows, columns = sorted({row for row, _ in spots}), sorted({column for _, column in spots})
    if len(rows) * len(columns) != len(set(spots)):
        return False
    return not any(
        rows[0] <= row <= rows[-1] and columns[0] <= column <= columns[-1] for row, column in others
    )
