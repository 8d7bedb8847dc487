"""Where torch keeps a module's arrays: replicas, parametrizations, pruning, norms. A layer finds
them all, in the long way of a call and in the short one, and its dtype and device are theirs."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn.utils import parametrizations, parametrize, prune

import tnlayer as tn
from tests.support import oracle
from tests.support.each_backend import BACKENDS, default_backend
from tnlayer import topologies
from tnlayer.nn.padded import Padded

pytestmark = pytest.mark.filterwarnings("ignore:.*weight_norm.*deprecated:FutureWarning")
# Names that a module has in use: a method, properties, a flag, an attribute of nn.Module.
NAMES = ("forward", "dtype", "graph", "training", "to", "weight")


class Doubled(nn.Module):
    """Twice the stored entries; half of what is assigned is stored."""

    def forward(self, array: torch.Tensor) -> torch.Tensor:
        return 2 * array

    def right_inverse(self, array: torch.Tensor) -> torch.Tensor:
        return array / 2


class OneWay(nn.Module):
    """A parametrization that cannot be inverted."""

    def forward(self, array: torch.Tensor) -> torch.Tensor:
        return torch.tanh(array)


class Product(nn.Module):
    """An array made from two."""

    def forward(self, first: torch.Tensor, second: torch.Tensor) -> torch.Tensor:
        return first * second

    def right_inverse(self, array: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        return array.abs(), array.sign()


CHANGES: dict[str, Callable[[nn.Module, str], object]] = {
    "parametrized": lambda m, name: parametrize.register_parametrization(m, name, Doubled()),
    "made from two": lambda m, name: parametrize.register_parametrization(m, name, Product()),
    "pruned": lambda m, name: prune.random_unstructured(m, name, amount=0.4),
    "weight_norm": lambda m, name: parametrizations.weight_norm(m, name, dim=None),  # pyright: ignore
    "spectral_norm": lambda m, name: parametrizations.spectral_norm(m, name),
    "older weight_norm": lambda m, name: nn.utils.weight_norm(m, name, dim=None),  # type: ignore[deprecated]
    "older spectral_norm": lambda m, name: nn.utils.spectral_norm(m, name),
}
TENSORS = ("core_0", "core_1", "bias")
by_change = pytest.mark.parametrize("change", CHANGES)
by_name = pytest.mark.parametrize("name", TENSORS)


@pytest.fixture(params=BACKENDS)
def layer(request: pytest.FixtureRequest) -> Iterator[tn.Layer]:
    """A layer with a bias after a call that was checked."""
    with default_backend(request.param):
        made = tn.Layer(topologies.tensor_train((4, 4), (4, 4), rank=2), bias=True)
        nn.init.normal_(made.get_parameter("bias"))
        made(torch.randn(3, 16))
        yield made


def right(layer: tn.Layer, x: torch.Tensor) -> torch.Tensor:
    """What the arrays that torch shows under the tensors' names give, by the oracle."""
    arrays = {name: getattr(layer, name).detach().double().numpy() for name in TENSORS[:2]}
    y = oracle.evaluate(layer.graph, [x.double().numpy()], arrays)
    assert layer.bias is not None
    return torch.from_numpy(y) + layer.bias.detach().double()


def check(layer: tn.Layer) -> None:
    """Calls give that in both ways, with and without gradients."""
    for number in range(3):
        x = torch.randn(number + 2, 16, dtype=layer.dtype)
        for mode in (torch.enable_grad, torch.no_grad):
            with mode():
                y = layer(x)
            torch.testing.assert_close(y.detach().double(), right(layer, x), atol=1e-5, rtol=1e-4)


def replica_of(module: nn.Module) -> Any:
    """What nn.parallel.replicate makes of a module, on the CPU."""
    found = module._replicate_for_data_parallel()
    for key, child in module._modules.items():
        assert child is not None
        setattr(found, key, replica_of(child))
    for group in (module._parameters, module._buffers):
        for key, array in group.items():
            if array is not None:
                setattr(found, key, array.clone())
    return found


# -- the arrays are found ----------------------------------------------------------------------


@by_name
@by_change
def test_changed_arrays_are_seen(layer: tn.Layer, change: str, name: str) -> None:
    """After a call that was checked, whatever makes a core or the bias is seen by the next one; its
    originals get gradients, and the change can be undone."""
    if "spectral" in change and name == "bias":
        pytest.skip("torch takes no vector there")
    CHANGES[change](layer, name)
    layer.eval()
    check(layer)
    layer(torch.randn(3, 16)).square().sum().backward()
    trained = [p for key, p in layer.named_parameters() if key != name]
    assert all(p.grad is not None and bool(p.grad.any()) for p in trained)
    if change == "pruned":
        prune.remove(layer, name)
    elif change == "older weight_norm":
        nn.utils.remove_weight_norm(layer, name)
    elif change == "older spectral_norm":
        nn.utils.remove_spectral_norm(layer, name)
    else:
        parametrize.remove_parametrizations(layer, name)
    assert set(layer._parameters) == set(TENSORS)
    check(layer)


@by_change
def test_replicas_and_their_copies(layer: tn.Layer, change: str) -> None:
    """A replica, which has plain attributes for parameters, computes what the layer does, as does a
    deep copy of it; its gradients arrive at the layer's parameters."""
    x = torch.randn(3, 16)
    for changed in (False, True):
        if changed:
            CHANGES[change](layer, "core_0")
            CHANGES["pruned"](layer, "bias")
            layer.eval()
        found = replica_of(layer)
        for _ in range(2):
            torch.testing.assert_close(found(x), layer(x))
        layer.zero_grad()
        found(x).sum().backward()
        assert all(p.grad is not None for p in layer.parameters())
    with torch.no_grad():
        found = replica_of(layer)
        found(x)
        twin = copy.deepcopy(found)
        torch.testing.assert_close(twin(x), layer(x))
        torch.testing.assert_close(twin.to_dense(), layer.to_dense())


@by_change
def test_functional_calls(layer: tn.Layer, change: str) -> None:
    """functional_call sets what an array is made from, and nothing of it stays."""
    x, before = torch.randn(3, 16), copy.deepcopy(layer)
    CHANGES[change](layer, "core_1")
    layer.eval()
    with torch.no_grad():
        layer(x)
    twin = copy.deepcopy(layer.requires_grad_(False))
    state = {key: torch.rand_like(p) + 0.1 for key, p in layer.named_parameters()}
    for key, array in state.items():
        owner, _, last = key.rpartition(".")
        twin.get_submodule(owner)._parameters[last] = nn.Parameter(array)
    expected, own = twin(x), layer(x)
    assert not torch.allclose(expected, before(x))
    for _ in range(2):
        torch.testing.assert_close(torch.func.functional_call(layer, state, (x,)), expected)
        torch.testing.assert_close(layer(x), own)


def names_net() -> tn.Network:
    """A product of matrices whose names a module uses itself."""
    net = tn.Network("names")
    net.input(e0=3)
    net.output(**{f"e{len(NAMES)}": 3})
    net.bond(**{f"e{k}": 3 for k in range(1, len(NAMES))})
    for k, name in enumerate(NAMES):
        net.tensor(name, f"e{k} e{k + 1}", value=np.eye(3) + k if k == 3 else None)
    return net


@pytest.mark.parametrize("backend", BACKENDS)
def test_names_that_a_module_uses(backend: str) -> None:
    """Replicas of a layer whose tensors bear the names of methods, properties and flags are right,
    and their methods go on working; so are copies, functional calls and calls after a call."""
    with default_backend(backend):
        layer = tn.Layer(names_net(), bias=True, dtype=torch.float64)
    nn.init.normal_(layer.get_parameter("bias"))
    x = torch.randn(4, 3, dtype=torch.float64)
    matrices = [layer.state_dict()[name] for name in NAMES]
    expected = x @ torch.linalg.multi_dot(matrices) + layer.bias
    found = replica_of(layer)
    for one in (layer, found, copy.deepcopy(layer)):
        for _ in range(2):
            torch.testing.assert_close(one(x), expected)
        assert one.dtype == torch.float64 and one.training is True and one.graph == layer.graph
        assert callable(one.forward) and "training" in layer.state_dict()
    state = {name: 2 * array for name, array in layer.named_parameters() if name != "bias"}
    called = torch.func.functional_call(layer, state, (x,))
    torch.testing.assert_close(called - layer.bias, 2 ** len(state) * (expected - layer.bias))


def test_attributes_come_first(layer: tn.Layer) -> None:
    """An array that is put into the module's own dictionary is what torch finds, so the layer, too:
    after a call of the short way as well."""
    x = torch.randn(3, 16)
    before = layer(x)
    for name in TENSORS:
        layer.__dict__[name] = 2 * getattr(layer, name).detach()
        check(layer)
        del layer.__dict__[name]
        torch.testing.assert_close(layer(x), before)


def test_parameters_come_before_buffers(layer: tn.Layer) -> None:
    """Where a buffer's name gets a parameter, torch finds that, so the layer, too: after a call of
    the short way as well."""
    x = torch.randn(3, 16)
    for name in TENSORS:
        parameter = layer._parameters.pop(name)
        assert parameter is not None
        layer.register_buffer(name, parameter.detach())
        before = layer(x)
        torch.testing.assert_close(layer(x), before)
        layer._parameters[name] = nn.Parameter(2 * parameter.detach())
        check(layer)
        check(layer)
        del layer._parameters[name]
        torch.testing.assert_close(layer(x), before)


def test_a_bias_comes_and_goes(layer: tn.Layer) -> None:
    """As with nn.Linear, a bias may be dropped and set again; the next call sees it."""
    x, bias = torch.randn(3, 16), layer.bias
    with_bias = layer(x)
    layer.bias = None
    without = layer(x)
    torch.testing.assert_close(without + bias, with_bias)
    assert "bias=False" in repr(layer)
    for _ in range(2):
        torch.testing.assert_close(layer(x), without)
    layer.bias = bias
    torch.testing.assert_close(layer(x), with_bias)
    del layer._parameters["bias"]
    torch.testing.assert_close(layer(x), without)
    layer.register_buffer("bias", 2 * torch.ones(16))
    torch.testing.assert_close(layer(x), without + 2)


def test_a_parametrization_runs_once_a_call(layer: tn.Layer) -> None:
    """As in every module: it may be random, or count its calls as spectral_norm does."""
    calls: list[int] = []

    class Counting(nn.Module):
        def forward(self, array: torch.Tensor) -> torch.Tensor:
            calls.append(1)
            return 1 * array

    parametrize.register_parametrization(layer, "core_0", Counting())
    for number in range(3):
        calls.clear()
        with torch.set_grad_enabled(number > 0):
            layer(torch.randn(3, 16))
        assert len(calls) == 1
    calls.clear()
    assert layer.dtype == torch.float32 and repr(layer) and not calls
    for name in ("core_1", "bias"):
        parametrize.register_parametrization(layer, name, Counting())
    calls.clear()
    layer(torch.randn(3, 16))
    assert len(calls) == 3


@by_change
def test_padded_bias(layer: tn.Layer, change: str) -> None:
    """The bias of Padded is found where torch keeps it, as are the arrays of the layer within."""
    padded = Padded(layer.graph, 14, 13, bias=True, backend="torch")
    assert padded.bias is not None
    nn.init.normal_(padded.bias)
    x = torch.randn(3, 14)
    padded(x)
    if "spectral" not in change:
        CHANGES[change](padded, "bias")
    CHANGES[change](padded, "core_0")
    padded.eval()
    y = padded(x)
    expected = nn.functional.linear(x, padded.to_dense(), padded.bias)
    torch.testing.assert_close(y, expected)
    torch.testing.assert_close(replica_of(padded)(x), expected)
    padded._parameters["bias"] = nn.Parameter(torch.zeros(1))
    parametrized = parametrize.is_parametrized(padded, "bias") or "bias" in padded.__dict__
    if not parametrized:
        with pytest.raises(tn.SpecError, match=r"bias: expected shape \(13,\), got \(1,\)"):
            padded(x)


# -- dtype and device --------------------------------------------------------------------------


@pytest.mark.filterwarnings("ignore:Complex modules are a new feature")
@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize(
    ("first", "then"),
    [
        (torch.float32, torch.float64),
        (torch.float64, torch.float32),
        (torch.float32, torch.bfloat16),
        (torch.complex64, torch.complex128),
    ],
)
def test_dtype_follows_the_arrays(backend: str, first: torch.dtype, then: torch.dtype) -> None:
    """Moved to another dtype, a layer whose arrays are all parametrized, a replica and a layer that
    was called before have the dtype of their arrays and take inputs of it."""
    with default_backend(backend):
        plain = tn.Layer(topologies.tensor_train((4, 4), (4, 4), 2), bias=True, dtype=first)
        made = copy.deepcopy(plain)
        x = torch.randn(3, 16, dtype=first)
        expected = plain(x)
        for name in TENSORS:
            parametrize.register_parametrization(made, name, Doubled())
        for layer in (plain, made):
            assert layer.dtype == first
            layer(x)
            layer.to(then)
            for one in (layer, replica_of(layer), copy.deepcopy(layer)):
                assert one.dtype == then
                y = one(x.to(then))
                assert y.dtype == then and one.to_dense().dtype == then
                torch.testing.assert_close(y.to(first), expected, atol=0.1, rtol=0.1)
                with pytest.raises(tn.SpecError, match="input 'x' must have dtype"):
                    one(torch.ones(3, 16, dtype=torch.float16))


def test_device_follows_the_arrays(layer: tn.Layer) -> None:
    """The same for the device, by way of meta."""
    for name in TENSORS:
        parametrize.register_parametrization(layer, name, Doubled())
    layer.to("meta")
    assert layer(torch.empty(3, 16, device="meta")).is_meta
    with pytest.raises(tn.SpecError, match="on cpu, the parameters on meta") as caught:
        layer(torch.empty(3, 16))
    # What it says to do works.
    fixes = ("layer.to_empty(device='cpu')", "layer.reset_parameters()", "load_state_dict")
    assert all(fix in str(caught.value) for fix in fixes) and ".to('cpu')" not in str(caught.value)
    layer.to_empty(device="cpu")
    layer.reset_parameters()
    check(layer)
    with pytest.raises(tn.SpecError, match=r"on meta, the parameters on cpu.*no entries.*on cpu"):
        layer(torch.empty(3, 16, device="meta"))


def test_a_layer_without_arrays_is_moved() -> None:
    """A network that only moves legs has no array, and yet the dtype that it was moved to."""
    net = tn.Network("transposition")
    net.input(i=2, j=3)
    net.output("j i")
    layer = tn.Layer(net)
    x = torch.randn(4, 6)
    expected = x.reshape(4, 2, 3).mT.reshape(4, 6)
    torch.testing.assert_close(layer(x), expected)
    layer.double()
    assert layer.dtype == torch.float64 and repr(layer).count("float64") == 1
    torch.testing.assert_close(layer(x.double()), expected.double())
    layer.half()
    assert layer(x.half()).dtype == torch.float16


# -- reset_parameters --------------------------------------------------------------------------


def spread(layer: nn.Module, features: int = 16) -> float:
    """Standard deviation of y for standard normal x."""
    with torch.no_grad():
        return layer(torch.randn(1000, features)).std().item()


@by_change
def test_reset_sets_what_arrays_are_made_from(layer: tn.Layer, change: str) -> None:
    """reset_parameters() makes a layer as new where its arrays are made from others, too."""
    twin = copy.deepcopy(layer)
    for name in TENSORS[:2]:
        CHANGES[change](layer, name)
    if "spectral" not in change and "weight" not in change:
        CHANGES[change](layer, "bias")
    layer.eval()
    before = {name: p.detach().clone() for name, p in layer.named_parameters()}
    torch.manual_seed(5)
    twin.reset_parameters()
    torch.manual_seed(5)
    layer.reset_parameters()
    with torch.no_grad():
        layer(torch.ones(1, 16))
    after = dict(layer.named_parameters())
    changed = {name for name in before if not torch.equal(before[name], after[name])}
    assert len(changed) >= 3, changed
    assert layer.bias is not None and not bool(layer.bias.any())
    for name in TENSORS[:2]:
        found, expected = getattr(layer, name), getattr(twin, name)
        if change == "pruned":
            mask = layer.get_buffer(f"{name}_mask")
            assert 0 < mask.mean() < 1
            torch.testing.assert_close(found, mask * expected)
        elif "spectral" in change:
            # torch keeps its vectors of the power iteration, so the sign may be another one.
            found, expected = found / found.norm(), expected / expected.norm()
            torch.testing.assert_close(found.abs(), expected.abs())
        else:
            torch.testing.assert_close(found, expected)
    if "spectral" not in change and change != "pruned":
        assert 0.5 < spread(layer) < 2


def test_reset_of_a_sum_and_of_padded(layer: tn.Layer) -> None:
    """Summed networks share the variance, and Padded makes up for its zeros, also where what they
    scale is parametrized."""
    nets = [layer.graph, topologies.low_rank(16, 16, 4)]
    whole, padded = tn.Layer(nets, backend="torch"), Padded(layer.graph, 9, 16, backend="torch")
    for module, features in ((whole, 16), (padded, 9)):
        for name in [name for name, _ in module.named_parameters()]:
            parametrize.register_parametrization(module, name, Doubled())
        with torch.no_grad():
            for parameter in module.parameters():
                parameter.zero_()
        module.reset_parameters()
        assert 0.5 < spread(module, features) < 2


def test_reset_refuses_what_cannot_be_inverted(layer: tn.Layer) -> None:
    """Without right_inverse there is an error that names tensor and parametrization, and nothing
    is changed."""
    for name, one in (("core_0", OneWay()), ("bias", OneWay())):
        twin = copy.deepcopy(layer)
        parametrize.register_parametrization(twin, name, one)
        before = copy.deepcopy(twin.state_dict())
        with pytest.raises(tn.SpecError, match=rf"(?s){name}.*OneWay.*right_inverse"):
            twin.reset_parameters()
        assert all(torch.equal(array, before[key]) for key, array in twin.state_dict().items())
    padded = Padded(layer.graph, 14, 13, bias=True, backend="torch")
    parametrize.register_parametrization(padded, "bias", OneWay())
    with pytest.raises(tn.SpecError, match=r"bias.*OneWay"):
        padded.reset_parameters()


@pytest.mark.parametrize("same", [True, False], ids=["one parameter", "one memory"])
def test_reset_refuses_tensors_in_one_array(same: bool) -> None:
    """Each would be scaled over the other: the variance would be wrong without a word."""
    layer = tn.Layer(topologies.low_rank(4, 4, rank=4), backend="torch", bias=True)
    first, second = [name for name, _ in layer.named_parameters() if name != "bias"]
    array = layer.get_parameter(first)
    layer._parameters[second] = array if same else nn.Parameter(array.detach().view(4, 4))
    before = array.detach().clone()
    with pytest.raises(tn.SpecError, match=f"'{first}' and '{second}' are stored in one array"):
        layer.reset_parameters()
    assert torch.equal(array, before)


@pytest.mark.parametrize("make", [lambda: topologies.mera(4), lambda: topologies.tree(4, 2, 2)])
def test_isometries_may_be_kept_by_torch(make: Callable[[], tn.Network]) -> None:
    """torch's orthogonal parametrization on every isometry, and a reset: still isometries."""
    layer = tn.Layer(make(), backend="torch", dtype=torch.float64)
    names = [t.name for t in layer.graph.tensors if t.isometry]
    x, before = torch.randn(3, layer.in_features, dtype=torch.float64), layer.to_dense().detach()
    for name in names:
        shape = tuple(layer.get_parameter(name).shape)
        if len(shape) == 2:
            parametrizations.orthogonal(layer, name)
    torch.testing.assert_close(layer(x), x @ before.T)
    layer.reset_parameters()
    after = layer.to_dense()
    assert not torch.allclose(after, before)
    torch.testing.assert_close(layer(x), x @ after.T)


# -- devices of new arrays ---------------------------------------------------------------------


def test_device_beats_the_default_device() -> None:
    """device= wins over torch's default device, and a CPU layer works under another default."""
    for make in (lambda: topologies.mera(4), lambda: topologies.tensor_train((8, 8), (8, 8), 3)):
        with torch.device("meta"):
            layer = tn.Layer(make(), bias=True, backend="torch", device="cpu")
            assert {a.device.type for a in layer.state_dict().values()} == {"cpu"}
            layer.reset_parameters()
            dense = layer.to_dense()
            x = torch.ones(3, layer.in_features, device="cpu")
            y = layer(x)
        torch.testing.assert_close(y, x @ dense.T)
        assert bool(y.any())


def test_generators_name_their_device() -> None:
    """Random numbers from a generator are drawn on its device, whatever the default one is."""
    seen: list[object] = []

    class Watching(torch.overrides.TorchFunctionMode):
        def __torch_function__(self, func, types, args=(), kwargs=None):  # type: ignore[no-untyped-def]
            given = kwargs or {}
            if given.get("generator") is not None:
                seen.append(given.get("device"))
            return func(*args, **given)

    with Watching():
        tn.Layer(topologies.tensor_train((16, 16, 8), (16, 16, 8), 2), backend="torch")
    assert None not in seen
