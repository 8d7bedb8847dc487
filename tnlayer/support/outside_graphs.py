"""Methods that torch.compile calls while it traces, and whose results it takes as they are.

To plan and to build is no part of a graph, and has locks and files that no trace can follow.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

Method = TypeVar("Method", bound=Callable[..., Any])


def outside_graphs(method: Method) -> Method:
    """Mark a method without arguments as one whose result is a constant of the graph.

    It is what torch.compiler.assume_constant_result does, without the seconds that it takes to load
    torch's compiler.
    """
    method._dynamo_marked_constant = True  # type: ignore[attr-defined]
    return method
