"""Calls that lack an argument, have one too many or misname one: told with a call that is right."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping, Sequence
from functools import wraps
from typing import Any, ParamSpec, TypeVar

from ..errors import SpecError
from .argument_checks import did_you_mean, shown

P = ParamSpec("P")
R = TypeVar("R")
C = TypeVar("C")

_IN_ORDER = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)


# What a call should have been, from its arguments in order and by name; "" where nothing is known.
Instead = Callable[[Sequence[Any], Mapping[str, Any]], str]


def told(
    fix: str, name: str = "", instead: Instead | None = None
) -> Callable[[Callable[P, R]], Callable[P, R]]:
    """For a function or method: a call that does not fit its parameters is a SpecError.

    Python's own TypeError says what it counted; this says what the user wrote, and a call that is
    right.

    Arguments:
        fix: a call that is right, as the user would write it, and what else may be meant.
        name: what the user calls; by default the function's own name.
        instead: for mistakes that are known, the whole message.

    >>> @told("area(3, height=4)")
    ... def area(width, *, height):
    ...     return width * height
    >>> area(3, height=4)
    12
    >>> area(3, 4)
    Traceback (most recent call last):
    tnlayer.errors.SpecError: area: 4 has to be named: write area(3, height=4)
    """

    def decorate(function: Callable[P, R]) -> Callable[P, R]:
        signature = inspect.signature(function)

        @wraps(function)
        def call(*arguments: P.args, **options: P.kwargs) -> R:
            try:
                signature.bind(*arguments, **options)
            except TypeError as error:
                known = "" if instead is None else instead(arguments, options)
                wrong = _wrong(signature, arguments, options) or str(error)
                msg = known or f"{name or function.__name__}: {wrong}: write {fix}"
                raise SpecError(msg) from None
            return function(*arguments, **options)

        return call

    return decorate


def told_class(fix: str) -> Callable[[type[C]], type[C]]:
    """The same for a dataclass, whose ``__init__`` is made for it.

    Arguments:
        fix: a call that is right.
    """

    def decorate(kind: type[C]) -> type[C]:
        made: Any = kind
        made.__init__ = told(fix, kind.__name__)(made.__init__)
        return kind

    return decorate


def _wrong(
    signature: inspect.Signature, arguments: Sequence[Any], options: Mapping[str, Any]
) -> str:
    """What does not fit, the first of it, in the user's words; "" where it is something else."""
    parameters = signature.parameters
    in_order = [one.name for one in parameters.values() if one.kind in _IN_ORDER]
    given = {*in_order[: len(arguments)], *options}
    twice = [one for one in in_order[: len(arguments)] if one in options]
    takes_any = any(one.kind is inspect.Parameter.VAR_KEYWORD for one in parameters.values())
    unknown = [] if takes_any else [one for one in options if one not in parameters]
    missing = [
        one.name
        for one in parameters.values()
        if one.default is inspect.Parameter.empty
        and one.kind in (*_IN_ORDER, inspect.Parameter.KEYWORD_ONLY)
        and one.name not in given
    ]
    told_of = {
        f"{', '.join(map(shown, arguments[len(in_order) :]))} has to be named": arguments[
            len(in_order) :
        ],
        f"{', '.join(twice)} is given twice, in order and by name": twice,
        _unknown(unknown, list(parameters)): unknown,
        f"{', '.join(missing)} is missing": missing,
    }
    return next((text for text, found in told_of.items() if found), "")


def _unknown(names: Sequence[str], known: Sequence[str]) -> str:
    """Names that are none, each with the nearest that is one."""
    hints = [f"{name}= is no argument of it{did_you_mean(name, known)}" for name in names]
    return ", ".join(hints)
