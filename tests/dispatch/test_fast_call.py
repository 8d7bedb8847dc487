"""Calls that are spared the checks: whatever changes after a first call, the next one is right."""

from __future__ import annotations

import copy
import io
from collections.abc import Callable

import pytest
import torch
from torch.nn.utils import parametrize
from torch.overrides import TorchFunctionMode
from torch.utils.flop_counter import FlopCounterMode

import tnlayer as tn
from tests.support.cpp_units import has_compiler
from tnlayer import topologies
from tnlayer.dispatch.fast_call import FastCall
from tnlayer.runtime.torch_guards import guard_of

zeros = torch._efficientzerotensor  # pyright: ignore[reportPrivateImportUsage]
BACKENDS = (
    "torch",
    pytest.param("cpp", marks=pytest.mark.skipif(not has_compiler(), reason="no C++ compiler")),
)


@pytest.fixture(params=BACKENDS)
def layer(request: pytest.FixtureRequest) -> tn.Layer:
    """A layer with a bias, after a call that was checked."""
    made = tn.Layer(
        topologies.tensor_train((4, 4), (4, 4), rank=2), bias=True, backend=request.param
    )
    with torch.no_grad():
        made.get_parameter("bias").normal_()
        made(torch.randn(3, 16))
    assert made._fast is not None
    return made


def check(layer: tn.Layer, x: torch.Tensor) -> None:
    """The layer's result is that of its matrix, with and without gradients."""
    with torch.no_grad():
        expected = x.to(layer.dtype) @ layer.to_dense().mT + layer.get_parameter("bias")
        torch.testing.assert_close(layer(x), expected)
    torch.testing.assert_close(layer(x).detach(), expected)


def runs_fast(layer: tn.Layer, x: torch.Tensor) -> bool:
    """Whether a call would be spared the checks."""
    assert layer._fast is not None
    return layer._fast(layer, (x,)) is not None


def test_like_calls_run_fast(layer: tn.Layer) -> None:
    """Other entries, another batch and other memory are no reason for checks."""
    for batch in (3, 1, 0, 17):
        assert runs_fast(layer, torch.randn(batch, 16))
        check(layer, torch.randn(batch, 16))


@pytest.mark.parametrize("shape", [(16,), (2, 3, 16), (2, 0, 16), (1, 1, 1, 16)])
def test_leading_dimensions(layer: tn.Layer, shape: tuple[int, ...]) -> None:
    """Each number of leading dimensions has its checked call, and then runs fast."""
    check(layer, torch.randn(shape))
    assert runs_fast(layer, torch.randn(shape))
    check(layer, torch.randn(shape))
    assert layer(torch.randn(shape)).shape == shape
    check(layer, torch.randn(4, 16))


def swap_entries(layer: tn.Layer) -> None:
    with torch.no_grad():
        for parameter in layer.parameters():
            parameter.mul_(2)


def swap_memory(layer: tn.Layer) -> None:
    for parameter in layer.parameters():
        parameter.data = torch.randn_like(parameter)


def swap_strides(layer: tn.Layer) -> None:
    for parameter in layer.parameters():
        dims = tuple(reversed(range(parameter.dim())))
        parameter.data = torch.randn(tuple(reversed(parameter.shape))).permute(dims)


def swap_parameters(layer: tn.Layer) -> None:
    for name, parameter in list(layer._parameters.items()):
        assert parameter is not None
        layer._parameters[name] = torch.nn.Parameter(torch.randn_like(parameter))


def swap_state(layer: tn.Layer) -> None:
    state = {name: torch.randn_like(value) for name, value in layer.state_dict().items()}
    layer.load_state_dict(state)


def swap_dtype(layer: tn.Layer) -> None:
    layer.double()


def freeze_all(layer: tn.Layer) -> None:
    layer.requires_grad_(False)


def share_memory(layer: tn.Layer) -> None:
    names = [name for name in layer._parameters if name != "bias"]
    flat = torch.randn(1000)
    for name in names:
        parameter = layer.get_parameter(name)
        parameter.data = flat[: parameter.numel()].view(parameter.shape)


class Doubled(torch.nn.Module):
    """A parametrization: what the layer computes with is made at each call."""

    def forward(self, array: torch.Tensor) -> torch.Tensor:
        return 2 * array


def parametrize_one(layer: tn.Layer) -> None:
    name = next(name for name in layer._parameters if name != "bias")
    parametrize.register_parametrization(layer, name, Doubled())


CHANGES: dict[str, Callable[[tn.Layer], None]] = {
    "entries": swap_entries,
    "memory": swap_memory,
    "strides": swap_strides,
    "parameters": swap_parameters,
    "state": swap_state,
    "dtype": swap_dtype,
    "frozen": freeze_all,
    "shared": share_memory,
    "parametrized": parametrize_one,
}


@pytest.mark.parametrize("change", CHANGES)
def test_changed_parameters(layer: tn.Layer, change: str) -> None:
    """Whatever is done to parameters between two calls, the second one sees it."""
    CHANGES[change](layer)
    for _ in range(2):
        check(layer, torch.randn(3, 16, dtype=layer.dtype))
    x = torch.randn(3, 16, dtype=layer.dtype, requires_grad=True)
    layer(x).sum().backward()
    assert x.grad is not None
    torch.testing.assert_close(x.grad, layer.to_dense().sum(0).detach().expand(3, 16))
    assert all((p.grad is not None) == p.requires_grad for p in layer.parameters())


def test_other_inputs(layer: tn.Layer) -> None:
    """Inputs that lie otherwise in memory, or are meant negated, give the same numbers."""
    x = torch.randn(3, 16)
    for other in (
        torch.randn(16, 3).T,
        torch.randn(6, 16)[::2],
        torch.randn(3, 32)[:, ::2],
        torch.imag(torch.complex(x, -x).conj()),
        torch.randn(1, 16).expand(3, 16),
        torch.nn.Parameter(x),
    ):
        check(layer, other)
        check(layer, x)


def test_errors_stay(layer: tn.Layer) -> None:
    """A wrong input after a right one is refused in the same words as before any."""
    fresh = copy.deepcopy(layer)
    assert fresh._fast is None
    wrong = (
        (torch.randn(3, 15),),
        (torch.randn(()),),
        (torch.randn(3, 16).double(),),
        (torch.ones(3, 16, dtype=torch.int64),),
        (torch.randn(3, 16, device="meta"),),
        (torch.randn(3, 16), torch.randn(3, 16)),
        (),
    )
    for inputs in wrong:
        messages: list[str] = []
        for one in (layer, fresh):
            with pytest.raises(tn.SpecError) as error:
                one(*inputs)
            messages.append(str(error.value))
        assert messages[0] == messages[1]
    assert runs_fast(layer, torch.randn(3, 16))


class Watching(TorchFunctionMode):
    """A mode that only looks."""

    def __torch_function__(self, func, types, args=(), kwargs=None):  # type: ignore[no-untyped-def]
        return func(*args, **(kwargs or {}))


def test_parametrized_layers(layer: tn.Layer) -> None:
    """Arrays that are made at each call take the short way, with their gradients, too."""
    x = torch.randn(3, 16)
    before = layer(x)
    parametrize.register_parametrization(layer, "core_0", Doubled())
    bias = layer.get_parameter("bias")
    for grad in (False, True):
        with torch.set_grad_enabled(grad):
            for _ in range(2):
                torch.testing.assert_close(layer(x), 2 * before - bias)
            assert runs_fast(layer, x)
    layer(x).sum().backward()
    assert all(p.grad is not None for p in layer.parameters())


class Marked(torch.Tensor):
    """A class of tensors of a user's own."""


def test_modes_and_transforms(layer: tn.Layer) -> None:
    """Autocast, inference mode, transforms, modes and subclasses take the way that they need."""
    x = torch.randn(3, 16)
    with torch.no_grad():
        expected = x @ layer.to_dense().mT + layer.get_parameter("bias")
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert not runs_fast(layer, x)
        for _ in range(2):
            torch.testing.assert_close(layer(x), expected.bfloat16())
        assert runs_fast(layer, x)
        assert layer(x.bfloat16()).dtype == torch.bfloat16
    with torch.inference_mode():
        for _ in range(2):
            torch.testing.assert_close(layer(x), expected)
    torch.testing.assert_close(layer(x), expected)
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        layer(x)
    assert counter.get_total_flops() > 0
    with Watching():
        torch.testing.assert_close(layer(x), expected)
    with torch.device("meta"):
        torch.testing.assert_close(layer(x), expected)
    torch.testing.assert_close(layer(x.as_subclass(Marked)).as_subclass(torch.Tensor), expected)
    torch.testing.assert_close(torch.vmap(layer)(torch.stack([x, x]))[1], expected)
    found, tangent = torch.func.jvp(layer, (x,), (x,))[:2]
    torch.testing.assert_close(found, expected)
    torch.testing.assert_close(tangent, expected - layer.get_parameter("bias"))
    jacobian = torch.func.jacrev(layer)(x[0])
    torch.testing.assert_close(jacobian, layer.to_dense())
    changed = {name: 2 * value for name, value in layer.named_parameters()}
    called = torch.func.functional_call(layer, changed, (x,))
    assert not torch.allclose(called, expected)
    check(layer, x)


def test_tracing_sees_torch_calls(layer: tn.Layer) -> None:
    """make_fx, export and torch.compile do not record a checked call."""
    from torch.fx.experimental.proxy_tensor import make_fx

    x, other = torch.randn(3, 16), torch.randn(3, 16)
    with torch.no_grad():
        traced = make_fx(layer)(x)
        torch.testing.assert_close(traced(other), layer(other))
    exported = torch.export.export(layer, (x,)).module()
    torch.testing.assert_close(exported(other), layer(other))
    compiled = torch.compile(layer, backend="eager", fullgraph=True)
    torch.testing.assert_close(compiled(x), layer(x))


def test_saved_tensors_may_be_packed(layer: tn.Layer) -> None:
    """Hooks may hand other tensors to the backward than the forward saved."""
    x = torch.randn(3, 16, requires_grad=True)
    layer(x).sum().backward()
    wanted = [p.grad.clone() for p in layer.parameters() if p.grad is not None]
    layer.zero_grad()

    def unpack(array: torch.Tensor) -> torch.Tensor:
        dims = tuple(reversed(range(array.dim())))
        return array.permute(dims).contiguous().permute(dims).float()

    with torch.autograd.graph.saved_tensors_hooks(lambda array: array.double(), unpack):
        layer(x).sum().backward()
    found = [p.grad for p in layer.parameters()]
    torch.testing.assert_close(found, wanted)


def test_gradients_of_any_strides(layer: tn.Layer) -> None:
    """A backward that is like an earlier one reads a gradient as it lies: expanded, transposed or
    without memory."""
    x = torch.randn(3, 16, requires_grad=True)
    leaves = (x, *layer.parameters())
    plain = torch.randn(3, 16)
    slopes = (plain, torch.randn(1, 16).expand(3, 16), torch.randn(16, 3).T, zeros((3, 16)))
    for slope in (*slopes, plain):
        found = torch.autograd.grad(layer(x), leaves, slope)
        meant = torch.zeros(3, 16).add_(slope)
        torch.testing.assert_close(found, torch.autograd.grad(layer(x), leaves, meant))
        torch.testing.assert_close(found[0], meant @ layer.to_dense().detach())


@pytest.mark.parametrize("changed", range(3))
def test_changes_in_place_are_seen(layer: tn.Layer, changed: int) -> None:
    """A backward after x or a parameter was changed in place is an error, not a wrong gradient."""
    x = torch.randn(3, 16)
    assert runs_fast(layer, x)
    arrays = [x, *(array for name, array in layer.named_parameters() if name != "bias")]
    assert len(arrays) == 3
    y = layer(x)
    with torch.no_grad():
        arrays[changed].mul_(2)
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        y.sum().backward()


def test_copies_start_anew(layer: tn.Layer) -> None:
    """A copied, pickled or saved layer has checked nothing yet."""
    buffer = io.BytesIO()
    torch.save(layer, buffer)
    buffer.seek(0)
    for one in (copy.deepcopy(layer), torch.load(buffer, weights_only=False)):
        assert one._fast is None
        check(one, torch.randn(3, 16))
        assert isinstance(one._fast, FastCall)


def test_sums_with_buffers() -> None:
    """Summed networks, one with a constant, find their own arrays."""
    first = topologies.low_rank(16, 16, rank=2)
    second = tn.Network("constant")
    second.input(i=16)
    second.output(j=16)
    second.bond(r=3)
    second.tensor("C", "i r", value=torch.randn(16, 3).numpy(), trainable=False)
    second.tensor("D", "r j")
    layer = tn.Layer([first, second], bias=True)
    for _ in range(3):
        check(layer, torch.randn(5, 16))
    assert layer._fast is not None and runs_fast(layer, torch.randn(2, 16))


def test_without_torchs_guards(layer: tn.Layer, monkeypatch: pytest.MonkeyPatch) -> None:
    """A torch that has no such guards is served the long way."""
    monkeypatch.setattr("tnlayer.runtime.torch_guards.TensorGuards", None)
    fresh = copy.deepcopy(layer)
    check(fresh, torch.randn(3, 16))
    assert fresh._fast is None


def test_guards_tell_tensors_apart() -> None:
    """torch's guard sees each difference that a kernel would stumble over."""
    x, w = torch.randn(3, 4), torch.nn.Parameter(torch.randn(2, 5))
    guard = guard_of((x, w), (1, 0))
    assert guard is not None and guard(x, w) and guard(torch.randn(7, 4), w)
    assert guard_of((w, w), (0, 0)) is None
    fresh = torch.nn.Parameter
    for first, second in (
        (torch.randn(3, 5), w),
        (torch.randn(1, 3, 4), w),
        (x.double(), w),
        (x.to("meta"), w),
        (x.to_sparse(), w),
        (torch.imag(torch.complex(x, -x).conj()), w),
        (x.clone().requires_grad_(), w),
        (x.as_subclass(Marked), w),
        (x, fresh(torch.randn(5, 2).T)),
        (x, fresh(torch.randn(2, 5), requires_grad=False)),
        (x, torch.randn(2, 5)),
        (x, None),
    ):
        assert not guard(first, second)
