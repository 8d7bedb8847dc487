"""BLAST: blocks of a matrix that share bases and differ in a diagonal."""

from __future__ import annotations

from ..errors import SpecError
from ..graph.argument_checks import shown
from ..graph.network import Network


def blast(in_features: int, out_features: int, blocks: int, rank: int) -> Network:
    """Block-level adaptive structured matrix: block (p, q) is U_p diag(s_pq) V_q^T.

    ::

        y: p o                     p, q: number of the block, 0 to blocks - 1
           |  |                    o: out_features / blocks, i: in_features / blocks
          [U]-+-- r --+-[V]        r: rank, a leg on all three tensors
           |   \\     /  | |
           p    [S_pqr] q i :x

    W[p o, q i] = sum over r of U[p, o, r] S[p, q, r] V[q, i, r].

    Parameters: rank (in_features + out_features + blocks^2).

    Source: Lee et al., BLAST: Block-level adaptive structured matrices for efficient deep neural
    network inference, arXiv:2410.21262.

    Arguments:
        in_features: features of x, a multiple of blocks.
        out_features: features of y, a multiple of blocks.
        blocks: blocks in a row and in a column.
        rank: size of the leg r.

    Raises:
        SpecError: blocks is no whole number from 1 up, or does not divide the features.

    >>> blast(64, 32, blocks=4, rank=3).parameter_count
    336
    """
    sizes = (in_features, out_features, blocks)
    are_whole = all(isinstance(size, int) and size > 0 for size in sizes)
    if not are_whole or in_features % blocks or out_features % blocks:
        msg = (
            f"blast: got in_features={shown(in_features)}, out_features={shown(out_features)}, "
            f"blocks={shown(blocks)}, expected whole numbers from 1 up, and blocks a divisor of "
            "both features"
        )
        raise SpecError(msg)
    net = Network("BLAST")
    net.input(q=blocks, i=in_features // blocks)
    net.output(p=blocks, o=out_features // blocks)
    net.bond(r=rank)
    net.tensor("V", "q i r")
    net.tensor("S", "p q r")
    net.tensor("U", "p o r")
    return net
