"""Ternary MERA: isometries join three sites, disentanglers act between the blocks."""

from __future__ import annotations

from ..errors import SpecError
from ..graph.argument_checks import shown
from ..graph.network import Network


def ternary_mera(legs: int, dim: int, bond: int) -> Network:
    """Ternary multiscale entanglement renormalization ansatz with open boundary.

    ::

           j  up          j  up         j: a^3 / up, an output leg
           |  |           |  |          up: the smaller of bond and a^3, to the next level
         [isometry_0]   [isometry_1]
          |   |   |      |   |   |      a: size of a site, dim on the first level
          |   |   [disent_0]  |   |
          |   |   |      |   |   |
          i0  i1  i2     i3  i4  i5

    On each level disentanglers act on the sites (2, 3), (5, 6), ..., then isometries on (0, 1, 2),
    (3, 4, 5), .... What is left at a level's end, one or three sites, goes into the top. Outputs
    stand in the order of their making, the top's last.

    Parameters: on a level with n sites of size a, n/3 - 1 disentanglers of a^4 and n/3 isometries
    of a^3 up (a^3 // up); the top has the square of the product of its sites.

    Source: Evenbly and Vidal, Algorithms for entanglement renormalization, arXiv:0707.1454;
    Vidal, arXiv:quant-ph/0610099.

    Arguments:
        legs: number of input legs: 3, 9, 27, 81 or 243 times 1 or 2.
        dim: size of each input leg.
        bond: size of each leg that goes up, at most.

    Raises:
        SpecError: legs is no such number, or dim or bond is no size.

    >>> ternary_mera(9, dim=2, bond=2).parameter_count
    288
    """
    counts = [times * 3**level for times in (1, 2) for level in range(1, 6)]
    are_whole = all(isinstance(size, int) and 0 < size < 2**10 for size in (dim, bond))
    if not isinstance(legs, int) or legs not in counts or not are_whole:
        msg = (
            f"ternary_mera: got legs={shown(legs)}, dim={shown(dim)}, bond={shown(bond)}, expected "
            f"legs of {sorted(counts)}, and sizes from 1 up"
        )
        raise SpecError(msg)
    net = Network("ternary MERA")
    sites, outputs, size, level = list(net.input([dim] * legs)), list[str](), dim, 0
    while len(sites) > 3:
        for k in range(len(sites) // 3 - 1):
            pair = sites[3 * k + 2 : 3 * k + 4]
            sites[3 * k + 2 : 3 * k + 4] = net.tensor(
                f"disentangler_{level}_{k}", pair, out=(size, size), isometry=pair
            )
        up, above = min(bond, size**3), list[str]()
        for k in range(len(sites) // 3):
            three = sites[3 * k : 3 * k + 3]
            out, risen = net.tensor(
                f"isometry_{level}_{k}", three, out=(max(1, size**3 // up), up), isometry=three
            )
            outputs.append(out)
            above.append(risen)
        sites, size, level = above, up, level + 1
    top = net.tensor("top", sites, out=[size] * len(sites), isometry=sites, init="scaled")
    net.output([*outputs, *top])
    return net
