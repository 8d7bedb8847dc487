"""Low rank: two matrices through a bottleneck."""

from __future__ import annotations

from ..graph.network import Network


def low_rank(in_features: int, out_features: int, rank: int) -> Network:
    """Product of two matrices, W = U V.

    ::

        j -- U --r-- V -- i

    Parameters: rank x (in_features + out_features).

    Source: Eckart and Young, The approximation of one matrix by another of lower rank,
    Psychometrika 1 (1936); in layers: Sainath et al., Low-rank matrix factorization for deep
    neural network training with high-dimensional output targets, ICASSP 2013.

    Arguments:
        in_features: size of the input leg i.
        out_features: size of the output leg j.
        rank: size of the bond r.

    Raises:
        SpecError: a size is not a positive integer.

    >>> low_rank(64, 32, rank=4).parameter_count
    384
    """
    net = Network("low rank")
    net.input(i=in_features)
    net.output(j=out_features)
    net.bond(r=rank)
    net.tensor("V", "r i")
    net.tensor("U", "j r")
    return net
