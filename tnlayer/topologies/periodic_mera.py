"""Periodic MERA: a binary MERA on a ring, whose maps keep all of x."""

from __future__ import annotations

from ..errors import SpecError
from ..graph.argument_checks import shown
from ..graph.network import Network


def periodic_mera(legs: int, dim: int, bond: int, share: bool = False) -> Network:
    """Binary multiscale entanglement renormalization ansatz with periodic boundary.

    ::

         j  up      j  up          j: a x a / up, an output leg
         |  |       |  |           up: the smaller of bond and a x a, to the next level
         [iso_0]    [iso_1]
         |    |     |    |         a: size of a site, dim on the first level
        ]     [dis_0]    [dis_1    the last disentangler joins the last site and the first
         |    |     |    |
         i0   i1    i2   i3

    Disentanglers keep the size of their sites, isometries join two: nothing is lost where bond
    divides a x a, and the whole map is orthogonal. The last two sites meet in the top. Outputs
    stand in the order of their making. With all of them fixed at 0 the network is a state over
    its input legs, of bond dimension bond: ``tnlayer.energy`` takes it.

    Parameters: on a level with n sites of size a, n/2 disentanglers of a^4 and n/2 isometries of
    a^2 up (a^2 // up); a^4 in the top. With share one of each a level.

    Source: Vidal, Entanglement renormalization, arXiv:cond-mat/0512165; Evenbly and
    Vidal, Algorithms for entanglement renormalization, arXiv:0707.1454.

    Arguments:
        legs: number of input legs, a power of two from 4 up.
        dim: size of each input leg.
        bond: size of each leg that goes up, at most.
        share: whether all disentanglers of a level are one tensor, and all isometries.

    Raises:
        SpecError: legs is no power of two from 4 to 1024, or dim or bond is no size.

    >>> periodic_mera(8, dim=2, bond=2).parameter_count
    208
    """
    are_whole = all(isinstance(size, int) and 0 < size < 2**15 for size in (dim, bond))
    if not isinstance(legs, int) or not 4 <= legs <= 1024 or legs & (legs - 1) or not are_whole:
        msg = (
            f"periodic_mera: got legs={shown(legs)}, dim={shown(dim)}, bond={shown(bond)}, "
            "expected a power of two from 4 to 1024, and sizes from 1 up"
        )
        raise SpecError(msg)
    net = Network("periodic MERA")
    sites, outputs, size, level = list(net.input([dim] * legs)), list[str](), dim, 0

    def gate(name: str, k: int, pair: list[str], out: tuple[int, int]) -> tuple[str, ...]:
        if share and k:
            return net.tensor(f"{name}_{level}_{k}", pair, out=out, share=f"{name}_{level}_0")
        return net.tensor(f"{name}_{level}_{k}", pair, out=out, isometry=pair)

    while len(sites) > 2:
        count = len(sites)
        for k in range(count // 2):
            a, b = 2 * k + 1, (2 * k + 2) % count
            pair = gate("disentangler", k, [sites[a], sites[b]], (size, size))
            sites[a], sites[b] = pair
        up = min(bond, size * size)
        made = [
            gate("isometry", k, sites[2 * k : 2 * k + 2], (max(1, size * size // up), up))
            for k in range(count // 2)
        ]
        outputs += [out for out, _ in made]
        sites, size, level = [above for _, above in made], up, level + 1
    outputs += net.tensor("top", sites, out=(size, size), isometry=sites, init="scaled")
    net.output(outputs)
    return net
