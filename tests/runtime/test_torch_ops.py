"""The operations of torch that kernels are: torch's own checks, and each rule by itself."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest
import torch
from torch.library import opcheck
from torch.utils.flop_counter import FlopCounterMode

import tnlayer as tn
from tests.support.each_backend import BACKENDS
from tests.support.several_inputs import two_batched_and_one_whole

by_backend = pytest.mark.parametrize("backend", BACKENDS)
ops: Any = torch.ops.tnlayer


def train_layer(backend: str, **options: Any) -> tn.Layer:
    """A tensor train from 16 features to 16, in float64."""
    net = tn.topologies.tensor_train((4, 4), (4, 4), rank=2)
    return tn.Layer(net, dtype=torch.float64, backend=backend, **options)


def arrays_of(layer: tn.Layer, *inputs: torch.Tensor) -> list[torch.Tensor]:
    """What the operations of a layer take."""
    bias = [] if layer.bias is None else [layer.bias]
    return [*inputs, *(layer.get_parameter(name) for name in layer._programs.order), *bias]


def layers(backend: str) -> list[tuple[tn.Layer, tuple[torch.Tensor, ...]]]:
    """Ten layers with inputs: dtypes, batches, strides, sums, several ports, limits."""
    plain, biased = train_layer(backend), train_layer(backend, bias=True)
    half = tn.topologies.low_rank(16, 16, rank=3)
    both = tn.Layer([plain.graph, half], dtype=torch.float64, backend=backend, bias=True)
    limited = train_layer(backend, memory_limit=2**20, batch=8)
    several = tn.Layer(two_batched_and_one_whole(), dtype=torch.float64, backend=backend)
    single = tn.Layer(half, backend=backend)
    values = tn.Layer(half, backend=backend, dtype=torch.complex64)
    draw = torch.randn
    whole = [torch.randn(shape, dtype=torch.float64) for shape in ((4, 12), (4, 3), (2,))]
    shapes = [several.graph.input_shape(port) for port in several.graph.inputs]
    whole = [
        draw((4, *shape) if port.batched else shape, dtype=torch.float64)
        for port, shape in zip(several.graph.inputs, shapes, strict=True)
    ]
    return [
        (plain, (draw(5, 16, dtype=torch.float64),)),
        (plain, (draw(1, 16, dtype=torch.float64, requires_grad=True),)),
        (plain, (draw(0, 16, dtype=torch.float64),)),
        (plain, (draw(16, 5, dtype=torch.float64).mT,)),
        (biased, (draw(40, 16, dtype=torch.float64, requires_grad=True),)),
        (both, (draw(5, 16, dtype=torch.float64, requires_grad=True),)),
        (limited, (draw(8, 16, dtype=torch.float64),)),
        (several, tuple(whole)),
        (single, (draw(3, 16, requires_grad=True),)),
        (values, (draw(3, 16, dtype=torch.complex64),)),
    ]


@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning")
@by_backend
@pytest.mark.parametrize("number", range(10))
def test_opcheck(backend: str, number: int) -> None:
    """torch's own check of schema, shapes without entries, gradients and graphs, on each."""
    layer, inputs = layers(backend)[number]
    key, arrays = layer._programs.key, arrays_of(layer, *inputs)
    opcheck(ops.contract.default, (key, arrays))
    plain = [array.detach() for array in arrays]
    opcheck(ops.contract_alone.default, (key, plain))
    mask, batch = [array.requires_grad for array in arrays], len(inputs[0])
    opcheck(ops.contract_saving.default, (key, batch, mask, plain))
    y, *saved = ops.contract_saving(key, batch, mask, plain)
    places = [*range(len(arrays))]
    opcheck(
        ops.contract_backward.default,
        (key, batch, mask, places, torch.randn_like(y), plain, saved),
    )


@by_backend
def test_gradients_of_gradients(backend: str) -> None:
    """Gradients and those of gradients are right, in forward mode and under torch.func too."""
    layer = train_layer(backend, bias=True)
    x = torch.randn(3, 16, dtype=torch.float64, requires_grad=True)
    key, arrays = layer._programs.key, arrays_of(layer, x)

    def call(*own: torch.Tensor) -> torch.Tensor:
        return ops.contract(key, list(own))

    assert torch.autograd.gradcheck(call, arrays, check_forward_ad=True)
    assert torch.autograd.gradgradcheck(call, arrays)
    own: Sequence[torch.Tensor] = [array.detach() for array in arrays]
    found = torch.func.jacrev(call)(*own)
    expected = torch.func.jacfwd(call)(*own)
    torch.testing.assert_close(found, expected)


@by_backend
def test_vmap_of_inputs_and_of_parameters(backend: str) -> None:
    """A mapped x is a part of the batch; mapped parameters go through the reference."""
    layer = train_layer(backend, bias=True)
    key, arrays = layer._programs.key, [a.detach() for a in arrays_of(layer)]
    x = torch.randn(4, 3, 16, dtype=torch.float64)

    def call(x: torch.Tensor, first: torch.Tensor) -> torch.Tensor:
        return ops.contract(key, [x, first, *arrays[1:]])

    expected = torch.stack([call(one, arrays[0]) for one in x])
    torch.testing.assert_close(torch.vmap(call, (0, None))(x, arrays[0]), expected)
    torch.testing.assert_close(torch.vmap(call, (1, None), 1)(x.mT.mT.movedim(0, 1), arrays[0]),
                               expected.movedim(0, 1))  # fmt: skip
    several = torch.stack([arrays[0] * (k + 1) for k in range(4)])
    expected = torch.stack([call(one, two) for one, two in zip(x, several, strict=True)])
    torch.testing.assert_close(torch.vmap(call)(x, several), expected)


@by_backend
def test_vmap_of_the_backward(backend: str) -> None:
    """Gradients of several y at once are those of one after the other."""
    layer = train_layer(backend)
    x = torch.randn(3, 16, dtype=torch.float64)
    key, arrays = layer._programs.key, [a.detach() for a in arrays_of(layer, x)]
    mask, places = [True] * len(arrays), [*range(len(arrays))]
    _, *saved = ops.contract_saving(key, 3, mask, arrays)

    def call(slope: torch.Tensor) -> list[torch.Tensor]:
        return ops.contract_backward(key, 3, mask, places, slope, arrays, saved)

    slopes = torch.randn(4, 3, 16, dtype=torch.float64)
    found = torch.vmap(call)(slopes)
    for number, slope in enumerate(slopes):
        for one, other in zip(found, call(slope), strict=True):
            torch.testing.assert_close(one[number], other)


@by_backend
def test_flops(backend: str) -> None:
    """A forward counts what the layer's costs say, a backward twice that, alone too."""
    layer = train_layer(backend)
    x = torch.randn(8, 16, dtype=torch.float64, requires_grad=True)
    key, arrays = layer._programs.key, arrays_of(layer, x)
    expected = layer.costs(8)[0].forward_flops
    with FlopCounterMode(display=False) as forward:
        y = ops.contract(key, arrays)
    assert forward.get_total_flops() == expected
    with FlopCounterMode(display=False) as backward:
        y.sum().backward()
    assert backward.get_total_flops() == 2 * expected


@by_backend
def test_autocast_of_the_operation(backend: str) -> None:
    """The result has autocast's dtype, the arithmetic the parameters'."""
    layer = tn.Layer(tn.topologies.low_rank(16, 16, rank=2), backend=backend)
    x = torch.randn(3, 16)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        y = ops.contract(layer._programs.key, arrays_of(layer, x.bfloat16()))
    torch.testing.assert_close(y, layer(x.bfloat16().float()).bfloat16(), atol=0, rtol=0)


def test_unknown_keys_are_refused() -> None:
    """A graph whose layer this process does not have says so."""
    with pytest.raises(tn.SpecError, match="has not built"):
        ops.contract("no such key", [torch.ones(1)])
