"""Whether what a network is given as values takes its result out of the range of its dtype."""

from __future__ import annotations

import math
import warnings
from collections.abc import Sequence

import numpy as np
import torch

from ..backends.log_scale_program import Scaled, ScaledProgram
from ..graph.graph import Graph, Port
from ..ir.backend_names import TORCH
from ..runtime.program import Program

_SEED = 20210


@torch.no_grad()
def out_of_range(program: Program, stored: Sequence[torch.Tensor]) -> str:
    """A warning, if what the user said that tensors hold makes y of an ordinary sample inf, NaN or
    0 for its size alone; else an empty text.

    Tensors whose entries nobody named are drawn so that y has the size of x.

    Arguments:
        program: whose ``reference`` gives y.
        stored: its arrays, in its order.
    """
    graph = program.graph
    nodes = [parameter.node for parameter in graph.parameters]
    # An isometry has no size of its own: it keeps that of what it is applied to.
    if all(n.value is None and (n.init is None or n.isometry is not None) for n in nodes):
        return ""
    arrays = (*_sample(graph, program.dtype, stored), *stored)
    if any(array.is_meta for array in arrays) or is_in_range(program.reference(*arrays)[0]):
        return ""
    if not all(array.isfinite().all() for array in stored):
        return ""
    wide = ScaledProgram(
        graph, program.plan, program.tensor_names, device=program.device, compiled=TORCH
    )
    right = wide.scaled(*arrays)
    return _message(graph, program.dtype, right) if is_in_range(right.mantissa) else ""


def is_in_range(y: torch.Tensor) -> bool:
    """Whether a result is finite, and not all of it 0."""
    return bool(y.isfinite().all() and (y != 0).any())


def warn_of_values(program: Program) -> None:
    """Warn if a network that holds all that enters its result has one that is out of range."""
    parameters = {parameter.name: parameter for parameter in program.graph.parameters}
    values = {name: parameter.node.value for name, parameter in parameters.items()}
    if program.graph.inputs or any(value is None for value in values.values()):
        return
    stored: list[torch.Tensor] = []
    for name in program.parameter_order:
        value, pins = values[name], parameters[name].pins
        assert value is not None, "all have one"
        index = tuple(slice(None) if pin is None else pin for pin in pins)
        entries = np.array(value.array[index])
        stored.append(torch.from_numpy(entries).to(program.dtype))
    told = out_of_range(program, stored)
    if told:
        warnings.warn(told, RuntimeWarning, stacklevel=3)


def _message(graph: Graph, dtype: torch.dtype, right: Scaled) -> str:
    digits = float(right.exponent.max()) * math.log10(2)
    range_ = torch.finfo(dtype)
    largest, least = math.log10(range_.max), math.log10(range_.tiny)
    name = str(dtype).removeprefix("torch.")
    if least < digits < largest:
        what = f"what its tensors hold overflows {name} on the way to y, which is about"
    else:
        what = f"what its tensors hold makes y too {'large' if digits > 0 else 'small'} for {name}:"
    return (
        f"network {graph.label!r}: {what} 1e{digits:+.0f}; make it with log_scale=True, with a "
        "dtype of a wider range, or with other values"
    )


def _sample(graph: Graph, dtype: torch.dtype, stored: Sequence[torch.Tensor]) -> list[torch.Tensor]:
    """One sample for each port: standard normal, of norm 1 for each leg of a product port."""
    device = stored[0].device if stored else None
    generator = torch.Generator("cpu").manual_seed(_SEED)

    def drawn(port: Port) -> torch.Tensor:
        shape = (*((1,) if port.batched else ()), *graph.input_shape(port))
        wide = torch.complex128 if dtype.is_complex else torch.float64
        x = torch.randn(shape, generator=generator, dtype=wide, device="cpu")
        if port.product:
            x = x / torch.linalg.vector_norm(x, dim=-1, keepdim=True)
        return x.to(dtype).to(device)

    return [drawn(port) for port in graph.inputs]
