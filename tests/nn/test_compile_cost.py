"""What compiling a model of many equal layers makes: as much as compiling one of each shape."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from typing import Any
from unittest.mock import patch

import pytest
import torch
from torch import nn
from torch._dynamo.utils import counters

import tnlayer as tn
from tnlayer.dispatch import programs_by_batch
from tnlayer.runtime import torch_ops
from tnlayer.runtime.program import Program

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning")
SIZES = (2, 3, 5, 8, 17, 64, 100, 256)


@pytest.fixture(autouse=True)
def fresh_dynamo() -> Iterator[None]:
    """Leave nothing compiled behind."""
    torch.compiler.reset()
    counters.clear()
    yield
    torch.compiler.reset()


def model(copies: int, rank: int, backend: str) -> nn.Sequential:
    """Layers of three shapes, so many of each, with what stands between them in a model.

    Arguments:
        copies: of each shape.
        rank: tells the networks of a test from those that others have compiled.
        backend: of the layers.
    """
    T = tn.topologies.tensor_train
    nets = [
        T((4, 4), (4, 4), rank),
        T((4, 4), (4, 8), rank),
        T((4, 8), (4, 4), rank),
    ]
    layers = [tn.Layer(net, bias=True, backend=backend) for _ in range(copies) for net in nets]
    return nn.Sequential(*(part for layer in layers for part in (layer, nn.Tanh())))


def counted(made: Counter[str], name: str, function: Callable[..., Any]) -> Callable[..., Any]:
    """The function, whose calls are counted."""

    def call(*arguments: Any, **named: Any) -> Any:
        made[name] += 1
        return function(*arguments, **named)

    return call


def made_by_compiling(copies: int, rank: int, backend: str) -> Counter[str]:
    """What is planned, lowered and built in compiled training steps of eight batch sizes."""
    module, made = model(copies, rank, backend), Counter[str]()
    keys = {*torch_ops._in_graphs}  # pyright: ignore[reportPrivateUsage]
    names = ("plan_graph", "program_of")
    with (
        patch.object(
            programs_by_batch, names[0], counted(made, names[0], programs_by_batch.plan_graph)
        ),
        patch.object(
            programs_by_batch, names[1], counted(made, names[1], programs_by_batch.program_of)
        ),
        patch.object(Program, "lowered_for", counted(made, "lowered_for", Program.lowered_for)),
        patch.object(Program, "_built", counted(made, "_built", Program._built)),  # pyright: ignore
    ):
        call = torch.compile(module, fullgraph=True, backend="aot_eager")
        for batch in SIZES:
            call(torch.randn(batch, 16, requires_grad=True)).square().sum().backward()
    made["keys"] = len({*torch_ops._in_graphs} - keys)  # pyright: ignore[reportPrivateUsage]
    made["graphs"] = counters["stats"]["unique_graphs"]
    return made


@pytest.mark.parametrize(("backend", "copies", "rank"), [("torch", 3, 9), ("cpp", 8, 11)])
def test_layers_of_one_shape_are_planned_and_built_once(
    backend: str, copies: int, rank: int
) -> None:
    """24 layers of 3 shapes plan, lower, build and register what 3 layers do, and make 2 graphs
    over 8 batch sizes."""
    few = made_by_compiling(1, rank, backend)
    torch.compiler.reset()
    counters.clear()
    many = made_by_compiling(copies, rank + 1, backend)
    assert few["keys"] == 3
    assert few["_built"] or backend == "torch"
    assert many["graphs"] <= 2
    assert many == few
