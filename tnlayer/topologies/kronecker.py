"""Kronecker: a product of small matrices, or a sum of such products."""

from __future__ import annotations

from collections.abc import Sequence

from ..errors import SpecError
from ..graph.argument_checks import shown
from ..graph.network import Network


def kronecker(in_shape: Sequence[int], out_shape: Sequence[int], rank: int = 1) -> Network:
    """Sum of Kronecker products: one factor a pair of legs, joined by one hyperedge.

    ::

          j0         j1         j2
          |          |          |
        factor_0   factor_1   factor_2
          |  :       |  :       |  :
          i0 :       i1 :       i2 :
             +....r.....+....r.....+       r numbers the products

    Parameters: rank x (the sum over pairs of in x out).

    Source: Van Loan and Pitsianis, Approximation with Kronecker products (1993); in layers:
    Thakker et al., Compressing RNNs for IoT devices by 15-38x using Kronecker products,
    arXiv:1906.02876.

    Arguments:
        in_shape: size of each input leg, i0 the slowest in the features of x; at least two legs.
        out_shape: size of each output leg, as many as input legs.
        rank: number of Kronecker products that are summed: the size of the one bond r.

    Raises:
        SpecError: the shapes differ in length or have fewer than two legs.

    >>> kronecker((8, 4), (4, 4)).parameter_count
    48
    """
    are_shapes = isinstance(in_shape, Sequence) and isinstance(out_shape, Sequence)
    if not are_shapes or len(in_shape) < 2 or len(in_shape) != len(out_shape):
        msg = (
            f"kronecker: got in_shape={shown(in_shape)}, out_shape={shown(out_shape)}; expected "
            "two sequences of leg sizes, equally long, of at least two: each factor takes one leg "
            "of each. Factorize the features, or pad the shorter shape with 1s"
        )
        raise SpecError(msg)
    net = Network("Kronecker")
    net.input(**{f"i{k}": size for k, size in enumerate(in_shape)})
    net.output(**{f"j{k}": size for k, size in enumerate(out_shape)})
    net.bond(r=rank)
    for k in range(len(in_shape)):
        net.tensor(f"factor_{k}", ["r", f"j{k}", f"i{k}"])
    return net
