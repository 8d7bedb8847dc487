"""Tensor ring: a tensor train whose ends are joined."""

from __future__ import annotations

from collections.abc import Sequence

from ..errors import SpecError
from ..graph.argument_checks import shown
from ..graph.network import NearIdentity, Network


def tensor_ring(
    in_shape: Sequence[int],
    out_shape: Sequence[int],
    rank: int | Sequence[int],
    *,
    init: str | float | NearIdentity | None = None,
) -> Network:
    """Closed chain of cores, each with one input and one output leg.

    ::

              j0          j1          j2
              |           |           |
        +-- core_0 -b0- core_1 -b1- core_2 --+
        |     |           |           |      |
        |     i0          i1          i2     |
        +----------------- b2 ---------------+

    Parameters: the sum over cores k of r[k-1] in[k] out[k] r[k], where core 0 takes the last r.
    A ring of one core is a trace over its bond.

    Source: Zhao et al., Tensor ring decomposition, arXiv:1606.05535; in layers: Wang et al.,
    Wide compression: tensor ring nets, arXiv:1802.09052 (there a core a leg, here a core a pair).

    Arguments:
        in_shape: size of each input leg, i0 the slowest in the features of x.
        out_shape: size of each output leg, as many as input legs.
        rank: size of every bond, or one size a bond: as many as cores, the closing one last.

        init: of each core, as for :meth:`tnlayer.Network.tensor`.

    Raises:
        SpecError: the shapes differ in length or are empty, or rank has the wrong length.

    >>> tensor_ring((4, 4, 4), (4, 4, 4), rank=3).parameter_count
    432
    """
    are_shapes = isinstance(in_shape, Sequence) and isinstance(out_shape, Sequence)
    if not are_shapes or not in_shape or len(in_shape) != len(out_shape):
        msg = (
            f"tensor_ring: got in_shape={shown(in_shape)}, out_shape={shown(out_shape)}; expected "
            "two sequences of leg sizes, equally long and not empty: each core takes one leg of "
            "each. Factorize the features, or pad the shorter shape with 1s"
        )
        raise SpecError(msg)
    cores = len(in_shape)
    ranks = list(rank) if isinstance(rank, Sequence) else [rank] * cores
    if len(ranks) != cores:
        msg = (
            f"tensor_ring: rank has {len(ranks)} entries, expected {cores}, "
            f"one for each bond of {cores} cores. Give that many, or one int for all"
        )
        raise SpecError(msg)
    net = Network("tensor ring")
    net.input(**{f"i{k}": size for k, size in enumerate(in_shape)})
    net.output(**{f"j{k}": size for k, size in enumerate(out_shape)})
    net.bond(**{f"b{k}": size for k, size in enumerate(ranks)})
    for k in range(cores):
        net.tensor(f"core_{k}", [f"b{(k - 1) % cores}", f"i{k}", f"j{k}", f"b{k}"], init=init)
    return net
