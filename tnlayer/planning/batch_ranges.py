"""Batch ranges: which plan is used for which batch size.

Plans are ranked at fixed probes, four times apart. Where two neighbouring probes have the same
winner, it holds between them; where not, the batch size at which the second one overtakes the first
is found by bisection on the predicted times. So a range ends where the winner changes, and it is
the same whichever batch size asked first.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import lru_cache

from ..graph.argument_checks import shown
from ..graph.canonical import CanonicalForm
from ..graph.graph import Graph
from ..hardware.profile.load import load_profile
from ..ir.batch_probes import FIRST_PROBE, probes_around
from ..ir.batch_range import BatchRange
from ..ir.plan import Plan
from ..support.debug import debug
from ..targets.backend import backend_of, same_code
from ..targets.lowered import Lowered
from ..time_models.torch_calls import Seconds
from .candidates import tree_key
from .memory_limit import LimitRefused
from .mixture import plan_name, weighed
from .plan_search import Search
from .plan_store import Note, PlanKey, StoredPlan, find_plan, write_plan
from .rank import Ranked, left_out, rank
from .request import BY_TIME, Request


@dataclass(frozen=True, slots=True)
class Choice:
    """A plan and the batch sizes that it was chosen for.

    Arguments:
        lowered: the forward plan, lowered for the objective.
        batches: those sizes.
        seconds: predicted time at the plan's own batch size, or the measured one of a tuned plan.
        reason: in words, for reports.
        stored: whether it was read from the store.
        cut: which stages of planning the deadline cut short, in words; "" if none.
    """

    lowered: Lowered
    batches: BatchRange
    seconds: Seconds
    reason: str
    stored: bool = False
    cut: str = ""

    @property
    def plan(self) -> Plan:
        """The forward plan."""
        return self.lowered.plan


def choose(form: CanonicalForm, batch: int, request: Request) -> Choice:
    """The plan for one batch size, ranked at exactly that size; from the store if it has one.

    Arguments:
        form: the network's canonical form.
        batch: samples of a call.
        request: what the plan is for.
    """
    return _chosen(form, batch, request, EXACT)


def choose_range(form: CanonicalForm, batch: int, request: Request) -> Choice:
    """The plan for a batch size and all others for which it is the fastest by prediction."""
    return _chosen(form, batch, request, RANGED)


def _chosen(form: CanonicalForm, batch: int, request: Request, kind: str) -> Choice:
    kind, batch = _asked(form.graph, kind, batch)
    return _memorised(form.graph, form.key(), batch, request, _digest(request), kind)


def _asked(graph: Graph, kind: str, batch: int) -> tuple[str, int]:
    """Which kind of plan is wanted, and at which batch size: where calls have no samples all are
    one, so that a layer plans once for what it stands for and what it runs."""
    return (kind, batch) if graph.is_batched else (RANGED, FIRST_PROBE)


def known_choice(
    form: CanonicalForm, batch: int, request: Request, *, whole_range: bool
) -> Choice | None:
    """What ``choose_range`` or ``choose`` would give, where the store has it; nothing is planned.

    Arguments:
        form: the network's canonical form.
        batch: samples of a call.
        request: what the plan is for.
        whole_range: whether a plan for a range is looked for.
    """
    kind, batch = _asked(form.graph, RANGED if whole_range else EXACT, batch)
    key = plan_key(form.key(), request, kind)
    return stored_choice(Search.begin(form.graph, request), key, batch)


EXACT, RANGED, TUNED = "exact", "ranged", "tuned"


def plan_key(network: str, request: Request, kind: str) -> PlanKey:
    """Where the store keeps plans of one kind: for one size, for ranges, or timed on the device."""
    return PlanKey(
        network=network,
        objective=request.objective,
        dtype=request.dtype,
        device=request.device,
        memory_limit=request.memory_limit,
        effort=request.effort,
        minimize=f"{request.minimize}{request.path or ''}, {kind}{_backend_text(request)}"
        + ("" if request.keeps else ", nothing kept")
        + (", added" if request.adds else ""),
        profile=_digest(request),
    )


def _backend_text(request: Request) -> str:
    """What a choice of backends depends on beside the rest: what kernels are for, and cost."""
    contest, target = request.contest(), request.target()
    kernels = contest.kernels
    if kernels is None:
        return ""
    streamed = "".join(one.key(target) for one in contest.streamed)
    return f", {request.backend}{kernels.key(target)}{streamed}"


def stored_choice(search: Search, key: PlanKey, batch: int) -> Choice | None:
    """What the store has for a batch size."""
    found = find_plan(key, search.graph, batch)
    told = None if found is None else _told(found.notes)
    if found is None or told is None:
        return None
    low, high = found.batches.least, found.batches.greatest
    low = 0 if low == FIRST_PROBE and high != FIRST_PROBE else low
    lowered = search.lowered(found.plan)
    return Choice(lowered, BatchRange(low, high), *told, stored=True)


def _told(notes: Mapping[str, Note]) -> tuple[Seconds, str] | None:
    """Times and reason that a choice was stored with, or None: what is stored says something else,
    and is made again."""
    forward, backward, reason = (notes.get(name) for name in ("forward", "backward", "reason"))
    times = [time for time in (forward, backward) if isinstance(time, float) and time >= 0]
    if len(times) < 2 or not isinstance(reason, str):
        debug(1, f"a stored plan is not used: its notes are {shown(notes)}")
        return None
    return Seconds(*times), reason


def store_choice(key: PlanKey, choice: Choice) -> None:
    """Keep a choice for other processes."""
    notes = {
        "forward": float(choice.seconds.forward),
        "backward": float(choice.seconds.backward),
        "reason": choice.reason,
    }
    batches = BatchRange(max(FIRST_PROBE, choice.batches.least), choice.batches.greatest)
    write_plan(key, StoredPlan(batches, choice.plan, notes))


def _digest(request: Request) -> str:
    return load_profile(request.dtype, request.device).profile.digest


# Reading and checking a stored plan takes milliseconds; a process does it once. What a plan was
# lowered to is kept with it, so there are not too many.
@lru_cache(maxsize=256)
def _memorised(
    graph: Graph, network: str, batch: int, request: Request, _profile: str, kind: str
) -> Choice:
    key, search = plan_key(network, request, kind), Search.begin(graph, request)
    choice = stored_choice(search, key, batch)
    if choice is None:
        choice = (_exact if kind == EXACT else _ranged)(search, batch)
        why = left_out(choice.plan, request)
        if why:
            choice = replace(choice, reason=f"{choice.reason}; {why}")
        if search.deadline.cut:
            lowered = choice.lowered.with_plan(replace(choice.plan, aborted=True))
            choice = replace(choice, lowered=lowered, cut=str(search.deadline))
        store_choice(key, choice)
    return choice


def _exact(search: Search, batch: int) -> Choice:
    return _first(search, ranked_at(search, batch), batch, batch)


def ranked_at(search: Search, batch: int) -> tuple[Ranked, ...]:
    """The plans of the two probes around a batch size, ranked at that size.

    So the plan for one size is never slower there than that of its range, and sizes of one range
    share a search.
    """
    _, batch = _asked(search.graph, EXACT, batch)
    low, high = probes_around(batch)
    limited = search.request.memory_limit is not None
    by_time = search.request.minimize == BY_TIME  # else the one tree for this size is wanted
    if batch == low or limited or not by_time:
        return rank(search, batch)
    plans = [ranked.plan for ranked in rank(search, low)]
    if high is not None and not search.deadline.passed("comparing batch sizes"):
        plans += [ranked.plan for ranked in rank(search, high)]
    found: dict[tuple[object, ...], Ranked] = {}
    for plan in plans:
        own = replace(plan, batch=batch)
        key = tree_key(own), own.regions
        if key not in found:
            found[key] = Ranked(own, search.lowered(own).seconds(batch))
    factor = search.contest.factor
    return tuple(sorted(found.values(), key=lambda r: r.seconds.total * factor(r.plan.backend)))


def _first(search: Search, ranked: tuple[Ranked, ...], least: int, greatest: int | None) -> Choice:
    best, batches = ranked[0], BatchRange(least, greatest)
    return Choice(
        search.lowered(best.plan), batches, best.seconds, _reason(ranked, search.contest.factor)
    )


def _ranged(search: Search, batch: int) -> Choice:
    request = search.request
    if not search.graph.is_batched:
        return _first(search, rank(search, FIRST_PROBE), 0, None)
    low, high = probes_around(batch, endless=request.memory_limit is not None)
    start = 0 if low == FIRST_PROBE else low
    if request.memory_limit is not None:
        # What keeps the limit at the upper end keeps it below.
        upper = batch if high is None else high - 1
        try:
            return _first(search, rank(search, upper), start, upper)
        except LimitRefused:
            return _first(search, rank(search, batch), start, batch)
    first = rank(search, low)
    if high is None:
        return _first(search, first, low, None)
    if search.deadline.passed("comparing batch sizes"):
        return _first(search, first, start, high - 1)
    second = rank(search, high)
    both = search.lowered(first[0].plan), search.lowered(second[0].plan)
    turn = _overtaking(*both, low, high)
    if batch < turn:
        return _first(search, first, start, turn - 1)
    return _first(search, second, turn, high - 1)


def probe_below(batch: int) -> int:
    """The probe at or below a batch size: sizes with the same one are planned together."""
    return probes_around(batch)[0]


def upper_end(batch: int, planned: int, *, one_plan: bool) -> int:
    """The greatest batch size of those that are planned together where a memory limit is kept.

    Arguments:
        batch: samples of a call.
        planned: the batch size that the user named, or the one that stands for all.
        one_plan: whether the user named it.
    """
    if one_plan and batch <= planned:
        return planned
    _, high = probes_around(batch, endless=True)
    assert high is not None
    return high - 1


def _overtaking(first: Lowered, second: Lowered, low: int, high: int) -> int:
    """The least batch size between two probes from which on the second plan is the faster one."""
    if same_code(first, second):
        return high

    def second_wins(batch: int) -> bool:
        return weighed(second, batch) < weighed(first, batch)

    while high - low > 1:
        middle = (low + high) // 2
        if second_wins(middle):
            high = middle
        else:
            low = middle
    return high


# Times that differ by less than this are the same to whoever reads them.
_ALIKE = 1.02


def _reason(ranked: tuple[Ranked, ...], factor: Callable[[str], float]) -> str:
    """Why the first one was taken.

    Arguments:
        ranked: as they were compared.
        factor: what times on a backend were multiplied with.
    """
    told: list[Ranked] = []
    for one in ranked:
        if not any(_reads_the_same(known, one) for known in told):
            told.append(one)
    best, *others = told
    text = f"{plan_name(best.plan)}: {_milliseconds(best)} predicted"
    if others:
        text += "; next best: " + ", ".join(
            f"{plan_name(one.plan)} {_milliseconds(one)}{_why_not_taken(one, best, factor)}"
            for one in others
        )
    return text


def _why_not_taken(other: Ranked, best: Ranked, factor: Callable[[str], float]) -> str:
    """Which rule decided against a plan that is predicted to be faster than the one taken."""
    if other.seconds.total >= best.seconds.total:
        return ""
    more = factor(other.plan.backend) / factor(best.plan.backend) - 1
    is_compiled = backend_of(other.plan.backend).is_compiled
    who = "what has to be compiled" if is_compiled else "torch's calls"
    return f" (not taken: {who} must win by {more:.0%})"


def _reads_the_same(known: Ranked, other: Ranked) -> bool:
    """Whether a plan that is told stands for another: one of its name, of which one is the other in
    another grouping; or a mirror image, that counts the same on its backend and is as fast."""
    if plan_name(known.plan) == plan_name(other.plan):
        return True
    if known.plan.backend != other.plan.backend or known.plan.counts != other.plan.counts:
        return False
    times = known.seconds.total, other.seconds.total
    return max(times) <= _ALIKE * min(times)


def _milliseconds(ranked: Ranked) -> str:
    return f"{ranked.seconds.total * 1e3:.3g} ms"
