"""The written form of a network: canonical JSON text, plain dicts, a versioned schema, arrays."""

from __future__ import annotations

import json
import math
import re
import reprlib
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from ..errors import SpecError
from .dtypes import DTYPES

FORMAT = "tnlayer.network"
VERSION = 1
MAX_TEXT_BYTES = 64 * 2**20
# Each dtype that values may have, and the dtype of its real and imaginary parts.
ARRAY_PARTS = {dtype.name: dtype.part for dtype in DTYPES.values() if dtype.in_documents}

# How JSON writes one half of a pair of surrogates; where the other half lacks, that is no text.
_HALF = re.compile(r"\\u[dD][89a-fA-F]")

# The axes that an array of numpy may have.
_MAX_AXES = 64

Document = dict[str, Any]


# -- canonical JSON ------------------------------------------------------------------------------


def canonical_json(value: object) -> str:
    """One text for one value: sorted keys, no spaces, ASCII only, finite numbers only.

    Arguments:
        value: dicts with string keys, lists, strings, numbers, booleans and None.

    Raises SpecError for anything else, for numbers that are not finite, and for strings that are no
    Unicode.

    >>> canonical_json({"b": [1, 2.5], "a": None})
    '{"a":null,"b":[1,2.5]}'
    """
    try:
        text = json.dumps(
            value, sort_keys=True, separators=(",", ":"), ensure_ascii=True, allow_nan=False
        )
        _check_unicode(text, value)
        return text
    except (TypeError, ValueError, RecursionError) as error:
        msg = f"the value cannot be written as JSON: {error}"
        raise SpecError(msg) from None


def parse_json(text: str | bytes) -> Any:
    """The value of a JSON text; duplicate keys and numbers that are not finite are refused.

    Arguments:
        text: at most MAX_TEXT_BYTES long; bytes are UTF-8.

    Raises SpecError for text that is too long or is not JSON, and for strings that are no Unicode.
    """
    if not isinstance(text, str | bytes):
        msg = f"expected JSON text, got {type(text).__name__}"
        raise SpecError(msg)
    if len(text) > MAX_TEXT_BYTES:
        msg = f"the JSON text is {len(text)} bytes long, at most {MAX_TEXT_BYTES} are allowed"
        raise SpecError(msg)
    try:
        # json itself lets halves of pairs of surrogates through, from bytes and from escapes.
        if isinstance(text, bytes):
            text = text.decode(json.detect_encoding(text))
        value = json.loads(
            text,
            object_pairs_hook=_unique_keys,
            parse_constant=_refuse_constant,
            parse_float=_finite_float,
        )
        _check_unicode(text, value)
        return value
    except SpecError:
        raise
    except (ValueError, RecursionError) as error:
        msg = f"the text is not valid JSON: {error}"
        raise SpecError(msg) from None


def _check_unicode(text: str, value: object) -> None:
    """Refuse strings with half a pair of surrogates, which cannot be printed, hashed or stored.

    Arguments:
        text: JSON of the value.
        value: what it says; looked at only where the text gives cause to.

    Raises:
        UnicodeEncodeError: a string is none.
    """
    if not text.isascii():
        text.encode()
    if _HALF.search(text):
        json.dumps(value, ensure_ascii=False).encode()


def _unique_keys(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for key, value in pairs:
        if key in found:
            msg = f"the JSON text has the key {_cut(key)} twice in one object"
            raise SpecError(msg)
        found[key] = value
    return found


def _cut(value: object) -> str:
    """A part of a document as text for a message."""
    return reprlib.repr(value)


def _refuse_constant(text: str) -> float:
    msg = f"the JSON text has the number {text[:40]}; only finite numbers are allowed"
    raise SpecError(msg)


def _finite_float(text: str) -> float:
    number = float(text)
    return number if math.isfinite(number) else _refuse_constant(text)


# -- schema --------------------------------------------------------------------------------------

Check = Callable[[Any, str], None]


def _expect(kinds: tuple[type, ...], what: str) -> Check:
    """A check that the value is of one of these types; a bool is no number."""

    def check(value: Any, where: str) -> None:
        if not isinstance(value, kinds) or (isinstance(value, bool) and bool not in kinds):
            msg = f"{where}: expected {what}, got {type(value).__name__}"
            raise SpecError(msg)

    return check


def _list_of(check_item: Check) -> Check:
    def check(value: Any, where: str) -> None:
        if not isinstance(value, list):
            msg = f"{where}: expected a list, got {type(value).__name__}"
            raise SpecError(msg)
        for position, item in enumerate(value):
            check_item(item, f"{where}[{position}]")

    return check


def _record(required: Mapping[str, Check], optional: Mapping[str, Check]) -> Check:
    """A check of an object's keys, none missing and none unknown, and of their values."""
    known = {**required, **optional}

    def check(value: Any, where: str) -> None:
        if not isinstance(value, dict):
            msg = f"{where}: expected an object, got {type(value).__name__}"
            raise SpecError(msg)
        for what, keys in (
            ("unknown", [key for key in value if key not in known]),
            ("missing", [key for key in required if key not in value]),
        ):
            if keys:
                msg = (
                    f"{where}: {what} keys {', '.join(map(_cut, keys[:8]))}; expected "
                    f"{', '.join(required)}"
                    + (f" and optionally {', '.join(optional)}" if optional else "")
                )
                raise SpecError(msg)
        for key, item in value.items():
            known[key](item, f"{where}.{key}")

    return check


_text = _expect((str,), "a string")
_whole = _expect((int,), "a whole number")
_flag = _expect((bool,), "true or false")
_names = _list_of(_text)
_optional_text = _expect((str, type(None)), "a string or null")
_array = _record(
    {"dtype": _text, "shape": _list_of(_whole), "entries": _expect((list,), "a list")}, {}
)

_leg = _record({"name": _text, "size": _whole}, {"fixed": _whole, "summed": _flag})
_input = _record(
    {"name": _text, "legs": _names},
    {"batched": _flag, "product": _flag, "dtype": _optional_text},
)
_near_identity = _record({"near_identity": _expect((int, float), "a number")}, {})


def _init(value: Any, where: str) -> None:
    """A name, a number, or the noise of near_identity()."""
    if isinstance(value, dict):
        _near_identity(value, where)
    else:
        _expect((str, int, float), "a name, a number or near_identity")(value, where)


_tensor = _record(
    {"name": _text, "legs": _names},
    {
        "share": _optional_text,
        "conj": _flag,
        "trainable": _flag,
        "value": _array,
        "init": _init,
        "isometry": _list_of(_whole),
    },
)
_network = _record(
    {
        "format": _text,
        "version": _whole,
        "label": _text,
        "legs": _list_of(_leg),
        "inputs": _list_of(_input),
        "output": _names,
        "tensors": _list_of(_tensor),
    },
    {},
)


def check_document(document: object) -> Document:
    """A network's plain dict, checked against the schema of its version.

    Raises SpecError that names the place, such as ``network.tensors[2].legs``, and for an
    unknown key that key.
    """
    if isinstance(document, dict):
        if document.get("format") != FORMAT:
            msg = f"network.format: expected {FORMAT!r}, got {_cut(document.get('format'))}"
            raise SpecError(msg)
        if document.get("version") != VERSION or isinstance(document["version"], bool):
            msg = (
                f"network.version: expected {VERSION}, got {_cut(document.get('version'))}; "
                "this release reads no other version"
            )
            raise SpecError(msg)
    _network(document, "network")
    assert isinstance(document, dict)
    return document


def write_document(document: Document) -> str:
    """Canonical JSON text of a checked document.

    Raises SpecError where the text would be longer than MAX_TEXT_BYTES.
    """
    check_document(document)
    entries = sum(len(tensor.get("value", {}).get("entries", ())) for tensor in document["tensors"])
    # Each entry takes two characters or more, so this bound needs no text.
    length = 2 * entries
    text = canonical_json(document) if length <= MAX_TEXT_BYTES else ""
    if max(length, len(text)) > MAX_TEXT_BYTES:
        msg = (
            f"the values have {entries} entries, too many for a JSON text of {MAX_TEXT_BYTES} "
            "bytes; keep large values in a state_dict and the network without them"
        )
        raise SpecError(msg)
    return text


def read_document(text: str | bytes) -> Document:
    """The plain dict of a network's JSON text, checked against the schema."""
    return check_document(parse_json(text))


# -- arrays --------------------------------------------------------------------------------------


def encode_array(array: np.ndarray, where: str) -> Document:
    """An array as dtype, shape and a flat list of numbers; a complex entry is two numbers.

    Arguments:
        array: real or complex, at most 64 bits a part; floats survive exactly.
        where: the tensor, for messages.

    Raises SpecError for entries that are not finite: JSON has no number for them.

    >>> encode_array(np.array([1j], dtype=np.complex64), "tensor 'A'")["entries"]
    [0.0, 1.0]
    """
    if array.dtype.name not in ARRAY_PARTS:
        msg = f"{where}: value has dtype {array.dtype}, expected one of {', '.join(ARRAY_PARTS)}"
        raise SpecError(msg)
    if 2 * array.size > MAX_TEXT_BYTES:
        msg = f"{where}: value has {array.size} entries, too many for JSON; use a state_dict"
        raise SpecError(msg)
    if not np.isfinite(array).all():
        msg = f"{where}: value has entries that are not finite, which JSON cannot hold"
        raise SpecError(msg)
    flat = np.ascontiguousarray(array).reshape(-1)
    parts = flat.view(ARRAY_PARTS[array.dtype.name])
    return {
        "dtype": array.dtype.name,
        "shape": list(array.shape),
        "entries": parts.astype(np.float64).tolist(),
    }


def decode_array(document: Document, where: str) -> np.ndarray:
    """The array that encode_array wrote.

    Raises SpecError for an unknown dtype, a wrong number of entries and entries that are no
    numbers or do not fit the dtype.
    """
    _array(document, where)
    name, shape, entries = document["dtype"], document["shape"], document["entries"]
    if name not in ARRAY_PARTS:
        msg = f"{where}: dtype must be one of {', '.join(ARRAY_PARTS)}, got {_cut(name)}"
        raise SpecError(msg)
    dtype = np.dtype(name)
    # Sizes before their product: a product of huge ones takes long, and so does its text.
    if len(shape) > _MAX_AXES or any(abs(size) > MAX_TEXT_BYTES for size in shape):
        msg = (
            f"{where}: the shape {_cut(shape)} is too large: at most {_MAX_AXES} axes of at most "
            f"{MAX_TEXT_BYTES} entries are allowed"
        )
        raise SpecError(msg)
    numbers = (2 if dtype.kind == "c" else 1) * math.prod(shape)
    if any(size < 0 for size in shape) or len(entries) != numbers:
        msg = f"{where}: expected {numbers} entries for shape {_cut(shape)}, got {len(entries)}"
        raise SpecError(msg)
    for position, entry in enumerate(entries):
        if not isinstance(entry, int | float) or isinstance(entry, bool):
            msg = f"{where}: entry {position} must be a number, got {type(entry).__name__}"
            raise SpecError(msg)
    try:
        with np.errstate(over="ignore"):
            parts = np.array(entries, dtype=np.float64).astype(ARRAY_PARTS[name])
    except OverflowError:
        parts = np.array([np.inf])
    if not np.isfinite(parts).all():
        msg = f"{where}: an entry does not fit the dtype {name}"
        raise SpecError(msg)
    try:
        return parts.view(dtype).reshape(shape)
    except ValueError as error:  # an older numpy takes fewer axes
        msg = f"{where}: numpy makes no array of shape {_cut(shape)}: {error}"
        raise SpecError(msg) from None
