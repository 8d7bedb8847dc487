"""Mixed programs: plans cut at every value where they can be, against the oracle."""

from __future__ import annotations

import copy
import pickle
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import pytest
import torch

import tnlayer as tn
from tests.support.against_oracle import (
    KINDS,
)
from tests.support.cpp_units import build_together, has_compiler
from tests.support.mixed_cases import MixedCase, divisions, mixed
from tests.support.series import short_and_full
from tests.support.strategies import Case, collect
from tnlayer import topologies
from tnlayer.backends.cpp_program import CppProgram
from tnlayer.backends.mixed_program import MixedProgram
from tnlayer.errors import PlanError
from tnlayer.ir.cuts import batched_steps, cuts
from tnlayer.ir.plan_document import PlanDocumentError, document_from_plan, plan_from_document
from tnlayer.ir.plan_parts import BackendSpan
from tnlayer.passes.partition import split
from tnlayer.runtime.program import Program

needs_compiler = pytest.mark.skipif(not has_compiler(), reason="no C++ compiler")
NETWORKS: dict[str, Callable[[], tn.Network]] = {
    "mera": lambda: topologies.mera(6, 2, 2),
    "train": lambda: topologies.tensor_train((2, 3, 5, 2), (2, 5, 3, 2), rank=3),
    "butterfly": lambda: topologies.butterfly(32),
    "low_rank": lambda: topologies.low_rank(40, 24, rank=3),
    "shared": lambda: shared(),
}


def shared() -> tn.Network:
    """One tensor twice in a chain: two regions give it a gradient."""
    net = tn.Network("shared")
    a, b = net.input([4, 4])
    (c,) = net.tensor("A", [a], out=(4,))
    (d,) = net.tensor("B", [b, c], out=(6,))
    (e,) = net.tensor("C", [d], out=(4,))
    (f,) = net.tensor("A2", [e], out=(4,), share="A")
    net.output([f])
    return net


@pytest.mark.parametrize("count", short_and_full(50, 150))
@pytest.mark.parametrize("kind", KINDS)
def test_plans_are_split_everywhere(kind: str, count: int) -> None:
    """A random network in regions of torch calls gives the oracle's value and gradients, whatever
    the cut; enough of the networks can be cut."""
    cut = 0
    for case in collect(KINDS[kind].is_complex, 7000, count):
        trial = MixedCase(case, KINDS[kind])
        for regions in divisions(trial.program.plan, ("torch", "torch")):
            trial.check(mixed(trial.program, regions))
            cut += 1
    assert cut > count / 4


@pytest.mark.parametrize("name", NETWORKS)
def test_parts_hold_what_they_need(name: str) -> None:
    """Parts have the parameters that they use, together all of them, and all batched steps once."""
    plan = tn.compile(NETWORKS[name](), backend="torch", minimize="flops").plan
    for count in cuts(plan):
        parts = split(plan, (count, len(batched_steps(plan)) - count))
        assert [len(batched_steps(part)) for part in parts] == [
            count,
            len(batched_steps(plan)) - count,
        ]
        for part in parts:
            used = {o.value.name for step in part.steps for o in step.operands}
            assert {value.name for value in part.parameters} <= used
        names = {value.name for part in parts for value in part.parameters}
        assert names == {value.name for value in plan.parameters}


def test_wrong_regions_are_refused() -> None:
    """Too many steps, none, or a cut where two batched values live: PlanError or ValueError."""
    plan = tn.compile(NETWORKS["train"](), backend="torch", minimize="flops").plan
    total = len(batched_steps(plan))
    for counts in ((total + 1,), (total, 0), (1,)):
        regions = tuple(BackendSpan("torch", count) for count in counts)
        with pytest.raises(PlanError, match="regions of"):
            replace(plan, regions=regions).verify()
        with pytest.raises(ValueError, match="regions of"):
            split(plan, counts if sum(counts) != total else (total - 1,))
    plan = tn.compile(bilinear(), backend="torch", minimize="flops").plan
    total = len(batched_steps(plan))
    wrong = [count for count in range(1, total) if count not in cuts(plan)]
    assert wrong
    for count in wrong:
        regions = (BackendSpan("torch", count), BackendSpan("torch", total - count))
        with pytest.raises(PlanError, match="more than one"):
            replace(plan, regions=regions).verify()


def bilinear() -> tn.Network:
    """Two inputs that are both contracted before they meet."""
    net = tn.Network("bilinear")
    net.input("x", a=6)
    net.input("z", b=6)
    net.output(c=3)
    net.bond(k=2, m=2)
    net.tensor("A", "a k")
    net.tensor("B", "b m")
    net.tensor("C", "k m c")
    return net


def test_documents_keep_regions() -> None:
    """A plan with regions is written and read back; an unknown backend is no plan."""
    plan = tn.compile(NETWORKS["train"](), backend="torch", minimize="flops").plan
    total = len(batched_steps(plan))
    plan = replace(plan, regions=(BackendSpan("cpp", 1), BackendSpan("torch", total - 1)), names=())
    document = document_from_plan(plan)
    assert plan_from_document(document) == plan
    for wrong in ([["rust", total]], [["cpp", total + 1]], [["cpp"]], "cpp", [["cpp", True]]):
        with pytest.raises(PlanDocumentError):
            plan_from_document({**document, "regions": wrong})


# -- compiled parts ------------------------------------------------------------------------------


def cases_of(name: str) -> Case:
    """A named network as a case."""
    return Case(NETWORKS[name](), (5,), ("contiguous",) * 3, 0, 3)


@needs_compiler
def test_compiled_and_torch_regions_together() -> None:
    """All cuts of some chains, compiled parts before and behind torch's, against the oracle."""
    trials: list[tuple[MixedCase, MixedProgram]] = []
    for name in NETWORKS:
        trial = MixedCase(cases_of(name), torch.float64)
        for regions in divisions(trial.program.plan, ("cpp", "torch")):
            trials.append((trial, mixed(trial.program, regions)))
    build_together(
        [
            (region, own)
            for trial, program in trials
            for region, own in zip(program.regions, program.region_masks(trial.mask), strict=True)
            if isinstance(region, CppProgram)
        ]
    )
    for trial, program in trials:
        trial.check(program)


@pytest.fixture(scope="module")
def mixture() -> tuple[MixedCase, MixedProgram]:
    """One mixed program, built as a user's is."""
    trial = MixedCase(cases_of("train"), torch.float64)
    total = len(batched_steps(trial.program.plan))
    program = mixed(trial.program, (BackendSpan("cpp", 1), BackendSpan("torch", total - 1)))
    program.prepare()
    return trial, program


@needs_compiler
def test_each_set_of_wanted_gradients(mixture: tuple[MixedCase, MixedProgram]) -> None:
    """Whatever subset of gradients is wanted, those come and no others."""
    trial, program = mixture
    arrays = [trial.inputs[0], *(trial.layer.get_parameter(n) for n in program.parameter_order)]
    for subset in range(1, 2 ** len(arrays)):
        for number, array in enumerate(arrays):
            array.requires_grad_(bool(subset >> number & 1))
        trial.check(program)
    for array in arrays:
        array.requires_grad_()


@needs_compiler
def test_a_double_backward_gives_the_same_gradients(
    mixture: tuple[MixedCase, MixedProgram],
) -> None:
    """Also where the backward reads the value at a cut in place of what it was made of."""
    trial, program = mixture
    names = program.parameter_order
    arrays = [trial.inputs[0].detach(), *(trial.layer.get_parameter(n).detach() for n in names)]
    for subset in range(1, 2 ** len(arrays)):
        x, *own = (
            array.clone().requires_grad_(bool(subset >> number & 1))
            for number, array in enumerate(arrays)
        )
        wanted = [array for array in (x, *own) if array.requires_grad]
        y = program(x, parameters=dict(zip(names, own, strict=True)))
        slope = torch.ones_like(y)
        once = torch.autograd.grad(y, wanted, slope, retain_graph=True)
        again = torch.autograd.grad(y, wanted, slope, create_graph=True)
        for one, other in zip(once, again, strict=True):
            torch.testing.assert_close(one, other)


@needs_compiler
def test_values_at_cuts_are_kept_where_a_backward_reads_them(
    mixture: tuple[MixedCase, MixedProgram],
) -> None:
    """The gradient of a weight behind the cut reads the value there; that of x alone does not."""
    _, program = mixture
    x_only = (True, *(False,) * len(program.plan.parameters))
    for mask, read in ((program.training_mask(), True), (x_only, False)):
        parts = program._parts(mask)
        assert any(None in part.read for part in parts) == read
        extra = sum(part.kernels.saved for part in parts)
        assert program.kernels(mask).saved == extra + read


@needs_compiler
def test_transforms_take_the_reference(mixture: tuple[MixedCase, MixedProgram]) -> None:
    """torch.func, double backward and forward mode agree with the whole plan in torch."""
    trial, program = mixture
    x = trial.inputs[0].detach()
    parameters = {
        name: trial.layer.get_parameter(name).detach().requires_grad_()
        for name in program.parameter_order
    }

    def value(one: Program, at: torch.Tensor) -> torch.Tensor:
        return one(at, parameters=parameters).square().sum()

    for transform in (torch.func.grad, torch.func.hessian):
        ours, theirs = (
            transform(lambda at, one=one: value(one, at))(x) for one in (program, trial.program)
        )
        torch.testing.assert_close(ours, theirs)
    at = x.clone().requires_grad_()
    found = [
        torch.autograd.grad(
            torch.autograd.grad(value(one, at), at, create_graph=True)[0].square().sum(), at
        )[0]
        for one in (program, trial.program)
    ]
    torch.testing.assert_close(*found)


@needs_compiler
def test_many_threads_and_copies(mixture: tuple[MixedCase, MixedProgram]) -> None:
    """16 threads share a program; a pickled one and a copy give the same bits."""
    trial, program = mixture
    x = trial.inputs[0].detach()
    parameters = {
        name: trial.layer.get_parameter(name).detach() for name in program.parameter_order
    }

    def call(one: Program) -> list[torch.Tensor]:
        leaves = {name: array.clone().requires_grad_() for name, array in parameters.items()}
        y = one(x, parameters=leaves)
        return [y.detach(), *torch.autograd.grad(y.sum(), list(leaves.values()))]

    expected = call(program)
    fresh = mixed(trial.program, program.plan.regions)
    with ThreadPoolExecutor(16) as pool:
        for found in pool.map(call, [fresh] * 32):
            assert all(map(torch.equal, found, expected))
    for other in (pickle.loads(pickle.dumps(program)), copy.deepcopy(program)):
        assert other.plan.regions == program.plan.regions
        assert all(map(torch.equal, call(other), expected))
