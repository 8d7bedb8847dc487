"""Groups: steps that follow each other and run together, a part of the state at a time.

A state that does not fit the L1 cache streams through L2 in every step. Legs that none of some
steps touches can be loops around all of them: then what one step writes is still in L1 when the
next one reads it. In a backward the gradient passes through such loops, where they are none of the
sums of a weight's gradient: so it is where each entry of the state has weights of its own.

Two steps that leave the leg a alone::

    for a, b: t[a b] = x[a b] * v[b]            for a:
    for a, b: y[a b] = t[a b] * w[b]    ->          for b: t[b] = x[a b] * v[b]    t is a row,
                                                    for b: y[a b] = t[b] * w[b]    always in L1
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from ...ir.plan import Plan
from ...ir.steps import BATCH, Contract, Step, Value
from ..array_layout import Lanes, Sizes, volume

# Vectors that a step reads and writes of the state: so many need no group, for they are in L1 as
# they are; in a group at most so many, which leaves room for weights and for rows of x that share
# few sets of the cache.
MOST_UNGROUPED = 512
MOST_GROUPED = 256
# The same where gradients of weights are in the group.
MOST_SUMMED = 512


@dataclass(frozen=True, slots=True)
class FusedLoop:
    """Steps that run together.

    Arguments:
        results: what they make, in order.
        outer: legs that are loops around them.
        passing: results that nothing outside reads: only a part of them ever exists.
    """

    results: tuple[str, ...]
    outer: tuple[str, ...]
    passing: frozenset[str]


def find_groups(
    plan: Plan, lanes: Mapping[str, Lanes], stored: Mapping[str, Lanes], sizes: Sizes
) -> tuple[FusedLoop, ...]:
    """Group neighbours greedily, as long as a part of the state fits the L1 cache.

    Arguments:
        plan: forward or backward. Grouped are steps that read a state and make the next one, and
            those that sum it with another one over the samples, for the gradient of a weight.
        lanes: of each batched step by its result; where the batch is the lanes nothing is grouped.
        stored: orders of lanes that differ from those.
        sizes: of all legs; the batch has that of a block.
    """
    reads = Counter(o.value.name for step in plan.steps for o in step.operands)
    reads.update(output.operand.value.name for output in plan.outputs)
    found: list[FusedLoop] = []
    run = _Run()
    for step in plan.steps:
        # Steps on parameters run before all samples: they part nothing.
        if not any(BATCH in operand.legs for operand in step.operands):
            continue
        own = lanes.get(step.result.name, ())
        if not _can_be_grouped(step, own, stored):
            found += run.group(reads)
            run = _Run()
            continue
        assert isinstance(step, Contract)
        longer = run.with_step(step, own, sizes)
        if longer is None:
            # This one begins the next group.
            found += run.group(reads)
            longer = _Run().with_step(step, own, sizes) or _Run()
        run = longer
    return (*found, *run.group(reads))


def _can_be_grouped(step: Step, own: Lanes, stored: Mapping[str, Lanes]) -> bool:
    """Whether a step is a contraction that leaves the lanes of its states as they are."""
    states = _states(step)
    return (
        isinstance(step, Contract)
        and (len(states) == 1 or _sums(step))
        and BATCH not in own
        and all(set(own) <= set(state.legs) for state in states)
        and stored.get(step.result.name, own) == own
    )


def _sums(step: Step) -> bool:
    """Whether a step sums over the samples: the gradient of a weight."""
    return BATCH not in step.result.legs


def _states(step: Step) -> list[Value]:
    """The operands that have the batch."""
    return [operand.value for operand in step.operands if BATCH in operand.legs]


@dataclass(frozen=True, slots=True)
class _Run:
    """Steps that could be a group: each reads the state that the one before left."""

    members: tuple[Contract, ...] = ()
    lanes: Lanes = ()
    state: str = ""
    outer: tuple[str, ...] = ()

    def with_step(self, step: Contract, own: Lanes, sizes: Sizes) -> _Run | None:
        """With one more step; None if it does not follow or too much would be near at once."""
        read = [state.name for state in _states(step)]
        if self.members and (self.state not in read or own != self.lanes):
            return None
        members = (*self.members, step)
        outer = _outer(members, own, sizes)
        if outer is None:
            return None
        # A weight's gradient reads the state and leaves it for the next step.
        state = (self.state or read[0]) if _sums(step) else step.result.name
        return _Run(members, own, state, outer)

    def group(self, reads: Mapping[str, int]) -> list[FusedLoop]:
        """The group of these steps, if it is worth one.

        Arguments:
            reads: how often each value of the plan is read.
        """
        names = tuple(step.result.name for step in self.members)
        inside = Counter(o.value.name for step in self.members for o in step.operands)
        passing = frozenset(name for name in names if inside[name] == reads[name] > 0)
        # What is read again later has to be written anyway: then a group gains nothing.
        if not passing:
            return []
        return [FusedLoop(names, self.outer, passing)]


def _outer(steps: Sequence[Contract], lanes: Lanes, sizes: Sizes) -> tuple[str, ...] | None:
    """As few legs as possible around steps, so that what is inside fits; None if all are too few or
    none is needed."""
    near: list[list[Sequence[str]]] = []
    free = [leg for leg in _states(steps[0])[0].legs if leg not in (*lanes, BATCH)]
    for step in steps:
        values = [*_states(step), step.result]
        near.append([[g for g in v.legs if g not in lanes] for v in values if BATCH in v.legs])
        # A gradient that sums over a loop would be read and written in each of its turns.
        free = [leg for leg in free if all(leg in value.legs for value in values)]
    free = [leg for leg in free if sizes[leg] > 1]
    vectors = max(sum(volume(own, sizes) for own in states) for states in near)
    most = MOST_SUMMED if any(_sums(step) for step in steps) else MOST_GROUPED

    def fits(around: Sequence[str]) -> bool:
        return vectors // volume(around, sizes) <= most

    if vectors <= MOST_UNGROUPED or not fits(free):
        return None
    # Fewer loops around mean longer ones inside, which tiles fill better.
    while free and fits(free[:-1]):
        free = free[:-1]
    return tuple(free)
