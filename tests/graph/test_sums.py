"""Sums of networks: what the user gave is kept, variance is shared, tensors may be in common."""

from __future__ import annotations

import copy
import io
import pickle
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

import tnlayer as tn
from tests.support import oracle
from tnlayer.graph.graph import Graph

DOUBLE = torch.float64


def dense(name: str, size: int = 8, **options: Any) -> tn.Network:
    """One matrix as a network."""
    net = tn.Network(name)
    net.input(i=size)
    net.output(j=size)
    net.tensor(name, "i j", **options)
    return net


def repeated(name: str, times: int = 4) -> tn.Network:
    """A matrix to a power."""
    net = tn.Network(name)
    (wire,) = net.input([64])
    for k in range(times):
        (wire,) = net.tensor(f"{name}{k}", (wire,), out=(64,), share=f"{name}0" if k else None)
    net.output((wire,))
    return net


def place(first: bool, **options: Any) -> tn.Network:
    """One operator on the first or on the second of two sites."""
    net = tn.Network("first" if first else "second")
    net.input(a=3, b=3)
    net.output(c=3, d=3)
    net.tensor("u", "a c" if first else "b d", **options)
    net.tensor("one", "b d" if first else "a c", init="eye", trainable=False)
    return net


def gain(layer: tn.Layer) -> float:
    """Var(y) / Var(x), exactly."""
    weight = layer.to_dense().detach()
    return float(weight.abs().square().sum()) / len(weight)


# -- what is kept, and who gives the variance ------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({"value": np.arange(64.0).reshape(8, 8)}, torch.arange(64, dtype=DOUBLE).reshape(8, 8)),
        ({"init": "eye"}, torch.eye(8, dtype=DOUBLE)),
        ({"init": "ones"}, torch.ones(8, 8, dtype=DOUBLE)),
        ({"init": lambda tensor: tensor.fill_(3)}, torch.full((8, 8), 3, dtype=DOUBLE)),
    ],
    ids=["value", "eye", "ones", "callable"],
)
@pytest.mark.parametrize("beside", [{}, {"init": "zeros"}, {"isometry": "i"}, {"init": 0.5}])
def test_what_the_user_gave_is_kept(
    options: dict[str, Any], expected: torch.Tensor, beside: dict[str, Any]
) -> None:
    """A value or an init stands in the sum entry by entry, whatever the other network is."""
    layer = tn.Layer([dense("A", **options), dense("B", **beside)], dtype=DOUBLE, backend="torch")
    for _ in range(2):
        assert torch.equal(layer.get_parameter("A").detach(), expected)
        layer.reset_parameters()


def test_isometries_and_deviations_are_kept() -> None:
    """An isometry stays one, and entries of a given deviation have it."""
    nets = [dense("A", 60, isometry="i"), dense("B", 60, init=0.25), dense("C", 60)]
    layer = tn.Layer(nets, dtype=DOUBLE, backend="torch")
    a, b = (layer.get_parameter(name).detach() for name in "AB")
    torch.testing.assert_close(a.T @ a, torch.eye(60, dtype=DOUBLE))
    assert 0.24 < float(b.std()) < 0.26


def test_free_networks_make_up_for_what_the_others_lack() -> None:
    """One that gives 0.36 leaves 0.64 to the other; one that gives too much leaves 1/2."""
    for value, rest in ((0.6 * np.eye(40), 0.64), (3 * np.eye(40), 0.5), (np.zeros((40, 40)), 1)):
        layer = tn.Layer([dense("A", 40, value=value), dense("B", 40)], dtype=DOUBLE)
        free = layer.get_parameter("B").detach()
        assert float(free.square().sum()) / 40 == pytest.approx(rest)


def test_an_adapter_that_starts_at_zero_takes_no_variance() -> None:
    """Base plus A B with B = 0: the base alone has Var(y) = Var(x), and A is not zero."""
    adapter = tn.Network("adapter")
    adapter.input(i=40)
    adapter.output(j=40)
    adapter.bond(r=2)
    adapter.tensor("A", "i r")
    adapter.tensor("B", "r j", init="zeros")
    layer = tn.Layer([dense("W", 40), adapter], dtype=DOUBLE)
    assert gain(layer) == pytest.approx(1)
    assert layer.get_parameter("A").all() and not layer.get_parameter("B").any()


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float32, DOUBLE], ids=str)
def test_a_tensor_used_many_times(dtype: torch.dtype) -> None:
    """Each network gives its part, to the right power of its shared tensor."""
    nets = [repeated("A"), repeated("B", 2), repeated("C", 1)]
    layer = tn.Layer(nets, backend="torch", dtype=dtype)
    for name, times in (("A0", 4), ("B0", 2), ("C0", 1)):
        matrix = layer.get_parameter(name).detach().double().matrix_power(times)
        assert float(matrix.square().sum()) / 64 == pytest.approx(1 / 3, rel=0.1)


# -- tensors in common -----------------------------------------------------------------------------


@pytest.mark.usefixtures("backend")
@pytest.mark.parametrize("shared", [True, ("u", "one"), ["one", "u"], "u one"], ids=str)
def test_one_parameter_in_two_networks(shared: Any) -> None:
    """y and all gradients are the oracle's sums; the state has each tensor once."""
    nets = [place(True), place(False)]
    layer = tn.Layer(nets, dtype=DOUBLE, shared=shared)
    assert list(layer.state_dict()) == ["u", "one"]
    stored = {name: array.numpy() for name, array in layer.state_dict().items()}
    graphs: list[Graph] = [net.freeze() for net in nets]
    x = torch.randn(4, 9, dtype=DOUBLE, requires_grad=True)
    data = [x.detach().numpy()]
    expected = sum(oracle.evaluate(graph, data, stored) for graph in graphs)
    for _ in range(2):  # the second call takes the short way
        layer.zero_grad()
        x.grad = None
        y = layer(x)
        np.testing.assert_allclose(y.detach(), expected, rtol=1e-12)
        y.sum().backward()
        parts = [oracle.gradients(graph, data, stored, np.ones((4, 9))) for graph in graphs]
        u = layer.get_parameter("u").grad
        assert u is not None and x.grad is not None
        np.testing.assert_allclose(u, sum(of["u"] for _, of in parts), rtol=1e-12)
        np.testing.assert_allclose(x.grad, sum(of[0] for of, _ in parts), rtol=1e-12)
    with torch.no_grad():
        np.testing.assert_allclose(layer(x), expected, rtol=1e-12)


def test_shared_tensors_count_once() -> None:
    """Wherever parameters are counted for the whole layer."""
    layer = tn.Layer([place(True), place(False)], shared=True, backend="torch")
    assert layer.parameter_count == 9 == sum(p.numel() for p in layer.parameters()) - 9
    assert "parameters=9," in repr(layer)
    explanation = layer.explain()
    assert explanation.parameters == 9
    assert "parameters: 9; those that networks share count once here" in explanation
    apart = tn.Layer([dense("A"), dense("B")], backend="torch")
    assert apart.parameter_count == apart.explain().parameters == 128
    assert "count once" not in apart.explain()


@pytest.mark.parametrize("dtype", [torch.float32, DOUBLE, torch.complex64], ids=str)
def test_variance_of_networks_with_a_tensor_in_common(dtype: torch.dtype) -> None:
    """Var(y) = Var(x) of the sum, with what its terms have in common."""
    for nets in ([place(True), place(False)], [dense("u"), dense("u"), dense("u")]):
        layer = tn.Layer(nets, shared=True, backend="torch", dtype=dtype)
        assert gain(layer) == pytest.approx(1, rel=1e-4)
    powers = [repeated("u", 1), repeated("u", 3)]
    layer = tn.Layer(powers, shared="u0", backend="torch", dtype=dtype)
    assert 0.9 < gain(layer) < 1.1


def test_clashing_names_tell_of_the_argument() -> None:
    """Without shared= a name in two networks is an error that says what to pass."""
    nets = [place(True), place(False)]
    with pytest.raises(tn.SpecError, match=r"'u'.*'first'.*'second'.*shared=True or shared=\('u'"):
        tn.Layer(nets)
    with pytest.raises(tn.SpecError, match=r"'one'.*'first'.*'second'.*shared=\('one',\)"):
        tn.Layer(nets, shared=("u",))


@pytest.mark.parametrize(
    ("options", "what"),
    [
        ({"trainable": False}, "trainable"),
        ({"init": "eye"}, "init"),
        ({"init": 0.5}, "init"),
        ({"isometry": "b"}, "isometry"),
        ({"value": np.eye(3)}, "value"),
    ],
    ids=["trainable", "init", "deviation", "isometry", "value"],
)
def test_what_is_shared_must_agree(options: dict[str, Any], what: str) -> None:
    """One parameter has one way to start: the error says what differs, and where."""
    with pytest.raises(tn.SpecError, match=rf"'u'.*'first'.*'second'.*its {what}.* differs"):
        tn.Layer([place(True), place(False, **options)], shared=True)


def test_shapes_and_fixed_legs_must_agree() -> None:
    """Sharers compare full shapes, and lose a slice only if all do."""
    other = tn.Network("wide")
    other.input(a=9)
    other.output(c=9)
    other.tensor("u", "a c")
    with pytest.raises(tn.SpecError, match=r"'u'.*shape differs: \(3, 3\) and \(9, 9\)"):
        tn.Layer([place(True), other], shared="u")
    fixed = tn.Network("fixed")
    fixed.input(a=3, b=3, e=3)
    fixed.output(c=3, d=3, f=3)
    fixed.tensor("u", "a c")
    fixed.tensor("v", "b e d f")
    fixed.fix(a=0, f=0)
    with pytest.raises(tn.SpecError, match=r"'u'.*fixed indices differs"):
        tn.Layer([place(True), fixed], shared="u")


@pytest.mark.parametrize(
    ("shared", "message"),
    [
        ("w", r"'w': no network has it"),
        (("B",), r"'B': it is in one network only"),
        (3, r"must be True, False or names of tensors, got 3"),
        ((3,), "3"),
        (None, "got None"),
    ],
    ids=str,
)
def test_wrong_names(shared: Any, message: str) -> None:
    """Names that are not in two networks are refused before a clash is told."""
    with pytest.raises(tn.SpecError, match=r"'ons': no network has it.*did you mean 'one'"):
        tn.Layer([place(True), place(False)], shared="ons")
    with pytest.raises(tn.SpecError, match=message):
        tn.Layer([place(True), dense("B", 9)], shared=shared)


def test_nothing_in_common_is_no_error() -> None:
    """True shares all names that are in two networks, be there none."""
    assert tn.Layer([dense("A"), dense("B")], shared=True).parameter_count == 128
    assert tn.Layer(dense("A"), shared=True).parameter_count == 64


def test_state_copies_and_moves() -> None:
    """A layer with shared tensors loads, copies, pickles and moves like any other."""
    layer = tn.Layer([place(True), place(False)], shared=True, backend="torch")
    other = tn.Layer([place(True), place(False)], shared=True, backend="torch")
    x = torch.randn(5, 9)
    other.load_state_dict(layer.state_dict())
    assert torch.equal(other(x), layer(x))
    for made in (copy.deepcopy(layer), pickle.loads(pickle.dumps(layer))):
        assert torch.equal(made(x), layer(x))
        assert len(list(made.parameters())) == 2
    assert layer.double()(x.double()).dtype == DOUBLE
    meta = tn.Layer([place(True), place(False)], shared=True, device="meta", backend="torch")
    meta.to_empty(device="cpu").reset_parameters()
    assert gain(meta) == pytest.approx(1, rel=1e-4)


# -- one parameter in two layers -------------------------------------------------------------------


class Pair(nn.Module):
    """Two layers in a row."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.b = (tn.Layer(dense("u"), dtype=DOUBLE, bias=True) for _ in range(2))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """One layer behind the other."""
        return self.b(self.a(x))


@pytest.mark.usefixtures("backend")
@pytest.mark.parametrize("way", ["parameters", "setattr"])
@pytest.mark.parametrize("called_before", [False, True])
def test_tied_layers(way: str, called_before: bool) -> None:
    """A parameter that was put into another layer is one: values, gradients, state and copies."""
    pair = Pair()
    x = torch.randn(6, 8, dtype=DOUBLE)
    if called_before:
        pair(x)
    if way == "parameters":
        pair.b._parameters["u"] = pair.a.get_parameter("u")
    else:
        pair.b.u = pair.a.get_parameter("u")
    assert sum(name.endswith("u") for name, _ in pair.named_parameters()) == 1
    u = pair.a.get_parameter("u")
    torch.testing.assert_close(pair(x), x @ u @ u)
    pair(x).sum().backward()
    once = u.detach().clone().requires_grad_()
    (expected,) = torch.autograd.grad((x @ once @ once).sum(), once)
    torch.testing.assert_close(u.grad, expected)
    saved = io.BytesIO()
    torch.save(pair.state_dict(), saved)
    saved.seek(0)
    fresh = Pair()
    fresh.b.u = fresh.a.get_parameter("u")
    fresh.load_state_dict(torch.load(saved))
    y = pair(x).detach()
    made = [pair, copy.deepcopy(pair), pickle.loads(pickle.dumps(pair)), fresh]
    for module in made:
        assert module.b.get_parameter("u") is module.a.get_parameter("u")
        torch.testing.assert_close(module(x), y)
        with torch.no_grad():
            module.a.get_parameter("u").mul_(2)
            torch.testing.assert_close(module(x), 4 * y)
            module.a.get_parameter("u").div_(2)
    narrow = copy.deepcopy(pair).to(torch.float32)
    assert narrow.b.get_parameter("u") is narrow.a.get_parameter("u")
    torch.testing.assert_close(narrow(x.float()), (x @ u @ u).float())
    narrow.double().train()
    with torch.no_grad():
        narrow.b.get_parameter("u").zero_()
    assert not narrow(x).any()
