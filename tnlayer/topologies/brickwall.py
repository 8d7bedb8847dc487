"""Brick wall: a circuit of two-site gates in alternating layers."""

from __future__ import annotations

from ..errors import SpecError
from ..graph.argument_checks import shown
from ..graph.network import Network


def brickwall(legs: int, dim: int, depth: int) -> Network:
    """Layers of gates on neighbouring sites, even pairs and odd pairs in turn.

    ::

         j0   j1   j2   j3   j4   j5
         |    |    |    |    |    |
        [gate_2_0][gate_2_1][gate_2_2]
         |    |    |    |    |    |
         |   [gate_1_0][gate_1_1] |
         |    |    |    |    |    |
        [gate_0_0][gate_0_1][gate_0_2]
         |    |    |    |    |    |
         i0   i1   i2   i3   i4   i5

    A site that no gate touches passes through. All gates start as Haar-random orthogonal
    matrices, so that the whole map does. Where ports are padded or legs fixed, the last gate is
    scaled so that Var(y) = Var(x).

    Parameters: dim^4 x (number of gates): legs // 2 in layers 0, 2, ..., (legs - 1) // 2 in
    layers 1, 3, ....

    Source: Fisher et al., Random quantum circuits, arXiv:2207.14280.

    Arguments:
        legs: number of input legs, and of output legs; at least 2.
        dim: size of each leg.
        depth: number of layers, at least 1.

    Raises:
        SpecError: legs is below 2 or above 4096, or depth is below 1, or there are more
            than 4096 gates.

    >>> brickwall(6, dim=2, depth=3).parameter_count
    128
    """
    are_whole = isinstance(legs, int) and isinstance(depth, int)
    # No network has more than 4096 nodes: say so before a list of legs or of gates is made.
    if not are_whole or not 2 <= legs <= 4096 or depth < 1 or _gates(legs, depth) > 4096:
        msg = (
            f"brickwall: got legs={shown(legs)}, depth={shown(depth)}, expected whole numbers, "
            "legs from 2 to 4096 and depth from 1 up, with 4096 gates at most: a gate takes two "
            "legs, and no gate is no layer"
        )
        raise SpecError(msg)
    net = Network("brick wall")
    sites = list(net.input([dim] * legs))
    gates = [
        (f"gate_{layer}_{k}", left)
        for layer in range(depth)
        for k, left in enumerate(range(layer % 2, legs - 1, 2))
    ]
    for name, left in gates:
        pair = sites[left : left + 2]
        init = "scaled" if name == gates[-1][0] else None
        sites[left : left + 2] = net.tensor(name, pair, out=(dim, dim), isometry=pair, init=init)
    net.output(sites)
    return net


def _gates(legs: int, depth: int) -> int:
    """Gates in even layers and in odd ones."""
    return (depth + 1) // 2 * (legs // 2) + depth // 2 * ((legs - 1) // 2)
