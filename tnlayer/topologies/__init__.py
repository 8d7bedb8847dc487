"""Factorizations by name: each returns a Network builder that a user can go on editing.

Each family is one short file on the public graph API. A new one needs nothing else; for
``fit_budget`` to size it, its parameters have the names in budget/topology.py, as the others' have.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ..graph.topology_names import missing
from .block_term import block_term
from .brickwall import brickwall
from .btt import btt
from .butterfly import butterfly
from .cp import cp
from .kronecker import kronecker
from .low_rank import low_rank
from .mera import mera
from .monarch import monarch
from .peps import peps
from .tensor_ring import tensor_ring
from .tensor_train import tensor_train
from .tree import tree
from .tucker import tucker

__all__ = [
    "block_term",
    "brickwall",
    "btt",
    "butterfly",
    "cp",
    "kronecker",
    "low_rank",
    "mera",
    "monarch",
    "peps",
    "tensor_ring",
    "tensor_train",
    "tree",
    "tucker",
]


def __dir__() -> list[str]:
    return sorted(__all__)


if not TYPE_CHECKING:  # else a type checker would take every name for one that is there

    def __getattr__(name: str) -> Any:
        raise AttributeError(missing(name, __all__))
