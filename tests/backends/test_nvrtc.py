"""Building cubins: NVRTC through cuda.core, its errors, the cache, and what ptxas reports."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

import tnlayer as tn
from tests.support.nvidia_tools import needs_nvrtc
from tnlayer.backends.cuda_resources import Assembled, read_ptxas
from tnlayer.backends.toolchains import nvrtc
from tnlayer.backends.toolchains.nvrtc import check_arch, compile_cubin, find_nvrtc
from tnlayer.errors import BuildError, SpecError

# An entry point with shared memory, and one whose array is indexed at run time: it has a stack.
SOURCE = """
extern "C" __global__ void __launch_bounds__(64) plain(const float* x, float* y, int n) {
  __shared__ float room[64];
  room[threadIdx.x] = x[n];
  __syncthreads();
  y[threadIdx.x] = room[63 - threadIdx.x];
}
extern "C" __global__ void stacked(const float* x, float* y, int n) {
  float a[100];
  for (int k = 0; k < 100; ++k) a[k] = x[k];
  y[0] = a[n];
}
"""


@pytest.fixture
def empty_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder of a cache without a cubin, neither on disk nor in this process."""
    monkeypatch.setenv("TNLAYER_CACHE_DIR", str(tmp_path))
    monkeypatch.setattr(nvrtc, "_built", {})
    return tmp_path / "cubins"


def refuse(*_: object) -> nvrtc.Cubin:
    """Stands for a compiler that must not run."""
    raise AssertionError("compiled again")


@needs_nvrtc
@pytest.mark.parametrize("arch", ["sm_80", "sm_90"])
def test_a_cubin_is_built_without_a_gpu(empty_cache: Path, arch: str) -> None:
    """The result is an ELF file for NVIDIA's machine, with both entry points; one file is kept."""
    cubin = compile_cubin(SOURCE, arch)
    assert cubin.arch == arch
    assert cubin.binary[:4] == b"\x7fELF" and cubin.binary[18:20] == (190).to_bytes(2, "little")
    assert b".text.plain\0" in cubin.binary and b".text.stacked\0" in cubin.binary
    assert len(list(empty_cache.iterdir())) == 1


@needs_nvrtc
def test_resources_are_read_from_the_log() -> None:
    """Static shared memory, and the stack of an array that is indexed at run time."""
    said = read_ptxas(compile_cubin(SOURCE, "sm_90").log)
    assert set(said) == {"plain", "stacked"}
    assert said["plain"].static_bytes == 256 and said["plain"].stack_bytes == 0
    assert said["stacked"].stack_bytes == 400 and said["stacked"].static_bytes == 0
    assert all(0 < one.registers <= 64 and one.spill_bytes == 0 for one in said.values())


@needs_nvrtc
def test_spills_are_counted() -> None:
    """A kernel that needs more registers than it may have spills, and the log says so."""
    terms = "".join(f"float v{k} = x[{k} * n];" for k in range(80))
    total = "".join(f"y[{k}] = v{k} * v{(k * 7 + 3) % 80};" for k in range(80))
    text = (
        'extern "C" __global__ void __launch_bounds__(1024, 2) '
        f"tight(const float* x, float* y, int n) {{ {terms} __syncthreads(); {total} }}"
    )
    (said,) = read_ptxas(compile_cubin(text, "sm_90").log).values()
    assert said.registers <= 32 and said.spill_bytes > 0 and said.stack_bytes > 0


def test_both_texts_of_ptxas() -> None:
    """The words of ptxas with and without a count of shared memory; a changed text is an error."""
    log = (
        "ptxas info    : 0 bytes gmem\n"
        "ptxas info    : Compiling entry function 'a' for 'sm_90'\n"
        "ptxas info    : Function properties for a\n"
        "    8 bytes stack frame, 12 bytes spill stores, 16 bytes spill loads\n"
        "ptxas info    : Used 40 registers, used 1 barriers, 4096 bytes smem, 600 bytes cmem[0]\n"
        "ptxas info    : Compiling entry function 'b' for 'sm_90'\n"
        "ptxas         .     0 bytes stack frame, 0 bytes spill stores, 0 bytes spill loads\n"
        "ptxas info    : Used 255 registers\n"
    )
    assert read_ptxas(log) == {"a": Assembled(40, 28, 8, 4096), "b": Assembled(255, 0, 0, 0)}
    with pytest.raises(BuildError, match="registers of 'a'"):
        read_ptxas(log.replace("Used 40 registers", "40 registers"))


@needs_nvrtc
def test_a_cubin_is_compiled_once(empty_cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The second time it comes from this process, then from the disk, log and all."""
    first = compile_cubin(SOURCE, "sm_90")
    monkeypatch.setattr(nvrtc, "_compile", refuse)
    assert compile_cubin(SOURCE, "sm_90") is first
    monkeypatch.setattr(nvrtc, "_built", {})
    assert compile_cubin(SOURCE, "sm_90") == first
    assert len(list(empty_cache.iterdir())) == 1


@needs_nvrtc
@pytest.mark.parametrize("damage", ["cut", "flipped", "empty"])
def test_a_damaged_cubin_is_built_again(
    empty_cache: Path, monkeypatch: pytest.MonkeyPatch, damage: str
) -> None:
    """Whatever happened to a file in the cache, it is not used, and it is replaced."""
    first = compile_cubin(SOURCE, "sm_90")
    (path,) = empty_cache.iterdir()
    content = path.read_bytes()
    half = len(content) // 2
    flipped = content[:half] + bytes([content[half] ^ 1]) + content[half + 1 :]
    path.write_bytes({"cut": content[:half], "flipped": flipped, "empty": b""}[damage])
    monkeypatch.setattr(nvrtc, "_built", {})
    assert compile_cubin(SOURCE, "sm_90").binary == first.binary
    # The new file serves.
    monkeypatch.setattr(nvrtc, "_built", {})
    monkeypatch.setattr(nvrtc, "_compile", refuse)
    assert compile_cubin(SOURCE, "sm_90").binary == first.binary


@needs_nvrtc
def test_source_arch_and_version_are_in_the_key() -> None:
    """None of them can be mistaken for another."""
    found = find_nvrtc()
    other = nvrtc.Nvrtc(found.core, "12.9", found.architectures)
    keys = {
        nvrtc._key(SOURCE, "sm_90", found),
        nvrtc._key(SOURCE + " ", "sm_90", found),
        nvrtc._key(SOURCE, "sm_80", found),
        nvrtc._key(SOURCE, "sm_90", other),
    }
    assert len(keys) == 4


@needs_nvrtc
def test_two_processes_build_the_same_cubin(tmp_path: Path) -> None:
    """Both succeed with an empty cache, and leave one file."""
    code = (
        f"from tnlayer.backends.toolchains.nvrtc import compile_cubin\n"
        f"print(len(compile_cubin({SOURCE!r}, 'sm_90').binary))"
    )
    environment = {**os.environ, "TNLAYER_CACHE_DIR": str(tmp_path)}
    workers = [
        subprocess.Popen([sys.executable, "-c", code], env=environment, stdout=subprocess.PIPE,
                         cwd=Path(__file__).parents[2])
        for _ in range(2)
    ]  # fmt: skip
    outputs = [worker.communicate(timeout=300)[0] for worker in workers]
    assert [worker.returncode for worker in workers] == [0, 0] and outputs[0] == outputs[1]
    assert len(list((tmp_path / "cubins").iterdir())) == 1


@needs_nvrtc
def test_refused_source_shows_the_log() -> None:
    """The error has NVRTC's version, the architecture and the compiler's own words."""
    with pytest.raises(BuildError, match=r"(?s)NVRTC \d+\.\d+ .*sm_90.*undefined.*report"):
        compile_cubin('extern "C" __global__ void f(float* y) { y[0] = unheard; }', "sm_90")


@needs_nvrtc
def test_wrong_architectures() -> None:
    """No architecture at all is the user's error; one that NVRTC does not know lists those."""
    for arch in ("90", "sm90", "compute_90", "sm_90 -G"):
        with pytest.raises(SpecError, match="sm_90"):
            check_arch(arch)
    with pytest.raises(BuildError, match=r"sm_35.*sm_80.*sm_90"):
        compile_cubin(SOURCE, "sm_35")
    assert check_arch("sm_90a") == "sm_90a"


def test_without_the_extra_the_command_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    """backend="cuda" is a BuildError that says what to install; the cached answer is not used."""
    monkeypatch.setitem(sys.modules, "cuda.core", None)
    find_nvrtc.cache_clear()
    net = tn.topologies.low_rank(6, 4, rank=2)
    try:
        for make in (
            lambda: tn.compile(net, backend="cuda", arch="sm_90"),
            lambda: tn.Layer(net, backend="cuda"),
        ):
            with pytest.raises(BuildError, match=r"pip install 'tnlayer\[cuda\]'"):
                make()
    finally:
        find_nvrtc.cache_clear()


def test_arch_is_for_cuda_only() -> None:
    """Other backends refuse an architecture."""
    net = tn.topologies.low_rank(6, 4, rank=2)
    for backend in ("auto", "torch", "cpp"):
        with pytest.raises(SpecError, match=r"arch='sm_90' is for backend='cuda'"):
            tn.compile(net, backend=backend, arch="sm_90")


@needs_nvrtc
def test_a_layer_on_the_cpu_says_where_it_runs() -> None:
    """Without a GPU a layer can be made; its source wants an architecture, its call a device."""
    if torch.cuda.is_available():
        pytest.skip("a CUDA device is there")
    layer = tn.Layer(tn.topologies.low_rank(6, 4, rank=2), backend="cuda")
    with pytest.raises(BuildError, match=r"arch='sm_90'"):
        layer.source()
    with pytest.raises(BuildError, match=r"got an array on cpu; .*\.to\('cuda'\)"):
        layer(torch.zeros(2, 6))
