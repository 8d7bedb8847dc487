"""Conv2d: torch's convolution with the kernel that the network's matrix is, by both ways."""

from __future__ import annotations

import copy
from functools import partial
from typing import Any

import pytest
import torch
from torch import nn

import tnlayer as tn

F64 = torch.float64
T = tn.topologies

CASES: dict[str, dict[str, Any]] = {
    "plain": {"kernel_size": 3},
    "stride, dilation, padding": {
        "kernel_size": (3, 2),
        "stride": (2, 1),
        "dilation": (1, 2),
        "padding": (1, 2),
    },
    "same": {"kernel_size": (4, 3), "padding": "same", "padding_mode": "reflect"},
    "valid": {"kernel_size": 2, "padding": "valid"},
    "circular": {"kernel_size": 3, "padding": 1, "padding_mode": "circular"},
    "replicate": {"kernel_size": 3, "padding": (2, 1), "padding_mode": "replicate"},
    "1 x 1": {"kernel_size": 1, "stride": (2, 3)},
    "groups": {"kernel_size": 3, "groups": 2, "padding": 1},
    "depthwise": {"kernel_size": 3, "groups": 4, "padding": 1, "bias": False},
}


def dense(case: dict[str, Any]) -> nn.Conv2d:
    """torch's own convolution of a case, from 4 to 8 channels."""
    options: dict[str, Any] = {"bias": True, **case}
    return nn.Conv2d(4, 8, **options, dtype=F64)


def ours(case: dict[str, Any], way: str = "auto") -> tn.Conv2d:
    """The same of a network with more features than needed."""
    conv = dense(case)
    features = conv.weight[0].numel()
    net = T.low_rank(features + 1, 9, rank=4)
    options: dict[str, Any] = {"bias": True, **case}
    return tn.Conv2d(net, in_channels=4, out_channels=8, way=way, dtype=F64, **options)


@pytest.mark.parametrize("way", ["auto", "patches", "kernel"])
@pytest.mark.parametrize("name", CASES)
def test_is_torchs_convolution(name: str, way: str) -> None:
    """y and the gradients are those of nn.Conv2d with that kernel, with and without N."""
    case = CASES[name]
    if way == "patches" and case.get("groups", 1) > 1:
        with pytest.raises(tn.SpecError, match="groups"):
            ours(case, way)
        return
    layer, conv = ours(case, way), dense(case)
    with torch.no_grad():
        u, v = layer.get_parameter("U"), layer.get_parameter("V")
        matrix = (u @ v)[:8, : conv.weight[0].numel()]
        conv.weight.copy_(matrix.reshape(conv.weight.shape))
        if conv.bias is not None and layer.bias is not None:
            layer.bias.copy_(conv.bias)
    torch.testing.assert_close(layer.weight, conv.weight)
    for shape in ((3, 4, 9, 8), (4, 9, 8)):
        x = torch.randn(shape, dtype=F64, requires_grad=True)
        twin = x.detach().clone().requires_grad_()
        y, expected = layer(x), conv(twin)
        torch.testing.assert_close(y, expected)
        y.square().sum().backward()
        expected.square().sum().backward()
        torch.testing.assert_close(x.grad, twin.grad)


def called(
    layer: tn.Conv2d, names: tuple[str, ...], x: torch.Tensor, *arrays: torch.Tensor
) -> torch.Tensor:
    """The layer with these arrays."""
    return torch.func.functional_call(layer, dict(zip(names, arrays, strict=True)), (x,))


def test_gradients_of_parameters() -> None:
    """Both ways give the parameters the gradients that finite differences give."""
    for way in ("patches", "kernel"):
        layer = ours(CASES["plain"], way)
        names, values = zip(*layer.named_parameters(), strict=True)
        assert names == ("V", "U", "bias")
        run = partial(called, layer, names, torch.randn(1, 4, 4, 4, dtype=F64))
        assert torch.autograd.gradcheck(run, values)


def test_it_is_a_module() -> None:
    """State, copies, other dtypes, compiled graphs and the meta device behave."""
    layer = ours(CASES["groups"])
    assert list(layer.state_dict()) == ["V", "U", "bias"]
    x = torch.randn(2, 4, 5, 5, dtype=F64)
    twin = copy.deepcopy(layer)
    assert torch.equal(twin(x), layer(x))
    assert layer.float()(x.float()).dtype == torch.float32
    compiled: Any = torch.compile(twin, backend="eager", fullgraph=True)
    torch.testing.assert_close(compiled(x), twin(x))
    net = T.low_rank(18, 8, rank=2)
    empty = tn.Conv2d(net, kernel_size=3, groups=2, device="meta")
    assert (empty.in_channels, empty.out_channels) == (4, 8)
    assert empty(torch.zeros(1, 4, 5, 5, device="meta")).shape == (1, 8, 3, 3)


def test_wrong_use() -> None:
    """Channels, options and inputs that do not fit are errors that say so."""
    net = T.low_rank(27, 16, rank=2)
    cases: list[tuple[dict[str, Any], str]] = [
        ({"kernel_size": 2}, "whole number of channels"),
        ({"kernel_size": 0}, "kernel_size"),
        ({"kernel_size": 3, "groups": 3, "in_channels": 9}, "groups"),
        ({"kernel_size": 3, "padding_mode": "odd"}, "padding_mode"),
        ({"kernel_size": 3, "padding": "same", "stride": 2}, "stride 1"),
        ({"kernel_size": 3, "in_channels": 4}, "at least"),
        ({"kernel_size": 3, "way": "fast"}, "way"),
    ]
    for options, said in cases:
        with pytest.raises(tn.SpecError, match=said):
            tn.Conv2d(net, **options)
    layer = tn.Conv2d(net, kernel_size=3)
    for shape in ((1, 4, 5, 5), (5, 5), (1, 3, 2, 5)):
        with pytest.raises(tn.SpecError):
            layer(torch.zeros(shape))
