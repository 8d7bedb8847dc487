"""quimb's tensor networks, in and out: a tensor a tensor, an index a leg."""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from ...errors import BuildError, SpecError
from ..argument_checks import IDENTIFIER, as_array_value, listed, shown
from ..cancel_isometries import off_isometry
from ..graph import Graph, Port, TensorNode
from ..graph_values import ArrayValue
from .fit_names import leg_names, tensor_names

# Normal numbers of float64 go from 10**-307 to 10**308.
_DECADES = 300

# How far an isometry's W^H W may be from the identity: that of one in single precision is.
_CLOSE = 1e-5


def graph_from_quimb(
    network: Any, inputs: Sequence[str], output: Sequence[str] | None, *, trainable: bool
) -> Graph:
    """The network of quimb's TensorNetwork.

    Arguments:
        network: with ``tensors``, each with ``inds``, ``data`` and ``tags``, and maybe with
            ``left_inds``, one side of it as an isometry; and maybe with an ``exponent``, the log10
            of a factor of the whole.
        inputs: indices that x enters by, in order.
        output: indices of y, in order; None: all other open ones.
        trainable: whether the tensors are parameters, that start with quimb's entries.

    Raises:
        SpecError: it is no such network, an index is not there, or the exponent leads beyond the
            range of numbers.
    """
    try:
        read = [_read(tensor) for tensor in network.tensors]
    except (AttributeError, TypeError) as error:
        msg = f"from_quimb: expected a quimb TensorNetwork, got {shown(network)}"
        raise SpecError(msg) from error
    ends = Counter(index for tensor in read for index in tensor.inds)
    legs = dict(zip(ends, leg_names([str(i) for i in ends], dots=True), strict=True))
    names = tensor_names([tensor.tag for tensor in read])
    open_ones = [index for index, count in ends.items() if count == 1]
    for index in (*inputs, *(output or ())):
        if index not in ends:
            msg = f"from_quimb: there is no index {shown(index)}; open ones: {listed(open_ones)}"
            raise SpecError(msg)
    if output is None:
        output = [index for index in open_ones if index not in set(inputs)]
    read = [
        replace(tensor, array=as_array_value(tensor.array, f"tensor {name!r}").array)
        for name, tensor in zip(names, read, strict=True)
    ]
    read = _with_exponent(read, getattr(network, "exponent", 0.0))
    sizes: dict[str, int] = {}
    nodes: list[TensorNode] = []
    for name, tensor in zip(names, read, strict=True):
        sizes |= {legs[i]: size for i, size in zip(tensor.inds, tensor.array.shape, strict=True)}
        nodes.append(
            TensorNode(
                name,
                tuple(legs[index] for index in tensor.inds),
                trainable=trainable,
                value=ArrayValue(tensor.array),
                isometry=tensor.isometry,
            )
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


@dataclass(frozen=True, slots=True)
class _Read:
    """A tensor of quimb.

    Arguments:
        inds: its indices.
        array: its entries.
        tag: the first that can be made a name, or "".
        left: its axes that quimb calls left, those of one side of an isometry; or ().
    """

    inds: tuple[str, ...]
    array: np.ndarray
    tag: str
    left: tuple[int, ...]

    @property
    def isometry(self) -> tuple[int, ...]:
        """The axes on the left, if that makes it an isometry: quimb keeps them as a hint, and many
        things that it does to the entries leave them there."""
        return self.left if self.left and off_isometry(self.array, self.left) <= _CLOSE else ()


def _read(tensor: Any) -> _Read:
    inds = tuple(tensor.inds)
    # A trace has no sides; and other things than quimb's have no left_inds.
    left = set(getattr(tensor, "left_inds", None) or ()) if len(set(inds)) == len(inds) else ()
    return _Read(
        inds,
        np.asarray(tensor.data),
        _tag(list(tensor.tags)),
        tuple(axis for axis, index in enumerate(inds) if index in left),
    )


def _with_exponent(tensors: Sequence[_Read], exponent: Any) -> list[_Read]:
    """The tensors with their part each of 10**exponent; in double precision where there is one.

    quimb keeps the factor apart so that entries stay in range, so that no single tensor gets it.
    Isometries get no part where the others can take it, for they would be none then.

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
        return list(tensors)
    if not tensors:
        msg = f"from_quimb: the network's exponent is {shown(whole)}, and it has no tensor"
        raise SpecError(msg)
    others = [place for place, tensor in enumerate(tensors) if not tensor.isometry]
    for places in (others, range(len(tensors))):
        part = whole / max(len(places), 1)
        if places and all(_stays_in_range(tensors[place].array, part) for place in places):
            return [
                replace(tensor, array=_times_power(tensor.array, part))
                if place in places
                else tensor
                for place, tensor in enumerate(tensors)
            ]
    msg = (
        f"from_quimb: the network's exponent is {shown(whole)}; with 10**{part:.4g} multiplied "
        f"into each of {len(tensors)} tensors entries leave the range of float64. Set "
        "network.exponent = 0.0 and bring the factor in where results are used"
    )
    raise SpecError(msg)


def _stays_in_range(array: np.ndarray, exponent: float) -> bool:
    """Whether the largest entry times 10**exponent is a number as precise as any other."""
    largest = float(np.abs(array).max(initial=0.0))
    now = math.log10(largest) if largest else 0.0
    return abs(now + exponent) < _DECADES and abs(exponent) < 2 * _DECADES


def _times_power(array: np.ndarray, exponent: float) -> np.ndarray:
    """An array times 10**exponent, which itself may be too large where the entries are small."""
    half = 10.0 ** (exponent / 2)
    return array.astype(np.result_type(array, np.float64)) * half * half


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
