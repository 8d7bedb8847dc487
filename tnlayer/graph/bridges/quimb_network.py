"""quimb's tensor networks, in and out: a tensor a tensor, an index a leg."""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from ...errors import BuildError, SpecError
from ..argument_checks import IDENTIFIER, as_array_value, listed, shown
from ..graph import Graph, Port, TensorNode
from ..graph_values import ArrayValue
from .fit_names import leg_names, tensor_names

# Normal numbers of float64 go from 10**-307 to 10**308.
_DECADES = 300


def graph_from_quimb(
    network: Any, inputs: Sequence[str], output: Sequence[str] | None, *, trainable: bool
) -> Graph:
    """The network of quimb's TensorNetwork.

    Arguments:
        network: with ``tensors``, each with ``inds``, ``data`` and ``tags``, and maybe with an
            ``exponent``, the log10 of a factor of the whole.
        inputs: indices that x enters by, in order.
        output: indices of y, in order; None: all other open ones.
        trainable: whether the tensors are parameters, that start with quimb's entries.

    Raises:
        SpecError: it is no such network, an index is not there, or the exponent leads beyond the
            range of numbers.
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
    values = [
        as_array_value(array, f"tensor {name!r}").array
        for name, (_, array, _) in zip(names, tensors, strict=True)
    ]
    values = _with_exponent(values, getattr(network, "exponent", 0.0))
    sizes: dict[str, int] = {}
    nodes: list[TensorNode] = []
    for name, (inds, _, _), array in zip(names, tensors, values, strict=True):
        sizes |= {legs[index]: size for index, size in zip(inds, array.shape, strict=True)}
        own = tuple(legs[index] for index in inds)
        nodes.append(TensorNode(name, own, trainable=trainable, value=ArrayValue(array)))
    left = set(open_ones) - set(inputs) - set(output)
    return Graph(
        label=type(network).__name__,
        leg_sizes=tuple(sizes.items()),
        inputs=(Port("x", tuple(legs[index] for index in inputs)),) if inputs else (),
        output=tuple(legs[index] for index in output),
        tensors=tuple(nodes),
        summed=frozenset(legs[index] for index in left),
    )


def _with_exponent(arrays: Sequence[np.ndarray], exponent: Any) -> list[np.ndarray]:
    """The arrays times their part each of 10**exponent; in double precision where there is one.

    quimb keeps the factor apart so that entries stay in range; no tensor could take all of it.

    Raises:
        SpecError: the exponent is no finite number, or an array would leave the range of numbers.
    """
    try:
        whole = float(exponent)
    except (TypeError, ValueError):
        whole = math.nan
    if not math.isfinite(whole):
        msg = (
            f"from_quimb: the network's exponent is {shown(exponent)}, expected a finite number, "
            "log10 of a factor; was a tensor of zeros normalised?"
        )
        raise SpecError(msg)
    if whole == 0:
        return list(arrays)
    if not arrays:
        msg = f"from_quimb: the network's exponent is {shown(whole)}, and it has no tensor"
        raise SpecError(msg)
    part = whole / len(arrays)
    if not all(_stays_in_range(array, part) for array in arrays):
        msg = (
            f"from_quimb: the network's exponent is {shown(whole)}; with 10**{part:.4g} multiplied "
            f"into each of {len(arrays)} tensors entries leave the range of float64. Set "
            "network.exponent = 0.0 and bring the factor in where results are used"
        )
        raise SpecError(msg)
    # Two steps: 10**part itself may be too large, where the entries are small.
    half = 10.0 ** (part / 2)
    return [array.astype(np.result_type(array, np.float64)) * half * half for array in arrays]


def _stays_in_range(array: np.ndarray, exponent: float) -> bool:
    """Whether the largest entry times 10**exponent is a number as precise as any other."""
    largest = float(np.abs(array).max(initial=0.0))
    now = math.log10(largest) if largest else 0.0
    return abs(now + exponent) < _DECADES and abs(exponent) < 2 * _DECADES


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
