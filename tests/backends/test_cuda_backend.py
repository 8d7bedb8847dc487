"""The cuda backend whole: printed kernels of every topology, launched and run in the emulator, and
built by NVRTC for two generations of GPUs."""

from __future__ import annotations

import ctypes
import re
from dataclasses import replace

import pytest
import torch

import tnlayer as tn
from tests.support.emulated import descending, emulated_cubin, emulated_gpu, launches
from tests.support.nvidia_tools import needs_nvrtc
from tests.support.small_topologies import CHAINS, NETWORKS, distance, filled, results
from tnlayer import topologies
from tnlayer.backends.cuda_program import CudaProgram
from tnlayer.backends.cuda_source import forward_source
from tnlayer.backends.toolchains.nvrtc import Cubin
from tnlayer.hardware.gpu import gpu_of

__all__ = ["emulated_gpu"]  # the fixture

# Registers of a multiprocessor, and threads that it shall hold at least.
REGISTERS, THREADS = 65536, 256
# A register array that is indexed at run time takes 64 bytes of local memory and more.
MOST_STACK = 8
HALVES = {"float16": 2e-3, "bfloat16": 2e-2}


def program_of(layer: tn.Layer) -> CudaProgram:
    """The program of a layer of one network."""
    (ranged,) = layer._programs_for(layer.dtype)
    assert isinstance(ranged.main, CudaProgram)
    return ranged.main


def trial(
    name: str, dtype: torch.dtype, batch: int
) -> tuple[tn.Layer, torch.Tensor, torch.Tensor, list[torch.Tensor]]:
    """A layer, x, the gradient of y, and what must come out, in higher precision."""
    layer = filled(NETWORKS[name](), "cuda", dtype)
    wide = torch.complex128 if dtype.is_complex else torch.float64
    exact = filled(NETWORKS[name](), "torch", wide)
    exact.load_state_dict({key: value.to(wide) for key, value in layer.state_dict().items()})
    x = torch.randn(batch, layer.in_features).to(dtype)
    slope = torch.randn(batch, layer.out_features).to(dtype)
    return layer, x, slope, results(exact, x.to(wide), slope.to(wide))


@pytest.mark.parametrize("name", NETWORKS)
def test_topologies_are_exact_and_free_of_races(emulated_gpu: ctypes.CDLL, name: str) -> None:
    """Value and gradients are right to float32's rounding, on more samples than blocks take at
    once; threads in the opposite order change no bit."""
    layer, x, slope, exact = trial(name, torch.float32, 37)
    found = results(layer, x, slope)
    assert launches()
    for number, (one, expected) in enumerate(zip(found, exact, strict=True)):
        assert distance(one, expected) < 2e-6, f"result {number}"
    units = program_of(layer).units()
    cubins = [unit.built().cubin for unit in units.values()]
    with descending(cubins[0]), descending(cubins[1]):
        again = results(layer, x, slope)
    assert all(torch.equal(a, b) for a, b in zip(found, again, strict=True))


@pytest.mark.parametrize("name", ["tensor_train", "ring"])
@pytest.mark.parametrize("batch", [0, 1, 300])
def test_batch_sizes(emulated_gpu: ctypes.CDLL, name: str, batch: int) -> None:
    """No sample, one, and so many that each block of the full grid takes several."""
    layer, x, slope, exact = trial(name, torch.float32, batch)
    for one, expected in zip(results(layer, x, slope), exact, strict=True):
        assert one.shape == expected.shape
        assert torch.allclose(one.double(), expected, rtol=1e-4, atol=1e-4)


def test_arrays_that_begin_anywhere(emulated_gpu: ctypes.CDLL) -> None:
    """x is loaded by runs of 16 bytes: a view that does not begin at one gives the same bits."""
    layer, x, _, _ = trial("butterfly", torch.float32, 5)
    assert "load<" in program_of(layer).source() or "store(&" in program_of(layer).source()
    shifted = torch.empty(x.numel() + 1)[1:].view_as(x).copy_(x)
    assert shifted.data_ptr() % 16 and shifted.is_contiguous()
    with torch.no_grad():
        assert torch.equal(layer(shifted), layer(x))


@pytest.mark.parametrize("kind", HALVES)
def test_half_precision(emulated_gpu: ctypes.CDLL, kind: str) -> None:
    """16-bit entries in and out, with float32 in between: off by their own rounding, no more."""
    layer, x, slope, exact = trial("tensor_train", getattr(torch, kind), 37)
    assert layer(x).dtype == layer.dtype
    for one, expected in zip(results(layer, x, slope), exact, strict=True):
        assert one.dtype == layer.dtype
        assert distance(one.double(), expected) < HALVES[kind]


def test_complex(emulated_gpu: ctypes.CDLL) -> None:
    """Complex entries; a conjugated view is read as it is meant."""
    layer, x, slope, exact = trial("ring", torch.complex64, 9)
    for one, expected in zip(results(layer, x, slope), exact, strict=True):
        assert distance(one, expected) < 2e-6
    with torch.no_grad():
        assert torch.equal(layer(x.conj()), layer(x.conj().resolve_conj()))


def test_frozen_parameters_and_inputs(emulated_gpu: ctypes.CDLL) -> None:
    """Each set of wanted gradients has a backward of its own, and all agree."""
    layer, x, slope, exact = trial("long_train", torch.float32, 5)
    parameters = list(layer.parameters())
    y = layer(x)
    for one, expected in zip(torch.autograd.grad(y, parameters, slope), exact[2:], strict=True):
        assert distance(one, expected) < 2e-6
    parameters[1].requires_grad_(False)
    x.requires_grad_()
    found = torch.autograd.grad(layer(x), [x, parameters[0], parameters[2]], slope)
    for one, expected in zip(found, [exact[1], exact[2], exact[4]], strict=True):
        assert distance(one, expected) < 2e-6


def test_prepare_builds_what_calls_usually_need(
    emulated_gpu: ctypes.CDLL, monkeypatch: pytest.MonkeyPatch
) -> None:
    """After it no call builds: with gradients of x, without them, and with none."""
    layer = tn.Layer(tn.topologies.tensor_train((4, 4), (4, 4), rank=2), backend="cuda").prepare()

    def build(*_: object) -> None:
        raise AssertionError("a call builds")

    monkeypatch.setattr(CudaProgram, "_make", build)
    for differentiable in (True, False):
        layer(torch.randn(3, 16, requires_grad=differentiable)).sum().backward()
    with torch.no_grad():
        layer(torch.randn(3, 16))


def test_summed_networks(emulated_gpu: ctypes.CDLL) -> None:
    """A layer that adds two networks launches the kernels of both."""
    torch.manual_seed(0)
    nets = [topologies.low_rank(8, 6, rank=2), topologies.tensor_train((4, 2), (3, 2), rank=2)]
    renamed = tn.Network.from_json(nets[1].to_json())
    layer = tn.Layer([nets[0], renamed], backend="cuda", bias=True)
    x = torch.randn(4, 8)
    torch.testing.assert_close(layer(x), x @ layer.to_dense().T + layer.get_parameter("bias"))
    assert len(launches()) >= 2


def test_two_calls_share_no_memory(emulated_gpu: ctypes.CDLL) -> None:
    """The backward of a first call is right after a second call."""
    layer, x, slope, exact = trial("tree", torch.float32, 6)
    x.requires_grad_()
    y = layer(x)
    layer(torch.randn_like(x)).sum().backward()
    assert distance(torch.autograd.grad(y, x, slope)[0], exact[1]) < 2e-6


ARCHS = ("sm_80", "sm_90")
# Each network for one generation, every other one for the older; the largest, of which NVRTC takes
# ten seconds, for none.
BUILT = {
    (name, ARCHS[number % 2])
    for number, name in enumerate({**NETWORKS, **CHAINS})
    if name != "brickwall"
}
BUILDS = [
    pytest.param(name, arch, marks=[] if (name, arch) in BUILT else pytest.mark.full)
    for name in {**NETWORKS, **CHAINS}
    for arch in ARCHS
]


@needs_nvrtc
@pytest.mark.parametrize(("name", "arch"), BUILDS)
def test_nvrtc_builds_every_topology(name: str, arch: str) -> None:
    """Forward and backward, for both generations: no spill, and registers for the blocks that a
    multiprocessor is meant to hold, which have threads enough. Large networks are among them."""
    check_build({**NETWORKS, **CHAINS}[name](), arch)


@needs_nvrtc
@pytest.mark.parametrize(("arch", "most"), [("sm_80", 255), ("sm_90", 128)])
def test_mera_takes_the_registers_that_its_blocks_leave(arch: str, most: int) -> None:
    """On sm_90 shared memory holds two blocks of MERA-2's backward, of 256 threads each."""
    assert all(kernel.registers <= most for kernel in fused(CHAINS["mera"](), arch).resources)


@needs_nvrtc
def test_a_kernel_that_spills_is_built_for_fewer_threads(monkeypatch: pytest.MonkeyPatch) -> None:
    """The text that is built is the one that is shown, and it leaves more registers."""
    program = fused(CHAINS["brickwall"](), "sm_90")
    unit = program.units()["forward"]
    assert unit.source().text == forward_source(program.plan, gpu_of("sm_90")).text
    seen: list[str] = []

    def record(text: str, arch: str) -> Cubin:
        seen.append(text)
        spills = 8 if len(seen) == 1 else 0
        log = (
            "ptxas info : Compiling entry function 'forward' for 'sm_90'\n"
            f"0 bytes stack frame, {spills} bytes spill stores, {spills} bytes spill loads\n"
            "ptxas info : Used 128 registers\n"
        )
        return Cubin(b"", log, arch)

    monkeypatch.setattr("tnlayer.backends.cuda_unit.compile_cubin", record)
    built = unit.built()
    assert len(seen) == 2 and seen[0] != seen[1]
    assert built.source.text == seen[1] == unit.source().text
    fewer = replace(gpu_of("sm_90"), resident=256)
    assert seen[1] == forward_source(program.plan, fewer).text


@pytest.mark.full
@needs_nvrtc
@pytest.mark.parametrize("kind", ["float16", "bfloat16", "float64", "complex64", "complex128"])
def test_nvrtc_builds_every_dtype(kind: str) -> None:
    """Each dtype has a form that NVRTC takes."""
    program = tn.compile(NETWORKS["ring"](), backend="cuda", arch="sm_80", dtype=kind)
    assert all(len(binary) > 1000 for binary in program.binary.values())  # type: ignore[attr-defined]


def fused(net: tn.Network, arch: str) -> CudaProgram:
    """All of a network in CUDA kernels, whatever the planner would leave to torch."""
    program = tn.compile(net, backend="torch", minimize="flops", batch=64, effort="fast")
    return CudaProgram(program.graph, program.plan, program.tensor_names, arch=arch)


def check_build(net: tn.Network, arch: str) -> None:
    """No spills, no array in local memory, registers for the blocks that the text asks for."""
    program = fused(net, arch)
    assert {kernel.name for kernel in program.resources} >= {"forward", "backward"}
    text = program.source()
    for kernel in program.resources:
        assert kernel.spill_bytes == 0 and kernel.stack_bytes <= MOST_STACK, kernel
        bounds = re.search(rf"__launch_bounds__\((\d+), (\d+)\)\s*{kernel.name}\(", text)
        assert bounds is not None and int(bounds[1]) == kernel.threads, kernel
        blocks = int(bounds[2])
        if kernel.name not in program.binary:
            continue  # runs once a call, in few blocks
        fits = gpu_of(arch).shared_bytes // max(1, kernel.shared_bytes)
        assert 1 <= blocks <= max(1, fits), kernel
        assert 0 < kernel.registers <= REGISTERS // (kernel.threads * blocks), kernel
        # Fewer threads only where shared memory has no room for more.
        assert kernel.threads * blocks >= THREADS or blocks == fits, kernel
    assert set(program.binary) == {"forward", "backward"}
    assert all(binary[:4] == b"\x7fELF" for binary in program.binary.values())
    assert program.source().count('extern "C" __global__') == len(program.resources)


@needs_nvrtc
def test_the_emulated_text_is_the_built_one(monkeypatch: pytest.MonkeyPatch) -> None:
    """What the emulator compiles is the text that NVRTC gets, word for word but for 16 bits."""
    program = tn.compile(NETWORKS["cp"](), backend="cuda", arch="sm_90")
    assert isinstance(program, CudaProgram)
    seen: list[str] = []

    def record(text: str, arch: str) -> object:
        seen.append(text)
        return emulated_cubin(text, arch)

    monkeypatch.setattr("tnlayer.backends.cuda_unit.compile_cubin", record)
    program.units()["forward"].built()
    assert seen and seen[0] in program.source()
