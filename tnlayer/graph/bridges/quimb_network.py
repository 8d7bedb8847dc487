"""quimb's tensor networks, in and out: a tensor a tensor, an index a leg."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from ...errors import BuildError, SpecError
from ..argument_checks import IDENTIFIER, as_array_value, listed, shown
from ..graph import Graph, Port, TensorNode
from .fit_names import leg_names, tensor_names


def graph_from_quimb(
    network: Any, inputs: Sequence[str], output: Sequence[str] | None, *, trainable: bool
) -> Graph:
    """The network of quimb's TensorNetwork.

    Arguments:
        network: with ``tensors``, each with ``inds``, ``data`` and ``tags``.
        inputs: indices that x enters by, in order.
        output: indices of y, in order; None: all other open ones.
        trainable: whether the tensors are parameters, that start with quimb's entries.

    Raises:
        SpecError: it is no such network, or an index is not there.
    """
    try:
        tensors = [(tuple(t.inds), np.asarray(t.data), list(t.tags)) for t in network.tensors]
    except (AttributeError, TypeError) as error:
        msg = f"from_quimb: expected a quimb TensorNetwork, got {shown(network)}"
        raise SpecError(msg) from error
    ends = Counter(index for inds, _, _ in tensors for index in inds)
    legs = dict(zip(ends, leg_names([str(i) for i in ends], dots=True), strict=True))
    names = tensor_names([_tag(tags) for _, _, tags in tensors])
    open_ones = [index for index, count in ends.items() if count == 1]
    for index in (*inputs, *(output or ())):
        if index not in ends:
            msg = f"from_quimb: there is no index {shown(index)}; open ones: {listed(open_ones)}"
            raise SpecError(msg)
    if output is None:
        output = [index for index in open_ones if index not in set(inputs)]
    sizes: dict[str, int] = {}
    nodes: list[TensorNode] = []
    for name, (inds, array, _) in zip(names, tensors, strict=True):
        sizes |= {legs[index]: size for index, size in zip(inds, array.shape, strict=True)}
        value = as_array_value(array, f"tensor {name!r}")
        nodes.append(
            TensorNode(name, tuple(legs[index] for index in inds), trainable=trainable, value=value)
        )
    left = set(open_ones) - set(inputs) - set(output)
    return Graph(
        label=type(network).__name__,
        leg_sizes=tuple(sizes.items()),
        inputs=(Port("x", tuple(legs[index] for index in inputs)),) if inputs else (),
        output=tuple(legs[index] for index in output),
        tensors=tuple(nodes),
        summed=frozenset(legs[index] for index in left),
    )


def _tag(tags: Sequence[str]) -> str:
    """The first tag that can be made a name, or ""."""
    return next((tag for tag in tags if IDENTIFIER.fullmatch(re.sub(r"\W+", "_", tag))), "")


def quimb_from_graph(graph: Graph, values: Mapping[str, Any] | None) -> Any:
    """quimb's TensorNetwork of a graph: the entries of tensors by name, or their values.

    Raises:
        BuildError: quimb is missing.
        SpecError: a tensor has no entries, or quimb has no form for a hyperedge inside.
    """
    try:
        import quimb.tensor as quimb  # pyright: ignore[reportMissingImports]
    except ImportError as error:
        msg = f"to_quimb needs quimb ({error}); install it with `pip install tnlayer[quimb]`"
        raise BuildError(msg) from None
    if graph.fixed:
        msg = "to_quimb: legs are fixed, which quimb has no form for; slice its tensors instead"
        raise SpecError(msg)
    made: list[Any] = []
    for tensor in graph.tensors:
        owner = graph.nodes[tensor.share or tensor.name]
        array = (values or {}).get(owner.name)
        if array is None and owner.value is not None:
            array = owner.value.array
        if array is None:
            msg = (
                f"to_quimb: tensor {owner.name!r} has no entries; pass values=, such as "
                "dict(layer.named_parameters())"
            )
            raise SpecError(msg)
        entries = as_array_value(array, f"tensor {owner.name!r}").array
        entries = entries.conj() if tensor.conj else entries
        made.append(quimb.Tensor(entries, inds=tensor.legs, tags=[tensor.name]))
    return quimb.TensorNetwork(made)
