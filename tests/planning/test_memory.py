"""Memory limits: what is predicted is what is allocated, and nothing else changes."""

from __future__ import annotations

import gc
import re
from collections.abc import Callable
from dataclasses import replace
from itertools import product
from typing import Any

import pytest
import torch
from hypothesis import given
from torch.utils.flop_counter import FlopCounterMode

import tnlayer as tn
from tests.support.golden import Golden
from tests.support.live_bytes import LiveBytes, measured_peak
from tests.support.memory_cases import BATCH, check_memory, check_program, everything, program_with
from tests.support.small_topologies import ALIKE
from tests.support.strategies import Case, cases, fixed_series
from tnlayer.graph.graph import Graph
from tnlayer.hardware.profile.load import op_times
from tnlayer.ir.plan import Plan
from tnlayer.ir.plan_parts import Memory
from tnlayer.lowering.calls.training_schedules import schedule_pair
from tnlayer.passes.slice_legs import looped_together, sliceable_legs
from tnlayer.planning.memory_limit import keep_limit
from tnlayer.runtime.program import Program
from tnlayer.support.option_words import Objective
from tnlayer.targets.lowered_calls import LoweredCalls
from tnlayer.targets.target import target_for

T = tn.topologies
NETWORKS: dict[str, Callable[[], tn.Network]] = {
    "block_term": lambda: T.block_term((8, 8), (8, 8), 2, 3),
    "brickwall": lambda: T.brickwall(8, 2, 4),
    "btt": lambda: T.btt((8, 8), (8, 8), rank=3),
    "butterfly": lambda: T.butterfly(64),
    "cp": lambda: T.cp((8, 8), (8, 8), rank=4),
    "kronecker": lambda: T.kronecker((8, 8), (8, 8)),
    "low_rank": lambda: T.low_rank(64, 64, rank=4),
    "mera": lambda: T.mera(8, 2, 3),
    "monarch": lambda: T.monarch((4, 4, 4), (4, 4, 4)),
    "peps": lambda: T.peps(2, 3, 2, 2),
    "tensor_ring": lambda: T.tensor_ring((4, 4, 4), (4, 4, 4), rank=3),
    "tensor_train": lambda: T.tensor_train((8, 8, 8), (8, 8, 8), rank=4),
    "tree": lambda: T.tree(8, 2, 2),
    "tucker": lambda: T.tucker((8, 8), (8, 8), rank=4),
}


def test_every_topology_is_measured() -> None:
    """A new topology gets a place in the table above, or is like one that has."""
    assert set(NETWORKS) | set(ALIKE) == set(T.__all__)


class Training:
    """A program with random arrays: one training step and one forward without grad."""

    def __init__(self, program: Program, batch: int = BATCH) -> None:
        graph = program.graph
        self.program = program
        self.arrays = {
            p.name: torch.randn(p.shape, dtype=program.dtype, requires_grad=True)
            for p in graph.parameters
        }
        self.x = torch.randn(batch, graph.in_features, dtype=program.dtype, requires_grad=True)
        self.gradient = torch.randn(batch, graph.out_features, dtype=program.dtype)
        program.source()

    def step(self) -> tuple[torch.Tensor, ...]:
        """y and the gradients of x and of all parameters."""
        y = self.program(self.x, parameters=self.arrays)
        found = torch.autograd.grad(y, [self.x, *self.arrays.values()], self.gradient)
        return (y.detach(), *found)

    def infer(self) -> torch.Tensor:
        """y without grad."""
        with torch.no_grad():
            return self.program(self.x, parameters=self.arrays)

    @property
    def given_bytes(self) -> int:
        """Bytes of y and of the gradients, which a memory limit is not about."""
        made = [self.gradient, self.x, *self.arrays.values()]
        return sum(array.numel() * array.element_size() for array in made)


# -- predicted is measured ---------------------------------------------------------------------


def slices_of(plan: Plan, chunk: int | None = None) -> Memory:
    """As many sliced legs as can go together and with a chunk."""
    looped = set() if chunk is None else {"b"}
    for leg in sliceable_legs(plan):
        if not looped_together(plan, looped | {leg}):
            looped.add(leg)
    return Memory(chunk=chunk, slices=tuple(sorted(looped - {"b"})))


MEMORIES: dict[str, Callable[[Plan], Memory]] = {
    "keep_all": lambda plan: Memory(),
    "half_again": lambda plan: Memory(recompute=everything(plan)[::2]),
    "all_again": lambda plan: Memory(recompute=everything(plan)),
    "chunk_32": lambda plan: Memory(chunk=32),
    "chunk_7": lambda plan: Memory(chunk=7),
    "chunk_5_all_again": lambda plan: Memory(recompute=everything(plan), chunk=5),
    "slices": slices_of,
    "slices_chunk_32": lambda plan: slices_of(plan, 32),
    "slices_all_again": lambda plan: replace(slices_of(plan), recompute=everything(plan)),
}


@pytest.mark.crossed
@pytest.mark.parametrize("memory", MEMORIES)
@pytest.mark.parametrize("name", NETWORKS)
def test_predicted_peak_is_what_is_allocated(name: str, memory: str) -> None:
    """Forward without grad and training step: counted peak within 10% of the measured one."""
    program = program_with(NETWORKS[name](), MEMORIES[memory])
    nothing = (False,) * len(program.plan.inputs)
    training = Training(program)
    inferring = measured_peak(training.infer)
    assert program.schedules(nothing).peak_bytes(BATCH) == pytest.approx(inferring, rel=0.1)
    stepping = measured_peak(training.step)
    assert program.schedules().peak_bytes(BATCH) == pytest.approx(stepping, rel=0.1)


@pytest.mark.crossed
@pytest.mark.parametrize("objective", ["train", "infer"])
@pytest.mark.parametrize("name", NETWORKS)
def test_limits_are_kept_as_measured(name: str, objective: Objective) -> None:
    """Half of what the plan needs without a limit, and the least that is possible, are kept."""
    net = NETWORKS[name]()
    free = tn.compile(net, batch=BATCH, objective=objective)
    mask = free.training_mask() if objective == "train" else (False,) * len(free.plan.inputs)
    unlimited = schedule_pair(free.plan, mask, free.times).workspace_bytes(BATCH)
    kept = 0
    for limit in (unlimited // 2, least_limit(free.plan, mask)):
        try:
            limited = tn.compile(net, batch=BATCH, objective=objective, memory_limit=limit)
        except tn.PlanError as error:
            assert f"memory_limit={limit} bytes cannot be kept" in str(error)
            continue
        kept += 1
        training = Training(limited)
        call = training.step if objective == "train" else training.infer
        y_bytes = training.gradient.numel() * training.gradient.element_size()
        given_bytes = training.given_bytes if objective == "train" else y_bytes
        assert measured_peak(call) - given_bytes <= limit
    assert kept, "the least limit can be kept"


def calls_of(plan: Plan, mask: tuple[bool, ...]) -> LoweredCalls:
    """A plan as torch's calls."""
    return LoweredCalls("torch", plan, mask, target_for(plan.dtype, "cpu"))


def least_limit(plan: Plan, mask: tuple[bool, ...]) -> int:
    """The least workspace that the search knows, by its own refusal of an impossible limit."""
    try:
        keep_limit(calls_of(plan, mask), BATCH, -1)
    except tn.PlanError as error:
        return int(str(error).split("smallest workspace found is ")[1].split(" bytes")[0])
    raise AssertionError("a limit below 0 was kept")


def test_mera_trains_within_the_bytes_of_x() -> None:
    """MERA-3 at batch 1024: forward and backward allocate at most x's bytes beside the arrays."""
    batch = 1024
    net = T.mera(12, 2, 3)
    limit = 4 * 4096 * batch
    program = tn.compile(net, batch=batch, memory_limit=limit)
    training = Training(program, batch)
    peak = measured_peak(training.step)
    assert peak - training.given_bytes <= limit
    assert program.schedules().peak_bytes(batch) == pytest.approx(peak, rel=0.1)
    free = Training(tn.compile(net, batch=batch), batch)
    free.x, free.arrays, free.gradient = training.x, training.arrays, training.gradient
    assert measured_peak(free.step) - free.given_bytes > 2 * limit
    for limited, whole in zip(training.step(), free.step(), strict=True):
        assert (limited - whole).norm() <= 1e-4 * whole.norm()


def test_a_limited_layer_trains() -> None:
    """The limit is kept behind tn.Layer, too, and x may have more leading dimensions."""
    batch = 256
    net = NETWORKS["tensor_train"]()
    limit = 4 * net.in_features * batch
    layer = tn.Layer(net, batch=batch, memory_limit=limit)
    x = torch.randn(4, batch // 4, layer.in_features, requires_grad=True)
    gradient = torch.randn(4, batch // 4, layer.out_features)
    arrays = [x, *layer.parameters()]
    layer.prepare()
    peak = measured_peak(lambda: torch.autograd.grad(layer(x), arrays, gradient))
    given_bytes = 4 * (gradient.numel() + sum(array.numel() for array in arrays))
    assert peak - given_bytes <= limit


def test_refusals_say_how_little_is_possible() -> None:
    """The PlanError names limit, least workspace, chunk and legs; that workspace can be kept."""
    net = NETWORKS["tensor_train"]()
    with pytest.raises(tn.PlanError, match="memory_limit=3 bytes") as error:
        tn.compile(net, batch=16, memory_limit=3)
    text = str(error.value)
    assert text.startswith("network 'tensor train'")
    assert "a chunk of 1" in text
    assert re.search(r"at once, legs (batch|[ijb]\d)", text)
    least = int(text.split("smallest workspace found is ")[1].split(" bytes")[0])
    assert tn.compile(net, batch=16, memory_limit=least).plan.memory.chunk == 1
    with pytest.raises(tn.PlanError):
        tn.compile(net, batch=16, memory_limit=least - 1)


def wide_network() -> tn.Network:
    """A triangle whose intermediates are far larger than x and y, at any batch."""
    net = tn.Network("triangle")
    net.input(i=8)
    net.output(j=8)
    net.bond(a=256, b=16, c=16)
    net.tensor("A", "i a b")
    net.tensor("B", "a c j")
    net.tensor("C", "b c")
    return net


def test_a_leg_is_sliced_where_no_chunk_helps() -> None:
    """At batch 1 only a loop over an inner leg keeps a small limit; measured and right."""
    limit = 4096
    program = tn.compile(wide_network(), batch=1, memory_limit=limit)
    assert program.plan.memory.slices
    assert "looped over, one index at a time: a" in str(program.plan)
    training = Training(program, 1)
    assert measured_peak(training.step) - training.given_bytes <= limit
    free = Training(tn.compile(wide_network(), batch=1), 1)
    assert measured_peak(free.step) - free.given_bytes > 10 * limit
    double = tn.compile(wide_network(), batch=1, memory_limit=2 * limit, dtype="float64")
    arrays = small_arrays(double.graph)
    x = torch.randn(1, 8, dtype=torch.float64)
    for array in (x, *arrays.values()):
        array.requires_grad_(True)
    check_program(double, [x], arrays, torch.randn_like)


def test_memory_that_cannot_be_followed_is_refused() -> None:
    """A leg of a port, legs whose loops would nest, an unknown value, a chunk of 0: PlanError."""
    plan = tn.plan(wide_network(), batch=1)
    legs = {user: name for name, user in plan.names}
    mask = (False,) * len(plan.inputs)
    for memory, text in (
        (Memory(slices=(legs["i"],)), "leg i cannot be looped over.*: b, a, c|a, "),
        (Memory(slices=(legs["a"], legs["b"])), "a, b meet in one step"),
        (Memory(slices=(legs["a"],), chunk=1), "the batch, a meet in one step"),
        (Memory(recompute=("t77",)), "no step makes t77"),
        (Memory(chunk=0), "memory.chunk=0"),
    ):
        with pytest.raises(tn.PlanError, match=text):
            schedule_pair(replace(plan, memory=memory), mask, op_times(plan.dtype))


# -- values are the oracle's -------------------------------------------------------------------


@pytest.mark.parametrize("dtype", ["float64", "complex128"])
def test_random_networks_with_random_memory(dtype: str) -> None:
    """Any recompute set, chunk and slices give the oracle's value and gradients: 300 cases each.

    A shorter series has too few cases with slices.
    """
    count = 300
    seen: list[Memory] = []

    @fixed_series(5000, count)
    @given(case=cases(dtype.startswith("complex")))
    def check_one(case: Case) -> None:
        seen.append(check_memory(case, dtype))

    check_one()
    assert len(seen) >= count
    assert sum(bool(memory.slices) for memory in seen) >= count / 10


SMALL: dict[str, Callable[[], tn.Network]] = {
    "tensor_train": lambda: T.tensor_train((2, 3, 2), (3, 2, 2), rank=2),
    "cp": lambda: T.cp((2, 3), (3, 2), rank=2),
    "block_term": lambda: T.block_term((2, 2), (2, 3), 1, 2),
    "mera": lambda: T.mera(4, 2, 2),
}


def small_arrays(graph: Graph) -> dict[str, torch.Tensor]:
    """Random parameters in float64."""
    return {p.name: torch.randn(p.shape, dtype=torch.float64) for p in graph.parameters}


@pytest.mark.parametrize("chunk", [None, 3])
@pytest.mark.parametrize("name", SMALL)
def test_all_subsets_of_frozen_tensors(name: str, chunk: int | None) -> None:
    """Each subset of x and up to four tensors: right gradients, and nothing more is computed."""
    program = program_with(
        SMALL[name](), lambda plan: Memory(everything(plan), chunk), dtype="float64"
    )
    graph = program.graph
    arrays = small_arrays(graph)
    x = torch.randn(7, graph.in_features, dtype=torch.float64)
    for mask in product((False, True), repeat=1 + len(arrays)):
        for array, asked in zip((x, *arrays.values()), mask, strict=True):
            array.requires_grad_(asked)
        check_program(program, [x], arrays, torch.randn_like)


@pytest.mark.parametrize("name", SMALL)
def test_frozen_costs_nothing(name: str) -> None:
    """No step and no kept value of a backward is there for a gradient that nobody wants."""
    plan = tn.plan(SMALL[name](), batch=16)
    names = [value.name for value in plan.inputs]
    for wanted in ([names[0]], names[1:2], names[1:], []):
        for recompute in (Memory(), Memory(recompute=everything(plan)), Memory(chunk=4)):
            backward = tn.backward_plan(replace(plan, memory=recompute), wanted)
            assert [output.name for output in backward.outputs] == [f"d_{n}" for n in wanted]
            read = {operand.value.name for step in backward.steps for operand in step.operands}
            read |= {output.operand.value.name for output in backward.outputs}
            made = {step.result.name for step in backward.steps}
            assert made <= read
            assert {value.name for value in backward.saved} <= read
            assert not {v.name for v in backward.saved} & replace(plan, memory=recompute).recomputed
    assert tn.backward_plan(plan, []).counts.flops.at(16) == 0
    # Without the gradient of x a sweep needs one contraction less at least.
    every, frozen = tn.backward_plan(plan), tn.backward_plan(plan, names[1:])
    assert frozen.counts.flops.at(16) < every.counts.flops.at(16)


@pytest.mark.parametrize("batch", [0, 1, 3, 4, 5, 8, 9])
@pytest.mark.parametrize("name", SMALL)
def test_batches_around_the_chunk(name: str, batch: int) -> None:
    """No sample, one, one less than a chunk, a chunk, one more: all are right with chunks of 4."""
    program = program_with(SMALL[name](), Memory(chunk=4), dtype="float64")
    arrays = small_arrays(program.graph)
    x = torch.randn(batch, program.graph.in_features, dtype=torch.float64)
    for array in (x, *arrays.values()):
        array.requires_grad_(True)
    check_program(program, [x], arrays, torch.randn_like)


def test_double_backward_with_a_chunk() -> None:
    """Gradients of gradients are those of the program without a limit."""
    net = SMALL["tensor_train"]()
    found: list[torch.Tensor] = []
    arrays = small_arrays(net.freeze())
    x = torch.randn(7, net.in_features, dtype=torch.float64, requires_grad=True)
    for array in arrays.values():
        array.requires_grad_(True)
    for memory in (Memory(), Memory(chunk=3)):
        program = program_with(net, memory, dtype="float64")
        y = program(x, parameters=arrays)
        (slope,) = torch.autograd.grad((y**3).sum(), x, create_graph=True)
        found.append(torch.autograd.grad(slope.square().sum(), next(iter(arrays.values())))[0])
    assert torch.allclose(*found, rtol=1e-12)


def test_transforms_with_a_chunk() -> None:
    """Under vmap and forward-mode differentiation the program runs without chunks, and right."""
    net = SMALL["cp"]()
    arrays = small_arrays(net.freeze())
    limited = program_with(net, Memory(chunk=3), dtype="float64")
    free = program_with(net, Memory(), dtype="float64")
    x = torch.randn(2, 5, net.in_features, dtype=torch.float64)
    mapped = torch.func.vmap(lambda part: limited(part, parameters=arrays))(x)
    assert torch.allclose(mapped[1], free(x[1], parameters=arrays))
    with torch.autograd.forward_ad.dual_level():
        dual = torch.autograd.forward_ad.make_dual(x[0], x[1])
        tangent = torch.autograd.forward_ad.unpack_dual(limited(dual, parameters=arrays)).tangent
    assert tangent is not None
    assert torch.allclose(tangent, free(x[1], parameters=arrays))


@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning")
def test_a_limited_layer_compiles() -> None:
    """torch.compile(fullgraph=True) traces a layer with a limit; its gradients are eager's."""
    torch.compiler.reset()
    layer = tn.Layer(NETWORKS["tensor_train"](), batch=256, memory_limit=2**20, dtype=torch.float64)
    assert "for start in range(0, B" in layer.source()
    x = torch.randn(3, layer.in_features, dtype=torch.float64, requires_grad=True)
    arrays = [x, *layer.parameters()]
    expected = torch.autograd.grad(layer(x).square().sum(), arrays)
    compiled: Any = torch.compile(layer, fullgraph=True, backend="aot_eager")
    found = torch.autograd.grad(compiled(x).square().sum(), arrays)
    torch.compiler.reset()
    for one, other in zip(found, expected, strict=True):
        assert torch.allclose(one, other, rtol=1e-10)


def test_chunks_are_deterministic() -> None:
    """Two steps with the same arrays give the same bits."""
    training = Training(program_with(NETWORKS["mera"](), Memory(chunk=7)))
    for first, second in zip(training.step(), training.step(), strict=True):
        assert torch.equal(first, second)


def test_nothing_leaks() -> None:
    """After 200 training steps with chunks and recomputation no byte more is alive than before."""
    training = Training(program_with(SMALL["mera"](), Memory(("t0", "t2"), 16)))
    gc.collect()
    with LiveBytes() as mode:
        for _ in range(200):
            training.step()
        gc.collect()
        assert sum(mode.live.values()) == 0


# -- FLOPs -------------------------------------------------------------------------------------


@pytest.mark.crossed
@pytest.mark.parametrize("batch", [64, 61])
@pytest.mark.parametrize("memory", MEMORIES)
@pytest.mark.parametrize("name", ["tensor_train", "mera", "tree", "peps"])
def test_flops_with_memory_equal_the_counter(name: str, memory: str, batch: int) -> None:
    """What the plans count, repeated steps included, is what torch's counter sees."""
    program = program_with(NETWORKS[name](), MEMORIES[memory])
    training = Training(program, batch)
    with FlopCounterMode(display=False) as counter:
        training.step()
    plans = (program.plan, tn.backward_plan(program.plan))
    assert counter.get_total_flops() == sum(plan.counts.flops.at(batch) for plan in plans)


def test_recomputation_costs_one_more_forward_at_most() -> None:
    """Everything made again: forward FLOPs once more, less what no gradient needs."""
    plan = tn.plan(NETWORKS["mera"](), batch=BATCH)
    forward = plan.counts.flops.at(BATCH)
    plain = tn.backward_plan(plan).counts.flops.at(BATCH)
    again = tn.backward_plan(replace(plan, memory=Memory(everything(plan)))).counts.flops.at(BATCH)
    assert plain == 2 * forward
    assert plain < again <= 3 * forward


# -- the search --------------------------------------------------------------------------------


def test_a_looser_limit_never_makes_the_plan_slower() -> None:
    """By the prediction that the search is given, more memory never costs time."""
    program = tn.compile(NETWORKS["tensor_train"](), batch=256, minimize="combo-64")
    mask = program.training_mask()
    calls = calls_of(program.plan, mask)
    need = calls.workspace_bytes(256)

    def flops(lowered: LoweredCalls) -> float:
        plan = lowered.plan
        backward = tn.backward_plan(plan)
        chunks = 1 if plan.memory.chunk is None else -(-256 // plan.memory.chunk)
        return backward.counts.flops.at(256) + 1e3 * chunks

    times: list[float] = []
    for parts in (32, 16, 8, 4, 2, 1):
        kept = keep_limit(calls, 256, need // parts, flops)
        assert kept.workspace_bytes(256) <= need // parts
        times.append(flops(kept))
    assert times == sorted(times, reverse=True)
    assert kept.plan == program.plan


def test_the_memory_travels_with_the_plan() -> None:
    """A pickled program keeps its limit, and chooses the same way again."""
    import pickle

    net = NETWORKS["tree"]()
    program = tn.compile(net, batch=BATCH, memory_limit=40_000)
    assert program.plan.memory != Memory()
    assert pickle.loads(pickle.dumps(program)).plan == program.plan
    assert tn.compile(net, batch=BATCH, memory_limit=40_000).plan == program.plan


# -- text --------------------------------------------------------------------------------------

GOLDEN: dict[str, Callable[[Plan], Memory]] = {
    "chunked": lambda plan: Memory(chunk=8),
    "recomputed": lambda plan: Memory(recompute=everything(plan)),
    "sliced": slices_of,
}


@pytest.mark.parametrize("name", GOLDEN)
def test_golden_source(name: str, golden: Golden) -> None:
    """The source with a loop, values made again, a sliced leg is the text in the golden file."""
    net = T.tensor_train((4, 4, 4), (4, 4, 4), rank=2)
    golden.check(program_with(net, GOLDEN[name], batch=32).source())
