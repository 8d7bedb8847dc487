"""Memory limits of whole calls: sums, biases, padding, copies of x, whatever gradients are wanted.

A limit is about what a call allocates beside x, y, their gradients, the parameters and theirs.
"""

from __future__ import annotations

import json
import random
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import pytest
import torch
from hypothesis import given

import tnlayer as tn
from benchmarks.common.memory import allocator_peak
from tests.support.cpp_units import has_compiler
from tests.support.live_bytes import LiveBytes, peak_beside
from tests.support.strategies import Bounds, fixed_series, networks
from tnlayer.lowering.calls.training_schedules import schedule_pair
from tnlayer.nn.padded import Padded
from tnlayer.runtime.scratch import SCRATCH
from tnlayer.support.option_words import Objective

T = tn.topologies
BATCH = 96
SHARES = (1.2, 0.6, 0.2)


@pytest.fixture(autouse=True)
def fresh() -> Iterator[None]:
    """No memory that calls reuse: layers without a limit are measured too."""
    before, SCRATCH.limit = SCRATCH.limit, 0
    SCRATCH.clear()
    yield
    SCRATCH.limit = before


@dataclass(frozen=True)
class Way:
    """How a layer is called.

    Arguments:
        mode: "no_grad", "inference", or with gradients: "eval" (nothing wants one), "train" (all),
            "x", "parameters", or "retain" (all, and the graph is kept).
        objective: of the layer.
        kind: of x: "plain", "strided", or "real" for a complex layer.
        batch: samples of the call.
    """

    mode: str
    objective: Objective = "train"
    kind: str = "plain"
    batch: int = BATCH


WAYS = (
    Way("no_grad"),
    Way("inference", "infer"),
    Way("eval"),
    Way("train"),
    Way("train", "infer"),
    Way("train", kind="strided"),
    Way("train", kind="real"),
    Way("x"),
    Way("parameters", batch=BATCH // 3),
    Way("retain", batch=2 * BATCH + 1),
)


def entries(shape: tuple[int, ...], dtype: torch.dtype, kind: str) -> torch.Tensor:
    """An input of some kind."""
    if kind == "real" and dtype.is_complex:
        dtype = dtype.to_real()
    wide = torch.complex64 if dtype.is_complex else torch.float32
    if kind == "strided":
        array = torch.randn(shape[::-1], dtype=wide).to(dtype)
        return array.permute(*reversed(range(len(shape))))
    return torch.randn(shape, dtype=wide).to(dtype)


class Calls:
    """Calls of a layer in one way; each returns what the limit is not about."""

    def __init__(self, layer: tn.Layer | Padded, graph: tn.Graph, way: Way) -> None:
        self.layer, self.way = layer, way
        features = (layer.in_features,) if isinstance(layer, Padded) else None
        self.inputs = [
            entries(
                ((way.batch,) if port.batched else ()) + (features or graph.input_shape(port)),
                layer.dtype,
                way.kind,
            )
            for port in graph.inputs
        ]
        for x in self.inputs:
            x.requires_grad_(way.mode in ("train", "x", "retain"))
        trained = way.mode in ("train", "parameters", "retain")
        trainable = {p.name for g in layer.graphs for p in g.parameters if p.node.trainable}
        for name, parameter in layer.named_parameters():
            own = name.rpartition(".")[2]
            parameter.requires_grad_(trained and (own in trainable or own == "bias"))
        with torch.no_grad():
            y = layer(*self.inputs)
        self.gradient = torch.randn(y.shape, dtype=torch.float32).to(y.dtype)

    def __call__(self) -> tuple[torch.Tensor, ...]:
        if self.way.mode in ("no_grad", "inference"):
            with torch.inference_mode(self.way.mode == "inference"), torch.no_grad():
                return (self.layer(*self.inputs),)
        y = self.layer(*self.inputs)
        leaves = [t for t in (*self.inputs, *self.layer.parameters()) if t.requires_grad]
        if not y.requires_grad:
            return (y,)
        keep = self.way.mode == "retain"
        found = torch.autograd.grad(y, leaves, self.gradient, retain_graph=keep, allow_unused=True)
        return (y.detach(), *(gradient for gradient in found if gradient is not None))


Make = Callable[[int | None, Objective], tn.Layer | Padded]


def check_limits(make: Make, graph: tn.Graph, ways: tuple[Way, ...] = WAYS) -> int:
    """Several limits are kept in each way, or refused with one that is then kept; how many were."""
    kept = 0
    asked: list[Objective] = sorted({way.objective for way in ways})
    for objective in asked:
        step = Way("no_grad" if objective == "infer" else "train")
        full = peak_beside(Calls(make(None, objective), graph, step))
        for share in SHARES:
            limit = int(share * full)
            try:
                layer = make(limit, objective)
            except tn.PlanError as error:
                limit = told_by(error)
                layer = make(limit, objective)
            for way in ways:
                if way.objective != objective:
                    continue
                try:
                    used = peak_beside(Calls(layer, graph, way))
                except tn.PlanError as error:
                    # The call copies x, or wants gradients that were not planned for.
                    assert told_by(error) > limit, (way, share)
                    continue
                assert used <= limit, (way, share, used, limit)
                kept += 1
    return kept


def told_by(error: tn.PlanError) -> int:
    """The least limit that a refusal tells."""
    return int(str(error).split("Raise the limit to ")[1].split(",")[0])


def train(names: str = "") -> tn.Network:
    """A train whose tensors have names of its own."""
    net = T.tensor_train((4, 4, 4), (4, 4, 4), rank=3)
    return net if not names else renamed(net, names)


def renamed(net: tn.Network, ending: str) -> tn.Network:
    """The same network with other names of tensors."""
    document = json.loads(net.to_json())
    graph = net.freeze()
    text = json.dumps(document)
    for tensor in graph.tensors:
        text = text.replace(json.dumps(tensor.name), json.dumps(tensor.name + ending))
    return tn.Network.from_json(text)


def two_ports() -> tn.Network:
    """Two inputs, one of them a product of local vectors."""
    net = tn.Network("two ports")
    net.input("x", i=8)
    net.input("p", q=3, r=3)
    net.port("p", product=True)
    net.output(j=16)
    net.bond(a=6)
    net.tensor("A", "i q a")
    net.tensor("B", "a r j")
    return net


NETS: dict[str, tuple[Callable[[], list[tn.Network]], bool]] = {
    "train": (lambda: [train()], False),
    "bias": (lambda: [train()], True),
    "sum": (lambda: [train(), T.low_rank(64, 64, rank=3)], False),
    "sum and bias": (lambda: [train(), renamed(train(), "_b"), T.cp((8, 8), (8, 8), 2)], True),
    "large and small": (
        lambda: [T.tensor_train((16, 16), (16, 16), rank=8), T.low_rank(256, 256, rank=2)],
        False,
    ),
    "elementwise": (lambda: [T.cp((8, 8), (8, 8), 5)], False),
    "ports": (lambda: [two_ports()], True),
    "mera": (lambda: [T.mera(6, 2, 2)], False),
}


@pytest.mark.crossed
@pytest.mark.parametrize("dtype", [torch.float32, torch.complex64, torch.float16])
@pytest.mark.parametrize("name", NETS)
def test_limits_are_kept_in_every_way(name: str, dtype: torch.dtype) -> None:
    """Whatever is called how, at the batch size that was planned for, at smaller and larger ones:
    torch's calls keep the limit, or a typed error tells one that they keep."""
    nets, bias = NETS[name]

    def make(limit: int | None, objective: Objective) -> tn.Layer:
        return tn.Layer(
            nets(), bias=bias, batch=BATCH, memory_limit=limit, objective=objective, dtype=dtype,
            effort="fast", backend="torch",
        )  # fmt: skip

    ways = WAYS if dtype is torch.float32 else (Way("train"), Way("train", kind="real"))
    assert check_limits(make, nets()[0].freeze(), ways) >= len(ways)


@pytest.mark.crossed
@pytest.mark.parametrize("features", [(60, 50), (64, 50), (60, 64)])
@pytest.mark.parametrize("bias", [False, True])
def test_padding_counts(features: tuple[int, int], bias: bool) -> None:
    """The padded x, the longer y and their gradients are within the limit."""

    def make(limit: int | None, objective: Objective) -> Padded:
        return Padded(
            train(), *features, bias=bias, batch=BATCH, memory_limit=limit, objective=objective,
            effort="fast", backend="torch",
        )  # fmt: skip

    ways = (Way("no_grad", "infer"), Way("train"), Way("parameters"), Way("train", batch=2 * BATCH))
    assert check_limits(make, train().freeze(), ways) >= len(ways)


@pytest.mark.parametrize("is_complex", [False, True])
def test_random_networks_keep_limits(is_complex: bool) -> None:
    """Random networks, some of them added to a copy, with a bias or without."""
    number, kept = 0, list[int]()

    @fixed_series(6100, 20, shrink=False)
    @given(net=networks(False, Bounds(space=20_000, tensors=5, inputs=2, legs=8)))
    def check_one(net: tn.Network) -> None:
        nonlocal number
        number += 1
        graph = net.freeze()
        if not graph.inputs:
            return
        choose = random.Random(number)
        several = choose.random() < 0.4
        bias, way = choose.random() < 0.4, choose.choice(WAYS)

        def make(limit: int | None, objective: Objective) -> tn.Layer:
            nets = [net, renamed(net, "_b")] if several and graph.parameters else [net]
            return tn.Layer(
                nets, bias=bias, batch=BATCH, memory_limit=limit, objective=objective,
                effort="fast", backend="torch",
                dtype=torch.complex64 if is_complex else torch.float32,
            )  # fmt: skip

        kept.append(check_limits(make, graph, (way,)))

    check_one()
    assert sum(kept) >= 20


def least_limit(make: Callable[[int], object]) -> int:
    """The least limit that a refusal tells."""
    with pytest.raises(tn.PlanError) as refused:
        make(1)
    text = str(refused.value)
    if "Raise" in text:
        return told_by(refused.value)
    return int(text.split("allow ")[1].split(",")[0])


def kernel_workspace(layer: tn.Layer) -> int:
    """Bytes of the workspace that compiled kernels keep between calls."""
    return sum(cost.kernel_bytes() for cost in layer.costs() if cost.backend == "cpp")


@pytest.mark.crossed
@pytest.mark.skipif(not has_compiler(), reason="no C++ compiler")
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.complex64])
@pytest.mark.parametrize("name", ["train", "sum and bias"])
def test_compiled_kernels_keep_limits(name: str, dtype: torch.dtype) -> None:
    """Measured in torch's allocator, with kernels that run: copies in float32 count, and what the
    kernels say of their own workspace is not more than the limit."""
    nets, bias = NETS[name]

    def layer(limit: int | None) -> tn.Layer:
        return tn.Layer(nets(), bias=bias, batch=BATCH, memory_limit=limit, dtype=dtype,
                        effort="fast", backend="cpp")  # fmt: skip

    least = least_limit(layer)
    made = layer(least)
    assert {cost.backend for cost in made.costs()} == {"cpp"}
    for way in (Way("no_grad"), Way("train"), Way("train", kind="strided", batch=BATCH // 3)):
        try:
            calls = Calls(made, nets()[0].freeze(), way)
            calls()
        except tn.PlanError:
            assert way.kind == "strided"  # its copy is more than the least limit allows
            continue
        given_ = sum(t.numel() * t.element_size() for t in calls())
        assert allocator_peak(calls) - given_ + kernel_workspace(made) <= least, way
    with pytest.raises(tn.PlanError):
        layer(least - 1)


@pytest.mark.skipif(not has_compiler(), reason="no C++ compiler")
@pytest.mark.parametrize("backend", ["cpp", "auto"])
@pytest.mark.parametrize("name", ["sum and bias", "large and small"])
def test_sums_keep_the_limits_that_are_told(name: str, backend: str) -> None:
    """The least limit that a refusal tells is kept, one byte less is refused, and larger ones are
    kept too, however the networks share them."""
    nets, bias = NETS[name]

    def layer(limit: int | None) -> tn.Layer:
        return tn.Layer(nets(), bias=bias, batch=BATCH, memory_limit=limit, backend=backend,
                        effort="fast")  # fmt: skip

    least = least_limit(layer)
    with pytest.raises(tn.PlanError):
        layer(least - 1)
    for limit in (least, least * 5 // 4, 4 * least):
        made = layer(limit)
        for way in (Way("no_grad"), Way("train")):
            calls = Calls(made, nets()[0].freeze(), way)
            given_ = sum(t.numel() * t.element_size() for t in calls())
            assert allocator_peak(calls) - given_ + kernel_workspace(made) <= limit, (way, limit)


def test_gradients_of_shared_tensors_count() -> None:
    """While the second network gives its gradient of a tensor that both have, the first one's is
    alive: of 4,096 entries here, where x and y have 256."""

    def matrix(legs: str) -> tn.Network:
        net = tn.Network(legs)
        net.input(i=64)
        net.output(j=64)
        net.tensor("W", legs)
        return net

    nets = [matrix("i j"), matrix("j i")]

    def layer(limit: int | None) -> tn.Layer:
        return tn.Layer(nets, batch=4, memory_limit=limit, backend="torch", shared=True)

    least = least_limit(layer)
    assert peak_beside(Calls(layer(least), nets[0].freeze(), Way("train", batch=4))) <= least


@pytest.mark.skipif(not has_compiler(), reason="no C++ compiler")
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_limits_below_the_dense_map_are_kept(
    dtype: torch.dtype, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A train of a large bond rebuilds W. Under a limit W is made in tiles, which was left out, or
    small chunks take an order without W, which was not looked for: the least was said to be W."""
    monkeypatch.delenv("TNLAYER_BACKEND")
    net = T.tensor_train((16, 16, 16), (16, 16, 16), rank=32)
    dense = 4096 * 4096 * dtype.itemsize
    backends: list[str] = []
    for limit in (dense // 8, dense * 3 // 4, 2 * dense):
        layer = tn.Layer(net, batch=64, memory_limit=limit, dtype=dtype, backend="auto")
        (cost,) = layer.costs(64)
        backends.append(cost.backend)
        assert f"of {limit:,} bytes" in str(layer.explain(batch=64))
        kept = cost.lowered.room(64).standing
        for way in (Way("no_grad", batch=64), Way("train", batch=64), Way("x", batch=64)):
            calls = Calls(layer, net.freeze(), way)
            given_ = sum(t.numel() * t.element_size() for t in calls())
            assert allocator_peak(calls) - given_ + kept <= limit, (way, limit)
    assert backends[0] == "torch"
    assert "streamed" in backends or dtype is not torch.float32


@pytest.mark.skipif(not has_compiler(), reason="no C++ compiler")
def test_the_dense_map_in_tiles_keeps_limits(monkeypatch: pytest.MonkeyPatch) -> None:
    """It takes a fraction of W's memory, and was left out where a limit was given: then chunks of
    the samples were let through an order that is six times as slow."""
    monkeypatch.delenv("TNLAYER_BACKEND")
    net = T.tensor_train((16, 16, 16), (16, 16, 16), rank=32)
    options: dict[str, Any] = {"batch": 1024, "backend": "auto"}
    found = tn.cost(net, memory_limit="60MB", **options)
    assert found.backend == "streamed"
    needed = found.lowered.workspace
    assert needed <= 60_000_000 < 4 * 4096 * 4096
    assert tn.cost(net, memory_limit=needed, **options).backend == "streamed"
    less = tn.cost(net, memory_limit=needed - 1, **options)
    assert less.backend == "torch"
    assert less.lowered.room(1024).at_once < needed


def test_auto_takes_torch_where_kernels_cannot_keep_the_limit() -> None:
    """A limit that no kernel keeps is kept by torch's calls, which explain() tells."""
    net = T.tensor_train((8, 8), (8, 8), rank=4)
    layer = tn.Layer(net, batch=1024, memory_limit=60_000, dtype=torch.float16, backend="auto")
    assert "torch" in str(layer.explain())


def test_a_limit_takes_no_gradient_twice() -> None:
    """The gradients of a sum are those of the networks one by one; x takes one array more."""
    first, second = train(), renamed(train(), "_b")
    layer = tn.Layer([first, second], bias=True, dtype=torch.float64, backend="torch")
    x = torch.randn(7, 64, dtype=torch.float64, requires_grad=True)
    gradient = torch.randn(7, 64, dtype=torch.float64)
    parts = []
    for net in (first, second):
        part = tn.Layer(net, dtype=torch.float64, backend="torch")
        part.load_state_dict(
            {k: v for k, v in layer.state_dict().items() if k in part.state_dict()}
        )
        parts.append(part)
    leaves = [x, *layer.parameters()]
    y = parts[0](x) + parts[1](x) + layer.get_parameter("bias")
    theirs = torch.autograd.grad(y, [x, *parts[0].parameters(), *parts[1].parameters()], gradient)
    ours = torch.autograd.grad(layer(x), leaves, gradient)
    for one, other in zip(ours, (*theirs, gradient.sum(0)), strict=True):
        assert torch.allclose(one, other, rtol=1e-12)
    assert torch.autograd.gradgradcheck(layer, (x[:2].detach().requires_grad_(),), fast_mode=True)


def test_a_larger_batch_is_planned_by_itself() -> None:
    """With a limit the one plan serves up to its batch size; larger ones keep the limit too."""
    limit = 50_000
    layer = tn.Layer(T.mera(6, 2, 2), batch=32, memory_limit=limit, backend="torch")
    (ranged,) = layer._programs_for(torch.float32)
    assert ranged.at(32) is ranged.main is ranged.at(5)
    assert ranged.at(4096) is not ranged.main
    mask = ranged.main.training_mask()
    for batch in (1, 33, 4096, 2**17, 2**19):
        pair = schedule_pair(ranged.at(batch).plan, mask, ranged.main.times)
        assert pair.workspace_bytes(batch) <= limit


@pytest.mark.parametrize("limit", [-1, 1.5, True, "8 apples"])
def test_a_limit_is_a_number_of_bytes(limit: object) -> None:
    """Anything else is a SpecError that says what was expected."""
    with pytest.raises(tn.SpecError, match="number of bytes"):
        tn.Layer(train(), memory_limit=limit)  # pyright: ignore[reportArgumentType]


def test_a_program_counts_copies_of_its_arrays() -> None:
    """A program is called with arrays of another dtype: within the limit, or a PlanError."""
    net = train()
    free = tn.compile(net, batch=BATCH, backend="torch")
    need = free.schedules().workspace_bytes(BATCH)
    program = tn.compile(net, batch=BATCH, backend="torch", memory_limit=need)
    arrays = {p.name: torch.randn(p.shape) for p in net.freeze().parameters}
    x = torch.randn(BATCH, 64)
    assert peak_beside(lambda: (program(x, parameters=arrays),)) <= need
    small = tn.compile(net, batch=BATCH, backend="torch", memory_limit=x.nbytes // 2)
    with pytest.raises(tn.PlanError, match=r"copies of arrays that are no torch\.float32"):
        small(x.double(), parameters=arrays)


# -- more than there is ------------------------------------------------------------------------


def outer_product() -> tn.Network:
    """y has 2**36 entries a sample: as many as a value may have."""
    net = tn.Network("outer")
    net.input(i=2)
    net.output(left=2**18, right=2**18)
    net.tensor("A", "i left")
    net.tensor("B", "right")
    return net


def test_what_no_device_has_is_refused_with_the_numbers() -> None:
    """Instead of torch's RuntimeError: bytes, samples, the user's legs, and what to do."""
    arrays = {p.name: torch.ones(p.shape) for p in outer_product().freeze().parameters}
    program = tn.compile(outer_product(), backend="torch")
    with pytest.raises(tn.PlanError) as error:
        program(torch.ones(64, 2), parameters=arrays)
    text = str(error.value)
    for words in ("64 samples", f"{64 * 2**38} bytes", "batch, left, right", "memory_limit="):
        assert words in text, text
    with pytest.raises(tn.PlanError, match="network 'outer': a call with"):
        tn.Layer(outer_product(), backend="torch")


@pytest.mark.parametrize("kind", ["torch", "cpp"])
def test_a_batch_that_is_too_large_is_refused(kind: str) -> None:
    """After calls that fit, one that does not, and again one that does; on the meta device all."""
    if kind == "cpp" and not has_compiler():
        pytest.skip("no C++ compiler")
    layer = tn.Layer(T.low_rank(4, 4, rank=2), backend=kind, batch=16, bias=True)
    assert layer(torch.ones(3, 4)).shape == (3, 4)
    with pytest.raises(tn.PlanError, match="a call with 17592186044416 samples needs at least"):
        layer(torch.ones(1, 4).expand(2**44, 4))
    assert layer(torch.ones(5, 4)).shape == (5, 4)
    meta = tn.Layer(T.low_rank(4, 4, rank=2), backend=kind, device="meta")
    assert meta(torch.ones(1, 4, device="meta").expand(2**44, 4)).shape == (2**44, 4)


def test_the_identity_of_to_dense_is_counted() -> None:
    """A matrix of few entries may need an identity of very many."""
    layer = tn.Layer(T.low_rank(2**22, 1, rank=1), backend="torch")
    with pytest.raises(tn.SpecError, match="needs the identity"):
        layer.to_dense()


@pytest.mark.skipif(not has_compiler(), reason="no C++ compiler")
@pytest.mark.parametrize("room", [1.0, 1.2, 2.0])
def test_calls_in_the_place_of_added_kernels_keep_the_limit(room: float) -> None:
    """A mode that wants to see each call gets torch's, which add to what there is, as kernels'
    results are added; a y of each network apart would not fit."""
    batch = 8192
    nets = [train(), T.mera(6, 2, 3), T.low_rank(64, 64, rank=4)]
    with pytest.raises(tn.PlanError, match="smallest workspace found") as refused:
        tn.Layer(nets, batch=batch, memory_limit=1000, backend="cpp")
    least = int(str(refused.value).split("smallest workspace found is ")[1].split(" bytes")[0])
    limit = int(room * least)
    layer = tn.Layer(nets, batch=batch, memory_limit=limit, backend="cpp")
    x, gradient = torch.randn(batch, 64, requires_grad=True), torch.randn(batch, 64)
    wanted = [x, *layer.parameters()]
    expected = torch.autograd.grad(layer(x), wanted, gradient)
    with LiveBytes() as seen:
        y = layer(x)
        found = torch.autograd.grad(y, wanted, gradient)
    assert seen.peak_beside([y, *found]) <= limit
    for ours, theirs in zip(found, expected, strict=True):
        assert torch.allclose(ours, theirs, rtol=1e-3, atol=1e-3 * float(theirs.abs().max()))
    with LiveBytes() as seen, torch.no_grad():
        y = layer(x)
    assert seen.peak_beside([y]) <= limit


@pytest.mark.parametrize("minimize", ["time", "size"])
def test_a_refusal_names_what_counts(minimize: str) -> None:
    """Neither x nor y nor a gradient, at the size in which it is there, and advice that helps."""
    net = tn.topologies.tensor_train((16, 16), (16, 16), rank=8)
    with pytest.raises(tn.PlanError) as refused:
        tn.plan(net, batch=256, memory_limit=1000, minimize=minimize)
    text = str(refused.value)
    result = tn.plan(net, batch=256, minimize=minimize).outputs[0].operand.value.name
    assert "at batch 256" in text and "the largest value counted in it is" in text
    assert f"is {result}, " not in text
    assert ("Without minimize= all orders are tried" in text) == (minimize == "size")
    assert "1 legs" not in text and "minimize='size'" not in text


def test_a_layer_says_where_its_batch_comes_from() -> None:
    """Whoever calls with 64 samples and named none reads of another batch."""
    net = tn.topologies.tensor_train((8, 8), (8, 8), rank=4)
    with pytest.raises(tn.PlanError, match="where none is named"):
        tn.Layer(net, memory_limit=10)
    with pytest.raises(tn.PlanError, match="at batch 64") as refused:
        tn.Layer(net, memory_limit=10, batch=64)
    assert "where none is named" not in str(refused.value)
