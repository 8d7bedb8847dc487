"""layer.export_c: the library is built and called without torch, and gives what the layer gives."""

from __future__ import annotations

import ctypes
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import tnlayer as tn
from tests.support.cpp_units import has_compiler
from tests.support.several_inputs import two_batched_and_one_whole
from tnlayer.backends.toolchains.find_cpp_compiler import find_compiler

pytestmark = pytest.mark.skipif(not has_compiler(), reason="no C++ compiler")


def train() -> tn.Network:
    """16 to 16 features."""
    return tn.topologies.tensor_train((4, 4), (4, 4), rank=2)


def built(folder: Path) -> ctypes.CDLL:
    """The library, by the compiler alone."""
    library = folder / "tn_layer.so"
    sources = sorted(map(str, folder.glob("*.cpp")))
    command = [*find_compiler().command, "-std=c++17", "-O1", "-march=native", "-fopenmp"]
    subprocess.run([*command, "-shared", "-fPIC", *sources, "-o", str(library)], check=True)
    loaded = ctypes.CDLL(str(library))
    loaded.tn_layer_open.restype = ctypes.c_void_p
    return loaded


def called(folder: Path, layer: tn.Layer, *inputs: torch.Tensor, batch: int) -> torch.Tensor:
    """What the library gives."""
    library: Any = built(folder)
    handle = ctypes.c_void_p(library.tn_layer_open(str(folder / "weights.bin").encode()))
    assert handle
    y = np.full((batch, layer.out_features), np.nan, inputs[0].numpy().dtype)
    addresses = [ctypes.c_void_p(x.data_ptr()) for x in inputs]
    out = ctypes.c_void_p(y.ctypes.data)
    assert library.tn_layer_run(handle, *addresses, out, ctypes.c_long(batch), 2) == 0
    library.tn_layer_close(handle)
    return torch.from_numpy(y)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.complex64])
@pytest.mark.parametrize("several", [False, True])
def test_library_gives_what_the_layer_gives(
    dtype: torch.dtype, several: bool, tmp_path: Path
) -> None:
    """Single networks and sums, with a bias, real and complex, at several batch sizes."""
    nets = [train(), tn.topologies.low_rank(16, 16, rank=3)] if several else [train()]
    layer = tn.Layer(nets, bias=True, dtype=dtype, backend="torch")
    with torch.no_grad():
        layer.get_parameter("bias").normal_()
    layer.export_c(tmp_path / "made", batch=64)
    for batch in (1, 37):
        x = torch.randn(batch, 16, dtype=dtype)
        with torch.no_grad():
            expected = layer(x)
        torch.testing.assert_close(called(tmp_path / "made", layer, x, batch=batch), expected)


def test_several_inputs(tmp_path: Path) -> None:
    """Inputs stand in the order of the ports, with a batch or without."""
    layer = tn.Layer(two_batched_and_one_whole(), backend="torch")
    graph, batch = layer.graph, 5
    inputs = [
        torch.randn(batch, *graph.input_shape(port))
        if port.batched
        else torch.randn(graph.input_shape(port))
        for port in graph.inputs
    ]
    layer.export_c(tmp_path)
    with torch.no_grad():
        expected = layer(*inputs)
    torch.testing.assert_close(called(tmp_path, layer, *inputs, batch=batch), expected)


@pytest.mark.skipif(shutil.which("cmake") is None, reason="no CMake")
def test_cmake_builds_it_for_c(tmp_path: Path) -> None:
    """The CMake file builds a library that a program in C is linked to; neither knows torch."""
    layer = tn.Layer(train(), bias=True, backend="torch")
    layer.export_c(tmp_path / "layer")
    (tmp_path / "main.c").write_text(
        """#include <stdio.h>
#include "tn_layer.h"
int main(void) {
  TnLayer *layer = tn_layer_open("layer/weights.bin");
  float x[32], y[32];
  for (int k = 0; k < 32; k++) x[k] = (float)k / 16 - 1;
  if (!layer || tn_layer_run(layer, x, y, 2, 1)) return 1;
  for (int k = 0; k < 32; k++) printf("%.9g\\n", y[k]);
  tn_layer_close(layer);
  return tn_layer_open("nothing") != NULL;
}
"""
    )
    (tmp_path / "CMakeLists.txt").write_text(
        """cmake_minimum_required(VERSION 3.16)
project(user C CXX)
add_subdirectory(layer)
add_executable(user main.c)
target_link_libraries(user tn_layer)
"""
    )
    for command in (["cmake", "-B", "build", "."], ["cmake", "--build", "build"]):
        subprocess.run(command, cwd=tmp_path, check=True, capture_output=True)
    ran = subprocess.run(["build/user"], cwd=tmp_path, check=True, capture_output=True, text=True)
    found = torch.tensor([float(line) for line in ran.stdout.split()]).reshape(2, 16)
    x = torch.arange(32.0).reshape(2, 16) / 16 - 1
    torch.testing.assert_close(found, layer(x).detach())
    text = "".join(path.read_text() for path in (tmp_path / "layer").glob("*.[ch]*"))
    assert not re.search(r"#include <(torch|ATen|Python)", text)


def test_what_cannot_be_exported_is_refused(tmp_path: Path) -> None:
    """Half precision and log_scale say what to do instead."""
    with pytest.raises(tn.SpecError, match=r"layer\.float\(\)"):
        tn.Layer(train(), dtype=torch.bfloat16, backend="torch").export_c(tmp_path)
    with pytest.raises(tn.SpecError, match="log_scale"):
        tn.Layer(train(), log_scale=True, backend="torch").export_c(tmp_path)
