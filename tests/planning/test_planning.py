"""Plans: optimal, deterministic, exactly counted, and refused where they do not fit."""

from __future__ import annotations

import math
import os
import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

import pytest

import tnlayer as tn
from tests.support.cpp_units import has_compiler
from tests.support.work import work_of
from tnlayer.backends.builtin.cpp import CppBackend
from tnlayer.backends.builtin.mixed import MixedBackend
from tnlayer.ir.counts import Amount
from tnlayer.ir.plan import Plan
from tnlayer.ir.plan_parts import BackendSpan
from tnlayer.ir.steps import Contract, Operand, Value
from tnlayer.planning import batch_ranges
from tnlayer.planning.mixture import whole_plan
from tnlayer.planning.rank import Ranked
from tnlayer.targets.backend import backend_of, contest_of
from tnlayer.targets.target import Machine
from tnlayer.time_models.torch_calls import Seconds

TOPOLOGIES = {
    "mera": tn.topologies.mera(8, 2, 3),
    "low_rank": tn.topologies.low_rank(8, 6, rank=2),
}


def orders(terms: list[frozenset[str]]) -> Iterator[list[tuple[int, int]]]:
    """Every contraction order of a few terms, as pairs of positions in a shrinking list."""
    if len(terms) == 1:
        yield []
        return
    for a in range(len(terms)):
        for b in range(a + 1, len(terms)):
            rest = [t for i, t in enumerate(terms) if i not in (a, b)]
            for tail in orders([*rest, terms[a] | terms[b]]):
                yield [(a, b), *tail]


def loop_space(graph: tn.Graph, batch: int, order: list[tuple[int, int]]) -> int:
    """Multiplications of an order: the sum over its steps of the product of all legs."""
    sizes = {**graph.sizes, "batch": batch}
    terms = [frozenset(("batch", *graph.inputs[0].legs))]
    terms += [frozenset(tensor.legs) for tensor in graph.tensors]
    kept = {"batch", *graph.output}
    total = 0
    for a, b in order:
        loop = terms[a] | terms[b]
        total += math.prod(sizes[leg] for leg in loop)
        rest = [term for index, term in enumerate(terms) if index not in (a, b)]
        needed = kept.union(*rest)
        terms = [*rest, loop & needed]
    return total


@pytest.mark.parametrize("batch", [1, 7, 1000])
def test_small_plans_are_optimal(batch: int) -> None:
    """Up to 12 tensors no order has fewer FLOPs than the plan; all orders are tried here."""
    graph = tn.topologies.tensor_train((2, 3, 4, 2), (3, 2, 2, 4), rank=3).freeze()
    plan = tn.plan(graph, batch=batch, minimize="flops")
    terms = [frozenset[str]() for _ in range(len(graph.tensors) + 1)]
    best = min(loop_space(graph, batch, order) for order in orders(terms))
    assert plan.proven_optimal
    assert plan.counts.flops.at(batch) == 2 * best


def test_the_plan_follows_the_batch() -> None:
    """A train of rank 16 sweeps at batch 1 and builds the dense map first at batch 1024."""
    net = tn.topologies.tensor_train((16, 16, 16), (16, 16, 16), rank=16)
    stems = [len(tn.plan(net, batch=b, minimize="flops").stem_steps) for b in (1, 64, 1024)]
    assert stems == [3, 2, 1]


def test_the_same_plan_in_every_process() -> None:
    """Beyond 12 tensors too, whatever PYTHONHASHSEED is."""
    code = (
        "import tnlayer as tn, hashlib\n"
        "for net in (tn.topologies.mera(12, 2, 3), tn.topologies.tensor_train([2]*8, [2]*8, 3)):\n"
        "    p = tn.plan(net)\n"
        "    print(hashlib.sha256(repr((p.steps, p.outputs)).encode()).hexdigest())\n"
    )
    found = {
        subprocess.run(
            [sys.executable, "-c", code],
            env={**os.environ, "PYTHONHASHSEED": seed},
            capture_output=True,
            text=True,
            check=True,
        ).stdout
        for seed in ("0", "1", "77")
    }
    assert len(found) == 1
    assert len(found.pop().split()) == 2


def test_renamed_networks_have_the_same_plan() -> None:
    """Names are not part of a plan: canonical names are."""

    def chain(names: str, legs: str) -> tn.Network:
        a, b = names
        i, r, j = legs
        net = tn.Network()
        net.input(**{i: 5})
        net.output(**{j: 3})
        net.bond(**{r: 2})
        net.tensor(a, (i, r))
        net.tensor(b, (r, j))
        return net

    assert tn.plan(chain("AB", "irj")) == tn.plan(chain("QZ", "xyz"))


def test_branch_and_stem() -> None:
    """Steps on parameters only are the branch; they cost nothing a sample."""
    plan = tn.plan(tn.topologies.mera(12, 2, 2))
    assert len(plan.branch_steps) + len(plan.stem_steps) == len(plan.steps) == 19
    assert plan.branch_steps
    for step in plan.branch_steps:
        assert plan.counts_of(step).flops.per_sample == 0
    for step in plan.stem_steps:
        assert plan.counts_of(step).flops.per_sample > 0


def test_counts_of_one_contraction() -> None:
    """x (B, 6) times U (6, 2): FLOPs 2*B*6*2, bytes of operands and result in float32."""
    net = tn.Network()
    net.input(i=6)
    net.output(r=2)
    net.tensor("U", "i r")
    plan = tn.plan(net, batch=3)
    counts = plan.counts
    assert counts.flops == Amount(0, 24)
    assert counts.elementwise == Amount()
    assert counts.bytes_read == Amount(4 * 12, 4 * 6)
    assert counts.bytes_written == Amount(0, 4 * 2)
    complex_counts = tn.plan(net, batch=3, dtype="complex64").counts
    assert complex_counts.flops == counts.flops
    assert complex_counts.real_flops == Amount(0, 96)


def test_products_and_sums_are_elementwise() -> None:
    """Without a summed leg a contraction counts once, and not among the FLOPs."""
    net = tn.Network()
    net.input(i=6)
    net.output("i")
    net.bond(k=4)
    net.sum("k")
    net.tensor("scale", "i k")
    counts = tn.plan(net, batch=3).counts
    assert counts.flops == Amount()
    assert counts.elementwise == Amount(24, 6)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"minimize": "speed"}, "minimize='speed'"),
        ({"effort": "lazy"}, "effort='lazy'"),
        ({"objective": "win"}, "objective='win'"),
        ({"dtype": "int8"}, "int8"),
        ({"batch": 0}, "batch=0"),
        ({"batch": True}, "batch=True"),
    ],
)
def test_unknown_options_are_named(options: dict[str, Any], words: str) -> None:
    """The error quotes the option and lists what is expected."""
    with pytest.raises(tn.SpecError, match=words) as error:
        tn.plan(TOPOLOGIES["low_rank"], **options)
    assert "expected" in str(error.value)


def test_a_state_too_large_is_refused_at_once() -> None:
    """A closed grid with huge bonds: the error names the step, and nothing is allocated."""
    net = tn.Network("grid")
    net.input(i=2)
    net.output(j=2)
    names = [f"b{k}" for k in range(6)]
    net.bond(**dict.fromkeys(names, 2**13))
    net.tensor("A", ("i", names[0], names[1]))
    net.tensor("B", (names[0], names[2]))
    net.tensor("C", (names[1], names[3]))
    net.tensor("D", (names[2], names[3], names[4]), init=1.0)
    net.tensor("E", (names[4], "j"))
    net.sum("b5")
    net.tensor("F", (names[5],))

    def refused() -> None:
        with pytest.raises((tn.PlanError, tn.SpecError), match=r"entries"):
            tn.plan(net)

    work = work_of(refused)
    assert work.calls < 10**6
    assert work.peak < 10**8


def test_memory_limit_is_kept_or_refused() -> None:
    """A limit below the need is a PlanError with both numbers; one above changes nothing."""
    net = TOPOLOGIES["mera"]
    with pytest.raises(tn.PlanError, match="memory_limit=100") as error:
        tn.plan(net, batch=64, memory_limit=100)
    assert "smallest workspace found" in str(error.value)
    assert tn.plan(net, batch=64, memory_limit=2**40) == tn.plan(net, batch=64)


def test_verify_finds_illegal_steps() -> None:
    """A step that uses what was not made, or sums a leg that one operand has, is refused."""
    plan = tn.plan(TOPOLOGIES["low_rank"])
    ghost = replace(plan.steps[0], left=Operand(Value("ghost", ("b",))))  # pyright: ignore
    with pytest.raises(tn.PlanError, match="ghost"):
        replace(plan, steps=(ghost, *plan.steps[1:])).verify()
    first = plan.steps[0]
    assert isinstance(first, Contract)
    shrunk = replace(first, result=Value(first.result.name, first.result.legs[:1]))
    with pytest.raises(tn.PlanError, match="only one operand"):
        replace(plan, steps=(shrunk,), outputs=()).verify()


def test_plans_are_values() -> None:
    """Equal plans are equal and survive pickling; user names are no content."""
    import pickle

    plan = tn.plan(TOPOLOGIES["mera"])
    again: Plan = pickle.loads(pickle.dumps(plan))
    assert again == plan
    assert plan.with_names({}) == plan


def test_two_hundred_tensors() -> None:
    """A long train is planned with the default effort and its states stay small."""
    net = tn.Network("chain")
    wires = net.input([2])
    for k in range(200):
        wires = net.tensor(f"G{k}", wires, out=(3,))
    net.output(wires)
    plan = tn.plan(net, batch=16)
    assert len(plan.steps) == 200
    assert max(plan.bytes_of(step.result).at(16) for step in plan.steps) <= 16 * 3 * 4


def test_rebuilding_without_tensors_contracts_the_inputs() -> None:
    """A network of inputs alone has no W: one input passes, two are multiplied."""
    one = tn.Network("diagonal")
    one.input("x", a=3)
    one.output(a=3)
    assert not tn.plan(one, minimize="rebuild").steps
    two = tn.Network("two inputs")
    two.input("x", a=3)
    two.input("z", a=3)
    two.output(a=3)
    (step,) = tn.plan(two, minimize="rebuild").steps
    assert sorted(operand.value.name for operand in step.operands) == ["x0", "x1"]


def equal(backend: str) -> float:
    """No backend has to win by more than another."""
    del backend
    return 1.0


def test_a_reason_names_each_kind_of_plan_once() -> None:
    """Of plans with one name the fastest is told: nobody could tell them apart."""
    plan = tn.plan(tn.topologies.low_rank(8, 6, rank=2), minimize="flops")
    other = replace(plan, minimize="rebuild")
    ranked = [Ranked(p, Seconds(t)) for p, t in ((plan, 1e-3), (other, 2e-3), (other, 3e-3))]
    text = batch_ranges._reason(tuple(ranked), equal)
    assert text.count("next best") == 1
    assert "2 ms" in text
    assert "3 ms" not in text


def test_a_reason_says_why_a_plan_that_is_predicted_to_be_faster_is_not_taken() -> None:
    """Kernels must win by a tenth, a mixture by more, torch's calls where CUDA was asked for."""
    plan = tn.plan(tn.topologies.low_rank(8, 6, rank=2), minimize="flops")
    kernels = whole_plan(plan, 64, backend_of("cpp"))
    parts = (BackendSpan("torch", 1), BackendSpan("cpp", 1))
    mixture = replace(plan, regions=parts)
    free = contest_of("auto", "cpu", Machine()).factor
    asked = contest_of("cuda", "cuda", Machine()).factor

    def told(factor: Callable[[str], float], *times: tuple[Plan, float]) -> str:
        return batch_ranges._reason(tuple(Ranked(p, Seconds(t)) for p, t in times), factor)

    assert told(free, (plan, 1e-3), (kernels, 0.95e-3), (mixture, 0.9e-3)).split("best: ")[1] == (
        "fewest FLOPs in cpp 0.95 ms (not taken: what has to be compiled must win by 10%), "
        "fewest FLOPs in mixed 0.9 ms (not taken: what has to be compiled must win by 15%)"
    )
    assert "not taken" not in told(free, (plan, 1e-3), (kernels, 1.05e-3))
    on_gpu = whole_plan(plan, 64, backend_of("cuda"))
    text = told(asked, (on_gpu, 1e-3), (plan, 0.9e-3))
    assert text.endswith("fewest FLOPs 0.9 ms (not taken: torch's calls must win by 50%)")


@pytest.mark.skipif(not has_compiler(), reason="no C++ compiler")
def test_cost_says_which_rule_decided(monkeypatch: pytest.MonkeyPatch) -> None:
    """In the line of the plan. Many small steps are far faster as kernels, whatever the machine."""
    monkeypatch.setenv("TNLAYER_CACHE", "0")
    monkeypatch.delenv("TNLAYER_BACKEND", raising=False)
    monkeypatch.setattr(CppBackend, "handicap", 1e4)
    monkeypatch.setattr(MixedBackend, "handicap", 1e4)
    found = tn.cost(tn.topologies.mera(6, 2, 2), batch=64, effort="fast")
    assert found.backend != "cpp"
    told = re.search(r"in cpp [0-9.]+ ms \(not taken: what has to be compiled must win", str(found))
    assert told is not None, str(found)


def test_a_reason_names_one_of_two_orders_that_are_mirror_images() -> None:
    """They count the same on one backend and are as fast; others, however near, are told."""
    chain = tn.topologies.tensor_train((4, 4, 4), (4, 4, 4), rank=3)
    plan = tn.plan(chain, minimize="rebuild")
    mirror, slow = replace(plan, minimize="combo-64"), replace(plan, minimize="flops")
    elsewhere = whole_plan(replace(plan, minimize="write"), 64, backend_of("cpp"))
    fewer = replace(tn.plan(chain, minimize="flops"), minimize="size")
    assert fewer.counts != plan.counts
    times = ((plan, 1e-3), (mirror, 1.01e-3), (elsewhere, 1.01e-3), (fewer, 1.01e-3), (slow, 2e-3))
    text = batch_ranges._reason(tuple(Ranked(p, Seconds(t)) for p, t in times), equal)
    assert text == (
        "the dense map first: 1 ms predicted; next best: fewest writes in cpp 1.01 ms, smallest "
        "values 1.01 ms, fewest FLOPs 2 ms"
    )
