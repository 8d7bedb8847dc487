"""Tucker: one factor a leg around a small dense core."""

from __future__ import annotations

from collections.abc import Sequence

from ..errors import SpecError
from ..graph.argument_checks import shown
from ..graph.network import Network


def tucker(in_shape: Sequence[int], out_shape: Sequence[int], rank: int | Sequence[int]) -> Network:
    """Dense core in the middle, one factor matrix on each input and output leg.

    ::

        i0 --in_0 --a0--+------+--c0-- out_0-- j0
                        | core |
        i1 --in_1 --a1--+------+--c1-- out_1-- j1

    Parameters: the product of all ranks, plus the sum over legs of size x rank.

    Source: Tucker, Some mathematical notes on three-mode factor analysis, Psychometrika 31 (1966);
    Kolda and Bader, Tensor decompositions and applications, SIAM Review 51 (2009), section 4.

    Arguments:
        in_shape: size of each input leg, i0 the slowest in the features of x.
        out_shape: size of each output leg; may have another length than in_shape.
        rank: size of every bond, or one size a leg: the input legs' first, then the output legs'.

    Raises:
        SpecError: a shape is empty, or rank has the wrong length.

    >>> tucker((8, 8), (8, 8), rank=3).parameter_count
    177
    """
    are_shapes = isinstance(in_shape, Sequence) and isinstance(out_shape, Sequence)
    if not are_shapes or not in_shape or not out_shape:
        msg = (
            f"tucker: got in_shape={shown(in_shape)}, out_shape={shown(out_shape)}; expected two "
            "sequences of leg sizes, not empty. Give (1,) for a port of one feature"
        )
        raise SpecError(msg)
    count = len(in_shape) + len(out_shape)
    ranks = list(rank) if isinstance(rank, Sequence) else [rank] * count
    if len(ranks) != count:
        msg = (
            f"tucker: rank has {len(ranks)} entries, expected {count}, one for each of "
            f"{len(in_shape)} input and {len(out_shape)} output legs. "
            "Give that many, or one int for all"
        )
        raise SpecError(msg)
    net = Network("Tucker")
    net.input(**{f"i{k}": size for k, size in enumerate(in_shape)})
    net.output(**{f"j{k}": size for k, size in enumerate(out_shape)})
    in_bonds = [f"a{k}" for k in range(len(in_shape))]
    out_bonds = [f"c{k}" for k in range(len(out_shape))]
    net.bond(**dict(zip(in_bonds + out_bonds, ranks, strict=True)))
    for k, bond in enumerate(in_bonds):
        net.tensor(f"in_{k}", [f"i{k}", bond])
    net.tensor("core", in_bonds + out_bonds)
    for k, bond in enumerate(out_bonds):
        net.tensor(f"out_{k}", [bond, f"j{k}"])
    return net
