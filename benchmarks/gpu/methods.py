"""What the GPU benchmark times: ours, dense in three precisions, and chains of einsum calls.

A chain follows a contraction tree that a CPU machine searched before (``results/gpu-trees.json``,
made by ``python -m benchmarks.gpu.run --trees``), two operands a call, so that nothing is searched
where the GPU is and all chains that a run compares are in the repository.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

import tnlayer as tn
from benchmarks.common.problem import Problem
from benchmarks.common.report import RESULTS
from benchmarks.common.search import Path as TreePath
from benchmarks.common.search import trees
from benchmarks.common.workloads import WORKLOADS, Workload
from tnlayer import topologies

TREES = RESULTS / "gpu-trees.json"
CASES: dict[str, Workload] = {
    **{name: WORKLOADS[name] for name in ("mera-2", "tt-3", "mera-3", "tt16-8", "btt")},
    "butterfly": Workload("butterfly", "butterfly, 4096", lambda: topologies.butterfly(4096)),
    "tree-2": Workload("tree-2", "tree, 12 legs of 2, bond 2", lambda: topologies.tree(12, 2, 2)),
}


@dataclass(frozen=True)
class Method:
    """A way to compute y, ready to run.

    Arguments:
        call: x to y.
        leaves: what training differentiates besides x.
        dtype: of x and y.
        precision: a context that sets how matrices are multiplied.
        notes: facts that belong into the JSON.
    """

    call: Callable[[Tensor], Tensor]
    leaves: tuple[Tensor, ...]
    dtype: torch.dtype = torch.float32
    precision: Callable[[], AbstractContextManager[None]] = nullcontext
    notes: dict[str, Any] = field(default_factory=dict)


class TF32:
    """Matrix products of float32 in TF32, inside a with statement."""

    def __enter__(self) -> None:
        self.before = torch.backends.cuda.matmul.allow_tf32
        torch.backends.cuda.matmul.allow_tf32 = True

    def __exit__(self, *_: object) -> None:
        torch.backends.cuda.matmul.allow_tf32 = self.before


def ours(problem: Problem, device: str, backend: str, kind: str = "float32") -> Method:
    """tn.Layer with the problem's numbers, its kernels built."""
    dtype = getattr(torch, kind)
    layer = tn.Layer(
        problem.graph, backend=backend, batch=problem.batch, device=device, dtype=dtype
    )
    own = dict(layer.named_parameters())
    with torch.no_grad():
        for name, value in problem.parameters.items():
            own[name].copy_(value)
    layer.prepare()
    (cost,) = layer.costs(problem.batch)
    notes: dict[str, Any] = {
        "runs": [f"{region.backend} {region.steps}" for region in cost.plan.regions],
        # What the time model foresaw, to fit it by.
        "predicted_forward": cost.fastest.forward,
        "predicted_backward": cost.fastest.backward,
    }
    return Method(layer, tuple(own.values()), dtype, notes=notes)


DENSE: dict[str, tuple[torch.dtype, Callable[[], AbstractContextManager[None]]]] = {
    "dense fp32": (torch.float32, nullcontext),
    "dense tf32": (torch.float32, TF32),
    "dense bf16": (torch.bfloat16, nullcontext),
}


def dense(problem: Problem, device: str, name: str) -> Method:
    """nn.Linear of the same features with random weights: its time does not depend on them."""
    dtype, precision = DENSE[name]
    graph = problem.graph
    linear = torch.nn.Linear(
        graph.in_features, graph.out_features, bias=False, device=device, dtype=dtype
    )
    return Method(linear, (linear.weight,), dtype, precision)


def chain(problem: Problem, path: TreePath, device: str) -> Method:
    """Contractions of two operands each, in the order of a tree, by torch.einsum."""
    leaves = {key: v.to(device).requires_grad_() for key, v in problem.parameters.items()}
    steps = pairwise(list(problem.terms), problem.output_term, path)

    def call(x: Tensor) -> Tensor:
        arrays = [x.reshape(-1, *problem.x_shape[1:]), *problem.operands(leaves)]
        for left, right, equation in steps:
            pair = [arrays.pop(max(left, right)), arrays.pop(min(left, right))]
            arrays.append(torch.einsum(equation, *reversed(pair)))
        return arrays[0].reshape(x.shape[0], -1)

    return Method(call, tuple(leaves.values()), notes={"path": path})


def pairwise(
    terms: list[tuple[int, ...]], output: tuple[int, ...], path: TreePath
) -> list[tuple[int, int, str]]:
    """The einsum equation of each contraction of a path, with the two places that it takes.

    >>> pairwise([(0, 1), (1, 2), (2, 3)], (0, 3), ((0, 1), (0, 1)))
    [(0, 1, 'ab,bc->ac'), (0, 1, 'ab,ca->cb')]
    """
    steps: list[tuple[int, int, str]] = []
    terms = list(terms)
    for positions in path:
        if len(positions) != 2:
            msg = f"a chain takes two operands a step, the path has {positions}"
            raise ValueError(msg)
        low, high = sorted(positions)
        right, left = terms.pop(high), terms.pop(low)
        later = {leg for term in terms for leg in term} | set(output)
        kept = tuple(leg for leg in dict.fromkeys((*left, *right)) if leg in later)
        result = output if not terms else kept
        letters = {leg: _letter(n) for n, leg in enumerate(dict.fromkeys((*left, *right)))}
        words = ["".join(letters[leg] for leg in term) for term in (left, right, result)]
        steps.append((low, high, f"{words[0]},{words[1]}->{words[2]}"))
        terms.append(result)
    return steps


def _letter(number: int) -> str:
    return chr(ord("a") + number) if number < 26 else chr(ord("A") + number - 26)


def search_trees(cases: Sequence[str], batches: Sequence[int]) -> dict[str, list[TreePath]]:
    """All trees of several objectives for each case and batch; needs cotengra and no GPU."""
    found: dict[str, list[TreePath]] = {}
    for case in cases:
        graph = CASES[case].build().freeze()
        paths: dict[TreePath, None] = {}
        for batch in batches:
            problem = Problem.draw(graph, 1)
            sizes = {**problem.sizes, 0: batch}
            for tree in trees(problem.terms, problem.output_term, sizes):
                paths.setdefault(tree.path)
        found[case] = list(paths)
    return found


def stored_trees(path: Path = TREES) -> dict[str, list[TreePath]]:
    """The trees of ``search_trees`` as a CPU machine stored them."""
    return {
        case: [tuple(tuple(pair) for pair in tree) for tree in found]
        for case, found in json.loads(path.read_text())["trees"].items()
    }
