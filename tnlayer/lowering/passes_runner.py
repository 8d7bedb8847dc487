"""A pipeline is a list of passes, and a pass a function from one value to the next of its type.

    LOOP_PASSES = (carry_sums, find_shuffles, place_workspace, ...)   # what is done, in order

A pass is added by adding its name to the list; the lists are in cpu/pipeline.py and
gpu/pipeline.py. Tests walk them with :func:`after_each` and verify what each pass leaves;
``TNLAYER_DEBUG=5`` shows it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import TypeVar

from ..support.debug import debug, debug_level

Value = TypeVar("Value")
# The level of TNLAYER_DEBUG that shows the value after each pass.
AFTER_EACH_PASS = 5


def run_passes(
    passes: Sequence[Callable[[Value], Value]], value: Value, show: Callable[[Value], str]
) -> Value:
    """What the last pass makes of a value.

    Arguments:
        passes: in order.
        value: what the first one takes.
        show: a value as a text; called where TNLAYER_DEBUG asks for it only.

    >>> run_passes((str.strip, str.upper), " loops ", str)
    'LOOPS'
    """
    for name, after in after_each(passes, value):
        value = after
        show_after(name, value, show)
    return value


def show_after(name: str, value: Value, show: Callable[[Value], str]) -> None:
    """Show what a pass made, if TNLAYER_DEBUG asks for it."""
    if debug_level() >= AFTER_EACH_PASS:  # a text for each of many schedules takes time
        debug(AFTER_EACH_PASS, f"after {name}\n{show(value)}")


def after_each(
    passes: Sequence[Callable[[Value], Value]], value: Value
) -> Iterator[tuple[str, Value]]:
    """The name of each pass and the value after it."""
    for one in passes:
        value = one(value)
        yield one.__name__, value
