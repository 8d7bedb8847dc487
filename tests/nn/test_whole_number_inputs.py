"""Ports for whole numbers: one-hot vectors as torch makes them, cast to the layer's dtype."""

from __future__ import annotations

import pytest
import torch

import tnlayer as tn
from tests.support.emulated import emulated_gpu
from tnlayer.runtime.program import Program

__all__ = ["emulated_gpu"]  # the fixture

WORDS, FEATURES = (3, 4, 5), (2, 3, 2)


def embedding(dtype: object = torch.int64) -> tn.Network:
    """A tensorised embedding of 60 words in 12 features, one input a digit."""
    net = tn.Network("embedding")
    for k, size in enumerate(WORDS):
        net.input(f"w{k}", {f"v{k}": size})
        net.port(f"w{k}", dtype=dtype)
    net.output(**{f"d{k}": size for k, size in enumerate(FEATURES)})
    net.bond(a=2, b=3)
    net.tensor("G0", "v0 d0 a")
    net.tensor("G1", "a v1 d1 b")
    net.tensor("G2", "b v2 d2")
    return net


def digits(ids: torch.Tensor) -> tuple[torch.Tensor, ...]:
    """The one-hot vectors of the digits of each id."""
    parts = (ids // 20, ids // 5 % 4, ids % 5)
    return tuple(torch.nn.functional.one_hot(p, n) for p, n in zip(parts, WORDS, strict=True))


def check_rows(layer: tn.Layer, dtype: torch.dtype) -> None:
    """Rows are those of the table, and gradients those of looking them up."""
    ids = torch.arange(60).reshape(4, 15).flip(0)
    y = layer(*(x.to(dtype) for x in digits(ids)))
    arrays = [layer.get_parameter(f"G{k}") for k in range(3)]
    table = torch.einsum("xda,ayeb,bzf->xyzdef", *arrays).reshape(60, 12)
    assert torch.allclose(y, table[ids])
    weights = torch.randn(y.shape, dtype=y.dtype, generator=torch.Generator().manual_seed(1))
    wanted = torch.autograd.grad((table[ids] * weights).sum(), arrays)
    found = torch.autograd.grad((y * weights).sum(), arrays)
    for one, other in zip(wanted, found, strict=True):
        assert torch.allclose(one, other)
    with torch.no_grad():
        assert torch.allclose(layer(*(x.to(dtype) for x in digits(ids))), table[ids])


@pytest.mark.parametrize("dtype", [torch.int64, torch.uint8, torch.bool])
def test_embedding(backend: str, dtype: torch.dtype) -> None:
    """int64, uint8 and bool are taken where a port says so, on each backend."""
    layer = tn.Layer(embedding(dtype), dtype=torch.float64)
    check_rows(layer, dtype)
    complex_layer = tn.Layer(embedding(dtype), dtype=torch.complex128)
    y = complex_layer(*(x.to(dtype) for x in digits(torch.arange(3))))
    assert y.dtype == torch.complex128
    assert backend in ("torch", "cpp")


def test_auto_and_tune() -> None:
    """Mixed plans and timed ones take whole numbers, too."""
    layer = tn.Layer(embedding(), dtype=torch.float64)
    check_rows(layer, torch.int64)
    check_rows(layer.tune(*digits(torch.arange(8))), torch.int64)
    check_rows(tn.Layer(embedding(), dtype=torch.float64, backend="torch").tune(), torch.int64)


@pytest.mark.usefixtures("emulated_gpu")
def test_cuda() -> None:
    """CUDA kernels read the vectors as floats."""
    layer = tn.Layer(embedding(), dtype=torch.float64, backend="cuda")
    check_rows(layer, torch.int64)


def test_no_gradient_is_planned_for() -> None:
    """A training step of such a layer has the gradients of parameters only."""
    program = tn.compile(embedding(), backend="torch")
    assert isinstance(program, Program)
    assert program.training_mask() == (False,) * 3 + (True,) * 3
    free = tn.cost(embedding(None), backend="torch")
    assert tn.cost(embedding(), backend="torch").backward_flops < free.backward_flops


def test_other_dtypes_are_refused() -> None:
    """A float for a port of whole numbers, and another kind of those."""
    layer = tn.Layer(embedding(), backend="torch")
    ids = digits(torch.arange(3))
    with pytest.raises(
        tn.SpecError, match=r"input 'w1' must have dtype torch.int64, got .*float32"
    ):
        layer(ids[0], ids[1].float(), ids[2])
    with pytest.raises(tn.SpecError, match=r"declare it with net.port\('w0', dtype=torch.bool\)"):
        layer(ids[0].bool(), *ids[1:])


def test_advice_for_whole_numbers_can_be_followed() -> None:
    """An int64 x is told of the port's dtype, and not to make a layer of dtype int64."""
    layer = tn.Layer(tn.topologies.low_rank(4, 3, rank=2), backend="torch")
    with pytest.raises(tn.SpecError, match=r"net.port\('x', dtype=torch.int64\)") as error:
        layer(torch.ones(2, 4, dtype=torch.int64))
    assert "make the layer with" not in str(error.value)
    with pytest.raises(tn.SpecError, match=r"make the layer with dtype=torch.float64"):
        layer(torch.ones(2, 4, dtype=torch.float64))
    net = tn.topologies.low_rank(4, 3, rank=2)
    net.port("x", dtype="int64")
    assert tn.Network.from_json(net.to_json()).freeze() == net.freeze()
    x = torch.tensor([[1, 2, 3, 4]])
    made = tn.Layer(net, backend="torch")
    assert torch.allclose(made(x), x.float() @ made.to_dense().T)
    with pytest.raises(tn.SpecError, match=r"dtype=torch.int64 is not supported"):
        tn.Layer(net, dtype=torch.int64)
