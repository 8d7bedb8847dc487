"""Names of what can run a plan, and which of them a document may hold."""

from __future__ import annotations

TORCH, CPP, CUDA, STREAMED, MIXED = "torch", "cpp", "cuda", "streamed", "mixed"
AUTO = "auto"

# In order of registration; a region of a plan has one of them, but for "mixed".
_KNOWN: dict[str, None] = dict.fromkeys((TORCH, CPP, CUDA, STREAMED))


def is_name(name: object) -> bool:
    """Whether a backend may be called so: a lowercase word of at most 40 characters."""
    if not isinstance(name, str) or not 0 < len(name) <= 40:
        return False
    return name.isascii() and name.isidentifier() and name == name.lower() and name[0] != "_"


def add(name: str) -> None:
    """Let regions of a plan, and documents, have the name of a backend."""
    _KNOWN[name] = None


def remove(name: str) -> None:
    """Documents hold the name no longer."""
    _KNOWN.pop(name, None)


def region_names() -> tuple[str, ...]:
    """The names that a region of a plan may have."""
    return tuple(_KNOWN)
