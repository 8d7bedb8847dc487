"""Value numbering: which values of a plan are equal entry for entry, up to the names of their legs.

Two steps compute the same if they do the same to equal operands: the same legs meet, the same ones
are summed, and the same operands are conjugated, or exactly the other ones. Nothing is compared
numerically.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from itertools import permutations

from .steps import Contract, Diagonal, Operand, Reduce, Select, Step, Value

# A kind of step, its operands (a value, whether conjugated, a label for each axis), what it keeps.
Key = tuple[object, ...]


@dataclass(frozen=True, slots=True)
class Same:
    """What a value is equal to.

    Arguments:
        first: the first value with these entries.
        axes: for each axis of the value that of ``first``.
        conj: whether it is the complex conjugate of ``first``.
        swapped: of a contraction, whether its left operand is what is the right one of the step
            that makes ``first``.
    """

    first: Value
    axes: tuple[int, ...]
    conj: bool = False
    swapped: bool = False

    def legs(self, value: Value) -> tuple[str, ...]:
        """The legs of a value that this is about, in the order of the axes of ``first``."""
        return tuple(leg for _, leg in sorted(zip(self.axes, value.legs, strict=True)))


@dataclass(frozen=True, slots=True)
class _Form:
    """A step in the form in which equal steps are equal.

    Arguments:
        key: equal for steps that compute the same.
        labels: for each axis of the result the label of its leg in the key.
        conj: whether the key is that of the conjugate.
        swapped: whether the operands stand in the other order in the key.
    """

    key: Key
    labels: tuple[int, ...]
    conj: bool
    swapped: bool


class Numbering:
    """The values of a plan that were met so far, and what each is equal to.

    Arguments:
        inputs: values that the plan starts from; no two of them are taken to be equal.
    """

    def __init__(self, inputs: Iterable[Value]) -> None:
        self._same = {value.name: _itself(value) for value in inputs}
        self._known: dict[Key, tuple[Value, _Form]] = {}

    def of(self, name: str) -> Same:
        """What a value is equal to, itself if to no earlier one."""
        return self._same[name]

    def key(self, step: Contract) -> Key:
        """Equal for contractions that compute the same; the step is not noted."""
        return _form(step, self._same).key

    def add(self, step: Step) -> Same | None:
        """Note a step; what its result is equal to if an earlier step computed it.

        A slice that only renames legs computes nothing: its result is noted, and None given.
        """
        result = step.result
        if isinstance(step, Select) and step.renames:
            same = self._same[step.operand.value.name]
            self._same[result.name] = Same(same.first, same.axes, same.conj ^ step.operand.conj)
            return None
        if not isinstance(step, Contract | Reduce | Diagonal | Select):
            self._same[result.name] = _itself(result)
            return None
        form = (
            _slice_form(step, self._same) if isinstance(step, Select) else _form(step, self._same)
        )
        known = self._known.get(form.key)
        if known is None:
            self._known[form.key] = (result, form)
            self._same[result.name] = _itself(result)
            return None
        first, other = known
        place = {label: axis for axis, label in enumerate(other.labels)}
        axes = tuple(place[label] for label in form.labels)
        same = Same(first, axes, form.conj ^ other.conj, form.swapped ^ other.swapped)
        self._same[result.name] = same
        return same


def _itself(value: Value) -> Same:
    return Same(value, tuple(range(len(value.legs))))


def _slice_form(step: Select, same: Mapping[str, Same]) -> _Form:
    """A slice: the axes of its operand are the labels."""
    of = same[step.operand.value.name]
    pins = tuple(sorted((of.axes[axis], index) for axis, index in step.pins))
    pinned = {axis for axis, _ in step.pins}
    labels = tuple(place for axis, place in enumerate(of.axes) if axis not in pinned)
    return _Form(("Select", of.first.name, pins), labels, of.conj ^ step.operand.conj, False)


def _form(step: Contract | Reduce | Diagonal, same: Mapping[str, Same]) -> _Form:
    """The least key over the orders of the operands; the first one is never conjugated in it."""
    found: list[tuple[Key, _Form]] = []
    names = [same[operand.value.name].first.name for operand in step.operands]
    for order in permutations(range(len(names))):
        if [names[number] for number in order] != sorted(names):
            continue
        form = _form_in_order(step, [step.operands[number] for number in order], same)
        found.append((form.key, _Form(form.key, form.labels, form.conj, order[0] != 0)))
    return min(found, key=lambda item: item[0])[1]


def _form_in_order(
    step: Contract | Reduce | Diagonal, operands: list[Operand], same: Mapping[str, Same]
) -> _Form:
    """The form of a step with its operands in one order: labels count the legs as they are met."""
    labels: dict[str, int] = {}
    described: list[tuple[object, ...]] = []
    flags = [same[operand.value.name].conj ^ operand.conj for operand in operands]
    for operand, flag in zip(operands, flags, strict=True):
        of = same[operand.value.name]
        legs = of.legs(operand.value)
        seen = tuple(labels.setdefault(leg, len(labels)) for leg in legs)
        described.append((of.first.name, flag ^ flags[0], seen))
    result = tuple(labels[leg] for leg in step.result.legs)
    key = (type(step).__name__, *described, tuple(sorted(result)))
    return _Form(key, result, flags[0], False)
