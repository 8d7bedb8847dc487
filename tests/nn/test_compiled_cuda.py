"""CUDA kernels inside torch.compile, on an emulated GPU: the same code as on the CPU."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import torch

import tnlayer as tn
from tests.support.emulated import emulated_gpu, launches

__all__ = ["emulated_gpu"]  # the fixture

pytestmark = [
    pytest.mark.usefixtures("emulated_gpu", "fresh_dynamo"),
    pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning"),
]


@pytest.fixture
def fresh_dynamo() -> Iterator[None]:
    """Leave nothing compiled behind."""
    torch.compiler.reset()
    yield
    torch.compiler.reset()


@pytest.mark.parametrize("backend", ["eager", "aot_eager", "inductor"])
def test_cuda_kernels_run_inside(backend: str) -> None:
    """A compiled training step launches what an eager one launches, and gives the same."""
    net = tn.topologies.tensor_train((4, 4), (4, 4), rank=2)
    layer = tn.Layer(net, bias=True, backend="cuda")
    call = torch.compile(layer, fullgraph=True, backend=backend)
    for batch in (3, 40):
        x = torch.randn(batch, 16, requires_grad=True)
        arrays = [x, *layer.parameters()]
        call(x).sum().backward()  # kernels are built
        launches()
        expected = torch.autograd.grad(layer(x).square().sum(), arrays)
        eager = [launch.name for launch in launches()]
        found = torch.autograd.grad(call(x).square().sum(), arrays)
        compiled = [launch.name for launch in launches()]
        assert eager and compiled == eager
        for one, other in zip(found, expected, strict=True):
            torch.testing.assert_close(one, other)
