"""The cpp backend in threads, data loaders and processes: how many threads run, and the same y."""

from __future__ import annotations

import ctypes
import json
import multiprocessing
import sys
from collections.abc import Iterator
from typing import Any

import pytest
import torch
from torch.utils.data import DataLoader, Dataset

import tnlayer as tn
from tests.support.cpp_units import has_compiler
from tests.support.small_topologies import small_layer
from tests.support.subprocesses import run_python
from tnlayer.backends.cpu_program import this_cpu
from tnlayer.backends.toolchains.cpp_build import load_library
from tnlayer.codegen.cpp.printer import print_cpp
from tnlayer.lowering.cpu.pipeline import forward_program

pytestmark = pytest.mark.skipif(not has_compiler(), reason="no C++ compiler")


class Features(Dataset[torch.Tensor]):
    """Samples that a compiled layer makes, forward and backward, in the worker."""

    def __init__(self, layer: tn.Layer) -> None:
        self.layer = layer

    def __len__(self) -> int:
        return 6

    def __getitem__(self, number: int) -> torch.Tensor:
        x = torch.full((40, 16), float(number), requires_grad=True)
        y = self.layer(x)
        y.sum().backward()
        assert x.grad is not None
        return torch.stack([y.detach(), x.grad])


@pytest.fixture
def layer() -> Iterator[tn.Layer]:
    """A layer that has run forward and backward here, on two threads."""
    threads = torch.get_num_threads()
    torch.set_num_threads(2)
    found = small_layer()
    found(torch.ones(64, 16, requires_grad=True)).sum().backward()
    yield found
    torch.set_num_threads(threads)


@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
@pytest.mark.parametrize("method", ["fork", "spawn"])
def test_data_loader_workers(layer: tn.Layer, method: str) -> None:
    """Workers of a DataLoader that fork after the layer ran, or start anew, give the same."""
    data = Features(layer)
    expected = [data[number] for number in range(len(data))]
    context: Any = multiprocessing.get_context(method)
    loader = DataLoader(
        data,
        batch_size=None,
        num_workers=2 if method == "fork" else 1,
        multiprocessing_context=context,
    )
    found = list(loader)
    for a, b in zip(found, expected, strict=True):
        torch.testing.assert_close(a, b)


COUNTING = """
import json, os, threading, time
import torch, tnlayer as tn

def count():
    time.sleep(0.2)  # a thread that was joined is gone a little later
    return len(os.listdir("/proc/self/task"))

torch.set_num_threads(1)
torch.manual_seed(0)
layer = tn.Layer(tn.topologies.tensor_train((4, 4), (4, 4), rank=2), backend="cpp").prepare()
x = torch.randn(512, 16, requires_grad=True)
counts = {"start": count()}
layer(x).sum().backward()
counts["one"] = count()
torch.set_num_threads(2)
layer(x).sum().backward()
counts["two"] = count()
layer(x).sum().backward()
counts["again"] = count()
torch.randn(600, 600) @ torch.randn(600, 600)
counts["torch"] = count()
print(json.dumps(counts))
"""


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="counts in /proc")
def test_threads_are_those_that_torch_is_told() -> None:
    """One thread starts none; two start one, which torch's own operations use as well."""
    done = run_python(COUNTING)
    assert done.returncode == 0, done.stderr
    counts = json.loads(done.stdout)
    # The engine of torch's autograd has threads of its own, which come with the first backward.
    assert counts["two"] - counts["one"] == 1, counts
    assert counts["again"] == counts["two"], counts
    assert counts["torch"] == counts["two"], counts
    assert counts["one"] == counts["start"], counts


NESTED = """
#include <omp.h>
extern "C" int nested(int (*kernel)(void**, long, int), void** arguments, long batch) {
  int most = 0, failed = 0;
  #pragma omp parallel num_threads(2) reduction(max: most) reduction(|: failed)
  {
    failed |= kernel(arguments, batch, 2);
    most = omp_get_level();
  }
  return failed ? -1 : most;
}
"""


def test_inside_a_parallel_region_a_kernel_takes_one_thread() -> None:
    """A kernel called by torch's own threads opens no region of its own, and is right."""
    plan = tn.plan(tn.topologies.low_rank(6, 4, rank=2))
    program = forward_program(plan, this_cpu())
    weights = [torch.randn([plan.axis_size(a) or 0 for a in plan.axes_of(v)])
               for v in plan.parameters]  # fmt: skip
    spy = print_cpp(program).replace(
        "const int me = omp_get_thread_num();",
        "const int me = omp_get_thread_num(); if (omp_get_num_threads() > 1) failed = 1;",
    )
    library, caller = load_library(spy, optimise="-O1"), load_library(NESTED, optimise="-O1")
    x, y = torch.randn(64, 6), torch.zeros(64, 4)
    addresses = [a.data_ptr() for a in (x, *weights, y)]
    assert [b.name for b in program.of("input")] == [v.name for v in plan.inputs]
    one = (ctypes.c_void_p * len(addresses))(*addresses)
    kernel = ctypes.cast(library.forward, ctypes.c_void_p)
    caller.nested.argtypes = (ctypes.c_void_p, ctypes.c_void_p, ctypes.c_long)
    # Both threads read the same arrays and write the same numbers.
    assert caller.nested(kernel, one, 64) == 1
    exact = x
    for weight in weights:
        exact = exact @ (weight if weight.shape[0] == exact.shape[1] else weight.T)
    torch.testing.assert_close(y, exact)
