"""A Plan as a plain document and back: what the plan store writes, and how it reads it.

Nothing of the user's is in a document: the plan's names are canonical, and the table of the user's
names is left out. Reading trusts nothing: each key, type, name and amount is checked, operands must
have been made before, and no text is ever evaluated. What the types of the fields do not say is
said by the forms of :class:`_Reader`.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from functools import partial
from typing import Any

from ..errors import PlanError
from ..support.codec import Codec, CodecError, Form, list_of, plain, text, whole
from ..support.dtypes import DTYPES
from .backend_names import region_names
from .plan import Plan
from .plan_parts import BackendSpan, Memory
from .steps import BATCH, Operand, Origin, Part, Value

# Raised whenever a plan of the same network may come out otherwise, or is written otherwise.
PLAN_SCHEMA = 5

# Names reach generated source: none of these can be more than a variable's name.
_NAME = re.compile(r"[a-z][a-z0-9_]{0,99}")
_MINIMIZE = re.compile(r"[a-z0-9.+-]{1,40}")

Document = dict[str, Any]


class PlanDocumentError(ValueError):
    """A document that is no plan; the store takes it as a miss."""


def document_from_plan(plan: Plan) -> Document:
    """The plain document of a plan: dicts, lists, strings, whole numbers, booleans and None.

    Arguments:
        plan: a legal plan, forward or backward; its table of user's names is not written.

    Raises:
        PlanError: a step is illegal.

    >>> import tnlayer as tn
    >>> plan = tn.plan(tn.topologies.low_rank(4, 4, rank=2))
    >>> document_from_plan(plan)["steps"][0]["kind"]
    'contract'
    >>> plan_from_document(document_from_plan(plan)) == plan
    True
    """
    return _WRITER.write(Plan, plan.verify())


def plan_from_document(document: object) -> Plan:
    """The plan of a document.

    Arguments:
        document: a parsed JSON value, from anywhere.

    Raises:
        PlanDocumentError: an unknown or missing key, a wrong type, a name that is no canonical
            name, an amount that is out of bounds, or an illegal step; names the place.
    """
    try:
        return _Reader().codec.read(Plan, document, "plan").verify()
    except (CodecError, PlanError) as error:
        raise PlanDocumentError(str(error)) from None


def _checked(good: Callable[[str], object], expected: str) -> Form:
    """A string that is more than a string."""

    def read(item: object, where: str) -> str:
        if not good(found := text(item, where)):
            raise CodecError(where, expected)
        return found

    return plain(read)


def _name(item: object, where: str) -> str:
    """A canonical name, whatever else stands there."""
    if not isinstance(item, str) or not _NAME.fullmatch(item):
        raise CodecError(where, "a canonical name")
    return item


def _backend(item: object, where: str) -> str:
    """A backend of regions; they are known by now."""
    known = region_names()
    if not isinstance(item, str) or item not in known:
        raise CodecError(where, f"one of {', '.join(known)}, and a number of steps")
    return item


_NAMES, _FROM_ONE = plain(_name), plain(partial(whole, least=1))
_CHUNK = plain(lambda item, where: None if item is None else whole(item, where, 1))
_ORIGIN_STEP = plain(lambda item, where: "" if item == "" else _name(item, where))
_LEG_SIZES = tuple[tuple[str, int], ...]
_ROWS = {
    Value: "a list of two items: a name and its legs",
    Operand: "a list of two items: a value, and whether it is conjugated",
    Origin: "a role, a step and a value",
    Part: "a list of two items: an operand and its pins",
    BackendSpan: "a list of two items: a backend and a number of steps",
}
# Of values and leg sizes by themselves; whether these fit the rest a _Reader says.
_ALONE = Codec({str: _NAMES, int: _FROM_ONE}, rows=_ROWS)


class _Reader:
    """Knows the legs, and the values made so far; fields are read in their order."""

    def __init__(self) -> None:
        self.legs = {BATCH}
        self.values: dict[str, Value] = {}
        # Forms are found by type: a tuple of strings is of legs, if nothing else is said.
        self.codec = Codec(
            own={
                str: _NAMES,
                tuple[str, ...]: list_of(plain(self.leg)),
                Value: Form(partial(_ALONE.write, Value), self.new_value),
                (Operand, "value"): Form(lambda value: value.name, self.known_value),
                (Origin, "step"): _ORIGIN_STEP,
                (BackendSpan, "backend"): plain(_backend),
                (Memory, "recompute"): list_of(_NAMES),
                (Memory, "chunk"): _CHUNK,
                (Plan, "leg_sizes"): Form(partial(_ALONE.write, _LEG_SIZES), self.leg_sizes),
                (Plan, "dtype"): _checked(DTYPES.__contains__, f"one of {', '.join(DTYPES)}"),
                (Plan, "batch"): _FROM_ONE,
                (Plan, "minimize"): _checked(_MINIMIZE.fullmatch, "the name of an objective"),
            },
            left_out=frozenset({"names"}),
            rows=_ROWS,
        )

    def leg_sizes(self, item: object, where: str) -> tuple[tuple[str, int], ...]:
        """The legs with their sizes."""
        sizes = _ALONE.read(_LEG_SIZES, item, where)
        self.legs |= {leg for leg, _ in sizes}
        if len(self.legs) != len(sizes) + 1:
            raise CodecError(where, "legs that differ from each other and from the batch")
        return sizes

    def leg(self, item: object, where: str) -> str:
        """A leg whose size is known."""
        if not isinstance(item, str) or item not in self.legs:
            raise CodecError(where, "a leg of leg_sizes, or the batch")
        return item

    def new_value(self, item: object, where: str) -> Value:
        """A value under a name that is not taken yet."""
        value = _ALONE.read(Value, item, where)
        for leg in value.legs:
            self.leg(leg, where)
        if value.name in self.values:
            raise CodecError(where, "a name that is not taken")
        self.values[value.name] = value
        return value

    def known_value(self, item: object, where: str) -> Value:
        """A value that was made before; that a step uses its own result is found by verify()."""
        if not isinstance(item, str) or item not in self.values:
            raise CodecError(where, "a value that was made before")
        return self.values[item]


# Writing asks nothing of what was read.
_WRITER = _Reader().codec
