"""The calls of a module that are timed: a forward without gradients, and a training step."""

from __future__ import annotations

import torch
from torch import nn


def forward(module: nn.Module, x: torch.Tensor) -> None:
    """A call without gradients."""
    with torch.no_grad():
        module(x)


def training_step(module: nn.Module, x: torch.Tensor) -> None:
    """Forward and backward, for x as well; gradients are not kept."""
    y = module(x.detach().requires_grad_())
    y.backward(torch.ones_like(y))
    for parameter in module.parameters():
        parameter.grad = None
