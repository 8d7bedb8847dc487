"""Plain networkx graphs: a tensor a node, a leg an edge, no attributes needed.

A node with ``copy=True`` is no tensor but a copy tensor: all its edges are one leg, a hyperedge.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import networkx

from ...errors import SpecError
from ..argument_checks import check_flag, check_leg_name, check_size, shown
from ..graph import Graph, Port, TensorNode
from .fit_names import leg_names, tensor_names

Sizes = int | Mapping[Any, int] | None


def is_plain(drawn: networkx.Graph[Any]) -> bool:
    """Whether no node says what it is: then all are tensors, or copy tensors."""
    return not any("kind" in data for _, data in drawn.nodes(data=True))


@dataclass(frozen=True, slots=True)
class _Open:
    """A leg of x or of y that a node has: the port, "input" or "output", and its size."""

    port: str
    node: Hashable
    size: int


@dataclass(frozen=True, slots=True)
class _Leg:
    """Edges that are one leg: one edge, or all that copy nodes join.

    Arguments:
        edges: with their attributes.
        copies: the nodes that join them.
        opened: where it is a leg of a port.
    """

    edges: tuple[tuple[Hashable, Hashable, Mapping[str, Any]], ...]
    copies: tuple[Hashable, ...]
    opened: tuple[_Open, ...]

    @property
    def where(self) -> str:
        """What it is, for messages."""
        if self.copies:
            return f"the copy node {shown(self.copies[0])}"
        if self.edges:
            return f"the edge {shown(self.edges[0][:2])}"
        return f"the open leg of {shown(self.opened[0].node)}"


def graph_from_plain(
    drawn: networkx.Graph[Any], bond: int | None, input: Sizes, output: Sizes
) -> Graph:
    """The network of a plain graph.

    Arguments:
        drawn: an edge may have ``dim`` and ``leg``, its size and its name; a node ``copy``.
        bond: size of the edges that have no ``dim``, nor meet one that has at a copy node.
        input: size of an open leg of x on each tensor, or by node on some. A copy node has no open
            leg of its own: its edges' leg is one of x then.
        output: the same of y.

    Raises:
        SpecError: a size is missing, sizes of one leg differ, or a node is not there.
    """
    copies = _copies(drawn)
    tensors = [node for node in drawn if node not in copies]
    texts = [str(drawn.nodes[node].get("name", node)) for node in tensors]
    names = dict(zip(tensors, tensor_names(texts), strict=True))
    opened = [
        *_open("input", input, names, copies),
        *_open("output", output, names, copies),
    ]
    legs = _legs(drawn, copies, opened)
    called = _called(drawn, legs, names)
    axes: dict[Hashable, list[str]] = {node: [] for node in tensors}
    ports: dict[str, list[str]] = {"input": [], "output": []}
    sizes: dict[str, int] = {}
    for leg, name in zip(legs, called, strict=True):
        sizes[name] = _size(leg, bond)
        for end in (end for edge in leg.edges for end in edge[:2]):
            if end in axes:
                axes[end].append(name)
    at = {one: name for leg, name in zip(legs, called, strict=True) for one in leg.opened}
    for one in opened:
        name = at[one]
        ports[one.port].append(name)
        if one.node in axes:
            axes[one.node].append(name)
    ends = Counter(name for several in (*axes.values(), *ports.values()) for name in several)
    return Graph(
        label=str(drawn.graph.get("label", drawn.graph.get("name", ""))),
        leg_sizes=tuple(sizes.items()),
        inputs=(Port("x", tuple(ports["input"])),) if ports["input"] else (),
        output=tuple(ports["output"]),
        tensors=tuple(TensorNode(names[node], tuple(axes[node])) for node in tensors),
        summed=frozenset(name for name in sizes if ends[name] == 1),
    )


def _copies(drawn: networkx.Graph[Any]) -> set[Hashable]:
    """The nodes that are copy tensors."""
    return {
        node
        for node, data in drawn.nodes(data=True)
        if check_flag(data.get("copy", False), f"from_networkx: node {shown(node)}: copy")
    }


def _open(port: str, given: Sizes, names: Mapping[Any, str], copies: set[Hashable]) -> list[_Open]:
    """The open legs of a port, as they were asked for."""
    if given is None:
        return []
    if not isinstance(given, Mapping):
        given = dict.fromkeys(names, given)
    for node in given:
        if node not in names and node not in copies:
            msg = f"from_networkx: {port}= names {shown(node)}, which is no node of the graph"
            raise SpecError(msg)
    return [
        _Open(port, node, check_size(size, f"from_networkx: the open leg of {shown(node)}"))
        for node, size in given.items()
    ]


def _legs(drawn: networkx.Graph[Any], copies: set[Hashable], opened: Sequence[_Open]) -> list[_Leg]:
    """Edges that copy nodes join are one leg, as many as they are; open legs of tensors are legs of
    their own."""
    edges = list(drawn.edges(data=True))
    joined: networkx.Graph[Any] = networkx.Graph()
    for number, edge in enumerate(edges):
        joined.add_node((number,))
        joined.add_edges_from(((number,), ("copy", end)) for end in edge[:2] if end in copies)
    joined.add_nodes_from(("copy", node) for node in drawn if node in copies)
    ranks = {node: rank for rank, node in enumerate(drawn)}
    asked: dict[Hashable, list[_Open]] = {}
    for one in opened:
        asked.setdefault(one.node, []).append(one)
    found: list[_Leg] = []
    for part in networkx.connected_components(joined):
        numbers = sorted(key[0] for key in part if len(key) == 1)
        own = sorted((key[1] for key in part if len(key) == 2), key=ranks.__getitem__)
        at = tuple(one for node in own for one in asked.get(node, ()))
        leg = _Leg(tuple(edges[number] for number in numbers), tuple(own), at)
        if own and not at and all(end in copies for edge in leg.edges for end in edge[:2]):
            msg = f"from_networkx: {leg.where} joins no tensor; join it to some, or leave it out"
            raise SpecError(msg)
        found.append(leg)
    return [*found, *(_Leg((), (), (one,)) for one in opened if one.node not in copies)]


def _called(
    drawn: networkx.Graph[Any], legs: Sequence[_Leg], names: Mapping[Any, str]
) -> list[str]:
    """A name for each leg: that of its edges, else one made of its number or of its node."""
    given: list[str | None] = []
    for leg in legs:
        own = dict.fromkeys(data["leg"] for _, _, data in leg.edges if "leg" in data)
        if len(own) > 1:
            msg = (
                f"from_networkx: {leg.where} joins edges with the names {shown(list(own))}; they "
                "are one leg: give them one name"
            )
            raise SpecError(msg)
        given.append(next((check_leg_name(n, f"from_networkx: {leg.where}") for n in own), None))
    count = Counter(name for name in given if name is not None)
    for name in count:
        if count[name] > 1:
            msg = f"from_networkx: two edges are called {name!r}; name them apart"
            raise SpecError(msg)
    wanted = [name or _text(drawn, legs[k], k, names) for k, name in enumerate(given)]
    # What is said counts before what is made.
    first = sorted(range(len(legs)), key=lambda k: given[k] is None)
    made = dict(zip(first, leg_names([wanted[k] for k in first], dots=True), strict=True))
    return [made[k] for k in range(len(legs))]


def _text(drawn: networkx.Graph[Any], leg: _Leg, number: int, names: Mapping[Any, str]) -> str:
    """What a leg without a name is called after."""
    if leg.copies:
        return str(drawn.nodes[leg.copies[0]].get("name", leg.copies[0]))
    if leg.edges:
        return f"e_{number}"
    (one,) = leg.opened
    return f"{'i' if one.port == 'input' else 'j'}_{names[one.node]}"


def _size(leg: _Leg, bond: int | None) -> int:
    """The size of a leg; all that is said of it must be one number."""
    said = [
        (f"the edge {shown((one, other))}", data["dim"])
        for one, other, data in leg.edges
        if "dim" in data
    ]
    said = [(what, check_size(size, f"from_networkx: {what}")) for what, size in said]
    said += [(f"{one.port}= for {shown(one.node)}", one.size) for one in leg.opened]
    if len({size for _, size in said}) > 1:
        sizes = ", ".join(f"{what} has {size}" for what, size in _different(said))
        msg = (
            f"from_networkx: {leg.where} joins legs of different sizes: {sizes}; a copy tensor has "
            "one size for all"
        )
        raise SpecError(msg)
    if said:
        return said[0][1]
    if any("size" in data for *_, data in leg.edges):
        msg = f"from_networkx: {leg.where} has an attribute 'size', which is not read; call it dim"
        raise SpecError(msg)
    if bond is None:
        msg = (
            f"from_networkx: {leg.where} has no size; give "
            f"{'one of its edges' if leg.copies else 'it'} an attribute dim, or all of them one "
            "with bond="
        )
        raise SpecError(msg)
    return check_size(bond, f"from_networkx: {leg.where}")


def _different(said: Iterable[tuple[str, int]]) -> list[tuple[str, int]]:
    """The first of each size."""
    found: dict[int, tuple[str, int]] = {}
    for what, size in said:
        found.setdefault(size, (what, size))
    return list(found.values())
