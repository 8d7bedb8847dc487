"""Fits with data without large matrices, limits of time, multiples, sums that share, yardsticks."""

from __future__ import annotations

import math
import time
from typing import Any

import numpy as np
import pytest
import torch

import tnlayer as tn
from tests.support.small_topologies import NETWORKS
from tnlayer.fitting import alternate, search
from tnlayer.fitting.closed_network import close
from tnlayer.fitting.covariance import Covariance
from tnlayer.fitting.problem import View

T = tn.topologies


def weight(rows: int, columns: int, seed: int = 0) -> np.ndarray:
    """A matrix that no small network reaches."""
    return np.random.default_rng(seed).standard_normal((rows, columns))


def correlated(features: int) -> torch.Tensor:
    """Inputs whose covariance has a condition of about 1e6."""
    random = torch.Generator().manual_seed(3)
    scales = torch.logspace(0, -3, features, dtype=torch.float64)
    mix = torch.randn(features, features, dtype=torch.float64, generator=random)
    x = torch.randn(4 * features, features, dtype=torch.float64, generator=random)
    return (x * scales) @ mix


def count_sweeps(monkeypatch: pytest.MonkeyPatch) -> list[None]:
    """One entry a sweep."""
    real, counted = search.sweep, list[None]()

    def sweep(*arguments: Any) -> None:
        counted.append(None)
        real(*arguments)

    monkeypatch.setattr(search, "sweep", sweep)
    return counted


# -- data --------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["long_train", "btt", "monarch", "tucker"])
def test_products_do_as_well_as_the_matrix(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Sweeps by products with E^H E make no such matrix of weighted inputs, and come as near."""
    net = NETWORKS[name]()
    graph = net.freeze()
    wanted, data = weight(graph.out_features, graph.in_features), correlated(graph.in_features)
    monkeypatch.setattr("tnlayer.fitting.gauss_newton._MOST_ENTRIES", 0)
    monkeypatch.setattr(alternate, "_MOST_WEIGHTED_ROWS", 0)
    exact = tn.fit(net, wanted, data=data, steps=20)
    monkeypatch.setattr(alternate, "_MOST_SOLVED", -1.0)
    real = View.gram

    def gram(view: View, *arguments: Any) -> Any:
        assert view.covariance is None, "E^H E with the covariance was made"
        return real(view, *arguments)

    monkeypatch.setattr(View, "gram", gram)
    found = tn.fit(net, wanted, data=data, steps=20)
    assert found.loss <= 1.05 * exact.loss + 1e-6
    assert exact.loss <= 1.05 * found.loss + 1e-6


def test_products_of_complex_networks_never_raise_the_error(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Each further sweep is at least as near, with complex entries and inputs."""
    monkeypatch.setattr("tnlayer.fitting.gauss_newton._MOST_ENTRIES", 0)
    monkeypatch.setattr(alternate, "_MOST_WEIGHTED_ROWS", 0)
    monkeypatch.setattr(alternate, "_MOST_SOLVED", -1.0)
    wanted = weight(16, 16) + 1j * weight(16, 16, seed=1)
    data = correlated(16) * (1 + 0.5j) + 1j * correlated(16).flip(0)
    net = T.btt((4, 4), (4, 4), rank=2)
    losses = [tn.fit(net, wanted, data=data, steps=n, tol=0).loss for n in (1, 2, 4, 8)]
    assert losses == sorted(losses, reverse=True)
    assert losses[-1] < 0.99 * losses[0]


def test_no_large_matrix_of_a_block_network(monkeypatch: pytest.MonkeyPatch) -> None:
    """At 128 features every array that a fit with data solves with is small, and sweeps are few."""
    sizes: list[int] = []
    real = torch.linalg.cholesky_ex

    def cholesky_ex(matrix: torch.Tensor) -> Any:
        sizes.append(matrix.numel())
        return real(matrix)

    monkeypatch.setattr(alternate, "_MOST_SOLVED", 2.0**22)
    monkeypatch.setattr(torch.linalg, "cholesky_ex", cholesky_ex)
    sweeps = count_sweeps(monkeypatch)
    random = torch.Generator().manual_seed(0)
    data = torch.randn(256, 128, generator=random) @ torch.randn(128, 128, generator=random)
    net = T.btt((8, 16), (8, 16), rank=2)
    without = tn.fit(net, weight(128, 128))
    found = tn.fit(net, weight(128, 128), data=data)
    assert max(sizes) <= 128 * 128
    assert 1 <= len(sweeps) <= 20
    made = close(net.freeze()).dense(dict(without.parameters))
    error = torch.as_tensor(weight(128, 128)) - made
    covariance = Covariance.of(data)
    whole = covariance.norm(torch.as_tensor(weight(128, 128)))
    assert found.loss < 0.97 * covariance.norm(error) / whole


def test_a_plateau_ends_sweeps_with_data(monkeypatch: pytest.MonkeyPatch) -> None:
    """By default one that lowers the error by less than 1e-4 of it is the last."""
    monkeypatch.setattr("tnlayer.fitting.gauss_newton._MOST_ENTRIES", 0)
    sweeps = count_sweeps(monkeypatch)
    net = T.tensor_train((4, 4), (4, 4), rank=15)
    wanted, data = weight(16, 16), torch.eye(16, dtype=torch.float64)
    assert tn.fit(net, wanted, data=data).ended == "converged"
    few = len(sweeps)
    tn.fit(net, wanted, data=data, tol=0, steps=20)
    assert few <= 2 and few < len(sweeps) - few


# -- time --------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["ring", "btt", "cp", "long_train", "mera"])
def test_when_the_time_is_up_the_best_is_kept(name: str) -> None:
    """However short the time, there is a result, and it says what ended it."""
    net = NETWORKS[name]()
    graph = net.freeze()
    shape = (graph.out_features, graph.in_features)
    fit = tn.fit(net, weight(*shape), data=correlated(shape[1]), seconds=1e-9)
    assert fit.ended == "time limit"
    assert fit.loss <= 1 + 1e-9 or name == "mera"
    assert fit.numbers()["ended"] == "time limit"


@pytest.mark.parametrize("seconds", [0, -1, math.nan, "soon"])
def test_limits_that_are_refused(seconds: Any) -> None:
    """No number above zero."""
    with pytest.raises(tn.SpecError, match="seconds="):
        tn.fit(T.low_rank(4, 4, rank=1), weight(4, 4), seconds=seconds)
    with pytest.raises(tn.SpecError, match="compress: seconds="):
        tn.compress(torch.nn.Linear(8, 8), T.low_rank, seconds=seconds)


def test_a_long_fit_says_what_goes_on(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Once on stderr, which is no terminal here."""
    real = search.sweep

    def sweep(*arguments: Any) -> None:
        time.sleep(0.2)
        real(*arguments)

    monkeypatch.setattr(search, "sweep", sweep)
    monkeypatch.setattr("tnlayer.fitting.fit._PATIENCE", 0.01)
    monkeypatch.setattr("tnlayer.support.told._PATIENCE", 0.01)
    net = T.btt((4, 4), (4, 4), rank=2)
    tn.fit(net, weight(16, 16), data=correlated(16), steps=2)
    assert capsys.readouterr().err.count("tnlayer: fitting 'block tensor train' ...\n") == 1


# -- multiples ---------------------------------------------------------------------------------


@pytest.mark.parametrize("with_data", [False, True])
@pytest.mark.parametrize("is_complex", [False, True])
def test_no_fit_is_worse_than_zero(
    is_complex: bool, with_data: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where nothing but the start was seen, its best multiple is returned."""
    monkeypatch.setattr(search, "sweep", lambda *_: None)
    monkeypatch.setattr("tnlayer.fitting.gauss_newton._MOST_ENTRIES", 0)
    monkeypatch.setattr("tnlayer.fitting.descend._MOST_KEPT", 0)
    wanted = weight(16, 16) * (1j if is_complex else 1)
    data = correlated(16) if with_data else None
    for seed in range(4):
        fit = tn.fit(T.cp((4, 4), (4, 4), rank=3), wanted, data=data, starts=1, steps=1, seed=seed)
        assert fit.loss <= 1


# -- sums that share ---------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["long_train", "ring", "btt"])
def test_a_sum_of_a_network_with_itself(name: str) -> None:
    """What one network can be, twice the same with shared tensors can be."""
    net = NETWORKS[name]()
    graph = net.freeze()
    random = torch.Generator().manual_seed(0)
    arrays = {
        one.name: torch.randn(one.shape, dtype=torch.float64, generator=random)
        for one in graph.parameters
    }
    wanted = close(graph).dense(arrays)
    alone = tn.fit(net, wanted)
    assert tn.fit([net, net], wanted, shared=True).residual <= alone.residual + 1e-6
    assert alone.residual < 1e-3


# -- how to judge ------------------------------------------------------------------------------


@pytest.mark.parametrize("with_data", [False, True])
def test_the_yardstick_is_the_best_low_rank(with_data: bool) -> None:
    """Of at most as many parameters, by the same error, padded or not."""
    data = correlated(12) if with_data else None
    wanted = weight(10, 12)
    net = T.monarch((3, 4), (2, 5))
    fit = tn.fit(net, wanted, data=data)
    assert fit.low_rank is not None
    rank, least = fit.low_rank
    assert rank == net.parameter_count // 22
    best = tn.fit(T.low_rank(12, 10, rank=rank), wanted, data=data)
    assert math.isclose(best.loss, least, rel_tol=1e-5)
    assert f"low rank {rank}" in str(fit)


def test_what_is_printed_says_how_to_judge() -> None:
    """Starts and their spread, why it ended; with data first the residual on them."""
    fit = tn.fit(T.cp((4, 4), (4, 4), rank=3), weight(16, 16), starts=3, steps=5)
    text = str(fit)
    assert "starts" in text
    assert f"3, from {min(fit.tried):.3g} to {max(fit.tried):.3g}" in text
    assert fit.ended in ("converged", "step limit")
    assert fit.ended in text
    with_data = tn.fit(T.low_rank(8, 6, rank=2), weight(6, 8), data=correlated(8))
    first, second, *_ = str(with_data).splitlines()
    assert first.startswith("residual on the data")
    assert "judge by this one" in first
    assert second.startswith("residual ")
    assert with_data.ended == "closed form"
