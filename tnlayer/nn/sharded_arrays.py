"""Arrays of which each process holds a part (DTensor), as FSDP makes them: filled as a whole.

Whole arrays are drawn in each process, and the first one's are scattered.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch


def is_sharded(array: torch.Tensor) -> bool:
    """Whether processes hold parts of an array."""
    return hasattr(array, "device_mesh") and hasattr(array, "placements")


def whole_arrays(arrays: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """Arrays to fill: those that are whole, and new ones for the others."""
    return {
        name: torch.empty(tuple(array.shape), dtype=array.dtype, device=array.device)
        if is_sharded(array)
        else array
        for name, array in arrays.items()
    }


@torch.no_grad()
def scatter_whole(arrays: Mapping[str, torch.Tensor], whole: Mapping[str, torch.Tensor]) -> None:
    """Give processes their parts of what was filled."""
    for name, array in arrays.items():
        if is_sharded(array):
            from torch.distributed.tensor import distribute_tensor

            sharded: Any = array
            array.copy_(distribute_tensor(whole[name], sharded.device_mesh, sharded.placements))
