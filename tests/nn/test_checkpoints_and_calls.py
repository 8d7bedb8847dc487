"""Calls that nn.Linear takes: selective checkpoints, broadcast gradients, arrays that change."""

from __future__ import annotations

import copy
from collections.abc import Callable
from functools import partial
from typing import Any

import pytest
import torch
from torch import nn
from torch.utils.checkpoint import (
    CheckpointPolicy,
    checkpoint,
    create_selective_checkpoint_contexts,
)

import tnlayer as tn
from tests.support.each_backend import BACKENDS


def twins(backend: str) -> tuple[tn.Layer, nn.Linear]:
    """A layer, and a dense one with the same matrix and bias."""
    net = tn.topologies.tensor_train((4, 4), (4, 4), rank=2)
    layer = tn.Layer(net, bias=True, backend=backend)  # type: ignore[arg-type]
    dense = nn.Linear(16, 16)
    with torch.no_grad():
        dense.weight.copy_(layer.to_dense())
        assert layer.bias is not None
        dense.bias.copy_(layer.bias.normal_())
    return layer, dense


def policy(wanted: CheckpointPolicy, *_: Any, **__: Any) -> CheckpointPolicy:
    """One policy for all operations."""
    return wanted


def selective(wanted: CheckpointPolicy, module: nn.Module, x: torch.Tensor) -> torch.Tensor:
    """A checkpointed call that keeps, or makes again, what all of its operations give."""
    contexts = partial(create_selective_checkpoint_contexts, partial(policy, wanted))
    return checkpoint(module, x, use_reentrant=False, context_fn=contexts)  # type: ignore[return-value]


def stacked(module: nn.Module, x: torch.Tensor) -> torch.Tensor:
    """An ensemble of three by one vmap over stacked states."""
    states = torch.func.stack_module_state([copy.deepcopy(module) for _ in range(3)])
    base = copy.deepcopy(module).to("meta")

    def call(state: Any, x: torch.Tensor) -> torch.Tensor:
        return torch.func.functional_call(base, state, (x,))

    return torch.func.vmap(call, (0, None))(states, x).sum(0)


def averaged(module: nn.Module, x: torch.Tensor) -> torch.Tensor:
    """An exponential average of parameters that stood still."""
    rule = torch.optim.swa_utils.get_ema_multi_avg_fn(0.9)
    average = torch.optim.swa_utils.AveragedModel(module, multi_avg_fn=rule)
    for _ in range(2):
        average.update_parameters(module)
    return average(x)


def changed_meanwhile(module: nn.Module, x: torch.Tensor) -> torch.Tensor:
    """Parameters that change between forward and backward, where torch keeps the old ones."""
    with torch.autograd.graph.allow_mutation_on_saved_tensors():
        y = module(x * 1)
        with torch.no_grad():
            for parameter in module.parameters():
                parameter.mul_(2)
        (gradient,) = torch.autograd.grad(y.square().sum(), x)
    return gradient


CALLS: dict[str, Callable[[nn.Module, torch.Tensor], torch.Tensor]] = {
    "all is kept": partial(selective, CheckpointPolicy.MUST_SAVE),
    "all is made again": partial(selective, CheckpointPolicy.MUST_RECOMPUTE),
    "stacked states": stacked,
    "averaged": averaged,
    "changed meanwhile": changed_meanwhile,
    "no rows": lambda module, x: module(x[:0]),
    "one row for all": lambda module, x: module(x[:1].expand(5, 16)),
    "features stand first": lambda module, x: module(x.T.contiguous().T),
    "a gradient of one number": lambda module, x: module(x) * torch.ones(1, 1).expand(5, 16),
    "of inference mode": lambda module, x: module(torch.inference_mode()(torch.ones)(5, 16)),
}


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("name", CALLS)
def test_calls_are_those_of_a_dense_layer(name: str, backend: str) -> None:
    """Values, strides and gradients, or the type of the error."""
    found: list[Any] = []
    for module in twins(backend):
        x = torch.randn(5, 16, generator=torch.Generator().manual_seed(0)).requires_grad_()
        try:
            y = CALLS[name](module, x)
            if y.requires_grad:
                y.square().sum().backward()
        except RuntimeError:
            found.append(RuntimeError)
            continue
        found.append((y.detach(), y.stride(), y.requires_grad, x.grad))
    one, other = found
    if RuntimeError in found:
        assert one is other
        return
    torch.testing.assert_close(one[0], other[0])
    assert one[1:3] == other[1:3]
    torch.testing.assert_close(one[3], other[3])
