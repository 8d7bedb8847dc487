"""Products of 16 bits in float32, rounded once: where a processor has no fast ones
(hardware/half_precision.py)."""

from __future__ import annotations

import torch

from . import scratch

# A float32 array on the CPU: what kept memory is asked for like.
_FLOAT = torch.empty(0)


def product(left: torch.Tensor, right: torch.Tensor) -> torch.Tensor:
    """mm or bmm, as torch can differentiate and trace it."""
    return _multiply(_wide(left), _wide(right)).to(left.dtype)


def product_reusing(
    left: torch.Tensor, right: torch.Tensor, out: torch.Tensor | None = None
) -> torch.Tensor:
    """The same with factors and result in memory that calls reuse.

    Arguments:
        left, right: two matrices, or two batches of matrices.
        out: what the result is written to; None: a fresh array.
    """
    first, second = widened(left), widened(right)
    shape = (*left.shape[:-1], right.shape[-1])
    kept = scratch.SCRATCH.take(shape, _FLOAT)
    found = _multiply(first, second) if kept is None else _multiply(first, second, kept)
    return found.to(left.dtype) if out is None else out.copy_(found)


def add_product(target: torch.Tensor, left: torch.Tensor, right: torch.Tensor) -> torch.Tensor:
    """Add a product to the target; the sum is made in float32 and rounded once."""
    return target.add_(_multiply(widened(left), widened(right)))


def _multiply(
    left: torch.Tensor, right: torch.Tensor, out: torch.Tensor | None = None
) -> torch.Tensor:
    return (torch.mm if left.dim() == 2 else torch.bmm)(left, right, out=out)


def _wide(array: torch.Tensor) -> torch.Tensor:
    """In float32; a matrix that is repeated is one matrix still."""
    if array.dim() == 3 and array.shape[0] > 1 and not array.stride(0):
        return array[:1].float().expand(array.shape)
    return array.float()


def widened(array: torch.Tensor) -> torch.Tensor:
    """The same in kept memory, in the order in which the array is stored.

    A copy into another order takes many times as long, and a product reads either.
    """
    if array.dim() == 3 and array.shape[0] > 1 and not array.stride(0):
        return widened(array[:1]).expand(array.shape)
    kept = scratch.SCRATCH.take((array.numel(),), _FLOAT) if array.is_cpu else None
    if kept is None:
        return array.float()
    order = sorted(range(array.dim()), key=array.stride, reverse=True)
    stored = array.permute(order)
    places = [order.index(axis) for axis in range(array.dim())]
    return kept.view(stored.shape).copy_(stored).permute(places)
