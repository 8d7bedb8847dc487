"""The rooms of the package in the order in which data flows; README and docs follow it."""

from __future__ import annotations

from collections.abc import Mapping

# A room imports from those above it and from itself. Inside a
# room, too, no circle: tests/house/test_imports.py. A new room has to be given a place here.
ROOMS: tuple[str, ...] = (
    "errors",
    "support",
    "graph",
    "topologies",
    "ir",
    "passes",
    "hardware",
    "lowering",
    "codegen",
    "time_models",
    "targets",
    "planning",
    "runtime",
    "backends",
    "measure",
    "dispatch",
    "report",
    "fitting",
    "nn",
    "budget",
    "convert",
    "saving",
    "huggingface",
    "models",
    "cli",
    "__init__",
    "__main__",
)

# Rooms that read less than all above them: text says what was decided, and decides nothing.
READS: Mapping[str, tuple[str, ...]] = {"codegen": ("errors", "support", "ir")}
