"""One tensor's weighted least-squares problem, by products with E^H E instead of that matrix.

With a covariance C of the inputs, E^H E of a tensor with most of the inputs' legs has about as many
rows as the tensor has entries. A product with it is cheap: the network's dense tensor with another
value in place, times C, and its adjoint. Conjugate gradients need a dozen of them, since E^H E is
near a product of small matrices: that of the environment without weights, on the bonds, and that of
C, on the tensor's own inputs, traced over inputs that it does not have.

Source: Hestenes and Stiefel, Methods of conjugate gradients for solving linear systems (1952).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import torch

from .labelled import Labelled, Labels
from .problem import View

# Products with E^H E for one tensor in one sweep; the next sweep goes on.
_STEPS = 12
# The slope, as a share of the first one, at which a solution is near enough.
_NEAR = 1e-3
# Entries of an unweighted E^H E, and rows of one that is factorised; larger ones divide nothing.
_MOST_GRAM, _MOST_BONDS = 2**23, 2048
# On the diagonal of what slopes are divided by, as a share of its largest.
_DAMPING = 1e-10


def change_by_products(
    view: View,
    number: int,
    values: Sequence[Labelled],
    dense: torch.Tensor,
    is_over: Callable[[], bool],
) -> Labelled:
    """A change of a factor that lowers the weighted error, all others as they are.

    Arguments:
        view: with a covariance.
        number: of the factor.
        values: of all stored factors.
        dense: what the network shall be.
        is_over: whether the time is up.
    """
    factors = [*values, *view.constants]
    labels = values[number].labels
    made = view.net.embedded(view.net.tree.contract(factors).array)
    slope = view.pulled_back(number, values, dense.to(made.dtype) - made)
    divide = _divider(view, number, values)
    change = torch.zeros_like(slope)
    step = divided = divide(slope)
    size = _inner(slope, divided)
    first = size
    for _ in range(_STEPS):
        if not size > _NEAR**2 * first or is_over():
            break
        moved = view.net.tree.contract(
            [*factors[:number], Labelled(step, labels), *factors[number + 1 :]]
        )
        product = view.pulled_back(number, values, view.net.embedded(moved.array))
        curvature = _inner(step, product)
        if not curvature > 0:
            break
        change = change + step * (size / curvature)
        slope = slope - product * (size / curvature)
        divided = divide(slope)
        before, size = size, _inner(slope, divided)
        step = divided + step * (size / before)
    return Labelled(change, labels)


def _inner(one: torch.Tensor, other: torch.Tensor) -> float:
    return float((one.conj() * other).sum().real)


def _divider(
    view: View, number: int, values: Sequence[Labelled]
) -> Callable[[torch.Tensor], torch.Tensor]:
    """Division by the product of small matrices that E^H E is near to."""
    labels = values[number].labels
    plain = view.unweighted
    grams = plain.gram_parts(number, values)
    if not grams and plain.gram_size(number) <= _MOST_GRAM:
        grams = (plain.gram(number, values),)
    solvers: list[Callable[[torch.Tensor], torch.Tensor]] = []
    for gram in grams:
        bonds = tuple(k for k in labels if f"{k}'" in gram.labels)
        if math.prod(view.sizes[k] for k in bonds) > _MOST_BONDS:
            continue
        blocks = tuple(k for k in labels if k in gram.labels and k not in bonds)
        solvers.append(_solver(gram, blocks, bonds, labels))
    weights, shared, own = view.own_weights(number)
    solvers.append(_solver(weights, shared, own, labels))

    def divide(array: torch.Tensor) -> torch.Tensor:
        for solve in solvers:
            array = solve(array)
        return array

    return divide


def _solver(
    matrices: Labelled, blocks: Labels, bonds: Labels, labels: Labels
) -> Callable[[torch.Tensor], torch.Tensor]:
    """Solutions for matrices over some axes of an array, one for each index of its blocks."""
    array = matrices.ordered((*blocks, *(f"{k}'" for k in bonds), *bonds))
    size = math.prod(array.shape[len(blocks) + len(bonds) :])
    square = array.reshape(-1, size, size)
    largest = square.diagonal(dim1=-2, dim2=-1).real.amax().clamp_min(1e-300)
    eye = torch.eye(size, dtype=square.dtype)
    factor, info = torch.linalg.cholesky_ex((square + square.mH) / 2 + _DAMPING * largest * eye)
    if bool(info.any()):
        return lambda given: given
    order = (*blocks, *bonds, *(k for k in labels if k not in (*blocks, *bonds)))

    def solve(given: torch.Tensor) -> torch.Tensor:
        sorted_ = Labelled(given, labels).ordered(order)
        right = sorted_.reshape(len(factor), size, -1)
        found = torch.cholesky_solve(right, factor).reshape(sorted_.shape)
        return Labelled(found, order).ordered(labels)

    return solve
