"""A network without ports: its matrix, or tensor, as a product of factors with open labels.

The legs of y and those of the inputs are open. A leg that passes through is on two axes of the
dense tensor, which is zero off their diagonal. Legs of size 1 and fixed legs are taken away.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property

import torch

from ..graph.graph import SCALED, Graph, Parameter, TensorNode
from .labelled import ContractionTree, Labelled, Labels


@dataclass(frozen=True, slots=True)
class Use:
    """A stored array as a factor: slices, a diagonal, sums over legs that nothing else has.

    Arguments:
        name: of the array.
        conj: whether the complex conjugate is the factor.
        shape: of the array.
        pins: index of each axis that is cut, or None.
        axes: the label of each axis that is left; one that stands twice is a diagonal.
        labels: of the factor; what an axis has beyond these is summed.
        sizes: of each label.
    """

    name: str
    conj: bool
    shape: tuple[int, ...]
    pins: tuple[int | None, ...]
    axes: Labels
    labels: Labels
    sizes: tuple[tuple[str, int], ...]

    @property
    def repeats(self) -> int:
        """Entries of the array that are summed into one of the factor."""
        sizes = dict(self.sizes)
        return math.prod(sizes[label] for label in set(self.axes) - set(self.labels))

    def factor(self, array: torch.Tensor) -> Labelled:
        """The factor that an array gives, of shape (..., *shape); leading axes are kept in front,
        and have no labels."""
        return Labelled(self._forward(array.conj() if self.conj else array), self.labels)

    def _forward(self, array: torch.Tensor) -> torch.Tensor:
        cut = array[(..., *(slice(None) if pin is None else pin for pin in self.pins))]
        if self.axes == self.labels:
            return cut
        numbers = {label: number for number, label in enumerate(dict.fromkeys(self.axes))}
        return torch.einsum(
            cut, [..., *(numbers[a] for a in self.axes)], [..., *(numbers[k] for k in self.labels)]
        )

    def back(self, values: torch.Tensor) -> torch.Tensor:
        """The transpose of the linear map from the array (or its conjugate) to the factor.

        Arguments:
            values: of shape (..., *shape of the factor).
        """
        lead = values.shape[: values.dim() - len(self.labels)]
        full = values.new_zeros(*lead, *self.shape)
        cut = full[(..., *(slice(None) if pin is None else pin for pin in self.pins))]
        distinct = tuple(dict.fromkeys(self.axes))
        sizes = dict(self.sizes)
        # The diagonal as a view, into which is written.
        view = diagonal_view(cut, self.axes, distinct)
        spread = values[
            (..., *(slice(None) if d in self.labels else None for d in self._order(distinct)))
        ]
        order = self._order(distinct)
        spread = spread.expand((*lead, *(sizes[label] for label in order)))
        steps = [len(lead) + order.index(label) for label in distinct]
        view.copy_(spread.permute((*range(len(lead)), *steps)))
        return full

    def _order(self, distinct: Labels) -> Labels:
        """The factor's labels, then those that are summed."""
        return (*self.labels, *(label for label in distinct if label not in self.labels))

    def lifted(self, factor: Labelled, like: torch.Tensor | None = None) -> torch.Tensor:
        """The smallest array that gives a factor; where ``like`` is given, the nearest to it."""
        values = factor.ordered(self.labels)
        if self.axes == self.labels and all(pin is None for pin in self.pins):
            return values.conj() if self.conj else values
        if like is not None:
            values = values - self.factor(like).array
        found = self.back(values) / self.repeats
        found = found.conj() if self.conj else found
        return found if like is None else like + found


def diagonal_view(array: torch.Tensor, axes: Labels, distinct: Labels) -> torch.Tensor:
    """A view of an array at equal indices of axes of one label; axes are the last ones."""
    lead = array.dim() - len(axes)
    strides = [sum(array.stride(lead + k) for k, a in enumerate(axes) if a == d) for d in distinct]
    sizes = [array.shape[lead + axes.index(d)] for d in distinct]
    return array.as_strided((*array.shape[:lead], *sizes), (*array.stride()[:lead], *strides))


@dataclass(frozen=True)
class ClosedNetwork:
    """A network as a product of factors.

    Arguments:
        graph: the network.
        uses: of stored arrays, one a factor.
        ones: labels that no array has, along which the dense tensor is constant.
        sizes: of each label.
        axes: the label of each axis of the dense tensor: of the output, then of the inputs.
        dense_shape: features of y, then of each input.
    """

    graph: Graph
    uses: tuple[Use, ...]
    ones: Labels
    sizes: Mapping[str, int]
    axes: Labels
    dense_shape: tuple[int, ...]

    @property
    def open(self) -> Labels:
        """The labels of the dense tensor, each once."""
        return tuple(dict.fromkeys(self.axes))

    @property
    def output_labels(self) -> Labels:
        """Labels of y."""
        return tuple(leg for leg in self.graph.output if leg in self.sizes)

    @property
    def input_labels(self) -> Labels:
        """Labels of the inputs, each once."""
        graph = self.graph
        legs = [leg for port in graph.inputs for leg in graph.open_legs(port.legs)]
        return tuple(dict.fromkeys(leg for leg in legs if leg in self.sizes))

    @cached_property
    def tree(self) -> ContractionTree:
        """How the factors are contracted to the dense tensor."""
        return ContractionTree(self.factor_labels, self.open, self.sizes)

    @property
    def factor_labels(self) -> list[Labels]:
        """Labels of all factors, those of ones behind."""
        return [*(use.labels for use in self.uses), *((label,) for label in self.ones)]

    def values(self, stored: Mapping[str, torch.Tensor]) -> list[Labelled]:
        """The factors of stored arrays."""
        like = next(iter(stored.values()), torch.empty(0, dtype=torch.float64))
        ones = [
            Labelled(torch.ones(self.sizes[label], dtype=like.dtype), (label,))
            for label in self.ones
        ]
        return [*(use.factor(stored[use.name]) for use in self.uses), *ones]

    def contracted(self, stored: Mapping[str, torch.Tensor]) -> torch.Tensor:
        """The dense tensor over the open labels, each one axis."""
        factors = self.values(stored)
        if not factors:
            like = next(iter(stored.values()), torch.empty(0, dtype=torch.float64))
            return torch.ones((), dtype=like.dtype)
        return self.tree.contract(factors).array

    @cached_property
    def places(self) -> torch.Tensor | None:
        """Where the entries over the open labels lie in the dense tensor; None: in their order."""
        if len(self.open) == len(self.axes):
            return None
        shape = tuple(self.sizes[label] for label in self.axes)
        numbers = torch.arange(math.prod(shape)).reshape(shape)
        return diagonal_view(numbers, self.axes, self.open).clone()

    @property
    def open_shape(self) -> tuple[int, ...]:
        """Sizes of the open labels."""
        return tuple(self.sizes[label] for label in self.open)

    def restricted(self, dense: torch.Tensor) -> torch.Tensor:
        """What of a dense tensor the network can reach, over the open labels."""
        if self.places is None:
            return dense.reshape(self.open_shape)
        return dense.reshape(-1)[self.places]

    def embedded(self, reached: torch.Tensor) -> torch.Tensor:
        """The dense tensor of some entries over the open labels."""
        if self.places is None:
            return reached.reshape(self.dense_shape)
        dense = reached.new_zeros(math.prod(self.dense_shape))
        dense[self.places.reshape(-1)] = reached.reshape(-1)
        return dense.reshape(self.dense_shape)

    def dense(self, stored: Mapping[str, torch.Tensor]) -> torch.Tensor:
        """The dense tensor, of ``dense_shape``."""
        return self.embedded(self.contracted(stored))


def close(graph: Graph) -> ClosedNetwork:
    """A network as a product of factors over open labels."""
    sizes = {leg: size for leg, size in graph.leg_sizes if size > 1 and leg not in graph.pinned}
    ports = [graph.output, *(port.legs for port in graph.inputs)]
    axes = tuple(leg for legs in ports for leg in legs if leg in sizes)
    ends = Counter(leg for tensor in graph.tensors for leg in tensor.legs if leg in sizes)
    stored = {parameter.name: parameter for parameter in graph.parameters}
    uses = tuple(
        _use(graph, tensor, stored[tensor.share or tensor.name], sizes, ends, frozenset(axes))
        for tensor in graph.tensors
    )
    ones = tuple(label for label in dict.fromkeys(axes) if not ends[label])
    shape = [math.prod(graph.shape_of(graph.open_legs(legs))) for legs in ports]
    return ClosedNetwork(graph, uses, ones, sizes, axes, tuple(shape))


def _use(
    graph: Graph,
    tensor: TensorNode,
    parameter: Parameter,
    sizes: Mapping[str, int],
    ends: Counter[str],
    open_labels: frozenset[str],
) -> Use:
    left = [leg for leg, pin in zip(tensor.legs, parameter.pins, strict=True) if pin is None]
    pins = tuple(None if leg in sizes else graph.pinned.get(leg, 0) for leg in left)
    axes = tuple(leg for leg in left if leg in sizes)
    own = Counter(axes)
    labels = tuple(a for a in own if a in open_labels or ends[a] > own[a])
    return Use(
        tensor.name if tensor.share is None else tensor.share,
        tensor.conj,
        parameter.shape,
        pins,
        axes,
        labels,
        tuple((label, sizes[label]) for label in own),
    )


def isometry_of(parameter: Parameter) -> tuple[tuple[int, ...], bool] | None:
    """The rows of a tensor that has to be an isometry, and whether its scale is free; None: it
    need not. A slice of an isometry, which fixed legs leave, is none."""
    node = parameter.node
    if not node.isometry or any(pin is not None for pin in parameter.pins):
        return None
    return node.isometry, node.init == SCALED
