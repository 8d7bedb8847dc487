"""Batch ranges: which plan is used for which batch size.

Plans are ranked at fixed probes, four times apart. Where two neighbouring probes have the same
winner, it holds between them; where not, the batch size at which the second one overtakes the first
is found by bisection on the predicted times. So a range ends where the winner changes, and it is the
same whichever batch size asked first.
"""

from __future__ import annotations

from dataclasses import dataclass

from tnlayer.device.load import op_times
from tnlayer.graph import Graph
from tnlayer.kernels.pair import Pair, schedule_pair
from tnlayer.plan.plan import Plan
from tnlayer.planning.rank import Ranked, Request, rank, wanted_mask
from tnlayer.planning.time_model import pair_seconds

# Batch sizes at which plans are ranked; beyond the last one its winner holds.
_FIRST, _FACTOR, _LAST = 1, 4, 4**8


@dataclass(frozen=True, slots=True)
class Choice:
    """A plan and the batch sizes that it was chosen for.

    Arguments:
        plan: the forward plan.
        low, high: the least and the greatest batch size; None: no bound.
        ranked: the candidates at the plan's own batch size, fastest first.
        reason: in words, for reports.
    """

    plan: Plan
    low: int
    high: int | None
    ranked: tuple[Ranked, ...]
    reason: str


def choose(graph: Graph, batch: int, request: Request) -> Choice:
    """The plan for one batch size, ranked at exactly that size."""
    ranked = rank(graph, batch, request)
    return Choice(ranked[0].plan, batch, batch, ranked, _reason(ranked))


def choose_range(graph: Graph, batch: int, request: Request) -> Choice:
    """The plan for a batch size and all others for which it is the fastest by prediction."""
    if not any(port.batched for port in graph.inputs):
        only = choose(graph, 1, request)
        return Choice(only.plan, 0, None, only.ranked, only.reason)
    low, high = _probes(batch)
    if request.memory_limit is not None:
        # What keeps the limit at the upper end keeps it below.
        upper = batch if high is None else high - 1
        kept = rank(graph, upper, request)
        return Choice(kept[0].plan, 0 if low == _FIRST else low, upper, kept, _reason(kept))
    first = rank(graph, low, request)
    if high is None:
        return Choice(first[0].plan, low, None, first, _reason(first))
    second = rank(graph, high, request)
    start = 0 if low == _FIRST else low
    turn = _overtaking(graph, first[0].plan, second[0].plan, low, high, request)
    if batch < turn:
        return Choice(first[0].plan, start, turn - 1, first, _reason(first))
    return Choice(second[0].plan, turn, high - 1, second, _reason(second))


def _probes(batch: int) -> tuple[int, int | None]:
    """The probes around a batch size; None above the last one."""
    low = _FIRST
    while low * _FACTOR <= batch and low < _LAST:
        low *= _FACTOR
    return low, low * _FACTOR if low < _LAST else None


def _overtaking(
    graph: Graph, first: Plan, second: Plan, low: int, high: int, request: Request
) -> int:
    """The least batch size between two probes from which on the second plan is the faster one."""
    pairs = [schedule_pair(p, wanted_mask(graph, p, request.objective)) for p in (first, second)]
    if pairs[0].forward.calls == pairs[1].forward.calls and _same_backward(pairs[0], pairs[1]):
        return high
    times = op_times(request.dtype, request.device)

    def second_wins(batch: int) -> bool:
        one, other = (pair_seconds(pair, batch, times).total for pair in pairs)
        return other < one

    while high - low > 1:
        middle = (low + high) // 2
        if second_wins(middle):
            high = middle
        else:
            low = middle
    return high


def _same_backward(first: Pair, second: Pair) -> bool:
    if first.backward is None or second.backward is None:
        return first.backward is second.backward
    return first.backward.calls == second.backward.calls


def _reason(ranked: tuple[Ranked, ...]) -> str:
    """Why the first one was taken."""
    best = ranked[0]
    text = f"{best.plan.minimize}: {_milliseconds(best)} predicted"
    if len(ranked) > 1:
        others = ", ".join(f"{r.plan.minimize} {_milliseconds(r)}" for r in ranked[1:])
        text += f"; next best: {others}"
    return text


def _milliseconds(ranked: Ranked) -> str:
    return f"{ranked.seconds.total * 1e3:.3g} ms"
