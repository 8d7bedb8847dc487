"""The canonical form: one graph and one key for all ways to name and to order a network.

Colour refinement, anchored at the positions of ports and the numbers of axes, tells the tensors
apart. Ties are broken by individualisation: each member of the first tie is tried and the least
result wins; members that a symmetry maps to each other are tried once. The work is bounded; past
the bound the user's names decide. So a wrong hit is impossible: the key is made of the whole
structure, and a tie that is broken differently can only miss.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from ..support.json_text import canonical_json
from .bridges.document import document_from_graph
from .graph import Graph, Port, TensorNode

# Bound on the work: updates of a tensor's colour. About a microsecond or two each, for a tensor of
# up to _USUAL_AXES axes; one with more counts as several.
MAX_COLOUR_UPDATES = 200_000
_USUAL_AXES = 4

Colours = list[int]


@dataclass(frozen=True, slots=True)
class CanonicalForm:
    """A graph without names, and the table back to the user's names.

    Arguments:
        graph: tensors n0.., legs e0.., inputs x0..; no label, no values, init or isometry.
        tensor_names: canonical name by the user's name of a tensor.
        leg_names: canonical name by the user's name of a leg.
        exact: whether equal structures surely give equal forms; else names broke a tie.
        is_complex: whether a dropped value, or a port, is complex.
    """

    graph: Graph
    tensor_names: dict[str, str]
    leg_names: dict[str, str]
    exact: bool
    is_complex: bool

    def key(self) -> str:
        """SHA-256 of the form as canonical JSON: the same in every process."""
        content = {"network": document_from_graph(self.graph), "complex": self.is_complex}
        return hashlib.sha256(canonical_json(content).encode()).hexdigest()


def canonicalise(graph: Graph) -> CanonicalForm:
    """The canonical form of a graph; values, init and isometry are no part of it.

    Arguments:
        graph: as freeze() gives it.

    Source: colour refinement and search tree with pruning by automorphisms, McKay and Piperno,
    Practical graph isomorphism II, J. Symb. Comput. 60 (2014), in its simplest form.
    """
    structure = _structure(graph)
    search = _Search(structure)
    try:
        search.explore(search.refine(_rank(structure.tensor_statics)), ())
        order, exact = search.best_order(), True
    except _OutOfWorkError as stopped:
        names = [tensor.name for tensor in graph.tensors]
        keyed = zip(stopped.colours, names, range(len(names)), strict=True)
        order, exact = [position for _, _, position in sorted(keyed)], False
    return _renamed(graph, structure, order, exact)


# -- the structure without names -----------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class _Structure:
    """Tensors and legs by number.

    leg_statics are ranks of what a leg is by itself: its size, its pin and its places in ports.
    leg_ends are its (tensor, axis) pairs. roots and users say who shares what.
    """

    port_legs: tuple[int, ...]
    leg_statics: list[int]
    leg_ends: list[list[tuple[int, int]]]
    tensor_statics: list[tuple[Any, ...]]
    tensor_legs: list[tuple[int, ...]]
    roots: list[int]
    users: list[list[int]]


def _structure(graph: Graph) -> _Structure:
    number = {leg: position for position, (leg, _) in enumerate(graph.leg_sizes)}
    ports = [*(port.legs for port in graph.inputs), graph.output]
    places: list[list[tuple[int, int]]] = [[] for _ in number]
    for position, legs in enumerate(ports):
        for axis, leg in enumerate(legs):
            places[number[leg]].append((position, axis))
    ends: list[list[tuple[int, int]]] = [[] for _ in number]
    position_of = {tensor.name: position for position, tensor in enumerate(graph.tensors)}
    roots = [position_of[tensor.share or tensor.name] for tensor in graph.tensors]
    users: list[list[int]] = [[] for _ in graph.tensors]
    for position, tensor in enumerate(graph.tensors):
        if tensor.share is not None:
            users[roots[position]].append(position)
        for axis, leg in enumerate(tensor.legs):
            ends[number[leg]].append((position, axis))
    # Legs of no port come last, so that n0 stands where the first input begins.
    leg_statics = _rank(
        (not places[k], places[k], size, leg in graph.summed, graph.pinned.get(leg, -1))
        for k, (leg, size) in enumerate(graph.leg_sizes)
    )
    tensor_legs = [tuple(number[leg] for leg in tensor.legs) for tensor in graph.tensors]
    return _Structure(
        port_legs=tuple(number[leg] for legs in ports for leg in legs),
        leg_statics=leg_statics,
        leg_ends=ends,
        tensor_statics=[
            _tensor_static(tensor, [leg_statics[leg] for leg in legs])
            for tensor, legs in zip(graph.tensors, tensor_legs, strict=True)
        ],
        tensor_legs=tensor_legs,
        roots=roots,
        users=users,
    )


def _tensor_static(tensor: TensorNode, legs: list[int]) -> tuple[Any, ...]:
    """What a tensor is by itself; sorted by its first port leg, then by its legs and flags."""
    return (min(legs, default=-1), legs, tensor.share is not None, tensor.conj, tensor.trainable)


def _rank(keys: Iterable[Any]) -> Colours:
    """Each key as its place among the different keys."""
    listed = [tuple(map(_hashable, key)) for key in keys]
    places = {key: place for place, key in enumerate(sorted(set(listed)))}
    return [places[key] for key in listed]


def _hashable(part: Any) -> Any:
    return tuple(part) if isinstance(part, list) else part


# -- refinement and search -----------------------------------------------------------------------


class _OutOfWorkError(Exception):
    """The bound is reached; the colours so far are still free of names."""

    def __init__(self, colours: Colours) -> None:
        super().__init__()
        self.colours = colours


@dataclass(frozen=True, slots=True)
class _Leaf:
    """A complete order of the tensors, and the structure as it reads in that order."""

    path: tuple[int, ...]
    order: list[int]
    certificate: tuple[Any, ...]


class _Search:
    """The search tree over ties; keeps the first and the least leaf and the symmetries found."""

    def __init__(self, structure: _Structure) -> None:
        self.structure = structure
        self.work_left = MAX_COLOUR_UPDATES
        axes = sum(map(len, structure.tensor_legs))
        self.work = max(len(structure.tensor_legs), axes // _USUAL_AXES)
        self.root_colours: Colours | None = None
        self.leaves: list[_Leaf] = []
        self.symmetries: list[list[int]] = []

    def best_order(self) -> list[int]:
        return self.leaves[-1].order

    def refine(self, colours: Colours) -> Colours:
        """Split colours by those of the neighbours, axis by axis, until nothing splits."""
        structure, count = self.structure, len(set(colours))
        while True:
            self.work_left -= self.work
            if self.work_left < 0:
                raise _OutOfWorkError(self.root_colours or colours)
            legs = _rank_tuples(
                (static, *sorted([(colours[tensor], axis) for tensor, axis in ends]))
                for static, ends in zip(structure.leg_statics, structure.leg_ends, strict=True)
            )
            colours = _rank_tuples(
                (
                    colours[tensor],
                    colours[structure.roots[tensor]],
                    tuple(sorted([colours[user] for user in structure.users[tensor]])),
                    *[legs[leg] for leg in tensor_legs],
                )
                for tensor, tensor_legs in enumerate(structure.tensor_legs)
            )
            if len(set(colours)) == count:
                break
            count = len(set(colours))
        if self.root_colours is None:
            self.root_colours = colours
        return colours

    def explore(self, colours: Colours, path: tuple[int, ...]) -> int:
        """Try the members of the first tie; returns the depth at which to go on."""
        tie = _first_tie(colours)
        if not tie:
            return self._note_leaf(colours, path)
        tried: list[int] = []
        for member in tie:
            if self._is_image(member, tried, path):
                continue
            tried.append(member)
            split = [2 * colour + 1 for colour in colours]
            split[member] -= 1
            depth = self.explore(self.refine(split), (*path, member))
            if depth < len(path):
                return depth
        return len(path)

    def _note_leaf(self, colours: Colours, path: tuple[int, ...]) -> int:
        """Keep a leaf that is the first or the least; equal leaves show a symmetry."""
        order = sorted(range(len(colours)), key=colours.__getitem__)
        leaf = _Leaf(path, order, _certificate(self.structure, order))
        for known in self.leaves:
            if known.certificate == leaf.certificate:
                image = [0] * len(order)
                for first, second in zip(known.order, order, strict=True):
                    image[first] = second
                self.symmetries.append(image)
                # All leaves below the parting of the two paths are images of known ones.
                shared = zip(known.path, path, strict=False)
                return next((k for k, (a, b) in enumerate(shared) if a != b), len(path))
        if not self.leaves:
            self.leaves = [leaf]
        elif leaf.certificate < self.leaves[-1].certificate:
            self.leaves = [self.leaves[0], leaf]
        return len(path)

    def _is_image(self, member: int, tried: list[int], path: tuple[int, ...]) -> bool:
        """Whether symmetries that leave the path alone map a tried member to this one."""
        usable = [s for s in self.symmetries if all(s[fixed] == fixed for fixed in path)]
        reached, waiting = set(tried), list(tried)
        while waiting:
            tensor = waiting.pop()
            for symmetry in usable:
                if symmetry[tensor] not in reached:
                    reached.add(symmetry[tensor])
                    waiting.append(symmetry[tensor])
        return member in reached


def _rank_tuples(keys: Iterable[tuple[Any, ...]]) -> Colours:
    """Each key as its place among the different keys (the inner loop: no conversions)."""
    listed = list(keys)
    places = {key: place for place, key in enumerate(sorted(set(listed)))}
    return [places[key] for key in listed]


def _first_tie(colours: Colours) -> list[int]:
    """The tensors of the least colour that several have, or none."""
    cells: dict[int, list[int]] = {}
    for tensor, colour in enumerate(colours):
        cells.setdefault(colour, []).append(tensor)
    return next((cells[colour] for colour in sorted(cells) if len(cells[colour]) > 1), [])


def _leg_order(structure: _Structure, order: Sequence[int]) -> dict[int, int]:
    """Number of each leg where it is first met: along the ports, then along the tensors."""
    numbers: dict[int, int] = {}
    for leg in structure.port_legs:
        numbers.setdefault(leg, len(numbers))
    for tensor in order:
        for leg in structure.tensor_legs[tensor]:
            numbers.setdefault(leg, len(numbers))
    return numbers


def _certificate(structure: _Structure, order: Sequence[int]) -> tuple[Any, ...]:
    """The whole structure as it reads in this order; equal ones are isomorphic."""
    numbers = _leg_order(structure, order)
    place = {tensor: position for position, tensor in enumerate(order)}
    return (
        tuple(
            (place[structure.roots[tensor]], *map(numbers.__getitem__, legs))
            for tensor, legs in ((tensor, structure.tensor_legs[tensor]) for tensor in order)
        ),
        tuple(structure.leg_statics[leg] for leg in numbers),
    )


# -- the renamed graph ---------------------------------------------------------------------------


def _renamed(
    graph: Graph, structure: _Structure, order: Sequence[int], exact: bool
) -> CanonicalForm:
    users_legs = [leg for leg, _ in graph.leg_sizes]
    numbers = _leg_order(structure, order)
    leg_names = {users_legs[leg]: f"e{number}" for leg, number in numbers.items()}
    tensors = [graph.tensors[position] for position in order]
    tensor_names = {tensor.name: f"n{k}" for k, tensor in enumerate(tensors)}

    def rename(legs: tuple[str, ...]) -> tuple[str, ...]:
        return tuple(leg_names[leg] for leg in legs)

    plain = Graph(
        label="",
        leg_sizes=tuple((name, graph.sizes[leg]) for leg, name in leg_names.items()),
        inputs=tuple(
            Port(f"x{k}", rename(port.legs), port.batched, port.product, port.dtype)
            for k, port in enumerate(graph.inputs)
        ),
        output=rename(graph.output),
        tensors=tuple(
            TensorNode(
                tensor_names[tensor.name],
                rename(tensor.legs),
                None if tensor.share is None else tensor_names[tensor.share],
                tensor.conj,
                tensor.trainable,
            )
            for tensor in tensors
        ),
        summed=frozenset(leg_names[leg] for leg in graph.summed),
        fixed=tuple((name, graph.pinned[leg]) for leg, name in leg_names.items()
                    if leg in graph.pinned),
    )  # fmt: skip
    return CanonicalForm(plain, tensor_names, leg_names, exact, graph.is_complex)
