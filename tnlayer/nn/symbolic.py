"""Layers under torch.fx.symbolic_trace, whose tensors have no sizes yet."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import nn
from torch.fx import Proxy

from ..dispatch.programs_by_batch import RangedProgram
from ..runtime.module_arrays import home_of, look_up


def proxy_in(inputs: Sequence[object] | Proxy) -> Proxy | None:
    """The first of some inputs that torch.fx traces; it may stand for all that a forward takes."""
    if isinstance(inputs, Proxy):
        return inputs
    return next((x for x in inputs if isinstance(x, Proxy)), None)


def as_leaf(module: nn.Module, inputs: Sequence[Any]) -> Proxy | None:
    """Record a call of a module as one node, as torch does for its own; None where there is nothing
    to record it in, for the module itself is what is traced."""
    proxy = proxy_in(inputs)
    assert proxy is not None
    tracer: Any = proxy.tracer
    if tracer.root is module:
        return None
    return tracer.create_proxy("call_module", tracer.path_of_module(module), tuple(inputs), {})


def recorded(
    layer: nn.Module, names: Sequence[str], programs: Sequence[RangedProgram], inputs: Sequence[Any]
) -> Any:
    """Record the networks of a layer as torch's operations, which serve all batch sizes.

    Arguments:
        layer: that has the arrays.
        names: of its arrays; "bias" among them, if there is one.
        programs: the networks that are summed.
        inputs: of the call.
    """
    proxy = proxy_in(inputs)
    assert proxy is not None
    tracer: Any = proxy.tracer
    arrays: Mapping[str, Any] = {name: _array(layer, name, tracer) for name in names}
    graph = programs[0].graph
    leading: Any = ()
    flat: list[Any] = []
    for number, port in enumerate(graph.inputs):
        x, shape = inputs[number], graph.input_shape(port)
        if port.batched:
            leading = x.shape[: -len(shape)]
            x = x.reshape(-1, *shape)
        flat.append(x)
    total: Any = None
    for ranged in programs:
        order = ranged.main.parameter_order
        y = ranged.main.reference(*flat, *(arrays[name] for name in order))[0]
        total = y if total is None else total + y
    total = total.reshape(leading + torch.Size((graph.out_features,)))
    return total + arrays["bias"] if "bias" in arrays else total


def _array(layer: nn.Module, name: str, tracer: Any) -> Any:
    """An array as the trace names it; a parametrization is traced as any module."""
    home = home_of(layer, name)
    if home is None or home is layer.__dict__:
        return look_up(layer, name)
    return tracer.create_proxy("get_attr", name, (), {})
