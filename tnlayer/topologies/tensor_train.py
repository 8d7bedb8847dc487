"""Tensor train: a chain of cores, one pair of legs each."""

from __future__ import annotations

from collections.abc import Sequence

from ..errors import SpecError
from ..graph.argument_checks import shown
from ..graph.network import NearIdentity, Network


def tensor_train(
    in_shape: Sequence[int],
    out_shape: Sequence[int],
    rank: int | Sequence[int],
    *,
    init: str | float | NearIdentity | None = None,
) -> Network:
    """Chain of cores, each with one input and one output leg (a matrix product operator).

    ::

          j0         j1         j2
          |          |          |
        core_0 -b0- core_1 -b1- core_2
          |          |          |
          i0         i1         i2

    Parameters: the sum over cores k of r[k-1] in[k] out[k] r[k], with r = 1 at both ends.

    Source: Oseledets, Tensor-train decomposition, SIAM J. Sci. Comput. 33 (2011); as a layer:
    Novikov et al., Tensorizing neural networks, arXiv:1509.06569.

    Arguments:
        in_shape: size of each input leg, i0 the slowest in the features of x.
        out_shape: size of each output leg, as many as input legs.
        rank: size of every bond, or one size a bond: one fewer than cores.

        init: of each core, as for :meth:`tnlayer.Network.tensor`.

    Raises:
        SpecError: the shapes differ in length or are empty, or rank has the wrong length.

    >>> tensor_train((16, 16, 16), (16, 16, 16), rank=8).parameter_count
    20480
    """
    are_shapes = isinstance(in_shape, Sequence) and isinstance(out_shape, Sequence)
    if not are_shapes or not in_shape or len(in_shape) != len(out_shape):
        msg = (
            f"tensor_train: got in_shape={shown(in_shape)}, out_shape={shown(out_shape)}; expected "
            "two sequences of leg sizes, equally long and not empty: each core takes one leg of "
            "each. Factorize the features, or pad the shorter shape with 1s"
        )
        raise SpecError(msg)
    cores = len(in_shape)
    ranks = list(rank) if isinstance(rank, Sequence) else [rank] * (cores - 1)
    if len(ranks) != cores - 1:
        msg = (
            f"tensor_train: rank has {len(ranks)} entries, expected {cores - 1}, "
            f"one for each bond between {cores} cores. Give that many, or one int for all"
        )
        raise SpecError(msg)
    net = Network("tensor train")
    net.input(**{f"i{k}": size for k, size in enumerate(in_shape)})
    net.output(**{f"j{k}": size for k, size in enumerate(out_shape)})
    net.bond(**{f"b{k}": size for k, size in enumerate(ranks)})
    for k in range(cores):
        left = [f"b{k - 1}"] if k > 0 else []
        right = [f"b{k}"] if k < cores - 1 else []
        net.tensor(f"core_{k}", [*left, f"i{k}", f"j{k}", *right], init=init)
    return net
