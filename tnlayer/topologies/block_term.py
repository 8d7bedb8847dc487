"""Block term: a sum of Tucker terms of equal shape."""

from __future__ import annotations

from collections.abc import Sequence

from ..errors import SpecError
from ..graph.argument_checks import shown
from ..graph.network import Network


def block_term(
    in_shape: Sequence[int], out_shape: Sequence[int], terms: int, rank: int | Sequence[int]
) -> Network:
    """Sum of Tucker networks, stacked along one hyperedge t that every tensor holds.

    ::

        i0 --in_0 --a0--+------+--c0-- out_0-- j0
              :         | core |         :
        i1 --in_1 --a1--+------+--c1-- out_1-- j1
              :            :             :
              +.....t......+......t......+       t numbers the terms

    Parameters: terms x (the product of all ranks, plus the sum over legs of size x rank).

    Source: De Lathauwer, Decompositions of a higher-order tensor in block terms, part II,
    SIAM J. Matrix Anal. Appl. 30 (2008); in layers: Ye et al., Learning compact recurrent neural
    networks with block-term tensor decomposition, arXiv:1712.05134.

    Arguments:
        in_shape: size of each input leg, i0 the slowest in the features of x.
        out_shape: size of each output leg; may have another length than in_shape.
        terms: number of Tucker terms.
        rank: size of every bond, or one size a leg: the input legs' first, then the output legs'.

    Raises:
        SpecError: a shape is empty, or rank has the wrong length.

    >>> block_term((8, 8), (8, 8), terms=2, rank=3).parameter_count
    354
    """
    are_shapes = isinstance(in_shape, Sequence) and isinstance(out_shape, Sequence)
    if not are_shapes or not in_shape or not out_shape:
        msg = (
            f"block_term: got in_shape={shown(in_shape)}, out_shape={shown(out_shape)}; expected "
            "two sequences of leg sizes, not empty. Give (1,) for a port of one feature"
        )
        raise SpecError(msg)
    count = len(in_shape) + len(out_shape)
    ranks = list(rank) if isinstance(rank, Sequence) else [rank] * count
    if len(ranks) != count:
        msg = (
            f"block_term: rank has {len(ranks)} entries, expected {count}, one for each of "
            f"{len(in_shape)} input and {len(out_shape)} output legs. "
            "Give that many, or one int for all"
        )
        raise SpecError(msg)
    net = Network("block term")
    net.input(**{f"i{k}": size for k, size in enumerate(in_shape)})
    net.output(**{f"j{k}": size for k, size in enumerate(out_shape)})
    in_bonds = [f"a{k}" for k in range(len(in_shape))]
    out_bonds = [f"c{k}" for k in range(len(out_shape))]
    net.bond(t=terms, **dict(zip(in_bonds + out_bonds, ranks, strict=True)))
    for k, bond in enumerate(in_bonds):
        net.tensor(f"in_{k}", ["t", f"i{k}", bond])
    net.tensor("core", ["t", *in_bonds, *out_bonds])
    for k, bond in enumerate(out_bonds):
        net.tensor(f"out_{k}", ["t", bond, f"j{k}"])
    return net
