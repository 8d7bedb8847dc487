"""A layer is called, changed and read as nn.Linear is."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any
from unittest.mock import patch

import pytest
import torch
import torch.distributed as dist
from torch import nn
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import fully_shard
from torch.nn.modules.module import register_module_parameter_registration_hook
from torch.nn.utils import prune

import tnlayer as tn
from tests.support.each_backend import BACKENDS
from tnlayer.nn.padded import Padded

by_backend = pytest.mark.parametrize("backend", BACKENDS)


def small_train() -> tn.Network:
    """A tensor train from 16 features to 16."""
    return tn.topologies.tensor_train((4, 4), (4, 4), rank=2)


def bilinear(first: str = "x", second: str = "z") -> tn.Network:
    """Two inputs that are batched."""
    net = tn.Network("bilinear")
    net.input(first, {"i": 4})
    net.input(second, {"j": 3})
    net.output(o=5)
    net.tensor("W", "i j o")
    return net


# -- how it is called --------------------------------------------------------------------------


@by_backend
def test_input_by_name(backend: str) -> None:
    """The one input may be called ``input``, or by the name of its port."""
    layer, x = tn.Layer(small_train(), bias=True, backend=backend), torch.randn(5, 16)
    for _ in range(2):
        torch.testing.assert_close(layer(input=x), layer(x))
        torch.testing.assert_close(layer(**{layer.graph.inputs[0].name: x}), layer(x))


def test_inputs_by_their_ports() -> None:
    """Several inputs may come by name, also where a later one is called ``input``."""
    layer, x, z = tn.Layer(bilinear(), backend="torch"), torch.randn(5, 4), torch.randn(5, 3)
    y = layer(x, z)
    for call in (
        lambda: layer(x, z=z),
        lambda: layer(z=z, x=x),
        lambda: layer(input=x, z=z),
    ):
        torch.testing.assert_close(call(), y)
    other = tn.Layer(bilinear("z", "input"), backend="torch")
    torch.testing.assert_close(other(z=x, input=z), other(x, z))


@pytest.mark.parametrize("names", [("q",), ("x", "q"), ("x", "z", "q")])
def test_unknown_names_are_refused(names: tuple[str, ...]) -> None:
    """A name that no port has is told, with those that there are."""
    layer = tn.Layer(bilinear(), backend="torch")
    with pytest.raises(tn.SpecError, match="expected inputs named x, z"):
        layer(**dict.fromkeys(names, torch.randn(5, 4)))
    with pytest.raises(tn.SpecError, match="each once"):
        layer(torch.randn(5, 4), x=torch.randn(5, 4))


@by_backend
def test_dynamic_shapes_as_for_linear(backend: str) -> None:
    """torch.export takes the dynamic batch of the one input as it does for nn.Linear."""
    layer = tn.Layer(small_train(), bias=True, backend=backend)
    batch = torch.export.Dim("batch")
    for shapes in (({0: batch},), {"input": {0: batch}}):
        exported = torch.export.export(layer, (torch.randn(5, 16),), dynamic_shapes=shapes)
        x = torch.randn(9, 16)
        torch.testing.assert_close(exported.module()(x), layer(x))


# -- what it gives -----------------------------------------------------------------------------


@by_backend
@pytest.mark.parametrize("lead", [(5,), (), (2, 3)])
def test_the_result_may_be_changed_in_place(backend: str, lead: tuple[int, ...]) -> None:
    """nn.ReLU(inplace=True) behind a layer without bias gives what nn.ReLU gives."""
    layer = tn.Layer(tn.topologies.mera(4, 2, 2), backend=backend)
    x = torch.randn(*lead, 16)
    for _ in range(2):
        changed, plain = nn.ReLU(inplace=True)(layer(x)), nn.ReLU()(layer(x))
        torch.testing.assert_close(changed, plain)
        for one, other in zip(
            torch.autograd.grad(changed.sum(), [*layer.parameters()]),
            torch.autograd.grad(plain.sum(), [*layer.parameters()]),
            strict=True,
        ):
            torch.testing.assert_close(one, other)


# -- its weight --------------------------------------------------------------------------------


def test_weight_is_the_dense_matrix() -> None:
    """Readers of ``weight`` find the dense matrix, differentiably; it cannot be set."""
    layer: Any = tn.Layer(small_train(), bias=True, backend="cpp")
    x = torch.randn(5, 16)
    torch.testing.assert_close(nn.functional.linear(x, layer.weight, layer.bias), layer(x))
    assert layer.weight.requires_grad
    assert "weight" not in dict(layer.named_parameters())
    with pytest.raises((AttributeError, KeyError)):
        layer.weight = nn.Parameter(torch.zeros(16, 16))
    padded = Padded(small_train(), 15, 14, bias=True)
    x = torch.randn(5, 15)
    torch.testing.assert_close(nn.functional.linear(x, padded.weight, padded.bias), padded(x))


def test_no_weight_where_there_is_no_matrix() -> None:
    """A layer with two inputs has no such attribute."""
    layer = tn.Layer(bilinear(), backend="torch")
    assert not hasattr(layer, "weight")
    with pytest.raises(AttributeError, match="weight"):
        _ = layer.weight


def test_a_tensor_called_weight() -> None:
    """A tensor of that name is what the name means, whatever is done with it."""
    net = tn.Network("dense")
    net.input("x", {"i": 4})
    net.output(o=3)
    net.tensor("weight", "i o")
    layer: Any = tn.Layer(net, backend="torch")
    assert layer.weight is layer._parameters["weight"]
    layer.weight = nn.Parameter(torch.ones(4, 3))
    assert torch.equal(layer(torch.ones(2, 4)), torch.full((2, 3), 4.0))
    prune.l1_unstructured(layer, "weight", 3)
    assert int((layer.weight == 0).sum()) == 3
    layer(torch.ones(2, 4)).sum().backward()


@by_backend
def test_transformers_with_layers_inside(backend: str) -> None:
    """nn.TransformerEncoderLayer and nn.MultiheadAttention read weights of their linear parts."""
    make: Callable[[], tn.Layer] = lambda: tn.Layer(small_train(), bias=True, backend=backend)  # noqa: E731
    encoder: Any = nn.TransformerEncoderLayer(16, 2, 16, dropout=0.0, batch_first=True)
    encoder.linear1, encoder.linear2 = make(), make()
    x = torch.randn(2, 5, 16)
    trained = encoder(x)
    trained.sum().backward()
    encoder.eval()
    with torch.no_grad():
        torch.testing.assert_close(encoder(x), trained, atol=1e-4, rtol=1e-4)
    attention: Any = nn.MultiheadAttention(16, 2, batch_first=True)
    attention.out_proj = make()
    attention(x, x, x)[0].sum().backward()
    assert all(p.grad is not None for p in attention.out_proj.parameters())


# -- other kinds of inputs ---------------------------------------------------------------------


@pytest.mark.filterwarnings("ignore:The PyTorch API of nested tensors:UserWarning")
@by_backend
def test_nested_inputs(backend: str) -> None:
    """A nested x gives a nested y of the same lengths; gradients go through."""
    layer = tn.Layer(small_train(), bias=True, backend=backend)
    parts = [torch.randn(3, 16), torch.randn(5, 16)]
    for layout in (torch.jagged, torch.strided):
        x = torch.nested.nested_tensor(parts, layout=layout, requires_grad=True)
        y = layer(x)
        assert y.is_nested and y.layout == layout
        for one, part in zip(y.unbind(), parts, strict=True):
            torch.testing.assert_close(one, layer(part))
        torch.cat([one.flatten() for one in y.unbind()]).sum().backward()
        assert x.grad is not None
        assert all(p.grad is not None for p in layer.parameters())


@pytest.mark.filterwarnings("ignore:Sparse:UserWarning")
@by_backend
def test_sparse_inputs(backend: str) -> None:
    """A sparse x gives the dense y, as for nn.Linear, whatever its layout."""
    layer = tn.Layer(small_train(), backend=backend)
    x = torch.randn(6, 16).relu()
    for again in range(2):  # the second time as after a call that was checked
        torch.testing.assert_close(layer(x.to_sparse()), layer(x), msg=str(again))
        for sparse in (x.to_sparse_csr(), x.to_sparse_csc(), x.to_sparse_bsr((2, 2))):
            torch.testing.assert_close(layer(sparse), layer(x), msg=str(sparse.layout))


# -- autocast ----------------------------------------------------------------------------------


@by_backend
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_autocast_gives_its_dtype(backend: str, dtype: torch.dtype) -> None:
    """Under autocast y has the dtype that nn.Linear's has; sums are the layer's own, and so are
    gradients of parameters."""
    layer, dense = tn.Layer(small_train(), bias=True, backend=backend), nn.Linear(16, 16)
    x = torch.randn(5, 16)
    for given in (x, x.to(dtype), x.reshape(5, 1, 16)):
        y = expected = given
        for _ in range(3):
            with torch.autocast("cpu", dtype=dtype):
                y, expected = layer(given), dense(given)
            assert (y.dtype, y.shape) == (expected.dtype, expected.shape)
            torch.testing.assert_close(y, layer(given.float()).to(dtype), atol=0, rtol=0)
        y.sum().backward()
        assert all(p.grad is not None and p.grad.dtype == p.dtype for p in layer.parameters())


def test_autocast_leaves_double_alone() -> None:
    """As nn.Linear: what is computed in float64 stays so."""
    layer = tn.Layer(small_train(), dtype=torch.float64, backend="torch")
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert layer(torch.randn(5, 16, dtype=torch.float64)).dtype == torch.float64


@by_backend
def test_a_layer_that_keeps_its_dtype(backend: str) -> None:
    """autocast=False: y keeps the layer's dtype."""
    layer = tn.Layer(small_train(), bias=True, backend=backend, autocast=False)
    for _ in range(3):
        with torch.autocast("cpu", dtype=torch.bfloat16):
            assert layer(torch.randn(5, 16)).dtype == torch.float32


# -- torch.func --------------------------------------------------------------------------------


@by_backend
@pytest.mark.parametrize("bias", [False, True])
def test_batched_gradients(backend: str, bias: bool) -> None:
    """``is_grads_batched`` and vectorised Jacobians give those of one after the other."""
    layer = tn.Layer(small_train(), bias=bias, backend=backend)
    x = torch.randn(3, 16, requires_grad=True)
    y, arrays = layer(x), [x, *layer.parameters()]
    slopes = torch.randn(4, 3, 16)
    found = torch.autograd.grad(y, arrays, slopes, is_grads_batched=True, retain_graph=True)
    for number, slope in enumerate(slopes):
        alone = torch.autograd.grad(y, arrays, slope, retain_graph=True)
        for one, other in zip(found, alone, strict=True):
            torch.testing.assert_close(one[number], other)
    jacobian: Any = torch.autograd.functional.jacobian
    torch.testing.assert_close(jacobian(layer, x, vectorize=True), jacobian(layer, x))


# -- torch's profiler --------------------------------------------------------------------------


@by_backend
def test_profiler_shows_the_layer(backend: str) -> None:
    """A layer stands there under its network's name, without gradients too; a kernel's backward is
    named as well."""
    layer = tn.Layer(small_train(), bias=True, backend=backend)
    x = torch.randn(5, 16)
    layer(x).sum().backward()
    label = layer.graph.label
    for grad in (False, True):
        with torch.set_grad_enabled(grad), torch.profiler.profile() as seen:
            y = layer(x)
            if grad:
                y.sum().backward()
        names = [event.key for event in seen.key_averages()]
        assert f"tnlayer::{label}" in names
        if backend == "cpp":
            assert f"tnlayer::forward {label}" in names
            assert (f"tnlayer::backward {label}" in names) == grad


# -- how it is born ----------------------------------------------------------------------------


@pytest.mark.parametrize("processes", [1])
def test_sharded_layers_are_initialised(processes: int, tmp_path: Path) -> None:
    """Meta device, FSDP2, to_empty and reset_parameters, as for nn.Linear."""
    store = f"file://{tmp_path / 'store'}"
    dist.init_process_group("gloo", init_method=store, rank=0, world_size=processes)
    try:
        with torch.device("meta"):
            layer: Any = tn.Layer(small_train(), bias=True, backend="torch")
        fully_shard(layer, mesh=init_device_mesh("cpu", (processes,)))
        layer.to_empty(device="cpu")
        with torch.no_grad():
            for parameter in layer.parameters():
                parameter.fill_(float("nan"))
        layer.reset_parameters()
        y = layer(torch.randn(300, 16))
        assert torch.isfinite(y).all()
        assert 0.5 < float(y.detach().square().mean()) < 2
        y.sum().backward()
    finally:
        dist.destroy_process_group()


@by_backend
def test_born_without_entries(backend: str) -> None:
    """In FakeTensorMode a layer has shapes, and so has what it gives."""
    with FakeTensorMode():
        layer = tn.Layer(small_train(), bias=True, backend=backend)
        y = layer(torch.randn(3, 16))
        assert y.shape == (3, 16)
        y.sum().backward()


@by_backend
def test_born_in_inference_mode(backend: str) -> None:
    """A layer may be made and called there."""
    with torch.inference_mode():
        layer = tn.Layer(small_train(), bias=True, backend=backend)
        x = torch.randn(3, 16)
        torch.testing.assert_close(layer(x), layer(x))
        assert float(layer(x).square().mean()) > 0


def test_registration_is_seen() -> None:
    """Hooks of torch, and others who put themselves in the place of register_parameter, see each
    parameter: so frameworks make modules without memory."""
    seen: list[str] = []
    hook = register_module_parameter_registration_hook(lambda _, name, __: seen.append(name))
    try:
        layer = tn.Layer(small_train(), bias=True, backend="torch")
    finally:
        hook.remove()
    assert set(seen) == set(dict(layer.named_parameters()))
    register = nn.Module.register_parameter

    def on_meta(module: nn.Module, name: str, parameter: nn.Parameter | None) -> None:
        register(module, name, parameter)
        if parameter is not None:
            module._parameters[name] = nn.Parameter(parameter.to("meta"))

    with patch.object(nn.Module, "register_parameter", on_meta):
        layer = tn.Layer(small_train(), bias=True, backend="torch")
    assert all(parameter.is_meta for parameter in layer.parameters())


FORKED = """
import torch, torch.multiprocessing as mp
import tnlayer as tn

def work(layer, queue):
    with torch.no_grad():
        queue.put(float(layer(torch.ones(600, 64)).sum()))

if __name__ == "__main__":
    torch.set_num_threads(2)
    layer = tn.Layer(tn.topologies.mera(6, 2, 2), backend="torch")
    context = mp.get_context("fork")
    queue = context.Queue()
    child = context.Process(target=work, args=(layer, queue))
    child.start()
    print(queue.get(timeout=60))
    child.join()
"""


def test_a_process_that_built_a_layer_may_be_forked(tmp_path: Path) -> None:
    """Building starts no OpenMP threads, which a forked child would wait for."""
    script = tmp_path / "forked.py"
    script.write_text(FORKED)
    ran = subprocess.run([sys.executable, str(script)], capture_output=True, text=True, timeout=120)
    assert ran.returncode == 0, ran.stderr
