"""The search for a fit: closed form or starts, then alternating least squares, then a polish.

Of all that is seen the best is kept, so that no step makes a residual larger.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace

import torch

from .alternate import can_alternate, measure_work, sweep
from .clock import Clock
from .descend import can_descend, descend
from .gauss_newton import gauss_newton, is_small, step_work
from .labelled import Labelled
from .peeling import Peeling, find_peeling, peel
from .problem import Problem, Stored
from .rescale import rescaled

# Multiplications that all sweeps of a fit may take together, where the user names no number.
_WORK = 2.0**36
_MOST_STEPS, _LEAST_STEPS = 200, 4
_STARTS = 8
# The same after a closed form, which is near the best.
_WORK_REFINING, _MOST_REFINING = 2.0**32, 20
# With data such a sweep takes longer, mostly in fast products, and few are enough: one that lowers
# the error by less than this share of it is the last.
_WORK_WEIGHTED, _PLATEAU = 2.0**38, 1e-4
# Multiplications of all Gauss-Newton steps together.
_WORK_TOGETHER = 2.0**36
# Sweeps by which starts of isometries are compared, and so many times as many starts.
_FIRST_SWEEPS, _SCREENED = 3, 4
# Sweeps in a row that bring nothing, before a start of isometries ends.
_PATIENCE = 5
# Polishing steps for each step of alternating least squares that is asked for.
_POLISH = 2
# A sweep that lowers the error by less than this share of it ends a start.
TOLERANCE = 1e-5
# A multiple of what was found is taken where it lowers the error by so much.
_SCALED = 1e-9
# Residuals below this are rounding.
EXACT = 1e-12


@dataclass(frozen=True, slots=True)
class Effort:
    """How long to search.

    Arguments:
        steps: sweeps of each start, at most.
        starts: random starts, at most.
        tol: a start ends where a sweep lowers the error by less than this share of it.
        seed: of the starts.
        refining: sweeps after a closed form, at most; 0: the closed form as it is.
        settled: as tol, after a closed form.
        clock: when to end.
    """

    steps: int
    starts: int
    tol: float
    seed: int
    refining: int
    settled: float = TOLERANCE
    clock: Clock = field(default=Clock())

    def after_closed_form(self) -> Effort:
        """What is left to do where the best is near already."""
        return replace(self, steps=self.refining, tol=self.settled)


@dataclass
class Best:
    """The best arrays that were seen.

    Arguments:
        stored: the arrays.
        loss: their error.
        method: how they were found.
        steps: of their start.
        tried: the error of each start.
        cut: of a closed form: the norm that each split left out, by name.
        ended: why the search from its start ended, in words.
    """

    stored: Stored
    loss: float = math.inf
    method: str = ""
    steps: int = 0
    tried: list[float] = field(default_factory=list[float])
    cut: dict[str, float] = field(default_factory=dict[str, float])
    is_interrupted: bool = False
    ended: str = ""

    def offer(self, stored: Stored, loss: float, method: str, steps: int) -> None:
        """Take arrays if they are better."""
        if loss < self.loss or (not self.method and not self.loss < loss):
            self.stored, self.loss, self.method, self.steps = dict(stored), loss, method, steps


def effort_for(
    problem: Problem,
    steps: int | None,
    starts: int | None,
    tol: float,
    seed: int,
    seconds: float | None = None,
) -> Effort:
    """So many steps and starts as take about a minute, where the user names none."""
    weighted = problem.target.covariance is not None
    work = max(1.0, measure_work(problem.views))
    most = int(_WORK / work)
    most_refining = _WORK_WEIGHTED if weighted else _WORK_REFINING
    refining = max(1, min(_MOST_REFINING, int(most_refining / work))) if steps is None else steps
    if steps is None:
        steps = max(_LEAST_STEPS, min(_MOST_STEPS, most))
    if starts is None:
        starts = max(1, min(_STARTS, most // max(1, steps)))
    settled = max(tol, _PLATEAU) if weighted and tol >= TOLERANCE else tol
    return Effort(steps, starts, tol, seed, refining, settled, Clock.of(seconds))


def closed_form(problem: Problem) -> Peeling | None:
    """How the one network comes apart, if it does; all its tensors are free then."""
    if len(problem.nets) != 1 or problem.isometries or not problem.is_linear_in_each:
        return None
    net = problem.nets[0]
    if {use.name for use in net.uses} - set(problem.free) or not net.uses:
        return None
    reached = tuple(label for label in net.open if label not in net.ones)
    return find_peeling([use.labels for use in net.uses], reached, net.sizes)


def search(
    problem: Problem,
    effort: Effort,
    given: Mapping[str, torch.Tensor],
    start: Mapping[str, torch.Tensor] | None,
    advance: Callable[[], None],
) -> Best:
    """The best arrays that were found; Ctrl-C ends the search and keeps them.

    Arguments:
        problem: what to fit.
        effort: how long.
        given: entries of arrays that are not free, or where the user says how to begin.
        start: entries of all arrays to go on from: then there is no other start.
        advance: is called after each step.
    """
    random = torch.Generator().manual_seed(effort.seed)
    if start is None and closed_form(problem) is not None:
        # All arrays will be others: nothing is drawn, and scaled, for them.
        first = {
            name: torch.zeros(parameter.shape, dtype=problem.dtype)
            for name, parameter in problem.parameters.items()
        }
    else:
        first = problem.random_start(random, given if start is None else {**given, **start})
    if start is not None:
        first = {**first, **{name: start[name].to(problem.dtype) for name in start}}
    best = Best(first)
    try:
        _search(problem, effort, given, first, start is not None, random, best, advance)
    except KeyboardInterrupt:
        best.is_interrupted = True
        best.ended = "interrupted"
        if not best.method:
            best.loss, best.method = problem.loss(best.stored), "start"
    scaled = rescaled(problem, best.stored)
    if scaled is not best.stored:
        loss = problem.loss(scaled)
        if loss < best.loss * (1 - _SCALED):
            best.stored, best.loss = scaled, loss
    return best


def _search(
    problem: Problem,
    effort: Effort,
    given: Mapping[str, torch.Tensor],
    first: Stored,
    resumes: bool,
    random: torch.Generator,
    best: Best,
    advance: Callable[[], None],
) -> None:
    if not problem.free:
        best.offer(first, problem.loss(first), "nothing is free", 0)
        best.ended = "nothing is free"
        return
    if resumes:
        best.offer(first, problem.loss(first), "start", 0)
    peeling = None if resumes else closed_form(problem)
    if peeling is not None:
        is_weighted = _peel(problem, peeling, best, advance)
        unweighted = problem.target.covariance is not None and not is_weighted
        is_best = peeling.is_optimal and not unweighted
        if is_best or best.loss <= EXACT or not effort.refining:
            best.ended = "closed form"
            best.tried.append(best.loss)
            return
        _improve(problem, best.stored, best.method, effort.after_closed_form(), best, advance)
        best.tried.append(best.loss)
        return
    if resumes:
        _improve(problem, first, "", effort, best, advance)
        best.tried.append(best.loss)
        return
    shared = _of_one_term(problem, effort, given, advance)
    if shared is not None:
        best.tried.append(_improve(problem, shared, "one term", effort, best, advance))
        if best.loss <= _enough(effort):
            return
    if is_small(problem):
        _together(problem, effort, given, first, random, best, advance)
        return
    for number in range(effort.starts):
        stored = first if not number else problem.random_start(random, given)
        best.tried.append(_improve(problem, stored, "", effort, best, advance))
        if best.loss <= _enough(effort) or effort.clock.is_over():
            break


def _of_one_term(
    problem: Problem,
    effort: Effort,
    given: Mapping[str, torch.Tensor],
    advance: Callable[[], None],
) -> Stored | None:
    """A start of a sum whose networks share tensors: the fit of its first network alone, at the
    scale that is best for the sum. None where there is no such sum."""
    own = {use.name for use in problem.nets[0].uses}
    others = {use.name for net in problem.nets[1:] for use in net.uses}
    if not own & others & set(problem.free):
        return None
    kept = {name: one for name, one in problem.parameters.items() if name in own}
    free = tuple(name for name in problem.free if name in own)
    term = Problem(problem.nets[:1], problem.target, kept, free, problem.dtype)
    random = torch.Generator().manual_seed(effort.seed)
    whole = problem.random_start(random, given)
    best = Best({name: whole[name] for name in kept})
    begun = {name: array for name, array in given.items() if name in own}
    _search(term, effort, begun, best.stored, False, random, best, advance)
    return rescaled(problem, {**whole, **best.stored})


def _together(
    problem: Problem,
    effort: Effort,
    given: Mapping[str, torch.Tensor],
    first: Stored,
    random: torch.Generator,
    best: Best,
    advance: Callable[[], None],
) -> None:
    """Starts of a small problem, whose arrays all move together.

    Free arrays go best from where they are drawn; isometries need a few sweeps of their own first,
    by which the best of many starts are chosen.
    """
    left = max(20, int(_WORK_TOGETHER / step_work(problem)))
    steps = min(_POLISH * effort.steps, left)
    starts: list[tuple[float, Stored]] = []
    sweeps = _FIRST_SWEEPS if problem.isometries and problem.alternating else 0
    for number in range(effort.starts * (_SCREENED if sweeps else 1)):
        stored = first if not number else problem.random_start(random, given)
        for _ in range(sweeps):
            sweep(problem, stored, effort.clock.is_over)
            advance()
        starts.append((problem.loss(stored), stored))
        best.offer(stored, starts[-1][0], "ALS" if sweeps else "start", sweeps)
        if best.loss <= _enough(effort):
            best.tried.append(best.loss)
            return
        if effort.clock.is_over():
            break
    if sweeps:
        starts.sort(key=lambda one: one[0])
    for _, stored in starts[: effort.starts]:
        loss, taken = _moved_together(
            problem, stored, min(steps, left), effort.clock, best, advance, ""
        )
        best.tried.append(loss)
        left -= taken
        if best.loss <= _enough(effort) or left <= 0 or effort.clock.is_over():
            break
    if best.loss > _enough(effort) and left > 0:
        method = f"{best.method}, " if best.method == "ALS" else ""
        most, clock = min(steps, left), effort.clock
        _moved_together(problem, best.stored, most, clock, best, advance, method, 1e-6)


def _moved_together(
    problem: Problem,
    stored: Stored,
    steps: int,
    clock: Clock,
    best: Best,
    advance: Callable[[], None],
    method: str,
    stalled_below: float = 1e-3,
) -> tuple[float, int]:
    """The error after Gauss-Newton steps, and how many there were."""
    taken = 0

    def counted() -> None:
        nonlocal taken
        taken += 1
        advance()

    over = clock.is_over
    moved = gauss_newton(problem, stored, steps, EXACT, counted, stalled_below, over)
    loss = problem.loss(moved)
    best.offer(moved, loss, f"{method}Gauss-Newton", taken)
    if loss <= best.loss:
        best.ended = _ended(clock, is_settled=taken < steps)
    return loss, taken


def _ended(clock: Clock, *, is_settled: bool) -> str:
    """Why a start ended, in words."""
    return (
        "converged"
        if is_settled and not clock.is_over()
        else ("time limit" if clock.is_over() else "step limit")
    )


def _enough(effort: Effort) -> float:
    """At such an error no other start is tried."""
    return max(EXACT, min(1e-8, effort.tol))


def _peel(problem: Problem, peeling: Peeling, best: Best, advance: Callable[[], None]) -> bool:
    """The closed form; of weighted inputs where they reach one tensor alone: whether it is that."""
    net = problem.nets[0]
    labels = [use.labels for use in net.uses]
    dense = Labelled(net.restricted(problem.target.dense).to(problem.dtype), net.open)
    reached = tuple(label for label in net.open if label not in net.ones)
    if net.ones:
        axes = [net.open.index(label) for label in net.ones]
        dense = Labelled(dense.array.mean(axes), reached)
    whole = _peeled_whitened(problem, dense, peeling)
    if whole is None:
        factors, cut = peel(peeling, labels, dense, net.sizes, advance)
        name = peeling.name
    else:
        factors, cut = whole
        name = f"{peeling.name}, whitened"
    stored = dict(best.stored)
    for use, factor in zip(net.uses, factors, strict=True):
        stored[use.name] = use.lifted(factor)
    norm = problem.target.norm or 1.0
    if whole is None:
        best.cut = {
            use.name: math.sqrt(weight) / norm for use, weight in zip(net.uses, cut, strict=True)
        }
    best.offer(stored, problem.loss(stored), name, 0)
    return whole is not None


def _peeled_whitened(
    problem: Problem, dense: Labelled, peeling: Peeling
) -> tuple[list[Labelled], list[float]] | None:
    """The closed form of W S for C = S S^H, where one tensor alone has all legs of the inputs: it
    takes S^-1. Source: SVD-LLM (Wang et al., arXiv:2403.07378), section 3.1."""
    net, covariance = problem.nets[0], problem.target.covariance
    if covariance is None or net.ones or net.places is not None:
        return None
    inputs = net.input_labels
    holders = [k for k, use in enumerate(net.uses) if set(inputs) & set(use.labels)]
    if len(holders) != 1 or not inputs or not set(inputs) <= set(net.uses[holders[0]].labels):
        return None
    whitened = problem.target.dense.to(problem.dtype) @ covariance.root.to(problem.dtype)
    weighted = Labelled(net.restricted(whitened), net.open)
    labels = [use.labels for use in net.uses]
    factors, cut = peel(peeling, labels, weighted, net.sizes)
    one = factors[holders[0]]
    rest = tuple(label for label in one.labels if label not in inputs)
    array = one.ordered((*rest, *inputs))
    matrix = covariance.unweighted(array.reshape(-1, covariance.features))
    found = Labelled(matrix.reshape(array.shape), (*rest, *inputs))
    factors[holders[0]] = Labelled(found.ordered(one.labels), one.labels)
    return factors, cut


def _improve(
    problem: Problem,
    stored: Stored,
    method: str,
    effort: Effort,
    best: Best,
    advance: Callable[[], None],
) -> float:
    """Alternating least squares from a start, then all arrays together."""
    stored = dict(stored)
    loss, steps = problem.loss(stored), 0
    start = loss
    best.offer(stored, loss, method or "start", 0)
    alternates = bool(problem.alternating) and any(
        can_alternate(problem, view) for view in problem.views
    )
    small = is_small(problem)
    # A problem that is small is better served by moving all at once: a few sweeps bring it near.
    most = min(effort.steps, 10) if small else effort.steps
    # Isometries creep over plateaus before they find a way down.
    stalled, patience = 0, _PATIENCE if problem.isometries else 1
    is_settled, clock = False, effort.clock
    for _ in range(most if alternates else 0):
        if clock.is_over():
            break
        before = loss
        sweep(problem, stored, clock.is_over)
        loss = problem.loss(stored)
        steps += 1
        advance()
        name = f"{method}, ALS" if method else "ALS"
        best.offer(stored, loss, name, steps)
        stalled = stalled + 1 if before - loss <= effort.tol * before else 0
        if loss <= EXACT or stalled >= patience:
            is_settled = True
            break
    alternated = f"{method}, ALS" if method and loss < start else method or "ALS" * bool(steps)
    if loss <= EXACT:
        best.ended = "converged"
        return loss
    moved, name = stored, ""
    swept = steps

    def counted() -> None:
        nonlocal steps
        steps += 1
        advance()

    if small:
        work = _WORK_REFINING if method else _WORK_TOGETHER
        left = max(_LEAST_STEPS, int(work / step_work(problem)))
        most = min(_POLISH * effort.steps, left)
        moved = gauss_newton(problem, stored, most, EXACT, counted, 1e-6, clock.is_over)
        name = "Gauss-Newton"
    elif can_descend(problem) and not (problem.is_linear_in_each and method):
        most = _POLISH * effort.steps
        moved = descend(problem, stored, most, EXACT, counted, clock.is_over)
        name = "L-BFGS"
    if name:
        is_settled = steps - swept < most
        polished = problem.loss(moved)
        best.offer(moved, polished, f"{alternated}, {name}" if alternated else name, steps)
        loss = min(loss, polished)
    if loss <= best.loss:
        best.ended = _ended(clock, is_settled=is_settled)
    return loss
