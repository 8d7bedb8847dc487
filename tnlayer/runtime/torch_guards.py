"""Whether tensors are like others were: torch's own check in C++, that of its compiler's guards.

It compares all that can matter of a tensor but its entries, its address and its batch size: class,
dtype, device, sizes, strides, requires_grad, and the dispatch keys of tensor and thread, which tell
of conjugates, autocast, modes, transforms and inference mode. In Python that takes ten times as
long, and several times as long as a small kernel.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch

try:
    from torch._C._dynamo.guards import (  # pyright: ignore[reportMissingModuleSource]
        TensorGuards,  # pyright: ignore
    )
except ImportError:  # another torch: nothing is ever known to be alike
    TensorGuards: Any = None

Guard = Callable[..., bool]


def guard_of(arrays: Sequence[torch.Tensor], free: Sequence[int]) -> Guard | None:
    """A function of as many arrays that says whether they are like these, or None.

    Where dimensions are free so are all strides: ask that array whether it is contiguous.

    Arguments:
        arrays: each another object; else there is no guard.
        free: for each the number of leading dimensions that may have any size.
    """
    if TensorGuards is None:
        return None
    sizes = [[*[None] * n, *a.shape[n:]] for a, n in zip(arrays, free, strict=True)]
    strides = [
        [None] * a.dim() if n else list(a.stride()) for a, n in zip(arrays, free, strict=True)
    ]
    guard: Guard = TensorGuards(
        *arrays, dynamic_dims_sizes=sizes, dynamic_dims_strides=strides
    ).check
    # It refuses an array that stands there twice, always.
    return guard if guard(*arrays) else None
