"""The networks that are timed, and the numbers that fill them."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch

from tnlayer import topologies
from tnlayer.graph.graph import Graph
from tnlayer.graph.network import Network

BATCHES = (1, 50, 256, 1024)


@dataclass(frozen=True, slots=True)
class Workload:
    """A network with the name that it has in the tables.

    Arguments:
        name: short name, as ``--cases`` takes it.
        title: what it is, in words.
        build: makes the network.
    """

    name: str
    title: str
    build: Callable[[], Network]


def _by_name(*workloads: Workload) -> dict[str, Workload]:
    return {workload.name: workload for workload in workloads}


BITS = (2,) * 12
CUBE = (16,) * 3


def _mera(legs: int, bond: int) -> Callable[[], Network]:
    return lambda: topologies.mera(legs, 2, bond)


def _tensor_train(shape: tuple[int, ...], rank: int) -> Callable[[], Network]:
    return lambda: topologies.tensor_train(shape, shape, rank)


def _btt(shape: tuple[int, int], rank: int) -> Callable[[], Network]:
    return lambda: topologies.btt(shape, shape, rank)


WORKLOADS = _by_name(
    Workload("mera-2", "MERA, 12 legs of 2, bond 2", _mera(12, 2)),
    Workload("mera-3", "MERA, 12 legs of 2, bond 3", _mera(12, 3)),
    Workload("tt-3", "tensor train, 12 legs of 2, rank 3", _tensor_train(BITS, 3)),
    Workload("tt-7", "tensor train, 12 legs of 2, rank 7", _tensor_train(BITS, 7)),
    Workload("tt16-8", "tensor train, 3 legs of 16, rank 8", _tensor_train(CUBE, 8)),
    Workload("tt16-32", "tensor train, 3 legs of 16, rank 32", _tensor_train(CUBE, 32)),
    Workload("btt", "block tensor train, 64 x 64, rank 2", _btt((64, 64), 2)),
)

# The layers of the compiled kernels' targets; all 4096 to 4096.
KERNEL_WORKLOADS = {
    **{name: WORKLOADS[name] for name in ("mera-2", "mera-3", "tt-3", "tt-7", "btt")},
    **_by_name(
        Workload("tree-2", "tree, 12 legs of 2, bond 2", lambda: topologies.tree(12, 2, 2)),
        Workload("butterfly", "butterfly, 4096", lambda: topologies.butterfly(4096)),
    ),
}

# Small relatives of the above: they prove that the machinery works and are no evidence of speed.
TINY_WORKLOADS = _by_name(
    Workload("tiny-mera", "MERA, 4 legs of 2, bond 2", _mera(4, 2)),
    Workload("tiny-tt", "tensor train, 3 legs of 2, rank 2", _tensor_train((2,) * 3, 2)),
    Workload("tiny-btt", "block tensor train, 4 x 4, rank 2", _btt((4, 4), 2)),
)


def draw_parameters(graph: Graph, seed: int) -> dict[str, torch.Tensor]:
    """Gaussian entries for each stored array, at the scale that keeps Var(y) near Var(x).

    Arguments:
        graph: the network.
        seed: seed of the draw.

    Returns float32 tensors of the stored shapes by name, on the CPU. With independent entries
    Var(y) = Var(x) * (sizes of the legs that are not in the output) * (product of variances).
    """
    generator = np.random.default_rng(seed)
    summed = math.prod(
        size for leg, size in graph.leg_sizes if leg not in graph.output and leg not in graph.pinned
    )
    deviation = summed ** (-0.5 / max(1, len(graph.tensors)))
    return {
        parameter.name: torch.from_numpy(
            generator.normal(0.0, deviation, parameter.shape).astype(np.float32)
        )
        for parameter in graph.parameters
    }


def draw_inputs(graph: Graph, batch: int, seed: int) -> tuple[torch.Tensor, torch.Tensor]:
    """A batch of x, shape (batch, in_features), and a gradient of y, (batch, out_features)."""
    generator = np.random.default_rng([seed, batch])
    x = generator.normal(size=(batch, graph.in_features)).astype(np.float32)
    grad = generator.normal(size=(batch, graph.out_features)).astype(np.float32)
    return torch.from_numpy(x), torch.from_numpy(grad)
