"""The backends that come with the package, registered in targets/backend.py.

That file has the class that they implement, and the registry in which all others find them.
"""

from __future__ import annotations

from ...targets.backend import register
from .cpp import CppBackend
from .cuda import CudaBackend
from .mixed import MixedBackend
from .streamed import StreamedBackend
from .torch import TorchBackend


def register_builtin() -> None:
    """Register all of them; their order is that of lists in messages."""
    kinds = (TorchBackend, CppBackend, CudaBackend, StreamedBackend, MixedBackend)
    for kind in kinds:
        register(kind())
