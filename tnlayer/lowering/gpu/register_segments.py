"""Which legs of a state are in the registers of a thread: the stem is cut into segments.

Within a segment a thread holds all combinations of its register legs and runs steps on them; the
other legs are points, shared by the threads. Between segments the state goes through shared memory.
Steps that do not wait for each other may change places, so that as few segments as possible are
needed. A step that is too large for registers is a segment of its own without register legs.

A circuit of two-leg gates on a state (a b c d e f), where four legs fit the registers::

    a --[0]------        segment 0: registers a b c d, steps 0 1 3; points e f
    b --[0]--[3]-                   exchange through shared memory
    c --[1]--[3]-        segment 1: registers d e f, steps 2 4; points a b c
    d --[1]--[4]-
    e --[2]--[4]-        (cut by layers it would be three: 0 1, then 2, then 3 4)
    f --[2]------

The search goes segment by segment: from each of the best cuts so far, every set of steps that one
more segment can do. What a segment costs is one exchange; the first and the last one pay for how
threads read x and write y, too (coalescing.py).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from ...passes.stem import Stem, StemStep, state_after
from ..array_layout import Sizes, volume
from .coalescing import edge_cost, goes_direct

# Partial cuts that are followed at each level, sets of legs tried for one segment: there are
# exponentially many of both, and the best ones are found early.
MOST_CUTS, MOST_SETS = 24, 400
# What a step without registers costs, in segments: it reads and writes the state once like any
# segment, but each of its products loads its operands from memory anew.
LARGE_STEP = 3.0


@dataclass(frozen=True, slots=True)
class RegisterSegment:
    """Steps that run without an exchange.

    Arguments:
        registers: register legs as the segment begins.
        steps: numbers of the stem's steps, in order.
        large: whether it is one step that is too large for registers.
    """

    registers: tuple[str, ...]
    steps: tuple[int, ...]
    large: bool = False


@dataclass(frozen=True, slots=True)
class Limits:
    """What fits the registers of a thread.

    Arguments:
        state: entries of a state at any time.
        together: entries of all states of a segment, one gradient and one weight's gradient: what
            a backward holds; 0 where there is none.
        stored: bytes of an entry of x and y.
    """

    state: int
    together: int = 0
    stored: int = 4


@dataclass(frozen=True, slots=True)
class _Cut:
    """Steps done so far (bits of an int: subsets are compared all the time) and the segments that
    did them."""

    done: int
    legs: tuple[str, ...]
    cost: float
    segments: tuple[RegisterSegment, ...]


def find_register_segments(
    stem: Stem, sizes: Sizes, limits: Limits, *, keeps_points: bool = True
) -> tuple[RegisterSegment, ...]:
    """The cut of a stem into the fewest segments, level by level with the best cuts so far.

    Arguments:
        stem: the chain.
        sizes: size of each leg.
        limits: what fits.
        keeps_points: whether a leg that a weight shares with the state may be a point.
    """
    search = _Search(stem, sizes, limits, keeps_points)
    everything = (1 << len(stem.steps)) - 1
    level = [_Cut(0, stem.legs, 0.0, ())]
    best: _Cut | None = None
    while level:
        found: dict[int, _Cut] = {}
        for cut in level:
            for after in search.extended(cut):
                # Costs only grow: what is no better now cannot become so.
                if best is not None and after.cost >= best.cost:
                    continue
                if after.done == everything:
                    best = after
                elif after.done not in found or after.cost < found[after.done].cost:
                    found[after.done] = after
        ranked = sorted(found.values(), key=lambda cut: (cut.cost - search.share(cut.done),))
        level = []
        # A cut that has done no more than another one, for no less, is left out: whatever follows
        # it can follow the other.
        for cut in ranked:
            if len(level) == MOST_CUTS:
                break
            if not any(not cut.done & ~o.done and cut.cost >= o.cost for o in level):
                level.append(cut)
    assert best is not None, "a step that does not fit is a segment of its own"
    return best.segments


class _Search:
    """Which segments may come next."""

    def __init__(self, stem: Stem, sizes: Sizes, limits: Limits, keeps_points: bool) -> None:
        self.stem, self.sizes, self.limits = stem, sizes, limits
        self.keeps_points = keeps_points
        self.waits = [sum(1 << other for other in others) for others in stem.waits]

    def share(self, done: int) -> float:
        """Segments that the steps done so far are worth: a guess that ranks cuts of one level."""
        return 0.5 * done.bit_count()

    def needs(self, step: StemStep) -> tuple[str, ...]:
        """Legs that have to be in registers."""
        return step.contracted if self.keeps_points else (*step.contracted, *step.kept)

    def ready(self, done: int) -> list[int]:
        return [
            number
            for number in range(len(self.stem.steps))
            if not done >> number & 1 and not self.waits[number] & ~done
        ]

    def extended(self, cut: _Cut) -> list[_Cut]:
        """The cut with one segment more; each set of steps once.

        Sets of register legs grow by what one more step needs, from the empty one on, so that only
        sets are tried that some step has a use for.
        """
        found: dict[int, _Cut] = {}
        seen: set[frozenset[str]] = set()
        waiting = [frozenset[str]()]
        while waiting and len(seen) < MOST_SETS:
            registers = waiting.pop()
            if registers in seen:
                continue
            seen.add(registers)
            steps, now = self.run(cut, registers)
            done = cut.done | sum(1 << number for number in steps)
            if steps:
                self.offer(cut, registers, steps, found)
            for number in self.ready(done):
                legs = set(self.needs(self.stem.steps[number])) - now
                if legs <= set(cut.legs) - registers and self.fits(
                    registers | legs, (*steps, number)
                ):
                    waiting.append(registers | legs)
        if not found:
            # No ready step fits. The one with the smallest result comes first: what follows it is
            # likeliest to fit again.
            number = min(self.ready(cut.done), key=lambda n: self.size_of(cut.legs, n))
            after = state_after(cut.legs, self.stem.steps[number])
            segment = RegisterSegment((), (number,), large=True)
            done = cut.done | 1 << number
            return [_Cut(done, after, cut.cost + LARGE_STEP, (*cut.segments, segment))]
        return list(found.values())

    def size_of(self, legs: Sequence[str], number: int) -> int:
        return volume(state_after(tuple(legs), self.stem.steps[number]), self.sizes)

    def run(self, cut: _Cut, registers: frozenset[str]) -> tuple[tuple[int, ...], set[str]]:
        """Steps that run on some register legs, and the register legs after them.

        Whatever can run does: left for a later segment, a step would only need the same legs in
        registers again.
        """
        now, done, steps = set(registers), cut.done, list[int]()
        again = True
        while again:
            again = False
            for number in self.ready(done):
                step = self.stem.steps[number]
                if set(self.needs(step)) <= now and self.fits(registers, (*steps, number)):
                    now = (now - set(step.contracted)) | set(step.made)
                    done |= 1 << number
                    steps.append(number)
                    again = True
        return tuple(steps), now

    def fits(self, registers: frozenset[str] | set[str], steps: Sequence[int]) -> bool:
        """Whether steps that begin with these registers stay within the limits.

        A forward replaces the state at each step. A backward makes all states of the segment again
        and then walks back, so it holds their sum, besides one gradient of a weight.
        """
        entries = volume(registers, self.sizes)
        largest, held, weight = entries, entries, 0
        for number in steps:
            step = self.stem.steps[number]
            # A step replaces the legs that it contracts by those that it makes.
            bare = volume(step.contracted, self.sizes), volume(step.made, self.sizes)
            entries = entries // bare[0] * bare[1]
            largest = max(largest, entries)
            held += entries
            kept = [leg for leg in step.kept if leg in registers]
            weight = max(weight, bare[0] * bare[1] * volume(kept, self.sizes))
        if largest > self.limits.state:
            return False
        return not self.limits.together or held + weight <= self.limits.together

    def offer(
        self, cut: _Cut, registers: frozenset[str], steps: tuple[int, ...], found: dict[int, _Cut]
    ) -> None:
        legs = cut.legs
        for number in steps:
            legs = state_after(legs, self.stem.steps[number])
        done = cut.done | sum(1 << number for number in steps)
        cost = cut.cost + 1.0  # one exchange; edges are counted in exchanges, too
        if not cut.segments:
            cost += edge_cost(self.stem.legs, registers, self.sizes, self.limits.stored)
        ends = done == (1 << len(self.stem.steps)) - 1
        if ends:
            points = set(cut.legs) - registers
            own = [leg for leg in self.stem.outputs if leg not in points]
            cost += edge_cost(self.stem.outputs, own, self.sizes, self.limits.stored)
        ordered = tuple(leg for leg in cut.legs if leg in registers)
        after = _Cut(done, legs, cost, (*cut.segments, RegisterSegment(ordered, steps)))
        if done not in found or cost < found[done].cost:
            found[done] = after


def with_fillers(
    stem: Stem, segments: Sequence[RegisterSegment], sizes: Sizes, limits: Limits, least_points: int
) -> tuple[RegisterSegment, ...]:
    """Segments whose threads hold more legs, slow ones, while enough points are left.

    A leg that no step touches may be held all the same: a thread then has more products that do not
    wait for each other, and uses each weight that it has read for all of them. Slow legs come
    first, for neighbouring threads should go on to read neighbouring entries.
    """
    search = _Search(stem, sizes, limits, True)
    legs, found = stem.legs, list[RegisterSegment]()
    for number, segment in enumerate(segments):
        after = legs
        for step in segment.steps:
            after = state_after(after, stem.steps[step])
        registers = list(segment.registers)
        if not segment.large:
            edges = {0: stem.legs, len(segments) - 1: stem.outputs}
            for leg in legs:
                more = [*registers, leg]
                points = volume([x for x in legs if x not in more], sizes)
                if (
                    leg in registers
                    or leg not in after
                    or points < least_points
                    or not search.fits(set(more), segment.steps)
                ):
                    continue
                # Not where x or y could then not go straight between memory and registers.
                own = more if number == 0 else [x for x in after if x in more or x not in legs]
                if number in edges and not goes_direct(edges[number], own, sizes, limits.stored):
                    continue
                registers = more
        ordered = tuple(leg for leg in legs if leg in registers)
        found.append(RegisterSegment(ordered, segment.steps, segment.large))
        legs = after
    return tuple(found)
