"""Levenberg-Marquardt for problems whose Jacobian can be held: all tensors move at once.

Shared, conjugated and isometric tensors need no rule of their own: the Jacobian of a shared tensor
is the sum over its uses, and isometries move along their tangents and are projected back.

Source: Madsen, Nielsen and Tingleff, Methods for non-linear least squares problems (2004),
algorithm 3.16; for isometries Absil, Mahony and Sepulchre, Optimization algorithms on matrix
manifolds (2008), chapter 8.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import torch

from .labelled import Labelled
from .problem import Problem, Stored, View

# Entries of the Jacobian, and multiplications of its Gram, of problems that are small enough.
_MOST_ENTRIES, _MOST_WORK = 2**23, 2**32
# Steps that are looked at together: where they lower the error by less than this share of it, a
# start ends.
_WINDOW, _STALLED = 12, 1e-3
# Attempts that change nothing, one after another.
_PATIENCE = 30


def is_small(problem: Problem) -> bool:
    """Whether the Jacobian of a problem can be held."""
    count, rows = _sizes(problem)
    return count * rows <= _MOST_ENTRIES and step_work(problem) <= _MOST_WORK


def step_work(problem: Problem) -> int:
    """Multiplications of one step."""
    count, rows = _sizes(problem)
    return count * count * (rows + count)


def _sizes(problem: Problem) -> tuple[int, int]:
    """Real unknowns and equations."""
    parts = 2 if problem.dtype.is_complex else 1
    return parts * problem.free_entries, parts * problem.size


def gauss_newton(
    problem: Problem,
    stored: Stored,
    steps: int,
    goal: float,
    advance: Callable[[], None],
    stalled_below: float = _STALLED,
    is_over: Callable[[], bool] = lambda: False,
) -> Stored:
    """Lower the error of free arrays, until it stalls.

    Arguments:
        problem: with at least one free entry.
        stored: where to start.
        steps: at most so many.
        goal: stop at this relative error.
        advance: is called after each step.
        stalled_below: a dozen steps that lower the error by less than this share of it end.
        is_over: whether the time is up.
    """
    wanted = _flat(_rows_of_target(problem))
    norm = float(torch.linalg.vector_norm(wanted))
    error = _error(problem, stored, wanted)
    loss = float(error @ error)
    damping, growth, stalled = -1.0, 2.0, 0
    seen = [loss]
    matrix: torch.Tensor | None = None
    slope = torch.empty(0)
    for _ in range(steps):
        if not math.isfinite(loss) or math.sqrt(loss) <= goal * norm or stalled >= _PATIENCE:
            break
        if is_over():
            break
        if matrix is None:
            jacobian = _jacobian(problem, stored)
            matrix, slope = jacobian.mT @ jacobian, jacobian.mT @ error
        if damping < 0:
            damping = 1e-3 * max(float(matrix.diagonal().max()), 1e-300)
        damped = matrix + damping * torch.eye(len(matrix), dtype=matrix.dtype)
        factor, info = torch.linalg.cholesky_ex(damped)
        step = -torch.cholesky_solve(slope.unsqueeze(-1), factor).squeeze(-1)
        advance()
        if int(info) or not bool(torch.isfinite(step).all()):
            damping, growth, stalled = damping * growth, growth * 2, stalled + 1
            continue
        moved = _moved(problem, stored, step)
        new_error = _error(problem, moved, wanted)
        new_loss = float(new_error @ new_error)
        foreseen = float(step @ (damping * step - slope))
        gain = (loss - new_loss) / foreseen if foreseen > 0 else -1.0
        if gain > 0 and math.isfinite(new_loss):
            stalled = 0
            stored, error, loss, matrix = moved, new_error, new_loss, None
            seen.append(loss)
            if len(seen) > _WINDOW and seen[-1] >= (1 - 2 * stalled_below) * seen[-_WINDOW - 1]:
                break
            damping *= max(1 / 3, 1 - (2 * gain - 1) ** 3)
            growth = 2.0
        else:
            damping, growth, stalled = damping * growth, growth * 2, stalled + 1
            if foreseen <= 1e-15 * loss or not math.isfinite(damping):
                break
    return stored


def _rows_of_target(problem: Problem) -> torch.Tensor:
    dense = problem.target.dense.to(problem.dtype)
    covariance = problem.target.covariance
    return dense if covariance is None else dense @ covariance.root.to(problem.dtype)


def _flat(array: torch.Tensor) -> torch.Tensor:
    """Real numbers in a row."""
    array = array.reshape(-1)
    return torch.cat((array.real, array.imag)) if array.is_complex() else array


def _error(problem: Problem, stored: Stored, wanted: torch.Tensor) -> torch.Tensor:
    dense = problem.dense(stored)
    covariance, target = problem.target.covariance, problem.target
    if target.part is not None:
        dense = target.cut(dense)
    if covariance is not None:
        dense = dense @ covariance.root.to(problem.dtype)
    return _flat(dense) - wanted


def _jacobian(problem: Problem, stored: Stored) -> torch.Tensor:
    """Real derivatives of all rows by the real (and imaginary) parts of all free entries."""
    rows = problem.size
    is_complex = problem.dtype.is_complex
    straight = {
        name: torch.zeros(rows, problem.parameters[name].size, dtype=problem.dtype)
        for name in problem.free
    }
    conjugate = {n: torch.zeros_like(a) for n, a in straight.items()} if is_complex else straight
    for view in problem.views:
        _add_derivatives(problem, view, stored, straight, conjugate)
    for kind in (straight, conjugate) if is_complex else (straight,):
        for name in kind if problem.target.part is not None else ():
            kind[name] = _cut(problem, kind[name])
    parts: list[torch.Tensor] = []
    for name in problem.free:
        one, other = straight[name], conjugate[name]
        if is_complex:
            by_real, by_imaginary = one + other, 1j * (one - other)
            block = torch.cat(
                (
                    torch.cat((by_real.real, by_imaginary.real), 1),
                    torch.cat((by_real.imag, by_imaginary.imag), 1),
                )
            )
        else:
            block = one
        projector = _projector(problem, name, stored[name])
        parts.append(block if projector is None else block @ projector)
    return torch.cat(parts, 1)


def _cut(problem: Problem, block: torch.Tensor) -> torch.Tensor:
    """Derivatives that are zero where nothing counts. Columns that are weighted need no cut: padded
    features have no variance."""
    assert problem.target.part is not None
    rows, columns = problem.target.part
    shape = problem.target.dense.shape
    counts = torch.zeros(*shape, 1, dtype=block.dtype)
    counts[:rows, : columns if problem.target.covariance is None else shape[1]] = 1
    return (block.reshape(*shape, -1) * counts).reshape(block.shape)


def _add_derivatives(
    problem: Problem,
    view: View,
    stored: Stored,
    straight: dict[str, torch.Tensor],
    conjugate: dict[str, torch.Tensor],
) -> None:
    opened = view.weighted[1]
    values = view.values(stored)
    wanted = frozenset(k for k, use in enumerate(view.net.uses) if use.name in straight)
    places = None if problem.target.covariance is not None else view.net.places

    def visit(number: int, given: Labelled | None) -> None:
        use = view.net.uses[number]
        environment = given or Labelled(torch.ones((), dtype=problem.dtype), ())
        block = _derivative(view, environment, use.labels, opened)
        shape = [view.sizes[label] for label in use.labels]
        block = use.back(block.reshape(-1, *shape)).reshape(len(block), -1)
        into = (conjugate if use.conj else straight)[use.name]
        if places is None:
            into += block
        else:
            into[places.reshape(-1)] += block

    if wanted:
        view.tree.sweep(values, visit, wanted)


def _derivative(
    view: View, environment: Labelled, labels: tuple[str, ...], opened: tuple[str, ...]
) -> torch.Tensor:
    """Derivative of the dense tensor by the entries of a factor, (open labels, entries)."""
    numbers: dict[str, int] = {}
    for label in (*environment.labels, *opened, *labels):
        numbers.setdefault(label, len(numbers))
    primed = {label: len(numbers) + k for k, label in enumerate(labels) if label in opened}
    dtype = environment.array.dtype
    operands: list[object] = [environment.array, [numbers[k] for k in environment.labels]]
    for label, prime in primed.items():
        operands += [torch.eye(view.sizes[label], dtype=dtype), [numbers[label], prime]]
    result = [*(numbers[k] for k in opened), *(primed.get(k, numbers[k]) for k in labels)]
    made = torch.einsum(*operands, result)
    return made.reshape(math.prod(view.sizes[k] for k in opened), -1)


def _projector(problem: Problem, name: str, array: torch.Tensor) -> torch.Tensor | None:
    """The matrix of the projection to the tangents of an isometry, over real numbers."""
    isometry = problem.isometries.get(name)
    if isometry is None:
        return None
    project = isometry.tangent(array)
    units = torch.eye(array.numel(), dtype=array.dtype).reshape(-1, *array.shape)
    both = torch.cat((units, 1j * units)) if array.is_complex() else units
    return torch.stack([_flat(project(unit)) for unit in both], 1)


def _moved(problem: Problem, stored: Stored, step: torch.Tensor) -> Stored:
    """All arrays after a step; isometries are projected back."""
    moved = dict(stored)
    start = 0
    for name in problem.free:
        array = stored[name]
        count = array.numel() * (2 if array.is_complex() else 1)
        part = step[start : start + count]
        start += count
        if array.is_complex():
            real, imaginary = part.chunk(2)
            part = torch.complex(real, imaginary)
        new = array + part.reshape(array.shape)
        isometry = problem.isometries.get(name)
        moved[name] = new if isometry is None else isometry.nearest(new)
    return moved
