"""What this machine can run, as far as it is known without asking a compiler."""

from __future__ import annotations

import os
import shutil

import torch

from tnlayer.errors import SpecError
from tnlayer.kernels.cpu import Cpu
from tnlayer.planning.backends import AUTO, CPP, TORCH

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
