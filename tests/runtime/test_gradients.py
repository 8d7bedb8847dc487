"""Gradients of first and second order, torch.func transforms, tracing and checkpointing."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest
import torch
from hypothesis import given
from torch.autograd import forward_ad, gradcheck, gradgradcheck
from torch.utils.checkpoint import checkpoint

import tnlayer as tn
from tests.support.strategies import SMALL_BOUNDS, fixed_series, networks
from tnlayer import topologies

pytestmark = pytest.mark.usefixtures("backend")
torch_only = pytest.mark.parametrize("backend", ["torch"], indirect=True)

TOPOLOGIES: dict[str, Callable[[], tn.Network]] = {
    "tensor_train": lambda: topologies.tensor_train((2, 3, 2), (3, 1, 2), 2),
    "tensor_ring": lambda: topologies.tensor_ring((2, 2, 2), (2, 1, 2), 2),
    "tree": lambda: topologies.tree(4, dim=2, bond=2),
    "tree, fixed": lambda: topologies.tree(6, dim=2, bond=2, fix_first_level=True),
    "mera": lambda: topologies.mera(4, dim=2, bond=2),
    "mera of 5 legs, fixed": lambda: topologies.mera(5, dim=2, bond=2, fix_first_level=True),
    "tucker": lambda: topologies.tucker((2, 3), (2, 2), 2),
    "cp": lambda: topologies.cp((2, 3), (2, 2), 3),
    "block_term": lambda: topologies.block_term((2, 2), (2, 2), terms=2, rank=2),
    "kronecker": lambda: topologies.kronecker((2, 3), (2, 2), 2),
    "low_rank": lambda: topologies.low_rank(4, 3, 2),
    "monarch": lambda: topologies.monarch((2, 3), (2, 2)),
    "btt": lambda: topologies.btt((2, 2), (2, 3), 2),
    "butterfly": lambda: topologies.butterfly(8),
    "peps": lambda: topologies.peps(2, 2, dim=2, bond=2),
    "brickwall": lambda: topologies.brickwall(4, dim=2, depth=2),
    "augmented_tree": lambda: topologies.augmented_tree(4, dim=2, bond=2),
    "blast": lambda: topologies.blast(4, 4, blocks=2, rank=2),
    "mera_2d": lambda: topologies.mera_2d(2, 2, dim=2, bond=2),
    "mps": lambda: topologies.mps(3, dim=2, bond=2),
    "mps_classifier": lambda: topologies.mps_classifier(3, dim=2, bond=2, classes=2),
    "peps_classifier": lambda: topologies.peps_classifier(2, 2, dim=2, bond=2, classes=2),
    "peps_state": lambda: topologies.peps_state(2, 2, dim=2, bond=2),
    "periodic_mera": lambda: topologies.periodic_mera(4, dim=2, bond=2, share=True),
    "quanta": lambda: topologies.quanta((2, 2, 2)),
    "random_circuit": lambda: topologies.random_circuit(3, dim=2, depth=3, gates=2),
    "ternary_mera": lambda: topologies.ternary_mera(3, dim=2, bond=2),
}


def generator(number: int = 0) -> torch.Generator:
    """A source of random entries of its own."""
    return torch.Generator().manual_seed(number)


def make_layer(net: tn.Network, dtype: torch.dtype = torch.float64) -> tn.Layer:
    """A layer with normal entries, so that no gradient is large or zero by the initialisation."""
    layer = tn.Layer(net, dtype=dtype)
    source = generator()
    with torch.no_grad():
        for parameter in layer.parameters():
            entries = torch.randn(parameter.shape, dtype=dtype, generator=source)
            parameter.copy_(0.5 * entries + 0.5)
    return layer


def as_function(
    layer: tn.Layer, batch: tuple[int, ...] = (2,)
) -> tuple[Callable[..., torch.Tensor], tuple[torch.Tensor, ...]]:
    """The layer as a function of its inputs and trainable parameters, and a point to check at."""
    names = [name for name, p in layer.named_parameters() if p.requires_grad]
    graph, dtype = layer.graphs[0], layer.dtype
    source = generator(1)
    inputs = [
        torch.randn(
            *(batch if port.batched else ()),
            *graph.input_shape(port),
            dtype=dtype,
            generator=source,
        )
        for port in graph.inputs
    ]

    def apply(*arguments: torch.Tensor) -> torch.Tensor:
        parameters = dict(zip(names, arguments[len(inputs) :], strict=True))
        return torch.func.functional_call(layer, parameters, arguments[: len(inputs)])

    point = [*inputs, *(layer.get_parameter(name).detach().clone() for name in names)]
    return apply, tuple(tensor.requires_grad_() for tensor in point)


@pytest.fixture
def train() -> tn.Layer:
    """A tensor train from 12 to 6 features."""
    return make_layer(TOPOLOGIES["tensor_train"]())


# -- finite differences ------------------------------------------------------------------------


@torch_only
def test_every_topology_is_checked() -> None:
    """A topology that is added must come into this file."""
    assert {name.partition(",")[0].partition(" ")[0] for name in TOPOLOGIES} == set(
        topologies.__all__
    )


@pytest.mark.parametrize("name", TOPOLOGIES)
def test_gradcheck(name: str) -> None:
    """Gradients of x and of all tensors must be those of finite differences."""
    function, point = as_function(make_layer(TOPOLOGIES[name]()))
    assert gradcheck(function, point)


@torch_only  # compiled layers take torch's code for it: test_gradcheck_complex tries it
@pytest.mark.parametrize("name", TOPOLOGIES)
def test_gradgradcheck(name: str) -> None:
    """Second derivatives must be right along random directions."""
    function, point = as_function(make_layer(TOPOLOGIES[name]()), batch=())
    assert gradgradcheck(function, point, fast_mode=True)


@pytest.mark.parametrize("name", ["tensor_train", "mera", "cp", "butterfly"])
def test_gradcheck_complex(name: str) -> None:
    """Complex gradients must be torch's: the conjugate of the derivative."""
    function, point = as_function(make_layer(TOPOLOGIES[name](), torch.complex128))
    assert gradcheck(function, point, fast_mode=True)
    assert gradgradcheck(function, point, fast_mode=True)


def test_gradcheck_of_a_tensor_and_its_conjugate() -> None:
    """A parameter used plainly and conjugated has a gradient from both uses."""
    net = tn.Network("W and its adjoint")
    net.input(i=3)
    net.output(j=3)
    net.bond(k=2)
    net.tensor("W", "i k")
    net.tensor("V", "j k", share="W", conj=True)
    function, point = as_function(make_layer(net, torch.complex128))
    assert gradcheck(function, point)
    assert gradgradcheck(function, point)


def test_gradcheck_of_several_inputs() -> None:
    """A bilinear layer, with one input unbatched, has gradients for each input."""
    net = tn.Network("bilinear")
    net.input("x", {"i": 2})
    net.input("z", {"j": 3})
    net.port("z", batched=False)
    net.output(k=2)
    net.tensor("W", "i j k")
    function, point = as_function(make_layer(net))
    assert gradcheck(function, point)
    assert gradgradcheck(function, point)


@torch_only
@pytest.mark.parametrize("is_complex", [False, True], ids=["real", "complex"])
def test_gradgradcheck_on_random_networks(is_complex: bool) -> None:
    """Second derivatives of 50 random networks or more must be those of finite differences."""
    checked = 0

    @fixed_series(4000, 32, shrink=False)
    @given(net=networks(is_complex, SMALL_BOUNDS))
    def check_one(net: tn.Network) -> None:
        nonlocal checked
        layer = make_layer(net, torch.complex128 if is_complex else torch.float64)
        function, point = as_function(layer)
        if point:
            assert gradgradcheck(function, point, fast_mode=True, atol=1e-4)
            checked += 1

    check_one()
    assert checked >= 25, "nearly all random networks must have something to differentiate"


# -- torch.func --------------------------------------------------------------------------------


def parameters_of(layer: tn.Layer) -> dict[str, torch.Tensor]:
    """The parameters, detached."""
    return {name: p.detach() for name, p in layer.named_parameters()}


def call(layer: tn.Layer, parameters: dict[str, torch.Tensor], x: torch.Tensor) -> torch.Tensor:
    """The layer as a pure function."""
    return torch.func.functional_call(layer, parameters, (x,))


def samples(layer: tn.Layer, count: int) -> torch.Tensor:
    """Random inputs."""
    return torch.randn(count, layer.in_features, dtype=layer.dtype, generator=generator(2))


def test_functional_call_uses_the_parameters_given(train: tn.Layer) -> None:
    """functional_call must compute with the tensors that it is given, and a layer is linear."""
    x = samples(train, 3)
    doubled = {name: 2 * p for name, p in parameters_of(train).items()}
    torch.testing.assert_close(call(train, doubled, x), 8 * train(x))


def test_vmap_over_samples(train: tn.Layer) -> None:
    """vmap over x must give what a batch gives."""
    x, parameters = samples(train, 5), parameters_of(train)
    y = torch.func.vmap(lambda row: call(train, parameters, row))(x)
    torch.testing.assert_close(y, train(x))
    nested = torch.func.vmap(lambda rows: call(train, parameters, rows), in_dims=1)(
        x.view(5, 1, -1)
    )
    torch.testing.assert_close(nested, train(x)[None])


def test_vmap_over_parameters(train: tn.Layer) -> None:
    """vmap over stacked parameters must be an ensemble of layers."""
    x = samples(train, 4)
    first = parameters_of(train)
    second = {name: p.flip(0) - 1 for name, p in first.items()}
    stacked = {name: torch.stack([first[name], second[name]]) for name in first}
    y = torch.func.vmap(lambda parameters: call(train, parameters, x))(stacked)
    torch.testing.assert_close(y, torch.stack([call(train, p, x) for p in (first, second)]))


def test_grad_equals_backward(train: tn.Layer) -> None:
    """torch.func.grad must give the gradients that backward accumulates."""
    x = samples(train, 4)
    gradients = torch.func.grad(lambda p: call(train, p, x).square().sum())(parameters_of(train))
    train(x).square().sum().backward()
    for name, parameter in train.named_parameters():
        torch.testing.assert_close(gradients[name], parameter.grad)


def test_gradients_per_sample(train: tn.Layer) -> None:
    """vmap of grad must give each sample's own gradient."""
    x, parameters = samples(train, 4), parameters_of(train)
    gradient = torch.func.grad(lambda p, row: call(train, p, row).square().sum())
    per_sample = torch.func.vmap(gradient, in_dims=(None, 0))(parameters, x)
    for number, row in enumerate(x):
        for name, expected in gradient(parameters, row).items():
            torch.testing.assert_close(per_sample[name][number], expected)


def test_jacobians_are_the_dense_matrix(train: tn.Layer) -> None:
    """jacrev, jacfwd and jvp of a linear layer must be its matrix."""
    x, parameters = samples(train, 1)[0], parameters_of(train)
    weight = train.to_dense().detach()
    assert weight.shape == (train.out_features, train.in_features)

    def apply(row: torch.Tensor) -> torch.Tensor:
        return call(train, parameters, row)

    torch.testing.assert_close(torch.func.jacrev(apply)(x), weight)
    torch.testing.assert_close(torch.func.jacfwd(apply)(x), weight)
    y, slope, *_ = torch.func.jvp(apply, (x,), (x.flip(0),))
    torch.testing.assert_close(y, weight @ x)
    torch.testing.assert_close(slope, weight @ x.flip(0))


def test_hessian_of_a_quadratic_loss(train: tn.Layer) -> None:
    """The Hessian of |y|^2 with respect to x must be 2 W^T W."""
    x, parameters = samples(train, 1)[0], parameters_of(train)
    weight = train.to_dense().detach()
    hessian = torch.func.hessian(lambda row: call(train, parameters, row).square().sum())(x)
    torch.testing.assert_close(hessian, 2 * weight.T @ weight)


def test_jvp_of_parameters(train: tn.Layer) -> None:
    """The directional derivative along the parameters themselves is their number times y."""
    x, parameters = samples(train, 3), parameters_of(train)
    y, slope, *_ = torch.func.jvp(lambda p: call(train, p, x), (parameters,), (parameters,))
    torch.testing.assert_close(slope, len(parameters) * y)


def test_forward_mode(train: tn.Layer) -> None:
    """Forward-mode autograd of the layer itself must push the tangent of x through."""
    x, tangent = samples(train, 3), samples(train, 3).flip(0)
    with forward_ad.dual_level():
        y, slope = forward_ad.unpack_dual(train(forward_ad.make_dual(x, tangent)))
    assert slope is not None
    torch.testing.assert_close(y, train(x))
    torch.testing.assert_close(slope, train(tangent))


# -- autograd's rules --------------------------------------------------------------------------


def test_graph_can_be_retained(train: tn.Layer) -> None:
    """Two backward passes of one graph must add up; a third, after freeing it, is torch's error."""
    loss = train(samples(train, 3)).square().sum()
    loss.backward(retain_graph=True)
    once = [p.grad.clone() for p in train.parameters() if p.grad is not None]
    assert len(once) == 3
    loss.backward()
    for parameter, gradient in zip(train.parameters(), once, strict=True):
        torch.testing.assert_close(parameter.grad, 2 * gradient)
    with pytest.raises(RuntimeError, match="second time"):
        loss.backward()


def test_change_in_place_is_noticed(train: tn.Layer) -> None:
    """A parameter written between forward and backward must raise, never give a wrong gradient."""
    loss = train(samples(train, 3)).square().sum()
    with torch.no_grad():
        next(train.parameters()).mul_(2)
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        loss.backward()


def test_gradient_of_one_parameter_only(train: tn.Layer) -> None:
    """autograd.grad for one tensor must equal the full backward's, and leave the others alone."""
    x, last = samples(train, 3), list(train.parameters())[-1]
    (alone,) = torch.autograd.grad(train(x).square().sum(), last)
    assert all(p.grad is None for p in train.parameters())
    train(x).square().sum().backward()
    torch.testing.assert_close(alone, last.grad)


def with_unary_steps(label: str = "") -> tn.Network:
    """A network whose backward reads sums and diagonals of tensors in place of the tensors."""
    net = tn.Network(label)
    net.input(i=3)
    net.output(o=2)
    net.bond(a=2, s=4, t=3)
    net.tensor(f"A{label}", "i o a")
    net.tensor(f"B{label}", "a t t")
    net.tensor(f"C{label}", "a s")
    net.sum("s")
    return net


@pytest.mark.parametrize("summed", [False, True], ids=["one", "sum"])
@pytest.mark.parametrize("frozen", ["", "A", "C"])
def test_gradients_of_a_double_backward(summed: bool, frozen: str) -> None:
    """They are those of a single one, also where the backward reads what tensors were made into:
    gradgradcheck only holds second gradients against the first ones of the same call."""
    nets = [with_unary_steps(), with_unary_steps("2")] if summed else with_unary_steps()
    layer = tn.Layer(nets, dtype=torch.float64, bias=True)
    for name, parameter in layer.named_parameters():
        parameter.requires_grad_(name != frozen)
    x = samples(layer, 5).requires_grad_()
    wanted = [x, *(p for p in layer.parameters() if p.requires_grad)]
    y = layer(x)
    slope = torch.randn(y.shape, dtype=y.dtype, generator=generator(3))
    once = torch.autograd.grad(layer(x), wanted, slope)
    again = torch.autograd.grad(y, wanted, slope, create_graph=True)
    for one, other in zip(once, again, strict=True):
        torch.testing.assert_close(one, other)


def test_double_backward_of_a_tensor_in_several_places() -> None:
    """Tied parameters, and one x for two inputs: each place gets its own part of the gradient."""
    net = tn.Network()
    net.input("x", a=3)
    net.input("z", b=3)
    net.output(c=3)
    net.bond(d=3)
    net.tensor("A", "a d")
    net.tensor("B", "d b")
    net.tensor("C", "b c")
    layer = tn.Layer(net, dtype=torch.float64)
    layer._parameters["B"] = layer._parameters["A"]
    wanted = [torch.randn(4, 3, dtype=torch.float64, generator=generator()).requires_grad_()]
    x = wanted[0]
    wanted += layer.parameters()
    assert len(wanted) == 3
    once = torch.autograd.grad(layer(x, x).sum(), wanted)
    again = torch.autograd.grad(layer(x, x).sum(), wanted, create_graph=True)
    for one, other in zip(once, again, strict=True):
        torch.testing.assert_close(one, other)

    a, c = layer.get_parameter("A"), layer.get_parameter("C")
    y = torch.einsum("na,ad,db,nb,bc->nc", x, a, a, x, c)
    exact = torch.autograd.grad(y.sum(), [x, a, c], create_graph=True)
    ours, theirs = (
        torch.autograd.grad(torch.stack([g.square().sum() for g in first]).sum(), [x, a, c])
        for first in (again, exact)
    )
    for one, other in zip(ours, theirs, strict=True):
        torch.testing.assert_close(one, other)


@pytest.mark.parametrize("use_reentrant", [False, True])
def test_checkpoint(train: tn.Layer, use_reentrant: bool) -> None:
    """A checkpointed layer must have the same value and gradients."""
    x = samples(train, 3).requires_grad_()
    train(x).square().sum().backward()
    expected = [x.grad, *(p.grad for p in train.parameters())]
    x.grad = None
    train.zero_grad()
    y = checkpoint(train, x, use_reentrant=use_reentrant)
    assert isinstance(y, torch.Tensor)
    torch.testing.assert_close(y, train(x))
    y.square().sum().backward()
    for tensor, gradient in zip((x, *train.parameters()), expected, strict=True):
        torch.testing.assert_close(tensor.grad, gradient)


def test_gradient_penalty(train: tn.Layer) -> None:
    """A loss on the gradient itself must train: d|dL/dx|^2/dW against functional second order."""
    x = samples(train, 3).requires_grad_()
    (slope,) = torch.autograd.grad(train(x).square().sum(), x, create_graph=True)
    slope.square().sum().backward()

    def penalty(parameters: dict[str, torch.Tensor]) -> torch.Tensor:
        inner = torch.func.grad(lambda rows: call(train, parameters, rows).square().sum())
        return inner(x.detach()).square().sum()

    expected = torch.func.grad(penalty)(parameters_of(train))
    for name, parameter in train.named_parameters():
        torch.testing.assert_close(parameter.grad, expected[name])


# -- torch.compile -----------------------------------------------------------------------------


@pytest.fixture
def fresh_dynamo() -> Iterator[None]:
    """Leave nothing compiled behind."""
    torch.compiler.reset()
    yield
    torch.compiler.reset()


@pytest.mark.usefixtures("fresh_dynamo")
@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning")
@pytest.mark.parametrize("name", ["tensor_train", "mera"])
def test_compiles_without_graph_breaks(name: str) -> None:
    """torch.compile(fullgraph=True) must trace the layer; value and gradients equal eager's."""
    layer = make_layer(TOPOLOGIES[name]())
    x = samples(layer, 3).requires_grad_()
    layer(x).square().sum().backward()
    tensors = [x, *layer.parameters()]
    expected = [tensor.grad for tensor in tensors]
    for tensor in tensors:
        tensor.grad = None
    compiled: Any = torch.compile(layer, fullgraph=True, backend="aot_eager")
    y = compiled(x)
    torch.testing.assert_close(y, layer(x))
    y.square().sum().backward()
    for tensor, gradient in zip(tensors, expected, strict=True):
        torch.testing.assert_close(tensor.grad, gradient)
    more = samples(layer, 5)
    torch.testing.assert_close(compiled(more), layer(more))
