"""Monarch: block-diagonal matrices with a transposition between them."""

from __future__ import annotations

from collections.abc import Sequence

from ..errors import SpecError
from ..graph.argument_checks import shown
from ..graph.network import Network


def monarch(in_shape: Sequence[int], out_shape: Sequence[int]) -> Network:
    """Block-diagonal factors, one a leg: a block tensor train of rank 1 without its bonds.

    ::

        factor_1: blocks i0, turns i1 into j1          W = P L P^T R for two legs:
        factor_0: blocks j1, turns i0 into j0          R = factor_1, L = factor_0,
                                                       P swaps the two axes
        x: i0 i1 --factor_1--> i0 j1 --factor_0--> j0 j1 :y

    Legs that number the blocks are hyperedges.

    Parameters: the sum over factors k of in[0] ... in[k] out[k] ... out[-1].

    Source: Dao et al., Monarch: expressive structured matrices for efficient and accurate
    training, arXiv:2204.00595 (two factors); more factors as in Fu et al., Monarch Mixer,
    arXiv:2310.12109.

    Arguments:
        in_shape: size of each input leg, i0 the slowest in the features of x.
        out_shape: size of each output leg, as many as input legs.

    Raises:
        SpecError: the shapes differ in length or are empty.

    >>> monarch((8, 8), (8, 8)).parameter_count
    1024
    """
    are_shapes = isinstance(in_shape, Sequence) and isinstance(out_shape, Sequence)
    if not are_shapes or not in_shape or len(in_shape) != len(out_shape):
        msg = (
            f"monarch: got in_shape={shown(in_shape)}, out_shape={shown(out_shape)}; expected two "
            "sequences of leg sizes, equally long and not empty: each factor takes one leg of "
            "each. Factorize the features, or pad the shorter shape with 1s"
        )
        raise SpecError(msg)
    net = Network("Monarch")
    net.input(**{f"i{k}": size for k, size in enumerate(in_shape)})
    net.output(**{f"j{k}": size for k, size in enumerate(out_shape)})
    for k in reversed(range(len(in_shape))):
        blocks = [f"i{m}" for m in range(k)] + [f"j{m}" for m in range(k + 1, len(in_shape))]
        net.tensor(f"factor_{k}", [*blocks, f"j{k}", f"i{k}"])
    return net
