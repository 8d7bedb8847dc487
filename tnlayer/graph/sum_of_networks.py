"""A sum of networks: what ``net1 + net2`` gives and tn.Layer takes."""

from __future__ import annotations

from collections.abc import Iterable

from ..support.wording import counted
from .graph import Graph
from .port_differences import check_can_be_added


class SumOfNetworks(tuple[Graph, ...]):
    """Networks with equal ports, whose results are added: ``net1 + net2 + net3``.

    :class:`tnlayer.Layer` takes it as it takes a list; tensors of one name in two of them must be
    renamed, or are one parameter with ``shared=``.

    >>> import tnlayer as tn
    >>> T = tn.topologies
    >>> both = T.low_rank(16, 16, rank=2) + T.tensor_train((4, 4), (4, 4), rank=2)
    >>> print(both)
    low rank + tensor train
    >>> tn.Layer(both, backend="torch").parameter_count
    128
    """

    __slots__ = ()

    @classmethod
    def of(cls, graphs: Iterable[Graph]) -> SumOfNetworks:
        """The sum of graphs.

        Arguments:
            graphs: one or more.

        Raises:
            SpecError: their ports differ.

        >>> import tnlayer as tn
        >>> net = tn.topologies.low_rank(4, 4, rank=1)
        >>> len(tn.SumOfNetworks.of([net.freeze(), net.renamed(prefix="b_").freeze()]))
        2
        """
        found = tuple(graphs)
        for graph in found[1:]:
            check_can_be_added(found[0], graph)
        return cls(found)

    def __str__(self) -> str:
        return " + ".join(graph.label or "network" for graph in self)

    def __repr__(self) -> str:
        return f"<Sum of {counted(len(self), 'network')}: {self}>"

    @property
    def parameter_count(self) -> int:
        """Trainable entries, those of one name counted once."""
        found = {p.name: p for graph in self for p in graph.parameters if p.node.trainable}
        return sum(p.size for p in found.values())
