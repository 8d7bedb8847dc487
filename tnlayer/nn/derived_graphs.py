"""Networks made from a network whose matrix is wanted in part, or without an x: its tensors become
inputs, so that a Layer of it has no arrays of its own and is handed those of another.

``matrix_of`` gives the whole matrix, ``rows_of`` the columns that belong to single features of x:
tensors are looked up at the index of each of their legs that x has, so that neither a one-hot x nor
the matrix is ever made.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch.nn.functional import embedding as _lookup
from torch.nn.functional import one_hot

from ..errors import SpecError
from ..graph.graph import Graph, Port, TensorNode
from ..graph.validate import validate


@dataclass(frozen=True, slots=True)
class Operand:
    """How an input of the new network is made from an array of the old one.

    Arguments:
        owner: name of the array.
        conj: whether its conjugate is taken.
        fixed: (axis, index) that are kept of it, one after the other.
        looked_up: (axis, place of the leg in x) of axes that x tells the index of; what is
            ``fixed`` is gone before.
    """

    owner: str
    conj: bool
    fixed: tuple[tuple[int, int], ...]
    looked_up: tuple[tuple[int, int], ...] = ()


@dataclass(frozen=True, slots=True)
class Filled:
    """An input of the new network that no array gives.

    Arguments:
        kind: "eye", "ones", or "one_hot": of the index that x has at ``place``.
        size: of each of its legs.
        place: of the leg in x.
    """

    kind: str
    size: int
    place: int = 0


@dataclass(frozen=True, slots=True)
class Derived:
    """A network without tensors, and what its inputs are.

    Arguments:
        graph: the network.
        operands: one an input, in their order.
        in_shape: sizes of the legs of x.
    """

    graph: Graph
    operands: tuple[Operand | Filled, ...]
    in_shape: tuple[int, ...]


class _Ports:
    """Inputs as they are collected."""

    def __init__(self) -> None:
        self.ports: list[Port] = []
        self.operands: list[Operand | Filled] = []

    def add(self, legs: Sequence[str], operand: Operand | Filled, *, batched: bool = False) -> None:
        """An input with these legs."""
        self.ports.append(Port(f"t{len(self.ports)}", tuple(legs), batched))
        self.operands.append(operand)


def matrix_of(graph: Graph) -> Derived:
    """The matrix of a network with one batched input, as a network: its output has the legs of y,
    then those of x.

    A leg that both have, or x twice, is a diagonal: its second end is another leg, joined by an
    identity.

    >>> from tnlayer.topologies import tensor_train
    >>> derived = matrix_of(tensor_train((4, 3), (2, 5), rank=2).freeze())
    >>> derived.graph.out_features, [port.legs for port in derived.graph.inputs]
    (120, [('i0', 'j0', 'b0'), ('b0', 'i1', 'j1')])
    """
    legs_in = graph.open_legs(graph.inputs[0].legs)
    sizes = {leg: size for leg, size in graph.leg_sizes if leg not in graph.pinned}
    inputs, output = _Ports(), list[str]()
    for node in graph.tensors:
        inputs.add(graph.open_legs(node.legs), _whole(graph, node))
    ends = {leg for port in inputs.ports for leg in port.legs}
    for leg in (*graph.open_legs(graph.output), *legs_in):
        if leg in output:
            other = f"{leg}.{len(inputs.ports)}"
            sizes[other] = sizes[leg]
            inputs.add((leg, other), Filled("eye", sizes[leg]))
            leg = other
        elif leg not in ends:
            inputs.add((leg,), Filled("ones", sizes[leg]))
        output.append(leg)
    return _derived(graph, sizes, inputs, output, legs_in)


def rows_of(graph: Graph) -> Derived:
    """The columns of a network's matrix that belong to single features of its one batched input:
    one a sample.

    Raises:
        SpecError: x has a leg twice.

    >>> from tnlayer.topologies import tensor_train
    >>> derived = rows_of(tensor_train((4, 3), (2, 5), rank=2).freeze())
    >>> derived.graph.out_features, [port.legs for port in derived.graph.inputs]
    (10, [('j0', 'b0'), ('b0', 'j1')])
    """
    legs_in = graph.open_legs(graph.inputs[0].legs)
    if len(set(legs_in)) < len(legs_in):
        msg = (
            f"{graph.label!r}: its input has a leg twice, so that most rows are 0; give each axis "
            "of the input a leg of its own"
        )
        raise SpecError(msg)
    places = {leg: place for place, leg in enumerate(legs_in)}
    output = graph.open_legs(graph.output)
    sizes = {leg: size for leg, size in graph.leg_sizes if leg not in graph.pinned}
    inputs = _Ports()
    for node in graph.tensors:
        legs, operand = graph.open_legs(node.legs), _whole(graph, node)
        found = tuple((axis, places[leg]) for axis, leg in enumerate(legs) if leg in places)
        rest = [leg for leg in legs if leg not in places]
        own = Operand(operand.owner, operand.conj, operand.fixed, found)
        inputs.add(rest, own, batched=bool(found))
    for leg in output:
        if leg in places:
            inputs.add((leg,), Filled("one_hot", sizes[leg], places[leg]), batched=True)
    return _derived(graph, sizes, inputs, output, legs_in)


def fill(
    derived: Derived,
    arrays: Mapping[str, torch.Tensor],
    like: torch.Tensor,
    features: torch.Tensor | None = None,
) -> tuple[torch.Tensor, ...]:
    """The inputs of a derived network.

    Arguments:
        derived: from ``matrix_of`` or ``rows_of``.
        arrays: of the network, by name.
        like: dtype and device of what no array gives.
        features: number of the feature of each sample, (samples,), for ``rows_of``.
    """
    indices = None if features is None else _unravelled(features, derived.in_shape)
    found: list[torch.Tensor] = []
    for port, operand in zip(derived.graph.inputs, derived.operands, strict=True):
        x = (
            _of_array(operand, arrays[operand.owner], indices, derived.in_shape)
            if isinstance(operand, Operand)
            else _filled(operand, like, indices)
        )
        shape = derived.graph.input_shape(port)
        found.append(x.reshape(*x.shape[:1], *shape) if port.batched else x.reshape(shape))
    return tuple(found)


# -- inside ----------------------------------------------------------------------------------------


def _whole(graph: Graph, node: TensorNode) -> Operand:
    """The array of a node at its open legs: what is fixed for it, but not for all that share the
    array, is still in there."""
    owner = node.share or node.name
    parameter = next(one for one in graph.parameters if one.name == owner)
    fixed: list[tuple[int, int]] = []
    axis = 0
    for leg, pin in zip(node.legs, parameter.pins, strict=True):
        if pin is not None:
            continue
        if leg in graph.pinned:
            fixed.append((axis, graph.pinned[leg]))
        else:
            axis += 1
    return Operand(owner, node.conj, tuple(fixed))


def _derived(
    graph: Graph,
    sizes: Mapping[str, int],
    inputs: _Ports,
    output: Sequence[str],
    legs_in: Sequence[str],
) -> Derived:
    used = {*output, *(leg for port in inputs.ports for leg in port.legs)}
    ends = [leg for port in inputs.ports for leg in port.legs] + list(output)
    found = Graph(
        label=graph.label,
        leg_sizes=tuple((leg, size) for leg, size in sizes.items() if leg in used),
        inputs=tuple(inputs.ports),
        output=tuple(output),
        tensors=(),
        summed=frozenset(leg for leg in used if ends.count(leg) == 1),
    )
    validate(found)
    return Derived(found, tuple(inputs.operands), graph.shape_of(tuple(legs_in)))


def _unravelled(features: torch.Tensor, shape: Sequence[int]) -> list[torch.Tensor]:
    """The index at each leg, the last one varying fastest."""
    found: list[torch.Tensor] = []
    rest = features
    for size in reversed(shape):
        found.append(rest % size)
        rest = torch.div(rest, size, rounding_mode="floor")
    return found[::-1]


def _of_array(
    operand: Operand,
    array: torch.Tensor,
    indices: Sequence[torch.Tensor] | None,
    shape: Sequence[int],
) -> torch.Tensor:
    """An array without what is fixed, at the indices of a sample if any are looked up."""
    for axis, index in operand.fixed:
        array = array.select(axis, index)
    if operand.looked_up:
        assert indices is not None, "rows are looked up for features only"
        axes = [axis for axis, _ in operand.looked_up]
        array = array.movedim(axes, list(range(len(axes))))
        number = indices[operand.looked_up[0][1]]
        for _, place in operand.looked_up[1:]:
            number = number * shape[place] + indices[place]
        rows = math.prod(array.shape[: len(axes)])
        table = array.reshape(rows, -1)
        # The gradient of an embedding adds up rows quickly; torch has none for complex ones.
        is_complex = table.is_complex()
        array = table.index_select(0, number) if is_complex else _lookup(number, table)
    return array.conj() if operand.conj else array


def _filled(
    operand: Filled, like: torch.Tensor, indices: Sequence[torch.Tensor] | None
) -> torch.Tensor:
    size = operand.size
    kind: dict[str, Any] = {"dtype": like.dtype, "device": like.device}
    match operand.kind:
        case "eye":
            return torch.eye(size, **kind)
        case "ones":
            return torch.ones(size, **kind)
        case _:
            assert indices is not None, "rows are looked up for features only"
            return one_hot(indices[operand.place], size).to(like.dtype)
