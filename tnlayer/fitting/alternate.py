"""Alternating least squares: one tensor after another is solved for, all others as they are.

A network is linear in each tensor that stands once, so each step is a linear least-squares
problem, and the error never grows. The environment of a tensor, the matrix of that problem, is the
adjoint of the contraction, evaluated depth first (labelled.py). Where it is small it is solved as
it is, by singular values; else by normal equations, whose matrix E^H E is the network beside its
conjugate without that tensor, and whose right-hand side is the adjoint applied to the target.

Isometric tensors: for M = E^H E <= m, the isometry that is nearest to X - (M X - b) / m lowers the
error (majorisation); where M is a multiple of the identity it is the polar factor of the
environment, as in Evenbly and Vidal (2009).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch

from .closed_network import Use
from .conjugate_gradients import change_by_products
from .isometries import Isometry
from .labelled import Labelled, Labels
from .problem import Problem, Stored, View

# Environments of at most so many entries are solved as they are.
_MOST_ROWS = 2**21
# Grams of more entries are not made.
MOST_GRAM = 2**26
# With a covariance: so many entries at most, for their singular values take long; beyond these
# numbers for E^H E of one tensor, multiplications and entries, products with it take its place.
_MOST_WEIGHTED_ROWS = 2**17
_MOST_SOLVED, _MOST_WEIGHTED_GRAM = 2.0**28, 2**23
_MOST_MADE = 2.0**31
# Eigenvalues of E^H E below this share of the largest are rounding.
_RANK = 1e-13
# Rows from which the largest eigenvalue is found by so many powers, not with all others.
_POWERS_FROM, _POWERS = 512, 20
# Steps of one isometry before the next tensor's turn: they cost little beside the environment.
_ISOMETRY_STEPS = 8


@dataclass(frozen=True, slots=True)
class _Axes:
    """Kinds of labels of a factor, as axes of its least-squares problem."""

    blocks: Labels
    bonds: Labels
    own: Labels

    def matrix(self, factor: Labelled) -> torch.Tensor:
        """The factor as (blocks, bonds, own)."""
        array = factor.ordered((*self.blocks, *self.bonds, *self.own))
        count = len(self.blocks)
        lead, inner = array.shape[:count], array.shape[count : count + len(self.bonds)]
        return array.reshape(math.prod(lead), math.prod(inner), -1)

    def factor(self, matrix: torch.Tensor, like: Labelled) -> Labelled:
        """Such a matrix as the factor."""
        labels = (*self.blocks, *self.bonds, *self.own)
        sizes = dict(zip(like.labels, like.array.shape, strict=True))
        array = matrix.reshape([sizes[label] for label in labels])
        return Labelled(Labelled(array, labels).ordered(like.labels), like.labels)


def uses_rows(view: View) -> bool:
    """Whether environments of a network are small enough to be solved as they are."""
    size = math.prod(view.sizes[label] for label in view.net.output_labels)
    if view.covariance is None:
        size = math.prod(view.sizes[label] for label in view.open)
    else:
        size *= view.covariance.features
    largest = max((_entries(use, view) for use in view.net.uses), default=1)
    return size * largest <= (_MOST_ROWS if view.covariance is None else _MOST_WEIGHTED_ROWS)


def _by_products(problem: Problem, view: View, number: int) -> bool:
    """Whether E^H E of a factor is too large to be made. Isometries need it."""
    if view.covariance is None or view.net.uses[number].name in problem.isometries:
        return False
    large = view.gram_size(number) > _MOST_WEIGHTED_GRAM
    if large or view.solve_work(number) > _MOST_SOLVED:
        return True
    return view.gram_work(number) > _MOST_MADE


def _entries(use: Use, view: View) -> int:
    # With a covariance inputs are bonds: to it.
    opened = view.open if view.covariance is None else view.net.output_labels
    return math.prod(view.sizes[label] for label in use.labels if label not in opened)


def can_alternate(problem: Problem, view: View) -> bool:
    """Whether steps are small enough to be made at all."""
    if uses_rows(view) or view.largest_gram() <= MOST_GRAM:
        return True
    return view.covariance is not None and not any(
        use.name in problem.isometries for use in view.net.uses
    )


def sweep(problem: Problem, stored: Stored, is_over: Callable[[], bool] = lambda: False) -> None:
    """Solve for each free array that stands once, in place; where the time is up, not for all."""
    names = frozenset(problem.alternating)
    for place, view in enumerate(problem.views):
        numbers = frozenset(k for k, use in enumerate(view.net.uses) if use.name in names)
        if not numbers or not can_alternate(problem, view):
            continue
        dense = problem.others(place, stored)
        if uses_rows(view):
            _sweep_rows(problem, view, stored, dense, numbers, is_over)
        else:
            _sweep_gram(problem, view, stored, dense, numbers, is_over)


def _sweep_rows(
    problem: Problem,
    view: View,
    stored: Stored,
    dense: torch.Tensor,
    numbers: frozenset[int],
    is_over: Callable[[], bool],
) -> None:
    wanted = view.wanted(dense)
    values = view.values(stored)

    def visit(number: int, given: Labelled | None) -> Labelled | None:
        if is_over():
            return None
        use = view.net.uses[number]
        environment = given or Labelled(torch.ones((), dtype=problem.dtype), ())
        has = set(environment.labels)
        opened = set(wanted.labels)
        axes = _Axes(
            tuple(k for k in use.labels if k in opened and k in has),
            tuple(k for k in use.labels if k not in opened),
            tuple(k for k in use.labels if k in opened and k not in has),
        )
        rest = tuple(k for k in wanted.labels if k not in use.labels)
        shape = [math.prod(view.sizes[k] for k in part) for part in (axes.blocks, rest, axes.bonds)]
        rows = environment.ordered((*axes.blocks, *rest, *axes.bonds)).reshape(shape)
        goal = wanted.ordered((*axes.blocks, *rest, *axes.own)).reshape(*shape[:2], -1)
        current = axes.matrix(values[number])
        isometry = problem.isometries.get(use.name)
        if isometry is None:
            # For the change: where several are as good, the smallest.
            change = torch.linalg.lstsq(rows, goal - rows @ current, driver="gelsd").solution
            new = axes.factor(current + change, values[number])
            stored[use.name] = use.lifted(new, stored[use.name])
        else:
            gram, right = rows.mH @ rows, rows.mH @ goal
            _move_isometry(use, isometry, axes, gram, right, stored)
        return use.factor(stored[use.name])

    view.tree.sweep(values, visit, numbers)


def _sweep_gram(
    problem: Problem,
    view: View,
    stored: Stored,
    dense: torch.Tensor,
    numbers: frozenset[int],
    is_over: Callable[[], bool],
) -> None:
    count = len(view.net.uses)
    values = [
        *(use.factor(stored[use.name]) for use in view.net.uses),
        *view.constants,
        view.overlap_target(dense),
    ]

    def visit(number: int, given: Labelled | None) -> Labelled | None:
        assert given is not None, "the target is another factor"
        if is_over():
            return None
        use = view.net.uses[number]
        if _by_products(problem, view, number):
            change = change_by_products(view, number, values[:count], dense, is_over)
            new = values[number].array + change.ordered(use.labels)
            stored[use.name] = use.lifted(Labelled(new, use.labels), stored[use.name])
            return use.factor(stored[use.name])
        isometry = problem.isometries.get(use.name)
        parts = () if isometry is not None else view.gram_parts(number, values[:count])
        if len(parts) > 1:
            right = Labelled(given.array.conj(), given.labels)
            change = _solve_parts(parts, right, values[number])
            new = values[number].array + change.ordered(use.labels)
            stored[use.name] = use.lifted(Labelled(new, use.labels), stored[use.name])
            return use.factor(stored[use.name])
        gram = view.gram(number, values[:count])
        bonds = tuple(k for k in use.labels if f"{k}'" in gram.labels)
        blocks = tuple(k for k in use.labels if k in gram.labels and k not in bonds)
        axes = _Axes(blocks, bonds, tuple(k for k in use.labels if k not in (*blocks, *bonds)))
        size = math.prod(view.sizes[k] for k in bonds)
        order = (*blocks, *(f"{k}'" for k in bonds), *bonds)
        matrix = gram.ordered(order).reshape(-1, size, size)
        right = axes.matrix(given.conj())
        if isometry is None:
            current = axes.matrix(values[number])
            change = _solve(matrix, right - matrix @ current)
            new = axes.factor(current + change, values[number])
            stored[use.name] = use.lifted(new, stored[use.name])
        else:
            _move_isometry(use, isometry, axes, matrix, right, stored)
        return use.factor(stored[use.name])

    view.overlap_tree.sweep(values, visit, numbers)


def _solve(gram: torch.Tensor, right: torch.Tensor) -> torch.Tensor:
    """A least-squares solution for Hermitian matrices without negative eigenvalues, small in
    directions that the matrices do not have.

    A little on the diagonal, below what is known of the eigenvalues, makes a Cholesky factor of
    any: what is solved for is a change, which this can only make smaller.
    """
    gram = (gram + gram.mH) / 2
    largest = gram.diagonal(dim1=-2, dim2=-1).real.amax(-1)
    damping = (_RANK * largest)[..., None, None] * torch.eye(gram.shape[-1], dtype=gram.dtype)
    factor, info = torch.linalg.cholesky_ex(gram + damping)
    if not bool(info.any()):
        return torch.cholesky_solve(right, factor)
    values, vectors = torch.linalg.eigh(gram)
    kept = values > _RANK * values.amax(-1, keepdim=True)
    inverse = torch.where(kept, 1 / values.clamp_min(1e-300), torch.zeros_like(values))
    return vectors @ (inverse.unsqueeze(-1) * (vectors.mH @ right))


@dataclass(frozen=True, slots=True)
class _Part:
    """E^H E of one of the parts into which the network without a factor falls.

    Arguments:
        bonds: that lead to it.
        values, vectors: of its matrix.
    """

    bonds: Labels
    values: torch.Tensor
    vectors: torch.Tensor


def _solve_parts(grams: Sequence[Labelled], right: Labelled, current: Labelled) -> Labelled:
    """The change of a factor whose E^H E is a product over its bonds' branches, as in all trees:
    each bond is turned to eigenvectors of its own, in which the product is diagonal.

    Arguments:
        grams: of the branches, over their bonds and the same with a prime.
        right: E^H b, over the factor's labels.
        current: the factor.
    """
    parts: list[_Part] = []
    for gram in grams:
        bonds = tuple(label for label in gram.labels if f"{label}'" in gram.labels)
        array = gram.ordered((*(f"{k}'" for k in bonds), *bonds))
        size = math.prod(array.shape[: len(bonds)])
        matrix = array.reshape(size, size)
        values, vectors = torch.linalg.eigh((matrix + matrix.mH) / 2)
        parts.append(_Part(bonds, values, vectors))
    order = tuple(label for part in parts for label in part.bonds)
    own = tuple(label for label in current.labels if label not in order)
    shape = [part.values.numel() for part in parts]
    turned = right.ordered((*order, *own)).reshape(*shape, -1)
    factor = current.ordered((*order, *own)).reshape(*shape, -1)
    scale = torch.ones((), dtype=parts[0].values.dtype)
    for axis, part in enumerate(parts):
        turned = _along(part.vectors.mH, turned, axis)
        factor = _along(part.vectors.mH, factor, axis)
        scale = scale.unsqueeze(-1) * part.values
    scale = scale.unsqueeze(-1)
    kept = scale > _RANK * scale.amax()
    inverse = torch.where(kept, 1 / scale.clamp_min(1e-300), torch.zeros_like(scale))
    change = inverse * (turned - scale * factor)
    for axis, part in enumerate(parts):
        change = _along(part.vectors, change, axis)
    sizes = dict(zip(current.labels, current.array.shape, strict=True))
    labels = (*order, *own)
    return Labelled(change.reshape([sizes[label] for label in labels]), labels)


def _along(matrix: torch.Tensor, array: torch.Tensor, axis: int) -> torch.Tensor:
    """A matrix times an array along an axis."""
    return (
        (matrix @ array.movedim(axis, 0).flatten(1))
        .reshape(-1, *array.movedim(axis, 0).shape[1:])
        .movedim(0, axis)
    )


def _largest(gram: torch.Tensor) -> float:
    """The largest eigenvalue of Hermitian matrices without negative ones; of large ones a little
    more than powers of them tell."""
    if gram.shape[-1] <= _POWERS_FROM:
        return float(torch.linalg.eigvalsh((gram + gram.mH) / 2).amax())
    random = torch.Generator().manual_seed(0)
    vector = torch.randn(*gram.shape[:-1], 1, dtype=gram.dtype, generator=random)
    found = 0.0
    for _ in range(_POWERS):
        vector = vector / torch.linalg.vector_norm(vector, dim=-2, keepdim=True).clamp_min(1e-300)
        vector = gram @ vector
        found = float(torch.linalg.vector_norm(vector, dim=-2).max())
    return 1.1 * found


def _move_isometry(
    use: Use,
    isometry: Isometry,
    axes: _Axes,
    gram: torch.Tensor,
    right: torch.Tensor,
    stored: Stored,
) -> None:
    """Lower the error along the isometries, in a few steps."""
    largest = _largest(gram) * use.repeats
    if not math.isfinite(largest) or not largest:
        return
    array = stored[use.name]
    for _ in range(_ISOMETRY_STEPS):
        factor = use.factor(array)
        current = axes.matrix(factor)
        slope = gram @ current - right
        back = use.back(axes.factor(slope, factor).ordered(use.labels))
        back = back.conj() if use.conj else back
        if isometry.scaled:
            array = _scaled_step(use, isometry, axes, gram, right, array, back, largest)
        else:
            array = isometry.nearest(array - back / largest)
    stored[use.name] = array


def _scaled_step(
    use: Use,
    isometry: Isometry,
    axes: _Axes,
    gram: torch.Tensor,
    right: torch.Tensor,
    array: torch.Tensor,
    back: torch.Tensor,
    largest: float,
) -> torch.Tensor:
    """A step of the direction at its scale, then the best scale for it."""
    scale = float(torch.linalg.vector_norm(array))
    if not scale:
        return array
    moved = Isometry(isometry.rows).nearest(array - back / largest)
    moved = moved * (scale / float(torch.linalg.vector_norm(moved)))
    vector = axes.matrix(use.factor(moved))
    square = float((vector.conj() * (gram @ vector)).sum().real)
    overlap = float((vector.conj() * right).sum().real)
    # A negative scale is an isometry, too.
    return moved * (overlap / square) if square > 0 and overlap else moved


def measure_work(views: Sequence[View]) -> float:
    """Multiplications of one sweep over all networks, roughly."""
    total = 0.0
    for view in views:
        tree = view.tree if uses_rows(view) else view.overlap_tree
        size = math.prod(view.sizes[label] for label in view.open)
        total += 3.0 * tree.work + 4.0 * size
        if view.covariance is not None and not uses_rows(view):
            # Solutions, and products with the covariance.
            total += size * view.covariance.features
            most = 30.0 * (tree.work + size * view.covariance.features)
            for k in range(len(view.net.uses)):
                large = view.gram_size(k) > _MOST_WEIGHTED_GRAM
                total += most if large else min(view.solve_work(k) + view.gram_work(k), most)
    return total
