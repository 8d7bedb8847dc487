"""Back to the manifold: make isometric tensors isometric again, after a step has left it."""

from __future__ import annotations

import torch

from ..errors import SpecError
from ..graph.argument_checks import shown
from ..graph.cancel_isometries import can_be_kept
from ..runtime.module_arrays import array_to_set, has_no_entries, look_up, maker_of, set_array
from .kept_isometries import KeptIsometries, matricised, wide
from .layer import Layer


@torch.no_grad()
def retract_(layer: Layer) -> Layer:
    """Replace each isometric tensor by the isometry nearest to it, in place, and return the layer.

    For those who take steps themselves: after each, the polar factor of each trained tensor that
    was declared with ``isometry=`` takes its place; one with init="scaled" keeps its factor. In a
    layer with ``isometries="keep"`` they are isometric already; there the free parameters start
    anew from where the tensors are.

    Arguments:
        layer: made by tnlayer.

    Raises:
        SpecError: it is none, or its tensors have no entries.

    Source: the polar decomposition as a retraction, P.-A. Absil, R. Mahony, R. Sepulchre,
    Optimization algorithms on matrix manifolds (2008), example 4.1.3.

    >>> import torch, tnlayer as tn
    >>> layer = tn.Layer(tn.topologies.mera(4, 2, 2))
    >>> optimiser = torch.optim.SGD(layer.parameters(), lr=0.1)
    >>> layer(torch.ones(3, 16)).square().sum().backward()
    >>> optimiser.step()
    >>> tn.retract_(layer) is layer
    True
    """
    if not isinstance(layer, Layer):
        msg = f"retract_: expected a tn.Layer, got {shown(type(layer).__name__)}"
        raise SpecError(msg)
    maker = maker_of(layer)
    if isinstance(maker, KeptIsometries):
        maker.rebase_()
        return layer
    parameters = {p.name: p for graph in layer.graphs for p in graph.parameters}
    for name, parameter in parameters.items():
        if not can_be_kept(parameter.node):
            continue
        array, now = array_to_set(layer, name), look_up(layer, name)
        if array is None or now is None or has_no_entries(now):
            msg = f"retract_: tensor {name!r} of {layer!r} has no entries; load or draw them first"
            raise SpecError(msg)
        one = matricised(parameter)
        block = one.block(wide(now))
        scale = one.scale_of(block) if one.has_scale else 1.0
        matrix = one.matrix(block / (scale or 1.0)) * scale
        set_array(layer, name, array.copy_(one.tensors(matrix[None])[0]))
    return layer
