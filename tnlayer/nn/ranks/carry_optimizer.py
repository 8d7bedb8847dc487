"""An optimizer whose parameters were replaced by others of other shapes."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import nn

from ...errors import SpecError
from ...graph.argument_checks import shown


def check_optimizer(optimizer: object) -> None:
    """Refuse what is no optimizer, and one that knows its parameters as one long vector."""
    if optimizer is not None and not isinstance(optimizer, torch.optim.Optimizer):
        msg = f"optimizer={shown(optimizer)}: expected a torch.optim.Optimizer"
        raise SpecError(msg)
    if isinstance(optimizer, torch.optim.LBFGS):
        msg = (
            "optimizer=LBFGS: it keeps vectors as long as all parameters together, which cannot go "
            "on; leave it out, and make a new one afterwards"
        )
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
        if state is None:
            continue
        if widen is not None and _goes_by_entry(state, old):
            optimizer.state[new] = {
                key: widen(value) if _is_like(value, old) else value for key, value in state.items()
            }
        elif isinstance(optimizer, torch.optim.Adagrad):
            # The one optimizer of torch that makes its state when it is made itself.
            start = optimizer.defaults["initial_accumulator_value"]
            step = torch.zeros_like(state["step"])
            optimizer.state[new] = {"step": step, "sum": torch.full_like(new.detach(), start)}


def _goes_by_entry(state: Mapping[str, Any], old: nn.Parameter) -> bool:
    """Whether what is known is a number for each entry, or for all: Adafactor's sums over rows and
    columns are neither."""
    arrays = [value for value in state.values() if isinstance(value, torch.Tensor)]
    return all(value.dim() == 0 or value.shape == old.shape for value in arrays)


def _is_like(value: object, old: nn.Parameter) -> bool:
    return isinstance(value, torch.Tensor) and value.shape == old.shape
