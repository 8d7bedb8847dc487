"""Plans that predictions do not tell apart: the chosen one, and others within a factor of two.

Whoever builds them stores them, so that a process which runs them can let its calls decide.
"""

from __future__ import annotations

from dataclasses import replace

import torch

from ..graph.canonical import CanonicalForm
from ..hardware.detect_processor import processor_name
from ..targets.backend import same_code
from .batch_ranges import (
    EXACT,
    RANGED,
    Choice,
    choose,
    choose_range,
    plan_key,
    ranked_at,
    store_choice,
    stored_choice,
)
from .mixture import plan_name
from .plan_search import Search
from .plan_store import PlanKey
from .request import Request

# Plans that are predicted to take longer than this times the best are not tried, nor more than so
# many beside the chosen one.
_CLOSE, _MOST = 2.0, 2


def find_close(form: CanonicalForm, request: Request, *, whole_range: bool) -> tuple[Choice, ...]:
    """Look for plans close to the one that is chosen for ``request.batch``, and store them.

    Arguments:
        form: the network's canonical form.
        request: what the plan is for.
        whole_range: whether the plan is for a range of batch sizes.

    Returns:
        them, without the chosen one.
    """
    chosen = (choose_range if whole_range else choose)(form, request.batch, request)
    search = Search.begin(form.graph, request)
    search.note(chosen.lowered)
    batch = request.batch
    best = search.lowered(chosen.plan).seconds(batch).total
    found: list[Choice] = []
    for ranked in ranked_at(search, batch):
        lowered = search.lowered(replace(ranked.plan, batch=chosen.plan.batch))
        seconds = lowered.seconds(batch)
        known = (chosen.lowered, *(one.lowered for one in found))
        if seconds.total > _CLOSE * best or any(same_code(lowered, one) for one in known):
            continue
        reason = f"{plan_name(lowered.plan)}: close to the chosen plan by prediction"
        found.append(replace(chosen, lowered=lowered, seconds=seconds, reason=reason))
        if len(found) == _MOST:
            break
    for number, choice in enumerate(found):
        store_choice(_key(form, request, number, whole_range=whole_range), choice)
    return tuple(found)


def known_close(form: CanonicalForm, request: Request, *, whole_range: bool) -> tuple[Choice, ...]:
    """What ``find_close`` stored for a batch size; nothing is planned."""
    search = Search.begin(form.graph, request)
    found: list[Choice] = []
    for number in range(_MOST):
        key = _key(form, request, number, whole_range=whole_range)
        choice = stored_choice(search, key, request.batch)
        if choice is None:
            break
        found.append(choice)
    return tuple(found)


def _key(form: CanonicalForm, request: Request, number: int, *, whole_range: bool) -> PlanKey:
    kind = f"{RANGED if whole_range else EXACT}, close {number}"
    return plan_key(form.key(), request, kind)


def keep_called(
    form: CanonicalForm, request: Request, choice: Choice, *, whole_range: bool
) -> None:
    """Store the plan that was the fastest of those that calls ran."""
    kind = _called(request, whole_range=whole_range)
    store_choice(plan_key(form.key(), request, kind), choice)


def known_called(form: CanonicalForm, request: Request, *, whole_range: bool) -> Choice | None:
    """The plan that was the fastest of those that calls ran, where they did."""
    key = plan_key(form.key(), request, _called(request, whole_range=whole_range))
    return stored_choice(Search.begin(form.graph, request), key, request.batch)


def _called(request: Request, *, whole_range: bool) -> str:
    """The kind of a plan that was timed: on this processor, with these threads."""
    where = f"{processor_name(request.device)}, {torch.get_num_threads()} threads"
    return f"{RANGED if whole_range else EXACT}, called on {where}"
