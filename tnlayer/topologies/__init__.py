"""Factorizations by name: each returns a Network builder that a user can go on editing.

Each family is one short file on the public graph API. A new one needs nothing else; for
``fit_budget`` to size it, its parameters have the names in budget/topology.py, as the others' have.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ..graph.topology_names import missing
from .augmented_tree import augmented_tree
from .blast import blast
from .block_term import block_term
from .brickwall import brickwall
from .btt import btt
from .butterfly import butterfly
from .cp import cp
from .kronecker import kronecker
from .low_rank import low_rank
from .mera import mera
from .mera_2d import mera_2d
from .monarch import monarch
from .mps import mps
from .mps_classifier import mps_classifier
from .peps import peps
from .peps_classifier import peps_classifier
from .peps_state import peps_state
from .periodic_mera import periodic_mera
from .quanta import quanta
from .random_circuit import random_circuit
from .tensor_ring import tensor_ring
from .tensor_train import tensor_train
from .ternary_mera import ternary_mera
from .tree import tree
from .tucker import tucker

__all__ = [
    "augmented_tree",
    "blast",
    "block_term",
    "brickwall",
    "btt",
    "butterfly",
    "cp",
    "kronecker",
    "low_rank",
    "mera",
    "mera_2d",
    "monarch",
    "mps",
    "mps_classifier",
    "peps",
    "peps_classifier",
    "peps_state",
    "periodic_mera",
    "quanta",
    "random_circuit",
    "tensor_ring",
    "tensor_train",
    "ternary_mera",
    "tree",
    "tucker",
]


def __dir__() -> list[str]:
    return sorted(__all__)


if not TYPE_CHECKING:  # else a type checker would take every name for one that is there

    def __getattr__(name: str) -> Any:
        raise AttributeError(missing(name, __all__))
