"""What a program takes beside its arrays, it gives back when it is dropped."""

from __future__ import annotations

import ctypes
import gc
import linecache
import sys
import weakref
from collections import deque
from pathlib import Path
from typing import Any

import pytest
import torch

import tnlayer as tn
from tests.support.cpp_units import has_compiler
from tnlayer.backends.toolchains import cpp_build, kernel_memory
from tnlayer.runtime.load_python import load_source

compiled = pytest.mark.skipif(not has_compiler(), reason="no C++ compiler")
on_linux = pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
MEBIBYTE = 2**20


def resident() -> int:
    """Bytes of memory that this process holds."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * 4096


def step(layer: tn.Layer) -> None:
    """Forward and backward."""
    layer(torch.ones(64, layer.in_features, requires_grad=True)).sum().backward()


@compiled
@on_linux
def test_a_dropped_layer_gives_the_memory_of_its_kernels_back() -> None:
    """With the last layer of a network goes what its kernels keep between calls, not before."""
    net = tn.topologies.low_rank(1500, 1400, 300)
    layers = [tn.Layer(net, backend="cpp", batch=64, effort="fast") for _ in range(2)]
    gc.collect()  # what earlier tests left would go in between
    kernels = len(kernel_memory._memories)
    layers[0].prepare()
    layers[1].prepare()
    gc.collect()
    before = resident()
    step(layers[0])
    assert len(kernel_memory._memories) == kernels + 3, (
        "a forward and backwards with and without x, which both layers share"
    )
    used = resident() - before
    assert used > 50 * MEBIBYTE, "a thread holds the sums of each weight in all lanes"
    x = torch.ones(64, 1500)
    expected = layers[1](x).detach()
    layers.pop(0)
    gc.collect()
    assert len(kernel_memory._memories) == kernels + 3
    torch.testing.assert_close(layers[0](x), expected)
    layers.clear()
    gc.collect()
    assert len(kernel_memory._memories) == kernels
    assert resident() - before < used / 3


@compiled
def test_a_kernel_runs_on_after_its_memory_was_given_back() -> None:
    """The next call takes memory anew: release is no end."""
    layer = tn.Layer(tn.topologies.tensor_train((2, 2), (2, 2), 2), backend="cpp", batch=4)
    reference = tn.Layer(tn.topologies.tensor_train((2, 2), (2, 2), 2), backend="torch")
    reference.load_state_dict(layer.state_dict())
    program = layer._programs_for(layer.dtype)[0].main
    library = program.forward_kernel.load()  # type: ignore[attr-defined]
    x = torch.randn(5, 4)
    for _ in range(2):
        torch.testing.assert_close(layer(x), reference(x))
        library["forward_release"]()


@compiled
@on_linux
def test_libraries_that_nobody_uses_are_unloaded(monkeypatch: pytest.MonkeyPatch) -> None:
    """Those that were loaded last stay; of the others only those that are in use."""
    monkeypatch.setattr(cpp_build, "_kept", deque[Any](maxlen=1))
    monkeypatch.setattr(cpp_build, "_loaded", weakref.WeakValueDictionary())
    sources = [f'extern "C" int answer() {{ return 4200{number}; }}\n' for number in range(3)]
    keys = [cpp_build.library_key(source) for source in sources]
    used = cpp_build.load_library(sources[0])["answer"]
    for source in sources[1:]:
        cpp_build.load_library(source)
    gc.collect()
    assert set(cpp_build._loaded) == {keys[0], keys[2]}
    maps = Path("/proc/self/maps").read_text()
    assert [key in maps for key in keys] == [True, False, True]
    assert used() == 42000
    again = cpp_build.load_library(sources[1])
    assert isinstance(again, ctypes.CDLL) and again["answer"]() == 42001


def test_a_dropped_source_leaves_linecache() -> None:
    """A generated source is shown as long as one of its functions lives, whoever loaded it."""
    source = "def forward(x):\n    return (x + 41,)\n"

    def shown() -> bool:
        return any(entry[2] == source.splitlines(keepends=True)
                   for entry in linecache.cache.values() if len(entry) == 4)  # fmt: skip

    first, second = load_source(source), load_source(source)
    assert shown() and set(first) == {"forward"}
    del first
    gc.collect()
    assert shown()
    forward = second["forward"]
    del second
    gc.collect()
    assert shown() and forward(torch.ones(()))[0] == 42
    del forward
    gc.collect()
    assert not shown()


def test_dropped_layers_leave_no_source() -> None:
    """The sources of a layer's functions go with it."""
    gc.collect()
    before = {name for name in linecache.cache if name.startswith("<tnlayer")}
    net = tn.topologies.tensor_train((3, 5), (7, 2), 3)
    layer = tn.Layer(net, backend="torch", effort="fast")
    layer(torch.ones(2, 15)).sum().backward()
    during = {name for name in linecache.cache if name.startswith("<tnlayer")}
    assert during - before
    del layer
    gc.collect()
    assert not {name for name in linecache.cache if name.startswith("<tnlayer")} - before
