"""The cpp backend on unusual arrays, and where torch wants to see or repeat what runs."""

from __future__ import annotations

from collections.abc import Callable
from itertools import product
from typing import cast

import pytest
import torch
from torch import nn

import tnlayer as tn
from tests.support.cpp_units import has_compiler, programs_of
from tests.support.each_backend import default_backend
from tnlayer import topologies
from tnlayer.backends.cpp_program import CppProgram

pytestmark = pytest.mark.skipif(not has_compiler(), reason="no C++ compiler")

# Legs are the lanes of the first, samples those of the second.
NETWORKS: dict[str, Callable[[], tn.Network]] = {
    "legs": lambda: topologies.tensor_train((2,) * 8, (2,) * 8, rank=2),
    "samples": lambda: topologies.tensor_train((3, 2), (2, 3), rank=2),
}
negative = torch._neg_view  # pyright: ignore[reportPrivateImportUsage]
zeros_without_memory = torch._efficientzerotensor  # pyright: ignore[reportPrivateImportUsage]
by_schedule = pytest.mark.parametrize("name", NETWORKS)


def pair_of(net: tn.Network, dtype: torch.dtype = torch.float32) -> tuple[tn.Layer, tn.Layer]:
    """A compiled layer, and a torch layer with the same parameters."""
    with default_backend("cpp"):
        layer = tn.Layer(net, dtype=dtype)
        layer.prepare()
    reference = tn.Layer(net, backend="torch", dtype=dtype)
    reference.load_state_dict(layer.state_dict())
    return layer, reference


@pytest.fixture(scope="module")
def pairs() -> dict[str, tuple[tn.Layer, tn.Layer]]:
    """Both networks, compiled and in torch."""
    return {name: pair_of(make()) for name, make in NETWORKS.items()}


def gradients(layer: tn.Layer, x: torch.Tensor, slope: torch.Tensor) -> list[torch.Tensor]:
    """y, and the gradients of x and the parameters."""
    x = x.detach().requires_grad_()
    y = layer(x)
    return [y.detach(), *torch.autograd.grad(y, [x, *layer.parameters()], slope)]


# -- memory ------------------------------------------------------------------------------------


def shifted(array: torch.Tensor, entries: int) -> torch.Tensor:
    """The same entries, so many entries behind the start of a page-aligned block."""
    room = torch.full((array.numel() + entries,), torch.nan, dtype=array.dtype)
    found = room[entries:].view(array.shape)
    return found.copy_(array)


@by_schedule
@pytest.mark.parametrize("entries", [1, 3, 8, 15])
def test_misaligned_arrays(
    pairs: dict[str, tuple[tn.Layer, tn.Layer]], name: str, entries: int
) -> None:
    """x, the gradient and the parameters need no alignment: the results are equal to the bit."""
    layer, _ = pairs[name]
    x, slope = torch.randn(19, layer.in_features), torch.randn(19, layer.out_features)
    expected = gradients(layer, x, slope)
    moved = {key: nn.Parameter(shifted(p.detach(), entries)) for key, p in layer.named_parameters()}
    own = dict(layer._parameters)
    try:
        layer._parameters.update(moved)
        found = gradients(layer, shifted(x, entries), shifted(slope, entries))
    finally:
        layer._parameters.update(own)
    assert all(torch.equal(a, b) for a, b in zip(found, expected, strict=True))


def test_negative_and_conjugate_views() -> None:
    """Lazy negatives and conjugates of x, parameters and the gradient are resolved."""
    layer, reference = pair_of(topologies.low_rank(5, 4, rank=2), torch.complex64)
    x, slope = (torch.randn(6, n, dtype=torch.complex64) for n in (5, 4))
    for view in (torch.conj, negative, lambda a: negative(a.conj())):
        assert view(x).is_conj() or view(x).is_neg()
        found = gradients(layer, view(x), view(slope))
        expected = gradients(reference, view(x), view(slope))
        for a, b in zip(found, expected, strict=True):
            torch.testing.assert_close(a, b)
    arrays = {key: p.detach().conj() for key, p in layer.named_parameters()}
    found = torch.func.functional_call(layer, arrays, (x,))
    torch.testing.assert_close(found, torch.func.functional_call(reference, arrays, (x,)))
    imaginary, _ = pair_of(topologies.low_rank(5, 4, rank=2))
    assert x.conj().imag.is_neg()
    torch.testing.assert_close(imaginary(x.conj().imag), imaginary(-x.imag))


@by_schedule
def test_zero_tensors_have_no_memory(
    pairs: dict[str, tuple[tn.Layer, tn.Layer]], name: str
) -> None:
    """torch's zero tensors, which stand for zeros without memory, are zeros: as x and gradient."""
    layer, reference = pairs[name]
    x = zeros_without_memory((3, layer.in_features))
    with torch.no_grad():
        assert torch.equal(layer(x), torch.zeros(3, layer.out_features))
    assert torch.equal(layer(x), reference(x))
    slope = zeros_without_memory((3, layer.out_features))
    for gradient in gradients(layer, torch.ones(3, layer.in_features), slope)[1:]:
        assert torch.equal(gradient, torch.zeros_like(gradient))


@by_schedule
def test_sparse_input(pairs: dict[str, tuple[tn.Layer, tn.Layer]], name: str) -> None:
    """A sparse x gives what its dense entries give."""
    layer, _ = pairs[name]
    x = torch.randn(3, layer.in_features) * (torch.rand(3, layer.in_features) < 0.4)
    assert torch.equal(layer(x.to_sparse()), layer(x))
    with torch.no_grad():
        assert torch.equal(layer(x.to_sparse()), layer(x))


def test_arrays_elsewhere_are_refused(pairs: dict[str, tuple[tn.Layer, tn.Layer]]) -> None:
    """x on another device than the parameters is an error that names both."""
    layer, _ = pairs["legs"]
    for call in (torch.no_grad()(layer), layer):
        with pytest.raises(tn.SpecError, match="on meta, the parameters on cpu"):
            call(torch.empty(3, layer.in_features, device="meta"))


# -- which gradients ---------------------------------------------------------------------------


def test_every_mask_of_wanted_gradients() -> None:
    """Each subset of x and parameters has its own backward, and each gives the same gradients."""
    with default_backend("cpp"):
        layer = tn.Layer(topologies.tensor_train((2, 3), (3, 2), rank=2), dtype=torch.float64)
        x = torch.randn(5, 6, dtype=torch.float64)
        leaves = [x, *layer.parameters()]
        y = layer(x.requires_grad_())
        slope = torch.randn_like(y)
        expected = torch.autograd.grad(y, leaves, slope)
        for mask in product((False, True), repeat=len(leaves)):
            for leaf, wanted in zip(leaves, mask, strict=True):
                leaf.requires_grad_(wanted)
                leaf.grad = None
            y = layer(x)
            assert y.requires_grad == any(mask)
            if any(mask):
                y.backward(slope)
            for leaf, wanted, gradient in zip(leaves, mask, expected, strict=True):
                assert (leaf.grad is not None) == wanted
                if leaf.grad is not None:
                    torch.testing.assert_close(leaf.grad, gradient)


def test_one_parameter_under_two_names() -> None:
    """A parameter that a user ties to another gets the sum of both gradients."""
    layer, reference = pair_of(topologies.low_rank(4, 4, rank=4))
    for one in (layer, reference):
        one._parameters["V"] = one._parameters["U"]
        with torch.no_grad():
            one.get_parameter("U").copy_(torch.arange(16.0).view(4, 4) / 8 - 1)
        one(torch.ones(3, 4)).square().sum().backward()
    found, expected = (one.get_parameter("U").grad for one in (layer, reference))
    torch.testing.assert_close(found, expected)


@by_schedule
def test_a_frozen_layer_runs_compiled(
    pairs: dict[str, tuple[tn.Layer, tn.Layer]], name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without any gradient to take, kernels run in grad mode, too: torch's code never stands in."""
    layer, reference = pairs[name]
    x = torch.randn(3, layer.in_features)
    expected = reference(x).detach()
    (program,) = programs_of(layer)
    monkeypatch.setattr(program, "reference", None)
    layer.requires_grad_(False)
    try:
        y = layer(x)
    finally:
        layer.requires_grad_(True)
    assert not y.requires_grad
    torch.testing.assert_close(y, expected)


# -- what torch sees ---------------------------------------------------------------------------


@by_schedule
def test_batched_gradients(pairs: dict[str, tuple[tn.Layer, tn.Layer]], name: str) -> None:
    """Many gradients of y at once, as torch's vectorised Jacobians ask for them."""
    layer, reference = pairs[name]
    x = torch.randn(3, layer.in_features, requires_grad=True)
    slopes = torch.randn(5, 3, layer.out_features)
    found, expected = (
        torch.autograd.grad(one(x), [x, *one.parameters()], slopes, is_grads_batched=True)
        for one in (layer, reference)
    )
    for a, b in zip(found, expected, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-4)
    jacobian = torch.autograd.functional.jacobian(layer, x[0], vectorize=True)
    assert isinstance(jacobian, torch.Tensor)
    torch.testing.assert_close(jacobian, layer.to_dense().detach())


@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::torch.jit.TracerWarning")
@pytest.mark.parametrize("grad_mode", [False, True])
@by_schedule
def test_jit_trace(pairs: dict[str, tuple[tn.Layer, tn.Layer]], name: str, grad_mode: bool) -> None:
    """A trace holds operations of torch, never the entries that a kernel gave once."""
    layer, reference = pairs[name]
    with torch.set_grad_enabled(grad_mode):
        traced = torch.jit.trace(layer, torch.ones(3, layer.in_features), check_trace=False)
        x = torch.randn(5, layer.in_features)
        torch.testing.assert_close(cast(nn.Module, traced)(x), reference(x))


def test_compiled_programs_are_tested(pairs: dict[str, tuple[tn.Layer, tn.Layer]]) -> None:
    """One of the layers has legs as its lanes, one samples."""
    blocks = {name: programs_of(layer)[0].programs()[0].block for name, (layer, _) in pairs.items()}
    assert blocks["legs"] == 1 and blocks["samples"] > 1
    assert all(isinstance(programs_of(layer)[0], CppProgram) for layer, _ in pairs.values())
