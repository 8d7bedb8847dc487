"""The content of a Graph: what the user said, as plain immutable values. First of the four IRs.

A leg is an index. A Graph is one product term::

    y[output legs] = sum over all other legs of product of x[its legs] and tensors[their legs]

Traces (a leg twice on one node), hyperedges (a leg on more than two nodes), diagonals and
pass-through legs all follow from this line and need no rule of their own.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np

from ..errors import SpecError
from ..support.dtypes import DTYPES, WHOLE_DTYPES
from .near_identity import NearIdentity

# Bounds that hold before anything is allocated: a graph beyond them is refused at freeze().
MAX_NODES = 4096
MAX_LEGS = 16384
MAX_LEG_SIZE = 2**31 - 1
MAX_PARAMETER_ENTRIES = 2**33
MAX_PORT_FEATURES = 2**40

# The init of an isometry whose scale is free: it is multiplied so that Var(y) = Var(x).
SCALED = "scaled"


@dataclass(frozen=True, slots=True, eq=False)
class ArrayValue:
    """An array that the user brought along; read-only, compared by content.

    Arguments:
        array: the entries, at the full shape of the tensor (before any leg is fixed).
    """

    array: np.ndarray
    digest: str = field(init=False)

    def __post_init__(self) -> None:
        frozen = np.array(self.array, order="C", copy=True)
        frozen.setflags(write=False)
        object.__setattr__(self, "array", frozen)
        content = f"{frozen.dtype.str}{frozen.shape}".encode() + frozen.tobytes()
        object.__setattr__(self, "digest", hashlib.sha256(content).hexdigest())

    def __eq__(self, other: object) -> bool:
        return isinstance(other, ArrayValue) and other.digest == self.digest

    def __hash__(self) -> int:
        return hash(self.digest)

    def __repr__(self) -> str:
        return f"ArrayValue({self.array.dtype}, {self.array.shape}, {self.digest[:8]})"

    def __reduce__(self) -> tuple[Any, ...]:
        return (ArrayValue, (self.array,))


@dataclass(frozen=True, slots=True)
class Port:
    """An input of the network.

    Arguments:
        name: the port's name; inputs are passed to forward in the order of declaration.
        legs: its legs, row major: the last one varies fastest in the features of x.
        batched: whether x carries leading dimensions; a port that does not takes none.
        product: whether x is a product state, of shape (..., n, d): one vector a leg.
        dtype: name of the dtype that x must have, or None: the layer's, or its real part's. Whole
            numbers, such as one-hot vectors, are cast to the layer's dtype and get no gradient.
    """

    name: str
    legs: tuple[str, ...]
    batched: bool = True
    product: bool = False
    dtype: str | None = None

    @property
    def is_whole(self) -> bool:
        """Whether x has whole numbers, which get no gradient."""
        return self.dtype in WHOLE_DTYPES


@dataclass(frozen=True, slots=True)
class TensorNode:
    """A tensor of the network: a node and how its entries come to be.

    Arguments:
        name: the node's name; also its key in the state_dict, unless it shares another's.
        legs: one leg an axis, in the order of the axes; the same leg twice is a diagonal.
        share: the node whose parameter this one uses (never itself a sharer), or None.
        conj: whether the complex conjugate of the parameter enters the product.
        trainable: False gives a parameter without grad, or with a value a buffer.
        value: initial (or constant) entries at full shape, or None.
        init: a registered name, a standard deviation, near_identity(), a callable, or
            None for the default.
        isometry: axes of one side of the matricised tensor, which is made isometric; or (). With
            init="scaled" it is a multiple of an isometry.
    """

    name: str
    legs: tuple[str, ...]
    share: str | None = None
    conj: bool = False
    trainable: bool = True
    value: ArrayValue | None = None
    init: str | float | NearIdentity | Callable[..., Any] | None = None
    isometry: tuple[int, ...] = ()


@dataclass(frozen=True, slots=True)
class Parameter:
    """A stored array and the rule that makes it; several nodes may share one.

    Arguments:
        name: name of the node that owns it.
        full_shape: the shape at which values are validated and initialised.
        pins: per axis the index that is kept, or None: the axis stays.
        shape: the stored shape, that is full_shape without the pinned axes.
        node: the owning node, with its trainable, value, init and isometry.
    """

    name: str
    full_shape: tuple[int, ...]
    pins: tuple[int | None, ...]
    shape: tuple[int, ...]
    node: TensorNode

    @property
    def size(self) -> int:
        """Number of stored entries."""
        return math.prod(self.shape)


@dataclass(frozen=True, eq=False)
class GraphValues:
    """The content of a frozen network, and what follows from it; users see it as Graph.

    Equal graphs have the same ports (order of inputs, legs' order, flags), the same tensors by
    name (axis order, sharing, flags, values, init) and the same sizes, sums and fixed legs. The
    label, the order of declaration and the names of legs are not content: a leg is what it joins.
    """

    label: str
    leg_sizes: tuple[tuple[str, int], ...]
    inputs: tuple[Port, ...]
    output: tuple[str, ...]
    tensors: tuple[TensorNode, ...]
    summed: frozenset[str] = frozenset()
    fixed: tuple[tuple[str, int], ...] = ()

    # -- lookups ---------------------------------------------------------------------------

    @cached_property
    def sizes(self) -> dict[str, int]:
        """Size of each leg, by name."""
        return dict(self.leg_sizes)

    @cached_property
    def pinned(self) -> dict[str, int]:
        """Index of each fixed leg, by name."""
        return dict(self.fixed)

    @cached_property
    def nodes(self) -> dict[str, TensorNode]:
        """Tensor nodes by name."""
        return {tensor.name: tensor for tensor in self.tensors}

    def open_legs(self, legs: tuple[str, ...]) -> tuple[str, ...]:
        """The legs of a port that are left when fixed legs are gone.

        Arguments:
            legs: those of the port, or any others.
        """
        return tuple(leg for leg in legs if leg not in self.pinned)

    def shape_of(self, legs: tuple[str, ...]) -> tuple[int, ...]:
        """Sizes of the given legs, fixed ones at their full size.

        Arguments:
            legs: names of legs of the graph.
        """
        return tuple(self.sizes[leg] for leg in legs)

    def input_shape(self, port: Port) -> tuple[int, ...]:
        """Shape of the trailing (feature) dimensions that this input takes.

        One axis with all features, or (n, d) for a product port with n legs of size d.

        Arguments:
            port: one of ``inputs``.
        """
        open_shape = self.shape_of(self.open_legs(port.legs))
        if port.product:
            return (len(open_shape), open_shape[0] if open_shape else 1)
        return (math.prod(open_shape),)

    # -- parameters ------------------------------------------------------------------------

    @cached_property
    def parameters(self) -> tuple[Parameter, ...]:
        """The stored arrays, in order of declaration, each once however often it is shared."""
        users: dict[str, list[TensorNode]] = {}
        for tensor in self.tensors:
            users.setdefault(tensor.share or tensor.name, []).append(tensor)
        return tuple(
            self._parameter(tensor, users[tensor.name])
            for tensor in self.tensors
            if tensor.share is None
        )

    def _parameter(self, owner: TensorNode, users: list[TensorNode]) -> Parameter:
        """An axis loses its unused slices only if each user pins it at the same index."""
        full_shape = self.shape_of(owner.legs)
        pins: list[int | None] = []
        for axis in range(len(full_shape)):
            wanted = {self.pinned.get(user.legs[axis]) for user in users}
            pins.append(wanted.pop() if len(wanted) == 1 else None)
        shape = tuple(size for size, pin in zip(full_shape, pins, strict=True) if pin is None)
        return Parameter(owner.name, full_shape, tuple(pins), shape, owner)

    @cached_property
    def parameter_count(self) -> int:
        """Number of trainable entries that are stored, a shared tensor counted once."""
        return sum(p.size for p in self.parameters if p.node.trainable)

    @cached_property
    def stored_count(self) -> int:
        """Number of all entries that are stored, trainable or not."""
        return sum(p.size for p in self.parameters)

    # -- features --------------------------------------------------------------------------

    @property
    def in_features(self) -> int:
        """Features of the only input (of the first, where there are several).

        Raises:
            SpecError: there is no input.
        """
        if not self.inputs:
            msg = f"network {self.label!r} has no input port, so it has no in_features"
            raise SpecError(msg)
        return math.prod(self.input_shape(self.inputs[0]))

    @property
    def out_features(self) -> int:
        """Features of y: the product of the open output legs' sizes, 1 where there are none."""
        return math.prod(self.shape_of(self.open_legs(self.output)))

    @property
    def dense_parameter_count(self) -> int:
        """Entries of the dense map with the same ports: features out times all features in."""
        features = self.out_features
        for port in self.inputs:
            features *= math.prod(self.shape_of(self.open_legs(port.legs)))
        return features

    @property
    def is_batched(self) -> bool:
        """Whether an input has samples; else a call has no batch."""
        return any(port.batched for port in self.inputs)

    @property
    def is_closed(self) -> bool:
        """Whether no leg is open: there is no input, and y is one number."""
        return not self.inputs and not self.open_legs(self.output)

    @cached_property
    def is_complex(self) -> bool:
        """Whether a value or a port is complex, so that the arithmetic has to be."""
        values = (t.value for t in self.tensors if t.value is not None)
        ports = (DTYPES.get(port.dtype or "") for port in self.inputs)
        return any(v.array.dtype.kind == "c" for v in values) or any(
            dtype is not None and dtype.is_complex for dtype in ports
        )

    # -- identity --------------------------------------------------------------------------

    @cached_property
    def _identity(self) -> tuple[Any, ...]:
        """Content with each leg named by its ends, so that leg names do not matter."""
        ends: dict[str, list[tuple[str, str, int]]] = {leg: [] for leg, _ in self.leg_sizes}
        for kind, name, legs in (
            *(("tensor", t.name, t.legs) for t in self.tensors),
            *(("input", p.name, p.legs) for p in self.inputs),
            ("output", "", self.output),
        ):
            for axis, leg in enumerate(legs):
                ends[leg].append((kind, name, axis))
        legs_content = sorted(
            (tuple(sorted(ends[leg])), size, leg in self.summed, self.pinned.get(leg, -1))
            for leg, size in self.leg_sizes
        )
        tensors_content = sorted(
            (
                (t.name, t.share or "", t.conj, t.trainable, len(t.legs), t.isometry),
                t.value.digest if t.value is not None else "",
                repr(t.init) if not callable(t.init) else id(t.init),
            )
            for t in self.tensors
        )
        ports = tuple((p.name, len(p.legs), p.batched, p.product, p.dtype) for p in self.inputs)
        return (tuple(legs_content), tuple(map(repr, tensors_content)), ports, len(self.output))

    def __eq__(self, other: object) -> bool:
        return isinstance(other, GraphValues) and self._identity == other._identity

    def __hash__(self) -> int:
        return self._hash

    @cached_property
    def _hash(self) -> int:
        """Asked for whenever something is looked up that was made from a graph."""
        return hash(self._identity)

    def __getstate__(self) -> dict[str, Any]:
        """Pickle the content only, never what was cached from it."""
        return {name: getattr(self, name) for name in self.__dataclass_fields__}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)


def count_parameters(graphs: Iterable[GraphValues]) -> int:
    """Trainable entries of networks whose tensors of one name are one parameter."""
    found = {p.name: p for graph in graphs for p in graph.parameters}
    return sum(p.size for p in found.values() if p.node.trainable)
