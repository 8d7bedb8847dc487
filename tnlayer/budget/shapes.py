"""Leg shapes: sizes of a port as a product of balanced legs, padded where they do not factor."""

from __future__ import annotations

import math
from collections.abc import Iterator
from functools import lru_cache

# A shape is poor if its largest leg is above this multiple of the geometric mean of all.
MAX_IMBALANCE = 2.0

# How far to count up for a size that factors well, and up to which leg to list smooth sizes.
_STEPS = 4096
_SMOOTH = 32


def imbalance(shape: tuple[int, ...]) -> float:
    """Largest leg over the geometric mean of all legs; 1 if all are equal.

    >>> imbalance((8, 8)), round(imbalance((16, 4)), 6)
    (1.0, 2.0)
    """
    return max(shape) / math.prod(shape) ** (1 / len(shape))


def is_poor(shape: tuple[int, ...]) -> bool:
    """Whether a shape is badly balanced: padding to another size is better.

    The largest leg is above twice the geometric mean, or a leg has size 1 although the features
    are enough for 2 in each.

    >>> is_poor((8, 16)), is_poor((4099, 1)), is_poor((3, 3, 1))
    (False, True, True)
    """
    idle = min(shape) == 1 and math.prod(shape) >= 2 ** len(shape)
    return idle or imbalance(shape) > MAX_IMBALANCE + 1e-9


@lru_cache(maxsize=65536)
def balanced(features: int, legs: int, largest: int | None = None) -> tuple[int, ...] | None:
    """The factorization into ``legs`` factors with the smallest largest factor, descending.

    Among equals the second largest is the smallest, and so on. None if there is none with factors
    up to ``largest``.

    >>> balanced(1024, 3), balanced(1000, 3), balanced(13, 2), balanced(13, 2, largest=12)
    ((16, 8, 8), (10, 10, 10), (13, 1), None)
    """
    bound = features if largest is None else largest
    if legs == 1:
        return (features,) if features <= bound else None
    for factor in _divisors(features):
        if factor > bound:
            return None
        if factor**legs < features:
            continue
        rest = balanced(features // factor, legs - 1, factor)
        if rest is not None:
            return (factor, *rest)
    return None


def padded_shape(features: int, legs: int) -> tuple[int, ...]:
    """A balanced shape of at least so many features, and of as few more as possible.

    >>> padded_shape(1000, 2), padded_shape(4099, 2), padded_shape(4099, 3)
    ((40, 25), (82, 50), (19, 18, 12))
    """
    for size in _sizes_from(features, legs):
        # 2 in each leg fits into twice the features at the latest, so no leg need be idle.
        shape = balanced(size, legs)
        if shape is not None and not is_poor(shape):
            return shape
    return (ceiling_root(features, legs),) * legs


def ceiling_root(number: int, degree: int) -> int:
    """The smallest whole number whose power is at least ``number``.

    >>> ceiling_root(1000, 3), ceiling_root(1001, 3), ceiling_root(1, 5)
    (10, 11, 1)
    """
    root = max(1, round(number ** (1 / degree)))
    while root**degree >= number and root > 1:
        root -= 1
    while root**degree < number:
        root += 1
    return root


def splits(features: int) -> Iterator[tuple[int, int]]:
    """All ways to write a size as two legs.

    >>> list(splits(6))
    [(1, 6), (2, 3), (3, 2), (6, 1)]
    """
    for factor in _divisors(features):
        yield factor, features // factor


def _sizes_from(features: int, legs: int) -> Iterator[int]:
    """Sizes that may factor well, ascending: those next to it, then smooth ones."""
    largest = int(MAX_IMBALANCE * (2 * features) ** (1 / legs)) + 1
    primes = _primes(min(largest, _STEPS))
    for size in range(features, features + _STEPS):
        if largest > _STEPS or _without(size, primes) == 1:
            yield size
    if largest <= _SMOOTH:
        smooth = [size for size in _smooth(primes, 2 * features) if size >= features + _STEPS]
        yield from sorted(smooth)


def _without(number: int, primes: tuple[int, ...]) -> int:
    """A number without these prime factors."""
    for prime in primes:
        while number % prime == 0:
            number //= prime
        if number == 1:
            break
    return number


def _smooth(primes: tuple[int, ...], below: int) -> list[int]:
    """All products of the primes that are below a bound."""
    found = [1]
    for prime in primes:
        powers = found
        while powers:
            powers = [number * prime for number in powers if number * prime < below]
            found = found + powers
    return found


@lru_cache(maxsize=64)
def _primes(largest: int) -> tuple[int, ...]:
    found: list[int] = []
    for number in range(2, largest + 1):
        if all(number % prime for prime in found if prime * prime <= number):
            found.append(number)
    return tuple(found)


@lru_cache(maxsize=4096)
def _divisors(number: int) -> tuple[int, ...]:
    """All divisors, ascending, from the prime factors."""
    found = [1]
    rest, prime = number, 2
    while rest > 1:
        if prime * prime > rest:
            prime = rest
        powers = found
        while rest % prime == 0:
            rest //= prime
            powers = [divisor * prime for divisor in powers]
            found = found + powers
        prime += 1
    return tuple(sorted(found))
