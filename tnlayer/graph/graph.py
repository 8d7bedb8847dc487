"""The frozen Graph: its content (graph_values.py), and how it is shown."""

from __future__ import annotations

from .describe import describe, graph_html, headline
from .drawing.drawable import Drawable
from .graph_values import (
    MAX_LEG_SIZE,
    MAX_LEGS,
    MAX_NODES,
    MAX_PARAMETER_ENTRIES,
    MAX_PORT_FEATURES,
    SCALED,
    ArrayValue,
    GraphValues,
    Parameter,
    Port,
    TensorNode,
    count_parameters,
)

__all__ = [
    "MAX_LEGS",
    "MAX_LEG_SIZE",
    "MAX_NODES",
    "MAX_PARAMETER_ENTRIES",
    "MAX_PORT_FEATURES",
    "SCALED",
    "ArrayValue",
    "Graph",
    "Parameter",
    "Port",
    "TensorNode",
    "count_parameters",
]


class Graph(GraphValues, Drawable):
    """A frozen, hashable network; made by ``Network.freeze()``, which also validates it.

    Equal graphs have the same ports (order of inputs, legs' order, flags), the same tensors by
    name (axis order, sharing, flags, values, init) and the same sizes, sums and fixed legs. The
    label, the order of declaration and the names of legs are not content: a leg is what it joins.

    >>> import tnlayer as tn
    >>> graph = tn.topologies.low_rank(8, 6, rank=2).freeze()
    >>> print(graph)
    Network 'low rank': 8 -> 6, 2 tensors, 28 parameters (1.71x fewer than dense)
      input   x  i=8      8 features
      output     j=6      6 features
      tensor  V  r=2 i=8  16 parameters
      tensor  U  j=6 r=2  12 parameters
    >>> graph == tn.topologies.low_rank(8, 6, rank=2).freeze()
    True
    >>> graph.in_features, graph.out_features, graph.dense_parameter_count
    (8, 6, 48)
    >>> graph.parameter_count, graph.stored_count, graph.is_complex
    (28, 28, False)
    >>> graph.is_batched, graph.is_closed
    (True, False)
    >>> graph.sizes["r"], graph.pinned, list(graph.nodes)
    (2, {}, ['V', 'U'])
    >>> graph.shape_of(("j", "r")), graph.open_legs(("i",)), graph.input_shape(graph.inputs[0])
    ((6, 2), ('i',), (8,))
    >>> [(parameter.name, parameter.shape) for parameter in graph.parameters]
    [('V', (2, 8)), ('U', (6, 2))]
    """

    def __repr__(self) -> str:
        return f"<Graph {headline(self)}>"

    def __str__(self) -> str:
        return describe(self)

    def _repr_html_(self) -> str:
        return graph_html(self)

    def _drawn(self) -> tuple[GraphValues, None]:
        return self, None
