"""Matrix product state: a chain of tensors with one open leg each."""

from __future__ import annotations

from ..errors import SpecError
from ..graph.argument_checks import shown
from ..graph.network import NearIdentity, Network


def mps(sites: int, dim: int, bond: int, *, init: str | NearIdentity | None = None) -> Network:
    """Matrix product state: a vector of dim^sites entries, and no input.

    ::

          j0       j1       j2       j3
          |        |        |        |
        [site_0]-[site_1]-[site_2]-[site_3]
               b0       b1       b2

    y[j0, j1, ...] is the product of the matrices site_k[:, jk, :]. :func:`tnlayer.energy` takes it.

    Parameters: 2 dim bond + (sites - 2) dim bond^2 for two sites and more.

    Source: Schollwoeck, The density-matrix renormalization group in the age of matrix product
    states, arXiv:1008.3477.

    Arguments:
        sites: number of tensors.
        dim: size of each open leg.
        bond: size of each leg between neighbours.
        init: as for :meth:`tnlayer.Network.tensor`, of each tensor.

    Raises:
        SpecError: sites is no whole number from 1 to 4000.

    >>> mps(6, dim=2, bond=3).parameter_count
    84
    """
    if not isinstance(sites, int) or not 1 <= sites <= 4000:
        msg = f"mps: got sites={shown(sites)}, expected a whole number from 1 to 4000"
        raise SpecError(msg)
    net = Network("MPS")
    net.output(**{f"j{k}": dim for k in range(sites)})
    net.bond(**{f"b{k}": bond for k in range(sites - 1)})
    for k in range(sites):
        left = [f"b{k - 1}"] if k > 0 else []
        right = [f"b{k}"] if k < sites - 1 else []
        net.tensor(f"site_{k}", [*left, f"j{k}", *right], init=init)
    return net
