"""Names of what can run a plan."""

from __future__ import annotations

TORCH, CPP, CUDA, MIXED, AUTO = "torch", "cpp", "cuda", "mixed", "auto"
