"""What this machine can run, as far as it is known without asking a compiler."""

from __future__ import annotations

import importlib.util
import os
import shutil

import torch

from ..errors import SpecError
from ..ir.backend_names import AUTO, CPP, TORCH
from .cpu import Cpu
from .gpu import Gpu, gpu_of

# Names what "auto" stands for.
VARIABLE = "TNLAYER_BACKEND"
_COMPILERS = ("c++", "clang++")
_CPUS = {"AVX512": Cpu(64, 32), "AVX2": Cpu(32, 16)}


def auto_stands_for() -> str:
    """What the environment variable TNLAYER_BACKEND lets "auto" stand for.

    Raises:
        SpecError: it is neither auto, torch nor cpp.
    """
    named = os.environ.get(VARIABLE) or AUTO
    if named not in (AUTO, TORCH, CPP):
        msg = f"{VARIABLE}={named!r}: expected auto, torch or cpp; correct or unset it"
        raise SpecError(msg)
    return named


def likely_cpu() -> Cpu | None:
    """What a compiler would make kernels for, by torch's word; None if there seems to be none."""
    wanted = os.environ.get("CXX")
    if not any(shutil.which(name) for name in ((wanted,) if wanted else _COMPILERS)):
        return None
    return _CPUS.get(torch.backends.cpu.get_cpu_capability(), Cpu(16, 16))


# What CUDA kernels are foreseen for where no GPU is there and none was named.
USUAL_ARCH = "sm_90"


def likely_gpu() -> Gpu | None:
    """What NVRTC would make kernels for; None if it is not installed."""
    try:
        found = [importlib.util.find_spec(name) for name in ("cuda.core", "cuda.bindings.nvrtc")]
    except ImportError:
        return None
    if None in found:
        return None
    if torch.version.cuda is None or not torch.cuda.is_available():
        return gpu_of(USUAL_ARCH)
    major, minor = torch.cuda.get_device_capability()
    return gpu_of(f"sm_{major}{minor}")
