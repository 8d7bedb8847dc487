"""Closed forms: as good as the best that numpy finds, and exact where the target is reachable."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import pytest
import torch

import tnlayer as tn
from tests.support import oracle
from tests.support.small_topologies import NETWORKS

T = tn.topologies
# What the structure of the network makes of it.
METHODS = {
    "low_rank": "SVD",
    "kronecker": "SVD",
    "monarch": "block SVD",
    "btt": "block SVD",
    "tensor_train": "TT-SVD",
    "odd": "TT-SVD",
    "tucker": "HOSVD",
    "butterfly": "block SVDs, peeled",
}


def weight(rows: int, columns: int, seed: int = 0) -> np.ndarray:
    """A matrix that no small network reaches."""
    return np.random.default_rng(seed).standard_normal((rows, columns))


def dense_of(graph: tn.Graph, fit: tn.Fitted) -> np.ndarray:
    """The dense matrix of what was found, by the oracle."""
    stored = {name: array.numpy() for name, array in fit.parameters.items()}
    return oracle.evaluate(graph, [np.eye(graph.in_features)], stored).T


def error(found: np.ndarray, wanted: np.ndarray) -> float:
    """Relative Frobenius norm."""
    return float(np.linalg.norm(found - wanted) / np.linalg.norm(wanted))


def tail(matrix: np.ndarray, rank: int) -> float:
    """Squared norm beyond a rank."""
    return float((np.linalg.svd(matrix, compute_uv=False)[rank:] ** 2).sum())


@pytest.mark.parametrize("name", sorted(METHODS))
def test_a_reachable_target_is_found_again(name: str) -> None:
    """W from random parameters: residual at most 1e-6 (here 1e-12), told as the oracle measures it,
    and found by the structure alone: labels are other ones."""
    net = NETWORKS[name]()
    net.label = "x"
    graph = net.freeze()
    random = np.random.default_rng(1)
    stored = {p.name: random.standard_normal(p.shape) for p in graph.parameters}
    wanted = oracle.evaluate(graph, [np.eye(graph.in_features)], stored).T
    fit = tn.fit(net, wanted)
    assert fit.method == METHODS[name]
    assert fit.residual < 1e-12
    assert error(dense_of(graph, fit), wanted) < 1e-11


@pytest.mark.parametrize("rank", [1, 5, 17])
@pytest.mark.parametrize(("rows", "columns"), [(24, 40), (40, 24), (31, 400)])
def test_low_rank_is_the_truncated_svd(rows: int, columns: int, rank: int) -> None:
    """Within 1.0001 of the best, which the singular values beyond the rank give."""
    wanted = weight(rows, columns)
    fit = tn.fit(T.low_rank(columns, rows, rank=rank), wanted)
    best = math.sqrt(tail(wanted, rank)) / np.linalg.norm(wanted)
    assert best * (1 - 1e-12) <= fit.residual <= 1.0001 * best


def test_a_large_matrix_is_as_good_by_random_vectors() -> None:
    """From 1,000 rows on few vectors are multiplied with, and the result is within 1.0001 of the
    best, on a flat spectrum too."""
    wanted = weight(1100, 1050)
    for rank in (3, 20):
        fit = tn.fit(T.low_rank(1050, 1100, rank=rank), wanted)
        best = math.sqrt(tail(wanted, rank)) / np.linalg.norm(wanted)
        assert best * (1 - 1e-12) <= fit.residual <= 1.0001 * best


@pytest.mark.parametrize("rank", [1, 2, 3])
def test_kronecker_is_the_rearranged_svd(rank: int) -> None:
    """Two factors: the best sum of Kronecker products is the SVD of the rearranged matrix."""
    wanted = weight(5 * 7, 6 * 4)
    fit = tn.fit(T.kronecker((6, 4), (5, 7), rank=rank), wanted)
    rearranged = wanted.reshape(5, 7, 6, 4).transpose(0, 2, 1, 3).reshape(30, 28)
    best = math.sqrt(tail(rearranged, rank)) / np.linalg.norm(wanted)
    assert best * (1 - 1e-12) <= fit.residual <= 1.0001 * best


@pytest.mark.parametrize("rank", [1, 2])
def test_blocks_are_svds_of_their_own(rank: int) -> None:
    """Monarch and BTT of two cores: for each i0 and j1 a matrix from i1 to j0, cut at the rank."""
    wanted = weight(6 * 5, 4 * 7)
    net = T.monarch((4, 7), (6, 5)) if rank == 1 else T.btt((4, 7), (6, 5), rank=rank)
    fit = tn.fit(net, wanted)
    blocks = wanted.reshape(6, 5, 4, 7).transpose(2, 1, 0, 3).reshape(20, 6, 7)
    best = math.sqrt(sum(tail(block, rank) for block in blocks)) / np.linalg.norm(wanted)
    assert best * (1 - 1e-12) <= fit.residual <= 1.0001 * best


def test_a_train_is_within_the_bound_and_no_worse_than_tt_svd() -> None:
    """At most sqrt(d - 1) above the best, which is no smaller than any unfolding's tail; sweeps
    after TT-SVD never make it worse."""
    wanted = weight(64, 64)
    net = T.tensor_train((4, 4, 4), (4, 4, 4), rank=5)
    fit = tn.fit(net, wanted)
    cores = wanted.reshape([4] * 6).transpose(3, 0, 4, 1, 5, 2).reshape(16, 16, 16)
    tails = [tail(cores.reshape(16, 256), 5), tail(cores.reshape(256, 16), 5)]
    least = math.sqrt(max(tails)) / np.linalg.norm(wanted)
    # TT-SVD by hand.
    u, s, v = np.linalg.svd(cores.reshape(16, 256), full_matrices=False)
    rest = (s[:5, None] * v[:5]).reshape(80, 16)
    plain = math.sqrt(tails[0] + tail(rest, 5)) / np.linalg.norm(wanted)
    assert u.shape == (16, 16)
    assert least <= fit.residual <= plain * (1 + 1e-12)
    assert fit.residual <= math.sqrt(sum(tails)) / np.linalg.norm(wanted) * (1 + 1e-12)
    assert fit.method.startswith("TT-SVD, ALS")


TREES: dict[str, Callable[[], tn.Network]] = {
    "train of 5": lambda: T.tensor_train((2,) * 5, (2,) * 5, rank=3),
    "Tucker": lambda: T.tucker((4, 4), (4, 4), rank=3),
    "three blocks": lambda: T.btt((3, 4, 5), (5, 4, 3), rank=1),
    "butterfly": lambda: T.butterfly(16),
}


@pytest.mark.parametrize("name", sorted(TREES))
def test_sweeps_after_a_closed_form_lower_the_error(name: str) -> None:
    """More steps never give a larger residual, and it is what the oracle measures."""
    net = TREES[name]()
    graph = net.freeze()
    wanted = weight(graph.out_features, graph.in_features)
    found = [tn.fit(net, wanted, steps=steps) for steps in (1, 3, 30)]
    residuals = [fit.residual for fit in found]
    assert residuals == sorted(residuals, reverse=True)
    told = error(dense_of(graph, found[-1]), wanted)
    assert math.isclose(residuals[-1], told, rel_tol=1e-9, abs_tol=1e-14)


def test_bonds_beyond_the_rank() -> None:
    """A bond larger than any rank gives the target itself, and indices that training can use: at
    one end they are not zero."""
    wanted = weight(6, 5)
    fit = tn.fit(T.low_rank(5, 6, rank=9), wanted)
    assert fit.residual < 1e-14
    used = [bool((array != 0).any()) for array in fit.parameters["U"].T]
    other = [bool((array != 0).any()) for array in fit.parameters["V"]]
    assert sum(a or b for a, b in zip(used, other, strict=True)) >= 6


def test_a_network_of_one_tensor_and_of_none() -> None:
    """One tensor is the target itself; the identity that passes through is told as it is."""
    net = tn.Network("one")
    net.input(i=3)
    net.output(j=4)
    net.tensor("A", "j i")
    wanted = weight(4, 3)
    fit = tn.fit(net, wanted)
    assert np.array_equal(fit.parameters["A"].numpy(), wanted)
    identity = tn.Network("none")
    identity.input(i=3)
    identity.output("i")
    fit = tn.fit(identity, np.eye(3))
    assert fit.residual == 0
    assert fit.parameters == {}
    assert math.isclose(tn.fit(identity, 2 * np.eye(3)).residual, 0.5)


def test_what_passes_through_is_a_diagonal() -> None:
    """A leg of x and of y on one tensor: only the diagonal can be met, and the rest counts."""
    net = tn.Network("diagonal")
    net.input(i=3, k=2)
    net.output("k", j=4)
    net.tensor("A", "i k j")
    wanted = weight(8, 6).reshape(2, 4, 3, 2)
    fit = tn.fit(net, wanted.reshape(8, 6))
    reached = np.einsum("kjik->kji", wanted)
    left = np.linalg.norm(wanted) ** 2 - np.linalg.norm(reached) ** 2
    assert math.isclose(fit.residual, math.sqrt(left) / np.linalg.norm(wanted), rel_tol=1e-12)
    assert np.allclose(fit.parameters["A"].numpy(), reached.transpose(2, 0, 1))


def test_a_target_by_legs_and_by_features() -> None:
    """Both forms of a target are one; torch and numpy, float32 and whole numbers are taken."""
    net = T.tensor_train((2, 3), (3, 2), rank=2)
    wanted = np.arange(36.0).reshape(6, 6)
    first = tn.fit(net, wanted)
    for other in (
        wanted.reshape(3, 2, 2, 3),
        torch.from_numpy(wanted).float(),
        wanted.astype(np.int64),
        torch.nn.Parameter(torch.from_numpy(wanted)),
    ):
        fit = tn.fit(net, other)
        assert all(torch.equal(a, first.parameters[n]) for n, a in fit.parameters.items())


def test_complex_targets() -> None:
    """A complex target makes complex entries, as near as numpy's SVD."""
    wanted = weight(9, 8) + 1j * weight(9, 8, seed=1)
    fit = tn.fit(T.low_rank(8, 9, rank=3), wanted)
    assert fit.parameters["U"].dtype == torch.complex128
    best = math.sqrt(tail(wanted, 3)) / np.linalg.norm(wanted)
    assert math.isclose(fit.residual, best, rel_tol=1e-10)
