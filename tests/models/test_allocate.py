"""allocate: against all choices by brute force."""

from __future__ import annotations

import itertools
import random

import pytest

from tnlayer.models.allocate import (
    Option,
    TooSmallError,
    allocate,
    fastest_alike,
    lower_hull,
)


def options(draw: random.Random, count: int) -> list[Option]:
    """Random ways to have a module, dense first."""
    found = [Option(100.0, 0.0, 0)]
    for number in range(1, count):
        found.append(Option(draw.uniform(1, 100), draw.uniform(0, 10), number))
    return found


def best(ways: list[list[Option]], most: float) -> float:
    """The smallest sum of errors within a budget."""
    return min(
        sum(one.error for one in chosen)
        for chosen in itertools.product(*ways)
        if sum(one.amount for one in chosen) <= most
    )


@pytest.mark.parametrize("seed", range(40))
def test_is_the_best_for_what_it_uses(seed: int) -> None:
    """The budget is kept; the sum of errors is at most the best plus one step's, which is the gap
    that greedy choices on hulls have."""
    draw = random.Random(seed)
    ways = [options(draw, 5) for _ in range(4)]
    least = sum(min(one.amount for one in of_one) for of_one in ways)
    most = draw.uniform(least, 400)
    chosen = allocate(ways, most)
    assert [one in of_one for one, of_one in zip(chosen, ways, strict=True)] == [True] * 4
    assert sum(one.amount for one in chosen) <= most
    error = sum(one.error for one in chosen)
    steps = [
        after.error - before.error
        for of_one in ways
        for before, after in itertools.pairwise(lower_hull(of_one))
    ]
    assert best(ways, most) <= error + 1e-12
    assert error <= best(ways, most) + max(steps, default=0.0) + 1e-12


def test_hull() -> None:
    """Corners only, each step at a higher price."""
    ways = [Option(10, 0, 0), Option(9, 5, 1), Option(5, 1, 2), Option(5, 2, 3), Option(1, 9, 4)]
    assert [one.number for one in lower_hull(ways)] == [0, 2, 4]


def test_too_small() -> None:
    """What no choice keeps is told with the least that there is."""
    with pytest.raises(TooSmallError) as caught:
        allocate([[Option(10, 0, 0), Option(4, 1, 1)]], 3)
    assert caught.value.least == 4
    assert allocate([], 0) == []


def test_the_fastest_of_those_alike() -> None:
    """Time decides between errors that are alike; what is slower than dense stays only where
    nothing else keeps the budget."""
    dense = Option(100, 0.0, 0, seconds=3.0)
    train = Option(8, 0.95, 1, seconds=4.0)
    matrix = Option(8, 0.96, 2, seconds=1.0)
    small = Option(2, 0.965, 3, seconds=0.5)
    ways = [[dense, train, matrix, small]]
    assert fastest_alike(ways, [train], 8, 0.04, [3.0]) == [matrix]
    # None as large is faster than dense: a smaller one is.
    assert fastest_alike([[dense, train, small]], [train], 8, 0.04, [3.0]) == [small]
    # None is alike, or within the budget.
    assert fastest_alike(ways, [train], 8, 0.001, [3.0]) == [train]
    wide = Option(9, 0.95, 1, seconds=1.0)
    assert fastest_alike([[dense, train, wide]], [train], 8, 0.04, [3.0]) == [train]
    assert fastest_alike([[dense, train, wide]], [train], 9, 0.04, [3.0]) == [wide]
