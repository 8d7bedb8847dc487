"""Break-even: the batch sizes at which a network is predicted to be faster than its dense layer.

The batch sizes that a plan serves get that plan: what is said of them is said of what runs. Each
other one gets the plan that the planner would prefer of all that are known. At the probes where
dense is faster than all of them, the planner is asked for one more: no size is given to dense
only because the plans of other sizes are slow there. Near a crossing the planner's own choice may
differ by a few percent.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace

from ..errors import PlanError
from ..graph.graph import Graph
from ..hardware.profile.load import load_profile
from ..ir.batch_probes import PROBES
from ..ir.batch_range import BatchRange
from ..ir.plan import Plan
from .deadline import DEADLINES, Deadline, remember_uncut
from .plan_search import Search
from .planner import PlannedGraph
from .predictions import Prediction, added, has_dense, predict, predict_dense, times_of
from .rank import rank
from .request import Request

# Dense and network are compared at the probes; between two, a change of the winner is found by
# bisection.
Ranges = tuple[tuple[int, int | None], ...]


@dataclass(frozen=True, slots=True)
class CurvePoint:
    """Predicted seconds at one batch size, of the network and of dense.

    Arguments:
        batch: samples of one call.
        ours: those of the plan that is taken there; None where none keeps the memory limit.
        dense: those of the dense layer.
    """

    batch: int
    ours: Prediction | None
    dense: Prediction


@dataclass(frozen=True, slots=True)
class BreakEven:
    """Batch sizes at which a network is faster than dense, by prediction.

    Arguments:
        training: of a forward and backward; ranges (low, high), None: no end.
        inference: of a forward without grad, with the same plans.
        checked: the largest batch size that was looked at.
        points: both at some batch sizes, for a curve.
    """

    training: Ranges
    inference: Ranges
    checked: int
    points: tuple[CurvePoint, ...] = field(default=(), compare=False, repr=False)

    def text(self, ranges: Ranges) -> str:
        """One of the two in words.

        >>> found = BreakEven(((1, None),), ((5, None),), 65536)
        >>> found.text(found.training), found.text(found.inference)
        ('at every batch', 'from batch 5 on')
        >>> found.text(()), found.text(((1, 9), (70, None)))
        ('never (up to batch 65,536)', 'up to batch 9, and from batch 70 on')
        """
        if not ranges:
            return f"never (up to batch {self.checked:,})"
        return ", and ".join(_range_text(low, high) for low, high in ranges)


def _range_text(low: int, high: int | None) -> str:
    if high is None:
        return "at every batch" if low <= 1 else f"from batch {low:,} on"
    if low == high:
        return f"at batch {low:,}"
    return f"up to batch {high:,}" if low <= 1 else f"from batch {low:,} to {high:,}"


def find_break_even(planned: Sequence[PlannedGraph], *, one_plan: bool = False) -> BreakEven | None:
    """Where the sum of networks beats one dense layer; None where no dense layer does the same.

    Arguments:
        planned: the networks, each with a plan that is known already; more are searched for at the
            other batch sizes, with effort="fast".
        one_plan: whether these plans serve every batch size.
    """
    if not all(has_dense(one.graph) for one in planned):
        return None
    request = planned[0].request
    digest = load_profile(request.dtype, request.device).profile.digest
    known: list[tuple[Graph, Plan, BatchRange]] = []
    searches: list[Search] = []
    fast, deadline = replace(request, effort="fast"), Deadline(DEADLINES["fast"])
    for one in planned:
        served = BatchRange(1) if one_plan else one.choice.batches
        known.append((one.form.graph, one.plan, served))
        search = Search(one.form.graph, fast, deadline)
        search.note(one.trained)
        searches.append(search)
    return _find(tuple(known), request, digest, deadline=deadline, search=searches)


# The digest is in the key: a profile that was measured since gives other times.
@remember_uncut(256)
def _find(
    known: tuple[tuple[Graph, Plan, BatchRange], ...],
    request: Request,
    _digest: str,
    *,
    deadline: Deadline,
    search: Sequence[Search],
) -> BreakEven:
    times = times_of(request)
    curves = [
        Curve(own, [plan], served) for own, (_, plan, served) in zip(search, known, strict=True)
    ]
    # Where one plan ends and another begins, the winner may change from one size to the next.
    ends = {end for curve in curves for end in curve.turns}
    probes = sorted({*PROBES, *(plan.batch for _, plan, _ in known), *ends})

    def point(batch: int) -> CurvePoint:
        ours = [best for curve in curves if (best := curve.best(batch)) is not None]
        dense = predict_dense(known[0][0], batch, times)
        return CurvePoint(batch, added(ours) if len(ours) == len(curves) else None, dense)

    def faster(batch: int, seconds: Callable[[Prediction], float]) -> bool:
        at = point(batch)
        return at.ours is not None and seconds(at.ours) < seconds(at.dense)

    for batch in PROBES:
        if not faster(batch, lambda one: one.wanted(request.objective)):
            for curve in curves:
                if not deadline.passed("looking for the batch sizes where dense is slower"):
                    curve.find(batch)
    return BreakEven(
        training=_ranges(probes, lambda batch: faster(batch, lambda one: one.training)),
        inference=_ranges(probes, lambda batch: faster(batch, lambda one: one.inference)),
        checked=probes[-1],
        points=tuple(point(batch) for batch in probes if batch <= PROBES[-1]),
    )


@dataclass(slots=True)
class Curve:
    """The predicted time of one network by batch size, over the plans that are known for it.

    Arguments:
        search: that finds plans for other batch sizes, with little effort.
        plans: those known so far; the first one runs.
        served: batch sizes that the first one serves, whatever the others would do there.
    """

    search: Search
    plans: list[Plan]
    served: BatchRange
    _seconds: dict[tuple[int, int], Prediction] = field(
        default_factory=dict[tuple[int, int], Prediction]
    )

    @property
    def turns(self) -> list[int]:
        """The first and the last of the served batch sizes, and those beside them."""
        low, high = self.served.least, self.served.greatest
        ends = [low - 1, low, *(() if high is None else (high, high + 1))]
        return [end for end in ends if end >= 1]

    def find(self, batch: int) -> None:
        """Look for a plan for a batch size that has none; a memory limit may allow none."""
        if batch in self.served:
            return
        try:
            plan = rank(self.search, batch)[0].plan
        except PlanError:
            return
        if plan not in self.plans:
            self.plans.append(plan)

    def best(self, batch: int) -> Prediction | None:
        """Times of the plan that is taken for a batch size; None where no plan keeps the limit."""
        if batch in self.served:
            return self._predict(0, batch)
        request, contest = self.search.request, self.search.contest
        limited = request.memory_limit is not None
        found = [
            (self._predict(index, batch), contest.factor(plan.backend))
            for index, plan in enumerate(self.plans)
            if not limited or batch <= plan.batch
        ]
        best = min(found, key=lambda one: one[0].wanted(request.objective) * one[1], default=None)
        return None if best is None else best[0]

    def _predict(self, index: int, batch: int) -> Prediction:
        key = (index, batch)
        if key not in self._seconds:
            self._seconds[key] = predict(self.search.trained(self.plans[index]), batch)
        return self._seconds[key]


def _ranges(probes: Sequence[int], holds: Callable[[int], bool]) -> Ranges:
    """Ranges in which something holds, from probes and the places between where it changes."""
    found: list[tuple[int, int | None]] = []
    start: int | None = None
    held = False
    for low, batch in zip((0, *probes), probes, strict=False):
        now = holds(batch)
        if now != held:
            turn = batch if low == 0 else _first_like(low, batch, now, holds)
            if now:
                start = turn
            elif start is not None:
                found.append((start, turn - 1))
        held = now
    if held and start is not None:
        found.append((start, None))
    return tuple(found)


def _first_like(low: int, high: int, wanted: bool, holds: Callable[[int], bool]) -> int:
    """The first batch size after ``low`` from which on it is as at ``high``, by bisection."""
    while high - low > 1:
        middle = (low + high) // 2
        if holds(middle) == wanted:
            high = middle
        else:
            low = middle
    return high
