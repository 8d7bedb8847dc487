"""Tensor parallelism: a layer whose tensors lie on several processes, split along one leg.

Each process contracts the network for its own indices of the leg. Where the leg is summed, the
results are added; where it is a leg of the output, they are put side by side. Both hold for any
network, since it is a sum of products.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import torch
import torch.distributed as dist
from torch import nn
from torch.distributed.device_mesh import DeviceMesh
from torch.distributed.tensor import DTensor, Placement, Replicate, Shard, distribute_tensor
from torch.distributed.tensor.parallel.style import ParallelStyle
from torch.func import functional_call

from ..errors import SpecError
from ..graph.argument_checks import listed, shown, suggest
from ..graph.graph import Graph, Parameter
from ..runtime.module_arrays import homes_of, maker_of
from .layer import Layer
from .stored_arrays import BIAS


class LegParallel(ParallelStyle):
    """Splits a layer along a leg, for torch's ``parallelize_module``.

    Tensors with that leg lie on the processes in parts (DTensor), the others in each as a whole.
    Inputs and results are whole in each process.

    Arguments:
        leg: name of a leg whose size the number of processes divides.

    Raises:
        SpecError: when it is applied: the module is no tn.Layer of one network, there is no such
            leg, its size cannot be divided, or one tensor has it twice or in different places.

    Example, in each process::

        mesh = init_device_mesh("cpu", (2,))
        parallelize_module(model, mesh, {"fc1": tn.LegParallel("b0")})

    >>> import tnlayer as tn
    >>> tn.LegParallel("bond").leg
    'bond'
    """

    def __init__(self, leg: str) -> None:
        super().__init__()
        if not isinstance(leg, str):
            msg = f"LegParallel: leg must be the name of a leg, got {shown(leg)}"
            raise SpecError(msg)
        self.leg = leg

    def _apply(self, module: nn.Module, device_mesh: DeviceMesh) -> nn.Module:
        if (
            not isinstance(module, Layer)
            or type(module).forward is not Layer.forward  # padded, a convolution, ...
            or len(module.graphs) != 1
            or module.has_log_scale
            or maker_of(module) is not None
        ):
            msg = (
                f"LegParallel({self.leg!r}): expected a tn.Layer of one network, unpadded, "
                f"without log_scale and isometries='keep', got {type(module).__name__}; name "
                "such a layer in the plan"
            )
            raise SpecError(msg)
        axes = _axes(module.graph, self.leg, device_mesh.size())
        for home in homes_of(module)[:2]:
            for name, array in home.items():
                if array is None:
                    continue
                axis = axes.get(name)
                placement: Placement = Replicate() if axis is None else Shard(axis)
                split = distribute_tensor(array.detach(), device_mesh, [placement])
                is_parameter = isinstance(array, nn.Parameter)
                home[name] = nn.Parameter(split, array.requires_grad) if is_parameter else split
        module.split_along(SplitCall(module, self.leg, device_mesh))
        return module


def _axes(graph: Graph, leg: str, processes: int) -> dict[str, int]:
    """The axis of each stored array that is split."""
    if leg not in graph.sizes:
        msg = f"LegParallel: network {graph.label!r} has no leg {leg!r}{suggest(leg, graph.sizes)}"
        raise SpecError(msg)
    if leg in graph.pinned or graph.sizes[leg] % processes:
        wrong = "is fixed" if leg in graph.pinned else f"has size {graph.sizes[leg]}"
        fits = [name for name, size in graph.leg_sizes if size % processes == 0]
        msg = (
            f"LegParallel: leg {leg!r} of {graph.label!r} {wrong}, expected a size that "
            f"{processes} processes divide; legs that fit: {listed(fits) or 'none'}"
        )
        raise SpecError(msg)
    if any(port.product and leg in port.legs for port in graph.inputs):
        msg = f"LegParallel: leg {leg!r} is one of a product port, whose legs have one size"
        raise SpecError(msg)
    found: dict[str, int] = {}
    parameters = {parameter.name: parameter for parameter in graph.parameters}
    seen: dict[str, set[int]] = {}
    for tensor in graph.tensors:
        owner = tensor.share or tensor.name
        places = [axis for axis, name in enumerate(tensor.legs) if name == leg]
        seen.setdefault(owner, set()).add(places[0] if places else -1)
        if len(places) > 1 or len(seen[owner]) > 1:
            msg = (
                f"LegParallel: tensor {tensor.name!r} has leg {leg!r} twice, or shares its array "
                "with one that has it elsewhere; choose another leg"
            )
            raise SpecError(msg)
        if places:
            found[owner] = _stored_axis(parameters[owner], places[0])
    return found


def _stored_axis(parameter: Parameter, axis: int) -> int:
    """The axis of the array, of which axes with fixed legs are gone."""
    return sum(pin is None for pin in parameter.pins[:axis])


class SplitCall:
    """Calls a layer that is split: each process with its part.

    Arguments:
        layer: with the whole network.
        leg: along which it is split.
        mesh: the processes.
    """

    def __init__(self, layer: Layer, leg: str, mesh: DeviceMesh) -> None:
        self.leg, self.mesh = leg, mesh
        graph = layer.graph
        sizes = tuple(
            (name, size // mesh.size() if name == leg else size) for name, size in graph.leg_sizes
        )
        # Entries come with each call: none are drawn, and none are the user's.
        tensors = tuple(replace(t, value=None, init=None, isometry=()) for t in graph.tensors)
        part = replace(graph, leg_sizes=sizes, tensors=tensors)
        self.part = layer.without_entries(part)

    def __call__(self, layer: Layer, inputs: Sequence[torch.Tensor]) -> torch.Tensor:
        """The whole result, in each process."""
        group, graph = self.mesh.get_group(), layer.graph
        rank, processes = dist.get_rank(group), self.mesh.size()
        arrays: dict[str, torch.Tensor] = {}
        bias: torch.Tensor | None = None
        parameters, buffers, _ = homes_of(layer)
        for name, array in (*parameters.items(), *buffers.items()):
            if array is None:
                continue
            assert isinstance(array, DTensor)
            is_whole = array.placements[0].is_replicate()
            local = array.to_local()
            if name == BIAS:
                bias = local
            else:
                arrays[name] = _SumGradients.apply(local, group) if is_whole else local
        own: list[torch.Tensor] = []
        for port, x in zip(graph.inputs, inputs, strict=True):
            whole = _SumGradients.apply(x, group)
            assert isinstance(whole, torch.Tensor)
            if self.leg in port.legs:
                whole = _part(graph, port.legs, whole, self.leg, rank, processes)
            own.append(whole)
        y: Any = functional_call(self.part, arrays, tuple(own))
        if self.leg in graph.output:
            y = _joined(graph, y, self.leg, group)
        else:
            y = _SumResults.apply(y, group)
        return y if bias is None else y + bias


def _part(
    graph: Graph, legs: tuple[str, ...], x: torch.Tensor, leg: str, rank: int, processes: int
) -> torch.Tensor:
    """The features of x with a process's own indices of a leg."""
    open_legs = graph.open_legs(legs)
    shaped = x.unflatten(-1, graph.shape_of(open_legs))
    axis = open_legs.index(leg) - len(open_legs)
    size = graph.sizes[leg] // processes
    return shaped.narrow(axis, rank * size, size).flatten(-len(open_legs))


def _joined(graph: Graph, y: torch.Tensor, leg: str, group: Any) -> torch.Tensor:
    """The parts of all processes side by side."""
    open_legs = graph.open_legs(graph.output)
    processes = dist.get_world_size(group)
    sizes = [
        graph.sizes[name] // processes if name == leg else graph.sizes[name] for name in open_legs
    ]
    shaped = y.unflatten(-1, sizes)
    axis = open_legs.index(leg) - len(open_legs)
    joined: Any = _JoinResults.apply(shaped, axis, group)
    return joined.flatten(-len(open_legs))


class _SumGradients(torch.autograd.Function):
    """The same array; its gradient is the sum of all processes' parts."""

    @staticmethod
    def forward(ctx: Any, array: torch.Tensor, group: Any) -> torch.Tensor:
        ctx.group = group
        return array.view_as(array)

    @staticmethod
    def backward(ctx: Any, *gradients: torch.Tensor) -> tuple[torch.Tensor, None]:
        gradient = gradients[0].contiguous().clone()
        dist.all_reduce(gradient, group=ctx.group)
        return gradient, None


class _SumResults(torch.autograd.Function):
    """The sum over all processes; each has its whole gradient."""

    @staticmethod
    def forward(ctx: Any, array: torch.Tensor, group: Any) -> torch.Tensor:
        total = array.contiguous().clone()
        dist.all_reduce(total, group=group)
        return total

    @staticmethod
    def backward(ctx: Any, *gradients: torch.Tensor) -> tuple[torch.Tensor, None]:
        return gradients[0], None


class _JoinResults(torch.autograd.Function):
    """The parts of all processes along an axis; each takes its part of the gradient."""

    @staticmethod
    def forward(ctx: Any, array: torch.Tensor, axis: int, group: Any) -> torch.Tensor:
        ctx.axis, ctx.group, ctx.size = axis, group, array.shape[axis]
        parts = [torch.empty_like(array) for _ in range(dist.get_world_size(group))]
        dist.all_gather(parts, array.contiguous(), group=group)
        return torch.cat(parts, dim=axis)

    @staticmethod
    def backward(ctx: Any, *gradients: torch.Tensor) -> tuple[torch.Tensor, None, None]:
        start = dist.get_rank(ctx.group) * ctx.size
        return gradients[0].narrow(ctx.axis, start, ctx.size), None, None
