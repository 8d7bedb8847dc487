"""Batch sizes that kernels are made for: one for few samples, one for many."""

from __future__ import annotations

# The two sizes, and where many begin.
FEW, MANY, MANY_FROM = 1, 256, 16


def kernel_batch(batch: int) -> int:
    """The batch size that stands for all with the same kernels: a layer compiles two at most."""
    return MANY if batch >= MANY_FROM else FEW
