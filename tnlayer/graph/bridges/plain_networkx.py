"""Plain networkx graphs: a tensor a node, a leg an edge, no attributes needed."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from ...errors import SpecError
from ..argument_checks import IDENTIFIER, check_size, shown
from ..graph import Graph, Port, TensorNode

if TYPE_CHECKING:
    import networkx

Sizes = int | Mapping[Any, int] | None


def is_plain(drawn: networkx.Graph[Any]) -> bool:
    """Whether no node says what it is: then all are tensors."""
    return not any("kind" in data for _, data in drawn.nodes(data=True))


def graph_from_plain(
    drawn: networkx.Graph[Any], bond: int | None, input: Sizes, output: Sizes
) -> Graph:
    """The network of a plain graph.

    Arguments:
        drawn: an edge may have ``dim`` and ``leg``, its size and its name.
        bond: size of the edges that have no ``dim``.
        input: size of an open leg of x on each node, or by node on some.
        output: the same of y.

    Raises:
        SpecError: a size is missing, or a node is not there.
    """
    names = _names(drawn)
    legs: dict[Any, list[str]] = {node: [] for node in names}
    sizes: dict[str, int] = {}
    for number, (one, other, data) in enumerate(drawn.edges(data=True)):
        leg = str(data.get("leg", f"e{number}"))
        size = data.get("dim", bond)
        if size is None:
            msg = (
                f"from_networkx: the edge {shown((one, other))} has no size; give it an attribute "
                "dim, or all of them one with bond="
            )
            raise SpecError(msg)
        if leg in sizes:
            msg = f"from_networkx: two edges are called {leg!r}; name them apart"
            raise SpecError(msg)
        sizes[leg] = check_size(size, f"from_networkx: the edge {shown((one, other))}")
        legs[one].append(leg)
        legs[other].append(leg)
    ports: dict[str, list[str]] = {}
    for kind, given in (("i", input), ("j", output)):
        ports[kind] = []
        for node, size in _open(given, names, kind).items():
            leg = f"{kind}_{names[node]}"
            sizes[leg] = check_size(size, f"from_networkx: the open leg of {shown(node)}")
            legs[node].append(leg)
            ports[kind].append(leg)
    return Graph(
        label=str(drawn.graph.get("label", drawn.graph.get("name", ""))),
        leg_sizes=tuple(sizes.items()),
        inputs=(Port("x", tuple(ports["i"])),) if ports["i"] else (),
        output=tuple(ports["j"]),
        tensors=tuple(TensorNode(names[node], tuple(legs[node])) for node in names),
    )


def _names(drawn: networkx.Graph[Any]) -> dict[Any, str]:
    """A tensor's name for each node: its own, where that is one."""
    found: dict[Any, str] = {}
    taken: set[str] = set()
    for node, data in drawn.nodes(data=True):
        text = str(data.get("name", node))
        if IDENTIFIER.fullmatch(text) is None:
            text = "t_" + re.sub(r"\W+", "_", text).strip("_")
        while text in taken:
            text += "_"
        taken.add(text)
        found[node] = text
    return found


def _open(given: Sizes, names: Mapping[Any, str], kind: str) -> dict[Any, int]:
    """Size of the open leg by node."""
    if given is None:
        return {}
    if not isinstance(given, Mapping):
        return dict.fromkeys(names, given)
    for node in given:
        if node not in names:
            option = "input" if kind == "i" else "output"
            msg = f"from_networkx: {option}= names {shown(node)}, which is no node of the graph"
            raise SpecError(msg)
    return dict(given)
