"""Ways from other forms to a network and back: networkx, quimb, einsum, JSON, drawn designs."""

from __future__ import annotations

import os
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Self

import networkx

from ..errors import SpecError
from ..support.json_text import read_document, write_document
from .argument_checks import check_mapping, shown
from .bridges.document import document_from_graph, graph_from_document
from .bridges.editor_design import graph_from_design
from .bridges.einsum import UNSAID, Einsum, einsum_from_graph, graph_from_einsum, warn_of_batch
from .bridges.networkx_graph import graph_from_networkx, networkx_from_graph
from .bridges.plain_networkx import graph_from_plain, is_plain
from .bridges.quimb_network import graph_from_quimb, quimb_from_graph
from .graph import Graph


class Bridged(ABC):
    """What is made from other forms, and written as them; ``bridges/`` does it."""

    @classmethod
    @abstractmethod
    def from_graph(cls, graph: Graph) -> Self:
        """A network with the content of a graph."""

    @abstractmethod
    def freeze(self) -> Graph:
        """The content of a finished network."""

    @abstractmethod
    def set_values(self, values: Mapping[str, object]) -> None:
        """Bring in entries by tensor name."""

    @classmethod
    def from_networkx(
        cls,
        multigraph: networkx.Graph[Any],
        values: Mapping[str, object] | None = None,
        *,
        bond: int | None = None,
        input: int | Mapping[Any, int] | None = None,
        output: int | Mapping[Any, int] | None = None,
    ) -> Self:
        """The network that a networkx graph draws (see tnlayer.graph.bridges.networkx_graph).

        Where no node has a ``kind``, each is a tensor, and each edge a leg. A node with
        ``copy=True`` is a copy tensor then: all its edges are one leg, which is called as they are
        (``leg``) or as the node. What is no name, such as 0, is made one (t_0), beside those that
        are.

        Arguments:
            multigraph: nodes with ``kind`` (tensor, input, output, copy, fix, sum) and ``legs``, in
                order, edges with ``leg`` and ``dim``; a plain nx.Graph where no two nodes share
                two legs. A tensor's name is its node, or the node's attribute ``name``.
            values: entries at full shape by tensor name.
            bond: of a plain graph: size of the edges without ``dim``; those of one copy node have
                one size, so that one ``dim`` is enough.
            input: of a plain graph: size of a leg of x on each tensor, or by node on some. By a
                copy node the leg of its edges is the one of x.
            output: the same of y.

        Raises SpecError for missing or clashing attributes, and for sizes or names of one leg that
        differ.

        A ring of four tensors, each with a leg of x and a leg of y:

        >>> import networkx, tnlayer as tn
        >>> ring = tn.Network.from_networkx(networkx.cycle_graph(4), bond=3, input=2, output=2)
        >>> ring.in_features, ring.out_features, ring.parameter_count
        (16, 16, 144)

        Three vectors that a copy node joins:

        >>> star = networkx.Graph([("r", "A"), ("r", "B"), ("r", "C")])
        >>> star.nodes["r"]["copy"] = True
        >>> joined = tn.Network.from_networkx(star, bond=5, input={"A": 2, "B": 3}, output={"C": 4})
        >>> joined
        <Network '': 6 -> 4, 3 tensors, 45 parameters (1.88x as many as dense)>

        What each node is, in attributes:

        >>> drawn = networkx.Graph()
        >>> drawn.add_node("x", kind="input", legs=["i"])
        >>> drawn.add_node("y", kind="output", legs=["j"])
        >>> drawn.add_node("A", kind="tensor", legs=["i", "a"])
        >>> drawn.add_node("B", kind="tensor", legs=["a", "j"])
        >>> for one, other, leg, dim in [
        ...     ("x", "A", "i", 8), ("A", "B", "a", 2), ("B", "y", "j", 6)
        ... ]:
        ...     drawn.add_edge(one, other, leg=leg, dim=dim)
        >>> net = tn.Network.from_networkx(drawn)
        >>> net.in_features, net.out_features, net.parameter_count
        (8, 6, 28)
        """
        given: Any = multigraph
        if isinstance(multigraph, networkx.Graph) and multigraph and is_plain(multigraph):
            graph = graph_from_plain(multigraph, bond, input, output)
        else:
            graph = graph_from_networkx(given)
        net = cls.from_graph(graph)
        net.set_values({} if values is None else values)
        return net

    @classmethod
    def from_quimb(
        cls,
        network: Any,
        inputs: Sequence[str] = (),
        output: Sequence[str] | None = None,
        *,
        trainable: bool = True,
    ) -> Self:
        """The network of a quimb TensorNetwork, whose tensors start with its entries.

        quimb's factor of the whole, ``network.exponent``, is multiplied into them. Tensors whose
        ``left_inds`` make them isometric, to 1e-5, get ``isometry=`` these.

        Arguments:
            network: any quimb TensorNetwork, such as an MPS or an MPO.
            inputs: indices by which x enters, in order.
            output: indices of y, in order; None: all other open ones, as they come.
            trainable: False for constants.

        Raises SpecError for anything else, for indices that there are not, and for an exponent that
        no entries can take.

        >>> from types import SimpleNamespace as Any
        >>> core = Any(inds=("k0", "b0"), data=[[1.0, 2.0], [3.0, 4.0]], tags=["I0"])
        >>> import tnlayer as tn
        >>> net = tn.Network.from_quimb(Any(tensors=[core]), inputs=["k0"])
        >>> net.in_features, net.out_features
        (2, 2)
        """
        return cls.from_graph(graph_from_quimb(network, inputs, output, trainable=trainable))

    def to_quimb(self, values: Mapping[str, object] | None = None) -> Any:
        """The network as a quimb TensorNetwork (``pip install tnlayer[quimb]``), tagged by name.

        Arguments:
            values: entries by tensor name, such as ``dict(layer.named_parameters())``; those that
                have values of their own need none.

        Raises BuildError without quimb, SpecError for tensors without entries and fixed legs.

        >>> import tnlayer as tn
        >>> net = tn.Network.from_einsum("j,jk->k", sizes={"j": 2, "k": 3}, names=["x", "W"])
        >>> net.to_quimb({"W": [[1.0] * 3] * 2}).num_tensors  # doctest: +SKIP
        1
        """
        return quimb_from_graph(self.freeze(), values)

    @classmethod
    def from_tensor_network_editor(
        cls,
        text: str | bytes,
        inputs: Sequence[str] = (),
        output: Sequence[str] | None = None,
        *,
        trainable: bool = True,
        values: Mapping[str, object] | None = None,
    ) -> Self:
        """The network of a design that tensor-network-editor saved as JSON.

        Legs have the names of edges, and open ones those of their indices. Entries that the design
        lists are where the tensors start; random ones are drawn anew, as the layer's are.

        Arguments:
            text: the file's, of schema version 1 or 2.
            inputs: open indices by which x enters, in order, as "TENSOR.INDEX" or by their ids.
            output: those of y, in order; None: all other open ones, as they come.
            trainable: False for constants and frozen tensors.
            values: entries at full shape by tensor name.

        Raises SpecError for anything else, for indices that there are not, for periodic designs,
        and for entries that lie in another file.

        >>> import json
        >>> indices = [{"id": k, "name": k, "dimension": d} for k, d in (("i", 3), ("j", 2))]
        >>> core = {"id": "t", "name": "A", "indices": indices}
        >>> text = json.dumps({"schema_version": 2, "network": {"name": "", "tensors": [core]}})
        >>> import tnlayer as tn
        >>> net = tn.Network.from_tensor_network_editor(text, inputs=["A.i"])
        >>> net.in_features, net.out_features
        (3, 2)
        """
        check_mapping(values or {}, "values", "arrays by tensor name")
        given = list(values or {})
        net = cls.from_graph(
            graph_from_design(text, inputs, output, trainable=trainable, given=given)
        )
        net.set_values({} if values is None else values)
        return net

    def to_networkx(self) -> networkx.MultiGraph[Any]:
        """The network as a networkx multigraph; from_networkx gives it back.

        >>> import tnlayer as tn
        >>> net = tn.Network.from_einsum("j,jk->k", sizes={"j": 2, "k": 3}, names=["x", "W"])
        >>> tn.Network.from_networkx(net.to_networkx()).freeze() == net.freeze()
        True
        """
        return networkx_from_graph(self.freeze())

    @classmethod
    def from_einsum(
        cls,
        equation: str,
        *,
        sizes: Mapping[str, int],
        inputs: Sequence[int] = (0,),
        names: Sequence[str] | None = None,
        values: Mapping[str, object] | None = None,
        batch: str | None = UNSAID,
    ) -> Self:
        """The network of an einsum equation, with a letter for the batch or without.

        Arguments:
            equation: such as "ij,jk->ik"; without an arrow the output is numpy's.
            sizes: size by letter; the batch needs none.
            inputs: positions of the operands that are inputs; the others are tensors.
            names: a name for each operand.
            values: entries at full shape by tensor name.
            batch: letters of leading dimensions, such as "b" in "bi,ij->bj". They stand first, in
                the inputs that have them (the others are not batched) and in the output. None:
                there are none. Left out there are none either, with a warning where a letter could
                be meant: first in the output and in every input, and on no tensor.

        Raises SpecError for an ellipsis, missing sizes, wrong positions, and letters of the batch
        that stand elsewhere.

        >>> import tnlayer as tn
        >>> tn.Network.from_einsum("j,jk->k", sizes={"j": 2, "k": 3}).parameter_count
        6
        >>> tn.Network.from_einsum("bj,jk->bk", sizes={"j": 2, "k": 3}, batch="b").in_features
        2
        """
        net = cls.from_graph(graph_from_einsum(equation, sizes, inputs, names, batch))
        net.set_values({} if values is None else values)
        if batch is not None and not batch:
            warn_of_batch(equation, inputs)
        return net

    def to_einsum(self, *, batch: bool = False) -> Einsum:
        """The network as an einsum equation with the names of its operands.

        ``from_einsum(**form._asdict())`` gives the network back. Beyond 52 legs the letters are
        other characters, as in opt_einsum; numpy.einsum and torch.einsum take 52. An equation has
        no place for what a tensor or a port is beside its legs: values, init, isometry, trainable,
        dtype. A shared tensor stands under its owner's name, which from_einsum does not take twice.

        Arguments:
            batch: whether to write the batch as a letter, first in each batched input and in the
                output; without it all inputs come back batched.

        Raises SpecError for conjugated tensors, fixed legs, product ports and an empty network.

        >>> import tnlayer as tn
        >>> net = tn.Network.from_einsum("j,jk->k", sizes={"j": 2, "k": 3}, names=["x", "W"])
        >>> net.to_einsum()[:2]
        ('j,jk->k', ('x', 'W'))
        >>> net.to_einsum(batch=True).equation
        'aj,jk->ak'
        """
        return einsum_from_graph(self.freeze(), batch=batch)

    def to_json(self) -> str:
        """The network as canonical JSON text of a versioned schema; callables are refused.

        Raises SpecError for an init that is a callable.

        >>> import tnlayer as tn
        >>> net = tn.Network.from_einsum("j,jk->k", sizes={"j": 2, "k": 3})
        >>> tn.Network.from_json(net.to_json()).freeze() == net.freeze()
        True
        """
        return write_document(document_from_graph(self.freeze()))

    @classmethod
    def from_json(cls, text: str | bytes | os.PathLike[str]) -> Self:
        """The network that to_json wrote.

        Arguments:
            text: the document, or the path of its file, as a Path.

        Raises SpecError for what is no such document; unknown keys are refused.

        >>> import tnlayer as tn
        >>> net = tn.Network.from_einsum("j,jk->k", sizes={"j": 2, "k": 3})
        >>> tn.Network.from_json(net.to_json()).parameter_count
        6
        """
        if isinstance(text, os.PathLike):
            text = Path(text).read_bytes()
        elif isinstance(text, str) and text.endswith(".json") and "{" not in text:
            msg = f"from_json: {shown(text)} names a file and is no JSON; pass Path({shown(text)})"
            raise SpecError(msg)
        return cls.from_graph(graph_from_document(read_document(text)))
