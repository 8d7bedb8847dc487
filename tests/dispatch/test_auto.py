"""backend="auto": which backend is chosen, that predictions add up, limits, and what hinders it."""

from __future__ import annotations

import copy
import pickle
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import pytest
import torch

import tnlayer as tn
from tests.support.cpp_units import has_compiler
from tests.support.profiles import fixed_profile
from tnlayer import topologies
from tnlayer.backends.builtin import cpp as cpp_backend
from tnlayer.backends.cpp_program import CppProgram
from tnlayer.backends.lowered_for_cpu import LoweredForCpu
from tnlayer.backends.mixed_program import MixedProgram
from tnlayer.backends.toolchains import cpp_build
from tnlayer.dispatch import available_backends
from tnlayer.dispatch.programs_by_batch import RangedProgram
from tnlayer.errors import BuildError, PlanError, SpecError
from tnlayer.hardware.cpu import Cpu
from tnlayer.hardware.profile.load import use_profile
from tnlayer.ir.batch_range import BatchRange
from tnlayer.ir.cuts import batched_steps, cuts
from tnlayer.ir.plan import Plan
from tnlayer.ir.plan_parts import BackendSpan
from tnlayer.lowering.cpu.pipeline import backward_program, forward_program
from tnlayer.planning.mixture import best_mixture
from tnlayer.planning.planner import PlannedGraph, Request, plan_graph
from tnlayer.runtime.program import Program
from tnlayer.targets.backend import backend_of, lower, same_code
from tnlayer.targets.target import Target, target_for

T = topologies
CPU = Cpu()
needs_compiler = pytest.mark.skipif(not has_compiler(), reason="no C++ compiler")


@pytest.fixture(autouse=True)
def auto(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Auto means auto here, with the same rates on every machine."""
    monkeypatch.delenv("TNLAYER_BACKEND", raising=False)
    with use_profile(fixed_profile()):
        yield


def planned(net: tn.Network, batch: int = 256, **options: object) -> PlannedGraph:
    """What auto takes for 512-bit vectors."""
    asked = Request(batch, backend="auto", cpu=CPU, **options)  # type: ignore[arg-type]
    return plan_graph(net, asked)


def rates() -> Target:
    """The fixed profile's."""
    return target_for("float32", "cpu", CPU)


def lowered(plan: Plan, mask: tuple[bool, ...]) -> LoweredForCpu:
    """The plan as kernels."""
    return LoweredForCpu("cpp", plan, mask, rates())


def mera() -> tn.Network:
    """Many small gates: what fused kernels are for."""
    return T.mera(8, 2, 2)


def small() -> tn.Network:
    """A train for which torch and kernels are about as fast."""
    return T.tensor_train((16,) * 2, (16,) * 2, rank=4)


def uneven() -> tn.Network:
    """Small matrices on both sides of a core of 512 x 512."""
    return T.tucker((16,) * 3, (16,) * 3, rank=8)


# -- the choice ----------------------------------------------------------------------------------


@pytest.mark.parametrize("batch", [1, 16, 256])
def test_small_legs_are_fused(batch: int) -> None:
    """A MERA of legs of 2 goes into one kernel at each batch size, forward alone and training."""
    for objective in ("train", "infer"):
        found = planned(mera(), batch, objective=objective)
        assert found.plan.backend == "cpp"
        assert "in cpp" in found.choice.reason


def test_large_weights_train_in_torch() -> None:
    """Weights of 8,192 entries have 512 KiB of partial sums: btt trains in torch."""
    assert planned(T.btt((64, 64), (64, 64), 2)).plan.backend == "torch"
    assert planned(T.low_rank(1024, 1024, rank=64)).plan.backend == "torch"


def test_a_mixture_is_chosen_where_it_wins() -> None:
    """Matrices around a core of 512 x 512: those fused, the core by torch; alone it is slower."""
    found = planned(uneven(), 1024)
    assert [region.backend for region in found.plan.regions] == ["cpp", "torch", "cpp"]
    mask, plan = found.training_mask, found.plan
    seconds = lower(plan, mask, rates()).seconds(1024).total
    whole = replace(plan, regions=(BackendSpan("cpp", len(batched_steps(plan))),))
    for other in (replace(plan, regions=()), whole):
        assert seconds < lower(other, mask, rates()).seconds(1024).total


def test_choices_hold_for_ranges() -> None:
    """The range that a batch size is in is the same from each size inside; sizes beyond differ."""
    net = T.tensor_train((16,) * 3, (16,) * 3, rank=8)
    options = Request(1, backend="auto", cpu=CPU)
    found = plan_graph(net, options, whole_range=True).choice
    batches = found.batches
    assert batches.greatest is not None
    for batch in {batches.least or 1, batches.greatest}:
        other = plan_graph(net, replace(options, batch=batch), whole_range=True).choice
        assert other.batches == batches
        assert other.plan.regions == found.plan.regions
    kernels = {
        batch: plan_graph(mera(), replace(options, batch=batch), whole_range=True)
        for batch in (16, 64, 4096)
    }
    one, *others = kernels.values()
    for other in others:
        assert same_code(one.lowered, other.lowered)


def test_the_store_keeps_regions(tmp_path: object, monkeypatch: pytest.MonkeyPatch) -> None:
    """What was chosen is found again with its regions, and not by one who asks for torch."""
    monkeypatch.setenv("TNLAYER_CACHE_DIR", str(tmp_path))
    from tnlayer.planning import batch_ranges

    batch_ranges._memorised.cache_clear()
    first = planned(uneven(), 1024)
    batch_ranges._memorised.cache_clear()
    again = planned(uneven(), 1024)
    assert again.choice.stored and again.plan.regions == first.plan.regions
    plain = plan_graph(uneven(), Request(1024))
    assert not plain.choice.stored and plain.plan.backend == "torch"


@pytest.mark.parametrize("mask", ["all", "none"])
def test_the_path_is_the_best_of_all(mask: str) -> None:
    """No division of one or two cuts is predicted to be much faster than the one that is found."""
    plan = plan_graph(uneven(), Request(1024, minimize="flops")).plan
    asked = (mask == "all",) * len(plan.inputs)
    kernels, calls = (backend_of(name).lower(plan, asked, rates()) for name in ("cpp", "torch"))
    found = best_mixture(kernels, calls, 1024)
    total = len(batched_steps(plan))
    everything: list[tuple[BackendSpan, ...]] = [(BackendSpan("cpp", total),), ()]
    for at in cuts(plan):
        for pair in (("cpp", "torch"), ("torch", "cpp")):
            everything.append((BackendSpan(pair[0], at), BackendSpan(pair[1], total - at)))
    predicted = [
        lower(replace(plan, regions=regions), asked, rates()).seconds(1024).total
        for regions in (*everything, found)
    ]
    best, reached = min(predicted), predicted[-1]
    assert min(reached, predicted[0], predicted[1]) <= 1.15 * best


def test_unbatched_networks_and_scalars_have_a_plan() -> None:
    """Networks without steps on samples, or with one step, are planned."""
    fixed = tn.Network("unbatched")
    fixed.port("x", batched=False)
    fixed.input("x", a=4)
    fixed.output(b=3)
    fixed.tensor("A", "a b")
    for net in (fixed, T.low_rank(4, 3, rank=1)):
        assert planned(net, 4).plan.verify()


# -- counts and predictions ----------------------------------------------------------------------


@needs_compiler
def test_steps_add_up_for_every_backend() -> None:
    """Times of steps and the rest sum to the prediction of compiled and of mixed plans."""
    for net, backend in ((mera(), "cpp"), (uneven(), "mixed")):
        counted = tn.cost(net, batch=1024)
        assert counted.backend == backend
        found = counted.step_seconds()
        assert sum(found.values()) == pytest.approx(counted.fastest.training)
        assert min(value for name, value in found.items() if name) >= 0


@needs_compiler
def test_costs_of_kernels() -> None:
    """A kernel is one call each way and keeps nothing; a cut keeps its value."""
    whole = tn.cost(mera(), batch=64)
    assert (whole.forward_calls, whole.backward_calls) == (1, 1)
    assert whole.saved.at(64) == 0
    mixed = tn.cost(uneven(), batch=1024)
    assert mixed.saved.at(1024) >= 1024 * 512 * 4
    assert tn.cost(mera(), batch=64, backend="torch").backend == "torch"
    with pytest.raises(SpecError, match="backend='rust'"):
        tn.cost(mera(), backend="rust")


@pytest.mark.parametrize("net", [mera, lambda: T.cp((4, 4), (4, 4), rank=3)])
def test_workspace_is_what_kernels_ask_for(net: Callable[[], tn.Network]) -> None:
    """The count is that of the programs: what a thread keeps times the threads, in whole pages."""
    plan = tn.compile(net(), backend="torch", minimize="combo-4").plan
    mask = (True,) * len(plan.inputs)
    names = [value.name for value in plan.inputs]
    programs = (forward_program(plan, CPU), backward_program(plan, names, CPU))
    least = sum(4 * (p.size_of("thread") + p.size_of("partial")) for p in programs)
    one, four = (lowered(plan, mask).workspace_of(threads) for threads in (1, 4))
    assert least <= one <= least + 2**18
    assert 3 * least <= four - one
    assert lowered(plan, (False,) * len(mask)).workspace_of(1) < one


# -- memory limits -------------------------------------------------------------------------------


def test_a_memory_limit_may_make_kernels_the_choice() -> None:
    """Under a limit that torch keeps by chunks only, kernels, which keep nothing, are taken; no
    mixture is, since what it allocates is not counted."""
    net = T.tensor_train((2,) * 8, (2,) * 8, rank=4)
    found = planned(net, 1024, memory_limit=2**20)
    assert found.plan.backend == "cpp"
    assert planned(uneven(), 1024, memory_limit=2**24).plan.backend != "mixed"


def test_a_limit_that_kernels_cannot_keep() -> None:
    """backend="cpp": PlanError names the bytes that would do, and those do."""
    graph = mera().freeze()
    options = Request(256, backend="cpp", cpu=CPU, memory_limit=1000)
    with pytest.raises(PlanError, match="cannot be kept by compiled kernels") as caught:
        plan_graph(graph, options)
    needed = int(str(caught.value).split("workspace takes ")[1].split(" ")[0])
    found = plan_graph(graph, replace(options, memory_limit=needed))
    assert found.plan.backend == "cpp"


# -- what hinders kernels ------------------------------------------------------------------------


def test_no_compiler(monkeypatch: pytest.MonkeyPatch) -> None:
    """Auto takes torch, and explain() says why; cpp is an error that says what to install."""

    def none() -> cpp_build.Compiler:
        msg = "no C++ compiler found: install one"
        raise BuildError(msg)

    monkeypatch.setattr(cpp_backend, "find_compiler", none)
    layer = tn.Layer(mera())
    text = str(layer.explain(64))
    assert "backend: torch (asked for 'auto'; no C++ compiler found" in text
    assert layer(torch.zeros(3, 256)).shape == (3, 256)


def test_the_variable_names_a_backend(monkeypatch: pytest.MonkeyPatch) -> None:
    """TNLAYER_BACKEND=torch: auto is torch and says so, what is asked for by name is not touched;
    a wrong value is an error that lists the right ones."""
    monkeypatch.setenv("TNLAYER_BACKEND", "torch")
    layer = tn.Layer(mera())
    assert "TNLAYER_BACKEND=torch" in layer.explain(16)
    assert tn.cost(mera(), batch=64).backend == "torch"
    monkeypatch.setenv("TNLAYER_BACKEND", "fast")
    with pytest.raises(SpecError, match="expected auto, torch or cpp"):
        tn.Layer(mera())
    assert tn.Layer(mera(), backend="torch").explain(16).backend == "torch"


def test_other_devices_take_torch(monkeypatch: pytest.MonkeyPatch) -> None:
    """Kernels for the CPU are not for other devices: plans for those are torch's."""
    taken, why = available_backends.taken_backend("auto", "xla")
    assert taken == "torch" and "'xla'" in why
    options = Request(64, device="cuda", backend="auto", cpu=CPU)
    assert plan_graph(mera(), options).plan.backend == "torch"
    monkeypatch.setenv("TNLAYER_BACKEND", "cpp")
    taken, why = available_backends.taken_backend("auto", "cuda")
    assert taken == "torch" and "TNLAYER_BACKEND=cpp" in why


# -- layers --------------------------------------------------------------------------------------


@needs_compiler
@pytest.mark.parametrize(
    ("net", "backend"),
    [(mera, "cpp"), (uneven, "mixed"), (lambda: T.low_rank(1024, 1024, rank=64), "torch")],
)
def test_auto_layers_equal_torch(net: Callable[[], tn.Network], backend: str) -> None:
    """An auto layer of each backend gives torch's value and gradients, and explains itself."""
    layer = tn.Layer(net(), batch=1024, dtype=torch.float64)
    (ranged,) = layer._programs_for(torch.float64)
    assert ranged.main.backend == backend
    text = str(layer.explain(1024))
    assert f"backend: {backend}" in text
    assert ("keeps nothing of the batch's size" in text) == (backend != "torch")
    assert ("compiled at the first call" in text) == (backend != "torch")
    plain = tn.Layer(net(), batch=1024, dtype=torch.float64, backend="torch")
    plain.load_state_dict(layer.state_dict())
    x = torch.randn(3, layer.in_features, dtype=torch.float64, requires_grad=True)
    slope = torch.randn(3, layer.out_features, dtype=torch.float64)
    found = []
    for one in (layer.prepare(), plain):
        y = one(x)
        found.append([y, *torch.autograd.grad(y, [x, *one.parameters()], slope)])
    for ours, theirs in zip(*found, strict=True):
        torch.testing.assert_close(
            ours, theirs, rtol=1e-9, atol=1e-9 * theirs.detach().abs().max().item()
        )


@needs_compiler
def test_ranges_share_kernels_and_threads_agree() -> None:
    """Few samples run one kernel and many another, whatever the range; threads, pickles and copies
    give the same bits."""
    ranged = RangedProgram(mera().freeze(), Request(16, backend="auto"), one_plan=False)
    for batches in ((1, 2, 3), (16, 300, 5000)):
        assert len({id(ranged.at(batch)) for batch in batches}) == 1
    program = ranged.at(16)
    assert isinstance(program, CppProgram)
    arrays = {p.name: torch.randn(p.shape) for p in ranged.graph.parameters}
    x = torch.randn(16, 256)
    expected = program(x, parameters=arrays)
    others = (pickle.loads(pickle.dumps(ranged)), copy.deepcopy(ranged))
    for other in others:
        assert torch.equal(other.at(16)(x, parameters=arrays), expected)
    fresh = RangedProgram(mera().freeze(), Request(16, backend="auto"), one_plan=False)
    with ThreadPoolExecutor(16) as pool:
        calls = pool.map(lambda batch: fresh.at(batch)(x, parameters=arrays), [16, 17, 64, 300] * 4)
        assert all(torch.equal(found, expected) for found in calls)


@needs_compiler
def test_a_pickle_is_planned_for_the_machine_that_reads_it(monkeypatch: pytest.MonkeyPatch) -> None:
    """What was asked for is kept: where there is no compiler, auto is torch."""
    layer = tn.Layer(mera(), batch=16)
    text = pickle.dumps(layer)

    def none() -> cpp_build.Compiler:
        msg = "no C++ compiler found: install one"
        raise BuildError(msg)

    monkeypatch.setattr(cpp_backend, "find_compiler", none)
    other = pickle.loads(text)
    assert other.explain(16).backend == "torch"
    torch.testing.assert_close(other(torch.ones(2, 256)), layer(torch.ones(2, 256)))


@needs_compiler
def test_tuning_times_all_backends(monkeypatch: pytest.MonkeyPatch) -> None:
    """tune() of auto times torch's plans and kernels; of cpp kernels only; the fastest serves."""
    from tnlayer.dispatch import tune

    seen: dict[str, list[str]] = {}

    def fake(calls: dict[str, object], **_: object) -> dict[str, float]:
        seen.setdefault("names", []).extend(calls)
        for call in calls.values():
            call()  # type: ignore[operator]
        return {name: 1.0 if "in cpp" in name else 2.0 for name in calls}

    monkeypatch.setattr(tune, "median_seconds", fake)
    layer = tn.Layer(small(), batch=64, tune=True)
    assert any("in cpp" in name for name in seen["names"])
    assert any("in cpp" not in name for name in seen["names"])
    (ranged,) = layer._programs_for(torch.float32)
    assert ranged.main.backend == "cpp" and ranged.is_tuned(64)
    seen.clear()
    tn.Layer(small(), batch=64, backend="cpp", tune=True)
    assert seen and all("in cpp" in name for name in seen["names"])


def test_kinds_of_programs() -> None:
    """A plan without regions is torch's, one region names its backend, several are a mixture."""
    plan: Plan = tn.compile(mera(), backend="torch").plan
    total = len(batched_steps(plan))
    assert plan.backend == "torch"
    assert replace(plan, regions=(BackendSpan("cpp", total),)).backend == "cpp"
    two = (BackendSpan("cpp", 1), BackendSpan("torch", total - 1))
    assert replace(plan, regions=two).backend == "mixed"
    assert {kind.backend for kind in (Program, CppProgram, MixedProgram)} == {
        "torch",
        "cpp",
        "mixed",
    }


@needs_compiler
@pytest.mark.parametrize("batch", [None, 4, 64])
def test_a_call_takes_the_kernels_of_its_batch_size(batch: int | None) -> None:
    """A layer with one plan has kernels for few samples and for many; each is made when a call
    first has such a size, and both give the same results."""
    layer = tn.Layer(tn.topologies.butterfly(16), backend="cpp", batch=batch)
    (ranged,) = layer._programs_for(layer.dtype)
    assert len(ranged.ranges) == 1
    x = torch.randn(40, 16)
    many = layer(x)
    few = torch.cat([layer(part) for part in x.split(15)])
    torch.testing.assert_close(few, many, rtol=1e-5, atol=1e-5)
    assert [batches for batches, _ in ranged.ranges] == [BatchRange(0, 15), BatchRange(16)]
    assert ranged.at(0) is ranged.at(1) is ranged.at(15)
    assert ranged.at(16) is ranged.at(40) is ranged.at(10_000)
    assert [program.plan.batch < 16 for _, program in ranged.ranges] == [True, False]
    assert "in the place of" not in layer.explain(3 if batch != 4 else 64)
    assert torch.equal(copy.deepcopy(layer)(x), many)
    assert torch.equal(pickle.loads(pickle.dumps(layer))(x[:3]), few[:3])


@pytest.mark.skipif(not has_compiler(), reason="kernels compete where there is a compiler")
@pytest.mark.parametrize("batch", [1, 64, 1024])
def test_cuts_of_equal_time_are_no_error(batch: int) -> None:
    """Two cuts of a brick wall are foreseen to take the same; either may be taken."""
    net = topologies.brickwall(6, 2, depth=3)
    program = tn.compile(net, dtype="complex64", batch=batch, backend="auto")
    assert program.plan.backend in ("torch", "cpp", "mixed")
