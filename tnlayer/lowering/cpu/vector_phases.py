"""Which legs fill the vectors: the stem is cut into segments, each with lanes that none of its
steps contracts.

With such lanes a sample is worked on alone, its state in the cache, and every step multiplies whole
vectors by single weights. Between segments the state is moved to other lanes. A state of four legs
of size 4, with vectors of 16::

    legs        a b c d
    lanes           c d      steps that contract a or b, in any order that the plan allows
    move        c d -> a b   16 vectors, transposed
    lanes       a b          steps that contract c or d

Few segments mean few moves, but many steps have to be free at once; so cuts are searched for.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations

from ...hardware.cpu import READ_AND_WRITTEN, SHUFFLED, TRANSPOSED, TWO_PRODUCTS
from ...ir.cuts import is_batched
from ...ir.plan import Plan
from ...ir.steps import gradient_step
from ...passes.stem import Stem, state_after
from ..array_layout import Array, Lanes, Sizes, tail_lanes, volume

# Segments at most, and partial cuts that are followed at each.
MOST_SEGMENTS, MOST_CUTS = 6, 8


@dataclass(frozen=True, slots=True)
class VectorPhase:
    """Steps that run with the same lanes.

    Arguments:
        lanes: the legs that fill a vector.
        steps: numbers of the stem's steps, in order.
    """

    lanes: Lanes
    steps: tuple[int, ...]


def find_segments(stem: Stem, sizes: Sizes, width: int) -> tuple[VectorPhase, ...] | str:
    """The cheapest cut of a stem into segments, or the reason why there is none."""
    search = _Search(stem, sizes, width)
    search.extend(0, stem.legs, search.tail(stem.legs), 0.0, ())
    if search.best is None:
        return f"no set of legs fills more than half a vector of {width} and leaves a step free"
    return search.best[1]


class _Search:
    """Depth first over cuts; a set of steps is an int with one bit a step."""

    def __init__(self, stem: Stem, sizes: Sizes, width: int) -> None:
        self.stem, self.sizes, self.width = stem, sizes, width
        # The cheapest cut so far bounds what is still worth following.
        self.best: tuple[float, tuple[VectorPhase, ...]] | None = None
        # Asked for a million times where a state has 18 legs.
        self.tails = tuple(self.tail(legs) for legs in (stem.outputs, stem.legs))
        self.volumes: dict[Lanes, int] = {}
        # The cheapest way so far to have done some steps and end with some lanes.
        self.seen: dict[tuple[int, Lanes], float] = {}
        count = len(stem.steps)
        self.everything = (1 << count) - 1
        # Steps that come after a step, itself included.
        behind = [1 << number for number in range(count)]
        for number in reversed(range(count)):
            for later in range(number + 1, count):
                if number in stem.waits[later]:
                    behind[number] |= behind[later]
        # Steps that have to wait while a leg is a lane.
        self.blocked = {
            leg: behind[number] for number, step in enumerate(stem.steps) for leg in step.contracted
        }

    def tail(self, legs: Sequence[str]) -> Lanes:
        """The last legs of an argument that fit a vector: there they lie in a row."""
        found: list[str] = []
        for leg in reversed(legs):
            if volume([leg, *found], self.sizes) > self.width:
                break
            found.insert(0, leg)
        return tuple(found)

    def extend(
        self,
        done: int,
        legs: tuple[str, ...],
        lanes: Lanes,
        cost: float,
        segments: tuple[VectorPhase, ...],
    ) -> None:
        """Try each next segment; the most advanced ones first, dominated ones not at all."""
        if self.best is not None and cost >= self.best[0]:
            return
        # What comes next depends on nothing else: which steps are done, and where the state lies.
        if self.seen.get((done, lanes), cost + 1) <= cost:
            return
        self.seen[done, lanes] = cost
        if done == self.everything:
            cost += self.move(lanes, self.tail(self.stem.outputs), legs)
            if self.best is None or cost < self.best[0]:
                self.best = (cost, segments)
            return
        if len(segments) == MOST_SEGMENTS:
            return
        for candidate in self.candidates(done, legs, lanes, cost):
            self.extend(
                done | candidate.free,
                candidate.legs,
                candidate.lanes,
                candidate.cost,
                (*segments, VectorPhase(candidate.lanes, candidate.steps)),
            )

    def candidates(
        self, done: int, legs: tuple[str, ...], lanes: Lanes, cost: float
    ) -> list[_Candidate]:
        """Lanes for the next segment, the best of those that allow the same steps."""
        found: dict[int, tuple[float, Lanes]] = {}
        for chosen in self.lane_sets(legs):
            free = self.everything & ~done
            for leg in chosen:
                free &= ~self.blocked.get(leg, 0)
            if not free:
                continue
            chosen = self.ordered(chosen)
            # Lanes that do not fill a vector make every later step as much slower.
            rank = self.move(lanes, chosen, legs) * self.width / self.volume(chosen)
            # At the end the lanes of y are best: nothing is moved behind them.
            rank += 1e-6 * (chosen != self.tails[0])
            if free not in found or rank < found[free][0]:
                found[free] = (rank, chosen)
        ranked: list[_Candidate] = []
        for free, (_, chosen) in found.items():
            steps = tuple(n for n in range(len(self.stem.steps)) if free >> n & 1)
            after, products = self.run(legs, steps)
            total = cost + self.move(lanes, chosen, legs)
            total += products * TWO_PRODUCTS / 2 / self.volume(chosen)
            ranked.append(_Candidate(chosen, free, steps, after, total))
        # Depth first finds a good cut early if it goes where most steps get done.
        ranked.sort(key=lambda c: (-len(c.steps), c.cost, c.lanes))
        kept: list[_Candidate] = []
        for candidate in ranked:
            # One that frees no more steps and costs as much cannot lead to a cheaper cut.
            if not any(
                not candidate.free & ~other.free and candidate.cost >= other.cost for other in kept
            ):
                kept.append(candidate)
        return kept[:MOST_CUTS]

    def ordered(self, chosen: Lanes) -> Lanes:
        """Lanes in the order in which x or y has them, if they are its last legs."""
        for tail in self.tails:
            if set(tail) == set(chosen):
                return tail
        return chosen

    def lane_sets(self, legs: Sequence[str]) -> list[Lanes]:
        """Sets of legs that fill more than half a vector."""
        wide = [leg for leg in legs if 1 < self.sizes[leg] <= self.width]
        return [
            chosen
            for count in range(1, self.width.bit_length())
            for chosen in combinations(wide, count)
            if self.width // 2 < self.volume(chosen) <= self.width
        ]

    def volume(self, legs: tuple[str, ...]) -> int:
        """Product of the legs' sizes, kept."""
        found = self.volumes.get(legs)
        if found is None:
            found = self.volumes[legs] = volume(legs, self.sizes)
        return found

    def move(self, old: Lanes, new: Lanes, legs: tuple[str, ...]) -> float:
        """Cycles to move the state to other lanes."""
        return move_cycles(old, new, self.volume(legs), self.sizes)

    def run(self, legs: tuple[str, ...], steps: Sequence[int]) -> tuple[tuple[str, ...], float]:
        """Legs after some steps, and the products on the way."""
        products = 0.0
        for number in steps:
            step = self.stem.steps[number]
            products += volume(legs, self.sizes) * volume(step.made, self.sizes)
            legs = state_after(legs, step)
        return legs, products


@dataclass(frozen=True, slots=True)
class _Candidate:
    """A next segment: its lanes and steps, the legs after it, and the cost up to there."""

    lanes: Lanes
    free: int
    steps: tuple[int, ...]
    legs: tuple[str, ...]
    cost: float


def lanes_of_forward(stem: Stem, segments: Sequence[VectorPhase]) -> dict[str, Lanes]:
    """Lanes of each stem step, by its result."""
    return {
        stem.steps[number].name: segment.lanes for segment in segments for number in segment.steps
    }


def lanes_of_backward(forward: Mapping[str, Lanes], backward: Plan) -> dict[str, Lanes]:
    """Lanes of all batched steps of a backward: forward steps that it repeats keep theirs, and the
    others have those of the step that they differentiate.

    Arguments:
        forward: lanes of the forward's steps.
        backward: the backward of a chain.
    """
    differentiated = {
        step.result.name: forward[gradient_step(step)]
        for step in backward.steps
        if gradient_step(step) and is_batched(step)
    }
    return {**forward, **differentiated}


def move_cycles(old: Lanes, new: Lanes, entries: int, sizes: Sizes) -> float:
    """Cycles to move so many entries to other lanes."""
    if old == new:
        return 0.0
    # Nothing in common: squares of entries are transposed, as many rows as the shorter side has.
    if not set(old) & set(new):
        return TRANSPOSED * entries / min(volume(old, sizes), volume(new, sizes))
    # Lanes in common stay in their register; only registers that hold the others exchange entries.
    entering = volume(set(new) - set(old), sizes)
    return (READ_AND_WRITTEN + SHUFFLED * rounds(entering)) * entries / volume(new, sizes)


def rounds(count: int) -> int:
    """Shuffles for each of so many registers that exchange entries: of k, k - 1 for a prime k, the
    sum over the prime factors for others."""
    total, factor = 0, 2
    while count > 1:
        while count % factor == 0:
            total, count = total + factor - 1, count // factor
        factor += 1
    return total


# A step with fewer results than this is done entry by entry: moving it to lanes costs more.
LEAST_LANES = 4


def branch_lanes(
    result: Sequence[str],
    operands: Sequence[tuple[Sequence[str], Array]],
    sizes: Sizes,
    width: int,
    run: str = "",
) -> Lanes:
    """Lanes of a step on parameters: legs of one operand and the result that fill most of a vector.

    Arguments:
        result: legs of the result.
        operands: legs and array of each operand.
        sizes: size of each leg.
        width: entries of a vector.
        run: the leg along which samples read the result, entry by entry; "" if none do. Of lanes
            that fill as much of a vector those are better that end in it, so that lines are whole.
    """
    best: tuple[int, bool, bool, Lanes] = (LEAST_LANES - 1, False, False, ())
    for number, (own, array) in enumerate(operands):
        # A leg that stands twice is a diagonal: its entries are no run.
        if len(set(own)) < len(own):
            continue
        shared = {leg for other, (legs, _) in enumerate(operands) if other != number
                  for leg in legs}  # fmt: skip
        tail = tail_lanes(array, sizes, width)
        for is_shared in (False, True):
            legs = [leg for leg in array.legs if leg in result and (leg in shared) == is_shared]
            for lanes in _subsets(legs, sizes, width):
                found = (volume(lanes, sizes), lanes[-1] == run, lanes == tail, lanes)
                if found[:3] > best[:3]:
                    best = found
    return best[3]


def _subsets(legs: Sequence[str], sizes: Sizes, width: int) -> list[Lanes]:
    """Sets of legs whose product fits a vector; legs of size 1 add nothing."""
    wide = [leg for leg in legs if 1 < sizes[leg] <= width]
    return [
        lanes
        for count in range(1, min(len(wide), 6) + 1)
        for lanes in combinations(wide, count)
        if volume(lanes, sizes) <= width
    ]
