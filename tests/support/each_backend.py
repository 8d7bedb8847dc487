"""Which backend a test's layers and programs take where the test names none."""

from __future__ import annotations

import ctypes
from collections.abc import Callable, Generator
from contextlib import contextmanager
from typing import Any
from unittest.mock import patch

import tnlayer as tn
from tests.support.cpp_units import small_code
from tnlayer.backends import cpp_program, cpu_program
from tnlayer.backends.toolchains.cpp_build import load_library
from tnlayer.backends.toolchains.kernel_store import Kernel
from tnlayer.codegen.cpp.printer import print_cpp
from tnlayer.hardware.cpu import Cpu

BACKENDS = ("torch", "cpp")


@contextmanager
def default_backend(name: str) -> Generator[None]:
    """Let tn.Layer and tn.compile take a backend where they are given none.

    Compiled kernels are made with little code and at -O1: what is tested are their results, and
    most of a test's time would be the compiler's.
    """
    with (
        patch.object(tn.Layer, "__init__", _with_default(tn.Layer.__init__, name)),
        patch.object(tn, "compile", _with_default(tn.compile, name)),
        patch.object(cpu_program, "this_cpu", _small_cpu),
        patch.object(cpp_program.CppProgram, "load", _load_quickly),
    ):
        yield


def _with_default(function: Callable[..., Any], name: str) -> Callable[..., Any]:
    """The function with another default for ``backend``."""

    def call(*arguments: Any, backend: str = name, **options: Any) -> Any:
        return function(*arguments, backend=backend, **options)

    return call


_this_cpu = cpu_program.this_cpu


def _small_cpu() -> Cpu:
    return small_code(_this_cpu())


def _load_quickly(program: cpp_program.CppProgram, kernel: Kernel) -> ctypes.CDLL:
    del program
    return load_library(print_cpp(kernel.program), optimise="-O1")
