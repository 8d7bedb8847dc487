"""Graph <-> networkx.MultiGraph.

Node attributes: ``kind`` in tensor, input, output, copy, fix, sum; tensors and ports also have
``legs`` (the order of their axes) and ``name`` (by default the node itself), and their flags and
values; fix nodes have ``index``. Edge attributes: ``leg`` and ``dim``.

A leg with two ends is an edge. One with more is a copy node with an edge to each end; a fix node
and a sum node count as ends.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Hashable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

import networkx

from ...errors import SpecError
from ..argument_checks import (
    as_array_value,
    check_dtype_name,
    check_init,
    check_leg_name,
    check_name,
    check_size,
    check_tensor_name,
    check_whole,
    shown,
    split_legs,
    take_bounded,
)
from ..graph import MAX_LEGS, MAX_NODES, Graph, Port, TensorNode
from ..validate import resolve_shares, validate

KINDS = ("tensor", "input", "output", "copy", "fix", "sum")
TENSOR_FLAGS = ("share", "conj", "trainable", "value", "init", "isometry")
PORT_FLAGS = ("batched", "product", "dtype")


def networkx_from_graph(graph: Graph) -> networkx.MultiGraph[Any]:
    """The graph as a multigraph; nodes are named "A" (tensors), "input:x", "output:", "copy:a"."""
    drawn: networkx.MultiGraph[Any] = networkx.MultiGraph(label=graph.label)
    ends: dict[str, list[str]] = {leg: [] for leg, _ in graph.leg_sizes}
    for port in graph.inputs:
        node = f"input:{port.name}"
        flags = {"batched": port.batched, "product": port.product, "dtype": port.dtype}
        drawn.add_node(node, kind="input", name=port.name, legs=port.legs, **flags)
        _note_ends(ends, node, port.legs)
    for tensor in graph.tensors:
        drawn.add_node(tensor.name, kind="tensor", name=tensor.name, **_tensor_attributes(tensor))
        _note_ends(ends, tensor.name, tensor.legs)
    drawn.add_node("output:", kind="output", legs=graph.output)
    _note_ends(ends, "output:", graph.output)
    for leg, size in graph.leg_sizes:
        if leg in graph.summed:
            drawn.add_node(f"sum:{leg}", kind="sum")
            ends[leg].append(f"sum:{leg}")
        if leg in graph.pinned:
            drawn.add_node(f"fix:{leg}", kind="fix", index=graph.pinned[leg])
            ends[leg].append(f"fix:{leg}")
        if len(ends[leg]) == 2:
            drawn.add_edge(*ends[leg], leg=leg, dim=size)
            continue
        drawn.add_node(f"copy:{leg}", kind="copy")
        for node in ends[leg]:
            drawn.add_edge(f"copy:{leg}", node, leg=leg, dim=size)
    return drawn


def _note_ends(ends: dict[str, list[str]], node: str, legs: tuple[str, ...]) -> None:
    for leg in legs:
        ends[leg].append(node)


def _tensor_attributes(tensor: TensorNode) -> dict[str, Any]:
    return {
        "legs": tensor.legs,
        "share": tensor.share,
        "conj": tensor.conj,
        "trainable": tensor.trainable,
        "value": None if tensor.value is None else tensor.value.array,
        "init": tensor.init,
        "isometry": tensor.isometry,
    }


# -- the way back --------------------------------------------------------------------------------


@dataclass(slots=True)
class _Gathered:
    """What the edges say: sizes, each leg's edges, and per node how often a leg ends there."""

    sizes: dict[str, int] = field(default_factory=dict)
    edges: dict[str, list[tuple[Hashable, Hashable]]] = field(default_factory=dict)
    ends: dict[Hashable, Counter[str]] = field(default_factory=dict)


def graph_from_networkx(drawn: networkx.MultiGraph[Any]) -> Graph:
    """The graph that a multigraph draws.

    Arguments:
        drawn: undirected, with the attributes that this module's docstring lists.

    Raises SpecError for missing or clashing attributes, with the node or edge.
    """
    if not isinstance(drawn, networkx.Graph) or drawn.is_directed():
        msg = (
            f"from_networkx: expected an undirected networkx.MultiGraph, got "
            f"{type(drawn).__name__}; legs have no direction"
        )
        raise SpecError(msg)
    if len(drawn) > 2 * MAX_NODES + 2 * MAX_LEGS or drawn.number_of_edges() > 4 * MAX_LEGS:
        msg = f"from_networkx: {len(drawn)} nodes and {drawn.number_of_edges()} edges are too many"
        raise SpecError(msg)
    kinds = {node: _kind(node, data) for node, data in drawn.nodes(data=True)}
    gathered = _gather_edges(drawn)
    _check_joined(gathered, kinds)
    inputs: list[Port] = []
    tensors: dict[str, TensorNode] = {}
    outputs: dict[Hashable, tuple[str, ...]] = {}
    for node, data in drawn.nodes(data=True):
        if kinds[node] not in ("tensor", "input", "output"):
            continue
        legs = _legs_of(node, data, gathered)
        if kinds[node] == "input":
            inputs.append(_port(node, data, legs))
        elif kinds[node] == "output":
            outputs[node] = legs
        else:
            tensor = _tensor(node, data, legs)
            if tensor.name in tensors:
                msg = f"from_networkx: two tensor nodes have the name {tensor.name!r}"
                raise SpecError(msg)
            tensors[tensor.name] = tensor
    if len(outputs) != 1:
        msg = f"from_networkx: expected one node of kind 'output', got {shown(list(outputs))}"
        raise SpecError(msg)
    label = drawn.graph.get("label", "")
    graph = Graph(
        label=label if isinstance(label, str) else shown(label),
        leg_sizes=tuple(gathered.sizes.items()),
        inputs=tuple(inputs),
        output=next(iter(outputs.values())),
        tensors=resolve_shares(tensors.values()),
        summed=frozenset(_only_leg(n, gathered) for n, kind in kinds.items() if kind == "sum"),
        fixed=tuple(sorted(
            (_only_leg(node, gathered), _index(node, data))
            for node, data in drawn.nodes(data=True) if kinds[node] == "fix"
        )),
    )  # fmt: skip
    validate(graph, is_state=True)
    return graph


def _attribute(data: Mapping[str, Any], key: str, where: str, expected: str) -> Any:
    if key not in data:
        msg = f"from_networkx: {where} has no attribute {key!r}; expected {expected}"
        raise SpecError(msg)
    return data[key]


def _kind(node: Hashable, data: Mapping[str, Any]) -> str:
    kind = _attribute(data, "kind", f"node {shown(node)}", f"one of {', '.join(KINDS)}")
    # An array would be compared entry by entry.
    if not isinstance(kind, str) or kind not in KINDS:
        msg = (
            f"from_networkx: node {shown(node)} has kind {shown(kind)}, expected one of "
            f"{', '.join(KINDS)}"
        )
        raise SpecError(msg)
    known = {
        "tensor": ("name", "legs", *TENSOR_FLAGS),
        "input": ("name", "legs", *PORT_FLAGS),
        "output": ("name", "legs"),
        "fix": ("index",),
    }.get(kind, ())
    unknown = [key for key in data if key != "kind" and key not in known]
    if unknown:
        msg = (
            f"from_networkx: {kind} node {shown(node)} has unknown attributes {shown(unknown)}; "
            f"known are kind{''.join(f', {key}' for key in known)}"
        )
        raise SpecError(msg)
    return kind


def _gather_edges(drawn: networkx.MultiGraph[Any]) -> _Gathered:
    """Sizes, edges and ends of each leg; one size a leg."""
    gathered = _Gathered(ends={node: Counter() for node in drawn.nodes})
    for first, second, data in drawn.edges(data=True):
        where = f"edge {shown(first)} - {shown(second)}"
        name = _attribute(data, "leg", where, "the name of a leg")
        leg = check_leg_name(name, f"from_networkx: {where}")
        expected = "the size of the leg"
        dim = check_size(_attribute(data, "dim", where, expected), f"from_networkx: {where}")
        if gathered.sizes.setdefault(leg, dim) != dim:
            msg = (
                f"from_networkx: size clash on leg {leg!r}: {where} has dim {dim}, another edge "
                f"has {gathered.sizes[leg]}"
            )
            raise SpecError(msg)
        gathered.edges.setdefault(leg, []).append((first, second))
        gathered.ends[first][leg] += 1
        gathered.ends[second][leg] += 1
    return gathered


def _check_joined(gathered: _Gathered, kinds: Mapping[Hashable, str]) -> None:
    """A copy node joins edges of one leg, and edges of one leg are joined by copy nodes."""
    for node, kind in kinds.items():
        if kind == "copy" and len(gathered.ends[node]) != 1:
            msg = (
                f"from_networkx: copy node {shown(node)} joins the legs "
                f"{shown(sorted(gathered.ends[node]))}; expected one leg name on all its edges"
            )
            raise SpecError(msg)
    for leg, edges in gathered.edges.items():
        # Edges touch each other at copy nodes only: a tensor's two axes are two ends.
        touching: networkx.Graph[Any] = networkx.Graph()
        for position, edge in enumerate(edges):
            touching.add_node(position)
            touching.add_edges_from(
                (position, ("copy", node)) for node in edge if kinds[node] == "copy"
            )
        if not networkx.is_connected(touching):
            msg = (
                f"from_networkx: leg {leg!r} stands on {len(edges)} edges that no copy node "
                f"joins, {shown(edges[:3])}; give them different names or add a copy node"
            )
            raise SpecError(msg)


def _legs_of(node: Hashable, data: Mapping[str, Any], gathered: _Gathered) -> tuple[str, ...]:
    """The node's legs in the order of its axes, checked against its edges."""
    where = f"node {shown(node)}"
    given = _attribute(data, "legs", where, "its legs in the order of the axes")
    legs = split_legs(given, f"from_networkx: {where}")
    if Counter(legs) != gathered.ends[node]:
        msg = (
            f"from_networkx: {where} has the attribute legs={shown(legs)}, but its edges carry "
            f"{shown(sorted(gathered.ends[node].elements()))}; both must name the same legs"
        )
        raise SpecError(msg)
    return legs


def _only_leg(node: Hashable, gathered: _Gathered) -> str:
    legs = list(gathered.ends[node].elements())
    if len(legs) != 1:
        msg = f"from_networkx: fix or sum node {shown(node)} needs one edge, got {len(legs)}"
        raise SpecError(msg)
    return legs[0]


def _index(node: Hashable, data: Mapping[str, Any]) -> int:
    where = f"fix node {shown(node)}"
    return check_whole(
        _attribute(data, "index", where, "the basis state of the leg"), f"{where}: index"
    )


def _flag(data: Mapping[str, Any], key: str, default: bool, where: str) -> bool:
    flag = data.get(key, default)
    if not isinstance(flag, bool):
        msg = f"from_networkx: {where}: {key} must be True or False, got {shown(flag)}"
        raise SpecError(msg)
    return flag


def _port(node: Hashable, data: Mapping[str, Any], legs: tuple[str, ...]) -> Port:
    name = check_name(data.get("name", node), "input port")
    where = f"input {name!r}"
    return Port(
        name,
        legs,
        _flag(data, "batched", True, where),
        _flag(data, "product", False, where),
        check_dtype_name(data.get("dtype"), where),
    )


def _tensor(node: Hashable, data: Mapping[str, Any], legs: tuple[str, ...]) -> TensorNode:
    name = check_tensor_name(data.get("name", node))
    where = f"tensor {name!r}"
    share, value = data.get("share"), data.get("value")
    axes = data.get("isometry", ())
    if not isinstance(axes, Iterable):
        msg = f"from_networkx: {where}: isometry must be a sequence of axes, got {shown(axes)}"
        raise SpecError(msg)
    return TensorNode(
        name,
        legs,
        None if share is None else check_tensor_name(share),
        _flag(data, "conj", False, where),
        _flag(data, "trainable", True, where),
        None if value is None else as_array_value(value, where),
        check_init(data.get("init"), where),
        tuple(
            check_whole(axis, f"{where}: an axis of isometry")
            for axis in take_bounded(axes, f"{where}: isometry")
        ),
    )
