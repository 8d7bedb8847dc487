"""torch.compile keeps what a layer has: its kernels, its memory limit, its plans by batch size."""

from __future__ import annotations

import copy
import io
import pickle
from collections.abc import Callable, Iterator, Sequence
from typing import Any
from unittest.mock import patch

import pytest
import torch
from torch import nn
from torch._dynamo.utils import counters
from torch._functorch._aot_autograd.utils import make_boxed_func
from torch.nn.utils import prune

import tnlayer as tn
from tests.support.mixed_cases import mixed
from tnlayer.backends.cpp_program import LoadedEntry
from tnlayer.ir.batch_range import BatchRange
from tnlayer.ir.plan_parts import BackendSpan

pytestmark = [
    pytest.mark.usefixtures("fresh_dynamo"),
    pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning"),
    # dynamo asks arrays between layers for their gradient.
    pytest.mark.filterwarnings("ignore:The .grad attribute:UserWarning"),
]


@pytest.fixture
def fresh_dynamo() -> Iterator[None]:
    """Leave nothing compiled behind."""
    torch.compiler.reset()
    counters.clear()
    yield
    torch.compiler.reset()


def small_train(rank: int = 2) -> tn.Network:
    """A tensor train from 16 features to 16."""
    return tn.topologies.tensor_train((4, 4), (4, 4), rank=rank)


def compiled(module: nn.Module, backend: str = "aot_eager", **options: Any) -> Any:
    """The module compiled without graph breaks."""
    return torch.compile(module, fullgraph=True, backend=backend, **options)


def graphs() -> int:
    """How many graphs were made."""
    return counters["stats"]["unique_graphs"]


def gradients(y: torch.Tensor, arrays: Sequence[torch.Tensor]) -> tuple[torch.Tensor, ...]:
    """Of a loss that is not linear in y."""
    return torch.autograd.grad(y.abs().square().sum(), [*arrays])


def check_like_eager(layer: nn.Module, call: Any, *inputs: torch.Tensor) -> None:
    """Value, strides and gradients of a compiled call are those of an eager one."""
    arrays = [*inputs, *layer.parameters()]
    y, expected = call(*inputs), layer(*inputs)
    torch.testing.assert_close(y, expected)
    assert y.stride() == expected.stride()
    for one, other in zip(gradients(y, arrays), gradients(expected, arrays), strict=True):
        torch.testing.assert_close(one, other)


@pytest.mark.parametrize("backend", ["eager", "aot_eager", "inductor"])
def test_kernels_run_inside(backend: str) -> None:
    """A compiled training step calls each kernel once, for every batch size, and no other way."""
    made, names = LoadedEntry.__init__, list[str]()

    def counted(entry: LoadedEntry, *arguments: Any) -> None:
        made(entry, *arguments)
        kernel = entry.function

        def call(*given: Any) -> int:
            names.append("kernel")
            return kernel(*given)

        entry.function = call

    with patch.object(LoadedEntry, "__init__", counted):
        # Another network each time: what is in a graph is kept, and its kernels not built again.
        rank = 5 + ["eager", "aot_eager", "inductor"].index(backend)
        layer = tn.Layer(small_train(rank), bias=True, backend="cpp")
        call = compiled(layer, backend)
        for batch in (3, 5, 40):
            check_like_eager(layer, call, torch.randn(batch, 16, requires_grad=True))
        names.clear()
        y = call(torch.randn(4, 16, requires_grad=True))
        assert len(names) == 1
        y.sum().backward()
        assert len(names) == 2
        with torch.no_grad():
            call(torch.randn(4, 16))
        assert len(names) == 3


@pytest.mark.parametrize("backend", ["torch", "cpp"])
def test_two_graphs_serve_all_batch_sizes(backend: str) -> None:
    """One graph for the first size, one for all others, with plans by batch size inside."""
    layer = tn.Layer(small_train(), backend=backend)
    call = compiled(layer)
    for batch in (2, 3, 5, 8, 17, 64, 256, 300):
        x = torch.randn(batch, 16)
        torch.testing.assert_close(call(x), layer(x))
    assert graphs() <= 2


class Block(nn.Module):
    """A layer with what stands around it in a model."""

    def __init__(self, net: tn.Network) -> None:
        super().__init__()
        self.layer = tn.Layer(net, bias=True, backend="cpp")

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x + torch.relu(self.layer(x))


def test_equal_blocks_share_graphs() -> None:
    """Blocks that are compiled one by one share graphs, as dense ones do; others have their own."""
    blocks = [Block(small_train()) for _ in range(24)]
    for block in blocks:
        block.compile(fullgraph=True, backend="aot_eager")
    x = torch.randn(5, 16)
    y = nn.Sequential(*blocks)(x)
    assert graphs() <= 2
    other = Block(small_train(rank=3))
    other.compile(fullgraph=True, backend="aot_eager")
    other(x)
    for block in blocks:
        x = x + torch.relu(block.layer(x))
    torch.testing.assert_close(y, x)


@pytest.mark.parametrize("move", [nn.Module.double, lambda m: m.to(torch.float64)])
def test_a_layer_that_was_moved(move: Callable[[nn.Module], nn.Module]) -> None:
    """The plan for another dtype is made outside what is traced."""
    layer = move(tn.Layer(small_train(), bias=True, backend="cpp"))
    x = torch.randn(5, 16, dtype=torch.float64, requires_grad=True)
    check_like_eager(layer, compiled(layer), x)


def test_an_eager_call_does_not_compile_again() -> None:
    """What a layer remembers of an eager call is no part of a graph."""
    layer = tn.Layer(small_train(), bias=True, backend="cpp")
    call, x = compiled(layer), torch.randn(5, 16)
    call(x)
    layer(x)
    layer(x)
    call(x)
    assert graphs() == 1


def test_copies_compile() -> None:
    """Deep-copied, unpickled and averaged layers share the graph of the first, with arrays of their
    own; what is dropped is not missed."""
    layer = tn.Layer(small_train(), bias=True, backend="cpp")
    x = torch.randn(5, 16, requires_grad=True)
    check_like_eager(layer, compiled(layer), x)
    again = pickle.loads(pickle.dumps(layer))
    averaged = torch.optim.swa_utils.AveragedModel(layer)
    found = graphs()
    for one in (copy.deepcopy(layer), again, averaged.module):
        with torch.no_grad():
            for parameter in one.parameters():
                parameter.mul_(2)
        check_like_eager(one, compiled(one), x)
    assert graphs() == found
    del layer
    check_like_eager(again, compiled(again), x)


def saved_bytes(call: Callable[[], Any]) -> int:
    """Bytes that a call keeps for its backward."""
    seen: dict[int, int] = {}

    def pack(array: torch.Tensor) -> torch.Tensor:
        storage = array.untyped_storage()
        seen[storage.data_ptr()] = storage.nbytes()
        return array

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda array: array):
        call()
    return sum(seen.values())


@pytest.mark.parametrize("backend", ["torch", "cpp"])
def test_memory_limit_is_kept(backend: str) -> None:
    """A compiled step keeps no more than an eager one beside a memory limit."""
    net = tn.topologies.mera(6, 2, 2)
    layer = tn.Layer(net, backend=backend, memory_limit=2**18, batch=256)
    x = torch.randn(256, 64, requires_grad=True)
    call = compiled(layer)
    check_like_eager(layer, call, x)
    assert saved_bytes(lambda: call(x)) <= saved_bytes(lambda: layer(x))


def test_regions_save_what_passes_between() -> None:
    """A plan of several backends gives what its backward reads, at each batch size."""
    layer = tn.Layer(tn.topologies.mera(4, 2, 2), bias=True, backend="torch", batch=16)
    program = tn.compile(tn.topologies.mera(4, 2, 2), backend="torch", minimize="flops", batch=16)
    (ranged,) = layer._programs_for(torch.float32)
    total = sum(1 for step in program.plan.steps if any("b" in v.legs for v in (step.result,)))
    regions = (BackendSpan("cpp", total // 2), BackendSpan("torch", total - total // 2))
    ranged.replace_range(BatchRange(), mixed(program, regions))
    layer._programs.stand_apart()
    call = compiled(layer, "inductor")
    for batch in (16, 3, 40, 5):
        check_like_eager(layer, call, torch.randn(batch, 16, requires_grad=True))
    assert graphs() <= 2


def test_a_plan_of_torch_calls_is_seen() -> None:
    """Where torch runs a plan, the compiler sees its calls and may fuse them."""
    layer = tn.Layer(small_train(), backend="torch")
    seen: list[str] = []

    def inner(module: torch.fx.GraphModule, _: Any) -> Any:
        seen.extend(str(node.target) for node in module.graph.nodes if node.op == "call_function")
        return module

    backend = torch._dynamo.backends.common.aot_autograd(fw_compiler=inner)  # type: ignore
    compiled(layer, backend)(torch.randn(5, 16))
    assert any("mm" in name for name in seen)
    assert not any("tnlayer" in name for name in seen)


def test_the_planned_backward_is_seen_too() -> None:
    """A compiler gets the calls of the plan's own backward, not those of differentiating the
    forward: Inductor would hand on strides with which torch's CPU goes from matrix to matrix."""
    layer = tn.Layer(tn.topologies.btt((4, 4), (4, 4), rank=2), bias=True, backend="torch")
    seen: list[str] = []

    def inner(module: torch.fx.GraphModule, _: Any) -> Any:
        seen.extend(str(node.target) for node in module.graph.nodes if node.op == "call_function")
        return make_boxed_func(module)

    call = compiled(layer, torch._dynamo.backends.common.aot_autograd(fw_compiler=inner))  # type: ignore
    for batch in (5, 40, 7):
        check_like_eager(layer, call, torch.randn(batch, 16, requires_grad=True))
    assert graphs() <= 2
    (program,) = layer._programs_for(torch.float32)
    products = program.at(5).source().count("bmm(")
    torch.compiler.reset()
    seen.clear()
    check_like_eager(layer, call, torch.randn(5, 16, requires_grad=True))
    assert products and sum("bmm" in name for name in seen) == products


def test_sums_and_several_inputs() -> None:
    """Networks that are added, and layers with two inputs, are one operation too."""
    both = tn.Layer([small_train(), tn.topologies.low_rank(16, 16, rank=2)], bias=True,
                    backend="cpp")  # fmt: skip
    check_like_eager(both, compiled(both), torch.randn(5, 16, requires_grad=True))
    net = tn.Network("bilinear")
    net.input("x", {"i": 3})
    net.input("z", {"j": 4})
    net.output(o=5)
    net.tensor("T", "i j o")
    layer = tn.Layer(net, backend="cpp", bias=True)
    x, z = (torch.randn(2, 3, n, requires_grad=True) for n in (3, 4))
    check_like_eager(layer, compiled(layer), x, z)


def test_frozen_arrays_and_leading_dimensions() -> None:
    """Gradients that nobody wants are not made; leading dimensions stay."""
    layer = tn.Layer(small_train(), bias=True, backend="cpp")
    layer.core_0.requires_grad_(False)  # type: ignore[operator]
    x = torch.randn(2, 3, 16)
    y = compiled(layer)(x)
    assert y.shape == (2, 3, 16)
    y.sum().backward()
    assert layer.core_0.grad is None
    torch.testing.assert_close(y, layer(x))


def test_wrong_shapes_are_refused() -> None:
    """A compiled call of a wrong shape says what was expected."""
    layer = tn.Layer(small_train(), backend="cpp")
    with pytest.raises(Exception, match=r"expected shape \(batch, 16\)"):
        compiled(layer)(torch.randn(5, 15))


def test_export_sees_torch_calls_only() -> None:
    """What is exported runs where this package is not."""
    layer = tn.Layer(small_train(), bias=True, backend="cpp")
    batch = torch.export.Dim("batch")
    for strict in (False, True):
        exported = torch.export.export(
            layer, (torch.randn(5, 16),), dynamic_shapes=({0: batch},), strict=strict
        )
        assert "tnlayer" not in exported.graph_module.code
        buffer = io.BytesIO()
        torch.export.save(exported, buffer)
        buffer.seek(0)
        x = torch.randn(9, 16)
        torch.testing.assert_close(torch.export.load(buffer).module()(x), layer(x))


def test_complex_layers() -> None:
    """Complex layers, lazy conjugates and real inputs of them, with torch's gradients."""
    layer = tn.Layer(small_train(), bias=True, backend="cpp", dtype=torch.complex64)
    call, x = compiled(layer), torch.randn(3, 16, dtype=torch.complex64, requires_grad=True)
    check_like_eager(layer, call, x)
    torch.testing.assert_close(call(x.detach().conj()), layer(x.detach().conj()))
    real = torch.randn(3, 16)
    torch.testing.assert_close(call(real), layer(real))


def test_autocast() -> None:
    """Under autocast a compiled result has the dtype that an eager one has."""
    for casts in (True, False):
        for backend in ("torch", "cpp"):
            layer = tn.Layer(small_train(), bias=True, backend=backend, autocast=casts)
            call = compiled(layer, "inductor")
            for x in (torch.randn(3, 16), torch.randn(3, 16).bfloat16()):
                with torch.autocast("cpu", dtype=torch.bfloat16):
                    y, expected = call(x), layer(x)
                torch.testing.assert_close(y, expected)


@pytest.mark.parametrize("mode", ["reduce-overhead", "max-autotune"])
def test_modes(mode: str) -> None:
    """Modes of the compiler that record calls or try kernels take a layer too."""
    layer = tn.Layer(small_train(), bias=True, backend="cpp")
    check_like_eager(layer, torch.compile(layer, fullgraph=True, mode=mode),
                     torch.randn(3, 16, requires_grad=True))  # fmt: skip


def test_arrays_that_are_made_from_others() -> None:
    """A compiled layer that is parametrized or pruned afterwards is compiled anew, and right."""
    x = torch.randn(3, 16)
    for change in (
        lambda layer: nn.utils.parametrizations.weight_norm(layer, "core_0"),
        lambda layer: prune.l1_unstructured(layer, "core_0", 3),
    ):
        layer = tn.Layer(small_train(), bias=True, backend="cpp")
        call = torch.compile(layer, backend="aot_eager")
        call(x)
        change(layer)
        torch.testing.assert_close(call(x), layer(x))


def test_transforms_inside() -> None:
    """torch.func inside a compiled function sees torch's own calls."""
    layer = tn.Layer(small_train(), bias=True, backend="cpp")
    parameters, x = dict(layer.named_parameters()), torch.randn(3, 16)

    def loss(parameters: Any, x: torch.Tensor) -> torch.Tensor:
        return torch.func.functional_call(layer, parameters, (x,)).square().sum()

    gradient: Any = torch.func.grad(loss)
    found = torch.compile(gradient, fullgraph=True, backend="aot_eager")(parameters, x)
    for name, expected in gradient(parameters, x).items():
        torch.testing.assert_close(found[name], expected)
