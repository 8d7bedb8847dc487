"""Expectation values: the networks of <state|operator|state>, closed, ready to be trained."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from ..errors import SpecError
from .argument_checks import as_array_value, check_flag, check_mapping, check_whole, shown
from .as_graph import AnyNetwork, as_graph
from .cancel_isometries import cancel_isometries
from .graph import Graph, TensorNode
from .graph_values import SCALED
from .network import Network, freeze_state
from .sum_of_networks import SumOfNetworks

Sites = int | Sequence[int]


def energy(
    state: AnyNetwork, operator: Mapping[Any, object], *, isometric: bool = False
) -> SumOfNetworks:
    """The networks of <state|operator|state>, one a term of the operator.

    Each has the state's tensors twice, shared, once conjugated, and a term of the operator as a
    constant between them. ``tn.Layer(tn.energy(...), shared=True)()`` is their
    sum, and trains the state. It is divided by nothing: <state|state> is
    ``energy(state, {(): 1.0})``.

    How the state starts does not depend on the operator: entries that are free are drawn with the
    deviations for which <state|state> is 1 in the mean, and isometries are no multiples. A state of
    isometries has norm 1, kept or at the start, where the side of each that faces the sites is no
    smaller than the other: with their outputs fixed mera(8, 2, 2) and periodic_mera(8, 2, 4), and
    not mera(8, 2, 4), whose disentanglers grow from 2 x 2 to 4 x 4 on the way up (0.01 to 0.03
    there). An energy is divided by its norm everywhere else.

    Arguments:
        state: its open legs, those of its inputs and then those of the output, are the sites, in
            order from 0; what is fixed is no site. There may be more than a layer could have
            features for. The norm of many sites is a number beyond all ranges where nothing keeps
            it near 1: ``tn.Layer(..., log_scale=True)`` has its logarithm.
        operator: a term by the sites that it acts on, (3, 4) or 3, each a matrix, rows and columns
            row major in these sites, or an array with the legs of the rows and then of the columns.
            () for a number.
        isometric: whether tensors with ``isometry=`` are isometries now, and are kept so by
            training: pairs of them that do not see a term are left out, as in a MERA all but those
            in its causal cone.

    Raises:
        SpecError: a site is not there, a term has another size, or a tensor is called "bias".

    >>> import numpy as np, tnlayer as tn
    >>> x = np.array([[0.0, 1.0], [1.0, 0.0]])
    >>> z = np.diag([1.0, -1.0])
    >>> chain = {(k, k + 1): -np.kron(z, z) for k in range(3)} | {k: -x for k in range(4)}
    >>> terms = tn.energy(tn.topologies.mps(4, dim=2, bond=2), chain)
    >>> len(terms), terms.parameter_count
    (7, 24)
    >>> layer = tn.Layer(terms, shared=True, backend="torch", effort="fast", dtype="float64")
    >>> layer().shape
    torch.Size([1])
    """
    check_flag(isometric, "energy: isometric")
    check_mapping(operator, "energy: operator", "terms by the sites that they act on")
    # What a state has open is joined to its conjugate: nothing has as many entries as it.
    is_network = isinstance(state, Network)
    graph = _with_start(freeze_state(state) if is_network else as_graph(state, "energy"))
    sites = _sites(graph)
    if not operator:
        msg = "energy: the operator has no term; pass {(0, 1): matrix, ...}"
        raise SpecError(msg)
    return SumOfNetworks.of(
        _term(graph, sites, _places(where, sites), value, number, isometric)
        for number, (where, value) in enumerate(operator.items())
    )


def _with_start(graph: Graph) -> Graph:
    """The state with deviations for its free tensors: a layer would scale them by its result, and
    that of an operator may be anything, zero as well.

    Of <state|state>, the sum over all legs of products of entries and their conjugates, the mean is
    the product of all sizes and all variances; each tensor takes its part of each of its legs.
    """
    uses = Counter(leg for tensor in graph.tensors for leg in set(tensor.legs))
    sizes = {leg: 1 if leg in graph.pinned else size for leg, size in graph.sizes.items()}

    def started(tensor: TensorNode) -> TensorNode:
        if tensor.value is not None or tensor.share is not None:
            return tensor
        if tensor.isometry:
            return replace(tensor, init=None) if tensor.init == SCALED else tensor
        if tensor.init not in (None, "normal"):
            return tensor
        logs = (math.log(sizes[leg]) / uses[leg] for leg in set(tensor.legs))
        return replace(tensor, init=math.exp(-math.fsum(logs) / 2))

    tensors = tuple(map(started, graph.tensors))
    return Graph(
        graph.label,
        graph.leg_sizes,
        graph.inputs,
        graph.output,
        tensors,
        graph.summed,
        graph.fixed,
    )


def _sites(graph: Graph) -> list[str]:
    """The open legs of the inputs and of the output."""
    legs = [leg for port in graph.inputs for leg in graph.open_legs(port.legs)]
    legs += graph.open_legs(graph.output)
    twice = [leg for leg, count in Counter(legs).items() if count > 1]
    if twice:
        msg = f"energy: leg {twice[0]!r} stands in two ports of {graph.label!r}; it is no site"
        raise SpecError(msg)
    return legs


def _places(where: Sites, sites: Sequence[str]) -> tuple[int, ...]:
    """The sites of a term, checked."""
    several = where if isinstance(where, Sequence) else (where,)
    places = tuple(check_whole(site, "energy: a site") for site in several)
    for place in places:
        if not 0 <= place < len(sites):
            msg = f"energy: there is no site {place}; the state has {len(sites)}, from 0 on"
            raise SpecError(msg)
    if len(set(places)) != len(places):
        msg = f"energy: a term names a site twice: {shown(where)}"
        raise SpecError(msg)
    return places


def _term(
    graph: Graph,
    sites: Sequence[str],
    places: tuple[int, ...],
    value: object,
    number: int,
    isometric: bool,
) -> Graph:
    """The closed network of one term."""
    seen = [sites[place] for place in places]
    shape = tuple(graph.sizes[leg] for leg in seen)
    doubled = _doubled(graph, sites, seen)
    rows = tuple(doubled.beside[leg] for leg in seen)
    array = _matrix(value, shape, places)
    name = _free(f"operator_{number}", {node.name for node in doubled.nodes})
    constant = as_array_value(array, f"energy: the term on {shown(places)}")
    term = TensorNode(name, (*rows, *seen), trainable=False, value=constant)
    tensors = (*doubled.nodes, term)
    used = {leg for tensor in tensors for leg in tensor.legs}
    # What is fixed leaves both the state and its conjugate by the output, as a basis state.
    pins = {one: at for leg, at in graph.fixed for one in (leg, doubled.beside[leg]) if one in used}
    whole = Network.from_graph(
        Graph(
            label=f"<{graph.label or 'state'}|{','.join(map(str, places)) or '1'}>",
            leg_sizes=tuple((leg, size) for leg, size in doubled.sizes.items() if leg in used),
            inputs=(),
            output=tuple(pins),
            tensors=tensors,
            summed=frozenset(leg for leg in doubled.summed if leg in used),
            fixed=tuple(sorted(pins.items())),
        )
    ).freeze()
    return cancel_isometries(whole, even_scaled=True) if isometric else whole


def _matrix(value: object, shape: tuple[int, ...], places: tuple[int, ...]) -> np.ndarray:
    """A term as an array with the legs of its rows and then of its columns."""
    array = as_array_value(value, f"energy: the term on sites {shown(places)}").array
    size = math.prod(shape)
    if array.shape not in ((size, size), (*shape, *shape)) and not (not shape and array.size == 1):
        msg = (
            f"energy: the term on sites {shown(places)} has shape {shown(array.shape)}, expected "
            f"a matrix of {size} x {size}, or {shown((*shape, *shape))}"
        )
        raise SpecError(msg)
    return array.reshape((*shape, *shape))


# -- the state twice -------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class _Doubled:
    """A state and its conjugate.

    Arguments:
        nodes: tensors of both.
        beside: for each leg of the state that of the conjugate in its place.
        sizes: of all legs.
        summed: legs with one end, in both.
    """

    nodes: tuple[TensorNode, ...]
    beside: Mapping[str, str]
    sizes: Mapping[str, int]
    summed: frozenset[str]


def _doubled(graph: Graph, sites: Sequence[str], seen: Sequence[str]) -> _Doubled:
    """Both, joined at all sites but those that are seen."""
    shared = set(sites) - set(seen)
    sizes = dict(graph.sizes)
    beside: dict[str, str] = {}
    for leg in graph.sizes:
        beside[leg] = leg if leg in shared else _free(f"{leg}_conj", sizes, "." in leg)
        sizes[beside[leg]] = graph.sizes[leg]
    taken = {tensor.name for tensor in graph.tensors}
    nodes = list(graph.tensors)
    for tensor in graph.tensors:
        name = _free(f"{tensor.name}_conj", taken)
        taken.add(name)
        nodes.append(
            TensorNode(
                name,
                tuple(beside[leg] for leg in tensor.legs),
                share=tensor.share or tensor.name,
                conj=not tensor.conj,
            )
        )
    summed = graph.summed | {beside[leg] for leg in graph.summed}
    return _Doubled(tuple(nodes), beside, sizes, summed)


def _free(name: str, taken: Any, is_wire: bool = False) -> str:
    """A name that is not taken, as near as can be."""
    while name in taken:
        name += ".0" if is_wire else "_"
    return name
