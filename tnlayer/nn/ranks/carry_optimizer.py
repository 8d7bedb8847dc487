"""An optimizer whose parameters were replaced by others of other shapes."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import nn

from ...errors import SpecError
from ...graph.argument_checks import shown


def check_optimizer(optimizer: object) -> None:
    """Refuse what is no optimizer."""
    if optimizer is not None and not isinstance(optimizer, torch.optim.Optimizer):
        msg = f"optimizer={shown(optimizer)}: expected a torch.optim.Optimizer"
        raise SpecError(msg)


def carry_optimizer(
    optimizer: torch.optim.Optimizer | None,
    replaced: Mapping[nn.Parameter, tuple[nn.Parameter, Callable[[torch.Tensor], Any] | None]],
) -> None:
    """Let an optimizer hold the new parameters.

    Arguments:
        optimizer: None: there is none.
        replaced: for each old parameter the new one, and what makes an array of the old shape one
            of the new; None: what was known of the old one is dropped.
    """
    if optimizer is None:
        return
    for group in optimizer.param_groups:
        group["params"] = [replaced[p][0] if p in replaced else p for p in group["params"]]
    for old, (new, widen) in replaced.items():
        state = optimizer.state.pop(old, None)
        if state is None or widen is None:
            continue
        optimizer.state[new] = {
            key: widen(value)
            if isinstance(value, torch.Tensor) and value.shape == old.shape
            else value
            for key, value in state.items()
        }
