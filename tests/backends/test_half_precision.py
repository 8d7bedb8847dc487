"""Compiled kernels that read and write 16 bits: each result is float32's, rounded once."""

from __future__ import annotations

import ctypes
from collections.abc import Callable
from dataclasses import replace

import pytest
import torch

import tnlayer as tn
from tests.support.cpp_units import has_compiler
from tests.support.small_topologies import NETWORKS, filled
from tnlayer.backends.toolchains.cpp_build import load_library
from tnlayer.codegen.cpp.prelude import prelude
from tnlayer.codegen.cpp.stored_arguments import print_types
from tnlayer.codegen.torch import print_torch
from tnlayer.hardware import half_precision
from tnlayer.hardware.profile.load import load_profile
from tnlayer.hardware.profile.op_times import OpTimes
from tnlayer.ir.calls import MatMul
from tnlayer.ir.loops import LoopProgram
from tnlayer.ir.steps import BATCH, Contract, Operand, Value
from tnlayer.lowering.calls.gemm_forms import find_forms
from tnlayer.lowering.calls.lower import lower
from tnlayer.lowering.calls.training_schedules import schedule_pair
from tnlayer.runtime import wide_products

compiled = pytest.mark.skipif(not has_compiler(), reason="no C++ compiler")

HALF = {"bfloat16": torch.bfloat16, "float16": torch.float16}
# Legs as lanes, samples as lanes, odd sizes, and weights that are the most of all.
KINDS = ("mera", "threes", "odd", "monarch")

CONVERSIONS = """
extern "C" void widened(float* to, const {kind}* from, long count) {{ widen(to, from, count); }}
extern "C" void narrowed({kind}* to, const float* from, long count) {{ narrow(to, from, count); }}
extern "C" void shared({kind}* to, const float* from, long count) {{
  share(to, from, count, 3, [](auto* t, auto* s, size_t n) {{ narrow(t, s, n); }});
}}
"""


def conversions(kind: str, width: int, before: str = "") -> Callable[..., torch.Tensor]:
    """The conversions of a kernel's arguments, as a function of a name and an array."""
    program = LoopProgram("p", "float32", width, 1, (), (), (), (), arguments=kind)
    text = prelude("float32", width) + before + print_types(program)
    library = load_library(text + CONVERSIONS.format(kind=kind), optimise="-O1")

    def run(name: str, given: torch.Tensor) -> torch.Tensor:
        to = HALF[kind] if given.dtype is torch.float32 else torch.float32
        result = torch.empty(given.shape, dtype=to)
        function = library[name]
        function.argtypes = (ctypes.c_void_p, ctypes.c_void_p, ctypes.c_long)
        function(result.data_ptr(), given.data_ptr(), given.numel())
        return result

    return run


def same_bits(found: torch.Tensor, wanted: torch.Tensor) -> bool:
    """Whether all numbers are, zeros' signs included; of what is no number only that it is none."""
    bits = torch.int16 if found.itemsize == 2 else torch.int32
    numbers = ~wanted.isnan()
    return bool(
        torch.equal(found.isnan(), wanted.isnan())
        and torch.equal(found.view(bits)[numbers], wanted.view(bits)[numbers])
    )


@compiled
@pytest.mark.parametrize("kind", HALF)
@pytest.mark.parametrize(
    ("width", "before"),
    [(16, ""), (8, ""), (4, ""), (16, "#undef __AVX512F__\n#undef __F16C__\n")],
    ids=["16", "8", "4", "no instructions"],
)
def test_conversions_are_torchs(kind: str, width: int, before: str) -> None:
    """All 65,536 numbers of 16 bits; and float32 near each of them: ties, ends of the range."""
    run = conversions(kind, width, before)
    every = torch.arange(-(2**15), 2**15, dtype=torch.int32).to(torch.int16).view(HALF[kind])
    wide = every.float()
    assert same_bits(run("widened", every), wide)
    steps = torch.tensor([0, 1, -1, 0x7FF, 0x1000, 0xFFF, 0x1001, 0x7FFF, 0x8000, 0x8001])
    near = (wide.view(torch.int32)[:, None] + steps.to(torch.int32)).view(torch.float32)
    # A part of a vector is left at the end.
    for given in (near.reshape(-1).contiguous(), near.reshape(-1)[:37].contiguous()):
        for name in ("narrowed", "shared"):
            assert same_bits(run(name, given), given.to(HALF[kind])), name


@compiled
@pytest.mark.parametrize("batch", [1, 19])
@pytest.mark.parametrize("kind", HALF)
def test_results_are_those_of_float32_rounded_once(kind: str, batch: int) -> None:
    """y, the gradient of x and those of all tensors, bit for bit; some blocks lack samples."""
    torch.manual_seed(2)
    for name in KINDS:
        half = filled(NETWORKS[name](), "cpp", HALF[kind])
        wide = filled(NETWORKS[name](), "cpp", torch.float32)
        with torch.no_grad():
            for parameter, given in zip(wide.parameters(), half.parameters(), strict=True):
                parameter.copy_(given)
        x = torch.randn(batch, half.in_features).to(HALF[kind]).requires_grad_()
        copy = x.detach().float().requires_grad_()
        y, exact = half(x), wide(copy)
        gradient = torch.randn_like(y)
        y.backward(gradient)
        exact.backward(gradient.float())
        pairs = [(y, exact), (x.grad, copy.grad)]
        pairs += [(a.grad, b.grad) for a, b in zip(half.parameters(), wide.parameters(),
                                                  strict=True)]  # fmt: skip
        for found, wanted in pairs:
            assert found is not None and wanted is not None
            assert found.dtype is HALF[kind]
            assert torch.equal(found, wanted.to(HALF[kind])), name


@compiled
def test_no_copy_is_made_beside_the_kernel() -> None:
    """A call allocates y and nothing else of the size of the batch."""
    layer = tn.Layer(NETWORKS["mera"](), backend="cpp", dtype=torch.bfloat16)
    x = torch.randn(64, layer.in_features).to(torch.bfloat16)
    with torch.no_grad():
        layer(x)
        with torch.profiler.profile(profile_memory=True) as profile:
            layer(x)
    taken = [event.self_cpu_memory_usage for event in profile.key_averages()]
    assert 0 < sum(size for size in taken if size > 0) <= 2 * layer.out_features * 64


@pytest.mark.parametrize(
    ("features", "wide", "work"),
    [
        ("flags : avx2 f16c", {"bfloat16", "float16"}, 1.0),
        ("flags : avx512f avx512_bf16", {"float16"}, 0.5),
        ("flags : avx512_bf16 amx_bf16 avx512_fp16", set[str](), 1 / 16),
    ],
)
def test_products_without_instructions_are_made_in_float32(
    features: str, wide: set[str], work: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    """torch's own product of float16 takes 80 times as long where no instruction makes it: neither
    the calls nor their predicted times are those then."""
    monkeypatch.setattr(half_precision, "processor_features", lambda: features)
    profile = load_profile("float32").profile
    single = OpTimes(profile, "float32")
    for kind in HALF:
        times = OpTimes(profile, kind)
        plan = tn.plan(NETWORKS["long_train"](), batch=16, dtype=kind, minimize="flops")
        pair = schedule_pair(plan, (True,) * len(plan.inputs), times)
        assert pair.backward is not None
        for schedule in (pair.forward, pair.backward):
            text = print_torch(schedule, "f")
            assert ("wide_product(" in text) == (kind in wide)
            assert ("mm(" in text) == (kind not in wide)
    native = OpTimes(profile, "bfloat16").mm(2048, 2048, 2048) / single.mm(2048, 2048, 2048)
    assert native == pytest.approx(work, rel=0.2)


@pytest.mark.skipif(
    not half_precision.copies_factors("bfloat16", "cpu"), reason="no products of bfloat16"
)
def test_torch_copies_factors_that_are_no_stack() -> None:
    """What times and memory of a batch of products in 16 bits are foreseen by."""
    stack, other = torch.randn(64, 32, 48).bfloat16(), torch.randn(64, 48, 16).bfloat16()

    def is_copied(left: torch.Tensor) -> bool:
        with torch.profiler.profile() as profile:
            torch.bmm(left, other)
        return "aten::copy_" in {event.key for event in profile.key_averages()}

    assert not is_copied(stack)
    assert not is_copied(stack.transpose(1, 2).contiguous().transpose(1, 2))
    assert is_copied(stack[:1].expand(64, 32, 48))
    assert is_copied(stack.transpose(0, 1).contiguous().transpose(0, 1))


def test_copies_of_factors_are_foreseen(monkeypatch: pytest.MonkeyPatch) -> None:
    """x beside a W of 256 blocks: repeated 256 times it was 512 MB that torch filled at each call,
    and bfloat16 took 5 to 10 times as long as float32."""
    monkeypatch.setattr(half_precision, "processor_features", lambda: "flags : avx512_bf16")
    sizes = {BATCH: 64, "o": 256, "i": 4096, "j": 16}
    left, right = Operand(Value("x", (BATCH, "i"))), Operand(Value("w", ("o", "i", "j")))
    step = Contract(Value("y", (BATCH, "o", "j")), left, right)
    profile = load_profile("float32").profile
    seconds: dict[str, float] = {}
    for kind in ("float32", "bfloat16"):
        times = OpTimes(profile, kind)
        found = find_forms(step, (left.legs,), (right.legs,), frozenset(), sizes, times).listed
        seconds[kind] = min(form.seconds for form in found if form.kind == "inplace")
        assert (min(found, key=lambda form: form.seconds).kind == "inplace") == (kind == "float32")
    copied = OpTimes(profile, "bfloat16").copy([(256, 0), (64 * 4096, 1)])
    assert seconds["bfloat16"] > copied > seconds["float32"] / 10


def test_copies_of_factors_count_as_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    """A gate in the middle of a state is repeated along the legs before it."""
    monkeypatch.setattr(half_precision, "processor_features", lambda: "flags : avx512_bf16")
    net = tn.Network("gate")
    net.input(a=2, b=32, c=512)
    net.output(a=2, d=32, c=512)
    net.tensor("G", "b d")
    plan = tn.plan(net, batch=16, dtype="bfloat16")
    schedule = lower(plan, OpTimes(load_profile("float32").profile, "bfloat16"))
    (product,) = (call for call in schedule.calls if isinstance(call, MatMul))
    assert (product.left.repeat or product.right.repeat) and schedule.copies_factors
    without = replace(schedule, copies_factors=False)
    repeated = 2 * 16 * 2 * 32 * 32
    alone = replace(schedule, packing_threads=0)
    assert alone.peak_bytes(16) == without.peak_bytes(16) + repeated
    assert schedule.peak_bytes(16) > alone.peak_bytes(16)


@pytest.mark.parametrize("size", [16, 1024], ids=["fresh", "kept"])
def test_factors_are_widened_as_they_are_stored(size: int) -> None:
    """A transposed weight that was copied row by row took ten times as long as its product."""
    matrix = torch.randn(size, size // 2).half()
    stack = torch.randn(2, size, size // 2).half()
    for given in (matrix, matrix.t(), stack, stack.transpose(1, 2), stack.permute(2, 0, 1)):
        found = wide_products.widened(given)
        assert torch.equal(found, given.float())
        assert found.stride() == given.stride()


@pytest.mark.parametrize("limit", [None, 60_000])
def test_wide_products_give_the_layer(limit: int | None, monkeypatch: pytest.MonkeyPatch) -> None:
    """y and gradients are near those of float64, in loops over parts and under double backward."""
    monkeypatch.setattr(half_precision, "processor_features", lambda: "flags :")
    torch.manual_seed(3)
    options = {} if limit is None else {"memory_limit": limit}
    net = tn.topologies.tensor_train((4, 4, 4), (4, 4, 4), rank=9)
    layer = tn.Layer(net, backend="torch", dtype=torch.float16, batch=64, **options)  # pyright: ignore
    exact = tn.Layer(net, backend="torch", dtype=torch.float64)
    with torch.no_grad():
        for parameter, given in zip(exact.parameters(), layer.parameters(), strict=True):
            parameter.copy_(given)
    assert "wide_product(" in layer.source()
    x = torch.randn(64, layer.in_features).to(torch.float16).requires_grad_()
    copy = x.detach().double().requires_grad_()
    found = torch.autograd.grad(layer(x).square().sum(), [x, *layer.parameters()])
    wanted = torch.autograd.grad(exact(copy).square().sum(), [copy, *exact.parameters()])
    for one, other in zip(found, wanted, strict=True):
        assert one.dtype is torch.float16
        assert (one.double() - other).abs().max() <= 1e-2 * other.abs().max()
    (first,) = torch.autograd.grad(layer(x).sum(), x, create_graph=True)
    first.square().sum().backward()
    assert all(parameter.grad is not None for parameter in layer.parameters())
