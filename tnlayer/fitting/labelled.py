"""Arrays with a label an axis, and how several are contracted, one pair after another.

Labels are the names of legs. A label that two arrays have and the result lacks is summed, as in
einsum; numbers stand for the names there, so that no letter runs out.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import torch

from ..planning.contraction_order import search_order

Labels = tuple[str, ...]

# Orders of more factors than this are searched by seeded trials: all orders would take seconds.
_EXHAUSTIVE = 7


@dataclass(frozen=True, slots=True, eq=False)
class Labelled:
    """An array and the label of each of its axes, all different."""

    array: torch.Tensor
    labels: Labels

    def ordered(self, labels: Sequence[str]) -> torch.Tensor:
        """The array with its axes in the order of these labels, which are its own."""
        return self.array.permute([self.labels.index(label) for label in labels])

    def conj(self) -> Labelled:
        """The complex conjugate."""
        return Labelled(self.array.conj(), self.labels)


def product(left: Labelled, right: Labelled, kept: Sequence[str]) -> Labelled:
    """The product of two arrays, summed over the labels that are not kept."""
    numbers: dict[str, int] = {}
    for label in (*left.labels, *right.labels):
        numbers.setdefault(label, len(numbers))
    array = torch.einsum(
        left.array, [numbers[label] for label in left.labels],
        right.array, [numbers[label] for label in right.labels],
        [numbers[label] for label in kept],
    )  # fmt: skip
    return Labelled(array, tuple(kept))


class ContractionTree:
    """An order of contraction of some factors, which values are put into.

    Arguments:
        factors: the labels of each factor; each label is on two factors or in the output.
        output: labels of the result.
        sizes: size of each label.
    """

    def __init__(
        self, factors: Sequence[Labels], output: Sequence[str], sizes: Mapping[str, int]
    ) -> None:
        self.output = tuple(output)
        pairs = search_order(
            factors,
            self.output,
            sizes,
            tensors=len(factors),
            minimize="flops",
            effort="fast",
            seeded=len(factors) > _EXHAUSTIVE,
        ).pairs
        # Factors under each node; node k of the pairs is number (factors + k).
        self._children: dict[int, tuple[int, int]] = {}
        under: list[frozenset[int]] = [frozenset({k}) for k in range(len(factors))]
        for made, (left, right) in enumerate(pairs, len(factors)):
            self._children[made] = (left, right)
            under.append(under[left] | under[right])
        self._under = under
        holders: dict[str, set[int]] = {}
        for number, labels in enumerate(factors):
            for label in labels:
                holders.setdefault(label, set()).add(number)
        self._inside: list[frozenset[str]] = [
            frozenset(label for label, held in holders.items() if held & below) for below in under
        ]
        outside = [
            frozenset(label for label, held in holders.items() if held - below) for below in under
        ]
        wanted = frozenset(self.output)
        # What a node's value has, and what the rest of the network gives to it.
        self._kept = [
            inside & (other | wanted) for inside, other in zip(self._inside, outside, strict=True)
        ]
        self._given = [
            other & (inside | wanted) for inside, other in zip(self._inside, outside, strict=True)
        ]
        # Multiplications of one contraction, to foresee how long sweeps take.
        self.work = 0
        for left, right in pairs:
            loop = 1
            for label in self._kept[left] | self._kept[right]:
                loop *= sizes[label]
            self.work += loop

    @property
    def _root(self) -> int:
        return max(self._children, default=0)

    def contract(self, values: Sequence[Labelled]) -> Labelled:
        """The contraction of values of all factors."""
        if not values:
            raise AssertionError
        done = self._ups(values)
        root = done[self._root]
        return Labelled(root.ordered(self.output), self.output)

    def _ups(self, values: Sequence[Labelled]) -> dict[int, Labelled]:
        done = dict(enumerate(values))
        for made, (left, right) in self._children.items():
            done[made] = self._join(done[left], done[right], self._kept[made])
        return done

    def _join(self, left: Labelled, right: Labelled, kept: frozenset[str]) -> Labelled:
        present = dict.fromkeys((*left.labels, *right.labels))
        return product(left, right, [label for label in present if label in kept])

    def sweep(
        self,
        values: list[Labelled],
        visit: Callable[[int, Labelled | None], Labelled | None],
        visited: frozenset[int],
    ) -> None:
        """Visit factors one after another, each with its environment: the contraction of all
        others, as they are by then.

        It is the adjoint of the contraction, evaluated depth first: whatever a visit changes is
        seen by the next. The work is three times that of a contraction.

        Arguments:
            values: of all factors; what visits return is written into it.
            visit: gets the number of a factor and its environment (None: there is no other
                factor), and may return a new value.
            visited: the factors to visit.
        """
        done = self._ups(values)
        wanted = {node for node, below in enumerate(self._under) if below & visited}
        # Without recursion: trees may be as deep as networks are long.
        todo: list[tuple[int, int | None, Labelled | None]] = [(self._root, None, None)]
        while todo:
            node, child, given = todo.pop()
            if node not in self._children:
                new = visit(node, given)
                if new is not None:
                    values[node] = done[node] = new
                continue
            left, right = self._children[node]
            if child is None:
                todo += [(node, node, None), (node, right, given), (node, left, given)]
            elif child == node:
                done[node] = self._join(done[left], done[right], self._kept[node])
            elif child in wanted:
                down = done[right if child == left else left]
                if given is not None:
                    down = self._join(given, down, self._given[child])
                todo.append((child, None, down))
