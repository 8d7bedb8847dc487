"""torch.jit.trace and torch.fx.symbolic_trace of layers, as their users expect of nn.Linear."""

from __future__ import annotations

import copy
import io
import warnings
from collections.abc import Callable
from typing import Any, cast

import pytest
import torch
from torch import fx, nn
from torch.nn.utils import parametrize

import tnlayer as tn
from tests.support.each_backend import BACKENDS, default_backend
from tnlayer import topologies
from tnlayer.nn.padded import Padded


def bilinear() -> tn.Network:
    """Two inputs that are batched."""
    net = tn.Network("bilinear")
    net.input("x", {"i": 4})
    net.input("z", {"j": 3})
    net.output(o=5)
    net.tensor("W", "i j o")
    return net


def train() -> tn.Network:
    """16 to 16 features."""
    return topologies.tensor_train((4, 4), (4, 4), 2)


def randomly_biased(module: nn.Module) -> nn.Module:
    """With a bias that shows."""
    for name, parameter in module.named_parameters():
        if name.endswith("bias"):
            nn.init.normal_(parameter)
    return module


LAYERS: dict[str, tuple[Callable[[], nn.Module], tuple[int, ...]]] = {
    "train": (lambda: tn.Layer(train(), bias=True), (16,)),
    "mera": (lambda: tn.Layer(topologies.mera(4), bias=True), (16,)),
    "sum": (lambda: tn.Layer([train(), topologies.low_rank(16, 16, 3)], bias=True), (16,)),
    "several inputs": (lambda: tn.Layer(bilinear(), bias=True), (4, 3)),
    "padded": (lambda: Padded(train(), 14, 13, bias=True), (14,)),
}
by_layer = pytest.mark.parametrize("name", LAYERS)
by_backend = pytest.mark.parametrize("backend", BACKENDS)
by_lead = [(5,), (1,), (9,), (2, 3)]


def made(name: str, backend: str) -> tuple[nn.Module, Callable[..., tuple[torch.Tensor, ...]]]:
    """A layer, and what draws inputs for it."""
    make, features = LAYERS[name]
    with default_backend(backend):
        layer = randomly_biased(make())
    return layer, lambda *lead: tuple(torch.randn(*lead, n) for n in features)


# -- torch.jit.trace ---------------------------------------------------------------------------


@pytest.mark.crossed
@pytest.mark.filterwarnings("ignore:.*torch.jit.*:DeprecationWarning")
@by_backend
@by_layer
def test_jit_trace_save_and_load(name: str, backend: str) -> None:
    """A traced layer passes torch's own check, warns of nothing, is saved and loaded, and is right
    at other batch sizes; with and without gradients, before and after a call."""
    layer, draw = made(name, backend)
    for grad in (True, False):
        with torch.set_grad_enabled(grad):
            traced = torch.jit.trace(layer, draw(5))
        file = io.BytesIO()
        torch.jit.save(traced, file)
        file.seek(0)
        loaded = cast(nn.Module, torch.jit.load(file))
        for batch in (5, 1, 9):
            x = draw(batch)
            torch.testing.assert_close(loaded(*x), layer(*x))
    x = draw(4)
    loaded(*x).sum().backward()
    found = {key: p.grad for key, p in loaded.named_parameters()}
    layer.zero_grad()
    layer(*x).sum().backward()
    for key, parameter in layer.named_parameters():
        torch.testing.assert_close(found[key], parameter.grad)


@pytest.mark.filterwarnings("ignore:.*torch.jit.*:DeprecationWarning")
def test_jit_trace_inside_a_model() -> None:
    """A model with layers is traced whole, with several leading dimensions."""
    model = nn.Sequential(
        nn.Linear(8, 16), tn.Layer(train(), bias=True, backend="torch"), nn.ReLU()
    )
    traced = cast(nn.Module, torch.jit.trace(model, torch.randn(2, 3, 8)))
    for lead in ((2, 3), (4, 5)):
        x = torch.randn(*lead, 8)
        torch.testing.assert_close(traced(x), model(x))


# -- torch.fx.symbolic_trace -------------------------------------------------------------------


class Model(nn.Module):
    """A layer with functions around it."""

    def __init__(self, layer: nn.Module) -> None:
        super().__init__()
        self.inner = nn.Sequential(layer)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return torch.relu(self.inner(x) + 1)


@by_backend
@pytest.mark.parametrize("name", ["train", "mera", "sum", "padded"])
def test_fx_leaf(name: str, backend: str) -> None:
    """In a model a layer is one node, as nn.Linear is: it runs what it would run, is right at other
    batch sizes, trains, and survives copies."""
    layer, draw = made(name, backend)
    model = Model(layer)
    for called in (False, True):
        if called:
            model(*draw(3))
        traced = fx.symbolic_trace(model)
        calls = [node.target for node in traced.graph.nodes if node.op == "call_module"]
        assert calls == ["inner.0"]
        assert traced.get_submodule("inner.0") is layer
        for lead in by_lead:
            x = draw(*lead)
            torch.testing.assert_close(traced(*x), model(*x))
            torch.testing.assert_close(copy.deepcopy(traced)(*x), model(*x))
    traced(*draw(4)).sum().backward()
    assert all(p.grad is not None for p in layer.parameters())
    model.zero_grad()


@by_backend
@by_layer
def test_fx_of_the_layer_itself(name: str, backend: str) -> None:
    """The layer alone is recorded as torch's operations on its own parameters."""
    layer, draw = made(name, backend)
    traced = fx.symbolic_trace(layer)
    kinds = {node.op for node in traced.graph.nodes}
    assert "call_function" in kinds
    assert {key for key, _ in traced.named_parameters()} == {
        key for key, _ in layer.named_parameters()
    }
    for lead in by_lead:
        x = draw(*lead)
        torch.testing.assert_close(traced(*x), layer(*x))


def test_fx_of_a_parametrized_layer() -> None:
    """A parametrization is traced along; a swapped parameter is seen."""

    class Doubled(nn.Module):
        def forward(self, array: torch.Tensor) -> torch.Tensor:
            return 2 * array

    layer = tn.Layer(train(), bias=True, backend="torch")
    parametrize.register_parametrization(layer, "core_0", Doubled())
    x = torch.randn(3, 16)
    alone, inside = fx.symbolic_trace(layer), fx.symbolic_trace(Model(layer))
    for _ in range(2):
        torch.testing.assert_close(alone(x), layer(x))
        torch.testing.assert_close(inside(x), Model(layer)(x))
        with torch.no_grad():
            for parameter in layer.parameters():
                parameter.add_(0.5)


def test_fx_with_other_leaves() -> None:
    """A tracer that calls a layer a leaf itself, and one that calls nothing a leaf."""

    class Own(fx.Tracer):
        def __init__(self, leaves: bool) -> None:
            super().__init__()
            self.leaves = leaves

        def is_leaf_module(self, m: nn.Module, module_qualified_name: str) -> bool:
            return self.leaves

    model = nn.Sequential(nn.Linear(8, 16), tn.Layer(train(), backend="torch"))
    x = torch.randn(3, 8)
    for leaves in (False, True):
        graph = Own(leaves).trace(model)
        traced: Any = fx.GraphModule(model, graph)
        torch.testing.assert_close(traced(x), model(x))


def test_tracing_changes_nothing_for_calls() -> None:
    """After a trace calls run as before, the short way included, and nobody is warned."""
    layer = tn.Layer(train(), bias=True, backend="torch")
    x = torch.randn(3, 16)
    before = layer(x)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        warnings.filterwarnings("ignore", message=".*torch.jit", category=DeprecationWarning)
        fx.symbolic_trace(nn.Sequential(layer))
        torch.jit.trace(layer, x)
    assert torch.equal(layer(x), before)
    assert layer._fast is not None and layer._fast(layer, (x,)) is not None
