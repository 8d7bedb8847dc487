"""The search for a contraction order: the only file that imports cotengra.

The same problem gives the same order in every process: legs become symbols in order of first use,
exhaustive search needs no chance, and beyond it a fixed number of seeded trials runs serially. A
clock only ever stops a search: then the greedy order is taken, which needs no chance either.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from time import monotonic

import cotengra

from tnlayer.debug import logger
from tnlayer.errors import PlanError, SpecError
from tnlayer.progress import progress

Pairs = tuple[tuple[int, int], ...]

# Up to so many tensors (inputs come on top) every order is tried, outer products included.
EXHAUSTIVE_TENSORS = 12
_EXHAUSTIVE_TERMS = 14

# Trials beyond: each a batch of random greedy paths, the best refined by exact subtrees.
_TRIALS = {"fast": 2, "default": 6, "high": 48}
_GREEDY_PATHS = 32
_SUBTREE_SIZE = 8
_LARGE_NETWORK = 100

# Seconds after which trials are given up; a hundred times what 200 tensors take.
DEADLINES = {"fast": 30.0, "default": 60.0, "high": 600.0}

_MINIMIZE = re.compile(r"(flops|write|size|max)|(combo|limit)(?:-(\d+(?:\.\d+)?))?")


@dataclass(frozen=True, slots=True)
class Found:
    """What a search found.

    Arguments:
        pairs: the order, as SSA pairs: the k-th pair makes term number (terms + k).
        optimal: whether every order was tried, so that none is better.
        aborted: whether the search ran out of time, so that this is the greedy order.
    """

    pairs: Pairs
    optimal: bool = False
    aborted: bool = False


@dataclass(frozen=True, slots=True)
class _Problem:
    """A contraction in cotengra's words: a symbol a leg, in order of first use."""

    inputs: list[list[str]]
    output: list[str]
    sizes: dict[str, int]


def search_order(
    terms: Sequence[Sequence[str]],
    output: Sequence[str],
    sizes: Mapping[str, int],
    *,
    tensors: int,
    minimize: str,
    effort: str,
    seeded: bool = False,
    deadline: float | None = None,
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
        deadline: seconds after which the greedy order is taken, with a warning in the log; by
            default that of the effort in DEADLINES. An exhaustive search that began is finished.

    Raises:
        SpecError: minimize or effort is unknown.
    """
    if not _MINIMIZE.fullmatch(minimize):
        msg = (
            f"minimize={minimize!r} is unknown; expected flops, write, size, max, combo-N, limit-N"
        )
        raise SpecError(msg)
    if effort not in _TRIALS:
        msg = f"effort={effort!r} is unknown; expected one of {', '.join(_TRIALS)}"
        raise SpecError(msg)
    if len(terms) < 2:
        return Found((), optimal=True)
    symbols: dict[str, str] = {}

    def symbol(leg: str) -> str:
        return symbols.setdefault(leg, cotengra.get_symbol(len(symbols)))

    problem = _Problem(
        [[symbol(leg) for leg in legs] for legs in terms],
        [symbol(leg) for leg in output],
        {symbol(leg): sizes[leg] for leg in dict.fromkeys(leg for t in terms for leg in t)},
    )
    seconds = DEADLINES[effort] if deadline is None else deadline
    clock = _Clock(monotonic() + seconds)
    try:
        if not seeded and tensors <= EXHAUSTIVE_TENSORS and len(terms) <= _EXHAUSTIVE_TERMS:
            clock.check()
            return Found(_exhaustive(problem, minimize), optimal=True)
        trials: list[Pairs] = []
        count = _trial_count(terms, effort)
        with progress("contraction order", count, shown=effort == "high") as advance:
            for seed in range(count):
                trials.append(_trial(problem, minimize, seed, clock))
                advance()
    except _OutOfTimeError:
        logger.warning(
            "the search for a contraction order of %d terms was given up after %g s: the greedy "
            "order is used, and is not stored",
            len(terms),
            seconds,
        )
        return Found(_greedy(problem), aborted=True)
    trials.append(_greedy(problem))  # so that time never makes an order worse
    scores = [_score(terms, output, sizes, pairs, minimize) for pairs in trials]
    return Found(trials[scores.index(min(scores))])


class _OutOfTimeError(Exception):
    """The deadline has passed."""


@dataclass(frozen=True, slots=True)
class _Clock:
    """Raises once the deadline has passed; it decides nothing else."""

    end: float

    def check(self) -> None:
        """Raise if the deadline has passed."""
        if monotonic() >= self.end:
            raise _OutOfTimeError


class _TimedOptimizer(cotengra.OptimalOptimizer):
    """The exact search of one subtree after another, which looks at the clock before each."""

    def __init__(self, minimize: str, clock: _Clock) -> None:
        super().__init__(minimize=minimize)
        self.clock = clock

    def __call__(self, *args: object, **options: object) -> object:
        self.clock.check()
        return super().__call__(*args, **options)


def _exhaustive(problem: _Problem, minimize: str) -> Pairs:
    """The best of all orders, outer products included."""
    optimizer = cotengra.OptimalOptimizer(minimize=minimize, search_outer=True)
    path = optimizer.ssa_path(problem.inputs, problem.output, problem.sizes)
    return _pairs(path, len(problem.inputs))


def _greedy(problem: _Problem) -> Pairs:
    """The greedy order, which takes milliseconds and no chance."""
    path = cotengra.GreedyOptimizer().ssa_path(problem.inputs, problem.output, problem.sizes)
    return _pairs(path, len(problem.inputs))


def _trial_count(terms: Sequence[Sequence[str]], effort: str) -> int:
    """Fewer trials for large networks, whose trials are long."""
    trials = _TRIALS[effort]
    return trials if len(terms) <= _LARGE_NETWORK else max(1, trials // 3)


def _trial(problem: _Problem, minimize: str, seed: int, clock: _Clock) -> Pairs:
    """The best of some random greedy paths, its subtrees replaced by optimal ones."""
    clock.check()
    optimizer = cotengra.RandomGreedyOptimizer(
        max_repeats=_GREEDY_PATHS,
        seed=seed,
        parallel=False,  # pyright: ignore[reportArgumentType]  # its type says str only
    )
    tree = optimizer.search(problem.inputs, problem.output, problem.sizes)
    refined = tree.subtree_reconfigure(
        subtree_size=_SUBTREE_SIZE,
        minimize="flops" if minimize == "max" else minimize,  # a tree knows no "max"
        seed=seed,
        select="max",
        optimize=_TimedOptimizer(minimize, clock),
    )
    return _pairs(refined.get_ssa_path(), len(problem.inputs))


def _pairs(path: Sequence[Sequence[int]], terms: int) -> Pairs:
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


def _score(
    terms: Sequence[Sequence[str]],
    output: Sequence[str],
    sizes: Mapping[str, int],
    pairs: Pairs,
    minimize: str,
) -> float:
    """The objective of an order, by cotengra's definitions: loop space and entries written."""
    match = _MINIMIZE.fullmatch(minimize)
    assert match is not None
    kind, weight = match[1] or match[2], float(match[3] or 64)
    left = {leg: sum(leg in legs for legs in terms) + (leg in output) for leg in sizes}
    values = [frozenset(legs) for legs in terms]
    loops: list[int] = []
    writes: list[int] = []
    for first, second in pairs:
        loop = values[first] | values[second]
        for leg in values[first] & values[second]:
            left[leg] -= 1
        result = frozenset(leg for leg in loop if left[leg] > 1)
        values.append(result)
        loops.append(math.prod(sizes[leg] for leg in loop))
        writes.append(math.prod(sizes[leg] for leg in result))
    match kind:
        case "flops":
            return float(sum(loops))
        case "write":
            return float(sum(writes))
        case "size":
            return float(max(writes))
        case "max":
            return float(max(loops))
        case "combo":
            return sum(loops) + weight * sum(writes)
        case _:
            return sum(max(a, weight * b) for a, b in zip(loops, writes, strict=True))
