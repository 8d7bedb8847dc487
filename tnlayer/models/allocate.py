"""Allocation: one option for each module, so that a budget is kept and the errors' sum is small."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

from ..errors import SpecError

# Options that take this share of what another takes count as as large.
_AS_LARGE = 0.8


@dataclass(frozen=True, slots=True)
class Option:
    """One way to have a module.

    Arguments:
        amount: what it takes of the budget.
        error: what it adds to the errors.
        number: of the way, among those of the module.
        seconds: predicted, of a call.
    """

    amount: float
    error: float
    number: int
    seconds: float = 0.0


@dataclass(frozen=True, slots=True)
class Step:
    """A module goes from one option to a smaller one.

    Arguments:
        module: its number.
        before, after: the options.
    """

    module: int
    before: Option
    after: Option

    @property
    def price(self) -> float:
        """Error for one unit of the budget that is saved."""
        return (self.after.error - self.before.error) / (self.before.amount - self.after.amount)


def allocate(options: Sequence[Sequence[Option]], most: float) -> list[Option]:
    """Choose an option for each module within a budget.

    The options of a module that matter are the corners of the lower convex hull of error over
    amount. From the largest on, the step that costs the least error for one unit saved is taken,
    until the budget is kept: for what is used then no other choice has a smaller sum of errors
    (Everett, Generalized Lagrange multiplier method, Operations Research 11, 1963). What is left of
    the budget is used up by single modules.

    Arguments:
        options: of each module, one at least.
        most: of the sum of amounts.

    Raises:
        SpecError: not even the smallest options keep the budget; says what they take.

    >>> ways = [Option(10, 0.0, 0), Option(4, 1.0, 1), Option(1, 5.0, 2)]
    >>> [one.number for one in allocate([ways, ways], 14)]
    [1, 0]
    """
    hulls = [lower_hull(ways) for ways in options]
    chosen = [hull[0] for hull in hulls]
    steps = sorted(
        (
            Step(module, before, after)
            for module, hull in enumerate(hulls)
            for before, after in pairwise(hull)
        ),
        key=lambda step: (step.price, step.module),
    )
    total = sum(option.amount for option in chosen)
    least = sum(min(option.amount for option in ways) for ways in options)
    if least > most:
        raise TooSmallError(least)
    for step in steps:
        if total <= most:
            break
        chosen[step.module] = step.after
        total += step.after.amount - step.before.amount
    return _used_up(options, chosen, most)


def fastest_alike(
    options: Sequence[Sequence[Option]],
    chosen: Sequence[Option],
    most: float,
    tolerance: float,
    bearable: Sequence[float],
) -> list[Option]:
    """In place of each option the fastest whose error is about as small, within the budget.

    It is one that uses about as much of the budget, for what is not used is given away for little
    time; unless all of these are too slow: then the one with the least error that is not.

    Arguments:
        options: of each module.
        chosen: one of each.
        most: of the sum of amounts.
        tolerance: by how much the error may be larger, as a share of that of the option chosen.
        bearable: seconds of each module, beyond which an option is too slow.

    >>> slow, fast = Option(4, 1.00, 0, seconds=5.0), Option(4, 1.01, 1, seconds=1.0)
    >>> [one.number for one in fastest_alike([[slow, fast]], [slow], 4, 0.02, [3.0])]
    [1]
    """
    found = list(chosen)
    left = most - sum(option.amount for option in chosen)
    for module, own in enumerate(chosen):
        alike = [
            option
            for option in options[module]
            if option.error <= (1 + tolerance) * own.error and option.amount - own.amount <= left
        ]
        as_large = [option for option in alike if option.amount >= _AS_LARGE * own.amount]
        # The one chosen stays where none is faster.
        taken = min((own, *as_large), key=lambda option: option.seconds)
        if taken.seconds > bearable[module]:
            quick = [option for option in alike if option.seconds <= bearable[module]]
            taken = min(quick, key=lambda option: option.error, default=taken)
        left -= taken.amount - own.amount
        found[module] = taken
    return found


class TooSmallError(SpecError):
    """A budget that nothing keeps.

    Arguments:
        least: what the smallest options take.
    """

    def __init__(self, least: float) -> None:
        super().__init__(f"the smallest options take {least:g}")
        self.least = least


def lower_hull(options: Sequence[Option]) -> list[Option]:
    """The corners of the lower convex hull of error over amount, from the option with the least
    error on: each step saves more of the budget and costs more for what it saves."""
    ordered = sorted(options, key=lambda one: (one.error, one.amount))
    hull: list[Option] = []
    for option in ordered:
        if hull and option.amount >= hull[-1].amount:
            continue
        while len(hull) > 1 and _slope(hull[-2], hull[-1]) >= _slope(hull[-1], option):
            hull.pop()
        hull.append(option)
    return hull


def _slope(first: Option, second: Option) -> float:
    return (second.error - first.error) / (first.amount - second.amount)


def _used_up(
    options: Sequence[Sequence[Option]], chosen: Sequence[Option], most: float
) -> list[Option]:
    """Options with less error that what is left of the budget allows, the best gain first."""
    found = list(chosen)
    while True:
        left = most - sum(option.amount for option in found)
        gains = [
            (found[module].error - option.error, -module, option)
            for module, ways in enumerate(options)
            for option in ways
            if option.error < found[module].error and option.amount - found[module].amount <= left
        ]
        if not gains:
            return found
        _, module, option = max(gains, key=lambda gain: gain[:2])
        found[-module] = option
