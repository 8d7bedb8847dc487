"""MERA: a binary tree with disentanglers between the branches."""

from __future__ import annotations

from ..errors import SpecError
from ..graph.argument_checks import shown
from ..graph.network import NearIdentity, Network


def mera(
    legs: int = 12,
    dim: int = 2,
    bond: int = 2,
    fix_first_level: bool = False,
    *,
    init: str | NearIdentity | None = None,
) -> Network:
    """Binary multiscale entanglement renormalization ansatz with open boundary.

    ::

        j  up      j  up       j  up          j: an output leg (dim)
        |  |       |  |        |  |           up: a leg to the next level (bond),
        [iso]      [iso]       [iso]              which is built in the same way
        |   |      |   |       |   |
        |   [disent]   [disent]    |
        |   |      |   |      |    |
        i0  i1     i2  i3     i4   i5

    On each level disentanglers act on the sites (1,2), (3,4), ..., then isometries on (0,1),
    (2,3), .... The first level's disentanglers raise size dim to bond, higher ones keep bond.
    A left-over site passes up untouched. With two sites left the top tensor gives the last two
    outputs. The outputs stand in the order of their making: level by level, left to right, the
    top's last. All tensors start as Haar-random isometries from their legs in. Where bond is dim
    all are square and the whole map is orthogonal; else, or with fixed legs, the norm of x changes,
    and the top is scaled so that Var(y) = Var(x).

    Parameters: each tensor has left x right x (sizes of its two legs out) entries. With 12 legs
    and d = dim, D = bond: 8 d^2 D^2 + 8 d D^3 + 3 D^4 in 19 tensors.

    Source: Hallam et al., Compact neural networks based on the multiscale entanglement
    renormalization ansatz, arXiv:1711.03357, figures 1d and 2; Vidal, Class of quantum many-body
    states that can be efficiently simulated, Phys. Rev. Lett. 101 (2008) 110501.

    Arguments:
        legs: number of input legs, and of output legs; at least 2.
        dim: size of each input and output leg.
        bond: size of each inner leg.
        fix_first_level: pin the output legs of the first level to index 0.
        init: "identity" or :func:`tnlayer.near_identity`: isometries that are near the identity
            from the legs in to the legs out, the top as well; it is not scaled then.
            Where nothing is cut off y is x with its legs in the order in which they leave.

    Raises:
        SpecError: legs is below 2 (3 with fix_first_level) or above 4096.

    >>> mera(12, dim=2, bond=3).parameter_count
    963
    """
    least = 3 if fix_first_level else 2
    # No network has more than 4096 nodes: say so before a list of legs is made.
    if not isinstance(legs, int) or not least <= legs <= 4096:
        msg = (
            f"mera: got legs={shown(legs)} with fix_first_level={shown(fix_first_level)}, "
            f"expected a whole number from {least} to 4096. Two legs have the top tensor "
            "only, no level to fix"
        )
        raise SpecError(msg)
    net = Network("MERA")
    sites = list(net.input([dim] * legs))
    outputs: list[str] = []
    level = 0
    while len(sites) > 2:
        for k in range((len(sites) - 1) // 2):
            pair = sites[2 * k + 1 : 2 * k + 3]
            name = f"disentangler_{level}_{k}"
            sites[2 * k + 1 : 2 * k + 3] = net.tensor(
                name, pair, out=(bond, bond), isometry=pair, init=init
            )
        above: list[str] = []
        for k in range(len(sites) // 2):
            pair = sites[2 * k : 2 * k + 2]
            out, up = net.tensor(
                f"isometry_{level}_{k}", pair, out=(dim, bond), isometry=pair, init=init
            )
            outputs.append(out)
            above.append(up)
        sites = above + sites[2 * len(above) :]
        level += 1
    first_level = outputs[: legs // 2]
    outputs += net.tensor("top", sites, out=(dim, dim), isometry=sites, init=init or "scaled")
    net.output(outputs)
    if fix_first_level:
        net.fix(dict.fromkeys(first_level, 0))
    return net
