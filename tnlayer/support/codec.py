"""Frozen dataclasses as plain JSON values and back, by the types of their fields.

A dataclass is an object with a key for each field; one of a union has its class beside, as "kind".
Tuples are lists, and so are dataclasses that a codec is told to write as rows. Reading trusts
nothing: keys, types and lengths must be as the types say, and what is wrong is told with its place.
What a type alone does not say (a name that must be known, a number that must be positive) is an own
``Form`` of the codec.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, fields, is_dataclass
from functools import lru_cache, partial
from types import NoneType, UnionType
from typing import Any, Literal, cast, get_args, get_origin, get_type_hints

MOST_ITEMS = 200_000
MOST = 2**53

Write = Callable[[Any], Any]
Read = Callable[[object, str], Any]


class CodecError(ValueError):
    """A value that is not of the type that was asked for; names the place."""

    def __init__(self, where: str, expected: str) -> None:
        super().__init__(f"{where}: expected {expected}")


@dataclass(frozen=True, slots=True)
class Form:
    """How values of one type are written and read in a way of their own.

    Arguments:
        write: gives the plain value.
        read: takes a plain value and its place; raises CodecError.
    """

    write: Write
    read: Read


@dataclass(frozen=True, slots=True)
class Codec:
    """Writes and reads values of dataclasses.

    Arguments:
        own: forms of types that are not read field by field, or that are to be checked further;
            under a dataclass and the name of a field, that of this field alone.
        left_out: names of fields that are neither written nor read.
        rows: dataclasses that are a list of their fields, each with what is expected there.
    """

    own: Mapping[Any, Form] = field(default_factory=dict[Any, Form])
    left_out: frozenset[str] = frozenset()
    rows: Mapping[Any, str] = field(default_factory=dict[Any, str])
    _forms: dict[Any, Form] = field(init=False, default_factory=dict[Any, Form], compare=False)

    def write(self, kind: Any, value: Any) -> Any:
        """A value as dicts, lists, strings, numbers, booleans and None."""
        return self._form(kind).write(value)

    def read(self, kind: Any, item: object, where: str) -> Any:
        """The value that :meth:`write` gave.

        Arguments:
            kind: the type: str, int, float, bool, a dataclass, a tuple, a Literal or a union.
            item: a parsed JSON value, from anywhere.
            where: what it is, for the message.

        Raises:
            CodecError: it is none.
        """
        return self._form(kind).read(item, where)

    def _form(self, kind: Any) -> Form:
        """The form of a type, made once; a type that holds itself finds it half made."""
        if kind not in self._forms:
            # A class may be reached again from its own fields: let it look itself up then.
            self._forms[kind] = Form(
                lambda value: self._forms[kind].write(value),
                lambda item, where: self._forms[kind].read(item, where),
            )
            self._forms[kind] = self._made(kind)
        return self._forms[kind]

    def _made(self, kind: Any) -> Form:
        if kind in self.own:
            return self.own[kind]
        if kind in _PLAIN:
            return _PLAIN[kind]
        if kind in self.rows:
            return self._row(kind, self.rows[kind])
        if is_dataclass(kind):
            return self._record(kind)
        origin, inner = get_origin(kind), get_args(kind)
        if origin is tuple and inner[-1] is Ellipsis:
            return list_of(self._form(inner[0]))
        if origin is tuple:
            return _items(tuple(map(self._form, inner)))
        if origin is Literal:
            return plain(partial(_one_of, inner))
        if origin is UnionType or (origin is not None and NoneType in inner):
            return self._union(inner)
        msg = f"{kind} has no form: give the codec one of its own"
        raise TypeError(msg)

    def _fields(self, kind: Any) -> dict[str, Form]:
        """The form of each field of a dataclass, in order."""
        hints = _hints(kind)
        names = [f.name for f in fields(kind) if f.init and f.name not in self.left_out]
        return {n: self.own.get((kind, n)) or self._form(hints[n]) for n in names}

    def _row(self, kind: Any, expected: str) -> Form:
        """A dataclass as a list of its fields; what is wrong in one is wrong in the row."""
        forms = self._fields(kind)

        def write(value: Any) -> list[Any]:
            return [form.write(getattr(value, name)) for name, form in forms.items()]

        def read(item: object, where: str) -> Any:
            if not isinstance(item, list) or len(item) != len(forms):  # pyright: ignore[reportUnknownArgumentType]
                raise CodecError(where, expected)
            pairs = zip(forms.items(), item, strict=True)  # pyright: ignore[reportUnknownArgumentType,reportUnknownVariableType]
            return kind(**{name: form.read(inner, where) for (name, form), inner in pairs})

        return Form(write, read)

    def _record(self, kind: Any) -> Form:
        """A dataclass, field by field."""
        forms = self._fields(kind)
        expected = f"an object with the keys {' '.join(forms)}"
        known = set(forms)

        def write(value: Any) -> dict[str, Any]:
            return {name: form.write(getattr(value, name)) for name, form in forms.items()}

        def read(item: object, where: str) -> Any:
            if not isinstance(item, dict) or item.keys() != known:
                raise CodecError(where, expected)
            return kind(
                **{name: form.read(item[name], f"{where}.{name}") for name, form in forms.items()}
            )

        return Form(write, read)

    def _union(self, inner: tuple[Any, ...]) -> Form:
        """None, one type, or one of several dataclasses."""
        rest = [kind for kind in inner if kind is not NoneType]
        form = self._form(rest[0]) if len(rest) == 1 else self._told_by_kind(rest)
        if len(rest) == len(inner):
            return form
        return Form(
            lambda value: None if value is None else form.write(value),
            lambda item, where: None if item is None else form.read(item, where),
        )

    def _told_by_kind(self, kinds: list[Any]) -> Form:
        """One of several dataclasses, told by its name."""
        forms = {kind.__name__.lower(): self._form(kind) for kind in kinds}
        known = f"one of {', '.join(forms)}"

        def write(value: Any) -> dict[str, Any]:
            name = type(value).__name__.lower()
            return {"kind": name, **forms[name].write(value)}

        def read(item: object, where: str) -> Any:
            kind = cast("dict[str, Any]", item).get("kind") if isinstance(item, dict) else None
            if not isinstance(kind, str):
                raise CodecError(where, f"an object with a kind, {known}")
            if kind not in forms:
                raise CodecError(f"{where}.kind", known)
            record = cast("dict[str, Any]", item)
            return forms[kind].read({k: v for k, v in record.items() if k != "kind"}, where)

        return Form(write, read)


# Asked for whenever a codec is made, and slow: annotations are evaluated.
_hints = lru_cache(maxsize=256)(get_type_hints)


def whole(item: object, where: str, least: int = 0) -> int:
    """A whole number from ``least`` on; true and false are none."""
    if type(item) is not int or not least <= item <= MOST:
        raise CodecError(where, f"a whole number from {least} to {MOST}")
    return item


def text(item: object, where: str) -> str:
    """A string."""
    if not isinstance(item, str):
        raise CodecError(where, "a string")
    return item


def number(item: object, where: str) -> float:
    """A finite number."""
    if type(item) not in (int, float) or not math.isfinite(item):  # type: ignore[arg-type]
        raise CodecError(where, "a finite number")
    return float(item)  # type: ignore[arg-type]


def flag(item: object, where: str) -> bool:
    """True or false."""
    if not isinstance(item, bool):
        raise CodecError(where, "true or false")
    return item


def plain(read: Read) -> Form:
    """The form of what is written as it is."""
    return Form(lambda value: value, read)


_PLAIN: dict[Any, Form] = {
    str: plain(text),
    int: plain(whole),
    float: plain(number),
    bool: plain(flag),
}


def _one_of(known: tuple[Any, ...], item: object, where: str) -> Any:
    # By type too: True is no 1.
    if not any(type(item) is type(one) and item == one for one in known):
        raise CodecError(where, f"one of {', '.join(map(str, known))}")
    return item


def list_of(form: Form) -> Form:
    """A tuple of any length."""

    def write(value: tuple[Any, ...]) -> list[Any]:
        return [form.write(item) for item in value]

    def read(item: object, where: str) -> tuple[Any, ...]:
        if not isinstance(item, list) or len(item) > MOST_ITEMS:  # pyright: ignore[reportUnknownArgumentType]
            raise CodecError(where, f"a list of at most {MOST_ITEMS} items")
        return tuple(
            form.read(inner, f"{where}[{place}]")
            for place, inner in enumerate(item)  # pyright: ignore[reportUnknownArgumentType]
        )

    return Form(write, read)


def _items(forms: tuple[Form, ...]) -> Form:
    """A tuple of a known length."""

    def write(value: tuple[Any, ...]) -> list[Any]:
        return [form.write(item) for form, item in zip(forms, value, strict=True)]

    def read(item: object, where: str) -> tuple[Any, ...]:
        if not isinstance(item, list) or len(item) != len(forms):  # pyright: ignore[reportUnknownArgumentType]
            raise CodecError(where, f"a list of {len(forms)} items")
        pairs = zip(forms, item, strict=True)  # pyright: ignore[reportUnknownArgumentType,reportUnknownVariableType]
        return tuple(form.read(inner, f"{where}[{k}]") for k, (form, inner) in enumerate(pairs))

    return Form(write, read)
