"""Launching CUDA kernels: arguments, grids, streams, contexts; with kernels written by hand.

The kernels run in tests/emulator behind the real cuda.bindings; only torch's answers about devices
are made up.
"""

from __future__ import annotations

import ctypes
import pickle
import threading
from collections.abc import Generator, Iterable
from contextlib import contextmanager
from typing import Any

import pytest
import torch

import tnlayer as tn
from tests.support.emulated import (
    MULTIPROCESSORS,
    SHARED_BYTES,
    STREAM,
    emulated_cubin,
    emulated_gpu,
    launches,
)
from tnlayer.backends.cuda_program import CudaProgram
from tnlayer.backends.cuda_unit import dense, runs_on
from tnlayer.backends.toolchains import cuda_driver
from tnlayer.codegen.cuda.source import Argument, CudaSource, Entry
from tnlayer.errors import BuildError
from tnlayer.hardware.gpu import Gpu
from tnlayer.ir import loops
from tnlayer.ir.plan import Plan
from tnlayer.lowering.calls.training_schedules import Mask
from tnlayer.runtime import cuda_devices

__all__ = ["emulated_gpu"]  # the fixture

# y = x W for x of 6 and y of 5 entries. A block takes two samples; W lies in shared memory, more
# than 48 KB of it so that the driver has to be asked.
FORWARD = """
extern __shared__ float room[];
extern "C" __global__ void __launch_bounds__(64) forward(
    const float* x0, const float* n0, float* out_y, void* workspace, long long batch, int blocks) {
  for (int k = threadIdx.x; k < 30; k += 64) room[k] = n0[k];
  __syncthreads();
  for (long long s = 2ll * blockIdx.x; s < batch; s += 2ll * blocks) {
    int k = threadIdx.x % 32;
    long long own = s + threadIdx.x / 32;
    if (k >= 5 || own >= batch) continue;
    float sum = 0;
    for (int i = 0; i < 6; ++i) sum += x0[own * 6 + i] * room[i * 5 + k];
    out_y[own * 5 + k] = sum;
  }
}
"""
BACKWARD = """
extern "C" __global__ void backward(
    const float* g, const float* n0, const float* x0, float* out_d_n0, float* out_d_x0,
    void* workspace, long long batch, int blocks) {
  float* partial = (float*)workspace + 30 * blockIdx.x;
  int i = threadIdx.x / 5, k = threadIdx.x % 5;
  float sum = 0;
  for (long long s = blockIdx.x; s < batch; s += blocks) {
    sum += x0[s * 6 + i] * g[s * 5 + k];
    if (k == 0) {
      float d = 0;
      for (int j = 0; j < 5; ++j) d += g[s * 5 + j] * n0[i * 5 + j];
      out_d_x0[s * 6 + i] = d;
    }
  }
  partial[threadIdx.x] = sum;
}
extern "C" __global__ void backward_after(
    const float* g, const float* n0, const float* x0, float* out_d_n0, float* out_d_x0,
    void* workspace, long long batch, int blocks) {
  float sum = 0;
  for (int b = 0; b < blocks; ++b) sum += ((float*)workspace)[30 * b + threadIdx.x];
  out_d_n0[threadIdx.x] = sum;
}
"""
SHARED = 60 * 1024
zeros_without_memory = torch._efficientzerotensor  # pyright: ignore[reportPrivateImportUsage]
X, W = Argument("x0", 6, True, False), Argument("n0", 30, False, False)
EMPTY = loops.LoopProgram("forward", "float32", 1, 1, (), (), (), ())


def forward_by_hand(plan: Plan, device: Gpu) -> CudaSource:
    """The forward of ``one()``."""
    del plan, device
    arguments = (X, W, Argument("out_y", 5, True, True))
    entries = (Entry("forward", "persistent", 0, 64, SHARED),)
    return CudaSource(FORWARD, entries, arguments, "float32", "float32", 2, 0, 0, 1, EMPTY)


def backward_by_hand(plan: Plan, wanted: Iterable[str], device: Gpu) -> CudaSource:
    """The backward of ``one()``; arguments in an order of its own."""
    del plan, device
    assert set(wanted) == {"x0", "n0"}
    arguments = (
        Argument("g", 5, True, False), W, X,
        Argument("out_d_n0", 30, False, True), Argument("out_d_x0", 6, True, True),
    )  # fmt: skip
    entries = (
        Entry("backward", "persistent", 0, 30, 0), Entry("backward_after", "fixed", 1, 30, 0)
    )  # fmt: skip
    return CudaSource(BACKWARD, entries, arguments, "float32", "float32", 1, 0, 30, 0, EMPTY)


@pytest.fixture(autouse=True)
def by_hand(monkeypatch: pytest.MonkeyPatch, emulated_gpu: ctypes.CDLL) -> None:
    """Kernels by hand instead of printed ones."""
    del emulated_gpu

    def made(program: CudaProgram, mask: Mask | None, device: Gpu) -> CudaSource:
        if mask is None:
            return forward_by_hand(program.plan, device)
        return backward_by_hand(program.plan, program.wanted(mask), device)

    monkeypatch.setattr(CudaProgram, "_make", made)


def one() -> tn.Network:
    """A network of one tensor: y = x W."""
    net = tn.Network("one")
    net.input(i=6)
    net.output(j=5)
    net.tensor("W", "i j")
    return net


def program() -> CudaProgram:
    """``one()`` for the device of its arrays."""
    found = tn.compile(one(), backend="cuda")
    assert isinstance(found, CudaProgram)
    return found


@pytest.mark.parametrize("batch", [0, 1, 2, 7, 200])
def test_forward_and_backward(batch: int) -> None:
    """Both give what the definition gives, ragged groups of samples and none included."""
    x = torch.randn(batch, 6, requires_grad=True)
    w = torch.randn(6, 5, requires_grad=True)
    slope = torch.randn(batch, 5)
    y = program()(x, parameters={"W": w})
    dx, dw = torch.autograd.grad(y, [x, w], slope)
    torch.testing.assert_close(y, x @ w)
    torch.testing.assert_close(dx, slope @ w.T)
    torch.testing.assert_close(dw, x.T @ slope)


def test_launches_are_as_the_source_says() -> None:
    """Grid, threads, shared memory and stream; a persistent grid fills the device, no more."""
    run, w = program(), torch.randn(6, 5)
    with torch.no_grad():
        for batch, blocks in ((1, 1), (5, 3), (1000, 3 * MULTIPROCESSORS)):
            launches()
            run(torch.randn(batch, 6), parameters={"W": w})
            (seen,) = launches()
            assert (seen.name, seen.grid, seen.threads) == ("forward", blocks, 64)
            assert (seen.shared, seen.stream) == (SHARED, STREAM)
    x = torch.randn(3, 6, requires_grad=True)
    y = run(x, parameters={"W": w.requires_grad_()})
    launches()
    y.sum().backward()
    assert [(seen.name, seen.grid) for seen in launches()] == [
        ("backward", 3),
        ("backward_after", 1),
    ]


def test_the_stream_is_read_at_every_launch(monkeypatch: pytest.MonkeyPatch) -> None:
    """A program that ran in one stream runs in another one as soon as that is current."""
    run, w, x = program(), torch.randn(6, 5), torch.randn(2, 6)
    with torch.no_grad():
        run(x, parameters={"W": w})
        monkeypatch.setattr(cuda_devices, "raw_stream", lambda device: 0xBEEF)
        run(x, parameters={"W": w})
    assert [seen.stream for seen in launches()] == [STREAM, 0xBEEF]


def test_the_default_stream_is_torchs(monkeypatch: pytest.MonkeyPatch) -> None:
    """torch's default stream goes to the driver by its own number: as 0 it would be that of the
    thread where CUDA_PYTHON_CUDA_PER_THREAD_DEFAULT_STREAM is set."""
    monkeypatch.setattr(cuda_devices, "raw_stream", lambda device: 0)
    with torch.no_grad():
        program()(torch.randn(2, 6), parameters={"W": torch.randn(6, 5)})
    assert [seen.stream for seen in launches()] == [1]  # CU_STREAM_LEGACY


def test_a_multiprocessor_has_room_for_its_blocks() -> None:
    """The driver is asked for as much shared memory as the blocks of the grid take, with what it
    keeps for each, and for the first cache's share otherwise; what a grid is not chosen for is left
    to the driver."""
    run = program()
    x = torch.randn(1000, 6, requires_grad=True)
    y = run(x, parameters={"W": torch.randn(6, 5, requires_grad=True)})
    y.sum().backward()
    forward, backward, after = launches()
    held = forward.grid // MULTIPROCESSORS
    taken = held * (SHARED + 1024)
    assert held == 3 and taken <= forward.carveout / 100 * SHARED_BYTES < taken + SHARED_BYTES / 50
    assert backward.carveout < forward.carveout and after.carveout == -1


def test_a_launch_takes_one_call_and_a_look(emulated_gpu: ctypes.CDLL) -> None:
    """A loaded program asks the driver for the thread's context and then launches, no more."""
    layer = tn.Layer(one(), backend="cuda")
    x = torch.randn(2, 6)
    with torch.no_grad():
        layer(x)
        launches()
        layer(x)
    assert emulated_gpu.emulator_calls() == 2


def test_calls_in_many_threads_do_not_mix_their_arguments() -> None:
    """Threads that launch one program at once each get their own result."""
    run, w = program(), torch.randn(6, 5)
    wrong: list[int] = []

    def work(seed: int) -> None:
        x = torch.full((3, 6), float(seed))
        with torch.no_grad():
            for _ in range(50):
                if not torch.equal(run(x, parameters={"W": w}), seed * w.sum(0).expand(3, 5)):
                    wrong.append(seed)

    w = torch.ones(6, 5)
    threads = [threading.Thread(target=work, args=(seed,)) for seed in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong


def test_zeros_without_memory() -> None:
    """A gradient that torch keeps as zeros without memory is read as zeros."""
    x = torch.randn(3, 6, requires_grad=True)
    y = program()(x, parameters={"W": torch.randn(6, 5, requires_grad=True)})
    (found,) = torch.autograd.grad(y, x, zeros_without_memory(3, 5))
    assert torch.equal(found, torch.zeros(3, 6))


def test_kernels_get_addresses_of_16_bytes(monkeypatch: pytest.MonkeyPatch) -> None:
    """Arrays that begin elsewhere are copied, in the long and in the short way of a layer."""
    seen: list[int] = []
    set_values = cuda_driver.Arguments.set

    def watched(self: cuda_driver.Arguments, values: list[int]) -> None:
        seen.extend(values[:3])
        set_values(self, values)

    monkeypatch.setattr(cuda_driver.Arguments, "set", watched)
    layer, flat = tn.Layer(one(), backend="cuda", bias=False), torch.randn(4 * 6 + 1)
    with torch.no_grad():
        aligned = [layer(flat[1:].view(4, 6).clone()) for _ in range(2)]
        views = [layer(flat[1:].view(4, 6)) for _ in range(2)]
    assert len(seen) == 12 and not any(value % 16 for value in seen)
    assert all(torch.equal(found, aligned[0]) for found in (*aligned, *views))


def test_a_module_is_loaded_once(emulated_gpu: ctypes.CDLL) -> None:
    """One module a unit, however many threads call first; the second call loads nothing."""
    run, w, x = program(), torch.randn(6, 5), torch.randn(2, 6)
    results: list[torch.Tensor] = []

    def work() -> None:
        with torch.no_grad():
            results.append(run(x, parameters={"W": w}))

    threads = [threading.Thread(target=work) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(results) == 8 and all(torch.equal(results[0], found) for found in results)
    assert emulated_gpu.emulator_modules() == 1


@pytest.mark.parametrize("left", ["emulator_leave_context", "emulator_enter_context"])
def test_a_thread_gets_the_devices_context(emulated_gpu: ctypes.CDLL, left: str) -> None:
    """torch binds a context late in a new thread, or that of another device is current still;
    launching does not depend on that."""
    run, leave = program(), getattr(emulated_gpu, left)
    leave()
    x, w = torch.randn(2, 6, requires_grad=True), torch.randn(6, 5, requires_grad=True)
    y = run(x, parameters={"W": w})
    leave()
    y.sum().backward()
    torch.testing.assert_close(x.grad, w.sum(1).expand(2, 6))


def test_unusual_memory() -> None:
    """Strided, misaligned, expanded and negated arrays are read as they are meant."""
    run, w = program(), torch.randn(6, 5)
    base, flat = torch.randn(12, 8), torch.randn(8 * 6 + 1)
    views = (base[:6].T, base.T[:, ::2], flat[1:].view(8, 6), torch.randn(6).expand(8, 6))
    with torch.no_grad():
        for x in views:
            assert torch.equal(run(x, parameters={"W": w}), run(x.clone(), parameters={"W": w}))
    x = torch.randn(8, 6, requires_grad=True)
    y = run(x, parameters={"W": w.requires_grad_()})
    (found,) = torch.autograd.grad(y, x, torch.ones(()).expand(8, 5))
    torch.testing.assert_close(found, w.sum(1).expand(8, 6))


def test_dense_copies_only_what_it_must() -> None:
    """Entries in a row are passed on; another dtype or stride makes a copy."""
    x = torch.randn(9, 4)
    assert dense(x, torch.float32) is x
    for other in (x.T, x.double(), torch.randn(4, dtype=torch.complex64).imag):
        found = dense(other, torch.float32)
        assert found.data_ptr() != other.data_ptr()
        assert found.is_contiguous() and torch.equal(found, other.to(torch.float32))


def test_the_reference_runs_where_torch_looks_into_it() -> None:
    """torch.func, forward mode, double backward and torch.compile see plain torch calls."""
    run, w = program(), torch.randn(6, 5, requires_grad=True)
    x = torch.randn(3, 6, requires_grad=True)

    def call(x: torch.Tensor) -> torch.Tensor:
        return run(x, parameters={"W": w})

    launches()
    torch.testing.assert_close(torch.func.vmap(lambda row: call(row[None])[0])(x), x @ w)
    jacobian: Any = torch.func.jacrev(call)(x)
    torch.testing.assert_close(jacobian[0, :, 0], w.T)
    traced = torch.compile(call, backend="eager", fullgraph=True)
    torch.testing.assert_close(traced(x), x @ w)
    assert launches() == []
    (dx,) = torch.autograd.grad(call(x).square().sum(), x, create_graph=True)
    (again,) = torch.autograd.grad(dx.sum(), w)
    y = x @ w
    (expected,) = torch.autograd.grad(y.square().sum(), x, create_graph=True)
    torch.testing.assert_close(again, torch.autograd.grad(expected.sum(), w)[0])


def test_a_failed_call_names_itself() -> None:
    """An error of the driver says which call failed, and how."""
    with pytest.raises(BuildError, match=r"cuDeviceGet failed: CUDA_ERROR_INVALID_VALUE .*words"):
        cuda_driver._call("cuDeviceGet", 7)


def test_capturing_before_loading_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    """During a capture nothing is loaded; after prepare() nothing has to be."""
    run, w, x = program(), torch.randn(6, 5), torch.randn(2, 6)
    monkeypatch.setattr(cuda_devices, "is_capturing", lambda: True)
    with torch.no_grad(), pytest.raises(BuildError, match=r"step once before.*prepare\(\)"):
        run(x, parameters={"W": w})
    monkeypatch.setattr(cuda_devices, "is_capturing", lambda: False)
    run.prepare()
    monkeypatch.setattr(cuda_devices, "is_capturing", lambda: True)
    y = run(x.requires_grad_(), parameters={"W": w.requires_grad_()})
    y.sum().backward()
    assert [seen.name for seen in launches()] == ["forward", "backward", "backward_after"]


def test_prepare_loads_on_the_layers_device(monkeypatch: pytest.MonkeyPatch) -> None:
    """Kernels are loaded where the layer lies, not where torch's current device is."""
    current = [1]

    @contextmanager
    def on_device(device: int) -> Generator[None]:
        before, current[0] = current[0], device
        yield
        current[0] = before

    monkeypatch.setattr(cuda_devices, "on_device", on_device)
    monkeypatch.setattr(cuda_devices, "current_gpu", lambda: current[0])
    # The kernels by hand are those of one set of wanted gradients.
    monkeypatch.setattr(
        CudaProgram, "usual_masks", lambda program, objective: (program.training_mask(),)
    )
    layer = tn.Layer(one(), backend="cuda").prepare()
    monkeypatch.setattr(cuda_devices, "is_capturing", lambda: True)
    layer(torch.randn(2, 6, requires_grad=True)).sum().backward()
    assert current == [1] and len(launches()) == 3


def test_kernels_for_another_architecture(monkeypatch: pytest.MonkeyPatch) -> None:
    """What was built for sm_80 runs on sm_86, and is refused by name on sm_90."""
    run = tn.compile(one(), backend="cuda", arch="sm_80")
    w, x = torch.randn(6, 5), torch.randn(2, 6)
    with torch.no_grad(), pytest.raises(BuildError, match=r"arch='sm_80'.*which is sm_90"):
        run(x, parameters={"W": w})
    monkeypatch.setattr(cuda_devices, "arch_of", lambda device: "sm_86")
    with torch.no_grad():
        torch.testing.assert_close(run(x, parameters={"W": w}), x @ w)
    assert runs_on("sm_100", "sm_103") and not runs_on("sm_90a", "sm_100")


def test_arrays_on_the_cpu_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without a GPU a call says what it got and what to do; meta arrays pass."""
    run, w = program(), torch.randn(6, 5)
    monkeypatch.setattr(cuda_devices, "is_on_gpu", lambda array: array.is_cuda)
    monkeypatch.setattr(cuda_devices, "has_gpu", lambda: False)
    for differentiable in (False, True):
        x = torch.randn(2, 6, requires_grad=differentiable)
        with (
            torch.set_grad_enabled(differentiable),
            pytest.raises(BuildError, match=r"got an array on cpu; .*sees no CUDA device.*cuda"),
        ):
            run(x, parameters={"W": w})
    with torch.no_grad():
        shape = run(torch.empty(4, 6, device="meta"), parameters={"W": w.to("meta")}).shape
    assert shape == (4, 5)


def test_a_program_travels_by_pickle() -> None:
    """The architecture that was asked for comes along; kernels are built again."""
    run = tn.compile(one(), backend="cuda", arch="sm_90")
    copy = pickle.loads(pickle.dumps(run))
    x, w = torch.randn(3, 6), torch.randn(6, 5)
    assert copy.arch == "sm_90"
    with torch.no_grad():
        assert torch.equal(copy(x, parameters={"W": w}), run(x, parameters={"W": w}))


def test_a_layer_runs_its_kernels() -> None:
    """Layer(backend="cuda") launches in training and inference, and adds its bias."""
    layer = tn.Layer(one(), backend="cuda", bias=True)
    x = torch.randn(4, 2, 6, requires_grad=True)
    expected = x @ layer.get_parameter("W") + layer.get_parameter("bias")
    y = layer(x)
    torch.testing.assert_close(y, expected)
    y.sum().backward()
    assert [seen.name for seen in launches()] == ["forward", "backward", "backward_after"]
    assert layer.explain().backend == "cuda" and "__global__" in layer.source()
    torch.testing.assert_close(layer.to_dense(), layer.get_parameter("W").T)


def test_the_emulator_finds_writes_past_shared_memory() -> None:
    """A kernel that writes one entry too many fails."""
    text = FORWARD.replace("room[k] = n0[k];", f"room[k] = n0[k]; room[{SHARED // 4}] = 0;")
    cubin = emulated_cubin(text, "sm_90")
    cuda_driver.bind_context(0)
    function = cuda_driver.find_function(cuda_driver.load_module(cubin.binary), "forward", SHARED)
    arrays = [torch.randn(2, 6), torch.randn(6, 5), torch.empty(2, 5)]
    arguments = cuda_driver.Arguments(6)
    arguments.set([*(array.data_ptr() for array in arrays), 0, 2, 1])
    with pytest.raises(BuildError, match=r"cuLaunchKernel failed: .*launched before"):
        cuda_driver.launch(function, 1, 64, SHARED, 0, arguments)
