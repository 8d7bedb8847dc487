"""Contraction trees for the cotengra baseline: bounded, seeded searches, the fastest by timing.

A baseline that changes from run to run makes every ratio meaningless. So small networks are
searched exhaustively; for the others cotengra's random search gets enough repeats to reach the
exhaustive optimum of each objective (checked for MERA-2 and MERA-3 at 12 legs; trees of equal cost
still differ from run to run). Trees of earlier runs can join as further candidates, and each
result file stores the tree behind each figure.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from benchmarks.common.timing import time_call

OBJECTIVES = ("flops", "write", "combo-16", "combo-64", "combo-256")
REPEATS = 32
# A tree with a larger intermediate (1 GiB in fp32) is never the fastest and may not fit.
MAX_ENTRIES = 2**28
# A tree this many times slower than the fastest at first call is not timed again.
HOPELESS = 10
# Up to this many operands cotengra's exhaustive search takes milliseconds.
EXHAUSTIVE_OPERANDS = 16

Term = tuple[int, ...]
Path = tuple[tuple[int, ...], ...]


@dataclass(frozen=True, slots=True)
class Tree:
    """A contraction tree.

    Arguments:
        objective: what it was searched for, or "stored" for a tree of an earlier run.
        path: the tree as cotengra and opt_einsum write it: positions in a shrinking list.
        multiplications: scalar multiplications that cotengra counts.
        write: entries of all intermediates together.
    """

    objective: str
    path: Path
    multiplications: float
    write: float


@dataclass(frozen=True, slots=True)
class Candidate:
    """A tree and how fast it ran when it was chosen: seconds, or None and the error."""

    tree: Tree
    seconds: float | None
    error: str = ""


def trees(
    terms: Sequence[Term],
    output: Term,
    sizes: Mapping[int, int],
    stored: Sequence[Path] = (),
) -> tuple[Tree, ...]:
    """Search one tree per objective and drop repetitions.

    Arguments:
        terms: legs of each operand.
        output: legs of the result.
        sizes: size of each leg.
        stored: paths of earlier runs, to be candidates too unless they need MAX_ENTRIES.
    """
    found: dict[Path, Tree] = {}
    for objective in OBJECTIVES:
        if len(terms) <= EXHAUSTIVE_OPERANDS:
            tree = exhaustive_search(terms, output, sizes, objective)
        else:
            tree = hyper_search(terms, output, sizes, objective, repeats=REPEATS, seed=0)
        found.setdefault(tree.path, tree)
    for tree in fitting_trees(terms, output, sizes, stored):
        found.setdefault(tree.path, tree)
    return tuple(found.values())


def exhaustive_search(
    terms: Sequence[Term], output: Term, sizes: Mapping[int, int], objective: str
) -> Tree:
    """The optimum of an objective."""
    # cotengra's stubs call every optimizer a str.
    cotengra: Any = importlib.import_module("cotengra")
    optimizer = cotengra.OptimalOptimizer(minimize=objective)
    found = cotengra.array_contract_tree(list(terms), output, dict(sizes), optimize=optimizer)
    return _tree(objective, found)


def hyper_search(
    terms: Sequence[Term],
    output: Term,
    sizes: Mapping[int, int],
    objective: str,
    *,
    repeats: int,
    seed: int,
) -> Tree:
    """The best of so many random trees, each improved subtree by subtree."""
    cotengra: Any = importlib.import_module("cotengra")
    optimizer = cotengra.HyperOptimizer(
        methods=["greedy", "labels"],
        minimize=objective,
        max_repeats=repeats,
        reconf_opts={"minimize": objective, "seed": seed},
        parallel=False,
        progbar=False,
        optlib="random",
        seed=seed,
    )
    found = cotengra.array_contract_tree(list(terms), output, dict(sizes), optimize=optimizer)
    return _tree(objective, found)


def fitting_trees(
    terms: Sequence[Term], output: Term, sizes: Mapping[int, int], paths: Sequence[Path]
) -> list[Tree]:
    """Trees of earlier runs that fit the network and need no more than MAX_ENTRIES."""
    cotengra: Any = importlib.import_module("cotengra")
    found: list[Tree] = []
    for path in paths:
        # A path of a network that has changed since does not fit any more.
        if sum(len(positions) - 1 for positions in path) != len(terms) - 1:
            continue
        tree = cotengra.array_contract_tree(list(terms), output, dict(sizes), optimize=path)
        if tree.max_size() <= MAX_ENTRIES:
            found.append(replace(_tree("stored", tree), path=_path(path)))
    return found


def _path(path: Sequence[Sequence[int]]) -> Path:
    return tuple(tuple(int(position) for position in pair) for pair in path)


def _tree(objective: str, tree: Any) -> Tree:
    cost, write = float(tree.contraction_cost()), float(tree.total_write())
    return Tree(objective, _path(tree.get_path()), cost, write)


def rank_by_time(
    candidates: Sequence[Tree], make_call: Callable[[Tree], Callable[[], object]], rounds: int = 5
) -> tuple[Candidate, ...]:
    """Order trees by their fastest call, the fastest tree first.

    Arguments:
        candidates: the trees.
        make_call: makes the call that is timed for a tree.
        rounds: timed calls a tree, one a round, after one warm-up.

    A tree that fails (out of memory) comes last, with its error.
    """
    calls: dict[int, Callable[[], object]] = {}
    seconds: dict[int, float] = {}
    failed: list[Candidate] = []
    for number, tree in enumerate(candidates):
        try:
            calls[number] = make_call(tree)
            seconds[number] = time_call(calls[number])
        except Exception as error:  # the next tree may well run
            calls.pop(number, None)
            failed.append(Candidate(tree, None, f"{type(error).__name__}: {error}"))
    # Hopeless trees are timed once; else the minimum, which another process disturbs least.
    hopeful = [n for n in calls if seconds[n] < HOPELESS * min(seconds.values())]
    for _ in range(rounds):
        for number in hopeful:
            seconds[number] = min(seconds[number], time_call(calls[number]))
    ranked = sorted(calls, key=lambda number: seconds[number])
    return (*(Candidate(candidates[number], seconds[number]) for number in ranked), *failed)
