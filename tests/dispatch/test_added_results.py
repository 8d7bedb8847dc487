"""Networks of a sum that add y, and the gradients of the inputs, to what others gave before.

With a memory limit torch's calls do it a chunk of samples at a time, so that no second y is alive.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given

import tnlayer as tn
from tests.support.against_oracle import draw_inputs
from tests.support.live_bytes import peak_beside
from tests.support.memory_cases import BATCH, everything, program_with, random_memory
from tests.support.small_topologies import NETWORKS
from tests.support.strategies import Case, cases, fixed_series, random_array
from tnlayer.ir.plan import Plan
from tnlayer.ir.plan_parts import Memory
from tnlayer.lowering.calls.training_schedules import Mask
from tnlayer.runtime.program import Program
from tnlayer.support.option_words import Objective

T = tn.topologies

MEMORIES: dict[str, Callable[[Plan], Memory]] = {
    "half again": lambda plan: Memory(recompute=everything(plan)[::2]),
    "chunks": lambda plan: Memory(chunk=7),
    "any": lambda plan: random_memory(plan, np.random.default_rng(2)),
}


def added(memory: Callable[[Plan], Memory]) -> Callable[[Plan], Memory]:
    """The same memory, with results that are added."""
    return lambda plan: replace(memory(plan), adds=True)


class Adding:
    """The functions of a program that adds, with arrays to add to.

    Arguments:
        program: whose plan adds.
        arrays: its inputs, ports and then parameters.
        mask: which of them want a gradient.
    """

    def __init__(self, program: Program, arrays: list[torch.Tensor], mask: Mask) -> None:
        self.program, self.arrays, self.mask = program, arrays, mask
        self.ports = [x for x, asked in zip(arrays, mask, strict=True) if asked]
        self.ports = self.ports[: sum(mask[: len(program.plan.ports)])]
        self.y = torch.randn_like(program.infer(*arrays)[0])
        self.gradient = torch.randn_like(self.y)

    def usual(self) -> tuple[torch.Tensor, ...]:
        """y and all wanted gradients, from the functions that give them."""
        kernels = self.program.kernels(self.mask)
        y, *saved = kernels.forward(*self.arrays)
        if not any(self.mask):
            return (y,)
        return (y, *kernels.backward(self.gradient, *kernels.pick(self.arrays), *saved))

    def added(self, targets: list[torch.Tensor]) -> tuple[torch.Tensor, ...]:
        """Gradients of parameters; y and the gradients of ports are added to the targets."""
        kernels = self.program.adding_kernels(self.mask)
        y, *ports = targets
        saved = kernels.forward(*self.arrays, y)
        if not any(self.mask):
            return ()
        return kernels.backward(self.gradient, *kernels.pick(self.arrays), *saved, *ports)

    def check(self) -> None:
        """Both are the same, and no more is allocated than is counted."""
        start = [self.y, *(torch.randn_like(x) for x in self.ports)]
        expected = self.usual()
        targets = [array.clone() for array in start]
        found = [*targets, *self.added(targets)]
        for number, (ours, theirs) in enumerate(zip(found, expected, strict=True)):
            theirs = theirs + start[number] if number < len(start) else theirs
            assert torch.allclose(ours, theirs, rtol=1e-9, atol=1e-9 * float(theirs.abs().max()))
        pair = self.program.schedules(self.mask)
        assert peak_beside(lambda: self.added(targets)) <= pair.workspace_bytes(len(self.gradient))


@pytest.mark.crossed
@pytest.mark.parametrize("memory", MEMORIES)
@pytest.mark.parametrize("name", NETWORKS)
def test_topologies_add_what_they_give(name: str, memory: str) -> None:
    """Every topology, whole, in chunks and in slices: right sums, and the counted workspace."""
    program = program_with(NETWORKS[name](), added(MEMORIES[memory]), dtype="float64")
    graph = program.graph
    arrays = [torch.randn(BATCH, graph.in_features, dtype=torch.float64)]
    shapes = {parameter.name: parameter.shape for parameter in graph.parameters}
    arrays += [torch.randn(shapes[n], dtype=torch.float64) for n in program.parameter_order]
    for mask in (program.training_mask(), program.nothing, (True, *program.nothing[1:])):
        Adding(program, arrays, mask).check()


@pytest.mark.parametrize("dtype", ["float64", "complex128"])
def test_random_networks_add_what_they_give(dtype: str) -> None:
    """Several inputs, some without a batch or products of vectors, and any memory."""

    @fixed_series(7300, 40)
    @given(case=cases(dtype.startswith("complex")))
    def check_one(case: Case) -> None:
        random = np.random.default_rng(case.seed)
        is_complex = dtype.startswith("complex")
        memory = added(lambda plan: random_memory(plan, random))
        program = program_with(case.net, memory, dtype=dtype)
        lead = (int(np.prod(case.lead)),)
        inputs = draw_inputs(program.graph, case, lead, random, is_complex)
        arrays = [x.to(program.dtype).resolve_conj().resolve_neg().contiguous() for x in inputs]
        shapes = {parameter.name: parameter.shape for parameter in program.graph.parameters}
        arrays += [
            torch.from_numpy(random_array(random, shapes[name], is_complex).copy())
            for name in program.parameter_order
        ]
        mask = tuple(bool(random.random() < 0.7) for _ in arrays)
        adding = Adding(program, arrays, mask)
        if adding.y.numel():
            adding.check()

    check_one()


@pytest.mark.crossed
@pytest.mark.parametrize("batch", [0, 1, 3, 4, 5, 9])
@pytest.mark.parametrize("name", ["cp", "mera", "odd"])
def test_batches_around_the_chunk_are_added(name: str, batch: int) -> None:
    """No sample, fewer than a chunk, more, and a last chunk that is not full."""
    program = program_with(NETWORKS[name](), Memory(chunk=4, adds=True), dtype="float64")
    shapes = {parameter.name: parameter.shape for parameter in program.graph.parameters}
    arrays = [torch.randn(batch, program.graph.in_features, dtype=torch.float64)]
    arrays += [torch.randn(shapes[n], dtype=torch.float64) for n in program.parameter_order]
    adding = Adding(program, arrays, program.training_mask())
    if batch:
        adding.check()
    else:
        adding.added([adding.y, *(x.clone() for x in adding.ports)])


# -- layers ------------------------------------------------------------------------------------


def copies(net: tn.Network, count: int) -> list[tn.Network]:
    """Equal networks whose tensors have names of their own."""
    text, names = net.to_json(), [tensor.name for tensor in net.freeze().tensors]
    found: list[tn.Network] = []
    for number in range(count):
        renamed = text
        for name in names:
            renamed = renamed.replace(json.dumps(name), json.dumps(f"{name}_{number}"))
        found.append(tn.Network.from_json(renamed))
    return found


def chunks(layer: tn.Layer) -> list[int]:
    """Samples that each network takes at once."""
    memories = [cost.plan.memory for cost in layer.costs()]
    return [BATCH if memory.chunk is None else memory.chunk for memory in memories]


@pytest.mark.parametrize(("count", "objective"), [(2, "train"), (4, "infer")])
def test_a_sum_takes_chunks_as_large_as_one_network(count: int, objective: Objective) -> None:
    """Within the bytes of x, where a second y alone has as many."""
    net = T.mera(8, 2, 2)
    limit = BATCH * 256 * 4

    def layer(nets: list[tn.Network]) -> tn.Layer:
        return tn.Layer(nets, batch=BATCH, memory_limit=limit, backend="torch", objective=objective)

    alone = chunks(layer([net]))
    assert min(chunks(layer(copies(net, count)))) >= 0.8 * alone[0]


@pytest.mark.parametrize("bias", [False, True])
def test_a_limited_sum_computes_the_same(bias: bool) -> None:
    """y and all gradients are those of the layer without a limit; explain() tells of it."""
    nets = [T.mera(6, 2, 2), T.low_rank(64, 64, rank=4), T.tensor_train((8, 8), (8, 8), rank=3)]
    free = tn.Layer(nets, bias=bias, batch=BATCH, backend="torch", dtype=torch.float64)
    limited = tn.Layer(nets, bias=bias, batch=BATCH, backend="torch", dtype=torch.float64,
                       memory_limit=BATCH * 64 * 8)  # fmt: skip
    limited.load_state_dict(free.state_dict())
    assert "added to what the networks before it gave" in str(limited.explain())
    assert "to_y" in limited.source() and "to_d_x0" in limited.source()
    x = torch.randn(BATCH, 64, dtype=torch.float64, requires_grad=True)
    gradient = torch.randn(BATCH, 64, dtype=torch.float64)
    results: list[tuple[torch.Tensor, ...]] = []
    for layer in (free, limited):
        with torch.no_grad():
            inferred = layer(x)
        y = layer(x)
        found = torch.autograd.grad(y, [x, *layer.parameters()], gradient)
        results.append((inferred, y.detach(), *found))
    for theirs, ours in zip(*results, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-10, atol=1e-10)
