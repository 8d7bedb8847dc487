"""CP (canonical polyadic): a sum of outer products."""

from __future__ import annotations

from collections.abc import Sequence

from ..errors import SpecError
from ..graph.argument_checks import shown
from ..graph.network import Network


def cp(in_shape: Sequence[int], out_shape: Sequence[int], rank: int) -> Network:
    """Sum of outer products: one factor a leg, all joined by one hyperedge.

    ::

        i0 --in_0 --+       +-- out_0-- j0
                    +-- r --+
        i1 --in_1 --+       +-- out_1-- j1

    Parameters: rank x (the sum of all legs' sizes).

    Source: Hitchcock, The expression of a tensor or a polyadic as a sum of products,
    J. Math. Phys. 6 (1927); Kolda and Bader, SIAM Review 51 (2009), section 3.

    Arguments:
        in_shape: size of each input leg, i0 the slowest in the features of x.
        out_shape: size of each output leg; may have another length than in_shape.
        rank: number of outer products: the size of the one bond r.

    Raises:
        SpecError: a shape is empty.

    >>> cp((8, 8), (8, 8), rank=5).parameter_count
    160
    """
    are_shapes = isinstance(in_shape, Sequence) and isinstance(out_shape, Sequence)
    if not are_shapes or not in_shape or not out_shape:
        msg = (
            f"cp: got in_shape={shown(in_shape)}, out_shape={shown(out_shape)}; expected two "
            "sequences of leg sizes, not empty. Give (1,) for a port of one feature"
        )
        raise SpecError(msg)
    net = Network("CP")
    net.input(**{f"i{k}": size for k, size in enumerate(in_shape)})
    net.output(**{f"j{k}": size for k, size in enumerate(out_shape)})
    net.bond(r=rank)
    for k in range(len(in_shape)):
        net.tensor(f"in_{k}", [f"i{k}", "r"])
    for k in range(len(out_shape)):
        net.tensor(f"out_{k}", ["r", f"j{k}"])
    return net
