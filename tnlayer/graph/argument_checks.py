"""Checks of single values that a user gives: names, sizes, indices, leg lists, arrays, options."""

from __future__ import annotations

import difflib
import math
import operator
import re
import reprlib
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence, Sized
from itertools import islice
from numbers import Integral, Real
from typing import Any, TypeVar

import numpy as np

from ..errors import SpecError
from ..support.dtypes import DTYPES, PORT_DTYPES
from .graph_values import MAX_LEG_SIZE, MAX_LEGS, ArrayValue
from .near_identity import NearIdentity

IDENTIFIER = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
LEG_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*(\.[A-Za-z0-9_]+)*")
RESERVED_NAMES = frozenset({"bias"})
# Characters of one name times those of another, over all names that a suggestion looks at.
_COMPARED = 1_000_000

Word = TypeVar("Word", bound=str)


def shown(value: object) -> str:
    """The value as text for a message, cut where it would be long; never an error of its own."""
    if isinstance(value, int) and not isinstance(value, bool) and value.bit_length() > 200:
        return f"about {'-' if value < 0 else ''}2**{value.bit_length() - 1}"
    if isinstance(value, str | bytes) and len(value) > 120:
        return f"{value[:100]!r}... ({len(value)} characters)"
    try:
        text = _SHORT.repr(value)
    # The value is the user's, and so is its __repr__, which may raise anything.
    except Exception:
        return f"a value of type {type(value).__name__}"
    return text if len(text) <= 120 else f"{text[:100]}... ({len(text)} characters)"


class _Short(reprlib.Repr):
    """repr() that looks at the first items of a container and at three levels only."""

    def repr_int(self, x: int, level: int) -> str:
        return shown(x) if x.bit_length() > 200 else repr(x)


_SHORT = _Short()
_SHORT.maxlevel = 3
_SHORT.maxtuple = _SHORT.maxlist = _SHORT.maxset = _SHORT.maxfrozenset = _SHORT.maxdict = 20
_SHORT.maxstring = _SHORT.maxlong = _SHORT.maxother = 120


def listed(names: Sequence[object], separator: str = " ") -> str:
    """The first dozen of some names or sizes as text for a message."""
    text = separator.join(map(str, names[:12]))
    return text if len(names) <= 12 else f"{text}{separator}... ({len(names)} in all)"


def suggest(name: str, known: Iterable[str]) -> str:
    """A hint that names the nearest known name, or lists a few; empty where there is none."""
    names = list(known)
    nearest = did_you_mean(name, names)
    if nearest or not names:
        return nearest
    some = ", ".join(map(shown, names[:8])) + (", ..." if len(names) > 8 else "")
    return f" (known: {some})"


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """A hint that names the nearest known name; empty where none is near."""
    nearest = difflib.get_close_matches(name, _comparable(name, known), n=1)
    return f" (did you mean {shown(nearest[0])}?)" if nearest else ""


def _comparable(name: str, names: Iterable[str]) -> list[str]:
    """The names that may be near: to compare two takes as long as the product of their lengths."""
    left, taken = _COMPARED, list[str]()
    for known in sorted(names, key=lambda known: abs(len(known) - len(name))):
        # Below difflib's cutoff of 0.6 whatever their letters are.
        if 3 * max(len(known), len(name)) > 7 * min(len(known), len(name)):
            continue
        left -= len(known) * len(name)
        if left < 0:
            break
        taken.append(known)
    return taken


def check_name(name: object, what: str) -> str:
    """A user's own name of a tensor, port or leg: letters, digits and underscores."""
    if not isinstance(name, str) or IDENTIFIER.fullmatch(name) is None:
        msg = (
            f"{what} name {shown(name)} is not valid: expected letters, digits and underscores, "
            "not starting with a digit, such as 'A' or 'i1'"
        )
        raise SpecError(msg)
    return name


def check_tensor_name(name: object) -> str:
    """A tensor's name: an identifier that the layer does not use itself."""
    text = check_name(name, "tensor")
    if text in RESERVED_NAMES:
        msg = (
            f"tensor name {text!r} is reserved for the layer's own bias; "
            f"call the tensor for example {text + '_tensor'!r}"
        )
        raise SpecError(msg)
    return text


def check_leg_name(name: object, where: str) -> str:
    """A leg's name: an identifier, or a fresh name, which contains a dot."""
    if not isinstance(name, str) or LEG_NAME.fullmatch(name) is None:
        msg = f"{where}: leg name {shown(name)} is not valid: expected a name such as 'i1' or 'a'"
        raise SpecError(msg)
    return name


def check_whole(number: object, where: str) -> int:
    """A whole number: a Python or numpy integer; a bool or a float is refused."""
    if not isinstance(number, bool | np.bool_ | np.ndarray):
        try:
            return operator.index(number)  # type: ignore[arg-type]
        except TypeError:
            pass
    msg = f"{where} must be a whole number, got {shown(number)} of type {type(number).__name__}"
    raise SpecError(msg)


def as_number(value: object) -> float | None:
    """A real number of Python or numpy as one of Python; None of anything else, a bool too."""
    if isinstance(value, bool) or not isinstance(value, Real):
        return None
    return int(value) if isinstance(value, Integral) else float(value)


def check_option(value: object, name: str, known: Iterable[Word]) -> Word:
    """One of the words that an option takes."""
    words = tuple(known)
    for word in words:
        if isinstance(value, str) and value == word:
            return word
    hint = did_you_mean(value, words) if isinstance(value, str) else ""
    msg = f"{name}={shown(value)} is unknown{hint}; expected one of {', '.join(words)}"
    raise SpecError(msg)


def check_flag(value: object, name: str, expected: str = "True or False") -> bool:
    """True or False; what is only true or false as a condition is refused."""
    if not isinstance(value, bool):
        msg = f"{name}={shown(value)}: expected {expected}"
        raise SpecError(msg)
    return value


def check_mapping(value: object, where: str, what: str) -> None:
    """Refuse what is no mapping, such as sizes by letter."""
    if not isinstance(value, Mapping):
        msg = f"{where}: expected a mapping of {what}, got {shown(value)}"
        raise SpecError(msg)


def check_size(size: object, where: str) -> int:
    """The size of a leg: a whole number from 1 to MAX_LEG_SIZE."""
    number = check_whole(size, f"{where}: the size of a leg")
    if not 1 <= number <= MAX_LEG_SIZE:
        msg = f"{where}: the size of a leg must be from 1 to {MAX_LEG_SIZE}, got {shown(number)}"
        raise SpecError(msg)
    return number


def take_bounded(items: Iterable[Any], where: str) -> tuple[Any, ...]:
    """The items as a tuple, refused beyond MAX_LEGS before more than that are read."""
    try:
        taken = tuple(islice(items, MAX_LEGS + 1))
    except TypeError as error:  # an array without axes says that it is iterable, and is not
        msg = f"{where}: expected a sequence, got {shown(items)}"
        raise SpecError(msg) from error
    if len(taken) > MAX_LEGS:
        count = len(items) if isinstance(items, Sequence) else f"more than {MAX_LEGS}"
        msg = f"{where} has {count} legs, at most {MAX_LEGS} are allowed; use fewer, larger legs"
        raise SpecError(msg)
    return taken


def split_legs(legs: object, where: str) -> tuple[str, ...]:
    """Leg names from a string with spaces or from a sequence of names."""
    if isinstance(legs, str):
        if "," in legs[: 64 * MAX_LEGS]:
            parted = " ".join(legs[:200].replace(",", " ").split())
            msg = f"{where}: legs are parted by spaces, not by commas: write {shown(parted)}"
            raise SpecError(msg)
        # Splitting a huge text would allocate first; no leg list is that long.
        if len(legs) > 64 * MAX_LEGS:
            msg = f"{where}: the text of legs is {len(legs)} characters long, too many legs"
            raise SpecError(msg)
        names: tuple[Any, ...] = take_bounded(legs.split(), where)
    elif isinstance(legs, Iterable):
        names = take_bounded(legs, where)
    else:
        msg = f"{where}: legs must be a string or a sequence of names, got {shown(legs)}"
        raise SpecError(msg)
    return tuple(check_leg_name(name, where) for name in names)


def dtype_name_of(dtype: object) -> str:
    """The name that a dtype has, from a name, a numpy or a torch dtype; "" of anything else."""
    if isinstance(dtype, type):
        return dtype.__name__
    # Another object's text may be long, or raise.
    is_known = isinstance(dtype, str | np.dtype) or type(dtype).__module__.startswith("torch")
    return str(dtype).removeprefix("torch.") if is_known else ""


def check_dtype_name(dtype: object, where: str) -> str | None:
    """The name of a dtype that an input may have, from a name, a numpy or a torch dtype."""
    if dtype is None:
        return None
    name = dtype_name_of(dtype)
    if name not in PORT_DTYPES:
        msg = (
            f"{where}: dtype must be one of {', '.join(PORT_DTYPES)}, got {shown(dtype)}"
            f"{did_you_mean(name, PORT_DTYPES)}"
        )
        raise SpecError(msg)
    return name


def check_init(init: object, where: str) -> str | float | NearIdentity | Callable[..., Any] | None:
    """An initialisation: a registered name, a standard deviation of 0 or more, near_identity(), or
    a callable.
    """
    if init is None or isinstance(init, NearIdentity) or callable(init):
        return init
    if isinstance(init, str):
        return check_name(init, f"{where}: init")
    if isinstance(init, int | float | np.integer | np.floating) and not isinstance(init, bool):
        try:
            deviation = float(init)
        except OverflowError:  # a whole number beyond the range of floats
            deviation = math.inf
        if math.isfinite(deviation) and deviation >= 0:
            return deviation
    msg = (
        f"{where}: init must be a registered name, a finite standard deviation of 0 or more, "
        f"near_identity() or a callable, got {shown(init)}"
    )
    raise SpecError(msg)


def _numpy_from_torch(value: Any, where: str) -> np.ndarray:
    """A torch tensor's entries as a numpy array, off the device and off the autograd graph."""
    name = str(value.dtype).removeprefix("torch.")
    if name in DTYPES and not DTYPES[name].in_documents:
        msg = f"{where}: numpy has no {name}; pass value.float() instead"
        raise SpecError(msg)
    if value.is_meta:
        msg = f"{where}: the value is on the meta device and has no entries; pass a real tensor"
        raise SpecError(msg)
    try:
        dense = value.detach().to_dense() if value.is_sparse else value.detach()
        return dense.cpu().resolve_conj().resolve_neg().numpy()
    # Nested, quantised and compressed tensors, and dtypes that numpy lacks: each raises its own.
    except (RuntimeError, TypeError) as error:
        msg = (
            f"{where}: the value has dtype {value.dtype} and layout {value.layout}, which numpy "
            f"cannot hold: {error}; pass a dense tensor of a usual dtype"
        )
        raise SpecError(msg) from error


# Rows that a list may have, and entries of an array that is repeated and not stored.
_MOST_REPEATED = 2**24


def _check_extent(value: object, where: str) -> None:
    """Refuse what is small where it lies and would be copied into an array of gigabytes.

    Raises:
        SpecError: it is.
    """
    if isinstance(value, np.ndarray):
        if value.size > _MOST_REPEATED and 0 in value.strides:
            msg = (
                f"{where}: value has {value.size} entries, most of which are one in memory "
                f"(strides {value.strides}); pass a copy if it is meant, or init='ones'"
            )
            raise SpecError(msg)
    elif isinstance(value, Sized) and len(value) > _MOST_REPEATED:
        msg = f"{where}: value has {len(value)} rows; pass more than {_MOST_REPEATED} as an array"
        raise SpecError(msg)


def as_array_value(value: object, where: str) -> ArrayValue:
    """A user's array (numpy, torch or nested lists) as a frozen value.

    Arguments:
        value: entries at the full shape of the tensor. Whole numbers become float64.
        where: the tensor, for messages.

    Raises SpecError for entries that are not numbers or whose dtype numpy cannot hold.
    """
    if isinstance(value, ArrayValue):
        return value
    # A torch tensor exists only where torch is loaded: no import of torch for numpy users.
    torch: Any = sys.modules.get("torch")
    if torch is not None and isinstance(value, torch.Tensor):
        array = _numpy_from_torch(value, where)
    else:
        _check_extent(value, where)
        try:
            array = np.asarray(value)
        # Nested lists and objects with an __array__ of their own may raise anything.
        except Exception as error:
            msg = f"{where}: value is not an array: {error}; got {shown(value)}"
            raise SpecError(msg) from None
    kind, bits = array.dtype.kind, array.dtype.itemsize * 8
    if kind in "iub":
        return ArrayValue(array.astype(np.float64))
    if (kind == "f" and bits <= 64) or (kind == "c" and bits <= 128):
        return ArrayValue(array.astype(array.dtype.newbyteorder("="), copy=False))
    msg = (
        f"{where}: value has dtype {array.dtype}, expected real, complex or whole numbers of at "
        "most 64 bits a part; convert it, for example value.astype('float64')"
    )
    raise SpecError(msg)
