"""What makes fits quick changes nothing of what they find."""

from __future__ import annotations

import numpy as np
import pytest
import torch

import tnlayer as tn
from tnlayer.fitting.alternate import _solve, _solve_parts
from tnlayer.fitting.closed_network import close
from tnlayer.fitting.labelled import Labelled
from tnlayer.fitting.problem import View
from tnlayer.fitting.target import Target
from tnlayer.fitting.truncated_svd import left_vectors

T = tn.topologies


def drawn(*shape: int, seed: int = 0) -> torch.Tensor:
    """Normal entries in float64."""
    random = torch.Generator().manual_seed(seed)
    return torch.randn(*shape, dtype=torch.float64, generator=random)


@pytest.mark.parametrize("shape", [(12, 400), (400, 12), (3, 12, 400), (2, 400, 12)])
@pytest.mark.parametrize("spectrum", ["flat", "steep", "of low rank"])
def test_long_matrices_lose_what_numpy_says(shape: tuple[int, ...], spectrum: str) -> None:
    """The weight that is left out is 1.0001 of the least, whether or not A A^H is used."""
    rank = 4
    u, values, v = torch.linalg.svd(drawn(*shape), full_matrices=False)
    factor = {"flat": 1.0, "steep": 1e-2, "of low rank": 0.0}[spectrum]
    values = values * torch.tensor([factor ** max(0, k - 2) for k in range(12)])
    matrix = (u * values.unsqueeze(-2)) @ v
    q = left_vectors(matrix, rank)
    torch.testing.assert_close(q.mH @ q, torch.eye(rank, dtype=q.dtype).expand(*q.shape[:-2], 4, 4))
    left = torch.linalg.vector_norm(matrix - q @ (q.mH @ matrix), dim=(-2, -1))
    least = np.sqrt(np.square(np.linalg.svd(matrix.numpy(), compute_uv=False)[..., rank:]).sum(-1))
    size = np.linalg.norm(matrix.numpy(), axis=(-2, -1))
    assert (left.numpy() <= 1.0001 * least + 1e-14 * size).all()


@pytest.mark.parametrize("name", ["tensor_train", "tucker"])
def test_branches_apart_give_the_same_step_as_the_whole_matrix(name: str) -> None:
    """E^H E of a tensor of a tree is the product of its branches', and the solution is that."""
    nets = {
        "tensor_train": T.tensor_train((3, 2, 4), (2, 3, 2), rank=3),
        "tucker": T.tucker((3, 4), (2, 3), rank=2),
    }
    net = close(nets[name].freeze())
    dense = drawn(*net.dense_shape)
    view = View(net, Target(dense), torch.float64)
    random = {use.name: drawn(*use.shape, seed=k) for k, use in enumerate(net.uses)}
    values = [use.factor(random[use.name]) for use in net.uses]
    apart = 0
    for number, current in enumerate(values):
        parts = view.gram_parts(number, values)
        if not parts:
            continue
        apart += 1
        gram = view.gram(number, values)
        bonds = tuple(k for k in current.labels if f"{k}'" in gram.labels)
        own = tuple(k for k in current.labels if k not in bonds)
        right = Labelled(drawn(*current.array.shape, seed=9), current.labels)
        size = int(np.prod([view.sizes[k] for k in bonds]))
        matrix = gram.ordered((*(f"{k}'" for k in bonds), *bonds)).reshape(size, size)
        wanted, start = (one.ordered((*bonds, *own)).reshape(size, -1) for one in (right, current))
        expected = _solve(matrix, wanted - matrix @ start)
        found = _solve_parts(parts, right, current).ordered((*bonds, *own)).reshape(size, -1)
        torch.testing.assert_close(found, expected, rtol=1e-6, atol=1e-8)
    assert apart


def test_a_singular_matrix_is_solved_for_what_it_has() -> None:
    """Where E^H E is singular the step solves what can be solved, and is not large."""
    basis = drawn(8, 3)
    gram, right = basis @ basis.mT, basis @ drawn(3, 2, seed=1)
    found = _solve(gram, right)
    torch.testing.assert_close(gram @ found, right, rtol=1e-9, atol=1e-9)
    least = torch.linalg.pinv(gram, hermitian=True) @ right
    assert float(found.norm()) < 1.1 * float(least.norm())
