"""The frozen Schedule: a flat list of calls on contiguous arrays. Third of the IRs.

Every array is stored contiguously with its legs in a chosen order; a call sees it through a View,
which merges neighbouring legs into one axis and permutes axes, and never copies. Copies are calls
of their own (Copy), so the list shows all that is executed and every byte that is allocated.

A Loop says that a run of calls is done once for each chunk of the batch.

Grammar::

    call = Copy(result, source)              contiguous copy in another order of legs
         | MatMul(result, left, right)       mm of 2-axis views, bmm of 3-axis views
         | Product(result, left, right)      elementwise, views broadcast against each other
         | Sum(result, source, axes)         sum over axes of the view
         | Repeat(result, source)            contiguous copy of a broadcast view
         | TakeDiagonal(result, source, pairs)   diagonals, pair of axes after pair
         | PutDiagonal(result, source, pairs)    zeros but for the diagonals
         | AddUp(result, left, right)
         | Slice(result, source, pins)       contiguous slice; with no pins the array itself
         | Place(result, parts)              zeros, parts added at their pins
    view = View(array, groups, order, conj, repeat)
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
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
    """Sum of two views of one shape."""

    result: Value
    left: View
    right: View


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
        case MatMul() | Product() | AddUp():
            return (call.left, call.right)
        case Place():
            return tuple(view for view, _ in call.parts)
        case _:
            return (call.source,)


def is_alias(call: Call) -> bool:
    """Whether the result is the source's own memory: a slice along its first axes, or all of it."""
    if not isinstance(call, Slice) or call.source.conj:
        return False
    return sorted(axis for axis, _ in call.pins) == list(range(len(call.pins)))


@dataclass(frozen=True, slots=True)
class Result:
    """An array that leaves the schedule: its name outside and the view in the asked order."""

    name: str
    view: View


@dataclass(frozen=True, slots=True)
class Loop:
    """A run of calls that is done once for each chunk of the batch.

    Inside it an array with the batch leg is the part of it that belongs to the chunk. Calls before
    the loop depend on no sample; calls after it on sums over all samples.

    Arguments:
        chunk: samples in a chunk; the last one may have fewer.
        start, stop: the calls ``calls[start:stop]``.
        entering: batched inputs; each turn sees a slice.
        leaving: results with the batch leg: allocated in full before, each turn writes its slice.
        summed: arrays without the batch leg that the calls make: zeros before, each turn adds.
    """

    chunk: int
    start: int
    stop: int
    entering: tuple[Value, ...]
    leaving: tuple[Value, ...]
    summed: tuple[Value, ...]


@dataclass(frozen=True)
class Schedule:
    """Calls in order, with what they start from and what they give.

    Arguments:
        plan: the plan that is executed.
        inputs: arrays from outside, in the order in which the function takes them.
        calls: the calls, in order.
        results: what is returned, in order.
        saved: arrays that are returned too, kept for the backward.
        loop: the calls that are done chunk by chunk, or None.
    """

    plan: Plan
    inputs: tuple[Value, ...]
    calls: tuple[Call, ...]
    results: tuple[Result, ...]
    saved: tuple[Value, ...] = ()
    loop: Loop | None = None

    @property
    def sizes(self) -> Mapping[str, int]:
        """Sizes of all legs but the batch."""
        return self.plan.sizes

    @cached_property
    def last_use(self) -> dict[str, int]:
        """For each array the index of the last call that reads it; kept arrays are absent.

        What was made before a loop and is read in it lives until the loop's last call.
        """
        last: dict[str, int] = {}
        made: dict[str, int] = {}
        for index, call in enumerate(self.calls):
            for view in sources_of(call):
                last[view.array.name] = index
            made[call.result.name] = index
            last.setdefault(call.result.name, index)
        loop = self.loop
        if loop is not None:
            outside = {value.name for value in (*loop.leaving, *loop.summed)}
            for name, index in last.items():
                inside = name not in outside and made.get(name, -1) >= loop.start
                if loop.start <= index < loop.stop and not inside:
                    last[name] = loop.stop - 1
        kept = {result.view.array.name for result in self.results}
        kept |= {value.name for value in self.saved} | {value.name for value in self.inputs}
        return {name: index for name, index in last.items() if name not in kept}

    def turns(self, batch: int) -> int:
        """How often the loop runs; 1 where there is none."""
        return 1 if self.loop is None else -(-batch // self.loop.chunk)

    @property
    def kernel_count(self) -> int:
        """Number of calls that run code at the planned batch size."""
        return self.kernel_count_at(self.plan.batch)

    def kernel_count_at(self, batch: int) -> int:
        """Number of calls that run code at a batch size; renamed arrays run none."""
        loop, turns = self.loop, self.turns(batch)
        return sum(
            turns if loop is not None and loop.start <= index < loop.stop else 1
            for index, call in enumerate(self.calls)
            if not is_alias(call)
        )

    def with_chunk(self, chunk: int) -> Schedule:
        """The same calls in chunks of another size; as it is where there is no loop."""
        if self.loop is None:
            return self
        return replace(self, loop=replace(self.loop, chunk=chunk))

    def peak_bytes(self, batch: int) -> int:
        """Largest number of bytes that are allocated at once, inputs not counted."""
        return self._peak(batch, frozenset())

    def workspace_bytes(self, batch: int) -> int:
        """As ``peak_bytes``, without the results."""
        return self._peak(batch, frozenset(result.view.array.name for result in self.results))

    def _peak(self, batch: int, ignored: frozenset[str]) -> int:
        """Peak of what is allocated at once, arrays with an ignored name left out."""
        loop = self.loop
        first, chunk = (-1, batch) if loop is None else (loop.start, min(loop.chunk, batch))
        stop = -1 if loop is None else loop.stop
        releases: dict[int, list[str]] = {}
        for name, index in self.last_use.items():
            releases.setdefault(index, []).append(name)
        live: dict[str, int] = {}
        held = peak = 0
        for index, call in enumerate(self.calls):
            if loop is not None and index == first:
                for array in (*loop.leaving, *loop.summed):
                    live[array.name] = self._bytes(array).at(batch)
                    held += 0 if array.name in ignored else live[array.name]
            name, size = call.result.name, 0
            if not is_alias(call):
                size = self._bytes(call.result).at(chunk if first <= index < stop else batch)
            if name in live:
                # A part of an array that exists. Only a sum is made apart before it is added.
                peak = max(peak, held + (size if isinstance(call, Sum) and self._adds(name) else 0))
            else:
                live[name] = 0 if name in ignored else size
                held += live[name]
                peak = max(peak, held)
            for dead in releases.get(index, ()):
                held -= live.pop(dead, 0)
        return peak

    def _adds(self, name: str) -> bool:
        """Whether an array is summed over the chunks."""
        return self.loop is not None and any(value.name == name for value in self.loop.summed)

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
