"""The frozen Schedule: a flat list of calls on contiguous arrays. Third of the IRs.

Every array is stored contiguously with its legs in a chosen order; a call sees it through a View,
which merges neighbouring legs into one axis and permutes axes, and never copies. Copies are calls
of their own (Copy), so the list shows all that is executed and every byte that is allocated.

A Loop says that a run of calls is done once for each chunk of the batch, or index of a leg.

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
from typing import Any, TypeGuard

from .counts import Amount, elements
from .plan import Plan
from .steps import BATCH, Value

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

    @property
    def is_stack(self) -> bool:
        """Whether it is a matrix, or matrices that lie one behind the other."""
        return len(self.axes) < 3 or (not self.repeat and self.order[0] == 0)


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


def is_alias(call: Call) -> TypeGuard[Slice]:
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
    """A run of calls that is done once for each part of a leg: the batch, or a summed inner leg.

    Inside it an array with the leg is the part of it that belongs to the turn. Loops stand one
    after the other, never one in another.

    Arguments:
        leg: the leg that is parted.
        step: indices of the leg in one part; the last part of a batch may have fewer.
        start, stop: the calls ``calls[start:stop]``.
        entering: inputs with the leg; each turn sees its part.
        leaving: results with the leg: allocated in full before, each turn writes its part.
        summed: arrays without the leg that the calls make: zeros before, each turn adds.
    """

    leg: str
    step: int
    start: int
    stop: int
    entering: tuple[Value, ...]
    leaving: tuple[Value, ...]
    summed: tuple[Value, ...]

    @property
    def is_chunked(self) -> bool:
        """Whether the leg is the batch."""
        return self.leg == BATCH

    def size(self, sizes: Mapping[str, int], batch: int) -> int:
        """Size of the leg."""
        return batch if self.is_chunked else sizes[self.leg]

    def turns(self, sizes: Mapping[str, int], batch: int) -> int:
        """How often the calls are done."""
        return -(-self.size(sizes, batch) // self.step)

    def is_copied(self, value: Value) -> bool:
        """Whether the part of an input is a copy: it is no run of its memory."""
        return value.legs[0] != self.leg


# What a thread packs factors of 16 bits into: no less, however small a matrix, and no more; seen
# for products of 16 to 65,536 rows, columns and summed entries.
_LEAST_PACKED, _MOST_PACKED = 112 * 2**10, 5 * 2**19


@dataclass(frozen=True)
class Schedule:
    """Calls in order, with what they start from and what they give.

    Arguments:
        plan: the plan that is executed.
        inputs: arrays from outside, in the order in which the function takes them.
        calls: the calls, in order.
        results: what is returned, in order.
        saved: arrays that are returned too, kept for the backward.
        loops: runs of the calls that are done part by part, in order.
        added: names of the results that are added to arrays which the function is given behind its
            inputs, instead of being returned. In chunks a part is added once it is made.
        wide: whether products of 16 bits are made in float32 and rounded.
        copies_factors: whether torch copies the factors of a batch of products that are no stack.
        packing_threads: how many threads pack factors for such products, each by itself.
    """

    plan: Plan
    inputs: tuple[Value, ...]
    calls: tuple[Call, ...]
    results: tuple[Result, ...]
    saved: tuple[Value, ...] = ()
    loops: tuple[Loop, ...] = ()
    added: tuple[str, ...] = ()
    wide: bool = False
    copies_factors: bool = False
    packing_threads: int = 0

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
        for loop in self.loops:
            outside = {value.name for value in (*loop.leaving, *loop.summed)}
            for name, index in last.items():
                inside = name not in outside and made.get(name, -1) >= loop.start
                if loop.start <= index < loop.stop and not inside:
                    last[name] = loop.stop - 1
        kept = {result.view.array.name for result in self.results}
        kept -= {name for loop in self.loops for name in self.passing(loop)}
        kept |= {value.name for value in self.saved} | {value.name for value in self.inputs}
        for call in reversed(self.calls):
            if is_alias(call):
                # Another name for an array keeps its memory.
                source, name = call.source.array.name, call.result.name
                last[source] = max(last[source], last[name])
                kept |= {source} if name in kept else set()
        return {name: index for name, index in last.items() if name not in kept}

    @cached_property
    def leaving(self) -> frozenset[str]:
        """Names of the arrays whose memory the caller gets: results, under all their names."""
        names = {r.view.array.name for r in self.results if r.name not in self.added}
        for call in reversed(self.calls):
            if is_alias(call) and call.result.name in names:
                names.update(view.array.name for view in sources_of(call))
        return frozenset(names)

    def passing(self, loop: Loop) -> dict[str, Result]:
        """By array, the added results that exist a chunk at a time only."""
        arrays = {array.name for array in loop.leaving} if loop.is_chunked else set[str]()
        found = (result for result in self.results if result.name in self.added)
        return {r.view.array.name: r for r in found if r.view.array.name in arrays}

    def loop_at(self, index: int) -> Loop | None:
        """The loop in which a call stands."""
        return next((loop for loop in self.loops if loop.start <= index < loop.stop), None)

    @property
    def kernel_count(self) -> int:
        """Number of calls that run code at the planned batch size."""
        return self.kernel_count_at(self.plan.batch)

    def kernel_count_at(self, batch: int) -> int:
        """Number of calls that run code at a batch size; renamed arrays run none."""
        count = 0
        for index, call in enumerate(self.calls):
            loop = self.loop_at(index)
            if not is_alias(call):
                count += 1 if loop is None else loop.turns(self.sizes, batch)
        return count

    def with_chunk(self, chunk: int) -> Schedule:
        """The same calls with another chunk of the batch; as it is where it has none."""
        loops = (replace(loop, step=chunk) if loop.is_chunked else loop for loop in self.loops)
        return replace(self, loops=tuple(loops))

    def peak_bytes(self, batch: int) -> int:
        """Largest number of bytes that are allocated at once, inputs not counted."""
        return self._peak(batch, frozenset())

    def workspace_bytes(self, batch: int) -> int:
        """As ``peak_bytes``, without the results."""
        return self._peak(batch, self.leaving)

    def _peak(self, batch: int, ignored: frozenset[str]) -> int:
        """Peak of what is allocated at once, arrays with an ignored name left out."""
        releases: dict[int, list[str]] = {}
        for name, index in self.last_use.items():
            releases.setdefault(index, []).append(name)
        live: dict[str, int] = {}
        held = peak = 0
        for index, call in enumerate(self.calls):
            loop = self.loop_at(index)
            if loop is not None and index == loop.start:
                passing = self.passing(loop)
                for array in (*loop.leaving, *loop.summed):
                    if array.name in passing:
                        continue
                    live[array.name] = self._bytes(array).at(batch)
                    held += 0 if array.name in ignored else live[array.name]
                for array in loop.entering:
                    if loop.is_copied(array):
                        live[f"{array.name}_part"] = self._part_bytes(loop, array, batch)
                        held += live[f"{array.name}_part"]
            name = call.result.name
            size = 0 if is_alias(call) else self._part_bytes(loop, call.result, batch)
            inner = self._inner_bytes(loop, call, batch)
            if name in live:
                # A part of an array that exists; it may have to be made apart first.
                apart = size if loop and self._is_apart(loop, call) else 0
                peak = max(peak, held + inner + apart)
            else:
                live[name] = 0 if name in ignored else size
                held += live[name]
                peak = max(peak, held + inner)
            dying = releases.get(index, [])
            if loop is not None and index == loop.stop - 1:
                dying = [*dying, *(f"{array.name}_part" for array in loop.entering)]
            for dead in dying:
                held -= live.pop(dead, 0)
        return peak

    def _part_bytes(self, loop: Loop | None, value: Value, batch: int) -> int:
        """Bytes of a value in one turn of a loop."""
        if loop is None or loop.leg not in value.legs:
            return self._bytes(value).at(batch)
        if loop.is_chunked:
            return self._bytes(value).at(min(loop.step, batch))
        return self._bytes(value).at(batch) // self.sizes[loop.leg]

    def _inner_bytes(self, loop: Loop | None, call: Call, batch: int) -> int:
        """Bytes of operands that torch conjugates or lays out in a copy, or that are copied as
        float32 with the result, which live as long as the call."""
        if isinstance(call, Copy | Repeat | TakeDiagonal | Slice):
            return 0
        if self.wide and isinstance(call, MatMul):
            values = (call.left.array, call.right.array, call.result)
            return sum(2 * self._part_bytes(loop, value, batch) for value in values)
        if self.copies_factors and isinstance(call, MatMul):
            views = [view for view in (call.left, call.right) if view.conj or not view.is_stack]
            packed = self._packed_bytes(loop, call.left, batch)
        else:
            views, packed = [view for view in sources_of(call) if view.conj], 0
        return packed + sum(self._view_bytes(loop, view, batch) for view in views)

    def _packed_bytes(self, loop: Loop | None, left: View, batch: int) -> int:
        """Bytes, at most, in which all threads pack the factors of a product of 16 bits."""
        legs = tuple(leg for axis in left.axes[-2:] for leg in axis)
        matrix = self._part_bytes(loop, replace(left.array, legs=legs), batch)
        return self.packing_threads * min(_MOST_PACKED, _LEAST_PACKED + matrix)

    def _view_bytes(self, loop: Loop | None, view: View, batch: int) -> int:
        """Bytes of a view with all repetitions."""
        legs = (*view.repeat, *view.array.legs)
        return self._part_bytes(loop, replace(view.array, legs=legs), batch)

    @staticmethod
    def _is_apart(loop: Loop, call: Call) -> bool:
        """Whether a part of an existing array is made apart before it is added or written."""
        if loop.leg in call.result.legs:
            return not loop.is_chunked
        return isinstance(call, Sum)

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
