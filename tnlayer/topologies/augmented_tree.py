"""Augmented tree: a binary tree behind one row of disentanglers."""

from __future__ import annotations

from ..errors import SpecError
from ..graph.argument_checks import shown
from ..graph.network import Network


def augmented_tree(legs: int, dim: int, bond: int) -> Network:
    """Binary tree of isometries over sites that disentanglers have acted on once.

    ::

               up (bond)    up (bond)
               |            |              the tree goes on above, as in
         j --[isometry]  j --[isometry]    tnlayer.topologies.tree
               |    |        |    |
               |    [disentangler]  |      between pairs that the tree joins last
               |    |        |    |
               i0   i1       i2   i3

    Disentanglers act on the sites (1, 2), (3, 4), ..., once, before the first level of the
    tree: they join what the tree would part, and cost less than those of a MERA on all levels.

    Parameters: those of ``tree(legs, dim, bond)`` and (legs - 1) // 2 disentanglers of dim^4.

    Source: Felser, Notarnicola and Montangero, Efficient tensor network ansatz for high-dimensional
    quantum many-body problems, arXiv:2011.08200.

    Arguments:
        legs: number of input legs, and of output legs; at least 2.
        dim: size of each input and output leg.
        bond: size of each leg that goes up.

    Raises:
        SpecError: legs is below 2 or above 2000.

    >>> augmented_tree(12, dim=2, bond=2).parameter_count
    256
    """
    if not isinstance(legs, int) or not 2 <= legs <= 2000:
        msg = f"augmented_tree: got legs={shown(legs)}, expected a whole number from 2 to 2000"
        raise SpecError(msg)
    net = Network("augmented tree")
    sites, outputs, level = list(net.input([dim] * legs)), list[str](), 0
    for k in range((legs - 1) // 2):
        pair = sites[2 * k + 1 : 2 * k + 3]
        sites[2 * k + 1 : 2 * k + 3] = net.tensor(
            f"disentangler_{k}", pair, out=(dim, dim), isometry=pair
        )
    while len(sites) > 2:
        above: list[str] = []
        for k in range(len(sites) // 2):
            pair = sites[2 * k : 2 * k + 2]
            out, up = net.tensor(f"isometry_{level}_{k}", pair, out=(dim, bond), isometry=pair)
            outputs.append(out)
            above.append(up)
        sites = above + sites[2 * len(above) :]
        level += 1
    outputs += net.tensor("top", sites, out=(dim, dim), isometry=sites, init="scaled")
    net.output(outputs)
    return net
