"""Random circuit: gates on random pairs of sites, of which several are one tensor."""

from __future__ import annotations

import random

from ..errors import SpecError
from ..graph.argument_checks import shown
from ..graph.network import Network


def random_circuit(
    legs: int, dim: int, depth: int, gates: int | None = None, seed: int = 0
) -> Network:
    """Layers of gates on random pairs of sites; equal gates share one tensor.

    ::

         j0   j1   j2   j3
         |    |    |    |          each layer pairs all sites anew
         [u===|====]    |
         |    [v========]          u, v: one of ``gates`` tensors, in turn
         [u===]    [v===]
         |    |    |    |
         i0   i1   i2   i3

    Each site has one gate a layer, but for one that is left where legs is odd. The g-th gate uses
    tensor g modulo gates. All start as Haar-random orthogonal matrices, and so does the map.

    Parameters: dim^4 x the smaller of gates and depth (legs // 2).

    Source: Fisher et al., Random quantum circuits, arXiv:2207.14280; sites are paired as in Brown
    and Fawzi, Decoupling with random quantum circuits, arXiv:1307.0632.

    Arguments:
        legs: number of input legs, and of output legs; at least 2.
        dim: size of each leg.
        depth: number of layers.
        gates: number of different tensors; None: each gate is its own.
        seed: of the pairs.

    Raises:
        SpecError: legs is below 2, depth or gates below 1, or there are more than 4000 gates.

    >>> random_circuit(6, dim=2, depth=4, gates=5).parameter_count
    80
    """
    wanted = 4000 if gates is None else gates
    numbers = (legs, depth, wanted, seed)
    are_whole = all(isinstance(number, int) for number in numbers)
    if not are_whole or legs < 2 or depth < 1 or wanted < 1 or depth * (legs // 2) > 4000:
        msg = (
            f"random_circuit: got legs={shown(legs)}, depth={shown(depth)}, gates={shown(gates)}, "
            f"seed={shown(seed)}, expected whole numbers, legs from 2, depth and gates from 1 up, "
            "with 4000 gates in all at most"
        )
        raise SpecError(msg)
    net = Network("random circuit")
    sites = list(net.input([dim] * legs))
    generator = random.Random(seed)
    count = 0
    for _ in range(depth):
        order = generator.sample(range(legs), legs)
        for a, b in zip(order[::2], order[1::2], strict=False):
            pair, owner = [sites[a], sites[b]], count % wanted
            made = f"gate_{count}"
            if owner == count:
                sites[a], sites[b] = net.tensor(made, pair, out=(dim, dim), isometry=pair)
            else:
                sites[a], sites[b] = net.tensor(made, pair, out=(dim, dim), share=f"gate_{owner}")
            count += 1
    net.output(sites)
    return net
