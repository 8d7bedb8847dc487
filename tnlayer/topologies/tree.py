"""Binary tree that coarse-grains pairs of sites and lets one output leg out at each node."""

from __future__ import annotations

from ..errors import SpecError
from ..graph.argument_checks import shown
from ..graph.network import NearIdentity, Network


def tree(
    legs: int,
    dim: int,
    bond: int,
    fix_first_level: bool = False,
    *,
    init: str | NearIdentity | None = None,
) -> Network:
    """Binary tree of isometries: MERA without its disentanglers.

    ::

            up (bond)                  j  j        the top gives the last two outputs
               |                       |  |
         j --[isometry]                [top]
               |    |                  |   |
              left right            left  right

    On each level isometries act on the sites (0,1), (2,3), ...: two legs in, one output leg
    and one leg up. A left-over site passes up untouched. The outputs stand in the order of
    their making: level by level, left to right, the top's last. All tensors start as Haar-random
    isometries; those that are not square change the norm of x, and the top is scaled so that
    Var(y) = Var(x).

    Parameters: each isometry has left x right x dim x bond entries, the top left x right x dim^2,
    where a site has size dim below its first isometry and size bond above it. With 12 legs:
    6 dim^3 bond + 4 dim bond^3 + dim^2 bond^2.

    Source: Hallam et al., Compact neural networks based on the multiscale entanglement
    renormalization ansatz, arXiv:1711.03357, figure 1c.

    Arguments:
        legs: number of input legs, and of output legs; at least 2.
        dim: size of each input and output leg.
        bond: size of each leg that goes up.
        fix_first_level: pin the output legs of the first level to index 0.
        init: "identity" or :func:`tnlayer.near_identity`: isometries that are near the identity
            from the legs in to the legs out, the top as well; it is not scaled then.
            Where nothing is cut off y is x with its legs in the order in which they leave.

    Raises:
        SpecError: legs is below 2 (3 with fix_first_level) or above 4096.

    >>> tree(12, dim=2, bond=2).parameter_count
    176
    """
    least = 3 if fix_first_level else 2
    # No network has more than 4096 nodes: say so before a list of legs is made.
    if not isinstance(legs, int) or not least <= legs <= 4096:
        msg = (
            f"tree: got legs={shown(legs)} with fix_first_level={shown(fix_first_level)}, "
            f"expected a whole number from {least} to 4096. Two legs have the top tensor "
            "only, no level to fix"
        )
        raise SpecError(msg)
    net = Network("tree")
    sites = list(net.input([dim] * legs))
    outputs: list[str] = []
    level = 0
    while len(sites) > 2:
        above: list[str] = []
        for k in range(len(sites) // 2):
            pair = sites[2 * k : 2 * k + 2]
            name = f"isometry_{level}_{k}"
            out, up = net.tensor(name, pair, out=(dim, bond), isometry=pair, init=init)
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
