"""A layer's call as torch.compile sees it: one operation on the arrays."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn

from ..graph.graph import Graph
from ..runtime import torch_op_rules, torch_ops  # the rules are registered when they are loaded
from ..runtime.array_checks import PLAIN
from ..runtime.autograd import functorch_is_active
from ..runtime.module_arrays import look_up
from .layer_inputs import flatten_inputs
from .programs import LayerPrograms
from .stored_arrays import BIAS

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
    layer: nn.Module, graph: Graph, programs: LayerPrograms, inputs: tuple[torch.Tensor, ...]
) -> torch.Tensor | None:
    """The result of a call that torch.compile looks at; None where torch's own calls have to be
    seen, for an array has its own arithmetic.

    Plans are made and shapes are checked where the operation is given arrays without entries: that
    is no part of what is traced.

    Arguments:
        layer: that has the arrays.
        graph: whose ports take the inputs.
        programs: of the layer.
        inputs: of the call.
    """
    tensors: list[Any] = [look_up(layer, name) for name in programs.order]
    bias = look_up(layer, BIAS)
    if bias is not None:
        tensors.append(bias)
    if not tensors and not inputs:
        return None
    for array in (*inputs, *tensors):
        if type(array) not in PLAIN:
            return None
    first = tensors[0] if tensors else None
    dtype = inputs[0].dtype if first is None else first.dtype
    leading, flat = flatten_inputs(layer, graph, inputs, dtype, first)
    y = torch_ops.contract(programs.key, [*flat, *tensors])
    return y if len(leading) == 1 else y.reshape(*leading, y.shape[-1])
