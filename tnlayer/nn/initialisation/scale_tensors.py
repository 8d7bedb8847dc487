"""The scales of free tensors: by how much each is multiplied, so that networks reach their gains.

All in logarithms. A tensor that a value is made of k times counts k times in its size.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch

from ...ir.plan import Plan
from .log_scale_run import Size

# Values between these multiples of a dtype's largest and smallest numbers are left as they are.
_MARGIN = math.log(64)
# A balance weighs a tensor's own size less than that of a value, and what is out of range more.
_OWN_WEIGHT, _GAIN_WEIGHT, _ROUNDS = 0.3, 1e3, 8


@dataclass(frozen=True, slots=True)
class Range:
    """Logarithms of the smallest normal and the largest number of a dtype."""

    low: float
    high: float


@dataclass(frozen=True, slots=True)
class Wanted:
    """What a network's free tensors have to do.

    Arguments:
        powers: how often each free tensor is used.
        log_factor: logarithm of the product of their scales, each to its power.
    """

    powers: Mapping[str, int]
    log_factor: float


def solve(wanted: Sequence[Wanted]) -> dict[str, float]:
    """Logarithm of each free tensor's scale: equal ones in a network where nothing speaks against.

    Where networks share tensors there may be no solution: then the best one in the least squares.
    """
    names = list(dict.fromkeys(name for one in wanted for name in one.powers))
    if not names:
        return {}
    matrix = np.array([[one.powers.get(name, 0) for name in names] for one in wanted], float)
    # Of all solutions the one with the least sum of (uses x square): equal in a single network.
    weight = np.sqrt(matrix.sum(0))
    found = np.linalg.lstsq(matrix / weight, np.array([one.log_factor for one in wanted]))[0]
    return dict(zip(names, (found / weight).tolist(), strict=True))


@dataclass(frozen=True, slots=True)
class Sized:
    """A network's plan with the sizes of its values while the free tensors have variance 1.

    Arguments:
        plan: a forward plan.
        names: the user's name of each parameter of the plan, in the plan's order.
        sizes: by the plan's name of a value.
    """

    plan: Plan
    names: tuple[str, ...]
    sizes: Mapping[str, Size]

    def shifts(self, scales: Mapping[str, float]) -> dict[str, float]:
        """By which logarithm the scales of free tensors change each value that has some."""
        shifts = {
            value.name: scales[name]
            for value, name in zip(self.plan.parameters, self.names, strict=True)
            if name in scales
        }
        for step in self.plan.steps:
            found = [shifts[o.value.name] for o in step.operands if o.value.name in shifts]
            if found:
                shifts[step.result.name] = sum(found)
        return shifts

    def powers(self, free: Sequence[str]) -> dict[str, Counter[str]]:
        """How often each value is made of each free tensor."""
        wanted = set(free)
        powers = {
            value.name: Counter([name])
            for value, name in zip(self.plan.parameters, self.names, strict=True)
            if name in wanted
        }
        for step in self.plan.steps:
            found = [powers[o.value.name] for o in step.operands if o.value.name in powers]
            if found:
                powers[step.result.name] = sum(found[1:], found[0])
        return powers

    def out_of(self, within: Range, scales: Mapping[str, float]) -> dict[str, float]:
        """The values that are out of a range, with the logarithm of the size that they have.

        Those that no scale changes come first: they are the cause of the others.
        """
        shifts = self.shifts(scales)
        made = {step.result.name for step in self.plan.steps}
        found: dict[str, float] = {}
        for name, size in self.sizes.items():
            if name not in shifts and name not in made:
                continue  # a port, or entries that the user gave
            shift = shifts.get(name, 0.0)
            mean, peak = size.mean_square / 2 + shift, size.peak + shift
            if mean > within.high or -math.inf < peak < within.low:
                found[name] = mean
        return dict(sorted(found.items(), key=lambda item: item[0] in shifts))


def range_of(dtype: torch.dtype) -> Range:
    """The range of a dtype."""
    info = torch.finfo(dtype)
    return Range(math.log(info.smallest_normal), math.log(info.max))


def narrowed(within: Range) -> Range:
    """A range with room to its ends."""
    return Range(within.low + _MARGIN, within.high - _MARGIN)


def balance(
    wanted: Sequence[Wanted],
    sized: Sequence[Sized],
    scales: Mapping[str, float],
    within: Range,
) -> dict[str, float]:
    """Scales with the same products that keep the values of plans near 1, where they can be kept.

    Arguments:
        wanted: what the networks' free tensors have to do.
        sized: the networks' plans.
        scales: equal ones, to start from.
        within: the range to keep to.
    """
    names = list(scales)
    place = {name: column for column, name in enumerate(names)}
    rows: list[np.ndarray] = []
    targets: list[float] = []
    for one in sized:
        for value, powers in one.powers(names).items():
            size = one.sizes[value]
            if math.isfinite(size.mean_square):
                row = np.zeros(len(names))
                for name, power in powers.items():
                    row[place[name]] = power
                rows.append(row)
                targets.append(-size.mean_square / 4 - size.peak / 2)
    start = np.array([scales[name] for name in names])
    gains = np.array([[one.powers.get(name, 0) for name in names] for one in wanted], float)
    factors = gains @ start
    matrix = np.vstack((np.array(rows), np.eye(len(names)), gains))
    target = np.concatenate((targets, start, factors))
    of_values = np.ones(len(rows))
    rest = [_OWN_WEIGHT] * len(names) + [_GAIN_WEIGHT] * len(gains)
    best, least = start, math.inf
    for _ in range(_ROUNDS):
        weight = np.concatenate((of_values, rest))
        weighted = matrix * weight[:, None]
        found = np.linalg.solve(weighted.T @ weighted, weighted.T @ (target * weight))
        sizes = matrix[: len(rows)] @ found - target[: len(rows)]
        beyond = np.maximum(sizes - within.high, within.low - sizes).clip(min=0)
        if beyond.max(initial=0) < least:
            best, least = found, beyond.max(initial=0)
        if not least:
            break
        of_values = of_values * (1 + beyond)
    # The products are exact again.
    uses = np.sqrt(gains.sum(0).clip(min=1))
    best = best + np.linalg.lstsq(gains / uses, factors - gains @ best)[0] / uses
    return dict(zip(names, best.tolist(), strict=True))
