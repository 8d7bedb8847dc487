"""The cpp backend: topologies against torch, threads, processes, batches, the kernel cache."""

from __future__ import annotations

import ctypes
import multiprocessing
import os
import pickle
import subprocess
import sys
import threading
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

import tnlayer as tn
from tests.support.cpp_units import build_together, has_compiler, programs_of, small_code
from tests.support.small_topologies import NETWORKS, distance, filled, results, small_layer
from tests.support.subprocesses import run_python
from tnlayer import topologies
from tnlayer.backends.cpp_program import CppProgram
from tnlayer.backends.cpu_program import this_cpu
from tnlayer.backends.toolchains import cpp_build, kernel_store
from tnlayer.codegen.cpp.printer import print_cpp
from tnlayer.hardware.cpu import Cpu
from tnlayer.ir.loops import LoopProgram
from tnlayer.ir.plan import Plan
from tnlayer.lowering.cpu.pipeline import backward_program, forward_program, schedule_lanes
from tnlayer.lowering.cpu.supported_plans import can_fuse

pytestmark = pytest.mark.skipif(not has_compiler(), reason="no C++ compiler")

BITS = (2,) * 6
DTYPES = {"float32": torch.float32, "float64": torch.float64, "complex64": torch.complex64}
# Complex code takes long to compile: these have every kind of step.
COMPLEX = ("tensor_train", "odd", "cp", "block_term", "butterfly", "ring")
# Networks whose legs can be lanes in float32 vectors of 16, so that both schedules are tested.
LEGS_AS_LANES = ("tensor_train", "butterfly", "odd")
SAMPLES_AS_LANES = ("cp", "btt", "low_rank")


@pytest.fixture(scope="module", params=DTYPES)
def layers(request: pytest.FixtureRequest) -> dict[str, tn.Layer]:
    """All networks in one dtype, compiled together."""
    dtype = DTYPES[request.param]
    names = COMPLEX if dtype.is_complex else tuple(NETWORKS)
    found = {name: filled(NETWORKS[name](), "cpp", dtype) for name in names}
    programs = [program for layer in found.values() for program in programs_of(layer)]
    build_together([(program, program.training_mask()) for program in programs])
    return found


@pytest.mark.crossed
@pytest.mark.parametrize("name", NETWORKS)
def test_topologies_are_as_exact_as_torch(layers: dict[str, tn.Layer], name: str) -> None:
    """Against float64: y at most twice, gradients at most three times torch's own error."""
    if name not in layers:
        pytest.skip("takes long to compile in complex")
    layer = layers[name]
    dtype = layer.dtype
    reference = filled(NETWORKS[name](), "torch", dtype)
    wide = torch.complex128 if dtype.is_complex else torch.float64
    exact = filled(NETWORKS[name](), "torch", wide)
    exact.load_state_dict({key: value.to(wide) for key, value in reference.state_dict().items()})
    layer.load_state_dict(reference.state_dict())
    for batch in (37, 1):
        x = torch.randn(batch, layer.in_features, dtype=dtype)
        slope = torch.randn(batch, layer.out_features, dtype=dtype)
        found = results(layer, x, slope)
        own = results(reference, x, slope)
        true = results(exact, x.to(wide), slope.to(wide))
        floor = 4 * torch.finfo(dtype).eps
        for number, (a, b, c) in enumerate(zip(found, own, true, strict=True)):
            if wide == dtype:
                assert distance(a, c) < 1e-12
                continue
            allowed = (3 if number else 2) * max(distance(b, c), floor)
            assert distance(a, c) <= allowed, f"result {number} at batch {batch}"


def test_both_schedules_are_tested() -> None:
    """Legs fill the vectors where they can; elsewhere samples do, and the reason is said."""
    for name, net in NETWORKS.items():
        plan = replace(tn.plan(net(), minimize="combo-4"), batch=1)
        scheduled = schedule_lanes(plan, Cpu(64, 32))
        if name in LEGS_AS_LANES:
            assert scheduled.lanes, f"{name}: {scheduled.reason}"
        if name in SAMPLES_AS_LANES:
            assert not scheduled.lanes, name
        assert bool(scheduled.reason) != bool(scheduled.lanes)


@pytest.mark.parametrize("name", ["tensor_train", "ring"])
@pytest.mark.parametrize("batch", [0, 1, 15, 16, 17, 255])
def test_every_batch_size(layers: dict[str, tn.Layer], name: str, batch: int) -> None:
    """Ragged blocks of samples, one sample and none give what torch gives, shapes included."""
    layer = layers[name]
    reference = filled(NETWORKS[name](), "torch", layer.dtype)
    layer.load_state_dict(reference.state_dict())
    x = torch.randn(batch, layer.in_features, dtype=layer.dtype)
    slope = torch.randn(batch, layer.out_features, dtype=layer.dtype)
    pairs = zip(results(layer, x, slope), results(reference, x, slope), strict=True)
    for found, expected in pairs:
        assert found.shape == expected.shape
        torch.testing.assert_close(found, expected, rtol=2e-4, atol=2e-4)


@pytest.mark.parametrize("name", ["tensor_train", "odd", "block_term"])
def test_gradcheck(layers: dict[str, tn.Layer], name: str) -> None:
    """The compiled backward is the derivative of the compiled forward."""
    layer = layers[name]
    if layer.dtype != torch.float64:
        pytest.skip("finite differences need float64")
    x = torch.randn(2, layer.in_features, dtype=torch.float64)[:, :].requires_grad_()
    (program,) = programs_of(layer)
    arrays = [layer.get_parameter(key).detach().requires_grad_() for key in
              program.parameter_order]  # fmt: skip

    def call(x: torch.Tensor, *parameters: torch.Tensor) -> torch.Tensor:
        named = dict(zip(program.parameter_order, parameters, strict=True))
        return program(x, parameters=named)

    assert torch.autograd.gradcheck(call, (x, *arrays), fast_mode=True)


def test_nan_and_inf_stay_in_their_sample(layers: dict[str, tn.Layer]) -> None:
    """A NaN in one sample reaches no other, whether samples or legs are the lanes."""
    for name in ("tensor_train", "odd", "ring"):
        layer = layers[name]
        x = torch.randn(5, layer.in_features, dtype=layer.dtype)
        clean = layer(x)
        x[2, 0], x[3, 1] = torch.nan, torch.inf
        y = layer(x)
        assert torch.equal(y[[0, 1, 4]], clean[[0, 1, 4]])
        assert not torch.isfinite(y[2].abs()).all()
        assert not torch.isfinite(y[3].abs()).all()


def test_unusual_memory(layers: dict[str, tn.Layer]) -> None:
    """Strided, transposed, offset and expanded inputs and gradients are read as they are meant."""
    layer = layers["tensor_train"]
    features = layer.in_features
    base = torch.randn(features, 6, dtype=layer.dtype)
    wide = torch.randn(6, 2 * features, dtype=layer.dtype)
    flat = torch.randn(6 * features + 1, dtype=layer.dtype)
    for x in (base.T, wide[:, ::2], flat[1:].view(6, features), base[:, :1].T.expand(6, -1)):
        assert torch.equal(layer(x), layer(x.clone(memory_format=torch.contiguous_format)))
    leaf = torch.randn(6, features, dtype=layer.dtype, requires_grad=True)
    y = layer(leaf)
    one = torch.ones((), dtype=layer.dtype)
    (first,) = torch.autograd.grad(y, leaf, one.expand_as(y), retain_graph=True)
    (second,) = torch.autograd.grad(y, leaf, torch.ones_like(y))
    assert torch.equal(first, second)
    if layer.dtype.is_complex:
        assert torch.equal(layer(leaf.conj()), layer(leaf.conj().resolve_conj()))


def test_repeats_are_bitwise_equal(layers: dict[str, tn.Layer]) -> None:
    """1,000 training steps from the same numbers give the same bits, on two threads."""
    if layers["odd"].dtype != torch.float32:
        pytest.skip("one dtype is enough")
    threads = torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        for name in ("tensor_train", "ring"):
            layer = layers[name]
            x = torch.randn(33, layer.in_features, dtype=layer.dtype)
            slope = torch.randn(33, layer.out_features, dtype=layer.dtype)
            first = results(layer, x, slope)
            for _ in range(1000):
                again = results(layer, x, slope)
                assert all(torch.equal(a, b) for a, b in zip(first, again, strict=True))
    finally:
        torch.set_num_threads(threads)


def test_many_threads_call_one_layer(layers: dict[str, tn.Layer]) -> None:
    """16 threads that call one layer at once get what one thread gets, to the bit."""
    threads_before = torch.get_num_threads()
    # Sums over samples are taken in the order of the threads: one thread here, one in each worker.
    torch.set_num_threads(1)
    layer = layers["tensor_train"]
    x = torch.randn(16, 9, layer.in_features, dtype=layer.dtype)
    slope = torch.randn(9, layer.out_features, dtype=layer.dtype)
    expected = [results(layer, part, slope) for part in x]
    found: dict[int, list[torch.Tensor]] = {}

    def work(number: int) -> None:
        torch.set_num_threads(1)
        for _ in range(5):
            found[number] = results(layer, x[number], slope)

    threads = [threading.Thread(target=work, args=(number,)) for number in range(16)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    torch.set_num_threads(threads_before)
    for number, one in enumerate(expected):
        assert all(torch.equal(a, b) for a, b in zip(found[number], one, strict=True))


SMALL = """
import torch, tnlayer as tn
net = tn.topologies.tensor_train((4, 4), (4, 4), rank=2)
torch.manual_seed(0)
layer = tn.Layer(net, backend="cpp")
x = torch.randn(5, 16, requires_grad=True)
y = layer(x)
y.sum().backward()
print(float(y.sum()), float(x.grad.sum()))
"""


def _child(queue: Any, pickled: bytes | None) -> None:
    torch.set_num_threads(1)
    layer = pickle.loads(pickled) if pickled else small_layer()
    queue.put(layer(torch.ones(40, 16)).tolist())


@pytest.mark.parametrize("method", ["fork", "spawn"])
def test_worker_processes(method: str) -> None:
    """A layer that has run here runs in forked and in spawned workers; it travels by pickle."""
    layer = small_layer()
    expected = layer(torch.ones(40, 16))
    context: Any = multiprocessing.get_context(method)
    queue = context.Queue()
    pickled = pickle.dumps(layer) if method == "spawn" else None
    worker = context.Process(target=_child, args=(queue, pickled))
    worker.start()
    found = queue.get(timeout=120)
    worker.join(timeout=60)
    torch.testing.assert_close(torch.tensor(found), expected)


def test_two_processes_build_the_same_kernel(tmp_path: Path) -> None:
    """Both succeed with an empty cache; a third finds all in it; nothing else is left there."""
    environment = {**os.environ, "TNLAYER_CACHE_DIR": str(tmp_path)}
    workers = [
        subprocess.Popen(
            [sys.executable, "-c", SMALL], env=environment, stdout=subprocess.PIPE, text=True,
            cwd=Path(__file__).parents[2],
        )
        for _ in range(2)
    ]  # fmt: skip
    outputs = [worker.communicate(timeout=300)[0] for worker in workers]
    assert [worker.returncode for worker in workers] == [0, 0]
    assert outputs[0] == outputs[1]
    kept = sorted(path.name for path in (tmp_path / "kernels").iterdir())
    assert sorted(name.split(".")[1] for name in kept) == ["json", "json", "so", "so"]
    third = run_python(SMALL, TNLAYER_CACHE_DIR=str(tmp_path), CXX="/bin/false-compiler")
    assert "BuildError" in third.stderr  # the compiler is part of the key


@pytest.mark.parametrize("damage", ["cut", "flipped", "gone", "empty", "another's"])
def test_a_damaged_kernel_is_built_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, damage: str
) -> None:
    """Whatever happened to a file in the cache, it is not opened, and it is replaced."""
    monkeypatch.setenv("TNLAYER_CACHE_DIR", str(tmp_path))
    monkeypatch.setattr(cpp_build, "_loaded", {})
    source = 'extern "C" int answer() { return 42; }\n'
    assert cpp_build.load_library(source).answer() == 42
    (library,) = (tmp_path / "kernels").glob("*.so")
    content = library.read_bytes()
    library.unlink()  # the process still runs it
    if damage == "another's":
        cpp_build.load_library('extern "C" int answer() { return 41; }\n')
        (other,) = (tmp_path / "kernels").glob("*.so")
        other.rename(library)
    elif damage != "gone":
        flipped = content[:99] + bytes([content[99] ^ 1]) + content[100:]
        library.write_bytes({"cut": content[:-99], "flipped": flipped, "empty": b""}[damage])
    assert cpp_build.open_library(library.stem) is not None  # it is in memory
    monkeypatch.setattr(cpp_build, "_loaded", {})
    assert cpp_build.open_library(library.stem) is None
    assert cpp_build.load_library(source).answer() == 42
    assert cpp_build.KERNELS.read(library.name) == content[: -len(b"\nsha256:") - 65]


def test_the_cache_can_be_switched_off(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """TNLAYER_CACHE=0 keeps nothing; a folder that others may write to is not used."""
    monkeypatch.setenv("TNLAYER_CACHE_DIR", str(tmp_path))
    monkeypatch.setenv("TNLAYER_CACHE", "0")
    assert cpp_build.load_library('extern "C" int answer() { return 40; }\n').answer() == 40
    assert not list(tmp_path.iterdir())
    monkeypatch.delenv("TNLAYER_CACHE")
    tmp_path.chmod(0o777)
    assert cpp_build.load_library('extern "C" int answer() { return 39; }\n').answer() == 39
    assert not list(tmp_path.iterdir())


COLD = """
import torch, tnlayer as tn
from tnlayer.backends import lowered_for_cpu
from tnlayer.backends.toolchains import cpp_build, kernel_store
def refuse(*_): raise AssertionError("made again")
torch.manual_seed(0)
net = tn.topologies.tensor_train((4, 4), (4, 4), rank=2)
layer = tn.Layer(net, backend="cpp")
if {known}:
    for module, name in (
        (lowered_for_cpu, "finish"), (kernel_store, "print_units"),
        (cpp_build, "_run"),
    ):
        assert hasattr(module, name)
        setattr(module, name, refuse)
x = torch.ones(3, layer.in_features, requires_grad=True)
layer(x).sum().backward()
print(x.grad.sum().item(), next(layer.parameters()).grad.sum().item())
"""


def test_a_known_kernel_is_not_made_again(tmp_path: Path) -> None:
    """In a second process nothing is scheduled, printed, compiled or asked of the compiler."""
    found = [
        run_python(COLD.format(known=known), TNLAYER_CACHE_DIR=str(tmp_path))
        for known in (False, True)
    ]
    assert [done.returncode for done in found] == [0, 0], found[1].stderr
    assert found[0].stdout == found[1].stdout


@pytest.mark.parametrize("damage", ["note", "library"])
def test_a_kernel_without_its_note_or_library_is_made_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, damage: str
) -> None:
    """A note that cannot be read is no note; one whose library is gone is of no use."""
    monkeypatch.setenv("TNLAYER_CACHE_DIR", str(tmp_path))
    monkeypatch.setattr(cpp_build, "_loaded", {})
    x = torch.randn(3, 16)
    layer = small_layer()
    expected = layer(x)
    for path in (tmp_path / "kernels").glob("*.json" if damage == "note" else "*.so"):
        path.unlink()
        path.write_bytes(b"{}")
    monkeypatch.setattr(cpp_build, "_loaded", {})
    (program,) = programs_of(layer)
    program._kernels.clear()
    torch.testing.assert_close(layer(x), expected, rtol=0, atol=0)


def test_notes_tell_kernels_apart(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A note's key holds plan, wanted gradients, CPU and code, but not why a plan was chosen."""
    monkeypatch.setenv("TNLAYER_CACHE_DIR", str(tmp_path))
    program = tn.compile(NETWORKS["tensor_train"](), backend="cpp")
    assert isinstance(program, CppProgram)
    mask = program.training_mask()
    keys = {program.forward_kernel._key, program.backward_kernel(mask)._key}
    keys.add(program.backward_kernel((False, *mask[1:]))._key)
    program.plan = replace(program.plan, batch=77)
    assert program.forward_kernel._key in keys
    program.plan = replace(program.plan, dtype="float64")
    keys.add(program.forward_kernel._key)
    program.cpu = small_code(program.cpu)
    keys.add(program.forward_kernel._key)
    monkeypatch.setattr(kernel_store, "code_digest", lambda: "other code")
    keys.add(program.forward_kernel._key)
    assert len(keys) == 6


def test_without_a_compiler(monkeypatch: pytest.MonkeyPatch) -> None:
    """backend="cpp" says how to install a compiler; backend="auto" takes torch."""
    monkeypatch.setenv("PATH", "/nonexistent")
    monkeypatch.delenv("CXX", raising=False)
    net = topologies.low_rank(6, 4, rank=2)
    with pytest.raises(tn.BuildError, match="apt-get install"):
        tn.Layer(net, backend="cpp")
    assert tn.compile(net, backend="auto").backend == "torch"


def test_a_failing_compiler_is_quoted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The compiler's own message is in the error."""
    monkeypatch.setenv("TNLAYER_CACHE_DIR", str(tmp_path))
    with pytest.raises(tn.BuildError, match="nonsense"):
        cpp_build.load_library("nonsense;")


def test_transforms_take_the_torch_code() -> None:
    """vmap, jvp and double backward of a compiled layer are those of torch."""
    layer = small_layer()
    reference = filled(topologies.tensor_train((4, 4), (4, 4), rank=2), "torch", torch.float32)
    x = torch.randn(3, 5, 16)
    torch.testing.assert_close(torch.vmap(layer)(x), torch.vmap(reference)(x))
    found, expected = (torch.func.jvp(one, (x[0],), (x[1],))[1] for one in (layer, reference))
    torch.testing.assert_close(found, expected)
    leaf = x[0].clone().requires_grad_()
    second: list[torch.Tensor] = []
    for one in (layer, reference):
        (first,) = torch.autograd.grad(one(leaf).square().sum(), leaf, create_graph=True)
        second += torch.autograd.grad(first.square().sum(), leaf)
    torch.testing.assert_close(*second)


def test_half_precision_computes_in_float32() -> None:
    """bfloat16 comes in and goes out; the error is that of rounding y once."""
    net = topologies.tensor_train(BITS, BITS, rank=3)
    layer = filled(net, "cpp", torch.bfloat16)
    exact = tn.Layer(net, backend="torch", dtype=torch.float64)
    exact.load_state_dict({key: value.double() for key, value in layer.state_dict().items()})
    x = torch.randn(9, 64, dtype=torch.bfloat16, requires_grad=True)
    y = layer(x)
    assert y.dtype == torch.bfloat16
    assert (
        distance(y.detach(), exact(x.detach().double()).detach())
        < 2 * torch.finfo(torch.bfloat16).eps
    )
    y.sum().backward()
    assert x.grad is not None and x.grad.dtype == torch.bfloat16


def test_prepare_builds_forward_and_backward(monkeypatch: pytest.MonkeyPatch) -> None:
    """After prepare() a training step compiles nothing; source() shows what runs."""
    layer = small_layer().prepare()
    (program,) = programs_of(layer)
    monkeypatch.setattr(CppProgram, "load", None)
    layer(torch.ones(3, 16, requires_grad=True)).sum().backward()
    assert "int forward(" in layer.source() and "int backward(" in layer.source()
    assert program.backend == "cpp" and "backend: cpp" in layer.explain()


def test_frozen_parameters_have_no_code() -> None:
    """Only the gradients that are asked for are in the backward."""
    program = tn.compile(NETWORKS["tensor_train"](), backend="cpp")
    assert isinstance(program, CppProgram)
    inputs = (True, *(False for _ in program.parameter_order))
    only_x = program.programs(inputs)[1]
    assert [buffer.name for buffer in only_x.of("output")] == ["out_d_x0"]
    assert not only_x.of("partial") and not only_x.after


def test_what_cannot_be_fused_is_said() -> None:
    """A step beyond the bounds is named with the reason, before anything is built."""
    net = topologies.low_rank(2**14, 2**14, rank=2**12)
    reason = can_fuse(tn.plan(net), Cpu())
    assert "partial sums" in reason
    with pytest.raises(tn.BuildError, match="cannot be built with backend='cpp': the backward"):
        tn.compile(net, backend="cpp")
    assert can_fuse(tn.plan(NETWORKS["odd"]()), Cpu()) == ""


def test_arrays_without_memory_go_through_torch() -> None:
    """On the meta device there is nothing to read: only shapes are worked out."""
    layer = small_layer().to("meta")
    assert layer(torch.empty(3, 16, device="meta")).shape == (3, 16)


def test_user_names_stay_out_of_the_source() -> None:
    """10,000 names of a fuzzer: none stands in generated text."""
    letters = "abcdefghijklmnopqrstuvwxyz_"
    generator = torch.Generator().manual_seed(3)
    names: list[str] = []
    for number in range(10_000 // 8):
        drawn = torch.randint(len(letters), (8, 12), generator=generator)
        words = [f"{''.join(letters[k] for k in row)}{number}" for row in drawn.tolist()]
        names += words
        if number % 125:
            continue
        label, x, a, b, i, j, bond, k = words
        net = tn.Network(label)
        net.input(x, {i: 4, k: 4})
        net.output(**{j: 4, k: 4})
        net.bond(**{bond: 3})
        net.tensor(a, [i, bond])
        net.tensor(b, [bond, j])
        program = tn.compile(net, backend="cpp")
        source = program.source()
        assert not [word for word in words if word in source]
        assert source == print_cpp_of_canonical()
    assert len(names) == 10_000


def print_cpp_of_canonical() -> str:
    """The source of the network above under plain names."""
    net = tn.Network()
    net.input("x", {"i": 4, "k": 4})
    net.output(j=4, k=4)
    net.bond(a=3)
    net.tensor("A", ["i", "a"])
    net.tensor("B", ["a", "j"])
    return tn.compile(net, backend="cpp").source()


MAIN = """
#include <cstdio>
int main() {{
  enum {{ INPUTS = {inputs}, ALL = {all} }};
  const size_t rows[] = {{{rows}}}, fixed[] = {{{fixed}}};
  const long batches[] = {{0, 1, 15, 16, 17, 33}};
  for (long batch : batches) {{
    void* arguments[ALL];
    for (int k = 0; k < ALL; k++) {{
      const size_t entries = rows[k] * batch + fixed[k];
      entry* start = (entry*)malloc(entries * sizeof(entry) + 1);
      for (size_t e = 0; e < entries && k < INPUTS; e++) start[e] = entry{{0.25f * (e % 7)}};
      arguments[k] = start;
    }}
    if ({name}(arguments, batch, 2)) return 1;
    for (int k = 0; k < ALL; k++) free(arguments[k]);
  }}
  puts("clean");
  return 0;
}}
"""


def standalone(program: LoopProgram) -> str:
    """A program that runs a kernel on arrays of exact size, at several batches."""
    arguments = program.of("input", "output")
    source = print_cpp(program)
    # Workspaces of exact size, at no special address: a sanitizer sees what lies beyond.
    for printed, exact in (
        ("(entries * sizeof(entry) + 4095) / 4096 * 4096", "entries * sizeof(entry)"),
        ("aligned_alloc(4096, bytes)", "malloc(bytes)"),
    ):
        assert source.count(printed) == 1
        source = source.replace(printed, exact)
    return source + MAIN.format(
        inputs=len(program.of("input")),
        all=len(arguments),
        rows=", ".join(str(b.size if b.batched else 0) for b in arguments),
        fixed=", ".join(str(0 if b.batched else b.size) for b in arguments),
        name=program.name,
    )


SANITIZED = ("tensor_train", "odd", "ring")


@pytest.mark.parametrize("name", SANITIZED)
def test_sanitizers_find_nothing(name: str, tmp_path: Path) -> None:
    """Forward and backward at ragged batches under AddressSanitizer and UBSan, standalone."""
    check_sanitized(tn.plan(NETWORKS[name](), minimize="combo-4"), tmp_path)


def test_addresses_in_a_workspace_are_aligned(tmp_path: Path) -> None:
    """The threads' addresses lie where a pointer may, whatever the arrays beside them take."""
    odd: list[Plan] = []
    # Which chain takes an odd number of entries hangs on the vectors of the machine.
    for size, bond in ((3, 3), (1, 1), (9, 1), (11, 1), (2, 1)):
        net = tn.Network("odd chain")
        net.input(i=size)
        net.output(j=size)
        net.bond(a=bond, b=bond)
        for name, legs in (("A", "i a"), ("B", "a b"), ("C", "b j")):
            net.tensor(name, legs)
        plan = tn.plan(net, minimize="combo-4", batch=512)
        backward = backward_program(plan, [value.name for value in plan.inputs], this_cpu())
        assert backward.workspace is not None
        if backward.workspace.shared % 2:
            odd.append(plan)
    assert odd, "behind arrays of all of them a pointer would be aligned by itself"
    check_sanitized(odd[0], tmp_path)


@pytest.mark.full
@pytest.mark.parametrize("dtype", ["float32", "complex128"])
@pytest.mark.parametrize("name", NETWORKS)
def test_sanitizers_find_nothing_in_any_topology(name: str, dtype: str, tmp_path: Path) -> None:
    """The same for every topology, real and complex."""
    check_sanitized(tn.plan(NETWORKS[name](), minimize="combo-4", dtype=dtype), tmp_path)


def check_sanitized(plan: Plan, tmp_path: Path) -> None:
    """Build and run a plan's two kernels with the sanitizers."""
    cpu = small_code(this_cpu())
    wanted = [value.name for value in plan.inputs]
    for program in (forward_program(plan, cpu), backward_program(plan, wanted, cpu)):
        unit, binary = tmp_path / f"{program.name}.cpp", tmp_path / program.name
        unit.write_text(standalone(program))
        flags = [flag for flag in cpp_build.FLAGS if flag not in ("-shared", "-fPIC")]
        command = [cpp_build.find_compiler().path, "-O0", *flags,
                   "-fsanitize=address,undefined", "-fno-sanitize-recover=all",
                   str(unit), "-o", str(binary)]  # fmt: skip
        built = subprocess.run(command, capture_output=True, text=True, check=False)
        if "cannot find -lasan" in built.stderr or "cannot find -lubsan" in built.stderr:
            pytest.skip("the sanitizers' libraries are not installed")
        assert built.returncode == 0, built.stderr
        # Threads of OpenMP are never joined, which the leak check takes for a leak.
        environment = {**os.environ, "ASAN_OPTIONS": "detect_leaks=0"}
        ran = subprocess.run(
            [str(binary)], capture_output=True, text=True, check=False, env=environment
        )
        assert ran.returncode == 0 and "clean" in ran.stdout, ran.stderr


def test_kernels_are_loaded_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Two layers of one network share a library."""
    monkeypatch.setenv("TNLAYER_CACHE_DIR", str(tmp_path))
    monkeypatch.setattr(cpp_build, "_loaded", {})
    source = 'extern "C" int answer() { return 41; }\n'
    first, second = cpp_build.load_library(source), cpp_build.load_library(source)
    assert isinstance(first, ctypes.CDLL) and first is second


def test_explain_says_whose_times_it_shows() -> None:
    """A compiled layer does not pass off torch's predicted times as its own."""
    text = str(small_layer().explain(8))
    assert "backend: cpp" in text
    assert "predicted for torch's calls" not in text
