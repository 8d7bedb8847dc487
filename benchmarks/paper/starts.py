"""How the weights of a network of isometries start: the paper's second open question."""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor

from tnlayer.graph.graph import Graph, TensorNode

# How far a start near the identity lies from it: the deviation of each entry's noise.
NOISE = 0.05


def _haar(node: TensorNode) -> TensorNode:
    """Isometries as they are drawn, as in the paper: not scaled to keep the layer's variance."""
    return replace(node, init=None) if node.isometry else node


def _gaussian(node: TensorNode) -> TensorNode:
    """Independent entries; the layer scales them so that Var(y) = Var(x)."""
    return replace(node, isometry=(), init=None)


def _identity(node: TensorNode) -> TensorNode:
    """The isometry nearest to the identity from legs in to legs out, after a little noise."""
    return replace(node, isometry=(), init=near_identity_) if node.isometry else node


STARTS = {"haar": _haar, "identity": _identity, "gaussian": _gaussian}


def with_start(graph: Graph, start: str) -> Graph:
    """The graph with its tensors starting in another way.

    Arguments:
        graph: the network, its isometries marked.
        start: "haar" makes isometries Haar-random, other tensors Gaussian; "identity" puts
            isometries near the identity; "gaussian" makes all tensors Gaussian.
    """
    change = STARTS[start]
    return replace(graph, tensors=tuple(change(node) for node in graph.tensors))


def near_identity_(tensor: Tensor) -> Tensor:
    """Fill a gate with an isometry near the identity from its first half of axes to its second.

    A wire goes on as it came: entry (a, b, c, d) is 1 where a = c and b = d. Where bonds are larger
    than the legs below, the rest of the range stays empty. Noise breaks the symmetry, and the polar
    factor makes the matrix an isometry again.

    Arguments:
        tensor: (left, right, out left, out right), at full shape.
    """
    left, right, out_left, out_right = tensor.shape
    eye = torch.einsum("ac,bd->abcd", torch.eye(left, out_left), torch.eye(right, out_right))
    noisy = (eye + NOISE * torch.randn(eye.shape)).reshape(left * right, out_left * out_right)
    u, _, v = torch.linalg.svd(noisy.double(), full_matrices=False)
    return tensor.copy_((u @ v).reshape(tensor.shape))
