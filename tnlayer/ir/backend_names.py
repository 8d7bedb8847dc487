"""Names of what can run a plan, and which of them a document may hold."""

from __future__ import annotations

import re

TORCH, CPP, CUDA, MIXED, AUTO = "torch", "cpp", "cuda", "mixed", "auto"

_NAME = re.compile(r"[a-z][a-z0-9_]{0,39}")
# In order of registration; a region of a plan has one of them, but for "mixed".
_KNOWN: dict[str, None] = dict.fromkeys((TORCH, CPP, CUDA))


def is_name(name: object) -> bool:
    """Whether a backend may be called so."""
    return isinstance(name, str) and _NAME.fullmatch(name) is not None


def add(name: str) -> None:
    """Let regions of a plan, and documents, have the name of a backend."""
    _KNOWN[name] = None


def remove(name: str) -> None:
    """Documents hold the name no longer."""
    _KNOWN.pop(name, None)


def region_names() -> tuple[str, ...]:
    """The names that a region of a plan may have."""
    return tuple(_KNOWN)
