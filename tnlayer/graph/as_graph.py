"""What is asked for as a network: a builder, a graph, or a layer, which has graphs."""

from __future__ import annotations

from collections.abc import Sequence
from inspect import isfunction
from typing import Any, Protocol, TypeGuard, cast, runtime_checkable

from ..errors import SpecError
from .argument_checks import shown
from .graph import Graph
from .network import Network
from .sum_of_networks import SumOfNetworks
from .topology_names import as_written


@runtime_checkable
class HasGraphs(Protocol):
    """What was made from networks and keeps them, such as a Layer."""

    @property
    def graphs(self) -> tuple[Graph, ...]:
        """The networks whose results are summed."""
        ...

    @property
    def dtype(self) -> Any:
        """Dtype of parameters and arithmetic."""
        ...


AnyNetwork = Network | Graph | HasGraphs
# A SumOfNetworks, or a list of what it is made from.
AnySum = Sequence[Network | Graph]


def as_graph(net: object, where: str = "") -> Graph:
    """The frozen graph of a network.

    Arguments:
        net: a Network, a Graph, or a layer of one network.
        where: what was called, for messages.

    Raises SpecError for anything else, and where the network is not finished.
    """
    if isinstance(net, Graph):
        return net
    if isinstance(net, Network):
        return net.freeze()
    what = f"{where}: " if where else ""
    if isinstance(net, HasGraphs):
        graphs = net.graphs
        if len(graphs) == 1:
            return graphs[0]
        msg = (
            f"{what}expected one network, got a layer that sums {len(graphs)} of them; pass one of "
            "layer.graphs, or ask layer.costs() and layer.explain()"
        )
        raise SpecError(msg)
    if is_sum(net):
        msg = (
            f"{what}expected one network, got a sum of {len(net)}; pass one of them, such as "
            "net[0], or ask tn.cost(net) or tn.plan(net), which take all; tn.Layer(net) runs them"
        )
        raise SpecError(msg)
    if isinstance(net, str) and net.isidentifier():
        name = as_written(net)
        msg = (
            f"{what}expected a network, got {shown(net)}: write {name}(...), with its "
            f"sizes, or {name} where a budget finds them"
        )
        raise SpecError(msg)
    msg = (
        f"{what}expected a network, got {_what(net)}; describe one with tn.Network(), or take one "
        "of tn.topologies, such as tn.topologies.tensor_train((16, 16), (16, 16), rank=4)"
    )
    raise SpecError(msg)


def is_sum(net: object) -> TypeGuard[AnySum]:
    """Whether something is a sum of networks, or a list of networks that stands for one."""
    if not isinstance(net, Sequence) or isinstance(net, str | bytes) or not net:
        return False
    return all(isinstance(one, Graph | Network) for one in cast(Sequence[object], net))


def as_sum(net: AnySum) -> SumOfNetworks:
    """The networks of a sum, frozen.

    Raises SpecError where their ports differ, or one is not finished.
    """
    return SumOfNetworks.of(as_graph(one) for one in net)


def _what(net: object) -> str:
    """A value in a few words, with its type where the value does not show it."""
    if isfunction(net):
        return f"the function {net.__name__}, which was not called with its arguments"
    text = shown(net)
    return text if type(net).__name__ in text else f"{text} of type {type(net).__name__}"


def dtype_asked_for(net: object, dtype: object) -> object:
    """The dtype that was asked for; where none was, and the network is that of a layer, its own."""
    return net.dtype if dtype is None and isinstance(net, HasGraphs) else dtype
