"""The forms that one contraction can take as mm or bmm on stored arrays, and what each costs.

A contraction sorts the legs of an operand into three classes: kept by both (batch), summed, and
free. A matrix view exists without a copy where each class is one run of neighbouring legs. Three
forms are known::

    plain     [batch] free summed     x  [batch] summed free   ->  [batch] free free
    inplace   outer summed inner      x  summed free           ->  outer free inner
    split     outer free inner        x  outer free inner      ->  sum over outer of free free

``inplace`` (bmm, the small operand repeated with stride 0) leaves the legs where they are, so that
a gate in the middle of a state needs no permutation. ``split`` sums over outer and inner legs.
An operand that fits no form is copied into an order that does.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from itertools import pairwise
from typing import Literal

from ...hardware.profile.op_times import OpTimes
from ...ir.steps import BATCH, Contract, Operand, Value
from ..loop_nest import loops_over

StorageOrder = tuple[str, ...]

# Operands with so few legs together are taken leg by leg.
_FEW_LEGS = 24


@dataclass(frozen=True, slots=True)
class Form:
    """One way to run a contraction.

    Arguments:
        kind: plain, inplace or split.
        swapped: whether the right operand of the step takes the place of "big".
        big: storage order in which the big operand is used (a copy if not available).
        small: likewise for the other operand.
        outer: legs of the bmm's batch axis.
        transposed: whether the small operand's free legs come before the big one's.
        result: storage order of the result.
        seconds: estimated cost, copies included.
    """

    kind: Literal["plain", "inplace", "split"]
    swapped: bool
    big: StorageOrder
    small: StorageOrder
    outer: StorageOrder
    transposed: bool
    result: StorageOrder
    seconds: float


@dataclass(frozen=True, slots=True)
class Classes:
    """Legs of one contraction by what happens to them."""

    batch: frozenset[str]
    summed: frozenset[str]
    # A few layouts are asked for thousands of times.
    _picked: dict[tuple[StorageOrder, str], StorageOrder] = field(
        default_factory=dict[tuple[StorageOrder, str], StorageOrder],
        init=False,
        compare=False,
        repr=False,
    )

    def of(self, leg: str) -> str:
        """Class of a leg of either operand."""
        return "batch" if leg in self.batch else "summed" if leg in self.summed else "free"

    def runs(self, layout: StorageOrder) -> tuple[tuple[str, StorageOrder], ...]:
        """The layout as runs of neighbouring legs of one class."""
        runs: list[tuple[str, list[str]]] = []
        for leg in layout:
            kind = self.of(leg)
            if runs and runs[-1][0] == kind:
                runs[-1][1].append(leg)
            else:
                runs.append((kind, [leg]))
        return tuple((kind, tuple(legs)) for kind, legs in runs)

    def pick(self, layout: StorageOrder, kind: str) -> StorageOrder:
        """The legs of one class, in the layout's order."""
        found = self._picked.get((layout, kind))
        if found is None:
            found = tuple(leg for leg in layout if self.of(leg) == kind)
            self._picked[layout, kind] = found
        return found


def classes_of(step: Contract) -> Classes:
    """Sort the legs of a contraction."""
    shared = set(step.left.legs) & set(step.right.legs)
    kept = set(step.result.legs)
    return Classes(frozenset(shared & kept), frozenset(shared - kept))


@dataclass(frozen=True, slots=True)
class Forms:
    """The forms of a contraction, with marks for legs, and the legs that each mark stands for."""

    listed: tuple[Form, ...]
    legs: Mapping[str, StorageOrder]

    def named(self, form: Form) -> Form:
        """One of the forms, with the contraction's own legs."""
        own = self.legs

        def rename(marks: StorageOrder) -> StorageOrder:
            return tuple([leg for mark in marks for leg in own[mark]])

        return Form(
            form.kind,
            form.swapped,
            rename(form.big),
            rename(form.small),
            rename(form.outer),
            form.transposed,
            rename(form.result),
            form.seconds,
        )


def find_forms(
    step: Contract,
    left: tuple[StorageOrder, ...],
    right: tuple[StorageOrder, ...],
    wanted: frozenset[str],
    sizes: Mapping[str, int],
    times: OpTimes,
) -> Forms:
    """All forms of a contraction that are worth a look.

    Arguments:
        step: a contraction with a summed leg.
        left, right: storage orders in which the operands exist.
        wanted: legs that the result's next use sums.
        sizes: size of every leg, the batch included.
        times: what operations cost on the device.
    """
    groups = {group[0]: group for group in _travelling(step, left, right, wanted)}
    # Marks have the order of the names, by which equally fast forms are told apart.
    marks = {
        leg: leg if leg == BATCH else f"e{place:03}" for place, leg in enumerate(sorted(groups))
    }

    def mark(legs: Iterable[str]) -> StorageOrder:
        return tuple([marks[leg] for leg in legs if leg in marks])

    listed = _forms_of(
        tuple([(mark, math.prod([sizes[g] for g in groups[leg]])) for leg, mark in marks.items()]),
        (mark(step.left.legs), mark(step.right.legs), mark(sorted(step.result.legs))),
        tuple(map(mark, left)),
        tuple(map(mark, right)),
        mark(sorted(wanted)),
        times,
    )
    return Forms(listed, {mark: groups[leg] for leg, mark in marks.items()})


def _travelling(
    step: Contract,
    left: tuple[StorageOrder, ...],
    right: tuple[StorageOrder, ...],
    wanted: frozenset[str],
) -> list[StorageOrder]:
    """Legs that are neighbours in all orders, and to which the same happens, as one each."""
    lefts, rights, kept = set(step.left.legs), set(step.right.legs), set(step.result.legs)
    if len(lefts) + len(rights) <= _FEW_LEGS:
        return [(leg,) for leg in lefts | rights]
    neighbours = [
        set.intersection(*(set(pairwise(order)) for order in orders)) for orders in (left, right)
    ]

    def kind(leg: str) -> tuple[bool, ...]:
        return leg in lefts, leg in rights, leg in kept, leg in wanted, leg == BATCH

    groups: list[list[str]] = []
    # Two legs go on as one where they are neighbours in every order of each operand that has them:
    # the same would happen to both in every form, and fewer legs have far fewer forms.
    for order in (left[0], [leg for leg in right[0] if leg not in lefts]):
        since: str | None = None
        for leg in order:
            here = kind(leg)
            if (
                since is not None
                and kind(since) == here
                and all(
                    (since, leg) in pairs
                    for pairs, has in zip(neighbours, here[:2], strict=True)
                    if has
                )
            ):
                groups[-1].append(leg)
            else:
                groups.append([leg])
            since = leg
    return [tuple(group) for group in groups]


# Steps of a regular network differ in the names of their legs only. This pure function is asked for
# the same few patterns by all steps, states, plans and batch ranges.
@lru_cache(maxsize=2**14)
def _forms_of(
    sizes: tuple[tuple[str, int], ...],
    legs: tuple[StorageOrder, StorageOrder, StorageOrder],
    left: tuple[StorageOrder, ...],
    right: tuple[StorageOrder, ...],
    wanted: StorageOrder,
    times: OpTimes,
) -> tuple[Form, ...]:
    first, second, result = (Value("", own) for own in legs)
    step = Contract(result, Operand(first), Operand(second))
    return FormFinder(dict(sizes), times).forms(step, left, right, frozenset(wanted))


class FormFinder:
    """Lists the forms of a contraction for given storage orders of its operands.

    Arguments:
        sizes: size of every leg, the batch included.
        times: what operations cost on the device.
    """

    def __init__(self, sizes: Mapping[str, int], times: OpTimes) -> None:
        self.sizes = sizes
        self.times = times
        self._entries: dict[StorageOrder, int] = {}

    def entries(self, legs: StorageOrder) -> int:
        """Product of sizes."""
        found = self._entries.get(legs)
        if found is None:
            found = self._entries[legs] = math.prod(self.sizes[leg] for leg in legs)
        return found

    def copy_seconds(self, source: StorageOrder, target: StorageOrder) -> float:
        """Cost of a permuting copy."""
        return copy_seconds(source, target, self.sizes, self.times)

    def forms(
        self,
        step: Contract,
        left: tuple[StorageOrder, ...],
        right: tuple[StorageOrder, ...],
        wanted: frozenset[str],
    ) -> tuple[Form, ...]:
        """All forms worth a look: of those that leave the same arrays behind, the fastest.

        Arguments:
            step: a contraction with a summed leg.
            left, right: storage orders in which the operands exist.
            wanted: legs that the result's next use sums.
        """
        best: dict[tuple[StorageOrder, StorageOrder, StorageOrder], Form] = {}
        for form in self._all_forms(step, left, right, wanted):
            leaves = (form.big, form.small, form.result)
            if leaves not in best or form.seconds < best[leaves].seconds:
                best[leaves] = form
        return tuple(best.values())

    def _all_forms(
        self,
        step: Contract,
        left: tuple[StorageOrder, ...],
        right: tuple[StorageOrder, ...],
        wanted: frozenset[str],
    ) -> Iterator[Form]:
        classes = classes_of(step)
        # The larger operand is the one that should not be copied, so forms start from its orders.
        swapped = self.entries(step.right.legs) > self.entries(step.left.legs)
        bigs, smalls = (right, left) if swapped else (left, right)
        for big in dict.fromkeys((*bigs, *self._orders(bigs[0], classes, wanted))):
            spent = (
                min(self.copy_seconds(source, big) for source in bigs) if big not in bigs else 0.0
            )
            for kind, outer, used in self._fits(big, classes):
                for small, extra in self._matching(kind, big, used, smalls, classes):
                    yield from self._results(
                        kind, swapped, big, small, outer, classes, spent + extra
                    )

    def _orders(
        self, layout: StorageOrder, classes: Classes, wanted: frozenset[str]
    ) -> Iterator[StorageOrder]:
        """Orders to copy the big operand into: summed legs last or first, batch leg in or out."""
        batch, summed = classes.pick(layout, "batch"), classes.pick(layout, "summed")
        free = classes.pick(layout, "free")
        # Last, legs that the next step sums are a run for it.
        sorted_free = (*(x for x in free if x not in wanted), *(x for x in free if x in wanted))
        for order in dict.fromkeys((free, sorted_free)):
            without = tuple(leg for leg in order if leg != BATCH)
            places = {order, (BATCH, *without), (*without, BATCH)} if BATCH in order else {order}
            for rest in sorted(places):
                yield (*batch, *rest, *summed)
                yield (*batch, *summed, *rest)

    def _fits(
        self, big: StorageOrder, classes: Classes
    ) -> Iterator[tuple[Literal["plain", "inplace", "split"], StorageOrder, StorageOrder]]:
        """The kinds that a storage order of the big operand allows, with the outer legs."""
        runs = classes.runs(big)
        kinds = [kind for kind, _ in runs]
        # Each class is one run. With batch legs last neither axis of the matrices would have stride
        # 1, which BLAS needs.
        if len(set(kinds)) == len(kinds) and not (len(kinds) > 1 and kinds[-1] == "batch"):
            yield "plain", classes.pick(big, "batch"), ()
        if kinds == ["free", "summed", "free"]:
            yield "inplace", runs[0][1], ()
        if kinds == ["summed", "free", "summed"]:
            yield "split", runs[0][1], runs[2][1]

    def _matching(
        self,
        kind: str,
        big: StorageOrder,
        inner: StorageOrder,
        smalls: tuple[StorageOrder, ...],
        classes: Classes,
    ) -> Iterator[tuple[StorageOrder, float]]:
        """Storage orders of the small operand that go with the big one, with the copy's cost."""
        batch, summed = classes.pick(big, "batch"), classes.pick(big, "summed")
        found = False
        for small in smalls:
            own = [kind_ for kind_, _ in classes.runs(small)]
            same = classes.pick(small, "batch") == batch and classes.pick(small, "summed") == summed
            if kind == "split":
                fits = same and classes.runs(small)[-1] == ("summed", inner)
                fits = fits and own == ["summed", "free", "summed"]
            else:
                fits = same and len(set(own)) == len(own)
                fits = fits and not (len(own) > 1 and own[-1] == "batch")
            if fits:
                found = True
                yield small, 0.0
        if not found:
            # No order of it goes with the big operand: it is copied into one that does.
            free = classes.pick(smalls[0], "free")
            if kind == "split":
                outer = summed[: len(summed) - len(inner)]
                target = (*outer, *free, *inner)
            else:
                target = (*batch, *summed, *free)
            yield target, min(self.copy_seconds(source, target) for source in smalls)

    def _results(
        self,
        kind: Literal["plain", "inplace", "split"],
        swapped: bool,
        big: StorageOrder,
        small: StorageOrder,
        outer: StorageOrder,
        classes: Classes,
        spent: float,
    ) -> Iterator[Form]:
        """Both orders of the result: the small operand's free legs last, or first."""
        free = classes.pick(big, "free")
        if kind == "inplace":
            free = free[len(outer) :]
        other = classes.pick(small, "free")
        inner = classes.pick(big, "summed")
        summed = self.entries(inner)
        count = self.entries(outer)
        if kind == "split":
            summed //= count
            partial = count * self.entries(free) * self.entries(other)
            if partial > (self.entries(big) + self.entries(small)) / 2:
                return
        # What split has as outer is summed behind the product, so the result lacks it.
        kept = () if kind == "split" else outer
        for transposed in (False, True):
            rows, columns = (other, free) if transposed else (free, other)
            m, n = self.entries(rows), self.entries(columns)
            first, second = (small, big) if transposed else (big, small)
            variant = _stored(first, rows, inner) + _stored(second, inner, columns)
            if count > 1:
                seconds = self.times.bmm(count, m, n, summed, variant, kind == "inplace")
                seconds += self._factor_copy(first, outer, (*rows, *inner))
                seconds += self._factor_copy(second, outer, (*inner, *columns))
            else:
                seconds = self.times.mm(m, n, summed, variant)
            if kind == "split":
                seconds += self.times.reduce(1, count, m * n)
            yield Form(
                kind,
                swapped,
                big,
                small,
                outer,
                transposed,
                (*kept, *rows, *columns),
                spent + seconds,
            )

    def _factor_copy(self, layout: StorageOrder, outer: StorageOrder, legs: StorageOrder) -> float:
        """What torch's own copy of a factor of bmm takes, whose matrices have some legs."""
        if not self.times.copies_factors or layout[: len(outer)] == outer:
            return 0.0
        return self.times.factor_copy(loops_over((*outer, *legs), layout, self.sizes))


def copy_seconds(
    source: StorageOrder, target: StorageOrder, sizes: Mapping[str, int], times: OpTimes
) -> float:
    """Cost of a permuting copy: slow where neighbours in one are far apart in the other.

    Arguments:
        source, target: storage orders of the same legs.
        sizes: size of every leg, the batch included.
        times: what operations cost on the device.
    """
    if source == target:
        return 0.0
    return times.copy(loops_over(target, source, sizes))


def _stored(layout: StorageOrder, rows: StorageOrder, columns: StorageOrder) -> str:
    """Whether the matrices with these rows and columns lie transposed in a layout."""
    if not rows or not columns:
        return "n"
    return "t" if layout.index(columns[-1]) < layout.index(rows[-1]) else "n"
