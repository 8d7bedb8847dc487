"""The backends that come with the package, registered."""

from __future__ import annotations

from ..targets.backend import register
from .plugins.cpp import CppBackend
from .plugins.cuda import CudaBackend
from .plugins.mixed import MixedBackend
from .plugins.torch import TorchBackend


def register_builtin() -> None:
    """Register torch, cpp, cuda and mixed; their order is that of lists in messages."""
    for backend in (TorchBackend(), CppBackend(), CudaBackend(), MixedBackend()):
        register(backend)
