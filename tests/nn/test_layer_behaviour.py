"""What a user expects of tn.Layer as a torch module: shapes, dtypes, errors, state, threads."""

from __future__ import annotations

import copy
import io
import linecache
import pickle
import traceback
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from itertools import dropwhile
from threading import Barrier
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn
from torch.overrides import TorchFunctionMode
from torch.utils.flop_counter import FlopCounterMode

import tnlayer as tn
from tests.support import oracle
from tnlayer import topologies

pytestmark = pytest.mark.usefixtures("backend")
torch_only = pytest.mark.parametrize("backend", ["torch"], indirect=True)


def train_net() -> tn.Network:
    """A tensor train of three cores from 12 to 8 features."""
    return topologies.tensor_train((2, 3, 2), (2, 2, 2), 3)


def bilinear_net() -> tn.Network:
    """Two batched inputs of 4 and 3 features, one unbatched of 2; y has 5."""
    net = tn.Network("bilinear")
    net.input("x", {"i": 4})
    net.input("z", {"j": 3})
    net.input("c", {"k": 2})
    net.port("c", batched=False)
    net.output(o=5)
    net.tensor("W", "i j k o")
    return net


def constant_net() -> tn.Network:
    """A trainable, a frozen and a constant tensor in a row."""
    net = tn.Network("three kinds")
    net.input(i=3)
    net.output(j=2)
    net.bond(a=3, b=3)
    net.tensor("free", "i a")
    net.tensor("frozen", "a b", trainable=False)
    net.tensor("constant", "b j", trainable=False, value=np.arange(6.0).reshape(3, 2))
    return net


def complex_net() -> tn.Network:
    """A complex matrix times its own adjoint."""
    net = tn.Network("W W*")
    net.input(i=3)
    net.output(j=3)
    net.bond(k=2)
    net.tensor("W", "i k")
    net.tensor("V", "j k", share="W", conj=True)
    return net


def stored(layer: tn.Layer) -> dict[str, np.ndarray]:
    """What the layer stores, by name, without the bias."""
    state = layer.state_dict()
    return {name: array.numpy() for name, array in state.items() if name != "bias"}


def gradient_of(tensor: torch.Tensor) -> np.ndarray:
    """The gradient that backward left at a tensor."""
    assert tensor.grad is not None
    return tensor.grad.numpy()


def steps_down(layer: nn.Module, x: torch.Tensor, target: torch.Tensor) -> tuple[float, float]:
    """Loss before and after some steps of training."""
    optimizer = torch.optim.Adam(layer.parameters(), lr=0.02)
    losses: list[float] = []
    for _ in range(60):
        optimizer.zero_grad()
        loss = (layer(x) - target).square().mean()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    return losses[0], losses[-1]


# -- shapes and several inputs -----------------------------------------------------------------


@pytest.mark.parametrize("lead", [(), (1,), (5,), (3, 2), (2, 1, 2), (0,), (2, 0, 3)], ids=str)
def test_any_leading_dimensions(lead: tuple[int, ...]) -> None:
    """x of (..., in) gives y of (..., out), each row the same map, as in nn.Linear."""
    layer = tn.Layer(train_net(), bias=True)
    x = torch.randn(*lead, 12)
    y = layer(x)
    assert y.shape == (*lead, 8)
    torch.testing.assert_close(y, nn.functional.linear(x, layer.to_dense(), layer.bias))


def test_batch_of_zero_has_gradients_of_zero() -> None:
    """No samples: a backward pass must work and give zeros, not None."""
    layer = tn.Layer(train_net(), bias=True)
    x = torch.randn(0, 12, requires_grad=True)
    layer(x).sum().backward()
    assert x.grad is not None
    assert x.grad.shape == (0, 12)
    for parameter in layer.parameters():
        assert parameter.grad is not None
        assert torch.equal(parameter.grad, torch.zeros_like(parameter))


def test_several_inputs() -> None:
    """Inputs come in the order of declaration; batched ones share their leading dimensions."""
    layer = tn.Layer(bilinear_net(), dtype=torch.float64)
    x, z, c = (torch.randn(s, dtype=torch.float64) for s in ((6, 2, 4), (6, 2, 3), (2,)))
    weight = layer.get_parameter("W")
    torch.testing.assert_close(layer(x, z, c), torch.einsum("abi,abj,k,ijko->abo", x, z, c, weight))


@pytest.mark.parametrize(
    "shapes",
    [
        ((6, 4), (6, 3)),
        ((6, 4), (6, 3), (2,), (2,)),
        ((6, 4), (1, 3), (2,)),
        ((6, 4), (3,), (2,)),
        ((6, 4), (6, 3), (6, 2)),
        ((6, 3), (6, 4), (2,)),
    ],
    ids=["too few", "too many", "broadcast", "no batch", "batch of an unbatched", "swapped"],
)
def test_wrong_inputs_of_several(shapes: tuple[tuple[int, ...], ...]) -> None:
    """Wrong number or shapes of inputs are refused, nothing is broadcast by itself."""
    layer = tn.Layer(bilinear_net())
    with pytest.raises(tn.SpecError) as caught:
        layer(*(torch.randn(shape) for shape in shapes))
    assert repr(layer) in str(caught.value)


def test_no_inputs() -> None:
    """A network without inputs is a learned tensor: a layer without arguments."""
    net = tn.Network("learned")
    net.output(j=3)
    net.bond(a=2)
    net.tensor("A", "a j")
    net.tensor("s", "a")
    layer = tn.Layer(net)
    expected = layer.get_parameter("s") @ layer.get_parameter("A")
    torch.testing.assert_close(layer(), expected)
    layer().sum().backward()
    assert all(parameter.grad is not None for parameter in layer.parameters())


@torch_only
def test_nothing_at_all_is_refused() -> None:
    """A network without a tensor and without an input has no product to take."""
    net = tn.Network()
    net.output()
    with pytest.raises(tn.SpecError, match="no tensor and no input"):
        tn.Layer(net)


@torch_only
def test_product_port_without_legs_is_refused() -> None:
    """A product input of no vectors has no entries that could carry the batch."""
    net = tn.Network()
    net.input("x", {})
    net.port("x", product=True)
    net.output(j=2)
    net.tensor("A", "j")
    with pytest.raises(tn.SpecError, match="x"):
        tn.Layer(net)


def test_sixty_legs_through_a_product_port() -> None:
    """60 legs of size 2 (2^60 features) run as a chain when the states are small."""
    net = tn.Network("classifier")
    legs = {f"i{k}": 2 for k in range(60)}
    net.input("x", legs)
    net.port("x", product=True)
    net.output(label=3)
    net.bond(**{f"a{k}": 4 for k in range(61)})
    net.sum("a0")
    for k in range(60):
        net.tensor(f"core_{k}", f"a{k} i{k} a{k + 1}")
    net.tensor("head", "a60 label")
    layer = tn.Layer(net, dtype=torch.float64)
    with torch.no_grad():
        for parameter in layer.parameters():
            parameter.copy_(torch.rand(parameter.shape) / 4 + torch.randn(parameter.shape) / 9)
    x = torch.rand(5, 60, 2, dtype=torch.float64, requires_grad=True)
    y = layer(x)
    arrays, graph = stored(layer), net.freeze()
    expected = oracle.evaluate(graph, [x.detach().numpy()], arrays)
    np.testing.assert_allclose(y.detach(), expected, rtol=1e-9)
    y.sum().backward()
    (of_x,), of_stored = oracle.gradients(graph, [x.detach().numpy()], arrays, np.ones((5, 3)))
    np.testing.assert_allclose(gradient_of(x), of_x, rtol=1e-9)
    of_core = gradient_of(layer.get_parameter("core_30"))
    np.testing.assert_allclose(of_core, of_stored["core_30"], rtol=1e-9)


# -- bias, dense matrix, sums ------------------------------------------------------------------


def test_bias() -> None:
    """The bias is a parameter of size out_features that starts at zero and is added to y."""
    layer = tn.Layer(train_net(), bias=True)
    assert isinstance(layer.bias, nn.Parameter)
    assert torch.equal(layer.bias, torch.zeros(8))
    assert set(layer.state_dict()) == {"core_0", "core_1", "core_2", "bias"}
    x = torch.randn(4, 12)
    before = layer(x)
    with torch.no_grad():
        layer.bias.copy_(torch.arange(8.0))
    torch.testing.assert_close(layer(x), before + torch.arange(8.0))
    layer(x).sum().backward()
    torch.testing.assert_close(layer.bias.grad, torch.full((8,), 4.0))
    assert tn.Layer(train_net()).bias is None


@pytest.mark.parametrize("net", [train_net(), complex_net()], ids=["real", "complex"])
def test_dense_matrix(net: tn.Network) -> None:
    """to_dense is nn.Linear's weight: (out, in), without the bias, and differentiable."""
    dtype = torch.complex128 if net.label == "W W*" else torch.float64
    layer = tn.Layer(net, bias=True, dtype=dtype)
    assert layer.bias is not None
    with torch.no_grad():
        layer.bias.fill_(1)
    weight = layer.to_dense()
    assert weight.shape == (layer.out_features, layer.in_features)
    identity = torch.eye(layer.in_features, dtype=dtype)
    torch.testing.assert_close(layer(identity) - layer.bias, weight.T)
    expected = oracle.evaluate(net.freeze(), [identity.numpy()], stored(layer))
    np.testing.assert_allclose(weight.detach().mT, expected, rtol=1e-12, atol=1e-14)
    weight.abs().sum().backward()
    assert all(p.grad is not None for name, p in layer.named_parameters() if name != "bias")


def test_sum_of_networks() -> None:
    """Layer([a, b]) is the sum of both maps, with the parameters of both."""
    low_rank, train = topologies.low_rank(12, 8, 2), train_net()
    layer = tn.Layer([low_rank, train], bias=True, dtype=torch.float64)
    parts = [tn.Layer(net, dtype=torch.float64) for net in (low_rank, train)]
    for part in parts:
        part.load_state_dict({name: layer.state_dict()[name] for name in part.state_dict()})
    x = torch.randn(5, 12, dtype=torch.float64)
    torch.testing.assert_close(layer(x), parts[0](x) + parts[1](x))
    torch.testing.assert_close(layer.to_dense(), parts[0].to_dense() + parts[1].to_dense())
    layer(x).square().sum().backward()
    assert all(p.grad is not None and p.grad.any() for p in layer.parameters())


def test_sum_refuses_clashing_names_and_unlike_ports() -> None:
    """Two networks with a tensor of one name, or with other features, cannot be summed."""
    with pytest.raises(tn.SpecError, match="core_0"):
        tn.Layer([train_net(), train_net()])
    with pytest.raises(tn.SpecError, match=r"(?s)12.*10|10.*12"):
        tn.Layer([train_net(), topologies.low_rank(10, 8, 2)])
    with pytest.raises(tn.SpecError):
        tn.Layer([])


# -- dtypes and devices ------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16, torch.complex64])
def test_dtype_argument(dtype: torch.dtype) -> None:
    """dtype sets parameters, arithmetic and y; the default is torch's."""
    layer = tn.Layer(train_net(), bias=True, dtype=dtype)
    assert {p.dtype for p in layer.parameters()} == {dtype}
    x = torch.randn(3, 12, dtype=dtype, requires_grad=True)
    y = layer(x)
    assert y.dtype == dtype
    y.abs().sum().backward()
    assert x.grad is not None
    assert x.grad.dtype == dtype
    assert tn.Layer(train_net()).dtype == torch.get_default_dtype()


def test_moved_to_another_dtype() -> None:
    """layer.double() must compute in float64, and half precision come back with .float()."""
    layer = tn.Layer(train_net())
    x = torch.randn(4, 12)
    y = layer(x)
    wide = copy.deepcopy(layer).double()
    assert wide(x.double()).dtype == torch.float64
    torch.testing.assert_close(wide(x.double()).float(), y)
    assert layer.to(torch.bfloat16)(x.bfloat16()).dtype == torch.bfloat16
    assert layer.float()(x).dtype == torch.float32


def test_real_input_of_a_complex_layer_is_promoted() -> None:
    """Real x into a complex layer gives complex y and a real gradient of x."""
    layer = tn.Layer(complex_net(), dtype=torch.complex128)
    x = torch.randn(4, 3, dtype=torch.float64, requires_grad=True)
    y = layer(x)
    assert y.dtype == torch.complex128
    torch.testing.assert_close(y, layer(x.to(torch.complex128)))
    y.abs().square().sum().backward()
    assert x.grad is not None
    assert x.grad.dtype == torch.float64


def test_complex_values_make_the_layer_complex() -> None:
    """A complex value sets the default dtype, and a real dtype is refused."""
    net = tn.Network("phase")
    net.input(i=2)
    net.output(j=2)
    net.tensor("U", "i j", value=np.eye(2) * 1j)
    assert tn.Layer(net).dtype == torch.complex64
    with pytest.raises(tn.SpecError, match="complex"):
        tn.Layer(net, dtype=torch.float32)


@pytest.mark.parametrize(
    ("x", "words"),
    [
        (torch.zeros(3, 11), ("12", "11")),
        (torch.zeros(12, 3), ("12", "3")),
        (torch.zeros(()), ("12",)),
        (torch.zeros(3, 12, dtype=torch.float64), ("float32", "float64")),
        (torch.zeros(3, 12, dtype=torch.complex64), ("float32", "complex64")),
        (torch.zeros(3, 12, dtype=torch.int64), ("float32", "int64")),
        (torch.zeros(3, 12, device="meta"), ("cpu", "meta")),
    ],
    ids=["features", "transposed", "scalar", "double", "complex", "integers", "device"],
)
def test_wrong_input_is_refused(x: torch.Tensor, words: tuple[str, ...]) -> None:
    """The error says what was expected and got, and shows the layer."""
    layer = tn.Layer(train_net(), bias=True)
    with pytest.raises(tn.SpecError) as caught:
        layer(x)
    message = str(caught.value)
    assert repr(layer) in message
    rest = message.replace(repr(layer), "")
    assert all(word in rest for word in words), message


def test_meta_device() -> None:
    """A layer made on meta has shapes only; to_empty and reset_parameters bring it to life."""
    layer = tn.Layer(constant_net(), bias=True, device="meta")
    assert all(array.is_meta for array in layer.state_dict().values())
    y = layer(torch.empty(4, 3, device="meta"))
    assert y.is_meta
    assert y.shape == (4, 2)
    layer.to_empty(device="cpu")
    with torch.no_grad():
        for array in layer.state_dict().values():
            array.fill_(torch.nan)
    layer.reset_parameters()
    constant = torch.arange(6.0).reshape(3, 2)
    torch.testing.assert_close(layer.get_buffer("constant"), constant)
    assert torch.isfinite(layer(torch.randn(4, 3))).all()
    assert layer.get_parameter("free").requires_grad
    assert not layer.get_parameter("frozen").requires_grad


def test_default_device_context() -> None:
    """A layer made under torch.device("meta") lies there, as every torch module does."""
    with torch.device("meta"):
        layer = tn.Layer(train_net(), bias=True)
    assert all(parameter.is_meta for parameter in layer.parameters())


def check_autocast(call: Callable[[torch.Tensor], torch.Tensor], layer: tn.Layer) -> None:
    """Inputs of both dtypes give float32 under autocast; a backward in it or after is exact."""
    x = torch.randn(16, 12)
    exact = call(x)
    (expected,) = torch.autograd.grad(exact.square().sum(), layer.get_parameter("core_1"))
    with torch.autocast("cpu", dtype=torch.bfloat16):
        y = call(x)
        rounded = call(x.bfloat16())
    assert y.dtype == rounded.dtype == torch.float32
    torch.testing.assert_close(y, exact)
    torch.testing.assert_close(rounded, call(x.bfloat16().float()))
    for enabled in (False, True):
        with torch.autocast("cpu", dtype=torch.bfloat16, enabled=enabled):
            core = layer.get_parameter("core_1")
            (gradient,) = torch.autograd.grad(y.square().sum(), core, retain_graph=True)
        torch.testing.assert_close(gradient, expected)


def test_autocast() -> None:
    """Under autocast a layer that was asked for it keeps its own dtype, though its inputs come in
    half precision."""
    layer = tn.Layer(train_net(), autocast=False)
    check_autocast(layer, layer)
    exact = layer.to_dense()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        torch.testing.assert_close(layer.to_dense(), exact)


def test_autocast_of_a_program() -> None:
    """The same holds for a compiled program."""
    layer, program = tn.Layer(train_net()), tn.compile(train_net())
    check_autocast(lambda x: program(x, parameters=dict(layer.named_parameters())), layer)


# -- state -------------------------------------------------------------------------------------


def test_state_keys_are_the_tensors_names() -> None:
    """Keys are the owners' names, whatever the batch, the backend or the objective."""
    choices: list[dict[str, Any]] = [
        {},
        {"batch": 1},
        {"batch": 4096, "backend": "torch", "objective": "infer"},
    ]
    for options in choices:
        layer = tn.Layer(constant_net(), **options)
        assert set(layer.state_dict()) == {"free", "frozen", "constant"}
    assert list(tn.Layer(complex_net()).state_dict()) == ["W"]


def test_state_moves_between_plans() -> None:
    """A state made at one batch size must load strictly at another and give the same y."""
    first = tn.Layer(train_net(), bias=True, batch=1)
    second = tn.Layer(train_net(), bias=True, batch=2048)
    second.load_state_dict(first.state_dict(), strict=True)
    x = torch.randn(4, 12)
    torch.testing.assert_close(second(x), first(x))


def test_strict_load_refuses_wrong_states() -> None:
    """Missing, unexpected and misshapen entries are torch's usual errors."""
    layer = tn.Layer(train_net())
    state = layer.state_dict()
    missing = {name: array for name, array in state.items() if name != "core_1"}
    for wrong, word in (
        (missing, "core_1"),
        ({**state, "core_9": torch.zeros(2)}, "core_9"),
        ({**state, "core_2": torch.zeros(2)}, "size mismatch"),
    ):
        with pytest.raises(RuntimeError, match=word):
            layer.load_state_dict(wrong)


def test_kinds_of_tensors() -> None:
    """A constant is a persistent buffer, a frozen tensor a parameter without grad."""
    layer = tn.Layer(constant_net())
    assert {name: p.requires_grad for name, p in layer.named_parameters()} == {
        "free": True,
        "frozen": False,
    }
    assert [name for name, _ in layer.named_buffers()] == ["constant"]
    torch.testing.assert_close(layer.get_buffer("constant"), torch.arange(6.0).reshape(3, 2))
    layer(torch.randn(4, 3)).sum().backward()
    assert layer.get_parameter("free").grad is not None
    assert layer.get_parameter("frozen").grad is None


def test_tensors_may_bear_names_of_methods() -> None:
    """No method's name is outlawed for tensors, and the methods go on working."""
    net = tn.Network("names")
    names = ["forward", "train", "to_dense", "dtype", "weight"]
    net.input(e0=2)
    net.output(**{f"e{len(names)}": 2})
    net.bond(**{f"e{k}": 2 for k in range(1, len(names))})
    for k, name in enumerate(names):
        net.tensor(name, f"e{k} e{k + 1}")
    layer = tn.Layer(net, dtype=torch.float64)
    assert list(layer.state_dict()) == names
    product = torch.linalg.multi_dot([layer.state_dict()[name] for name in names])
    torch.testing.assert_close(layer.train().to_dense().detach(), product.T)
    x = torch.randn(3, 2, dtype=torch.float64)
    torch.testing.assert_close(copy.deepcopy(layer)(x), layer(x))


def test_deepcopy_is_independent() -> None:
    """A deep copy gives the same y and shares no array with the original."""
    layer = tn.Layer(train_net(), bias=True)
    x = torch.randn(4, 12)
    y = layer(x)
    twin = copy.deepcopy(layer)
    torch.testing.assert_close(twin(x), y)
    with torch.no_grad():
        for parameter in layer.parameters():
            parameter.add_(1)
    torch.testing.assert_close(twin(x), y)
    twin(x).sum().backward()
    assert all(p.grad is None for p in layer.parameters())


@pytest.mark.crossed
@pytest.mark.parametrize(
    "make",
    [train_net, constant_net, complex_net, lambda: topologies.mera(8)],
    ids=["train", "constant", "complex", "mera"],
)
def test_pickle_round_trip(make: Callable[[], tn.Network]) -> None:
    """A pickled layer comes back with its arrays, gives the same y and trains."""
    layer = tn.Layer(make(), bias=True)
    x = torch.randn(4, layer.in_features)
    layer(x)  # builds what must not be in the pickle
    text = pickle.dumps(layer)
    assert b"torch.mm" not in text, "the source is generated again, never unpickled"
    twin = pickle.loads(text)
    assert repr(twin) == repr(layer)
    assert twin.source() == layer.source()
    torch.testing.assert_close(twin(x), layer(x))
    twin(x).abs().sum().backward()
    assert all(p.grad is not None for p in twin.parameters() if p.requires_grad)


def test_saved_state_round_trip() -> None:
    """torch.save of the state and a load with weights_only must restore y."""
    layer, other = tn.Layer(train_net(), bias=True), tn.Layer(train_net(), bias=True)
    file = io.BytesIO()
    torch.save(layer.state_dict(), file)
    file.seek(0)
    other.load_state_dict(torch.load(file, weights_only=True))
    x = torch.randn(4, 12)
    torch.testing.assert_close(other(x), layer(x))


@torch_only
def test_network_may_change_afterwards() -> None:
    """The layer froze a copy: going on with the builder must not change it."""
    net = tn.Network("grows")
    net.input(i=2)
    net.output(j=2)
    net.tensor("A", "i j")
    layer = tn.Layer(net)
    net.tensor("B", "i j")
    assert list(layer.state_dict()) == ["A"]
    assert list(tn.Layer(net).state_dict()) == ["A", "B"]


# -- training and inference --------------------------------------------------------------------


@pytest.mark.parametrize(
    "make",
    [train_net, lambda: topologies.cp((2, 3, 2), (2, 2, 2), 8), lambda: topologies.mera(4)],
    ids=["train", "cp", "mera"],
)
def test_training_lowers_the_loss(make: Callable[[], tn.Network]) -> None:
    """Some steps of Adam must bring the layer nearer to another layer of its kind."""
    layer, teacher = tn.Layer(make(), bias=True), tn.Layer(make(), bias=True)
    x = torch.randn(64, layer.in_features)
    first, last = steps_down(layer, x, teacher(x).detach())
    assert last < 0.7 * first


def test_nothing_stale_after_parameters_change() -> None:
    """Calls without grad must see every later change of the parameters, however it is made."""
    layer = tn.Layer(train_net())
    x = torch.randn(4, 12)
    with torch.no_grad():
        y = layer(x)
        layer.get_parameter("core_0").mul_(2)
        torch.testing.assert_close(layer(x), 2 * y)
        layer.load_state_dict({name: -array for name, array in layer.state_dict().items()})
        torch.testing.assert_close(layer(x), -2 * y)
        layer._parameters["core_1"] = nn.Parameter(3 * layer.get_parameter("core_1"))
        torch.testing.assert_close(layer(x), -6 * y)
        layer.get_parameter("core_2").data.mul_(0.5)
        layer.invalidate()
        torch.testing.assert_close(layer(x), -3 * y)


def test_inference_mode() -> None:
    """Inference mode gives the same y and leaves the layer able to train."""
    layer = tn.Layer(train_net(), bias=True)
    x = torch.randn(4, 12)
    with torch.inference_mode():
        y = layer(x)
        assert y.is_inference()
    torch.testing.assert_close(y.clone(), layer(x))
    layer(x).sum().backward()
    assert all(p.grad is not None for p in layer.parameters())


def test_frozen_later() -> None:
    """requires_grad_(False) on a built layer must take effect at the next call, and back again."""
    layer = tn.Layer(train_net())
    x, core = torch.randn(4, 12), layer.get_parameter("core_1")
    for wanted in (True, False, True):
        core.requires_grad_(wanted)
        layer.zero_grad()
        layer(x).sum().backward()
        assert (core.grad is not None) == wanted
        assert layer.get_parameter("core_0").grad is not None
    layer.requires_grad_(False)
    assert not layer(x).requires_grad


def test_parametrized_tensor() -> None:
    """torch's own parametrizations put a function before a tensor, as for every module."""
    layer = tn.Layer(train_net())
    x, before = torch.randn(4, 12), layer.state_dict()["core_1"].clone()

    class Double(nn.Module):
        """Twice the stored entries."""

        def forward(self, entries: torch.Tensor) -> torch.Tensor:
            return 2 * entries

    y = layer(x)
    nn.utils.parametrize.register_parametrization(layer, "core_1", Double(), unsafe=True)
    torch.testing.assert_close(layer(x), 2 * y)
    layer(x).sum().backward()
    original = layer.get_parameter("parametrizations.core_1.original")
    torch.testing.assert_close(original.detach(), before)
    assert original.grad is not None


def test_sixteen_threads_call_one_layer() -> None:
    """A new layer called by 16 threads at once must give each the y and gradient of its x."""
    layer = tn.Layer(topologies.mera(6, dim=2, bond=2), dtype=torch.float64)
    weight = layer.to_dense().detach()
    barrier = Barrier(16)

    def work(number: int) -> bool:
        source = torch.Generator().manual_seed(number)
        batch = number % 5 + 1
        x = torch.randn(batch, layer.in_features, dtype=torch.float64, generator=source)
        x.requires_grad_(number % 3 > 0)
        barrier.wait()
        for _ in range(5):
            y = layer(x)
            torch.testing.assert_close(y, x @ weight.T)
            if x.requires_grad:
                (slope,) = torch.autograd.grad(y.sum(), x)
                torch.testing.assert_close(slope, weight.sum(0).expand_as(x))
        return True

    with ThreadPoolExecutor(16) as pool:
        assert all(pool.map(work, range(16)))


# -- what the layer says of itself -------------------------------------------------------------


@torch_only
def test_repr_says_what_the_layer_is() -> None:
    """The repr shows features, bias, dtype and backend."""
    text = repr(tn.Layer(train_net(), bias=True, dtype=torch.float64, backend="torch"))
    for part in ("in_features=12", "out_features=8", "bias=True", "torch.float64", "'torch'"):
        assert part in text
    assert "in_features=4 x 3 x 2" in repr(tn.Layer(bilinear_net()))


USER_NAMES = ("Zanzibar", "quokka", "mango", "papaya", "lychee", "guava")


def named_net() -> tn.Network:
    """A network whose every name is easy to find."""
    net = tn.Network("Zanzibar")
    net.input("quokka", {"mango": 4})
    net.output(papaya=3)
    net.bond(lychee=2)
    net.tensor("guava", "mango lychee")
    net.tensor("guava2", "lychee papaya")
    return net


def test_source_holds_no_text_of_the_user(backend: str) -> None:
    """Generated source has a forward and a backward, in canonical names only; what a layer shows of
    torch's calls has a legend above it."""
    layer = tn.Layer(named_net())
    source = below_legend(layer)
    define = "def" if backend == "torch" else "int"
    assert f"{define} forward(" in source
    assert f"{define} backward(" in source
    for name in USER_NAMES:
        assert name not in source, f"{name} is in the source"
    assert source.endswith(tn.compile(named_net()).source())


def test_renamed_network_has_the_same_source() -> None:
    """Names are no part of what is generated, so that renaming hits every cache."""
    net = tn.Network("other")
    net.input("x", {"i": 4})
    net.output(j=3)
    net.bond(a=2)
    net.tensor("first", "i a")
    net.tensor("second", "a j")
    assert below_legend(tn.Layer(net)) == below_legend(tn.Layer(named_net()))
    assert tn.compile(net).source() == tn.compile(named_net()).source()


def below_legend(layer: tn.Layer) -> str:
    """The source that a layer shows, without the comments that say what names stand for."""
    lines = layer.source().splitlines(keepends=True)
    return "".join(dropwhile(lambda line: line.startswith("# "), lines))


@torch_only
def test_source_is_in_linecache_and_tracebacks() -> None:
    """An error inside the generated code shows the generated line."""

    class Failing(TorchFunctionMode):
        """Lets every matrix product fail."""

        def __torch_function__(
            self, func: Any, types: Any, args: Any = (), kwargs: Any = None
        ) -> Any:
            if func is torch.mm or func is torch.bmm:
                message = "no products today"
                raise ArithmeticError(message)
            return func(*args, **(kwargs or {}))

    layer = tn.Layer(train_net())
    with pytest.raises(ArithmeticError) as caught, Failing():
        layer(torch.randn(3, 12))
    frames = traceback.extract_tb(caught.value.__traceback__)
    generated = [frame for frame in frames if frame.filename.startswith("<tnlayer")]
    assert len(generated) == 1
    assert generated[0].name == "forward"
    assert "mm(" in (generated[0].line or "")
    assert "def forward(" in "".join(linecache.getlines(generated[0].filename))


@torch_only
def test_explain_names_backend_and_costs() -> None:
    """explain() says what runs, and that "auto" chose torch."""
    layer = tn.Layer(train_net(), batch=32)
    text = layer.explain()
    cost = tn.cost(train_net(), batch=32)
    for part in ("torch", f"{cost.parameters:,}", f"{cost.forward_flops:,}"):
        assert part in text


def test_prepare_builds_and_returns_the_layer() -> None:
    """prepare() is for warm starts: it returns the layer and changes no result."""
    layer = tn.Layer(train_net())
    x = torch.randn(4, 12)
    y = layer(x)
    for text in ("64", b"64", ["64"]):
        with pytest.raises(tn.SpecError, match=r"a batch must be a whole number, got b?'64' of"):
            layer.prepare(text)  # type: ignore[arg-type]
    assert layer.prepare([1, 256]) is layer
    assert layer.prepare(7) is layer
    torch.testing.assert_close(layer(x), y)


@pytest.mark.parametrize(
    ("options", "error"),
    [
        ({"backend": "fast"}, tn.SpecError),
        ({"objective": "speed"}, tn.SpecError),
        ({"effort": "max"}, tn.SpecError),
        ({"batch": 0}, tn.SpecError),
        ({"batch": -1}, tn.SpecError),
        ({"batch": 2.5}, tn.SpecError),
        ({"dtype": torch.int64}, tn.SpecError),
    ],
    ids=str,
)
def test_wrong_options(options: dict[str, Any], error: type[Exception]) -> None:
    """An option that cannot be kept is an error at once, never a silent fallback."""
    with pytest.raises(error):
        tn.Layer(train_net(), **options)


def test_a_limit_that_cannot_be_kept_is_refused(backend: str) -> None:
    """A memory limit below any plan's need is an error, on each backend."""
    with pytest.raises(tn.PlanError, match="limit"):
        tn.Layer(train_net(), memory_limit=8)


# -- costs -------------------------------------------------------------------------------------

COUNTED: dict[str, Callable[[], tn.Network]] = {
    "tensor_train": lambda: topologies.tensor_train((4, 4, 4), (4, 4, 4), 3),
    "tensor_ring": lambda: topologies.tensor_ring((3, 2, 4), (2, 5, 2), 3),
    "mera": lambda: topologies.mera(8, dim=2, bond=3),
    "mera, fixed": lambda: topologies.mera(8, dim=2, bond=2, fix_first_level=True),
    "tree": lambda: topologies.tree(8, dim=2, bond=2),
    "low_rank": lambda: topologies.low_rank(20, 30, 4),
    "cp": lambda: topologies.cp((4, 5), (3, 4), 6),
    "tucker": lambda: topologies.tucker((4, 5), (3, 4), 3),
    "kronecker": lambda: topologies.kronecker((4, 5), (3, 4), 2),
    "btt": lambda: topologies.btt((4, 4), (4, 4), 2),
    "butterfly": lambda: topologies.butterfly(16),
    "peps": lambda: topologies.peps(2, 3, dim=2, bond=2),
    "brickwall": lambda: topologies.brickwall(6, dim=2, depth=3),
    "frozen": constant_net,
    "bilinear": bilinear_net,
}


@pytest.mark.crossed
@torch_only
@pytest.mark.parametrize("batch", [1, 17, 256])
@pytest.mark.parametrize("name", COUNTED)
def test_flops_are_those_that_torch_counts(name: str, batch: int) -> None:
    """tn.cost must equal torch's own count of mm and bmm, forward and backward apart."""
    net = COUNTED[name]()
    cost = tn.cost(net, batch=batch)
    layer = tn.Layer(net, batch=batch, backend="torch")
    graph = net.freeze()
    inputs = [
        torch.randn(*([batch] if port.batched else []), *graph.input_shape(port))
        for port in graph.inputs
    ]
    for x in inputs:
        x.requires_grad_()
    with FlopCounterMode(display=False) as forward:
        y = layer(*inputs)
    with FlopCounterMode(display=False) as backward:
        y.sum().backward()
    assert forward.get_total_flops() == cost.forward_flops
    assert backward.get_total_flops() == cost.backward_flops
    assert cost.forward_flops > 0
    assert cost.parameters == graph.parameter_count


# -- programs ----------------------------------------------------------------------------------


def test_program_is_differentiable() -> None:
    """A program is a function of inputs and named parameters, with gradients for both."""
    net = train_net()
    graph = net.freeze()
    program = tn.compile(net, dtype="float64")
    arrays = {
        p.name: torch.randn(p.shape, dtype=torch.float64, requires_grad=True)
        for p in graph.parameters
    }
    x = torch.randn(5, 12, dtype=torch.float64, requires_grad=True)
    y = program(x, parameters=arrays)
    plain = {name: array.detach().numpy() for name, array in arrays.items()}
    expected = oracle.evaluate(graph, [x.detach().numpy()], plain)
    np.testing.assert_allclose(y.detach(), expected, rtol=1e-12)
    assert all(size in program.batch_range for size in (1, 5, 256))
    y.sum().backward()
    (of_x,), of_stored = oracle.gradients(graph, [x.detach().numpy()], plain, np.ones((5, 8)))
    np.testing.assert_allclose(gradient_of(x), of_x, rtol=1e-11)
    for name, array in arrays.items():
        np.testing.assert_allclose(gradient_of(array), of_stored[name], rtol=1e-11)


def test_program_refuses_wrong_parameters() -> None:
    """Missing, unknown and misshapen parameters are named."""
    program = tn.compile(train_net())
    arrays = {p.name: torch.zeros(p.shape) for p in train_net().freeze().parameters}
    x = torch.zeros(2, 12)
    missing = {name: array for name, array in arrays.items() if name != "core_1"}
    for wrong, word in (
        (missing, "core_1"),
        ({**arrays, "core_7": torch.zeros(2)}, "core_7"),
        ({**arrays, "core_2": torch.zeros(2)}, "core_2"),
    ):
        with pytest.raises(tn.SpecError, match=word):
            program(x, parameters=wrong)
    with pytest.raises(tn.SpecError):
        program(torch.zeros(2, 11), parameters=arrays)
    with pytest.raises(tn.SpecError):
        program(x, x, parameters=arrays)


def test_program_round_trips_through_pickle() -> None:
    """A pickled program is the same function."""
    program = tn.compile(topologies.mera(6))
    arrays = {p.name: torch.randn(p.shape) for p in topologies.mera(6).freeze().parameters}
    twin = pickle.loads(pickle.dumps(program))
    x = torch.randn(3, 64)
    assert torch.equal(twin(x, parameters=arrays), program(x, parameters=arrays))
    assert twin.source() == program.source()
