"""QuanTA: a matrix on each pair of axes of x, one after the other."""

from __future__ import annotations

from collections.abc import Sequence

from ..errors import SpecError
from ..graph.argument_checks import shown
from ..graph.network import Network


def quanta(shape: Sequence[int], layers: int = 1) -> Network:
    """Quantum-informed tensor adaptation: x as a tensor, a gate on each pair of its axes.

    ::

         j0       j1       j2
         |        |        |          gates of layer 0, from x up:
         [gate_0_0_1]      |          axes (1, 2), (0, 2), (0, 1)
         |        |        |
         [gate_0_0_2=======]          each a full matrix on the two
         |        |        |          axes that it joins
         |        [gate_0_1_2]
         |        |        |
         i0       i1       i2

    Parameters: layers x the sum over pairs of axes m < n of (shape[m] shape[n])^2.

    Source: Chen et al., QuanTA: Efficient high-rank fine-tuning of LLMs with quantum-informed
    tensor adaptation, arXiv:2406.00132.

    Arguments:
        shape: sizes of the axes of x and of y; their product is the number of features.
        layers: how often all pairs take their turn.

    Raises:
        SpecError: shape has fewer than two axes, or there are too many gates.

    >>> quanta((4, 4, 2)).parameter_count
    384
    """
    are_axes = isinstance(shape, Sequence) and not isinstance(shape, str) and 2 <= len(shape) <= 64
    is_whole = isinstance(layers, int) and 1 <= layers <= 4096
    if not are_axes or not is_whole or layers * len(shape) * (len(shape) - 1) // 2 > 4000:
        msg = (
            f"quanta: got shape={shown(shape)}, layers={shown(layers)}, expected a sequence of 2 "
            "to 64 sizes and layers from 1 up, with 4000 gates at most"
        )
        raise SpecError(msg)
    net = Network("QuanTA")
    sites = list(net.input(list(shape)))
    pairs = [(m, n) for m in range(len(shape)) for n in range(m + 1, len(shape))]
    for layer in range(layers):
        for m, n in reversed(pairs):
            pair = [sites[m], sites[n]]
            sites[m], sites[n] = net.tensor(
                f"gate_{layer}_{m}_{n}", pair, out=(shape[m], shape[n]), isometry=pair
            )
    net.output(sites)
    return net
