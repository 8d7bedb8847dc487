"""A layer's call as torch.compile sees it: one operation on the arrays.

All that is read here becomes a check before each call of the graph, so it is kept short. Plans are
made, and shapes are checked, where the operation is given arrays without entries: that is no part
of what is traced.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import nn

from ..runtime import torch_op_rules, torch_ops
from ..runtime.autograd import functorch_is_active
from ..runtime.module_arrays import homes_of, look_up, maker_of
from .layer_inputs import flatten_inputs
from .programs import LayerPrograms

# Loaded so that the operations have their rules.
RULES = torch_op_rules


def is_compiled_call() -> bool:
    """Whether torch.compile looks, and nothing that has to see torch's own calls: export, whose
    graphs run elsewhere, or transforms."""
    return (
        torch.compiler.is_dynamo_compiling()
        and not torch.compiler.is_exporting()
        and not functorch_is_active()
    )


def compiled_call(
    layer: nn.Module,
    programs: LayerPrograms,
    inputs: tuple[torch.Tensor, ...],
    *,
    autocast: bool,
    has_bias: bool = True,
) -> torch.Tensor | None:
    """The result of a call that torch.compile looks at; None where torch's own calls have to be
    seen, for an array has its own arithmetic.

    Arguments:
        layer: that has the arrays.
        programs: of the layer.
        inputs: of the call.
        autocast: whether the result has autocast's dtype.
        has_bias: whether a bias of the layer is added to what the networks give.
    """
    maker = maker_of(layer)
    made = {} if maker is None else maker.made(maker.names)
    tensors: list[Any] = [
        made[name] if name in made else _array(layer, name) for name in programs.order
    ]
    bias = _array(layer, "bias") if has_bias else None
    if bias is not None:
        tensors.append(bias)
    if not tensors:
        return None
    for array in (*inputs, *tensors):
        if type(array) is not torch.Tensor and type(array) is not nn.Parameter:
            return None
    first = tensors[0]
    if len(inputs) == 1 and inputs[0].dtype == first.dtype and inputs[0].dim() == programs.flat_dim:
        return _contract(programs.key, [inputs[0], *tensors], autocast=autocast)
    leading, flat = flatten_inputs(layer, programs.graphs[0], inputs, first.dtype, first)
    y = _contract(programs.key, [*flat, *tensors], autocast=autocast)
    return y if len(leading) == 1 else y.reshape(*leading, y.shape[-1])


def _contract(key: str, arrays: list[torch.Tensor], *, autocast: bool) -> torch.Tensor:
    if autocast:
        return torch_ops.contract(key, arrays)
    with torch.autocast(arrays[0].device.type, enabled=False):
        return torch_ops.contract(key, arrays)


def _array(layer: nn.Module, name: str) -> torch.Tensor | None:
    """A parameter, which most arrays are; else wherever it is."""
    found = homes_of(layer)[0].get(name)
    return look_up(layer, name) if found is None else found
