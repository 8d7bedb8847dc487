"""The search for a contraction order: with search_workers.py the only file that imports cotengra.

The same problem gives the same order in every process: legs become symbols in order of first use,
exhaustive search needs no chance, and beyond it a fixed number of seeded trials runs serially,
each with a bounded number of searches in parts. A clock only ever stops a search.
"""

from __future__ import annotations

import math
import re
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache

import cotengra

from ..errors import PlanError, SpecError
from ..support.progress import progress
from .deadline import Deadline
from .refine_order import Objective, SsaPath, StopRefining, refine, walk_legs
from .search_workers import run_all

# Up to so many tensors (inputs come on top) every order is tried, outer products included.
EXHAUSTIVE_TENSORS = 12
_EXHAUSTIVE_TERMS = 14

# Trials beyond: each a batch of random greedy paths, the best refined by exact subtrees.
# The greedy order alone, which takes less than a millisecond.
GREEDY = "greedy"
_TRIALS = {"fast": 2, "default": 6, "high": 48}
_GREEDY_PATHS = 32
_SUBTREE_SIZE = 8
# Beyond so many terms the work of a trial is linear in them: each has fewer paths, at least so
# many, and no more subtrees are searched than this.
_LARGE_NETWORK = 100
_LEAST_PATHS = 8
_MOST_SUBTREES = 1024
_STAGE = "searching for an order of contraction"

_MINIMIZE = re.compile(r"(flops|write|size|max)|(combo|limit)(?:-(\d+(?:\.\d+)?))?")


@dataclass(frozen=True, slots=True)
class Found:
    """What a search found.

    Arguments:
        pairs: the order, as SSA pairs: the k-th pair makes term number (terms + k).
        optimal: whether every order was tried, so that none is better.
        aborted: whether the deadline cut the search, so that this is the best order until then.
    """

    pairs: SsaPath
    optimal: bool = False
    aborted: bool = False


@dataclass(frozen=True, slots=True)
class _Problem:
    """A contraction in cotengra's words: a symbol a leg, in order of first use."""

    inputs: tuple[tuple[str, ...], ...]
    output: tuple[str, ...]
    sizes: tuple[tuple[str, int], ...]

    def arguments(self) -> tuple[list[list[str]], list[str], dict[str, int]]:
        """As cotengra takes it."""
        return [list(legs) for legs in self.inputs], list(self.output), dict(self.sizes)


def search_order(
    terms: Sequence[Sequence[str]],
    output: Sequence[str],
    sizes: Mapping[str, int],
    *,
    tensors: int,
    minimize: str,
    effort: str,
    seeded: bool = False,
    deadline: Deadline | None = None,
) -> Found:
    """The order in which to contract terms.

    Arguments:
        terms: legs of each term, distinct within a term.
        output: legs that are kept.
        sizes: size of every leg.
        tensors: number of tensors among the terms (the others are inputs).
        minimize: "flops", "write", "size", "max", "combo-N" or "limit-N", as cotengra names them.
        effort: "fast", "default" or "high"; "high" shows a progress bar on a terminal.
        seeded: whether seeded trials will do where an exhaustive search is possible.
        deadline: once it has passed, the best order until then is taken; that of the greedy
            search is always among them. An exhaustive search that began is finished.

    Raises:
        SpecError: minimize or effort is unknown.
    """
    if not _MINIMIZE.fullmatch(minimize):
        msg = (
            f"minimize={minimize!r} is unknown; expected time, rebuild, flops, write, size, max, "
            "combo-N or limit-N, with a number N as in combo-64"
        )
        raise SpecError(msg)
    if effort != GREEDY and effort not in _TRIALS:
        msg = f"effort={effort!r} is unknown; expected one of {', '.join(_TRIALS)}"
        raise SpecError(msg)
    if len(terms) < 2:
        return Found((), optimal=True)
    problem = _problem(terms, output, sizes)
    deadline = deadline or Deadline(math.inf)
    exhaustive = not seeded and tensors <= EXHAUSTIVE_TENSORS and len(terms) <= _EXHAUSTIVE_TERMS
    if exhaustive and not deadline.passed(_STAGE):
        return Found(_exhaustive(problem, minimize), optimal=True)
    trials: list[SsaPath] = []
    count = 0 if exhaustive or effort == GREEDY else _trial_count(terms, effort)
    with progress("contraction order", count, shown=effort == "high") as advance:
        for trial in _trials(problem, minimize, count, deadline):
            if trial is not None:
                trials.append(trial)
            advance()
    trials.append(_greedy(problem))  # so that time never makes an order worse
    scores = [_score(terms, output, sizes, pairs, minimize) for pairs in trials]
    return Found(trials[scores.index(min(scores))], aborted=bool(deadline.cut))


def greedy_order(
    terms: Sequence[Sequence[str]], output: Sequence[str], sizes: Mapping[str, int]
) -> SsaPath:
    """The greedy order, for where a search would take too long; arguments as for a search."""
    return _greedy(_problem(terms, output, sizes)) if len(terms) > 1 else ()


def _problem(
    terms: Sequence[Sequence[str]], output: Sequence[str], sizes: Mapping[str, int]
) -> _Problem:
    symbols: dict[str, str] = {}

    def symbol(leg: str) -> str:
        return symbols.setdefault(leg, cotengra.get_symbol(len(symbols)))

    used = dict.fromkeys(leg for legs in terms for leg in legs)
    return _Problem(
        tuple(tuple(symbol(leg) for leg in legs) for legs in terms),
        tuple(symbol(leg) for leg in output),
        tuple((symbol(leg), sizes[leg]) for leg in used),
    )


class _OutOfTimeError(Exception):
    """The deadline has passed."""


class _TimedOptimizer(cotengra.OptimalOptimizer):
    """The exact search of one subtree after another, which looks at the clock before each."""

    def __init__(self, minimize: str, deadline: Deadline) -> None:
        super().__init__(minimize=minimize)
        self.deadline = deadline

    def __call__(self, *args: object, **options: object) -> object:
        if self.deadline.passed(_STAGE):
            raise _OutOfTimeError
        return super().__call__(*args, **options)


def _exhaustive(problem: _Problem, minimize: str) -> SsaPath:
    """The best of all orders, outer products included."""
    optimizer = cotengra.OptimalOptimizer(minimize=minimize, search_outer=True)
    path = optimizer.ssa_path(*problem.arguments())
    return _pairs(path, len(problem.inputs))  # pyright: ignore[reportArgumentType]


def _greedy(problem: _Problem) -> SsaPath:
    """The greedy order, which takes milliseconds and no chance."""
    path = cotengra.GreedyOptimizer().ssa_path(*problem.arguments())
    return _pairs(path, len(problem.inputs))


def _trial_count(terms: Sequence[Sequence[str]], effort: str) -> int:
    """Fewer trials for large networks, whose trials are long."""
    trials = _TRIALS[effort]
    return trials if len(terms) <= _LARGE_NETWORK else max(1, trials // 3)


def _trials(
    problem: _Problem, minimize: str, count: int, deadline: Deadline
) -> Iterator[SsaPath | None]:
    """What trials find, in the order of their seeds: here, or on workers."""
    left = deadline.left
    calls = [(problem, minimize, seed, left) for seed in range(count)]
    found = run_all(_trial_elsewhere, calls)
    if found is None:
        for seed in range(count):
            yield _trial(problem, minimize, seed, deadline)
        return
    for trial, seconds in found:
        deadline.spend(seconds)
        if deadline.passed(_STAGE):
            break
        yield trial


def _trial_elsewhere(
    problem: _Problem, minimize: str, seed: int, seconds: float
) -> tuple[SsaPath | None, float]:
    """A trial on a worker, with the time of a processor that it took."""
    deadline = Deadline(seconds)
    trial = _trial(problem, minimize, seed, deadline)
    return trial, seconds - deadline.left if math.isfinite(seconds) else 0.0


def _trial(problem: _Problem, minimize: str, seed: int, deadline: Deadline) -> SsaPath | None:
    """The best of some random greedy paths, its subtrees replaced by optimal ones; None where the
    deadline passes before."""
    if deadline.passed(_STAGE):
        return None
    if len(problem.inputs) > _LARGE_NETWORK:
        return _refined(problem, _random_greedy(problem, seed), minimize, deadline)
    tree = _random_greedy_optimizer(seed, _GREEDY_PATHS).search(*problem.arguments())
    try:
        refined = tree.subtree_reconfigure(
            subtree_size=_SUBTREE_SIZE,
            minimize="flops" if minimize == "max" else minimize,  # a tree knows no "max"
            seed=seed,
            select="max",
            optimize=_TimedOptimizer(minimize, deadline),
        )
    except _OutOfTimeError:
        return None
    return _pairs(refined.get_ssa_path(), len(problem.inputs))


def _refined(problem: _Problem, pairs: SsaPath, minimize: str, deadline: Deadline) -> SsaPath:
    """The order with subtrees replaced by optimal ones; the work is linear in the terms, which that
    of cotengra's refinement is not."""
    optimizer = cotengra.OptimalOptimizer(minimize=minimize)
    sizes = dict(problem.sizes)

    # The parts of a regular network differ in the names of their legs only.
    known: dict[tuple[object, ...], SsaPath] = {}

    def optimum(terms: Sequence[Collection[str]], kept: Collection[str], cost: float) -> SsaPath:
        if deadline.passed(_STAGE):
            raise StopRefining
        marks: dict[str, str] = {}
        legs = [
            [marks.setdefault(leg, cotengra.get_symbol(len(marks))) for leg in sorted(term)]
            for term in terms
        ]
        output = sorted(marks[leg] for leg in kept)
        sized = {mark: sizes[leg] for leg, mark in marks.items()}
        key = (tuple(map(tuple, legs)), tuple(output), tuple(sized.values()))
        if key not in known:
            # Nothing dearer than what is there is looked at.
            optimizer.cost_cap = max(2, cost)  # pyright: ignore
            known[key] = _pairs(optimizer.ssa_path(legs, output, sized), len(terms))
        return known[key]

    return refine(
        problem.inputs,
        problem.output,
        sizes,
        pairs,
        objective=objective_of(minimize),
        optimum=optimum,
        leaves=_SUBTREE_SIZE,
        budget=min(len(problem.inputs), _MOST_SUBTREES),
    )


# All objectives start from the same order.
@lru_cache(maxsize=16)
def _random_greedy(problem: _Problem, seed: int) -> SsaPath:
    """The best of some random greedy paths; of fewer where each takes longer."""
    paths = max(_LEAST_PATHS, _GREEDY_PATHS * 4 * _LARGE_NETWORK // len(problem.inputs))
    optimizer = _random_greedy_optimizer(seed, min(_GREEDY_PATHS, paths))
    return _pairs(optimizer.ssa_path(*problem.arguments()), len(problem.inputs))  # pyright: ignore[reportArgumentType]


def _random_greedy_optimizer(seed: int, paths: int) -> cotengra.RandomGreedyOptimizer:
    return cotengra.RandomGreedyOptimizer(
        max_repeats=paths,
        seed=seed,
        parallel=False,  # pyright: ignore[reportArgumentType]  # its type says str only
    )


def _pairs(path: Sequence[Sequence[int]], terms: int) -> SsaPath:
    """An SSA path as pairs only: steps on one term are skipped, larger groups are split."""
    position = list(range(terms))
    pairs: list[tuple[int, int]] = []
    made = terms
    for group in path:
        current = position[group[0]]
        for other in group[1:]:
            pairs.append((current, position[other]))
            current, made = made, made + 1
        position.append(current)
    if len(pairs) != terms - 1:
        msg = f"the search returned {len(pairs)} contractions for {terms} terms"
        raise PlanError(msg)
    return tuple(pairs)


def objective_of(minimize: str) -> Objective:
    """An objective by cotengra's definitions: loop space and entries written."""
    match = _MINIMIZE.fullmatch(minimize)
    assert match is not None
    kind, weight = match[1] or match[2], float(match[3] or 64)
    match kind:
        case "flops":
            return Objective(lambda loop, written: loop)
        case "write":
            return Objective(lambda loop, written: written)
        case "size":
            return Objective(lambda loop, written: written, is_largest=True)
        case "max":
            return Objective(lambda loop, written: loop, is_largest=True)
        case "combo":
            return Objective(lambda loop, written: loop + weight * written)
        case _:
            return Objective(lambda loop, written: max(loop, weight * written))


def _score(
    terms: Sequence[Sequence[str]],
    output: Sequence[str],
    sizes: Mapping[str, int],
    pairs: SsaPath,
    minimize: str,
) -> float:
    """The objective of an order."""
    objective = objective_of(minimize)
    return objective.total(
        [
            objective.of_step(*(math.prod(sizes[leg] for leg in legs) for legs in step))
            for step in walk_legs(terms, output, pairs)
        ]
    )
