"""The best multiple of what was found: no fit is worse than zero."""

from __future__ import annotations

from collections import Counter

import torch

from .problem import Problem, Stored


def rescaled(problem: Problem, stored: Stored) -> Stored:
    """The arrays that give the multiple of the networks' sum which is nearest to the target, as far
    as arrays whose scale is free can give it; the same arrays where they cannot."""
    made = problem.dense(stored)
    square = problem.target.overlap(made, made)
    overlap = problem.target.overlap(made, problem.target.dense)
    if not (0 < abs(square) < float("inf") and abs(overlap) < float("inf")):
        return stored
    factor = overlap / square
    found = _multiple(problem, stored, factor if problem.dtype.is_complex else factor.real)
    return stored if found is None else found


def _multiple(problem: Problem, stored: Stored, factor: complex) -> Stored | None:
    counts = [Counter(use.name for use in net.uses) for net in problem.nets]
    conjugated = {use.name for net in problem.nets for use in net.uses if use.conj}
    names = [name for name in problem.free if problem.can_scale(name)]
    # One array that stands equally often in all networks, best once.
    everywhere = [n for n in names if counts[0][n] and len({count[n] for count in counts}) == 1]
    for name in sorted(everywhere, key=lambda name: counts[0][name]):
        root = _root(factor, counts[0][name], is_conj=name in conjugated)
        if root is not None:
            return {**stored, name: stored[name] * _as_number(stored[name], root)}
    # Else an array in each that no other has.
    found = dict(stored)
    for count in counts:
        own = [name for name in names if count[name] and problem.uses[name] == count[name]]
        for name in sorted(own, key=lambda name: count[name]):
            root = _root(factor, count[name], is_conj=name in conjugated)
            if root is not None:
                found[name] = stored[name] * _as_number(stored[name], root)
                break
        else:
            return None
    return found


def _root(factor: complex, power: int, *, is_conj: bool) -> complex | None:
    """What an array that stands so often is multiplied by; None: no number will do."""
    if power == 1:
        return factor.conjugate() if is_conj else factor
    real = factor.real if abs(factor.imag) <= 1e-12 * abs(factor) else 0.0
    # Of an even power no real multiple is negative: then the nearest is zero.
    if real < 0 and power % 2:
        return -((-real) ** (1 / power))
    return max(0.0, factor.real) ** (1 / power)


def _as_number(array: torch.Tensor, number: complex) -> complex | float:
    return number if array.is_complex() else number.real
