"""Work that torch.compile has done while it traces, and does not look into.

To plan and to build is no part of a graph, and has locks and files that no trace can follow. What
torch calls so may be given numbers and texts alone, and give no more: so whoever has such work gets
a number, and what comes of it is read where it was put.
"""

from __future__ import annotations

from itertools import count
from typing import Any
from weakref import WeakValueDictionary

_numbers = count()
_owners: WeakValueDictionary[int, Any] = WeakValueDictionary()


def number_of(owner: Any) -> int:
    """A number that stands for an object in :func:`do`."""
    number = next(_numbers)
    _owners[number] = owner
    return number


def do(number: int, method: str) -> bool:
    """Call a method without arguments.

    Arguments:
        number: of the object, as ``number_of`` gave it.
        method: its name.

    Returns:
        True, a constant of the graph.
    """
    getattr(_owners[number], method)()
    return True


# What torch.compiler.assume_constant_result does, without the seconds that it takes to load torch's
# compiler.
do._dynamo_marked_constant = True  # type: ignore[attr-defined]
