"""Equal subnetworks are contracted once: counts, values and gradients, and what checks a plan."""

from __future__ import annotations

import ctypes
import math
from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given
from torch.utils.flop_counter import FlopCounterMode

import tnlayer as tn
from tests.support.against_oracle import KINDS, check_case
from tests.support.compiled_cases import CompiledCase as Compiled
from tests.support.compiled_cases import check_interpreted
from tests.support.cpp_units import build_together, has_compiler, programs_of
from tests.support.emulated import emulated_gpu
from tests.support.memory_cases import check_memory, everything
from tests.support.mixed_cases import MixedCase as Cut
from tests.support.mixed_cases import divisions, mixed
from tests.support.mutations import mutated
from tests.support.plan_numbers import computes
from tests.support.series import short_and_full
from tests.support.strategies import Case, fixed_series, repeated_cases
from tnlayer.backends.cpp_program import CppProgram
from tnlayer.backends.mixed_program import MixedProgram
from tnlayer.graph.canonical import canonicalise
from tnlayer.graph.graph import Graph
from tnlayer.hardware.cpu import Cpu
from tnlayer.hardware.profile.load import op_times
from tnlayer.ir.plan import Plan
from tnlayer.ir.plan_document import PlanDocumentError, document_from_plan, plan_from_document
from tnlayer.ir.plan_parts import Memory
from tnlayer.ir.steps import Contract, Operand, Select, Value
from tnlayer.lowering.calls.training_schedules import schedule_pair
from tnlayer.planning.check_plan import check_plan
from tnlayer.planning.contraction_order import search_order
from tnlayer.planning.plan_of_order import make_plan

__all__ = ["emulated_gpu"]  # the fixture

needs_compiler = pytest.mark.skipif(not has_compiler(), reason="no C++ compiler")


def gram() -> tn.Network:
    """(A B) (A B)^T."""
    net = tn.Network("gram")
    net.output(i=64, z=64)
    net.bond(j=200, k=200, l=200)
    net.tensor("A", "i j")
    net.tensor("B", "j k")
    net.tensor("B2", "l k", share="B")
    net.tensor("A2", "z l", share="A")
    return net


def ring(count: int, size: int = 2) -> tn.Network:
    """The trace of a power of one matrix."""
    net = tn.Network("ring")
    net.output()
    net.bond(**{f"s{number}": size for number in range(count)})
    for number in range(count):
        legs = (f"s{number}", f"s{(number + 1) % count}")
        net.tensor(f"W{number}", legs, share="W0" if number else None)
    return net


def overlap(is_conjugate: bool = True) -> tn.Network:
    """|A B|^2 with a weight for each entry: (A B) * conj(A B) * C, summed."""
    net = tn.Network("overlap")
    net.output()
    net.bond(i=3, j=4, l=4, k=5)
    net.tensor("A", "i j")
    net.tensor("B", "j k")
    net.tensor("A2", "i l", share="A", conj=is_conjugate)
    net.tensor("B2", "l k", share="B", conj=is_conjugate)
    net.tensor("C", "i k")
    return net


def in_the_stem(count: int = 3) -> tn.Network:
    """x times W, several times, W = P Q^T in itself a product; the last one turned round."""
    net = tn.Network("in the stem")
    net.input(a0=6)
    net.output(**{f"a{count}": 6})
    net.bond(**{f"a{number}": 6 for number in range(1, count)})
    net.bond(**{f"r{number}": 40 for number in range(count)})
    for number in range(count):
        ends = [f"a{number}", f"a{number + 1}"]
        left, right = ends if number < count - 1 else reversed(ends)
        net.tensor(f"P{number}", f"{left} r{number}", share="P0" if number else None)
        net.tensor(f"Q{number}", f"r{number} {right}", share="Q0" if number else None)
    return net


def new_names(plan: Plan) -> list[Select]:
    """The products that are not computed again."""
    return [step for step in plan.steps if isinstance(step, Select) and step.terms]


def collected(is_complex: bool, seed: int, count: int) -> list[Case]:
    """A fixed series of networks of equal blocks."""
    found: list[Case] = []

    @fixed_series(seed, count, shrink=False)
    @given(case=repeated_cases(is_complex))
    def take(case: Case) -> None:
        found.append(case)

    take()
    assert len(found) >= count
    return found


# -- counts --------------------------------------------------------------------------------------


def test_a_product_and_its_transpose_are_one() -> None:
    """A B is computed once, forward; the backward adds both gradients of it before it goes on."""
    cost = tn.cost(gram())
    assert cost.forward_flops == 2 * 64 * 200 * 200 + 2 * 64 * 200 * 64
    assert cost.backward_flops == 2 * cost.forward_flops
    assert cost.backward.elementwise.at(1) == 64 * 200
    # The new name moves nothing: A, B and A B twice are read, A B and y written.
    read, written = 64 * 200 + 200 * 200 + 2 * 64 * 200, 64 * 200 + 64 * 64
    assert cost.forward.bytes_read.at(1) == 4 * read
    assert cost.forward.bytes_written.at(1) == 4 * written
    (renamed,) = new_names(cost.plan)
    assert len(renamed.terms) == 2
    assert "legs renamed" in str(cost.plan)


@pytest.mark.parametrize("count", [2, 3, 4, 7, 16, 100, 255, 600])
def test_powers_are_made_by_squaring(count: int) -> None:
    """A ring of n equal matrices takes at most 2 log2(n) products; their number is what counts."""
    plan = tn.plan(ring(count), batch=1, effort="fast")
    products = [step for step in plan.steps if isinstance(step, Contract)]
    assert len(products) <= max(1, 2 * math.floor(math.log2(count)))
    assert plan.proven_optimal == (count < 4)
    assert check_plan(plan, canonicalise(ring(count).freeze()).graph) == ""
    backward = tn.backward_plan(plan)
    assert len([s for s in backward.steps if isinstance(s, Contract)]) <= 2 * len(products)


def test_powers_have_the_right_value(backend: str) -> None:
    """Tr W^n and its gradient n (W^(n-1))^T, by numpy's eigenvalues."""
    count = 600
    layer = tn.Layer(ring(count), dtype=torch.float64)
    matrix = np.array([[0.9, 0.3], [0.2, 0.8]])
    with torch.no_grad():
        layer.get_parameter("W0").copy_(torch.from_numpy(matrix))
    layer().sum().backward()
    with torch.no_grad():
        assert layer().item() == pytest.approx((np.linalg.eigvals(matrix) ** count).sum(), 1e-10)
    gradient = layer.get_parameter("W0").grad
    assert gradient is not None
    expected = count * np.linalg.matrix_power(matrix, count - 1).T
    np.testing.assert_allclose(gradient.numpy(), expected, 1e-9)


@pytest.mark.parametrize("dtype", ["complex64", "float32"])
def test_a_conjugate_is_no_second_product(dtype: str) -> None:
    """A B serves for conj(A B), too: where all factors are conjugated, and in real arithmetic."""
    plan = tn.plan(overlap(), batch=1, dtype=dtype, minimize="flops")
    assert plan.counts.flops.fixed == 2 * 3 * 4 * 5 + 2 * 3 * 5
    (renamed,) = new_names(plan)
    uses = [o for step in plan.steps for o in step.operands if o.value == renamed.result]
    assert [operand.conj for operand in uses] == [dtype == "complex64"]


def test_half_a_conjugate_is_another_product() -> None:
    """A conj(B) is not A B."""
    net = tn.Network("half")
    net.output()
    net.bond(i=3, j=4, l=4, k=5)
    net.tensor("A", "i j")
    net.tensor("B", "j k")
    net.tensor("A2", "i l", share="A")
    net.tensor("B2", "l k", share="B", conj=True)
    plan = tn.plan(net, batch=1, dtype="complex64", minimize="flops")
    assert not new_names(plan)
    assert len(new_names(tn.plan(net, batch=1, dtype="float32", minimize="flops"))) == 1


def test_equal_shapes_are_not_equal_values() -> None:
    """Other tensors, other legs that are summed, or another pin make another product."""
    net = tn.Network("unequal")
    net.output(a=3, d=3, e=3, h=3)
    net.bond(b=3, f=3)
    net.tensor("A", "a b")
    net.tensor("B", "b d")
    net.tensor("A2", "f e", share="A")
    net.tensor("B2", "f h", share="B")
    assert not new_names(tn.plan(net, batch=1, minimize="flops"))


def test_traces_and_sums_are_taken_once() -> None:
    """A trace, or a sum over a leg, of one tensor under two sets of legs is computed once."""
    net = tn.Network("traces")
    net.output(i=4, k=4)
    net.bond(a=5, b=5, c=6, d=6)
    net.sum("c", "d")
    net.tensor("A", "i a a c")
    net.tensor("B", "k b b d", share="A")
    plan = tn.plan(net, batch=1)
    counted = plan.counts.elementwise.fixed
    assert counted == 4 * 5 * 6 + 4 * 4  # the sums after the diagonal, then the outer product
    check_case(Case(net, (), ("contiguous",), 0, 5), torch.float64)


def test_the_search_prefers_trees_with_equal_parts() -> None:
    """Of trees with equal cost the search knows nothing of the one with common parts: an order that
    makes equal products is looked for, by each objective."""
    graph = canonicalise(gram().freeze()).graph
    for minimize in ("flops", "combo-64", "write"):
        plan = make_plan(graph, batch=1, minimize=minimize)
        assert plan.counts.flops.fixed == 6_758_400, minimize
        assert not plan.proven_optimal
    order = search_order(
        [("i", "j"), ("j", "k"), ("l", "k"), ("z", "l")],
        ("i", "z"),
        {"i": 64, "z": 64, "j": 200, "k": 200, "l": 200},
        tensors=4,
        minimize="flops",
        effort="default",
    )
    assert order.optimal  # where all tensors differ


def test_unshared_networks_keep_their_proof() -> None:
    """Without shared tensors nothing changes: exhaustive searches are proven."""
    assert tn.plan(tn.topologies.tensor_train((4, 4), (4, 4), rank=2)).proven_optimal


def test_counted_flops_are_those_that_run() -> None:
    """torch's counter sees what forward and backward plans count, and every product once."""
    counted = 0
    for case in collected(False, 31, 30):
        program = tn.compile(case.net, backend="torch", dtype="float64", batch=4)
        plan = program.plan
        counted += bool(new_names(plan))
        arrays = {
            p.name: torch.randn(p.shape, dtype=torch.float64, requires_grad=True)
            for p in program.graph.parameters
        }
        ports = [axes for _, axes in plan.port_axes]
        inputs = [
            torch.randn([4 if (n := plan.axis_size(a)) is None else n for a in axes]).double()
            for axes in ports
        ]
        with FlopCounterMode(display=False) as counter:
            y = program(*inputs, parameters=arrays)
            torch.autograd.grad(y.sum(), list(arrays.values()))
        names = [value.name for value in plan.parameters]
        plans = (plan, tn.backward_plan(plan, names))
        assert counter.get_total_flops() == sum(one.counts.flops.at(4) for one in plans)
    assert counted >= 12


# -- values and gradients ------------------------------------------------------------------------


@pytest.mark.parametrize("count", short_and_full(25, 80))
@pytest.mark.parametrize("kind", KINDS)
def test_networks_of_equal_blocks_equal_the_oracle(kind: str, count: int) -> None:
    """Value and gradients of chains and rings of equal blocks are the oracle's; most share."""
    shared = 0
    for case in collected(KINDS[kind].is_complex, 32, count):
        check_case(case, KINDS[kind])
        shared += bool(new_names(tn.plan(case.net, dtype=kind)))
    assert shared >= count / 2


@pytest.mark.parametrize("count", short_and_full(20, 40))
@pytest.mark.parametrize("kind", KINDS)
def test_equal_blocks_with_random_memory(kind: str, count: int) -> None:
    """Recomputed products, chunks and slices leave value and gradients as they are."""
    memories = [check_memory(case, kind) for case in collected(KINDS[kind].is_complex, 33, count)]
    assert sum(bool(memory.recompute) for memory in memories) >= count / 3
    assert any(memory.slices for memory in memories)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("vector_bytes", [16, 64])
@pytest.mark.parametrize("count", short_and_full(8, 20))
def test_equal_blocks_as_loop_programs(kind: str, vector_bytes: int, count: int) -> None:
    """The loop program of forward and backward gives what torch gives."""
    cpu = Cpu(vector_bytes, 32 if vector_bytes == 64 else 16)
    for case in collected(KINDS[kind].is_complex, 34, count):
        check_interpreted(case, kind, cpu)


@needs_compiler
@pytest.mark.parametrize("count", short_and_full(5, 20))
@pytest.mark.parametrize("kind", ["float32", "complex128"])
def test_equal_blocks_compiled(kind: str, count: int) -> None:
    """Compiled kernels give the oracle's value and gradients."""
    dtype = getattr(torch, kind)
    trials = [Compiled(case, dtype) for case in collected(dtype.is_complex, 35, count)]
    build_together([(programs_of(trial.layer)[0], trial.mask) for trial in trials])
    for trial in trials:
        trial.check()


@needs_compiler
@pytest.mark.parametrize("backends", [("torch", "torch"), ("cpp", "torch")])
def test_equal_blocks_in_regions(backends: tuple[str, str]) -> None:
    """A product that two regions read is made in both; cut anywhere, the results are right."""
    cases = collected(False, 36, 30 if backends == ("torch", "torch") else 2)
    cases.append(Case(in_the_stem(), (5,), ("contiguous",), 0, 3))
    found: list[tuple[Cut, MixedProgram]] = []
    for case in cases:
        trial = Cut(case, torch.float64)
        # For few samples, so that x meets one block after the other.
        trial.program = tn.compile(
            case.net, backend="torch", dtype="float64", minimize="flops", batch=4
        )
        for regions in divisions(trial.program.plan, backends):
            found.append((trial, mixed(trial.program, regions)))
    trial, program = found[-1]
    assert new_names(trial.program.plan)
    both = [{s.result.name for s in part.plan.steps} for part in program.regions]
    assert new_names(trial.program.plan)[0].operand.value.name in both[0] & both[1]
    build_together(
        [
            (region, own)
            for trial, program in found
            for region, own in zip(program.regions, program.region_masks(trial.mask), strict=True)
            if isinstance(region, CppProgram)
        ]
    )
    for trial, program in found:
        trial.check(program)


NETWORKS: dict[str, Callable[[], tn.Network]] = {
    "gram": gram,
    "ring": lambda: ring(12, 3),
    "overlap": overlap,
    "in_the_stem": in_the_stem,
}


@pytest.mark.parametrize("name", NETWORKS)
def test_on_each_backend(name: str, backend: str) -> None:
    """Value and all gradients are the oracle's, in complex arithmetic."""
    check_case(Case(NETWORKS[name](), (3,), ("contiguous",), 0, 7), torch.complex128, backend)


@pytest.mark.parametrize("name", ["overlap", "in_the_stem"])
def test_in_the_emulator(emulated_gpu: ctypes.CDLL, name: str) -> None:
    """CUDA kernels, too."""
    check_case(Case(NETWORKS[name](), (3,), ("contiguous",), 0, 7), torch.complex128, "cuda")


def test_random_equal_blocks_in_the_emulator(emulated_gpu: ctypes.CDLL) -> None:
    """The same of a few random networks."""
    for case in collected(False, 37, 5):
        check_case(case, torch.float64, "cuda")


# -- memory --------------------------------------------------------------------------------------


def test_a_product_is_kept_once() -> None:
    """The backward keeps A B once, not its new name as well; memory counts its array until the last
    use of either."""
    plan = tn.plan(gram(), batch=1)
    pair = schedule_pair(plan, (True, True), op_times(plan.dtype))
    assert [value.legs for value in pair.forward.saved] == [new_names(plan)[0].operand.legs]
    assert pair.forward.saved_bytes.at(1) == 4 * 64 * 200
    assert pair.forward.workspace_bytes(1) == 4 * 64 * 200
    again = replace(plan, memory=Memory(recompute=everything(plan)))
    backward = tn.backward_plan(again)
    assert not backward.saved
    assert backward.counts.flops.fixed == 2 * plan.counts.flops.fixed + 2 * 64 * 200 * 200


# -- what is stored ------------------------------------------------------------------------------


def planned(net: tn.Network, dtype: str = "complex128") -> tuple[Plan, Graph]:
    """A plan with a product that has a new name, and the canonical graph."""
    graph = canonicalise(net.freeze()).graph
    plan = make_plan(graph, batch=4, dtype=dtype, minimize="flops")
    return plan, graph


@pytest.mark.parametrize("name", NETWORKS)
def test_wrong_plans_do_not_pass(name: str) -> None:
    """Of 800 damaged plans those that pass the check compute the network, by numbers."""
    small = {"gram": lambda: ring(4, 2), "ring": lambda: ring(7, 2)}
    plan, graph = planned(small.get(name, NETWORKS[name])())
    assert new_names(plan)
    document = document_from_plan(plan)
    assert check_plan(plan_from_document(document), graph) == ""
    legal = passed = 0
    for seed in range(800):
        try:
            changed = plan_from_document(mutated(document, seed))
        except PlanDocumentError:
            continue
        legal += 1
        if not check_plan(changed, graph):
            passed += 1
            assert computes(changed, graph), f"seed {seed}"
    assert legal > passed > 0


def test_plans_of_equal_blocks_pass_the_check() -> None:
    """No right plan is refused, and numbers agree; documents lose nothing."""
    for case in collected(True, 38, 40):
        plan, graph = planned(case.net)
        assert check_plan(plan, graph) == ""
        assert computes(plan, graph)
        assert plan_from_document(document_from_plan(plan)) == plan
        backward = tn.backward_plan(plan)
        assert plan_from_document(document_from_plan(backward)) == backward


def test_each_kind_of_wrong_new_name() -> None:
    """What is wrong with a new name is told."""
    plan, graph = planned(overlap())
    (renamed,) = new_names(plan)
    at = plan.steps.index(renamed)

    def told(step: Select) -> str:
        return check_plan(
            replace(plan, steps=(*plan.steps[:at], step, *plan.steps[at + 1 :])), graph
        )

    first, second = renamed.terms
    term = Operand(plan.parameters[0])
    assert "stands for terms that there are not" in told(
        replace(renamed, terms=(first, ("n9", False)))
    )
    assert "stands for 1 terms" in told(replace(renamed, terms=(first,)))
    assert "has not the entries" in told(replace(renamed, terms=(second, first)))
    assert "no step of this network" in told(replace(renamed, terms=(), operand=term))
    assert "not left" in told(replace(renamed, terms=_terms_of(plan, renamed.operand.value)))


def _terms_of(plan: Plan, product: Value) -> tuple[tuple[str, bool], ...]:
    """The terms of a product of two."""
    (step,) = (step for step in plan.steps if step.result == product)
    return tuple((operand.value.name, operand.conj) for operand in step.operands)
