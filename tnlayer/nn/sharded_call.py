"""Calls with inputs of which each process holds some samples (DTensor): each runs its own.

Where the batch is split and all arrays of the layer are whole in each process, no sample needs
another process: kernels run on what lies there, y is split as x is, and gradients of the arrays
are added over the processes.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch

from ..errors import SpecError
from ..graph.graph import Graph

if TYPE_CHECKING:
    from torch.distributed.device_mesh import DeviceMesh
    from torch.distributed.tensor import DTensor, Placement


@dataclass(frozen=True, slots=True)
class Shards:
    """What a process has of a call.

    Arguments:
        inputs, arrays: that lie in this process; gradients go to the whole ones.
        mesh, placements: of the processes, and how x and y are split over them.
        leading: of all samples.
    """

    inputs: tuple[torch.Tensor, ...]
    arrays: Mapping[str, torch.Tensor]
    mesh: DeviceMesh
    placements: tuple[Placement, ...]
    leading: torch.Size

    def whole(self, y: torch.Tensor) -> torch.Tensor:
        """The result of all processes."""
        from torch.distributed.tensor import DTensor

        shape = torch.Size((*self.leading, y.shape[-1]))
        stride = torch.empty(shape, device="meta").stride()
        return DTensor.from_local(
            y, self.mesh, self.placements, run_check=False, shape=shape, stride=stride
        )


def shards_of(
    where: object, graph: Graph, inputs: Sequence[torch.Tensor], arrays: Mapping[str, torch.Tensor]
) -> Shards | None:
    """What this process has of a call with DTensors; None where samples are not all that is split:
    then torch's calls run, which know how to move entries.

    Arguments:
        where: the layer, for errors.
        graph: whose ports take the inputs.
        inputs: of the call, one of them at least a DTensor.
        arrays: of the layer.

    Raises:
        SpecError: some of the tensors are no DTensors, or they lie on different meshes.
    """
    from torch.distributed.tensor import DTensor, Partial, Replicate

    known = {f"input {p.name!r}": x for p, x in zip(graph.inputs, inputs, strict=False)}
    known |= {f"tensor {name!r}": array for name, array in arrays.items()}
    found = {name: array for name, array in known.items() if isinstance(array, DTensor)}
    mesh = next(iter(found.values())).device_mesh
    for name, array in known.items():
        if name not in found or found[name].device_mesh != mesh:
            got = "on another mesh" if name in found else f"a {type(array).__name__}"
            msg = (
                f"{where}: an input is a DTensor, and {name} is {got}; expected DTensors on one "
                "mesh: call torch.distributed.tensor.distribute_module(layer, mesh) for the layer, "
                "or pass x.to_local()"
            )
            raise SpecError(msg)
    split = _split_of(graph, [found[name] for name in list(known)[: len(inputs)]])
    own = [found[f"tensor {name!r}"] for name in arrays]
    if split is None or not all(one.is_replicate() for a in own for one in a.placements):
        return None
    placements, leading = split
    sums = [Replicate() if one.is_replicate() else Partial() for one in placements]
    pairs = zip(arrays, own, strict=True)
    return Shards(
        tuple(found[name].to_local() for name in list(known)[: len(inputs)]),
        # Redistributed, so that their gradients are added before somebody sees them.
        {n: a.redistribute(mesh, a.placements).to_local(grad_placements=sums) for n, a in pairs},
        mesh,
        placements,
        leading,
    )


def _split_of(
    graph: Graph, inputs: Sequence[DTensor]
) -> tuple[tuple[Placement, ...], torch.Size] | None:
    """How samples are split, and the leading dimensions; None where more than these is, or less is
    known."""
    found: tuple[tuple[Placement, ...], torch.Size] | None = None
    for port, x in zip(graph.inputs, inputs, strict=False):
        leading = x.shape[: x.dim() - len(graph.input_shape(port))]
        if not port.batched:
            if not all(one.is_replicate() for one in x.placements):
                return None
            continue
        dims = range(len(leading))
        fits = (one.is_replicate() or any(map(one.is_shard, dims)) for one in x.placements)
        if not all(fits) or found not in (None, (x.placements, leading)):
            return None
        found = x.placements, leading
    return found
