"""Small networks of every topology, and what a layer makes of them."""

from __future__ import annotations

from collections.abc import Callable

import torch

import tnlayer as tn
from tnlayer import topologies

NETWORKS: dict[str, Callable[[], tn.Network]] = {
    "mera": lambda: topologies.mera(6, 2, 3),
    "tree": lambda: topologies.tree(6, 2, 2),
    "tensor_train": lambda: topologies.tensor_train((2,) * 8, (2,) * 8, rank=2),
    "long_train": lambda: topologies.tensor_train((4, 4, 4), (4, 4, 4), rank=5),
    "ring": lambda: topologies.tensor_ring((4, 4, 4), (4, 4, 4), rank=3),
    "butterfly": lambda: topologies.butterfly(64),
    "monarch": lambda: topologies.monarch((8, 8), (8, 8)),
    "btt": lambda: topologies.btt((8, 8), (8, 8), 2),
    "tucker": lambda: topologies.tucker((8, 8), (8, 8), rank=4),
    "cp": lambda: topologies.cp((16, 4), (16, 4), rank=3),
    "low_rank": lambda: topologies.low_rank(48, 40, rank=5),
    "kronecker": lambda: topologies.kronecker((6, 5), (5, 7), rank=2),
    "block_term": lambda: topologies.block_term((4, 4), (4, 4), 2, 3),
    "peps": lambda: topologies.peps(2, 2, 2, 2),
    "brickwall": lambda: topologies.brickwall(6, dim=2, depth=3),
    "odd": lambda: topologies.tensor_train((2, 3, 5, 7), (7, 5, 3, 2), rank=3),
    "threes": lambda: topologies.tree(5, 3, 2),
}
# Topologies that are made of the same kinds of steps as another: what is held for that one by
# compiling or measuring each is not repeated for them. Their values are held everywhere.
ALIKE = {
    "augmented_tree": "tree",
    "blast": "cp",
    "mera_2d": "mera",
    "mps": "tensor_train",
    "mps_classifier": "tensor_train",
    "peps_classifier": "peps",
    "peps_state": "peps",
    "periodic_mera": "mera",
    "quanta": "brickwall",
    "random_circuit": "brickwall",
    "ternary_mera": "mera",
}
# Long chains, and wide states.
CHAINS: dict[str, Callable[[], tn.Network]] = {
    "mera": lambda: topologies.mera(12, 2),
    "mera_3": lambda: topologies.mera(8, 3),
    "brickwall": lambda: topologies.brickwall(12, dim=2, depth=6),
    "train": lambda: topologies.tensor_train((2,) * 12, (2,) * 12, rank=3),
    "threes": lambda: topologies.brickwall(7, dim=3, depth=3),
    "butterfly": lambda: topologies.butterfly(1024),
    "kronecker": lambda: topologies.kronecker((8, 8, 8), (8, 8, 8)),
}


def filled(net: tn.Network, backend: str, dtype: torch.dtype) -> tn.Layer:
    """A layer whose numbers depend on the seed only."""
    torch.manual_seed(1)
    return tn.Layer(net, backend=backend, dtype=dtype)


def results(layer: tn.Layer, x: torch.Tensor, slope: torch.Tensor) -> list[torch.Tensor]:
    """y, then the gradients of x and of every parameter."""
    x = x.clone().requires_grad_()
    y = layer(x)
    return [y.detach(), *torch.autograd.grad(y, [x, *layer.parameters()], slope)]


def distance(found: torch.Tensor, exact: torch.Tensor) -> float:
    """Relative error in the norm."""
    exact = exact.to(torch.complex128 if exact.is_complex() else torch.float64)
    return float((found.to(exact.dtype) - exact).norm() / exact.norm().clamp_min(1e-300))


def small_layer() -> tn.Layer:
    """The same layer in every process."""
    return filled(topologies.tensor_train((4, 4), (4, 4), rank=2), "cpp", torch.float32)
