"""Orders of contraction that make equal products, for networks whose nodes share tensors.

A search that takes all tensors to be different finds trees in which equal subnetworks stand in
different places. Here pairs of neighbours that make equal products are contracted at the same time,
and then those of what came out, as long as there are any: a ring of 600 equal matrices becomes one
of 300 equal products. Each level is an order that can be gone on with; all are priced with each
product counted once, and the best one is taken.
"""

from __future__ import annotations

import math
from collections import Counter, defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from types import MappingProxyType

from ..ir.steps import Contract, Operand, Select, Value
from ..ir.value_numbering import Key
from ..passes.lower_graph import Terms, numbered
from .contraction_order import Found, greedy_order, search_order
from .deadline import Deadline
from .refine_order import SsaPath
from .steps_of_order import shared_cost

# Products with more entries than this are not made for the sake of a repeat.
_MOST_ENTRIES = 2**24
# Terms that may be left over for an order to be gone on with before the last level.
_FEW = 8
# Terms that are left for which an order is searched; of more the greedy one is taken.
_SEARCHED = 40
_STAGE = "looking for equal products"
# Neighbours on a leg that are looked at; a leg of a hyperedge has many.
_NEAR = 3


@dataclass(frozen=True, slots=True)
class _Kind:
    """Pairs of neighbours whose products are equal.

    Arguments:
        pairs: numbers of the two values of each.
        cost: loop space of one contraction.
        growth: entries of the product beyond those of the two.
        grows: whether the product is larger than either.
    """

    pairs: tuple[tuple[int, int], ...]
    cost: int
    growth: int
    grows: bool


# Which kind of pairs comes first: the one that saves most, or the one that leaves least.
_FIRST: tuple[Callable[[_Kind], int], ...] = (
    lambda kind: -(len(kind.pairs) - 1) * kind.cost,
    lambda kind: kind.growth,
)


def better_with_repeats(
    terms: Terms,
    found: Found,
    sizes: Mapping[str, int],
    minimize: str,
    effort: str,
    deadline: Deadline | None,
) -> Found:
    """The order that was found, or one that makes equal products if that costs less.

    Where products can be equal no search is exhaustive, so that nothing is proven of the order.

    Arguments:
        terms: of the network.
        found: an order for terms that were taken to be different.
        sizes: of all legs, the batch among them.
        minimize: the objective.
        effort: how long to search for an order of what is left.
        deadline: that of all planning; None: none.
    """
    numbering = numbered(terms)
    equal = Counter(numbering.of(term.value.name).first for term in terms.terms)
    if sum(count // 2 for count in equal.values()) < 2:
        return found  # no two products have equal factors
    begun = _begun(terms, tuple(sizes.items()))
    costs = {found.pairs: shared_cost(terms, found.pairs, sizes, minimize)}
    for pairs, left in begun.items():
        if deadline is not None and deadline.passed(_STAGE):
            break
        order = _completed(terms, pairs, left, sizes, minimize, effort, deadline)
        costs[order] = shared_cost(terms, order, sizes, minimize)
    best = min(costs, key=lambda pairs: costs[pairs])
    return replace(found, pairs=best, optimal=False)


# All objectives go on from the same starts, one after the other.
@lru_cache(maxsize=4)
def _begun(
    terms: Terms, sizes: tuple[tuple[str, int], ...]
) -> Mapping[SsaPath, Mapping[int, Operand]]:
    """The starts of orders of all kinds, and what each leaves, by its number."""
    begun: dict[SsaPath, Mapping[int, Operand]] = {}
    for first in _FIRST:
        for may_grow in (False, True):
            begun |= _levels(terms, dict(sizes), first, may_grow=may_grow)
    return MappingProxyType(begun)


def _levels(
    terms: Terms, sizes: Mapping[str, int], first: Callable[[_Kind], int], *, may_grow: bool
) -> dict[SsaPath, dict[int, Operand]]:
    """The starts of orders that can be gone on with, and what each leaves, by its number."""
    network = _Network(terms, sizes)
    found: dict[SsaPath, dict[int, Operand]] = {}
    while True:
        kinds = [kind for kind in network.kinds() if may_grow or not kind.grows]
        made = len(network.pairs)
        for kind in sorted(kinds, key=first):
            network.contract(kind)
        is_last = len(network.pairs) == made
        if network.pairs and (is_last or len(network.values) <= _FEW):
            found[tuple(network.pairs)] = dict(network.values)
        if is_last:
            return found


class _Network:
    """The values that are left while pairs are contracted, by their numbers in the order."""

    def __init__(self, terms: Terms, sizes: Mapping[str, int]) -> None:
        self.sizes = sizes
        self.values = dict(enumerate(terms.terms))
        self.pairs: list[tuple[int, int]] = []
        self.made = len(terms.terms)
        self.output = {leg for axis in terms.output for leg in axis}
        self.numbering = numbered(terms)
        self.ends: dict[str, dict[int, None]] = defaultdict(dict)
        for number, term in self.values.items():
            for leg in term.legs:
                self.ends[leg][number] = None

    def step(self, pair: tuple[int, int]) -> Contract:
        """The contraction of a pair."""
        left, right = (self.values[number] for number in pair)
        loop = dict.fromkeys((*left.legs, *right.legs))
        kept = [leg for leg in loop if leg in self.output or self.ends[leg].keys() - set(pair)]
        return Contract(Value(f"t{self.made}", tuple(kept)), left, right)

    def entries(self, legs: Sequence[str]) -> int:
        """Product of sizes."""
        return math.prod(self.sizes[leg] for leg in legs)

    def kinds(self) -> list[_Kind]:
        """Neighbours by what their product is, those kinds alone of which there are several."""
        groups: dict[Key, list[tuple[int, int]]] = defaultdict(list)
        seen: set[tuple[int, int]] = set()
        for numbers in self.ends.values():
            near = list(numbers)
            for place, one in enumerate(near):
                for other in near[place + 1 : place + _NEAR]:
                    pair = (min(one, other), max(one, other))
                    if pair not in seen:
                        seen.add(pair)
                        groups[self.numbering.key(self.step(pair))].append(pair)
        return [self.kind(sorted(pairs)) for pairs in groups.values() if len(pairs) > 1]

    def kind(self, pairs: list[tuple[int, int]]) -> _Kind:
        """What the pairs of one kind cost and leave."""
        step = self.step(pairs[0])
        made, left, right = (
            self.entries(legs) for legs in (step.result.legs, step.left.legs, step.right.legs)
        )
        growth, grows = made - left - right, made > max(left, right)
        return _Kind(tuple(pairs), self.entries(step.loop_legs), growth, grows)

    def contract(self, kind: _Kind) -> None:
        """Contract the pairs of a kind that are still there, if two or more can be at once."""
        chosen: list[tuple[int, int]] = []
        taken: set[int] = set()
        for pair in kind.pairs:
            if not taken & set(pair) and all(number in self.values for number in pair):
                chosen.append(pair)
                taken |= set(pair)
        if len(chosen) < 2 or self.entries(self.step(chosen[0]).result.legs) > _MOST_ENTRIES:
            return
        for pair in chosen:
            step = self.step(pair)
            same = self.numbering.add(step)
            result = Operand(step.result)
            if same is not None:
                value = Value(step.result.name, same.legs(step.result))
                self.numbering.add(Select(value, Operand(same.first), ()))
                result = Operand(value, same.conj)
            for number in pair:
                for leg in self.values.pop(number).legs:
                    del self.ends[leg][number]
            self.values[self.made] = result
            for leg in result.legs:
                self.ends[leg][self.made] = None
            self.pairs.append(pair)
            self.made += 1


def _completed(
    terms: Terms,
    pairs: SsaPath,
    left: Mapping[int, Operand],
    sizes: Mapping[str, int],
    minimize: str,
    effort: str,
    deadline: Deadline | None,
) -> SsaPath:
    """An order that goes on with what is left: the best one of few terms, else a greedy one."""
    numbers, legs = list(left), [operand.legs for operand in left.values()]
    kept = [leg for axis in terms.output for leg in axis]
    if len(legs) <= _SEARCHED:
        rest = search_order(
            legs,
            kept,
            sizes,
            tensors=len(left),
            minimize=minimize,
            effort=effort,
            seeded=len(left) > _FEW,
            deadline=deadline,
        ).pairs
    else:
        rest = greedy_order(legs, kept, sizes)
    made = len(terms.terms) + len(pairs)
    places = [*numbers, *range(made, made + len(rest))]
    return (*pairs, *((places[one], places[other]) for one, other in rest))
