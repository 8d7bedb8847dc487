"""What a compiled kernel does with NaN, Inf and old entries of its workspace: as torch does."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch

import tnlayer as tn
from tests.support.cpp_units import has_compiler, small_code
from tnlayer import topologies
from tnlayer.backends.cpp_program import LoadedEntry
from tnlayer.backends.cpu_program import this_cpu
from tnlayer.backends.toolchains.cpp_build import load_library
from tnlayer.backends.toolchains.kernel_store import entry_of
from tnlayer.codegen.cpp.printer import print_cpp
from tnlayer.ir.loops import LoopProgram
from tnlayer.ir.loops_interpret import interpret
from tnlayer.ir.plan import Plan
from tnlayer.lowering.cpu.pipeline import backward_program, forward_program

pytestmark = pytest.mark.skipif(not has_compiler(), reason="no C++ compiler")

# Legs fill the vectors of the first two (the second leaves lanes empty), samples those of the rest.
NETWORKS: dict[str, Callable[[], tn.Network]] = {
    "legs": lambda: topologies.tensor_train((2,) * 8, (2,) * 8, rank=2),
    "some lanes": lambda: topologies.tensor_train((2, 3, 5, 7), (7, 5, 3, 2), rank=3),
    "samples": lambda: topologies.tensor_train((3, 2), (2, 3), rank=2),
    "chain of samples": lambda: topologies.low_rank(12, 10, rank=5),
    "hyperedge": lambda: topologies.cp((4, 2), (2, 4), rank=3),
    "branch": lambda: topologies.block_term((3, 2), (2, 3), 2, 2),
}
# The compiler's best takes as long again to build, and finds what only it can break.
OPTIMISE = ("-O1", pytest.param("-O3", marks=pytest.mark.full))
BATCHES = (1, 17, 37)


class Kernels:
    """Forward and backward of a network as functions of named numpy arrays.

    Arguments:
        net: the network; all gradients are wanted.
        optimise: the compiler's level.
        stale: bytes that fill a new workspace instead of zeros: 0xff makes NaNs.
    """

    def __init__(self, net: tn.Network, optimise: str, stale: int = 0) -> None:
        self.plan: Plan = tn.plan(net, minimize="combo-4")
        self.net, cpu = net, small_code(this_cpu())
        names = [value.name for value in self.plan.inputs]
        self.programs = (forward_program(self.plan, cpu), backward_program(self.plan, names, cpu))
        self.calls = [
            LoadedEntry(
                program.name,
                entry_of(program),
                load_library(self.source(program, stale), optimise=optimise),
            )
            for program in self.programs
        ]

    def source(self, program: LoopProgram, stale: int) -> str:
        """The printed source, with other entries in new workspaces."""
        source, clear = print_cpp(program), "memset(start, 0, bytes)"
        assert source.count(clear) == 1
        return source.replace(clear, f"memset(start, {stale}, bytes)")

    def run(self, arrays: dict[str, np.ndarray], batch: int) -> dict[str, np.ndarray]:
        """All results of forward and backward."""
        found: dict[str, np.ndarray] = {}
        for program, call in zip(self.programs, self.calls, strict=True):
            inputs = [torch.from_numpy(arrays[b.name]) for b in program.of("input")]
            outputs = {
                b.name: torch.full((b.size * (batch if b.batched else 1),), 7.0)
                for b in program.of("output")
            }
            call.run([*inputs, *outputs.values()], batch)
            found |= {name: array.numpy() for name, array in outputs.items()}
        return found

    def interpreted(self, arrays: dict[str, np.ndarray], batch: int) -> dict[str, np.ndarray]:
        """The same by the interpreter."""
        found: dict[str, np.ndarray] = {}
        for program in self.programs:
            given = {b.name: arrays[b.name] for b in program.of("input")}
            found |= interpret(program, given, batch)
        return found

    def by_torch(self, arrays: dict[str, np.ndarray], batch: int) -> dict[str, np.ndarray]:
        """The same by torch's own code for the plan."""
        del batch
        program = tn.compile(self.net, backend="torch", minimize="combo-4")
        assert [v.name for v in program.plan.inputs] == [v.name for v in self.plan.inputs]
        leaves = [torch.from_numpy(arrays[v.name]).requires_grad_() for v in self.plan.inputs]
        y = program.reference(*leaves)[0]
        slope = torch.from_numpy(arrays["g"]).view(y.shape)
        gradients = torch.autograd.grad(y, leaves, slope)
        found = {"out_y": y.detach().numpy().reshape(-1)}
        return found | {
            f"out_d_{v.name}": gradient.numpy().reshape(-1)
            for v, gradient in zip(self.plan.inputs, gradients, strict=True)
        }

    def draw(self, batch: int, seed: int = 0) -> dict[str, np.ndarray]:
        """Normal entries for all arguments."""
        random = np.random.default_rng(seed)
        shapes = {
            v.name: [
                batch if n is None else n for n in map(self.plan.axis_size, self.plan.axes_of(v))
            ]
            for v in self.plan.inputs
        }
        shapes["g"] = [batch, self.net.freeze().out_features]
        return {
            name: random.standard_normal(shape).astype(np.float32) for name, shape in shapes.items()
        }


@pytest.fixture(scope="module", params=OPTIMISE)
def kernels(request: pytest.FixtureRequest) -> dict[str, Kernels]:
    """All networks, with workspaces that are full of NaN at first."""
    return {name: Kernels(make(), request.param, stale=0xFF) for name, make in NETWORKS.items()}


@pytest.mark.parametrize("name", NETWORKS)
def test_workspaces_may_hold_anything(kernels: dict[str, Kernels], name: str) -> None:
    """What an earlier call left there is in no result: all are finite, and torch's."""
    one = kernels[name]
    for batch in BATCHES:
        arrays = one.draw(batch)
        found, expected = one.run(arrays, batch), one.by_torch(arrays, batch)
        for key, result in found.items():
            np.testing.assert_allclose(result, expected[key], 1e-3, 1e-4, err_msg=key)


def spoiled(arrays: dict[str, np.ndarray], name: str, value: float, at: int) -> None:
    """Put a value into one entry of one argument."""
    flat = arrays[name].reshape(-1)
    flat[at % flat.size] = value


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf], ids=str)
@pytest.mark.parametrize("name", NETWORKS)
def test_what_is_not_finite_spreads_as_in_torch(
    kernels: dict[str, Kernels], name: str, value: float
) -> None:
    """One entry of any argument: the same results are NaN, and the same infinite, as in torch.

    Samples that are missing in a block leave no 0 x inf in any sum. The interpreter agrees. No
    weight is zero here, so that the order of the steps makes no difference.
    """
    one = kernels[name]
    for batch in BATCHES:
        for number, key in enumerate(one.draw(batch)):
            arrays = one.draw(batch)
            spoiled(arrays, key, value, 7 * number)
            results = [one.run(arrays, batch)]
            if batch == 1:
                with np.errstate(invalid="ignore"):
                    results.append(one.interpreted(arrays, batch))
            expected = one.by_torch(arrays, batch)
            for found in results:
                for result, entries in found.items():
                    where = f"{result} at batch {batch} with {value} in {key}"
                    wanted = expected[result]
                    assert np.array_equal(np.isnan(entries), np.isnan(wanted)), where
                    assert np.array_equal(np.isposinf(entries), np.isposinf(wanted)), where
                    assert np.array_equal(np.isneginf(entries), np.isneginf(wanted)), where


@pytest.mark.parametrize("name", NETWORKS)
def test_a_clean_call_after_a_spoiled_one(kernels: dict[str, Kernels], name: str) -> None:
    """NaN in all arguments of one call leaves no trace in the next, to the bit."""
    one = kernels[name]
    arrays = one.draw(17)
    expected = one.run(arrays, 17)
    one.run({key: np.full_like(array, np.nan) for key, array in arrays.items()}, 17)
    found = one.run(arrays, 17)
    assert all(np.array_equal(found[key], expected[key]) for key in expected)
