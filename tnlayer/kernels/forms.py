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

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Literal

from tnlayer.plan.steps import BATCH, Contract, Operand

Layout = tuple[str, ...]

# Seconds and rates of one call, measured on two AVX-512 cores in float32. They only rank forms.
_CALL = 4e-6
_BYTES_PER_SECOND = 40e9
_FLOPS_PER_SECOND = 200e9
# torch runs its own loop, not the BLAS, for a bmm of matrices with fewer multiplications.
_SMALL_BMM, _SMALL_BMM_PER_SECOND = 400, 2e9
_MATRIX = 60e-9
_SKINNY_ROW = 5e-9


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
    big: Layout
    small: Layout
    outer: Layout
    transposed: bool
    result: Layout
    seconds: float


@dataclass(frozen=True, slots=True)
class Classes:
    """Legs of one contraction by what happens to them."""

    batch: frozenset[str]
    summed: frozenset[str]

    def of(self, leg: str) -> str:
        """Class of a leg of either operand."""
        return "batch" if leg in self.batch else "summed" if leg in self.summed else "free"

    def runs(self, layout: Layout) -> tuple[tuple[str, Layout], ...]:
        """The layout as runs of neighbouring legs of one class."""
        runs: list[tuple[str, list[str]]] = []
        for leg in layout:
            kind = self.of(leg)
            if runs and runs[-1][0] == kind:
                runs[-1][1].append(leg)
            else:
                runs.append((kind, [leg]))
        return tuple((kind, tuple(legs)) for kind, legs in runs)

    def pick(self, layout: Layout, kind: str) -> Layout:
        """The legs of one class, in the layout's order."""
        return tuple(leg for leg in layout if self.of(leg) == kind)


def classes_of(step: Contract) -> Classes:
    """Sort the legs of a contraction."""
    shared = set(step.left.legs) & set(step.right.legs)
    kept = set(step.result.legs)
    return Classes(frozenset(shared & kept), frozenset(shared - kept))


class FormFinder:
    """Lists the forms of a contraction for given storage orders of its operands.

    Arguments:
        sizes: size of every leg, the batch included.
        itemsize: bytes of an entry.
    """

    def __init__(self, sizes: Mapping[str, int], itemsize: int) -> None:
        self.sizes = sizes
        self.itemsize = itemsize

    def entries(self, legs: Iterable[str]) -> int:
        """Product of sizes."""
        product = 1
        for leg in legs:
            product *= self.sizes[leg]
        return product

    def copy_seconds(self, source: Layout, target: Layout) -> float:
        """Cost of a permuting copy: slow where neighbours in one are far apart in the other."""
        if source == target:
            return 0.0
        inner = 1
        for a, b in zip(reversed(source), reversed(target), strict=True):
            if a != b:
                break
            inner *= self.sizes[a]
        factor = 5.0 if inner < 4 else 1.5 if inner < 16 else 1.0
        return _CALL + factor * 2 * self.entries(source) * self.itemsize / _BYTES_PER_SECOND

    def matmul_seconds(
        self, outer: int, rows: int, columns: int, summed: int, repeat: bool
    ) -> float:
        """Cost of outer products (rows x summed) x (summed x columns)."""
        products = outer * rows * columns * summed
        if outer > 1 and rows * columns * summed < _SMALL_BMM:
            return _CALL + products / _SMALL_BMM_PER_SECOND
        moved = outer * rows * columns + outer * rows * summed
        moved += summed * columns * (1 if repeat else outer)
        seconds = max(2 * products / _FLOPS_PER_SECOND, moved * self.itemsize / _BYTES_PER_SECOND)
        if outer > 1:
            seconds += outer * _MATRIX
        elif columns <= 8 and summed <= 8:
            seconds += rows * _SKINNY_ROW
        return _CALL + seconds

    def forms(
        self,
        step: Contract,
        left: tuple[Layout, ...],
        right: tuple[Layout, ...],
        wanted: frozenset[str],
    ) -> Iterator[Form]:
        """All forms worth a look.

        Arguments:
            step: a contraction with a summed leg.
            left, right: storage orders in which the operands exist.
            wanted: legs that the result's next use sums.
        """
        classes = classes_of(step)
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

    def _orders(self, layout: Layout, classes: Classes, wanted: frozenset[str]) -> Iterator[Layout]:
        """Orders to copy the big operand into: summed legs last or first, batch leg in or out."""
        batch, summed = classes.pick(layout, "batch"), classes.pick(layout, "summed")
        free = classes.pick(layout, "free")
        sorted_free = (*(x for x in free if x not in wanted), *(x for x in free if x in wanted))
        for order in dict.fromkeys((free, sorted_free)):
            without = tuple(leg for leg in order if leg != BATCH)
            places = {order, (BATCH, *without), (*without, BATCH)} if BATCH in order else {order}
            for rest in sorted(places):
                yield (*batch, *rest, *summed)
                yield (*batch, *summed, *rest)

    def _fits(
        self, big: Layout, classes: Classes
    ) -> Iterator[tuple[Literal["plain", "inplace", "split"], Layout, Layout]]:
        """The kinds that a storage order of the big operand allows, with the outer legs."""
        runs = classes.runs(big)
        kinds = [kind for kind, _ in runs]
        if len(set(kinds)) == len(kinds) and not (len(kinds) > 1 and kinds[-1] == "batch"):
            yield "plain", classes.pick(big, "batch"), ()
        if kinds == ["free", "summed", "free"]:
            yield "inplace", runs[0][1], ()
        if kinds == ["summed", "free", "summed"]:
            yield "split", runs[0][1], runs[2][1]

    def _matching(
        self,
        kind: str,
        big: Layout,
        inner: Layout,
        smalls: tuple[Layout, ...],
        classes: Classes,
    ) -> Iterator[tuple[Layout, float]]:
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
        big: Layout,
        small: Layout,
        outer: Layout,
        classes: Classes,
        spent: float,
    ) -> Iterator[Form]:
        """Both orders of the result: the small operand's free legs last, or first."""
        free = classes.pick(big, "free")
        if kind == "inplace":
            free = free[len(outer) :]
        other = classes.pick(small, "free")
        summed = self.entries(classes.pick(big, "summed"))
        count = self.entries(outer)
        if kind == "split":
            summed //= count
            partial = count * self.entries(free) * self.entries(other)
            if partial > (self.entries(big) + self.entries(small)) / 2:
                return
        kept = () if kind == "split" else outer
        for transposed in (False, True):
            rows, columns = (other, free) if transposed else (free, other)
            m, n = self.entries(rows), self.entries(columns)
            seconds = self.matmul_seconds(count, m, n, summed, repeat=kind == "inplace")
            if kind == "split":
                seconds += _CALL + count * m * n * self.itemsize / _BYTES_PER_SECOND
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


def operand_orders(
    form: Form, step: Contract
) -> tuple[tuple[Operand, Layout], tuple[Operand, Layout]]:
    """The big and the small operand, each with the storage order in which the form uses it."""
    big, small = (step.right, step.left) if form.swapped else (step.left, step.right)
    return (big, form.big), (small, form.small)
