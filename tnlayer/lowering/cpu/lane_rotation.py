"""Lane rotation: steps change the lanes while they multiply, in place of moves between segments.

A step that contracts some of the lanes cannot run on whole vectors. But a vector of its result with
lanes (made, kept) is a sum, over the contracted ones, of weights times the state at the kept lanes,
repeated for each of the made ones; and one load can repeat a part of a vector. So the step reads
its state in parts where other steps read whole vectors, and the lanes change at the price of a few
loads: no transposition. With vectors of four, a step that contracts p and makes m::

    state       s00 s01 s10 s11                      lanes (p q)
    loads       s00 s01 s00 s01   s10 s11 s10 s11    p = 0, then 1: the run of q, for each m
    weights     w00 w00 w10 w10   w01 w01 w11 w11    W[m, p], for each q
    result      r00 r01 r10 r11                      lanes (m q), the sum of both products

The kept lanes have to lie last. The lanes of a vector change places for one instruction when it is
stored, so each state is stored in the order in which the next rotation wants it. A gradient has the
order in which the step that made its value computed: there the weight's gradient needs it.
"""

from __future__ import annotations

import heapq
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations, count

from ...hardware.cpu import REORDERED, ROTATED_LOAD, TRANSPOSED
from ...ir.plan import Plan
from ...ir.steps import BATCH, gradient_step
from ...passes.stem import Stem, state_after
from ..array_layout import Lanes, Sizes, volume
from .vector_phases import VectorPhase, move_cycles

# Partial schedules that are followed, and whole ones that are compared.
MOST_FOLLOWED, MOST_COMPARED = 3000, 12


@dataclass(frozen=True, slots=True)
class RotatedSchedule:
    """A schedule whose lanes change by rotations.

    Arguments:
        order: numbers of the stem's steps as they run.
        lanes: for each step (by its result) the lanes in the order in which it computes them.
        stored: the same lanes in the order in which the result is stored.
        cost: cycles a sample, in the measure of ``vector_phases.find_segments``.
    """

    order: tuple[int, ...]
    lanes: Mapping[str, Lanes]
    stored: Mapping[str, Lanes]
    cost: float


@dataclass(frozen=True, slots=True)
class _Rotation:
    """A step, the lanes that it contracts, and those that it makes instead."""

    step: int
    contracted: frozenset[str]
    made: Lanes


def find_rotations(stem: Stem, sizes: Sizes, width: int) -> RotatedSchedule | None:
    """The cheapest schedule by rotations, or None if there is none."""
    return _Search(stem, sizes, width).best()


def tail_of(legs: Sequence[str], sizes: Sizes, width: int) -> Lanes:
    """The last legs of an argument that fill a vector, or () if none do."""
    found: list[str] = []
    for leg in reversed(legs):
        if volume(found, sizes) == width:
            break
        if sizes[leg] > 1:
            found.insert(0, leg)
    return tuple(found) if volume(found, sizes) == width else ()


class _Search:
    """Sequences of rotations, the cheapest first; other steps run before the rotation that waits
    for them, or as soon as they come in the plan."""

    def __init__(self, stem: Stem, sizes: Sizes, width: int) -> None:
        self.stem, self.sizes, self.width = stem, sizes, width
        # For each step all that have to run before it, itself included: it brings them along.
        self.before: list[frozenset[int]] = []
        for number, waits in enumerate(stem.waits):
            self.before.append(frozenset({number}).union(*(self.before[n] for n in waits)))
        self.start = tail_of(stem.legs, sizes, width)
        self.end = tail_of(stem.outputs, sizes, width)

    def best(self) -> RotatedSchedule | None:
        """Compare the schedules that the search comes upon first, exactly."""
        # What x has to load with must fill a vector: no step before could rotate.
        if not self.start:
            return None
        found: list[RotatedSchedule] = []
        for rotations in self.sequences():
            schedule = self.schedule(rotations)
            if schedule is not None:
                found.append(schedule)
            if len(found) == MOST_COMPARED:
                break
        return min(found, key=lambda rotated: rotated.cost, default=None)

    def free(self, steps: frozenset[int], lanes: frozenset[str]) -> bool:
        """Whether no step contracts a lane."""
        return not any(lanes & set(self.stem.steps[number].contracted) for number in steps)

    def sequences(self) -> Iterator[tuple[_Rotation, ...]]:
        """Sequences of rotations after which all other steps are free, by a rough cost."""
        everything = frozenset(range(len(self.stem.steps)))
        # Equal costs are taken in the order in which they came, so that runs are the same.
        ties = count()
        # The state is taken to keep its size: the exact cost is counted of whole schedules only.
        entries = volume(self.stem.legs, self.sizes) / self.width
        queue: list[tuple[float, int, frozenset[int], frozenset[str], tuple[_Rotation, ...], bool]]
        queue = [(0.0, next(ties), frozenset(), frozenset(self.start), (), False)]
        seen: set[tuple[frozenset[int], frozenset[str], bool]] = set()
        for _ in range(MOST_FOLLOWED):
            if not queue:
                return
            cost, _, done, lanes, rotations, ends = heapq.heappop(queue)
            if (done, lanes, ends) in seen:
                continue
            seen.add((done, lanes, ends))
            if ends:
                yield rotations
                continue
            # What is left leaves the lanes alone: a whole schedule, queued with the cost of its end
            # so that it comes out behind cheaper ones that are not done yet.
            if self.free(everything - done, lanes):
                at_end = cost + (0.0 if lanes == set(self.end) else TRANSPOSED * entries)
                heapq.heappush(queue, (at_end, next(ties), done, lanes, rotations, True))
            for rotation in self.rotations(done, lanes):
                step = self.stem.steps[rotation.step]
                loads = volume(step.contracted, self.sizes) / (
                    volume(step.made, self.sizes) / volume(rotation.made, self.sizes)
                )
                after = (lanes - rotation.contracted) | set(rotation.made)
                more = cost + entries * (REORDERED + ROTATED_LOAD * loads)
                heapq.heappush(
                    queue,
                    (
                        more,
                        next(ties),
                        done | self.before[rotation.step],
                        after,
                        (*rotations, rotation),
                        False,
                    ),
                )

    def rotations(self, done: frozenset[int], lanes: frozenset[str]) -> Iterator[_Rotation]:
        """The steps that may come next and contract lanes, with what they may make."""
        for number, step in enumerate(self.stem.steps):
            if number in done or not self.free(self.before[number] - {number} - done, lanes):
                continue
            lost = lanes & set(step.contracted)
            if not lost:
                continue
            # Lanes that go have to be replaced by as many, or vectors would not be full.
            wanted = volume(lost, self.sizes)
            made = [leg for leg in step.made if 1 < self.sizes[leg] <= wanted]
            for size in range(1, len(made) + 1):
                for chosen in combinations(made, size):
                    if volume(chosen, self.sizes) == wanted:
                        yield _Rotation(number, frozenset(lost), chosen)

    # -- a whole schedule ------------------------------------------------------------------

    def schedule(self, rotations: Sequence[_Rotation]) -> RotatedSchedule | None:
        """Put the other steps between the rotations; decide orders of lanes; count cycles."""
        order = self.order(rotations)
        at = {rotation.step: rotation for rotation in rotations}
        eras = self.eras(order, at)
        if eras is None:
            return None
        lanes: dict[str, Lanes] = {}
        stored: dict[str, Lanes] = {}
        state, legs, cost, era = self.start, self.stem.legs, 0.0, 0
        for number in order:
            step = self.stem.steps[number]
            before = volume(legs, self.sizes) / self.width
            vectors = before * volume(step.made, self.sizes) / volume(step.contracted, self.sizes)
            # Two multiply-adds start in a cycle.
            cost += before * volume(step.made, self.sizes) / 2
            computed = state
            if number in at:
                era += 1
                kept = [leg for leg in state if leg not in at[number].contracted]
                # Made in the order in which they are stored, so that often nothing is reordered.
                wanted = [leg for leg in eras[era] if leg in at[number].made]
                computed = (*(wanted or at[number].made), *kept)
                repeats = volume(step.contracted, self.sizes) * volume(at[number].made, self.sizes)
                cost += ROTATED_LOAD * vectors * repeats / volume(step.made, self.sizes)
            lanes[step.name], stored[step.name] = computed, eras[era] or computed
            cost += REORDERED * vectors * (computed != stored[step.name])
            state = stored[step.name]
            legs = state_after(legs, step)
        cost += move_cycles(state, self.end, volume(legs, self.sizes), self.sizes)
        return RotatedSchedule(tuple(order), lanes, stored, cost)

    def order(self, rotations: Sequence[_Rotation]) -> list[int]:
        """Before a rotation run those that it needs and those that come earlier in the plan."""
        order: list[int] = []
        lanes = set(self.start)
        rotating = {rotation.step for rotation in rotations}
        # x lies as it comes, and no store before it can bring the first rotation's lanes to the
        # front.
        if rotations and set(self.start[: len(rotations[0].contracted)]) != rotations[0].contracted:
            order += self.opening(rotations[0], rotating)
        for rotation in rotations:
            # Steps behind a later rotation run after it: they may want the lanes that it makes.
            left = rotating - set(order)
            wait = frozenset[int]().union(*(self.behind(number) for number in left))
            for number in range(len(self.stem.steps)):
                early = number < rotation.step and number not in wait
                early = early and self.free(self.before[number] - set(order), frozenset(lanes))
                if number not in order and (early or number in self.before[rotation.step]):
                    order.append(number)
            lanes = (lanes - rotation.contracted) | set(rotation.made)
        order += [number for number in range(len(self.stem.steps)) if number not in order]
        return order

    def opening(self, rotation: _Rotation, rotating: set[int]) -> list[int]:
        """A step that may come first: its result has the order of lanes that the rotation wants and
        the input has not."""
        return [
            number
            for number in range(len(self.stem.steps))
            if not self.before[number] & rotating
            and len(self.before[number]) == 1
            and self.free(self.before[number], frozenset(self.start))
        ][:1]

    def behind(self, number: int) -> frozenset[int]:
        """A step and all that wait for it."""
        return frozenset(n for n, before in enumerate(self.before) if number in before)

    def eras(self, order: Sequence[int], at: Mapping[int, _Rotation]) -> list[Lanes] | None:
        """For each run of states with the same lanes the order in which they are stored, () for the
        order in which they are computed; None if the input's own order does not allow the first."""
        found: list[Lanes] = []
        lanes = self.start
        for rotation in (at[number] for number in order if number in at):
            kept = tuple(leg for leg in lanes if leg not in rotation.contracted)
            # What the rotation contracts comes first, for what it keeps has to be a run.
            wanted = (*(leg for leg in lanes if leg in rotation.contracted), *kept)
            if not found and wanted != lanes and order[0] == rotation.step:
                return None
            found.append(wanted)
            lanes = (*rotation.made, *kept)
        found.append(self.end if set(lanes) == set(self.end) else ())
        return found


def cost_of_segments(
    stem: Stem, segments: Sequence[VectorPhase], sizes: Sizes, width: int
) -> float:
    """Cycles a sample of segments with moves between them, in the same measure."""
    cost, legs = 0.0, stem.legs
    lanes = tail_of(stem.legs, sizes, width)

    for segment in segments:
        cost += move_cycles(lanes, segment.lanes, volume(legs, sizes), sizes)
        lanes = segment.lanes
        for number in segment.steps:
            step = stem.steps[number]
            made = volume(step.made, sizes)
            cost += volume(legs, sizes) * made / volume(lanes, sizes) / 2
            legs = state_after(legs, step)
    end = tail_of(stem.outputs, sizes, width)
    return cost + move_cycles(lanes, end, volume(legs, sizes), sizes)


def rotations_of_backward(
    forward: Plan, backward: Plan, lanes: Mapping[str, Lanes], stored: Mapping[str, Lanes]
) -> tuple[dict[str, Lanes], dict[str, Lanes]]:
    """Lanes of all steps of a backward and the orders in which they are stored.

    The gradient of a weight has the lanes in which its step computed; that of a state is computed
    in the order in which the state is stored, and stored in the order in which it was computed.
    """
    makers: dict[str, str] = {}  # the state that each step takes
    for step in forward.steps:
        for operand in step.operands:
            if BATCH in operand.legs:
                makers[step.result.name] = operand.value.name
    last = forward.outputs[0].operand.value.name
    found, orders = dict(lanes), dict(stored)
    orders[backward.ports[0].name] = lanes[last]
    for step in backward.steps:
        of = gradient_step(step)
        if not of or not any(BATCH in o.legs for o in step.operands):
            continue
        state = makers[of]
        if BATCH not in step.result.legs:
            # A weight's gradient multiplies what its step computed by the gradient of that.
            found[step.result.name] = lanes[of]
        elif state in lanes:
            found[step.result.name] = stored[state]
            orders[step.result.name] = lanes[state]
        else:
            # The gradient of x has the lanes that x has in memory.
            legs = next(port.legs for port in forward.ports if port.name == state)
            width = volume(lanes[of], forward.sizes)
            found[step.result.name] = tail_of(legs, forward.sizes, width)
    return found, orders
