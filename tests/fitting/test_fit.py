"""tn.fit where there is no closed form: recovery, constraints, starts, weights, what is refused."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch

import tnlayer as tn
from tests.fitting.random_networks import Sample, dense_tensor, random_samples, sample_of
from tests.support import oracle
from tests.support.small_topologies import NETWORKS
from tnlayer.fitting import search

T = tn.topologies


def weight(rows: int, columns: int, seed: int = 0) -> np.ndarray:
    """A matrix that no small network reaches."""
    return np.random.default_rng(seed).standard_normal((rows, columns))


def told(sample: Sample, fit: tn.Fitted) -> float:
    """The residual by the oracle."""
    found = {name: array.numpy() for name, array in fit.parameters.items()}
    error = dense_tensor(sample.graph, found) - sample.dense
    return float(np.linalg.norm(error) / np.linalg.norm(sample.dense))


def recovered(samples: list[Sample]) -> list[float]:
    """Residuals of fits; each is what the oracle measures."""
    residuals: list[float] = []
    for sample in samples:
        fit = tn.fit(sample.graph, sample.dense, start=sample.frozen or None)
        assert math.isclose(told(sample, fit), fit.residual, rel_tol=1e-6, abs_tol=1e-11)
        residuals.append(fit.residual)
    return residuals


@pytest.mark.parametrize("is_complex", [False, True])
def test_random_networks_are_found_again(is_complex: bool) -> None:
    """Hyperedges, shared, conjugated, frozen and constant tensors, fixed legs, product ports: W of
    random entries is met to 1e-3 in at least 11 of 12 networks."""
    residuals = recovered(random_samples(12, seed=7, is_complex=is_complex))
    assert sum(residual <= 1e-3 for residual in residuals) >= 11


@pytest.mark.full
@pytest.mark.parametrize("is_complex", [False, True])
def test_a_hundred_random_networks(is_complex: bool) -> None:
    """The same for 100 networks of up to 8 tensors: at least 95."""
    residuals = recovered(random_samples(100, seed=7, is_complex=is_complex))
    assert sum(residual <= 1e-3 for residual in residuals) >= 95


@pytest.mark.parametrize("name", ["cp", "block_term", "peps", "tree", "brickwall"])
def test_topologies_without_a_closed_form(name: str) -> None:
    """CP, block terms, loops and isometries: W of random entries is met to 1e-3."""
    net = T.brickwall(4, dim=2, depth=2) if name == "brickwall" else NETWORKS[name]()
    torch.manual_seed(0)
    layer = tn.Layer(net, dtype=torch.float64, backend="torch", effort="fast")
    wanted = layer.to_dense().detach()
    fit = tn.fit(net, wanted)
    assert fit.residual <= 1e-3
    layer.load_state_dict(dict(fit.parameters))
    assert float((layer.to_dense().detach() - wanted).norm() / wanted.norm()) <= 1e-3


def test_isometries_stay_isometric() -> None:
    """After a fit that cannot reach its target: Q^H Q = 1, for the scaled top a multiple of it."""
    net = T.mera(4, 2, 2)
    fit = tn.fit(net, weight(16, 16), starts=2)
    for one in fit.per_tensor:
        matrix = fit.parameters[one.name].reshape(4, 4)
        square = matrix.mT @ matrix
        size = float(square[0, 0]) if one.role == "scaled isometric" else 1.0
        assert torch.allclose(square, size * torch.eye(4, dtype=torch.float64), atol=1e-10)
    assert {one.role for one in fit.per_tensor} == {"isometric", "scaled isometric"}


def test_isometric_steps_of_large_networks_never_raise_the_error(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Where neither environments nor Jacobians are held, too: by normal equations and polar
    factors."""
    monkeypatch.setattr("tnlayer.fitting.alternate._MOST_ROWS", 0)
    monkeypatch.setattr("tnlayer.fitting.gauss_newton._MOST_ENTRIES", 0)
    wanted = weight(32, 32)
    seen: list[float] = []
    for steps in (1, 2, 4, 8, 16):
        seen.append(tn.fit(T.mera(5, 2, 2), wanted, starts=1, steps=steps, tol=0).residual)
    assert seen == sorted(seen, reverse=True)
    assert seen[-1] < seen[0]


@pytest.mark.parametrize("name", ["cp", "peps", "kronecker", "block_term"])
@pytest.mark.parametrize("whitened", [False, True])
def test_both_ways_of_a_sweep_give_the_same(
    name: str, whitened: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One tensor free, all others frozen: its best entries by its environment, which are those that
    numpy's lstsq finds, and by normal equations, are as good."""
    graph = NETWORKS[name]().freeze()
    wanted = weight(graph.out_features, graph.in_features)
    stored = sample_of(graph, np.random.default_rng(3)).stored
    data = weight(200, graph.in_features, seed=2) if whitened else None
    root = np.eye(graph.in_features)
    if data is not None:
        values, vectors = np.linalg.eigh(data.T @ data / len(data))
        root = vectors * np.sqrt(values.clip(0))
    for free in [p.name for p in graph.parameters][:2]:
        tensors = tuple(replace(t, trainable=t.name == free) for t in graph.tensors)
        net = replace(graph, tensors=tensors)
        # The map is linear in the free tensor: one column an entry.
        columns: list[np.ndarray] = []
        for place in range(stored[free].size):
            unit = np.zeros(stored[free].size)
            unit[place] = 1
            entries = {**stored, free: unit.reshape(stored[free].shape)}
            dense = oracle.evaluate(graph, [np.eye(graph.in_features)], entries).T
            columns.append((dense @ root).reshape(-1))
        matrix, goal = np.stack(columns, 1), (wanted @ root).reshape(-1)
        best = np.linalg.norm(matrix @ np.linalg.lstsq(matrix, goal)[0] - goal)
        best /= np.linalg.norm(goal)
        options: dict[str, Any] = {"start": stored, "steps": 1, "data": data}
        with monkeypatch.context() as patched:
            patched.setattr("tnlayer.fitting.gauss_newton._MOST_ENTRIES", 0)
            patched.setattr("tnlayer.fitting.descend._MOST_KEPT", 0)
            rows = tn.fit(net, wanted, **options)
            patched.setattr("tnlayer.fitting.alternate._MOST_ROWS", 0)
            gram = tn.fit(net, wanted, **options)
        assert rows.method == gram.method == "ALS"
        assert math.isclose(rows.loss, best, rel_tol=1e-9)
        assert math.isclose(gram.loss, best, rel_tol=1e-6)


def test_l_bfgs_lowers_the_error(monkeypatch: pytest.MonkeyPatch) -> None:
    """A tensor that stands twice has no linear problem: where no Jacobian is held, it is L-BFGS
    that finds it from nearby."""
    net = tn.Network("shared")
    net.input(i=6)
    net.output(j=6)
    net.bond(a=6)
    net.tensor("A", "j a")
    net.tensor("B", "a i", share="A")
    random = np.random.default_rng(0)
    root = np.eye(6) + 0.2 * random.standard_normal((6, 6))
    monkeypatch.setattr("tnlayer.fitting.gauss_newton._MOST_ENTRIES", 0)
    fit = tn.fit(net, root @ root, start={"A": np.eye(6)})
    assert fit.method == "L-BFGS"
    assert fit.residual < 1e-3
    assert fit.per_tensor[0].role == "shared"


def test_sums_of_networks() -> None:
    """A low-rank matrix beside a diagonal one, which alone cannot have it."""
    low = T.low_rank(12, 12, rank=2)
    diagonal = tn.Network("diagonal")
    diagonal.input(i=12)
    diagonal.output("i")
    diagonal.tensor("D", "i")
    random = np.random.default_rng(0)
    wanted = random.standard_normal((12, 2)) @ random.standard_normal((2, 12))
    wanted += np.diag(random.standard_normal(12))
    assert tn.fit(low, wanted).residual > 0.05
    fit = tn.fit([low, diagonal], wanted)
    assert fit.residual < 1e-6
    layer = tn.Layer([low, diagonal], dtype=torch.float64)
    layer.load_state_dict(dict(fit.parameters))
    assert np.allclose(layer.to_dense().detach().numpy(), wanted, atol=1e-5)


def test_frozen_tensors_keep_their_entries() -> None:
    """A constant stays; a frozen one without a value has to be told, and stays as it is told."""
    net = tn.Network("frozen")
    net.input(i=4)
    net.output(j=4)
    net.bond(a=4, b=4)
    constant = weight(4, 4, seed=1)
    net.tensor("A", "j a")
    net.tensor("K", "a b", value=constant, trainable=False)
    net.tensor("F", "b i", trainable=False)
    wanted = weight(4, 4)
    with pytest.raises(tn.SpecError, match=r"'F' is frozen .* pass its entries"):
        tn.fit(net, wanted)
    frozen = weight(4, 4, seed=2)
    fit = tn.fit(net, wanted, start={"F": frozen})
    assert fit.residual < 1e-10
    assert np.array_equal(fit.parameters["K"].numpy(), constant)
    assert np.array_equal(fit.parameters["F"].numpy(), frozen)
    assert [one.role for one in fit.per_tensor] == ["fitted", "kept", "kept"]


# -- weights of errors -------------------------------------------------------------------------


def inputs(count: int, features: int) -> np.ndarray:
    """Inputs of which some directions are far larger than others."""
    random = np.random.default_rng(5)
    mix = random.standard_normal((features, features)) * 0.7 ** np.arange(features)
    return random.standard_normal((count, features)) @ mix.T


def test_whitened_low_rank_is_the_best_for_the_data() -> None:
    """||X (W - W')^T|| is that of the truncated SVD of W X^T, within 1.0001, and less than without
    data; both errors are told as numpy measures them."""
    wanted, x = weight(10, 14), inputs(300, 14)
    net = T.low_rank(14, 10, rank=3)
    fit, plain = tn.fit(net, wanted, data=x), tn.fit(net, wanted)
    outputs = np.linalg.norm(x @ wanted.T)
    best = np.linalg.norm(np.linalg.svd(wanted @ x.T, compute_uv=False)[3:]) / outputs

    def errors(one: tn.Fitted) -> tuple[float, float]:
        found = (one.parameters["U"] @ one.parameters["V"]).numpy()
        on_data = np.linalg.norm(x @ (found - wanted).T) / outputs
        return float(np.linalg.norm(found - wanted) / np.linalg.norm(wanted)), float(on_data)

    own = errors(fit)
    assert best * (1 - 1e-9) <= own[1] <= 1.0001 * best
    assert fit.whitened_residual is not None
    assert math.isclose(fit.whitened_residual, own[1], rel_tol=1e-9)
    assert math.isclose(fit.residual, own[0], rel_tol=1e-9)
    assert errors(plain)[1] > 1.05 * own[1]
    assert plain.residual < fit.residual
    assert fit.is_whitened
    assert not plain.is_whitened


FEW_ROWS = 5


@pytest.mark.parametrize("name", ["monarch", "block_term", "kronecker"])
def test_data_of_fewer_rows_than_features(name: str) -> None:
    """A singular covariance: the error on the data is what it is said to be, and no larger than
    without data."""
    net = NETWORKS[name]()
    graph = net.freeze()
    wanted, x = weight(graph.out_features, graph.in_features), inputs(FEW_ROWS, graph.in_features)
    fit, plain = (tn.fit(net, wanted, data=data, starts=1, steps=10) for data in (x, None))
    outputs = np.linalg.norm(x @ wanted.T)
    layer = tn.Layer(net, dtype=torch.float64, backend="torch", effort="fast")
    found: list[float] = []
    for one in (fit, plain):
        layer.load_state_dict(dict(one.parameters))
        error = layer.to_dense().detach().numpy() - wanted
        found.append(float(np.linalg.norm(x @ error.T) / outputs))
    assert fit.whitened_residual is not None
    assert math.isclose(found[0], fit.whitened_residual, rel_tol=1e-6, abs_tol=1e-7)
    assert found[0] < found[1]


def test_directions_without_data_are_those_of_the_target() -> None:
    """A network that can be the target is it, although the data leave most of it open."""
    wanted, x = weight(8, 12), inputs(3, 12)
    for net in (T.low_rank(12, 8, rank=8), T.cp((3, 4), (4, 2), rank=24)):
        fit = tn.fit(net, wanted, data=x, starts=2)
        assert fit.residual < 0.02
        assert fit.loss < 1e-5


def test_forms_of_data() -> None:
    """A tensor, leading dimensions, batches, pairs of a DataLoader and a covariance are one."""
    wanted, x = weight(6, 8), torch.from_numpy(inputs(60, 8))
    net = T.tensor_train((2, 4), (3, 2), rank=2)
    loader = torch.utils.data.DataLoader(
        torch.utils.data.TensorDataset(x, torch.zeros(60)), batch_size=20
    )
    first = tn.fit(net, wanted, data=x)
    for data in (
        x.reshape(3, 20, 8),
        [x[:10], x[10:]],
        loader,
        tn.Covariance(x.mT @ x / 60),
        (batch for batch in x.split(7)),
        x.numpy(),
    ):
        other = tn.fit(net, wanted, data=data)
        assert math.isclose(other.loss, first.loss, rel_tol=1e-6)
    # A square matrix is a batch, unless it is said to be a covariance.
    square = inputs(8, 8)
    as_batch = tn.Covariance.of(square).matrix.numpy()
    assert np.allclose(as_batch, square.T @ square / 8)


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (np.ones((5, 7)), r"expected \(n, 8\)"),
        (np.full((5, 8), np.nan), "40 NaN"),
        ([], "no input"),
        (3, "expected inputs"),
        (torch.ones(()), "no axis of features"),
        ("text", "expected inputs"),
        (torch.empty(5, 8, device="meta"), "meta device"),
    ],
)
def test_data_that_is_refused(data: Any, message: str) -> None:
    """Wrong features, NaN, nothing, no data at all: each is named."""
    with pytest.raises(tn.SpecError, match=message):
        tn.fit(T.low_rank(8, 6, rank=2), weight(6, 8), data=data)


def test_covariances_that_are_refused() -> None:
    """Not square, not Hermitian, negative."""
    with pytest.raises(tn.SpecError, match="expected"):
        tn.Covariance(torch.ones(3, 4))
    with pytest.raises(tn.SpecError, match="not Hermitian"):
        tn.Covariance(torch.tensor([[1.0, 2.0], [0.0, 1.0]]))
    with pytest.raises(tn.SpecError, match="negative"):
        tn.Covariance(-torch.eye(2))


# -- starts ------------------------------------------------------------------------------------


def test_the_seed_decides_all() -> None:
    """Equal seeds give equal bits; torch's own state is not touched."""
    wanted = weight(16, 16)
    state = torch.get_rng_state()
    first, again, other = (
        tn.fit(T.cp((4, 4), (4, 4), rank=3), wanted, seed=seed, starts=2, steps=20)
        for seed in (1, 1, 2)
    )
    assert torch.equal(torch.get_rng_state(), state)
    assert all(torch.equal(a, again.parameters[n]) for n, a in first.parameters.items())
    assert any(not torch.equal(a, other.parameters[n]) for n, a in first.parameters.items())


def test_the_best_of_all_starts_is_kept() -> None:
    """No start is better than what is returned, and each is told."""
    wanted = weight(16, 16)
    found = [tn.fit(T.cp((4, 4), (4, 4), rank=3), wanted, starts=n, steps=10) for n in (1, 2, 4)]
    for fit in found:
        assert fit.residual <= min(fit.tried) * (1 + 1e-9)
    assert [len(fit.tried) for fit in found] == [1, 2, 4]


def test_a_fit_goes_on_from_another() -> None:
    """start= resumes, and never ends worse than it began; a Fitted and a state_dict are taken."""
    wanted = weight(64, 64)
    net = NETWORKS["ring"]()
    first = tn.fit(net, wanted, starts=1, steps=1)
    second = tn.fit(net, wanted, start=first, steps=5)
    third = tn.fit(net, wanted, start=dict(second.parameters), steps=1)
    assert third.residual <= second.residual < first.residual


def interrupting(after: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Ctrl-C after so many sweeps."""
    real: Callable[..., None] = search.sweep
    count = 0

    def sweep(*arguments: Any) -> None:
        nonlocal count
        count += 1
        if count > after:
            raise KeyboardInterrupt
        real(*arguments)

    monkeypatch.setattr(search, "sweep", sweep)


@pytest.mark.parametrize("after", [0, 1, 3])
def test_ctrl_c_keeps_the_best_so_far(after: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """The fit returns, says so, and its residual is that of what it returns."""
    monkeypatch.setattr("tnlayer.fitting.gauss_newton._MOST_ENTRIES", 0)
    interrupting(after, monkeypatch)
    net = NETWORKS["ring"]()
    wanted = weight(64, 64)
    fit = tn.fit(net, wanted)
    assert fit.is_interrupted
    assert "interrupted" in str(fit)
    layer = tn.Layer(net, dtype=torch.float64, backend="torch", effort="fast")
    layer.load_state_dict(dict(fit.parameters))
    error = np.linalg.norm(layer.to_dense().detach().numpy() - wanted) / np.linalg.norm(wanted)
    assert math.isclose(error, fit.residual, rel_tol=1e-9)


# -- odd targets -------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["long_train", "cp", "btt"])
def test_a_target_of_zeros(name: str) -> None:
    """All zeros, residual 0."""
    net = NETWORKS[name]()
    graph = net.freeze()
    fit = tn.fit(net, np.zeros((graph.out_features, graph.in_features)))
    assert fit.residual == 0
    assert all(not bool(array.any()) for array in fit.parameters.values())


def test_a_target_without_finite_entries() -> None:
    """NaN and inf: an error that counts them."""
    wanted = weight(6, 8)
    wanted[0, :3], wanted[1, 1] = np.nan, -np.inf
    with pytest.raises(tn.SpecError, match="3 NaN and 1 infinite of 48 entries"):
        tn.fit(T.low_rank(8, 6, rank=2), wanted)


@pytest.mark.parametrize("scale", [1e-30, 1e-5, 1e20])
def test_any_scale_and_condition(scale: float) -> None:
    """Singular values over 12 decades: the best rank is found at each scale."""
    u, v = np.linalg.qr(weight(20, 20))[0], np.linalg.qr(weight(20, 20, seed=1))[0]
    values = 10.0 ** -np.arange(0, 20) * scale
    wanted = (u * values) @ v.T
    for rank in (1, 4, 9):
        fit = tn.fit(T.low_rank(20, 20, rank=rank), wanted)
        best = np.linalg.norm(values[rank:]) / np.linalg.norm(values)
        assert math.isclose(fit.residual, best, rel_tol=1e-4)
    assert tn.fit(T.cp((4, 5), (5, 4), rank=2), wanted, starts=1).residual < 1


@pytest.mark.parametrize(
    ("target", "message"),
    [
        (np.ones((8, 6)), r"shape \(8, 6\); expected \(6, 8\)"),
        (np.full((6, 8), 1e200), "1e-100 to 1e100"),
        (torch.empty(6, 8, device="meta"), "meta device"),
        ([["a"]], "no array of numbers"),
        (None, "no array of numbers"),
    ],
)
def test_targets_that_are_refused(target: Any, message: str) -> None:
    """Wrong shapes, sizes, kinds: one typed error each."""
    with pytest.raises(tn.SpecError, match=message):
        tn.fit(T.low_rank(8, 6, rank=2), target)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"steps": 0}, "steps=0"),
        ({"starts": -1}, "starts=-1"),
        ({"tol": 2}, "tol=2"),
        ({"seed": -1}, "seed=-1"),
        ({"start": {"W": 1}}, "no network has a tensor"),
        ({"start": {"U": np.ones(3)}}, "has shape"),
        ({"start": 3}, "expected a Fitted"),
        ({"progress": 1}, "progress=1"),
    ],
)
def test_options_that_are_refused(options: dict[str, Any], message: str) -> None:
    """Each wrong option is named."""
    with pytest.raises(tn.SpecError, match=message):
        tn.fit(T.low_rank(8, 6, rank=2), weight(6, 8), **options)


def test_networks_that_are_refused() -> None:
    """No network, networks of other features, names in common, data for two inputs."""
    with pytest.raises(tn.SpecError, match="no network"):
        tn.fit([], weight(6, 8))
    with pytest.raises(tn.SpecError, match="cannot be summed"):
        tn.fit([T.low_rank(8, 6, 2), T.cp((2, 2), (2, 2), 2)], weight(6, 8))
    with pytest.raises(tn.SpecError, match="shared=True"):
        tn.fit([T.low_rank(8, 6, 2), T.low_rank(8, 6, 2)], weight(6, 8))
    two = tn.Network("two")
    two.input("x", i=2)
    two.input("z", k=2)
    two.output(j=2)
    two.tensor("A", "i k j")
    with pytest.raises(tn.SpecError, match="one input"):
        tn.fit(two, weight(8, 1).reshape(2, 2, 2), data=np.ones((3, 2)))


def test_the_report() -> None:
    """Text and plain values name the residual, the method and each tensor."""
    fit = tn.fit(T.low_rank(8, 6, rank=2), weight(6, 8), data=np.eye(8))
    text = str(fit)
    for part in ("residual", "on the data", "SVD, whitened", "U", "V"):
        assert part in text
    numbers = fit.numbers()
    assert numbers["residual"] == fit.residual
    assert [one["name"] for one in numbers["per_tensor"]] == ["V", "U"]
    assert fit.without_parameters().parameters == {}


def test_a_covariance_by_hand_is_that_of_the_data() -> None:
    """As its messages say, of complex inputs, too."""
    x = torch.randn(50, 3, dtype=torch.complex128, generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(
        tn.Covariance((x.mT @ x.conj()) / len(x)).matrix, tn.Covariance.of(x).matrix
    )
    with pytest.raises(tn.SpecError, match=r"pass \(x\.mT @ x\.conj\(\)\) / n of inputs x"):
        tn.Covariance(torch.tensor([[1.0, 2.0], [0.0, 1.0]]))
