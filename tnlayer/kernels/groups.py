"""Groups: steps that follow each other and run together, a part of the state at a time.

A state that does not fit the L1 cache streams through L2 in every step. Legs that none of some
steps touches can be loops around all of them: then what one step writes is still in L1 when the
next one reads it.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise

from tnlayer.kernels.arrays import Lanes, Sizes, volume
from tnlayer.plan.plan import Plan
from tnlayer.plan.steps import BATCH, Contract, Step, Value

# Vectors that a step reads and writes of the state: so many need no group, for they are in L1 as
# they are; in a group at most so many, which leaves room for weights and for rows of x that share
# few sets of the cache.
MOST_UNGROUPED = 512
MOST_GROUPED = 256


@dataclass(frozen=True, slots=True)
class Group:
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
) -> tuple[Group, ...]:
    """Group neighbours greedily, as long as a part of the state fits the L1 cache.

    Arguments:
        plan: forward or backward; only steps that read a state and make the next one are grouped.
        lanes: of each batched step by its result; where the batch is the lanes nothing is grouped.
        stored: orders of lanes that differ from those.
        sizes: of all legs; the batch has that of a block.
    """
    reads = Counter(o.value.name for step in plan.steps for o in step.operands)
    reads.update(output.operand.value.name for output in plan.outputs)
    found: list[Group] = []
    members: list[Contract] = []
    outer: tuple[str, ...] = ()

    def close() -> None:
        names = tuple(step.result.name for step in members)
        passing = frozenset(name for name in names[:-1] if reads[name] == 1)
        # What a backward reads again has to be written anyway: there a group gains nothing.
        if passing:
            found.append(Group(names, outer, passing))
        members.clear()

    for step in plan.steps:
        if not any(BATCH in operand.legs for operand in step.operands):
            continue
        state = _state(step)
        own = lanes.get(step.result.name, ())
        plain = (
            isinstance(step, Contract)
            and state is not None
            and BATCH not in own
            and set(own) <= set(state.legs)
            and stored.get(step.result.name, own) == own
        )
        if not plain or state is None:
            close()
            continue
        assert isinstance(step, Contract)
        follows = bool(members) and members[-1].result.name == state.name
        if not (follows and lanes[members[-1].result.name] == own):
            close()
        legs = _outer((*members, step), own, sizes)
        if legs is None and members:
            close()
            legs = _outer((step,), own, sizes)
        if legs is not None:
            members.append(step)
            outer = legs
    close()
    return tuple(found)


def _state(step: Step) -> Value | None:
    """The one operand with the batch, if the result has the batch, too."""
    batched = [o.value for o in step.operands if BATCH in o.legs]
    return batched[0] if len(batched) == 1 and BATCH in step.result.legs else None


def _outer(steps: Sequence[Contract], lanes: Lanes, sizes: Sizes) -> tuple[str, ...] | None:
    """As few legs as possible around steps, so that what is inside fits; None if all are too few or
    none is needed."""
    states = [_state(steps[0]), *(step.result for step in steps)]
    legs = [[leg for leg in state.legs if leg not in lanes] for state in states if state]
    free = [leg for leg in legs[0] if leg != BATCH and all(leg in other for other in legs)]
    free = [leg for leg in free if sizes[leg] > 1]

    vectors = max(volume(own, sizes) + volume(other, sizes) for own, other in pairwise(legs))

    def fits(around: Sequence[str]) -> bool:
        return vectors // volume(around, sizes) <= MOST_GROUPED

    if vectors <= MOST_UNGROUPED or not fits(free):
        return None
    while free and fits(free[:-1]):
        free = free[:-1]
    return tuple(free)
