"""A search for an order, as planning asks for one."""

from __future__ import annotations

import tnlayer as tn
from tnlayer.graph.canonical import canonicalise
from tnlayer.graph.graph import Graph
from tnlayer.passes.lower_graph import make_terms
from tnlayer.planning.contraction_order import Found, search_order
from tnlayer.planning.deadline import Deadline

MERA = canonicalise(tn.topologies.mera(12, 2, 3).freeze()).graph


def find(
    graph: Graph, minimize: str = "combo-64", effort: str = "fast", deadline: float | None = None
) -> Found:
    """The order for a canonical graph at batch 64."""
    terms = make_terms(graph, is_complex=False)
    return search_order(
        [term.legs for term in terms.terms],
        [leg for axis in terms.output for leg in axis],
        {**dict(terms.leg_sizes), "b": 64},
        tensors=len(graph.tensors),
        minimize=minimize,
        effort=effort,
        deadline=None if deadline is None else Deadline(deadline),
    )
