"""A GPU that is none: the driver's calls reach tests/emulator, which runs CUDA C++ on the CPU.

All of the package but ``runtime/cuda_devices.py`` is as on a real device, cuda.bindings as well.
"Machine code" is a shared library of the printed source, compiled by the C++ compiler behind a
header that has the words of CUDA.
"""

from __future__ import annotations

import ctypes
import hashlib
import re
import subprocess
import tempfile
from collections.abc import Generator, Iterator, Mapping
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from tnlayer.backends import cuda_unit
from tnlayer.backends.toolchains.find_cpp_compiler import find_compiler
from tnlayer.backends.toolchains.nvrtc import Cubin, find_nvrtc
from tnlayer.codegen.cuda.source import CudaSource
from tnlayer.errors import BuildError
from tnlayer.runtime import cuda_devices

EMULATOR = Path(__file__).parents[1] / "emulator"
STREAM = 0x5EED
MULTIPROCESSORS = 2
# Of a multiprocessor.
SHARED_BYTES = 228 * 1024
_SHARED = re.compile(r"extern\s+__shared__\s+(?P<kind>[^;\[]*?)\b(?P<name>\w+)\s*\[\]\s*;")
# What has no words in C++: numbers of 16 bits.
_ASSEMBLY = {
    'asm("cvt.rn.bf16.f32 %0, %1;" : "=h"(result.bits) : "f"(v));': "result.bits = to_bf16(v);",
    'asm("cvt.rn.f16.f32 %0, %1;" : "=h"(result.bits) : "f"(v));': "result.bits = to_f16(v);",
    'asm("cvt.f32.f16 %0, %1;" : "=f"(result) : "h"(v.bits));': "result = from_f16(v.bits);",
}
_ENTRY = re.compile(r"__global__\s+void\s+(?:__launch_bounds__\([^)]*\)\s*)?(?P<name>\w+)\s*\(")


def why_not() -> str:
    """Why nothing can be emulated here; "" if it can."""
    try:
        find_compiler()
        find_nvrtc()
    except BuildError as error:
        return str(error)
    # The bindings take the first driver that they find; a real one is for tests marked gpu.
    return "a CUDA device is there" if torch.cuda.is_available() else ""


@lru_cache(maxsize=1)
def _folder() -> Path:
    return Path(tempfile.mkdtemp(prefix="tnlayer-emulator-"))


def _compile(source: Path, library: Path, *flags: str) -> None:
    command = [find_compiler().path, "-std=c++17", "-shared", "-fPIC", "-w", *flags]
    subprocess.run([*command, str(source), "-o", str(library), "-ldl"], check=True, timeout=300)


@lru_cache(maxsize=1)
def driver() -> ctypes.CDLL:
    """The emulated driver, in the place of the real one in this process."""
    library = _folder() / "libcuda.so.1"
    _compile(EMULATOR / "driver.cpp", library, "-O1", "-Wl,-soname,libcuda.so.1")
    # A library of that name that is loaded already is what the bindings find.
    loaded = ctypes.CDLL(str(library), mode=ctypes.RTLD_GLOBAL)
    loaded.emulator_launch.restype = ctypes.POINTER(_Launch)
    return loaded


class _Launch(ctypes.Structure):
    _fields_ = [
        ("name", ctypes.c_char * 64),
        ("grid", ctypes.c_uint),
        ("threads", ctypes.c_uint),
        ("shared", ctypes.c_uint),
        ("carveout", ctypes.c_int),
        ("stream", ctypes.c_void_p),
    ]


@dataclass(frozen=True)
class Launch:
    """A launch that the driver saw."""

    name: str
    grid: int
    threads: int
    shared: int
    carveout: int
    stream: int


def launches() -> list[Launch]:
    """All launches since the last call."""
    seen = driver()
    found: list[Launch] = []
    for number in range(seen.emulator_launches()):
        one = seen.emulator_launch(number).contents
        name, stream = one.name.decode(), one.stream or 0
        found.append(Launch(name, one.grid, one.threads, one.shared, one.carveout, stream))
    seen.emulator_forget()
    return found


def emulated(text: str) -> str:
    """CUDA C++ as C++ that the emulator runs."""
    names = {match["name"] for match in _SHARED.finditer(text)}
    assert len(names) <= 1, f"several names of shared memory: {names}"
    declared = next(iter(_SHARED.finditer(text)), None)
    kind = declared["kind"] if declared else "char "
    name = declared["name"] if declared else "unused_shared"
    plain = _SHARED.sub(lambda match: f"extern {match['kind']}{match['name']}[];", text)
    for assembly, words in _ASSEMBLY.items():
        plain = plain.replace(assembly, words)
    entries = dict.fromkeys(match["name"] for match in _ENTRY.finditer(text))
    return "\n".join([
        (EMULATOR / "device.h").read_text(),
        plain,
        *(f'extern "C" void emulated_{e}(void** p) {{ emulator::call({e}, p); }}' for e in entries),
        f"alignas(16) {kind}{name}[256 * 1024];",
        f"#define EMULATED_SHARED {name}",
        (EMULATOR / "run.h").read_text(),
    ])  # fmt: skip


def emulated_cubin(text: str, arch: str) -> Cubin:
    """The path of a library of the kernels, where a cubin has machine code."""
    name = hashlib.sha256(text.encode()).hexdigest()[:24]
    library = _folder() / f"{name}.so"
    if not library.exists():
        source = _folder() / f"{name}.cpp"
        source.write_text(emulated(text), encoding="utf-8")
        _compile(source, library, "-O1", "-ffp-contract=fast")
    return Cubin(str(library).encode() + b"\0", "", arch)


def run_source(
    source: CudaSource, given: Mapping[str, np.ndarray], batch: int, blocks: int
) -> dict[str, np.ndarray]:
    """Launch all kernels of a source in order, without a driver; what comes out by name.

    Results and workspace start as NaN.

    Arguments:
        source: printed kernels.
        given: the inputs by name.
        batch: samples.
        blocks: of the persistent grid.
    """
    library = ctypes.CDLL(emulated_cubin(source.text, "sm_90").binary[:-1].decode())
    dtype = np.dtype(source.stored)
    arrays = [
        np.full(a.size * (batch if a.batched else 1), np.nan, dtype)
        if a.is_output
        else np.ascontiguousarray(given[a.name], dtype)
        for a in source.arguments
    ]
    entries = source.call_entries + blocks * source.block_entries
    workspace = np.full(entries + 1, np.nan, np.dtype(source.scalar))
    values = [ctypes.c_void_p(array.ctypes.data) for array in (*arrays, workspace)]
    values += [ctypes.c_longlong(batch), ctypes.c_int(blocks)]
    pointers = (ctypes.c_void_p * len(values))(*map(ctypes.addressof, values))
    for entry in source.entries:
        grid = blocks if entry.grid == "persistent" else entry.blocks
        kernel = getattr(library, f"emulated_{entry.name}")
        failed = library.run_kernel(kernel, grid, entry.threads, entry.shared_bytes, pointers)
        assert not failed, f"{entry.name}: see what the emulator wrote"
    return {a.name: array for a, array in zip(source.arguments, arrays, strict=True) if a.is_output}


@contextmanager
def descending(cubin: Cubin) -> Generator[None]:
    """Threads and blocks in the opposite order: a race shows as another result."""
    library = ctypes.CDLL(cubin.binary[:-1].decode())
    order = ctypes.c_int.in_dll(library, "emulator_descending")
    order.value = 1
    try:
        yield
    finally:
        order.value = 0


@contextmanager
def emulation(monkeypatch: pytest.MonkeyPatch) -> Generator[ctypes.CDLL]:
    """CPU tensors count as a GPU's, and kernels run in the emulator."""
    loaded = driver()
    answers: dict[str, Any] = {
        "is_on_gpu": lambda array: True,
        "device_of": lambda array: 0,
        "has_gpu": lambda: True,
        "current_gpu": lambda: 0,
        "arch_of": lambda device: "sm_90",
        "multiprocessors": lambda device: MULTIPROCESSORS,
        "shared_bytes": lambda device: SHARED_BYTES,
        "on_device": lambda device: nullcontext(),
        "raw_stream": lambda device: STREAM,
        "is_capturing": lambda: False,
    }
    for name, answer in answers.items():
        monkeypatch.setattr(cuda_devices, name, answer)
    monkeypatch.setattr(cuda_unit, "compile_cubin", emulated_cubin)
    launches()
    yield loaded


@pytest.fixture
def emulated_gpu(monkeypatch: pytest.MonkeyPatch) -> Iterator[ctypes.CDLL]:
    """A GPU that is none; fresh memory is NaN."""
    reason = why_not()
    if reason:
        pytest.skip(reason)
    # torch fills what it allocates with NaN then.
    before = torch.are_deterministic_algorithms_enabled()
    torch.use_deterministic_algorithms(True)
    with emulation(monkeypatch) as loaded:
        yield loaded
    torch.use_deterministic_algorithms(before)
