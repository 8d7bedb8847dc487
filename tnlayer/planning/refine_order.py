"""Refining an order of contractions: parts of its tree are replaced by optimal ones.

Rounds go through the tree from the costliest contraction to the cheapest. Around each, a subtree of
a few leaves is searched exactly; what lies inside it is not searched again in the same round. So a
round costs as many searches as the tree has such parts, and the number of searches is bounded by
a budget: the work is linear in the number of terms, and the same in every process.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field

SsaPath = tuple[tuple[int, int], ...]

# The optimal order of a few terms: their legs, the legs that are kept, and a bound on the cost.
Optimum = Callable[[Sequence[Collection[str]], Collection[str], float], SsaPath]


class StopRefining(Exception):  # no error: it is how a search is ended
    """Raised by an Optimum once no more is to be searched."""


@dataclass(frozen=True, slots=True)
class Objective:
    """What an order costs.

    Arguments:
        of_step: cost of one contraction, by the size of its loop nest and the entries it writes.
        is_largest: whether the order costs what its costliest step does, else the sum of all.
    """

    of_step: Callable[[int, int], float]
    is_largest: bool = False

    def total(self, costs: Sequence[float]) -> float:
        """Cost of some steps together."""
        return max(costs, default=0.0) if self.is_largest else math.fsum(costs)


def walk_legs(
    terms: Sequence[Collection[str]], output: Collection[str], pairs: SsaPath
) -> list[tuple[frozenset[str], frozenset[str]]]:
    """For each contraction of an order the legs of its loop nest and those of its result.

    Arguments:
        terms: legs of each term.
        output: legs that are kept.
        pairs: the order, as SSA pairs.
    """
    left = Counter(leg for legs in terms for leg in legs)
    left.update(output)
    values = [frozenset(legs) for legs in terms]
    found: list[tuple[frozenset[str], frozenset[str]]] = []
    for first, second in pairs:
        loop = values[first] | values[second]
        for leg in values[first] & values[second]:
            left[leg] -= 1
        values.append(frozenset(leg for leg in loop if left[leg] > 1))
        found.append((loop, values[-1]))
    return found


def refine(
    terms: Sequence[Collection[str]],
    output: Collection[str],
    sizes: Mapping[str, int],
    pairs: SsaPath,
    *,
    objective: Objective,
    optimum: Optimum,
    leaves: int,
    budget: int,
) -> SsaPath:
    """The order with parts of its tree replaced by cheaper ones.

    Arguments:
        terms: legs of each term, distinct within a term.
        output: legs that are kept.
        sizes: size of every leg.
        pairs: the order, as SSA pairs.
        objective: what is made small.
        optimum: finds the optimal order of a few terms; it may raise StopRefining: then the
            order so far is returned.
        leaves: of the subtrees that are searched.
        budget: how many searches there may be.
    """
    tree = _Tree(terms, output, sizes, pairs, objective)
    known: set[frozenset[int]] = set()
    changed = True
    while changed:
        changed = False
        inside: set[int] = set()
        for root in tree.by_cost():
            if root in inside or root not in tree.children:
                continue
            below, inner = tree.part(root, leaves)
            if len(below) < 3 or frozenset(below) in known:
                continue
            if not budget:
                return tree.pairs()
            budget -= 1
            known.add(frozenset(below))
            try:
                made = tree.improve(root, below, inner, optimum)
            except StopRefining:
                return tree.pairs()
            changed |= bool(made)
            inside.update(made or inner)
    return tree.pairs()


@dataclass(slots=True)
class _Tree:
    """A contraction tree: terms by their number, contractions by numbers that follow."""

    terms: Sequence[Collection[str]]
    output: Collection[str]
    sizes: Mapping[str, int]
    made: SsaPath
    objective: Objective
    children: dict[int, tuple[int, int]] = field(default_factory=dict[int, tuple[int, int]])
    legs: list[frozenset[str]] = field(default_factory=list[frozenset[str]])
    costs: dict[int, float] = field(default_factory=dict[int, float])
    root: int = 0

    def __post_init__(self) -> None:
        self.legs = [frozenset(legs) for legs in self.terms]
        walked = walk_legs(self.terms, self.output, self.made)
        for pair, (loop, result) in zip(self.made, walked, strict=True):
            self.root = self.add(pair, loop, result)

    def add(self, pair: tuple[int, int], loop: frozenset[str], result: frozenset[str]) -> int:
        """A new contraction."""
        number = len(self.legs)
        self.legs.append(result)
        self.children[number] = pair
        self.costs[number] = self.cost(loop, result)
        return number

    def cost(self, loop: Collection[str], result: Collection[str]) -> float:
        """Cost of one contraction."""
        sizes = self.sizes
        entries = (math.prod(sizes[leg] for leg in legs) for legs in (loop, result))
        return self.objective.of_step(*entries)

    def by_cost(self) -> list[int]:
        """All contractions, the costliest first; of equal ones the last first."""
        return sorted(self.children, key=lambda number: (-self.costs[number], -number))

    def part(self, root: int, size: int) -> tuple[list[int], list[int]]:
        """The leaves of a subtree with this root, and the contractions between."""
        below, inner = [root], list[int]()
        waiting = [root]
        while waiting and len(below) < size:
            number = waiting.pop(0)
            pair = self.children[number]
            below.remove(number)
            below += pair
            inner.append(number)
            waiting += (child for child in pair if child in self.children)
        return below, inner[1:]

    def improve(
        self, root: int, below: Sequence[int], inner: Sequence[int], optimum: Optimum
    ) -> list[int]:
        """Replace the contractions between leaves and root if others cost less; gives those."""
        terms, kept = [self.legs[number] for number in below], self.legs[root]
        before = self.objective.total([self.costs[number] for number in (*inner, root)])
        pairs = optimum(terms, kept, before)
        walked = walk_legs(terms, kept, pairs)
        after = self.objective.total([self.cost(*legs) for legs in walked])
        if not after < before:
            return []
        for number in inner:
            del self.children[number]
        numbers = list(below)
        for (first, second), legs in zip(pairs, walked, strict=True):
            numbers.append(self.add((numbers[first], numbers[second]), *legs))
        # The last one is the root, under its old number: what lies above knows it by that.
        last = numbers.pop()
        self.children[root], self.costs[root] = self.children.pop(last), self.costs.pop(last)
        return numbers[len(below) :]

    def pairs(self) -> SsaPath:
        """The order: of two subtrees the larger one first, so that few values wait."""
        count: dict[int, int] = dict.fromkeys(range(len(self.terms)), 1)
        for number in self.downwards(lambda pair: pair)[::-1]:
            first, second = self.children[number]
            count[number] = count[first] + count[second]
        place = {number: number for number in range(len(self.terms))}
        found: list[tuple[int, int]] = []
        # From the root down, each before its children: read backwards each comes after them.
        for number in self.downwards(lambda pair: sorted(pair, key=count.__getitem__))[::-1]:
            first, second = self.children[number]
            place[number] = len(self.terms) + len(found)
            found.append((place[first], place[second]))
        return tuple(found)

    def downwards(self, order: Callable[[tuple[int, int]], Sequence[int]]) -> list[int]:
        """Contractions from the root down; the subtree of the child that ``order`` puts first comes
        first, as a whole."""
        found: list[int] = []
        waiting = [self.root] if self.children else []
        while waiting:
            number = waiting.pop()
            found.append(number)
            children = order(self.children[number])
            waiting += (child for child in reversed(children) if child in self.children)
        return found
