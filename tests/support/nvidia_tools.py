"""NVIDIA's compiler and disassembler, where they are installed."""

from __future__ import annotations

import io

import pytest

from benchmarks.gpu.machine_code import find_nvdisasm
from tnlayer.backends.toolchains.nvrtc import find_nvrtc
from tnlayer.codegen.cuda.source import CudaSource
from tnlayer.errors import BuildError


def has_nvrtc() -> bool:
    """Whether cubins can be built here."""
    try:
        find_nvrtc()
    except BuildError:
        return False
    return True


needs_nvrtc = pytest.mark.skipif(not has_nvrtc(), reason="tnlayer[cuda] is not installed")


def compiled(source: CudaSource, arch: str) -> tuple[bytes, str]:
    """The cubin, and the assembler's log: registers and spills of each kernel."""
    core = pytest.importorskip("cuda.core", reason="cuda-core and nvidia-cuda-nvrtc are missing")
    options = core.ProgramOptions(arch=arch, std="c++17", ptxas_options=["-v"])
    log = io.StringIO()
    code = core.Program(source.text, "c++", options).compile("cubin", logs=log)
    return bytes(code.code), log.getvalue()


needs_nvdisasm = pytest.mark.skipif(
    find_nvdisasm() is None, reason="nvidia-cuda-nvdisasm is missing"
)
