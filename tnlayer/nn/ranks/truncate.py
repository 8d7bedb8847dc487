"""Smaller bonds, with outputs as near as they can be."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import torch

from ...errors import SpecError
from ...fitting.bonds import bonds_of, with_sizes
from ...fitting.closed_network import ClosedNetwork, close
from ...fitting.doubles import as_double
from ...fitting.fit import fit_target
from ...fitting.fitted import Fitted, TensorFit, or_interrupt
from ...fitting.round_tree import CanonicalTree, tree_bonds
from ...fitting.target import Target
from ...graph.graph import Graph

# A network that is no tree is refitted to its dense tensor, of at most so many entries.
_MOST_DENSE = 2**26
# Sweeps of one refit.
_STEPS = 30
# Bisections of a list of cuts.
_MOST_LOOKS = 24

Fits = Callable[[Sequence[Graph]], bool]


@dataclass(frozen=True, slots=True)
class Truncated:
    """Networks with smaller bonds.

    Arguments:
        graphs: the networks.
        arrays: their entries in double precision; None: nothing was cut.
        fitted: how near they are to what was before.
    """

    graphs: tuple[Graph, ...]
    arrays: Mapping[str, torch.Tensor] | None
    fitted: Fitted


def truncate_to_error(
    graphs: Sequence[Graph],
    arrays: Mapping[str, torch.Tensor],
    tol: float,
    *,
    shared: bool,
    part: tuple[int, int] | None,
) -> Truncated:
    """Bonds as small as a relative error allows.

    Arguments:
        graphs: networks of one layer.
        arrays: its entries.
        tol: the largest ||W - W'|| / ||W||, in the layer's dtype.
        shared: whether tensors of one name are one.
        part: features of a padded layer.
    """
    began = time.perf_counter()
    # Entries are rounded to the layer's dtype at the end, which costs a few of its units.
    unit = max((torch.finfo(a.dtype).eps for a in arrays.values()), default=0.0)
    room = tol * (1 - 1e-6) - 2 * unit * math.sqrt(len(arrays) + 1)
    tree = _tree(graphs, arrays) if part is None else None
    if room <= 0:
        return _unchanged(graphs, began)
    if tree is not None:
        norm = tree.norm
        lost = (
            tree.truncate_to(room * norm)
            if norm
            else tree.truncate(dict.fromkeys(_labels(tree), 1))
        )
        return _from_tree(graphs[0], tree, lost / norm if norm else 0.0, began)
    return _refitted(graphs, arrays, None, room, shared=shared, part=part)


def truncate_to_budget(
    graphs: Sequence[Graph],
    arrays: Mapping[str, torch.Tensor],
    fits: Fits,
    *,
    what: str,
    shared: bool,
    part: tuple[int, int] | None,
) -> Truncated:
    """Bonds cut one index after another, where it costs least for the entries saved, until the
    networks are within a budget.

    Arguments:
        fits: whether networks are.
        what: the budget, for messages.

    Raises:
        SpecError: they are not with bonds of 1.
    """
    began = time.perf_counter()
    if fits(graphs):
        return _unchanged(graphs, began)
    tree = _tree(graphs, arrays) if part is None else None
    if tree is not None:
        norm = tree.norm
        spectra = [(label, values / (norm or 1.0)) for label, values in tree.spectra().items()]
        cuts = _cuts(graphs, [(0, label, values) for label, values in spectra])
        sizes = _first_that_fits(graphs, cuts, fits, what)[0]
        lost = tree.truncate({bond.label: sizes.get(bond.label, 1) for bond in tree.bonds})
        return _from_tree(graphs[0], tree, lost / norm if norm else 0.0, began)
    return _refitted(graphs, arrays, (fits, what), math.inf, shared=shared, part=part)


# -- trees -------------------------------------------------------------------------------------


def _tree(graphs: Sequence[Graph], arrays: Mapping[str, torch.Tensor]) -> CanonicalTree | None:
    if len(graphs) != 1:
        return None
    net = close(graphs[0])
    known = bonds_of(graphs[0])
    free = frozenset(p.name for p in graphs[0].parameters if p.node.trainable)
    bonds = tree_bonds(net, free)
    if bonds is None or any(
        bond.label not in known or len(known[bond.label].legs) > 1 for bond in bonds
    ):
        return None
    return CanonicalTree(net, bonds, _doubles(arrays))


def _labels(tree: CanonicalTree) -> list[str]:
    return [bond.label for bond in tree.bonds]


def _from_tree(graph: Graph, tree: CanonicalTree, error: float, began: float) -> Truncated:
    sizes = tree.sizes()
    if all(graph.sizes[label] == size for label, size in sizes.items()):
        return _unchanged([graph], began)
    made = with_sizes(graph, sizes)
    arrays = _balanced_tree(tree.arrays(close(made)))
    per_tensor = tuple(
        TensorFit(name, tuple(a.shape), "fitted", float(torch.linalg.vector_norm(a)))
        for name, a in arrays.items()
    )
    seconds = time.perf_counter() - began
    fitted = Fitted({}, error, None, "singular values across bonds", seconds, per_tensor)
    return Truncated((made,), arrays, fitted)


def _balanced_tree(arrays: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """The same product with equal root mean squares: a network of hundreds has a norm that one
    tensor may not hold in the layer's dtype."""
    logs = {
        name: math.log(norm) - math.log(max(1, a.numel())) / 2
        for name, a in arrays.items()
        if (norm := float(torch.linalg.vector_norm(a))) > 0
    }
    if len(logs) < len(arrays):
        return arrays
    mean = sum(logs.values()) / len(logs)
    return {name: a * math.exp(mean - logs[name]) for name, a in arrays.items()}


# -- all others --------------------------------------------------------------------------------


def _refitted(
    graphs: Sequence[Graph],
    arrays: Mapping[str, torch.Tensor],
    budget: tuple[Fits, str] | None,
    tol: float,
    *,
    shared: bool,
    part: tuple[int, int] | None,
) -> Truncated:
    """Networks with loops: bonds are cut by how much their indices bring, and all is refitted."""
    began = time.perf_counter()
    nets = [close(graph) for graph in graphs]
    entries = math.prod(nets[0].dense_shape)
    if entries > _MOST_DENSE:
        msg = (
            f"truncate: {graphs[0].label!r} is no tree, and its dense tensor, to which it would be "
            f"refitted, has {entries} entries; at most {_MOST_DENSE}"
        )
        raise SpecError(msg)
    stored = _doubles(arrays)
    with torch.no_grad():
        dense = sum((net.dense(stored) for net in nets[1:]), nets[0].dense(stored))
    wanted = Target(_cut_part(dense, part), None, part)
    spectra = [
        (place, label, values)
        for place, (graph, net) in enumerate(zip(graphs, nets, strict=True))
        for label, values in _importance(graph, net, stored).items()
    ]
    cuts = _cuts(graphs, spectra)
    if budget is not None:
        sizes = _first_that_fits(graphs, cuts, *budget)
        return _refit(graphs, sizes, spectra, stored, wanted, shared=shared, began=began)
    best = _unchanged(graphs, began)
    # The most cuts whose refit is within the error: each look is a fit.
    low, high = 0, len(cuts)
    for _ in range(_MOST_LOOKS):
        if low >= high:
            break
        middle = (low + high + 1) // 2
        found = _refit(
            graphs, _after(graphs, cuts[:middle]), spectra, stored, wanted, shared=shared,
            began=began,
        )  # fmt: skip
        if found.fitted.residual <= tol:
            best, low = found, middle
        else:
            high = middle - 1
    return best


def _cut_part(dense: torch.Tensor, part: tuple[int, int] | None) -> torch.Tensor:
    if part is None:
        return dense
    kept = torch.zeros_like(dense)
    kept[: part[0], : part[1]] = dense[: part[0], : part[1]]
    return kept


def _refit(
    graphs: Sequence[Graph],
    sizes: Sequence[Mapping[str, int]],
    spectra: Sequence[tuple[int, str, torch.Tensor]],
    stored: Mapping[str, torch.Tensor],
    wanted: Target,
    *,
    shared: bool,
    began: float,
) -> Truncated:
    made = tuple(with_sizes(g, new) for g, new in zip(graphs, sizes, strict=True))
    start = _sliced(graphs, made, spectra, stored)
    found = fit_target(
        [close(graph) for graph in made], wanted, start=start, steps=_STEPS, shared=shared
    )
    or_interrupt(found)
    # A closed form may be better than what is left of the old entries.
    if all(p.node.trainable for graph in made for p in graph.parameters):
        other = fit_target([close(g) for g in made], wanted, steps=_STEPS, starts=1, shared=shared)
        found = min(found, or_interrupt(other), key=lambda one: one.residual)
    fitted = Fitted(
        {}, found.residual, None, f"cut, {found.method}", time.perf_counter() - began,
        found.per_tensor, found.steps,
    )  # fmt: skip
    return Truncated(made, found.parameters, fitted)


def _importance(
    graph: Graph, net: ClosedNetwork, stored: Mapping[str, torch.Tensor]
) -> dict[str, torch.Tensor]:
    """How much each index of each bond brings: the product of its slices' norms, largest first is
    not said. As a part of the largest."""
    found: dict[str, torch.Tensor] = {}
    stored_axes = _stored_axes(graph)
    for bond in dict.fromkeys(bonds_of(graph).values()):
        total = torch.ones(bond.size, dtype=torch.float64)
        for name, axis in sorted(bond.axes):
            array = stored[name].abs().to(torch.float64)
            place = stored_axes[name][axis]
            total = total * array.square().sum([k for k in range(array.dim()) if k != place]).sqrt()
        found[bond.legs[0]] = total / float(total.max().clamp_min(1e-300))
    return found


def _stored_axes(graph: Graph) -> dict[str, dict[int, int]]:
    """Where each axis of the full shape lies in the stored array."""
    return {
        p.name: {
            axis: sum(pin is None for pin in p.pins[:axis])
            for axis, pin in enumerate(p.pins)
            if pin is None
        }
        for p in graph.parameters
    }


def _sliced(
    graphs: Sequence[Graph],
    made: Sequence[Graph],
    spectra: Sequence[tuple[int, str, torch.Tensor]],
    stored: Mapping[str, torch.Tensor],
) -> dict[str, torch.Tensor]:
    """The old entries at the indices that bring most."""
    start = dict(stored)
    done: set[tuple[str, int]] = set()
    for place, label, values in spectra:
        graph = graphs[place]
        bond = bonds_of(graph)[label]
        size = made[place].sizes[label]
        if size == bond.size:
            continue
        kept = torch.sort(torch.topk(values, size).indices).values
        axes = _stored_axes(graph)
        for name, axis in sorted(bond.axes - done):
            start[name] = start[name].index_select(axes[name][axis], kept)
            done.add((name, axis))
    return start


# -- which indices go first --------------------------------------------------------------------


def _cuts(
    graphs: Sequence[Graph], spectra: Sequence[tuple[int, str, torch.Tensor]]
) -> list[tuple[int, str]]:
    """All cuts of one index, the cheapest for the entries that it saves first."""
    ranked: list[tuple[float, int, int, str]] = []
    for place, label, values in spectra:
        bond = bonds_of(graphs[place])[label]
        sizes = {p.name: p.size for p in graphs[place].parameters}
        saved = sum(sizes[name] / bond.size for name, _ in bond.axes)
        ordered = torch.sort(values).values.tolist()
        # The last index stays.
        for order, value in enumerate(ordered[:-1]):
            ranked.append((value**2 / saved, order, place, label))
        ranked += [(-1.0, -1, place, label)] * (bond.size - len(ordered))
    ranked.sort()
    return [(place, label) for _, _, place, label in ranked]


def _after(graphs: Sequence[Graph], cuts: Sequence[tuple[int, str]]) -> list[dict[str, int]]:
    """Sizes of legs after some cuts."""
    sizes: list[dict[str, int]] = [{} for _ in graphs]
    for place, label in cuts:
        bond = bonds_of(graphs[place])[label]
        new = sizes[place].get(label, bond.size) - 1
        sizes[place] |= dict.fromkeys(bond.legs, new)
    return sizes


def _first_that_fits(
    graphs: Sequence[Graph], cuts: Sequence[tuple[int, str]], fits: Fits, what: str
) -> list[dict[str, int]]:
    """Sizes after the fewest cuts that are within the budget."""

    def is_enough(count: int) -> bool:
        sizes = _after(graphs, cuts[:count])
        return fits([with_sizes(g, new) for g, new in zip(graphs, sizes, strict=True)])

    if not is_enough(len(cuts)):
        msg = (
            f"truncate: {what} is too small: with all bonds that can change at size 1 the network "
            "is still larger"
        )
        raise SpecError(msg)
    low, high = 0, len(cuts)
    while high - low > 1:
        middle = (low + high) // 2
        if is_enough(middle):
            high = middle
        else:
            low = middle
    full = _after(graphs, cuts[:high])
    return [
        {**{leg: one.size for leg, one in bonds_of(graph).items()}, **new}
        for graph, new in zip(graphs, full, strict=True)
    ]


def _doubles(arrays: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    made = {name: as_double(array, f"tensor {name!r}") for name, array in arrays.items()}
    if any(array.is_complex() for array in made.values()):
        made = {name: array.to(torch.complex128) for name, array in made.items()}
    return made


def _unchanged(graphs: Sequence[Graph], began: float) -> Truncated:
    seconds = time.perf_counter() - began
    return Truncated(tuple(graphs), None, Fitted({}, 0.0, None, "nothing was cut", seconds, ()))
