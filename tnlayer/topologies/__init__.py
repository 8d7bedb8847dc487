"""Factorizations by name: each returns a Network builder that a user can go on editing.

Each family is one short file on the public graph API. A new one needs nothing else.
"""

from tnlayer.topologies.block_term import block_term
from tnlayer.topologies.brickwall import brickwall
from tnlayer.topologies.btt import btt
from tnlayer.topologies.butterfly import butterfly
from tnlayer.topologies.cp import cp
from tnlayer.topologies.kronecker import kronecker
from tnlayer.topologies.low_rank import low_rank
from tnlayer.topologies.mera import mera
from tnlayer.topologies.monarch import monarch
from tnlayer.topologies.peps import peps
from tnlayer.topologies.tensor_ring import tensor_ring
from tnlayer.topologies.tensor_train import tensor_train
from tnlayer.topologies.tree import tree
from tnlayer.topologies.tucker import tucker

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
