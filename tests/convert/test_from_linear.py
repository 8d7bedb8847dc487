"""tn.from_linear: outputs near the module's, everything else its own, nothing shared."""

from __future__ import annotations

import copy
import itertools
import math
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn.utils import parametrizations, prune

import tnlayer as tn
from tnlayer.nn.padded import Padded

T = tn.topologies


def linear(rows: int, columns: int, **options: Any) -> nn.Linear:
    """A module with entries that depend on nothing else."""
    torch.manual_seed(0)
    return nn.Linear(columns, rows, **options)


FULL = {
    "low rank": lambda: T.low_rank(12, 8, rank=8),
    "train": lambda: T.tensor_train((3, 4), (4, 2), rank=8),
    "Monarch": lambda: T.monarch((12, 1), (1, 8)),
    "Tucker": lambda: T.tucker((3, 4), (4, 2), rank=(3, 4, 4, 2)),
}


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16, torch.float16])
@pytest.mark.parametrize("name", sorted(FULL))
def test_a_full_rank_gives_the_module(name: str, dtype: torch.dtype) -> None:
    """Same outputs as the module's, to a few roundings of its dtype; same dtype, bias and mode."""
    module = linear(8, 12, dtype=dtype).eval()
    layer = tn.from_linear(module, FULL[name](), backend="torch")
    assert layer.fit is not None
    assert layer.fit.residual < 1e-12
    x = torch.randn(5, 12).to(dtype)
    error = (layer(x) - module(x)).double().norm() / module(x).double().norm()
    assert float(error.detach()) < 40 * torch.finfo(dtype).eps
    assert layer(x).dtype == dtype
    assert isinstance(layer, tn.Layer)
    assert layer.bias is not None
    assert torch.equal(layer.bias, module.bias)
    assert not layer.training


def test_nothing_is_shared_with_the_module() -> None:
    """Training the layer in place leaves every byte of the module."""
    module = linear(8, 12)
    before = copy.deepcopy(module.state_dict())
    layer = tn.from_linear(module, T.low_rank(12, 8, rank=8))
    with torch.no_grad():
        for parameter in layer.parameters():
            parameter.add_(1)
    assert all(torch.equal(before[n], a) for n, a in module.state_dict().items())
    storages = {a.untyped_storage().data_ptr() for a in module.state_dict().values()}
    assert not storages & {a.untyped_storage().data_ptr() for a in layer.state_dict().values()}


@pytest.mark.parametrize(
    ("topology", "options"),
    [
        (T.btt, {"compression": 2}),
        (T.low_rank, {"params": 500}),
        (T.tensor_train, {"rank": 2}),
        (T.cp, {"rank": 3, "legs": 2, "starts": 1, "steps": 5}),
        (T.monarch, {}),
    ],
)
def test_topologies_with_a_budget(topology: Any, options: dict[str, Any]) -> None:
    """Features that do not factor are padded: outputs differ from the module's by the residual that
    is told, which counts nothing that is cut."""
    module = linear(47, 61, dtype=torch.float64)
    layer = tn.from_linear(module, topology, backend="torch", **options)
    assert (layer.in_features, layer.out_features) == (61, 47)
    assert layer.fit is not None
    found = layer.to_dense().detach() - module.weight.detach()
    error = float(found.norm() / module.weight.detach().norm())
    assert math.isclose(error, layer.fit.residual, rel_tol=1e-9)
    assert 0 < error < 1
    x = torch.randn(3, 61, dtype=torch.float64)
    wanted = x @ layer.to_dense().mT + module.bias
    assert torch.allclose(layer(x), wanted)
    if "params" in options:
        assert sum(p.numel() for p in layer.parameters()) - 47 <= options["params"]


@pytest.mark.parametrize("topology", [T.low_rank, T.btt])
def test_without_a_size_it_is_that_of_compress(topology: Any) -> None:
    """Both take a quarter of the parameters, and the fit says that this is a default."""
    module = linear(64, 64)
    layer = tn.from_linear(module, topology, backend="torch")
    model = torch.nn.Sequential(linear(64, 64))
    tn.compress(model, topology, backend="torch")
    other = model[0]
    assert isinstance(other, tn.Layer)
    assert layer.graphs[0] == other.graphs[0]
    assert layer.graphs[0].parameter_count <= 64 * 64 / 4
    assert layer.fit is not None
    assert "compression=4 is the default" in str(layer.fit)
    asked = tn.from_linear(module, topology, compression=4, backend="torch")
    assert asked.fit is not None
    assert "default" not in str(asked.fit)


def test_where_the_default_size_is_too_small() -> None:
    """The largest that is smaller than the matrix is taken, and the fit says so."""
    layer = tn.from_linear(linear(32, 32), T.btt, backend="torch")
    assert layer.fit is not None
    assert "compression=4, the default, cannot be had" in str(layer.fit)
    assert layer.graphs[0].parameter_count <= 32 * 32


def test_padding_is_no_part_of_the_fit() -> None:
    """A padded network that can have the matrix has it: what is cut is free. By blocks its best is
    found although rows are missing."""
    module = linear(7, 11, dtype=torch.float64)
    layer = tn.from_linear(module, T.tensor_train((3, 4), (2, 4), rank=6))
    assert isinstance(layer, Padded)
    assert layer.fit is not None
    # 7 x 11 entries rearranged to a 6 x 16 matrix of which some are free.
    assert layer.fit.residual < 1e-6


def test_data_weights_the_error() -> None:
    """Outputs on the data are nearer with data than without, padded or not."""
    torch.manual_seed(1)
    x = torch.randn(400, 30) * (0.8 ** torch.arange(30))
    for rows in (24, 23):
        module = linear(rows, 30)
        cases: list[tuple[Any, dict[str, Any]]] = [(T.low_rank, {}), (T.tensor_train, {"legs": 2})]
        for topology, options in cases:
            errors: list[float] = []
            for data in (x, None):
                layer = tn.from_linear(module, topology, compression=3, data=data, **options)
                with torch.no_grad():
                    wanted = module(x)
                    errors.append(float((layer(x) - wanted).norm() / (x @ module.weight.mT).norm()))
                fit = layer.fit
                assert fit is not None
                assert fit.is_whitened == (data is not None)
                if fit.whitened_residual is not None:
                    assert math.isclose(fit.whitened_residual, errors[-1], rel_tol=1e-3)
            assert errors[0] < errors[1]


def test_a_parametrized_or_pruned_module_is_taken_as_it_computes() -> None:
    """The weight is that of a call, with weight norm and with a mask; a subclass is a Linear."""

    class Own(nn.Linear):
        pass

    normed = parametrizations.weight_norm(linear(8, 12))
    pruned = linear(8, 12)
    prune.l1_unstructured(pruned, "weight", amount=0.5)
    for module in (normed, pruned, Own(12, 8)):
        layer = tn.from_linear(module, T.low_rank(12, 8, rank=8))
        x = torch.randn(4, 12)
        assert torch.allclose(layer(x), module(x), atol=1e-5)


def test_what_is_frozen_stays_frozen() -> None:
    """A module without gradients gives a layer without."""
    module = linear(8, 12).requires_grad_(False)
    layer = tn.from_linear(module, T.low_rank(12, 8, rank=3))
    assert not any(p.requires_grad for p in layer.parameters())


def frozen(kind: str, *, weight: bool, bias: bool) -> nn.Module:
    """A module with these wants, whose weight may be made from others, last without gradients."""
    module: Any = linear(8, 12)
    if kind == "pruned":
        prune.l1_unstructured(module, "weight", amount=0.5)
    if kind == "weight norm":
        parametrizations.weight_norm(module)
    if kind == "layer":
        module = tn.from_linear(module, T.low_rank(12, 8, rank=3))
    for name, array in module.named_parameters():
        array.requires_grad_(bias if name == "bias" else weight)
    with torch.no_grad():
        module(torch.ones(12))
    return module


@pytest.mark.parametrize("kind", ["linear", "pruned", "weight norm", "layer"])
def test_bias_and_tensors_want_gradients_as_bias_and_weight(kind: str) -> None:
    """Each by itself, also where a weight is made from others, and where gradients are off."""
    for weight, bias in itertools.product((False, True), repeat=2):
        module = frozen(kind, weight=weight, bias=bias)
        with torch.no_grad():
            layer = tn.from_linear(module, T.low_rank(12, 8, rank=3))
        flags = {name: array.requires_grad for name, array in layer.named_parameters()}
        assert flags == {"U": weight, "V": weight, "bias": bias}


def test_a_layer_is_compressed_again() -> None:
    """A Layer and a Padded one are taken, too."""
    first = tn.from_linear(linear(47, 61), T.low_rank, params=2500)
    second = tn.from_linear(first, T.low_rank, params=800)
    assert second.fit is not None
    assert second.fit.residual < 1
    padded = tn.from_linear(linear(7, 11), T.tensor_train((3, 4), (2, 4), rank=6))
    again = tn.from_linear(padded, T.low_rank(11, 7, rank=7))
    x = torch.randn(2, 11)
    assert torch.allclose(again(x), padded(x), atol=1e-5)


def test_sums_frozen_tensors_and_options_of_the_layer() -> None:
    """A sum of networks; a tensor that is frozen where it starts; backend and batch."""
    module = linear(6, 6, dtype=torch.float64)
    diagonal = tn.Network("diagonal")
    diagonal.input(i=6)
    diagonal.output("i")
    diagonal.tensor("D", "i")
    layer = tn.from_linear(module, [T.low_rank(6, 6, rank=5), diagonal], backend="torch", batch=7)
    assert layer.fit is not None
    assert layer.fit.residual < 1e-6
    net = tn.Network("frozen")
    net.input(i=6)
    net.output(j=6)
    net.bond(a=6)
    net.tensor("A", "j a")
    net.tensor("F", "a i", trainable=False)
    layer = tn.from_linear(module, net)
    assert layer.fit is not None
    assert layer.fit.residual < 1e-8
    assert not dict(layer.named_parameters())["F"].requires_grad


def test_one_by_one() -> None:
    """The smallest linear map there is."""
    module = linear(1, 1)
    layer = tn.from_linear(module, T.low_rank(1, 1, rank=1))
    assert torch.allclose(layer(torch.ones(2, 1)), module(torch.ones(2, 1)))


def test_complex_modules() -> None:
    """A complex weight gives a complex layer."""
    module = linear(5, 7, dtype=torch.complex64)
    layer = tn.from_linear(module, T.low_rank(7, 5, rank=5))
    x = torch.randn(3, 7, dtype=torch.complex64)
    assert torch.allclose(layer(x), module(x), atol=1e-5)
    assert isinstance(layer, tn.Layer)
    assert layer.dtype == torch.complex64


def test_copies_and_pickles_keep_the_report() -> None:
    """deepcopy and state_dict: the report goes with the first and is no part of the second."""
    layer = tn.from_linear(linear(8, 12), T.low_rank(12, 8, rank=3))
    other = copy.deepcopy(layer)
    assert other.fit is not None
    assert layer.fit is not None
    assert other.fit.residual == layer.fit.residual
    assert set(layer.state_dict()) == {"U", "V", "bias"}
    assert tn.Layer(T.low_rank(12, 8, rank=3)).fit is None


def nan_module() -> nn.Linear:
    """A weight that was trained to NaN."""
    module = linear(8, 12)
    with torch.no_grad():
        module.weight[0, :2] = math.nan
    return module


@pytest.mark.parametrize(
    ("module", "net", "options", "message"),
    [
        (nan_module(), T.low_rank(12, 8, 2), {}, "2 NaN"),
        (nn.Linear(12, 8, device="meta"), T.low_rank(12, 8, 2), {}, "meta device"),
        (nn.LazyLinear(8), T.low_rank(12, 8, 2), {}, "no weight yet"),
        (nn.Conv1d(2, 2, 1), T.low_rank(12, 8, 2), {}, "expected an nn.Linear"),
        (nn.Linear(12, 8), T.low_rank(11, 8, 2), {}, "at least those of the module"),
        (nn.Linear(12, 8), T.low_rank(12, 8, 2), {"rank": 3}, "a network has no such argument"),
        (nn.Linear(12, 8), T.low_rank, {"rank": 3, "bias": True}, "the module's own"),
        (nn.Linear(12, 8), T.low_rank, {"ranks": 3}, "no parameter 'ranks'"),
        (nn.Linear(12, 8), 3, {}, "expected"),
        (nn.Linear(12, 8), T.low_rank, {"rank": 8}, "without a budget, .*dense layer, 96"),
        (nn.Linear(12, 8), "btt", {"compression": 2}, "expected a network, got 'btt'"),
        (nn.Linear(12, 8), T.low_rank(12, 8, 2), {"data": np.ones((3, 5))}, r"\(n, 12\)"),
    ],
)
def test_what_is_refused(
    module: nn.Module, net: Any, options: dict[str, Any], message: str
) -> None:
    """One typed error each, which says what is wrong."""
    with pytest.raises(tn.SpecError, match=message):
        tn.from_linear(module, net, **options)


def test_zero_weights() -> None:
    """Zeros give zeros and the bias."""
    module = linear(8, 12)
    nn.init.zeros_(module.weight)
    layer = tn.from_linear(module, T.low_rank(12, 8, rank=2))
    assert layer.fit is not None
    assert layer.fit.residual == 0
    assert torch.equal(layer(torch.ones(12)), module.bias)


def test_isometries_that_stay() -> None:
    """isometries="keep" is the layer's: entries are those that were fitted, and stay isometric in a
    step of an optimizer."""
    module = linear(16, 16, dtype=torch.float64, bias=False)
    net = T.mera(4, 2, 2)
    fitted = tn.from_linear(module, net, steps=2, starts=1)
    layer = tn.from_linear(module, net, steps=2, starts=1, isometries="keep")
    assert isinstance(fitted, tn.Layer) and isinstance(layer, tn.Layer)
    assert torch.allclose(layer.to_dense(), fitted.to_dense(), atol=1e-9)
    optimizer = torch.optim.SGD(layer.parameters(), lr=0.1)
    layer(torch.ones(2, 16, dtype=torch.float64)).square().sum().backward()
    optimizer.step()
    arrays = dict(layer.named_arrays())
    name = next(node.name for node in layer.graph.tensors if node.isometry)
    matrix = arrays[name].detach().reshape(4, 4).numpy()
    assert np.allclose(matrix.T @ matrix, np.eye(4), atol=1e-9)
