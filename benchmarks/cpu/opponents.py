"""The fixed opponents of the compiled kernels: the fastest einsum chains of long searches, stored.

    python -m benchmarks.cpu.opponents search --cases mera-2  # a minute of random search
    python -m benchmarks.cpu.opponents rank --cases mera-2    # time all found, keep the best

A random search finds another tree each time, and a ratio to it moves with it. So each case is
searched once, for a minute of processor time: all objectives in turn, each time with a fresh seed.
``rank`` times every tree found, and those of earlier results, as cotengra's own expression, and
notes the fastest a batch size and mode. ``benchmarks.kernels`` times exactly those.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import torch

from benchmarks.common.baselines import rank_trees
from benchmarks.common.problem import Problem
from benchmarks.common.report import RESULTS, format_table, provenance
from benchmarks.common.search import (
    EXHAUSTIVE_OPERANDS,
    OBJECTIVES,
    Tree,
    exhaustive_search,
    fitting_trees,
    hyper_search,
)
from benchmarks.common.search import Path as TreePath
from benchmarks.common.timing import keep_freed_memory
from benchmarks.common.workloads import KERNEL_WORKLOADS, TINY_WORKLOADS
from benchmarks.layers import stored_trees

OPPONENTS = Path(__file__).parent / "trees"
KNOWN = {**KERNEL_WORKLOADS, **TINY_WORKLOADS}
BATCHES = (256, 50, 1)
# Shares of the search a batch size: what is best depends on it, and the targets are at 256.
SHARES = (0.6, 0.2, 0.2)
SECONDS = 60.0
REPEATS = 64
INFER, TRAIN = "infer", "train"


@dataclass(frozen=True, slots=True)
class Opponents:
    """The stored trees of a case.

    Arguments:
        network: legs of all operands and of the result, that the paths are for.
        search: how the trees were found: command, versions, seconds, repeats.
        trees: all that were found.
        fastest: for each batch size and mode the number of the tree that is fastest, and when and
            on what that was measured.
    """

    network: dict[str, Any]
    search: dict[str, Any]
    trees: tuple[Tree, ...]
    fastest: tuple[dict[str, Any], ...] = ()

    def best(self, batch: int, mode: str) -> Tree:
        """The fastest tree at the largest measured batch size that is not above this one."""
        fitting = [entry for entry in self.fastest if entry["mode"] == mode]
        if not fitting:
            msg = f"no tree was timed for {mode}; run `python -m benchmarks.cpu.opponents rank`"
            raise ValueError(msg)
        nearest = min(fitting, key=lambda e: (e["batch"] > batch, abs(e["batch"] - batch)))
        return self.trees[nearest["tree"]]


def network_of(problem: Problem) -> dict[str, Any]:
    """What a path is good for: operands, result and sizes but for the batch."""
    sizes = [problem.sizes[leg] for leg in sorted(problem.sizes) if leg]
    return {
        "terms": [list(term) for term in problem.terms],
        "output": list(problem.output_term),
        "sizes": sizes,
    }


def search(case: str, seconds: float) -> Opponents:
    """Random searches in turn over all objectives, for so many seconds of processor time."""
    found: dict[TreePath, Tree] = {}
    repeats = 0
    problem = Problem.draw(KNOWN[case].build().freeze(), BATCHES[0])
    for batch, share in zip(BATCHES, SHARES, strict=True):
        sizes = {**problem.sizes, 0: batch}
        start, seed = time.process_time(), 0
        while seed < len(OBJECTIVES) or time.process_time() - start < seconds * share:
            objective = OBJECTIVES[seed % len(OBJECTIVES)]
            network = (problem.terms, problem.output_term, sizes, objective)
            if seed < len(OBJECTIVES) and len(problem.terms) <= EXHAUSTIVE_OPERANDS:
                tree = exhaustive_search(*network)
                found.setdefault(tree.path, tree)
            tree = hyper_search(*network, repeats=REPEATS, seed=seed)
            found.setdefault(tree.path, tree)
            repeats, seed = repeats + REPEATS, seed + 1
    how = {**_provenance(), "processor_seconds": seconds, "repeats": repeats}
    return Opponents(network_of(problem), how, tuple(found.values()))


def rank(case: str, opponents: Opponents, batches: Sequence[int]) -> Opponents:
    """Time all trees at some batch sizes; trees of earlier results join.

    What an earlier ranking on the same processor found stays unless something faster is found.
    """
    graph = KNOWN[case].build().freeze()
    trees = {tree.path: tree for tree in opponents.trees}
    fastest = {(entry["batch"], entry["mode"]): entry for entry in opponents.fastest}
    for batch in batches:
        problem = Problem.draw(graph, batch)
        for path in stored_trees(RESULTS / "layers-cpu.json").get((case, batch), ()):
            for tree in fitting_trees(problem.terms, problem.output_term, problem.sizes, [path]):
                trees.setdefault(tree.path, tree)
        candidates = tuple(trees.values())
        for mode, ranked in rank_trees(problem, candidates).items():
            entry = {
                "batch": batch,
                "mode": mode,
                "tree": candidates.index(ranked[0].tree),
                "seconds": ranked[0].seconds,
                "timed": sum(candidate.seconds is not None for candidate in ranked),
                **_provenance(),
            }
            before = fastest.get((batch, mode), entry)
            # Another process can only slow a run down: the quicker of two runs is right.
            if before["cpu"] != entry["cpu"] or entry["seconds"] <= before["seconds"]:
                fastest[batch, mode] = entry
    kept = tuple(fastest.values())
    return Opponents(opponents.network, opponents.search, tuple(trees.values()), kept)


def _provenance() -> dict[str, Any]:
    """Date, processor and versions, without what differs from run to run for no reason."""
    record = provenance([])
    versions = {name: record["versions"][name] for name in ("torch", "cotengra", "cotengrust")}
    return {"date": record["date"], "cpu": record["machine"]["cpu"], "versions": versions}


# -- files -------------------------------------------------------------------------------------


def path_of(case: str, folder: Path = OPPONENTS) -> Path:
    """Where the trees of a case are stored."""
    return folder / f"{case}.json"


def save(case: str, opponents: Opponents, folder: Path = OPPONENTS) -> Path:
    """Write the trees of a case, one a line."""
    path = path_of(case, folder)
    path.parent.mkdir(parents=True, exist_ok=True)
    trees = ",\n  ".join(json.dumps(asdict(tree)) for tree in opponents.trees)
    fastest = ",\n  ".join(json.dumps(entry) for entry in opponents.fastest)
    head = ",\n ".join(
        f'"{key}": {json.dumps(getattr(opponents, key))}' for key in ("network", "search")
    )
    path.write_text(
        f'{{\n {head},\n "fastest": [\n  {fastest}\n ],\n "trees": [\n  {trees}\n ]\n}}\n'
    )
    return path


def load(case: str, problem: Problem | None = None, folder: Path = OPPONENTS) -> Opponents:
    """Read the trees of a case.

    Raises:
        FileNotFoundError: the case was never searched.
        ValueError: the network has changed since, so that the paths do not fit.
    """
    path = path_of(case, folder)
    if not path.exists():
        msg = f"no stored opponents for {case}; run `python -m benchmarks.cpu.opponents search`"
        raise FileNotFoundError(msg)
    record = json.loads(path.read_text())
    if problem is not None and record["network"] != network_of(problem):
        msg = f"{path} is for another network than {case} is now; search again"
        raise ValueError(msg)
    trees = tuple(
        replace(Tree(**tree), path=tuple(map(tuple, tree["path"]))) for tree in record["trees"]
    )
    return Opponents(record["network"], record["search"], trees, tuple(record["fastest"]))


# -- command line ------------------------------------------------------------------------------


def table(cases: Sequence[str], folder: Path) -> str:
    """The fastest chains of some cases."""
    rows = [
        [case, str(entry["batch"]), entry["mode"], f"{entry['seconds'] * 1e3:.3g}", tree.objective]
        for case in cases
        for opponents in [load(case, folder=folder)]
        for entry in sorted(opponents.fastest, key=lambda e: (-e["batch"], e["mode"]))
        for tree in [opponents.trees[entry["tree"]]]
    ]
    return format_table(["case", "batch", "mode", "ms", "objective"], rows)


def main(arguments: Sequence[str] | None = None) -> int:
    """Search, or time what was found; the files are updated case by case."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.cpu.opponents", description=__doc__)
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.add_argument("what", choices=["search", "rank", "show"])
    parser.add_argument("--cases", nargs="+", choices=list(KNOWN), default=list(KERNEL_WORKLOADS))
    parser.add_argument("--seconds", type=float, default=SECONDS, help="of processor time a case")
    parser.add_argument("--batches", nargs="+", type=int, default=list(BATCHES))
    parser.add_argument("--folder", type=Path, default=OPPONENTS)
    options = parser.parse_args(arguments)
    torch.set_float32_matmul_precision("highest")
    if options.what == "rank":
        keep_freed_memory()
    for case in options.cases:
        if options.what == "search":
            opponents = search(case, options.seconds)
        elif options.what == "rank":
            opponents = rank(case, load(case, folder=options.folder), options.batches)
        else:
            continue
        path = save(case, opponents, options.folder)
        print(f"{path}: {len(opponents.trees)} trees", file=sys.stderr, flush=True)
    print(table(options.cases, options.folder))
    return 0


if __name__ == "__main__":
    sys.exit(main())
