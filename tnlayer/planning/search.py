"""The search for a contraction order: the only file that imports cotengra.

The same problem gives the same order in every process: legs become symbols in order of first use,
exhaustive search needs no chance, and beyond it a fixed number of seeded trials runs serially.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence

import cotengra

from tnlayer.errors import PlanError, SpecError

Pairs = tuple[tuple[int, int], ...]

# Up to so many tensors (inputs come on top) every order is tried, outer products included.
EXHAUSTIVE_TENSORS = 12
_EXHAUSTIVE_TERMS = 14

# Trials beyond: each a batch of random greedy paths, the best refined by exact subtrees.
_TRIALS = {"fast": 2, "default": 6, "high": 48}
_GREEDY_PATHS = 32
_SUBTREE_SIZE = 8
_LARGE_NETWORK = 100

_MINIMIZE = re.compile(r"(flops|write|size|max|combo|limit)(?:-(\d+(?:\.\d+)?))?")


def search_order(
    terms: Sequence[Sequence[str]],
    output: Sequence[str],
    sizes: Mapping[str, int],
    *,
    tensors: int,
    minimize: str,
    effort: str,
    seeded: bool = False,
) -> tuple[Pairs, bool]:
    """The order in which to contract terms, as SSA pairs, and whether it is proven optimal.

    Arguments:
        terms: legs of each term, distinct within a term.
        output: legs that are kept.
        sizes: size of every leg.
        tensors: number of tensors among the terms (the others are inputs).
        minimize: "flops", "write", "size", "max", "combo-N" or "limit-N", as cotengra names them.
        effort: "fast", "default" or "high".
        seeded: whether seeded trials will do where an exhaustive search is possible.

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
        return (), True
    symbols: dict[str, str] = {}

    def symbol(leg: str) -> str:
        return symbols.setdefault(leg, cotengra.get_symbol(len(symbols)))

    inputs = [[symbol(leg) for leg in legs] for legs in terms]
    kept = [symbol(leg) for leg in output]
    size_of = {symbol(leg): sizes[leg] for leg in dict.fromkeys(leg for t in terms for leg in t)}
    if not seeded and tensors <= EXHAUSTIVE_TENSORS and len(terms) <= _EXHAUSTIVE_TERMS:
        optimizer = cotengra.OptimalOptimizer(minimize=minimize, search_outer=True)
        return _pairs(optimizer.ssa_path(inputs, kept, size_of), len(terms)), True
    trials = [
        _trial(inputs, kept, size_of, minimize, seed) for seed in range(_trial_count(terms, effort))
    ]
    scores = [_score(terms, output, sizes, pairs, minimize) for pairs in trials]
    return trials[scores.index(min(scores))], False


def _trial_count(terms: Sequence[Sequence[str]], effort: str) -> int:
    """Fewer trials for large networks, whose trials are long."""
    trials = _TRIALS[effort]
    return trials if len(terms) <= _LARGE_NETWORK else max(1, trials // 3)


def _trial(
    inputs: list[list[str]],
    output: list[str],
    sizes: dict[str, int],
    minimize: str,
    seed: int,
) -> Pairs:
    """The best of some random greedy paths, its subtrees replaced by optimal ones."""
    optimizer = cotengra.RandomGreedyOptimizer(
        max_repeats=_GREEDY_PATHS,
        seed=seed,
        parallel=False,  # pyright: ignore[reportArgumentType]  # its type says str only
    )
    tree = optimizer.search(inputs, output, sizes)
    refined = tree.subtree_reconfigure(
        subtree_size=_SUBTREE_SIZE, minimize=minimize, seed=seed, select="max"
    )
    return _pairs(refined.get_ssa_path(), len(inputs))


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
    kind, weight = match[1], float(match[2] or 64)
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
