"""Matrix product state that reads product features and gives classes."""

from __future__ import annotations

from ..errors import SpecError
from ..graph.argument_checks import shown
from ..graph.network import NearIdentity, Network


def mps_classifier(
    sites: int,
    dim: int,
    bond: int,
    classes: int,
    *,
    init: str | NearIdentity | None = "identity",
) -> Network:
    """Matrix product state over local features, with a leg for the class in its middle.

    ::

                          class
                            |
        [site_0]-[site_1]-[label]-[site_2]-[site_3]
           |        |                |        |
          x[0]     x[1]             x[2]     x[3]

    x is a product state, (..., sites, dim): one vector of local features a site.

    Parameters: 2 dim bond + (sites - 2) dim bond^2 + bond^2 classes for two sites and more.

    Source: Stoudenmire and Schwab, Supervised learning with tensor networks, arXiv:1605.05775,
    where the class sits on a site; here it has a tensor of its own.

    Arguments:
        sites: number of local features, at least 2.
        dim: entries of each.
        bond: size of each leg between neighbours.
        classes: features of y.
        init: of the sites; "identity" lets signals pass through hundreds of them.

    Raises:
        SpecError: sites is no whole number from 2 to 4000.

    >>> mps_classifier(6, dim=2, bond=3, classes=10).parameter_count
    174
    """
    if not isinstance(sites, int) or not 2 <= sites <= 4000:
        msg = f"mps_classifier: got sites={shown(sites)}, expected a whole number from 2 to 4000"
        raise SpecError(msg)
    net = Network("MPS classifier")
    net.input(**{f"i{k}": dim for k in range(sites)})
    net.port("x", product=True)
    net.output(c=classes)
    net.bond(**{f"b{k}": bond for k in range(sites)})
    middle = sites // 2
    for k in range(sites):
        # The label takes the bonds b(middle - 1) and b(middle).
        left = [f"b{k - 1 if k < middle else k}"] if k > 0 else []
        right = [f"b{k if k < middle else k + 1}"] if k < sites - 1 else []
        net.tensor(f"site_{k}", [*left, f"i{k}", *right], init=init)
        if k == middle - 1:
            net.tensor("label", [f"b{k}", "c", f"b{middle}"])
    return net
