"""Butterfly: the sparsity of the fast Fourier transform with free entries."""

from __future__ import annotations

from ..errors import SpecError
from ..graph.argument_checks import shown
from ..graph.network import Network


def butterfly(features: int) -> Network:
    """Product of log2(n) sparse factors, each of n/2 two-by-two blocks, for n = features.

    ::

        x: i0 i1 i2 --factor_0--> i0 i1 j2 --factor_1--> i0 j1 j2 --factor_2--> j0 j1 j2 :y

        factor_s mixes features whose indices differ by 2^s: one leg of size 2,
        with a block of its own for each index of the other legs (hyperedges).

    Parameters: 2 n log2(n).

    Source: Dao et al., Learning fast algorithms for linear transforms using butterfly
    factorizations, arXiv:1903.05895 (without the permutation).

    Arguments:
        features: size of x and of y; a power of two, at least 2.

    Raises:
        SpecError: features is not a power of two, or below 2.

    >>> butterfly(8).parameter_count
    48
    """
    if not isinstance(features, int) or features < 2 or features & (features - 1):
        msg = (
            f"butterfly: got features={shown(features)}, expected a power of two, at least 2. "
            "Pad x with zeros up to the next power of two"
        )
        raise SpecError(msg)
    legs = features.bit_length() - 1
    net = Network("butterfly")
    net.input(**{f"i{k}": 2 for k in range(legs)})
    net.output(**{f"j{k}": 2 for k in range(legs)})
    for stage in range(legs):
        k = legs - 1 - stage
        blocks = [f"i{m}" for m in range(k)] + [f"j{m}" for m in range(k + 1, legs)]
        net.tensor(f"factor_{stage}", [*blocks, f"j{k}", f"i{k}"])
    return net
