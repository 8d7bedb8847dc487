"""A fit as a problem: networks whose results are summed, arrays that are free, and a target."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property

import torch

from ..graph.graph import Parameter
from .closed_network import ClosedNetwork, diagonal_view, isometry_of
from .isometries import Isometry, random_isometry
from .labelled import ContractionTree, Labelled, Labels
from .target import Target

Stored = dict[str, torch.Tensor]

# The label that stands for all features of weighted inputs.
_WEIGHTED = "weighted inputs"


@dataclass(frozen=True)
class Problem:
    """What a fit minimises: || (sum of networks - target) C^(1/2) ||.

    Arguments:
        nets: the networks; arrays of one name are one array.
        target: the dense tensor and the weights of its errors.
        parameters: the stored arrays by name.
        free: names of those that are fitted; the others are kept.
        dtype: float64 or complex128.
    """

    nets: tuple[ClosedNetwork, ...]
    target: Target
    parameters: Mapping[str, Parameter]
    free: tuple[str, ...]
    dtype: torch.dtype
    isometries: Mapping[str, Isometry] = field(init=False)

    def __post_init__(self) -> None:
        found: dict[str, Isometry] = {}
        for name in self.free:
            rows = isometry_of(self.parameters[name])
            if rows is not None:
                found[name] = Isometry(*rows)
        object.__setattr__(self, "isometries", found)

    @cached_property
    def uses(self) -> Counter[str]:
        """How often each array stands in all networks."""
        return Counter(use.name for net in self.nets for use in net.uses)

    @cached_property
    def alternating(self) -> tuple[str, ...]:
        """Free arrays that stand once: in these the problem is linear."""
        return tuple(name for name in self.free if self.uses[name] == 1)

    @property
    def is_linear_in_each(self) -> bool:
        """Whether each free array stands once."""
        return len(self.alternating) == len(self.free)

    @property
    def size(self) -> int:
        """Entries of the dense tensor."""
        return self.target.dense.numel()

    @property
    def free_entries(self) -> int:
        """Entries that are fitted."""
        return sum(self.parameters[name].size for name in self.free)

    def dense(self, stored: Mapping[str, torch.Tensor]) -> torch.Tensor:
        """The sum of the networks' dense tensors."""
        total = self.nets[0].dense(stored)
        for net in self.nets[1:]:
            total = total + net.dense(stored)
        return total

    def loss(self, stored: Mapping[str, torch.Tensor]) -> float:
        """The relative error that is minimised; inf where it is no number."""
        loss = self.target.loss(self.dense(stored))
        return loss if math.isfinite(loss) else math.inf

    def others(self, place: int, stored: Mapping[str, torch.Tensor]) -> torch.Tensor:
        """What one network of the sum has to give: the target without the others."""
        dense = self.target.dense
        if self.target.part is not None:
            dense = self.target.completed(self.dense(stored))
        for number, net in enumerate(self.nets):
            if number != place:
                dense = dense - net.dense(stored)
        return dense

    @cached_property
    def views(self) -> tuple[View, ...]:
        """Each network with the weights of the inputs as a factor."""
        return tuple(View(net, self.target, self.dtype) for net in self.nets)

    def random_start(self, random: torch.Generator, given: Mapping[str, torch.Tensor]) -> Stored:
        """Given arrays, and random ones for the others."""
        stored: Stored = {}
        for name, parameter in self.parameters.items():
            if name in given:
                stored[name] = given[name].to(self.dtype)
                continue
            isometry = self.isometries.get(name)
            if isometry is not None:
                stored[name] = random_isometry(isometry.rows, parameter.shape, self.dtype, random)
            else:
                stored[name] = torch.randn(parameter.shape, dtype=self.dtype, generator=random)
        return self.scaled(stored)

    def scaled(self, stored: Stored) -> Stored:
        """The same directions, with each network's norm that of the target over their number, as
        far as there is an array whose scale is free."""
        stored = dict(stored)
        wanted = self.target.norm / math.sqrt(len(self.nets))
        for net in self.nets:
            norm = float(torch.linalg.vector_norm(net.contracted(stored)))
            names = [use.name for use in net.uses if self.can_scale(use.name)]
            names = [name for name in dict.fromkeys(names) if self.uses[name] == 1]
            if not names or not norm or not math.isfinite(norm) or not wanted:
                continue
            factor = (wanted / norm) ** (1 / len(names))
            for name in names:
                stored[name] = stored[name] * factor
        return stored

    def can_scale(self, name: str) -> bool:
        """Whether a multiple of an array is allowed."""
        isometry = self.isometries.get(name)
        return name in self.free and (isometry is None or isometry.scaled)

    def balanced(self, stored: Stored) -> Stored:
        """The same map with equal norms of all arrays whose scale is free: an optimiser that takes
        equal steps for all is well served then."""
        stored = dict(stored)
        for net in self.nets:
            names = [use.name for use in net.uses if self.uses[use.name] == 1]
            names = [name for name in names if self.can_scale(name)]
            sizes = {
                name: float(torch.linalg.vector_norm(stored[name]))
                / math.sqrt(max(1, stored[name].numel()))
                for name in names
            }
            if len(names) < 2 or not all(math.isfinite(s) and s > 0 for s in sizes.values()):
                continue
            mean = math.exp(sum(map(math.log, sizes.values())) / len(names))
            for name, size in sizes.items():
                stored[name] = stored[name] * (mean / size)
        return stored


class View:
    """A network beside its weights: what it shall equal, with plain squares of errors.

    Arguments:
        net: the network.
        target: with or without a covariance.
        dtype: of the arithmetic.
    """

    def __init__(self, net: ClosedNetwork, target: Target, dtype: torch.dtype) -> None:
        self.net, self.target, self.dtype = net, target, dtype
        self.covariance = target.covariance
        self.sizes = dict(net.sizes)
        self.open = net.open
        self.constants: list[Labelled] = [
            Labelled(torch.ones(net.sizes[label], dtype=dtype), (label,)) for label in net.ones
        ]
        self._trees: dict[int, ContractionTree] = {}
        self._part_trees: dict[tuple[int, int], ContractionTree] = {}
        self._back_trees: dict[int, ContractionTree] = {}

    @cached_property
    def weighted(self) -> tuple[list[Labelled], Labels]:
        """All constant factors with S of C = S S^H among them, and the open labels then."""
        if self.covariance is None:
            return self.constants, self.open
        inputs = self.net.input_labels
        root = self.covariance.root.to(self.dtype)
        root = root.reshape(*(self.sizes[label] for label in inputs), -1)
        self.sizes[_WEIGHTED] = root.shape[-1]
        opened = (*self.net.output_labels, _WEIGHTED)
        return [*self.constants, Labelled(root, (*inputs, _WEIGHTED))], opened

    @property
    def factor_labels(self) -> list[Labels]:
        """Labels of the factors that are stored."""
        return [use.labels for use in self.net.uses]

    @cached_property
    def tree(self) -> ContractionTree:
        """To the weighted dense tensor."""
        constants, opened = self.weighted
        labels = [*self.factor_labels, *(one.labels for one in constants)]
        return ContractionTree(labels, opened, self.sizes)

    def values(self, stored: Mapping[str, torch.Tensor]) -> list[Labelled]:
        """All factors of the weighted dense tensor."""
        return [*(use.factor(stored[use.name]) for use in self.net.uses), *self.weighted[0]]

    def contracted(self, stored: Mapping[str, torch.Tensor]) -> Labelled:
        """The weighted dense tensor."""
        values = self.values(stored)
        if not values:
            return Labelled(torch.ones((), dtype=self.dtype), ())
        return self.tree.contract(values)

    def wanted(self, dense: torch.Tensor) -> Labelled:
        """A target (of ``dense_shape``) as the weighted dense tensor."""
        if self.covariance is not None:
            dense = dense.to(self.dtype) @ self.covariance.root.to(self.dtype)
            sizes = [self.sizes[label] for label in self.weighted[1]]
            return Labelled(dense.reshape(sizes), self.weighted[1])
        return Labelled(self.net.restricted(dense).to(self.dtype), self.open)

    def overlap_target(self, dense: torch.Tensor) -> Labelled:
        """conj(T C) over the open labels: the network's overlap with it is the linear part."""
        if self.covariance is not None:
            dense = dense.to(self.dtype) @ self.covariance.ridged.to(self.dtype)
        return Labelled(self.net.restricted(dense).to(self.dtype).conj(), self.open)

    @cached_property
    def overlap_tree(self) -> ContractionTree:
        """To the overlap with the target: factors, ones, then the target."""
        labels = [*self.factor_labels, *(one.labels for one in self.constants), self.open]
        return ContractionTree(labels, (), self.sizes)

    @cached_property
    def unweighted(self) -> View:
        """The same network where all inputs count alike."""
        return View(self.net, Target(self.target.dense), self.dtype)

    def pulled_back(
        self, number: int, values: Sequence[Labelled], dense: torch.Tensor
    ) -> torch.Tensor:
        """E^H (dense C) for the environment E of one factor, over its labels.

        Arguments:
            number: of the factor.
            values: of all stored factors.
            dense: of ``dense_shape``.
        """
        labels = self.net.uses[number].labels
        others = [one for k, one in enumerate(values) if k != number]
        factors = [*others, *self.constants, self.overlap_target(dense)]
        if number not in self._back_trees:
            names = [one.labels for one in factors]
            self._back_trees[number] = ContractionTree(names, labels, self.sizes)
        return self._back_trees[number].contract(factors).array.conj()

    def own_weights(self, number: int) -> tuple[Labelled, Labels, Labels]:
        """C over the inputs of one factor: those that others have, too, at equal indices; its own
        twice; traced over all that it does not have. Then the labels of both kinds."""
        assert self.covariance is not None
        inputs = self.net.input_labels
        mine = self.net.uses[number].labels
        elsewhere = {k for n, use in enumerate(self.net.uses) if n != number for k in use.labels}
        shared = tuple(k for k in inputs if k in mine and k in elsewhere)
        own = tuple(k for k in inputs if k in mine and k not in elsewhere)
        shape = [self.sizes[label] for label in inputs]
        matrix = self.covariance.ridged.to(self.dtype).reshape(*shape, *shape)
        numbers = {label: n for n, label in enumerate(inputs)}
        primed = [numbers[k] + (len(inputs) if k in own else 0) for k in inputs]
        kept = [*(numbers[k] for k in shared), *(len(inputs) + numbers[k] for k in own)]
        kept += [numbers[k] for k in own]
        made = torch.einsum(matrix, [*numbers.values(), *primed], kept)
        return Labelled(made, (*shared, *map(_prime, own), *own)), shared, own

    def gram(self, number: int, values: Sequence[Labelled]) -> Labelled:
        """E^H E for the environment E of one factor: open labels of it that others have stand
        once, its bonds twice, those of E^H with a prime.

        Arguments:
            number: of the factor.
            values: of all stored factors.
        """
        ket, bra, _ = self._gram_labels(number)
        others = [k for k in range(len(values)) if k != number]
        rest = [*(values[k] for k in others), *self.constants]
        kets = [Labelled(one.array, labels) for one, labels in zip(rest, ket, strict=True)]
        bras = [Labelled(one.array.conj(), labels) for one, labels in zip(rest, bra, strict=True)]
        factors = [*kets, *bras]
        if self.covariance is not None:
            factors.append(self._link())
        if not factors:
            return Labelled(torch.ones((), dtype=self.dtype), ())
        return self._gram_tree(number).contract(factors)

    def _gram_tree(self, number: int) -> ContractionTree:
        """How E^H E of a factor is contracted: kets, bras, then the covariance."""
        if number not in self._trees:
            ket, bra, output = self._gram_labels(number)
            labels = [*ket, *bra]
            if self.covariance is not None:
                inputs = self.net.input_labels
                labels.append(tuple(dict.fromkeys((*inputs, *map(self._in_bra, inputs)))))
            self._trees[number] = ContractionTree(labels, output, _primed_sizes(self.sizes))
        return self._trees[number]

    def gram_work(self, number: int) -> float:
        """Multiplications of making E^H E of a factor, roughly."""
        return self._gram_tree(number).work if len(self.net.uses) > 1 else 0.0

    def gram_parts(self, number: int, values: Sequence[Labelled]) -> tuple[Labelled, ...]:
        """E^H E as a product of arrays over different bonds, one for each part into which the
        network falls without the factor, as a tree does; () where it stays in one, or where others
        have open labels of the factor.

        Arguments:
            number, values: as for :meth:`gram`.
        """
        ket, bra, output = self._gram_labels(number)
        bonds = [label for label in output if label not in self._joined]
        if len(bonds) < len(output) or self.covariance is not None or not bonds:
            return ()
        rest = [*(one for k, one in enumerate(values) if k != number), *self.constants]
        factors = [Labelled(one.array, names) for one, names in zip(rest, ket, strict=True)]
        factors += [Labelled(one.array.conj(), names) for one, names in zip(rest, bra, strict=True)]
        groups = _apart([one.labels for one in factors])
        if len(groups) < 2:
            return ()
        found: list[Labelled] = []
        scale = torch.ones((), dtype=self.dtype)
        for place, group in enumerate(groups):
            part = [factors[k] for k in group]
            labels = {label for one in part for label in one.labels}
            wanted = tuple(label for label in bonds if label in labels)
            key = (number, place)
            if key not in self._part_trees:
                names = [one.labels for one in part]
                tree = ContractionTree(names, wanted, _primed_sizes(self.sizes))
                self._part_trees[key] = tree
            made = self._part_trees[key].contract(part)
            if wanted:
                found.append(made)
            else:
                scale = scale * made.array
        found[0] = Labelled(found[0].array * scale, found[0].labels)
        return tuple(found) if len(found) > 1 else ()

    def solve_work(self, number: int) -> float:
        """Multiplications of solving for a factor by its E^H E, roughly."""
        _, _, output = self._gram_labels(number)
        sizes = _primed_sizes(self.sizes)
        bonds = [label for label in output if label in self.sizes and _prime(label) in output]
        size = math.prod(sizes[label] for label in bonds)
        own = math.prod(self.sizes[k] for k in self.net.uses[number].labels if k not in output)
        return math.prod(sizes[label] for label in output) * (size / 3 + own)

    def gram_size(self, number: int) -> int:
        """Entries of E^H E of a factor."""
        sizes = _primed_sizes(self.sizes)
        return math.prod(sizes[label] for label in self._gram_labels(number)[2])

    def largest_gram(self) -> int:
        """Entries of the largest E^H E."""
        return max(map(self.gram_size, range(len(self.net.uses))), default=1)

    def _link(self) -> Labelled:
        """C between the inputs of the network and of its conjugate."""
        assert self.covariance is not None
        inputs = self.net.input_labels
        shape = [self.sizes[label] for label in inputs]
        matrix = self.covariance.ridged.to(self.dtype).reshape(*shape, *shape)
        axes = (*inputs, *(self._in_bra(label) for label in inputs))
        distinct = tuple(dict.fromkeys(axes))
        return Labelled(diagonal_view(matrix, axes, distinct), distinct)

    @cached_property
    def _joined(self) -> frozenset[str]:
        """Labels that the network and its conjugate have in common."""
        labels = self.open if self.covariance is None else self.net.output_labels
        return frozenset(labels)

    def _in_bra(self, label: str) -> str:
        return label if label in self._joined else _prime(label)

    def _gram_labels(self, number: int) -> tuple[list[Labels], list[Labels], Labels]:
        """Labels of kets and bras, and of the result."""
        mine = self.net.uses[number].labels
        rest = [u.labels for k, u in enumerate(self.net.uses) if k != number]
        rest += [one.labels for one in self.constants]
        elsewhere = {label for labels in rest for label in labels}
        if self.covariance is not None:
            elsewhere |= set(self.net.input_labels)
        bra = [tuple(map(self._in_bra, labels)) for labels in rest]
        blocks = tuple(k for k in mine if k in self._joined and k in elsewhere)
        bonds = tuple(k for k in mine if k not in self._joined)
        return rest, bra, (*blocks, *bonds, *map(_prime, bonds))


def _apart(factors: Sequence[Labels]) -> list[list[int]]:
    """Numbers of the factors, in groups that have no label in common."""
    groups: list[tuple[set[str], list[int]]] = []
    for number, labels in enumerate(factors):
        near = [group for group in groups if group[0] & set(labels)]
        merged = set(labels).union(*(group[0] for group in near))
        numbers = sorted([number, *(k for group in near for k in group[1])])
        groups = [group for group in groups if group not in near] + [(merged, numbers)]
    return [numbers for _, numbers in groups]


def _prime(label: str) -> str:
    return f"{label}'"


def _primed_sizes(sizes: Mapping[str, int]) -> dict[str, int]:
    return {**sizes, **{_prime(label): size for label, size in sizes.items()}}
