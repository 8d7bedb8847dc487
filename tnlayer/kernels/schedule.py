"""The frozen Schedule: a flat list of calls on contiguous arrays. Third of the IRs.

Every array is stored contiguously with its legs in a chosen order; a call sees it through a View,
which merges neighbouring legs into one axis and permutes axes, and never copies. Copies are calls
of their own (Copy), so the list shows all that is executed and every byte that is allocated.

Grammar::

    call = Copy(result, source)              contiguous copy in another order of legs
         | MatMul(result, left, right)       mm of 2-axis views, bmm of 3-axis views
         | Product(result, left, right)      elementwise, views broadcast against each other
         | Sum(result, source, axes)         sum over axes of the view
         | Repeat(result, source)            contiguous copy of a broadcast view
         | TakeDiagonal(result, source, pairs)   diagonals, pair of axes after pair
         | PutDiagonal(result, source, pairs)    zeros but for the diagonals
         | AddUp(result, sources)
         | Slice(result, source, pins)       contiguous slice; with no pins the array itself
         | Place(result, parts)              zeros, parts added at their pins
    view = View(array, groups, order, conj, repeat)
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from tnlayer.plan.counts import Amount, elements
from tnlayer.plan.plan import Plan
from tnlayer.plan.steps import Value

Group = tuple[str, ...]


@dataclass(frozen=True, slots=True)
class View:
    """How a call sees an array.

    Arguments:
        array: the array, legs in order of storage.
        groups: the legs in order of storage, merged into axes; () is an axis of size 1.
        order: for each axis of the view, its group.
        conj: whether the complex conjugate is meant.
        repeat: legs of a leading axis along which the array is repeated (stride 0), or ().
    """

    array: Value
    groups: tuple[Group, ...]
    order: tuple[int, ...]
    conj: bool = False
    repeat: Group = ()

    @property
    def axes(self) -> tuple[Group, ...]:
        """Legs of each axis of the view, the repeated one first."""
        own = tuple(self.groups[index] for index in self.order)
        return (self.repeat, *own) if self.repeat else own


@dataclass(frozen=True, slots=True)
class Copy:
    """A contiguous copy of a view."""

    result: Value
    source: View


@dataclass(frozen=True, slots=True)
class MatMul:
    """mm or bmm; the result's storage is (batch axis,) rows, columns."""

    result: Value
    left: View
    right: View


@dataclass(frozen=True, slots=True)
class Product:
    """Elementwise product of two views with the axes of the result; () broadcasts."""

    result: Value
    left: View
    right: View


@dataclass(frozen=True, slots=True)
class Sum:
    """Sum of a view over axes."""

    result: Value
    source: View
    axes: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Repeat:
    """A contiguous copy of a view whose () axes are repeated to the result's legs."""

    result: Value
    source: View


@dataclass(frozen=True, slots=True)
class TakeDiagonal:
    """Diagonals of pairs of axes, one after the other; each moves its leg to the last axis."""

    result: Value
    source: View
    pairs: tuple[tuple[int, int], ...]


@dataclass(frozen=True, slots=True)
class PutDiagonal:
    """Zeros with the source on the diagonals that TakeDiagonal with these pairs reads."""

    result: Value
    source: View
    pairs: tuple[tuple[int, int], ...]


@dataclass(frozen=True, slots=True)
class AddUp:
    """Sum of views of one shape."""

    result: Value
    sources: tuple[View, ...]


@dataclass(frozen=True, slots=True)
class Slice:
    """The slice at each pin (axis, index), contiguous; without pins a new name for the array."""

    result: Value
    source: View
    pins: tuple[tuple[int, int], ...]


@dataclass(frozen=True, slots=True)
class Place:
    """Zeros into which views are added at their pins."""

    result: Value
    parts: tuple[tuple[View, tuple[tuple[int, int], ...]], ...]


Call = Copy | MatMul | Product | Sum | Repeat | TakeDiagonal | PutDiagonal | AddUp | Slice | Place


def sources_of(call: Call) -> tuple[View, ...]:
    """The views that a call reads."""
    match call:
        case MatMul() | Product():
            return (call.left, call.right)
        case AddUp():
            return call.sources
        case Place():
            return tuple(view for view, _ in call.parts)
        case _:
            return (call.source,)


def is_alias(call: Call) -> bool:
    """Whether the result is the source's own memory."""
    return isinstance(call, Slice) and not call.pins and not call.source.conj


@dataclass(frozen=True, slots=True)
class Result:
    """An array that leaves the schedule: its name outside and the view in the asked order."""

    name: str
    view: View


@dataclass(frozen=True)
class Schedule:
    """Calls in order, with what they start from and what they give.

    Arguments:
        plan: the plan that is executed.
        inputs: arrays from outside, in the order in which the function takes them.
        calls: the calls, in order.
        results: what is returned, in order.
        saved: arrays that are returned too, kept for the backward.
    """

    plan: Plan
    inputs: tuple[Value, ...]
    calls: tuple[Call, ...]
    results: tuple[Result, ...]
    saved: tuple[Value, ...] = ()

    @property
    def sizes(self) -> Mapping[str, int]:
        """Sizes of all legs but the batch."""
        return self.plan.sizes

    @cached_property
    def last_use(self) -> dict[str, int]:
        """For each array the index of the last call that reads it; kept arrays are absent."""
        last: dict[str, int] = {}
        for index, call in enumerate(self.calls):
            for view in sources_of(call):
                last[view.array.name] = index
            last.setdefault(call.result.name, index)
        kept = {result.view.array.name for result in self.results}
        kept |= {value.name for value in self.saved} | {value.name for value in self.inputs}
        return {name: index for name, index in last.items() if name not in kept}

    @cached_property
    def leaving(self) -> frozenset[str]:
        """Names of the arrays whose memory the caller gets: results, under all their names."""
        names = {result.view.array.name for result in self.results}
        for call in reversed(self.calls):
            if is_alias(call) and call.result.name in names:
                names.update(view.array.name for view in sources_of(call))
        return frozenset(names)

    @cached_property
    def kernel_count(self) -> int:
        """Number of calls that run code; renamed arrays run none."""
        return sum(not is_alias(call) for call in self.calls)

    def peak_bytes(self, batch: int) -> int:
        """Largest number of bytes that are allocated at once, inputs not counted."""
        live: dict[str, int] = {}
        peak = 0
        releases: dict[int, list[str]] = {}
        for name, index in self.last_use.items():
            releases.setdefault(index, []).append(name)
        for index, call in enumerate(self.calls):
            live[call.result.name] = 0 if is_alias(call) else self._bytes(call.result).at(batch)
            peak = max(peak, sum(live.values()))
            for name in releases.get(index, ()):
                live.pop(name, None)
        return peak

    @cached_property
    def saved_bytes(self) -> Amount:
        """Bytes that are kept for the backward, beside the inputs."""
        return sum((self._bytes(value) for value in self.saved), start=Amount())

    def _bytes(self, value: Value) -> Amount:
        return elements(value.legs, self.sizes) * self.plan.itemsize

    def __getstate__(self) -> dict[str, Any]:
        """Pickle the content only, never what was cached from it."""
        return {name: getattr(self, name) for name in self.__dataclass_fields__}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
