"""L-BFGS on all arrays whose scale and direction are free, where the Jacobian cannot be held.

Source: Liu and Nocedal, On the limited memory BFGS method for large scale optimization (1989), as
torch.optim.LBFGS with strong Wolfe conditions.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import torch

from .problem import Problem, Stored

# Entries of the values that torch keeps for the gradient.
_MOST_KEPT = 2**27


def can_descend(problem: Problem) -> bool:
    """Whether there is something to move, and values for its gradient can be kept."""
    kept = sum(len(net.uses) for net in problem.nets) * problem.size
    return bool(_names(problem)) and kept <= _MOST_KEPT


def descend(
    problem: Problem,
    stored: Stored,
    steps: int,
    goal: float,
    advance: Callable[[], None],
    is_over: Callable[[], bool] = lambda: False,
) -> Stored:
    """Lower the error of free arrays that are no isometries; arguments as for Gauss-Newton."""
    names = _names(problem)
    target = problem.target.dense.to(problem.dtype)
    covariance = problem.target.covariance
    root = None if covariance is None else covariance.root.to(problem.dtype)
    wanted = target if root is None else target @ root
    norm = float(torch.linalg.vector_norm(wanted)) or 1.0
    kept = torch.contiguous_format
    leaves = {n: stored[n].clone(memory_format=kept).requires_grad_() for n in names}
    optimiser = torch.optim.LBFGS(
        list(leaves.values()),
        lr=1.0,
        max_iter=1,
        max_eval=20,
        history_size=20,
        tolerance_grad=0.0,
        tolerance_change=0.0,
        line_search_fn="strong_wolfe",
    )

    def loss() -> torch.Tensor:
        dense = problem.dense({**stored, **leaves})
        dense = problem.target.cut(dense)
        error = (dense if root is None else dense @ root) - wanted
        parts = torch.view_as_real(error) if error.is_complex() else error
        return (parts / norm).square().sum()

    def closure() -> torch.Tensor:
        optimiser.zero_grad()
        with torch.enable_grad():
            value = loss()
            value.backward()
        return value.detach()

    best, before, stalled = dict(stored), math.inf, 0
    for _ in range(steps):
        if is_over():
            break
        optimiser.step(closure)
        with torch.no_grad():
            value = float(loss())
        advance()
        if not value < before:
            break
        best = {**stored, **{name: leaf.detach().clone() for name, leaf in leaves.items()}}
        stalled = stalled + 1 if before - value <= 1e-8 * before else 0
        before = value
        if math.sqrt(value) <= goal or stalled >= 5:
            break
    return best


def _names(problem: Problem) -> list[str]:
    return [name for name in problem.free if name not in problem.isometries]
