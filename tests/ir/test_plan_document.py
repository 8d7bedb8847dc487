"""Plans as documents: nothing is lost, nothing of the user's is in them, nothing wrong is read."""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import fields, replace
from typing import Any

import pytest
from hypothesis import given

import tnlayer as tn
from tests.support.mutations import mutated
from tests.support.plan_numbers import computes
from tests.support.strategies import SMALL_BOUNDS, fixed_series, networks
from tnlayer.graph.canonical import canonicalise
from tnlayer.graph.graph import Graph
from tnlayer.ir.plan import Plan
from tnlayer.ir.plan_document import PlanDocumentError, document_from_plan, plan_from_document
from tnlayer.ir.plan_parts import BackendSpan, Memory, Output
from tnlayer.ir.steps import (
    Add,
    Contract,
    Diagonal,
    Embed,
    Expand,
    Operand,
    Origin,
    Part,
    Reduce,
    Scatter,
    Select,
    Value,
)
from tnlayer.planning.check_plan import check_plan
from tnlayer.planning.plan_of_order import make_plan
from tnlayer.support.json_text import canonical_json, parse_json


def everything() -> Plan:
    """A legal plan with all eight kinds of steps and no field at its default."""
    x, w = Value("x0", ("b", "e0", "e1")), Value("n0", ("e0", "e0", "e2"))
    kept = Value("t9", ("e1", "e2"))
    diagonal = Value("n0_d", ("e0", "e2"))
    product = Value("t0", ("b", "e1", "e2"))
    total = Value("t1", ("e1", "e2"))
    wide = Value("t2", ("b", "e1", "e2"))
    embedded = Value("t3", ("e0", "e0", "e2"))
    added = Value("t4", ("e1", "e2"))
    row = Value("t5", ("e2",))
    whole = Value("t6", ("e1", "e2"))
    return Plan(
        leg_sizes=(("e0", 2), ("e1", 3), ("e2", 4)),
        ports=(x,),
        parameters=(w,),
        saved=(kept,),
        steps=(
            Diagonal(diagonal, Operand(w)),
            Contract(product, Operand(x), Operand(diagonal, conj=True)),
            Reduce(total, Operand(product)),
            Expand(wide, Operand(total)),
            Embed(embedded, Operand(diagonal), origin=Origin("gradient", "n0_d", "n0")),
            Add(added, (Operand(total), Operand(kept)), origin=Origin("sum", "", "x0")),
            Select(row, Operand(added), ((0, 2),), origin=Origin("repeat", "t8", "t8")),
            Scatter(whole, (Part(Operand(added), ()), Part(Operand(row), ((0, 1),)))),
        ),
        outputs=(
            Output("y", Operand(wide), (("b",), ("e1", "e2"))),
            Output("d_n0", Operand(embedded, conj=True), (("e0",), ("e0",), ("e2",))),
            Output("d_x0", Operand(whole), (("e2",), ("e1",))),
        ),
        port_axes=(("x0", (("b",), ("e0", "e1"))),),
        dtype="complex64",
        batch=17,
        minimize="combo-3.5",
        proven_optimal=True,
        aborted=True,
        memory=Memory(("t0", "t1"), 5, ("e0",)),
        regions=(BackendSpan("cpp", 2),),
        names=(("e0", "i"),),
    ).verify()


def round_trip(plan: Plan) -> Plan:
    """A plan through text and back."""
    return plan_from_document(parse_json(canonical_json(document_from_plan(plan))))


# -- writing and reading -------------------------------------------------------------------------


def test_every_field_and_step_survives() -> None:
    """All eight kinds of steps and every field but the user's names come back equal."""
    plan = everything()
    assert len({type(step) for step in plan.steps}) == 8
    blank = Plan((), (), (), (), (), ())
    same = [f.name for f in fields(plan) if getattr(plan, f.name) == getattr(blank, f.name)]
    assert not same, f"the example has the default for {same}, so it cannot be lost"
    again = round_trip(plan)
    assert again == plan
    assert again.names == ()
    assert [type(step) for step in again.steps] == [type(step) for step in plan.steps]
    assert document_from_plan(again) == document_from_plan(plan)


def test_every_field_is_written() -> None:
    """A new field of a Plan has to be written too, or this test fails."""
    assert {f.name for f in fields(Plan)} - set(document_from_plan(everything())) == {"names"}
    assert {f.name for f in fields(Memory)} == set(document_from_plan(everything())["memory"])


@fixed_series(11, 60, shrink=False)
@given(net=networks(is_complex=True, bounds=SMALL_BOUNDS))
def check_random_plans(net: tn.Network) -> None:
    """Forward and backward survive."""
    forward = tn.plan(net)
    assert round_trip(forward) == forward
    backward = tn.backward_plan(forward)
    assert round_trip(backward) == backward


def test_random_plans_survive() -> None:
    """Plans of random networks and of their gradients come back equal."""
    check_random_plans()


def test_nothing_of_the_users_is_written() -> None:
    """A document has no name that the user gave: it may come to another user's network."""
    net = tn.Network("secret_label")
    net.input("secret_port", {"secret_i": 3})
    net.bond(secret_r=2)
    net.output(secret_j=4)
    net.tensor("secret_A", "secret_i secret_r")
    net.tensor("secret_B", "secret_r secret_j")
    plan = tn.plan(net)
    assert "secret" in str(plan)
    assert "secret" not in canonical_json(document_from_plan(plan))


def test_an_illegal_plan_is_not_written() -> None:
    """Operands are written by name, so a value that was not made must be found before."""
    plan = everything()
    with pytest.raises(tn.PlanError, match="not made before"):
        document_from_plan(replace(plan, steps=plan.steps[1:]))


# -- what is refused -----------------------------------------------------------------------------

Change = Callable[[dict[str, Any]], object]


def put(value: object, *way: Any) -> Change:
    """A change: another value at a place of the document."""

    def change(document: dict[str, Any]) -> None:
        container: Any = document
        for key in way[:-1]:
            container = container[key]
        container[way[-1]] = value

    return change


REFUSED: dict[str, tuple[Change, str]] = {
    "unknown key": (put(1, "extra"), "plan: expected an object with the keys"),
    "missing key": (lambda d: d.pop("memory"), "plan: expected an object with the keys"),
    "user's names": (put([["e0", "i"]], "names"), "plan: expected an object with the keys"),
    "unknown key of a step": (put(1, "steps", 0, "pins"), "steps[0]: expected an object"),
    "missing key of a step": (lambda d: d["steps"][1].pop("left"), "steps[1]: expected an object"),
    "no step": (put("contract", "steps", 0), "steps[0]: expected an object with a kind"),
    "unknown kind": (put("call", "steps", 0, "kind"), "steps[0].kind: expected one of"),
    "kind of another type": (put(["add"], "steps", 0, "kind"), "an object with a kind"),
    "role of no step": (put(["forward", "t0", "t0"], "steps", 4, "origin"), "origin: expected one"),
    "role of another type": (put([[], "t0", "t0"], "steps", 4, "origin"), "origin: expected one"),
    "origin of two": (put(["sum", "t0"], "steps", 4, "origin"), "a role, a step and a value"),
    "origin as a text": (put("sum", "steps", 4, "origin"), "a role, a step and a value"),
    "code as an origin": (put("os.exit()", "steps", 4, "origin", 1), "a canonical name"),
    "origin of no value": (put("", "steps", 4, "origin", 2), "a canonical name"),
    "missing origin": (lambda d: d["steps"][0].pop("origin"), "steps[0]: expected an object"),
    "steps as an object": (put({}, "steps"), "steps: expected a list"),
    "endless list": (put([0] * 200_001, "steps"), "steps: expected a list of at most"),
    "three operands": (put(["x0", False, 0], "steps", 1, "left"), "expected a list of two"),
    "conj as a number": (put(1, "steps", 1, "left", 1), "expected true or false"),
    "value of the future": (put("t4", "steps", 1, "left", 0), "a value that was made before"),
    "value as a number": (put(7, "steps", 1, "left", 0), "a value that was made before"),
    "value made twice": (put("t0", "steps", 2, "result", 0), "a name that is not taken"),
    "code as a name": (put("t1=exec('1')", "steps", 2, "result", 0), "a canonical name"),
    "capital name": (put("T", "steps", 2, "result", 0), "a canonical name"),
    "long name": (put("t" * 101, "steps", 2, "result", 0), "a canonical name"),
    "name with a line": (put("t0\n", "steps", 2, "result", 0), "a canonical name"),
    "code as a leg": (put("os", "ports", 0, 1, 0), "a leg of leg_sizes, or the batch"),
    "leg of no size": (put("e9", "steps", 1, "result", 1, 0), "a leg of leg_sizes"),
    "batch with a size": (put("b", "leg_sizes", 0, 0), "legs that differ"),
    "leg with two sizes": (put("e1", "leg_sizes", 0, 0), "legs that differ"),
    "size zero": (put(0, "leg_sizes", 0, 1), "a whole number from 1"),
    "negative size": (put(-2, "leg_sizes", 0, 1), "a whole number from 1"),
    "absurd size": (put(2**53 + 1, "leg_sizes", 0, 1), "a whole number from 1"),
    "size as a float": (put(2.0, "leg_sizes", 0, 1), "a whole number from 1"),
    "size as a boolean": (put(True, "leg_sizes", 0, 1), "a whole number from 1"),
    "size as a text": (put("2", "leg_sizes", 0, 1), "a whole number from 1"),
    "negative pin": (put([[-1, 0]], "steps", 6, "pins"), "a whole number from 0"),
    "batch zero": (put(0, "batch"), "batch: expected a whole number from 1"),
    "chunk zero": (put(0, "memory", "chunk"), "memory.chunk: expected a whole number"),
    "slice of no leg": (put(["e7"], "memory", "slices"), "memory.slices[0]: expected a leg"),
    "dtype of no array": (put("object", "dtype"), "dtype: expected one of"),
    "dtype of another type": (put(None, "dtype"), "dtype: expected a string"),
    "minimize with a text": (put("flops\nimport os", "minimize"), "the name of an objective"),
    "proof as a number": (put(1, "proven_optimal"), "proven_optimal: expected true or false"),
    "output of nothing": (put("t7", "outputs", 0, "operand", 0), "a value that was made before"),
    "illegal step": (put(["b", "e1"], "steps", 1, "result", 1), "only one operand"),
    "illegal output": (put([["b"]], "outputs", 0, "axes"), "output y: legs"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_is_refused(name: str) -> None:
    """One change to a good document is refused, and the message names the place."""
    change, words = REFUSED[name]
    document = document_from_plan(everything())
    change(document)
    with pytest.raises(PlanDocumentError) as error:
        plan_from_document(document)
    assert words in str(error.value)


@pytest.mark.parametrize("value", [None, 1, "plan", [], [1], {}, {"steps": []}, float("nan")])
def test_no_document_at_all(value: object) -> None:
    """Whatever JSON can hold is refused the same way."""
    with pytest.raises(PlanDocumentError):
        plan_from_document(value)


def test_reading_raises_nothing_else() -> None:
    """2,000 mutated documents: a legal plan or a PlanDocumentError, and both do occur."""
    document = document_from_plan(everything())
    read = 0
    for seed in range(2000):
        try:
            plan = plan_from_document(mutated(document, seed))
        except PlanDocumentError:
            continue
        assert plan.verify() is plan
        read += 1
    assert 20 < read < 1000


# -- plans that do not compute their network -----------------------------------------------------

NETWORKS: dict[str, tn.Network] = {
    "mera": tn.topologies.mera(6, 2, 2),
    "tensor_train": tn.topologies.tensor_train((2, 3, 2), (3, 2, 2), rank=2),
    "cp": tn.topologies.cp((2, 3), (3, 2), rank=2),
    "block_term": tn.topologies.block_term((2, 2), (2, 2), terms=2, rank=2),
    "kronecker": tn.topologies.kronecker((2, 3), (3, 2), rank=2),
    "tensor_ring": tn.topologies.tensor_ring((2, 2, 2), (2, 2, 2), rank=2),
}


def odd_network() -> tn.Network:
    """Fixed, shared, conjugated, repeated and lonely legs, and an input that is not batched."""
    net = tn.Network("odd")
    net.input("x", {"i": 3, "k": 3})
    net.input("z", {"m": 2, "n": 2})
    net.port("z", product=True, batched=False)
    net.output(j=2, k=3)
    net.bond(r=2, s=2)
    net.tensor("A", "i r m")
    net.tensor("B", "i s n", share="A", conj=True)
    net.tensor("C", "r s j j")
    net.tensor("D", "m m r")
    net.fix(k=1)
    net.bond(q=3)
    net.sum("q")
    net.tensor("E", "q r")
    return net


NETWORKS["odd"] = odd_network()


def planned(name: str, dtype: str = "complex128") -> tuple[Plan, Graph]:
    """A plan of one of the networks, and the canonical graph."""
    graph = canonicalise(NETWORKS[name].freeze()).graph
    return make_plan(graph, batch=256, dtype=dtype), graph


@pytest.mark.parametrize("name", NETWORKS)
def test_right_plans_pass(name: str) -> None:
    """A plan of the planner passes, and computes its network by numbers."""
    for dtype in ("float64", "complex128"):
        plan, graph = planned(name, dtype)
        assert check_plan(plan, graph) == ""
        assert computes(plan, graph)


@fixed_series(12, 100, shrink=False)
@given(net=networks(is_complex=True, bounds=SMALL_BOUNDS))
def check_random(net: tn.Network) -> None:
    """Right by both judges."""
    graph = canonicalise(net.freeze()).graph
    plan = make_plan(graph, dtype="complex128")
    assert check_plan(plan, graph) == ""
    assert computes(plan, graph)


def test_right_plans_of_random_networks_pass() -> None:
    """No right plan of a random network is refused."""
    check_random()


@pytest.mark.parametrize("name", NETWORKS)
def test_wrong_plans_do_not_pass(name: str) -> None:
    """Of 1,000 mutated plans those that pass do compute the network, by numbers."""
    plan, graph = planned(name)
    document = document_from_plan(plan)
    legal = passed = 0
    for seed in range(1000):
        try:
            changed = plan_from_document(mutated(document, seed))
        except PlanDocumentError:
            continue
        legal += 1
        if not check_plan(changed, graph):
            passed += 1
            assert computes(changed, graph), f"seed {seed}"
    assert legal > passed > 0


def contractions(plan: Plan) -> list[int]:
    """Positions of the Contract steps."""
    return [n for n, step in enumerate(plan.steps) if isinstance(step, Contract)]


def conjugated(plan: Plan) -> Plan:
    """A term enters as its conjugate."""
    last = contractions(plan)[-1]
    step = plan.steps[last]
    assert isinstance(step, Contract)
    changed = replace(step, left=Operand(step.left.value, not step.left.conj))
    return replace(plan, steps=(*plan.steps[:last], changed, *plan.steps[last + 1 :]))


def used_twice(plan: Plan) -> Plan:
    """One more step multiplies the result with a term that was used."""
    x = Operand(plan.ports[0])
    result = plan.outputs[0].operand
    more = Contract(Value("t99", tuple(dict.fromkeys(result.legs + x.legs))), result, x)
    return replace(plan, steps=(*plan.steps, more))


def test_each_kind_of_wrong_plan() -> None:
    """What makes a plan wrong is named."""
    plan, graph = planned("tensor_train")
    sizes = tuple((leg, size + 1) for leg, size in plan.leg_sizes)
    output = plan.outputs[0]
    turned = replace(output, axes=(output.axes[0], tuple(reversed(output.axes[1]))))
    port, axes = plan.port_axes[0]
    wrong: dict[str, Plan] = {
        "dtype": replace(plan, dtype="int8"),
        "leg_sizes": replace(plan, leg_sizes=sizes),
        "ports": replace(plan, ports=()),
        "parameters": replace(plan, parameters=plan.parameters[::-1]),
        "saved": replace(plan, saved=(Value("t98", ()),)),
        "port_axes": replace(plan, port_axes=((port, axes[::-1]),)),
        "output axes": replace(plan, outputs=(turned,)),
        "output names": replace(plan, outputs=(replace(output, name="z"),)),
        "batch": replace(plan, batch=0),
        "not left": conjugated(plan),
        "not made before": replace(plan, steps=plan.steps[1:]),
        "name is not canonical": renamed(plan, "t0", "import_os"),
        "used a second time": used_twice(plan),
        "memory.recompute": replace(plan, memory=Memory(("t77",))),
        "memory.slices": replace(plan, memory=Memory(slices=(output.axes[1][0],))),
        "memory.chunk": replace(plan, memory=Memory(chunk=0)),
    }
    for words, changed in wrong.items():
        problem = check_plan(changed, graph)
        assert words in problem, f"{words}: {problem!r}"


def test_a_hyperedge_that_is_summed_too_early() -> None:
    """Each step is legal by itself, but two of the three ends of a leg are summed apart."""
    net = tn.Network()
    net.input(i=2)
    net.bond(r=3)
    net.output(j=2, k=2)
    net.tensor("A", "i r")
    net.tensor("B", "r j")
    net.tensor("C", "r k")
    graph = canonicalise(net.freeze()).graph
    plan = make_plan(graph)
    assert check_plan(plan, graph) == ""
    (i,), (j, k) = graph.inputs[0].legs, graph.output
    a, b, c = (Operand(v) for leg in (i, j, k) for v in plan.parameters if leg in v.legs)
    steps = (
        Contract(Value("t0", (i, j)), a, b),
        Reduce(Value("t1", (k,)), c),
        Contract(Value("t2", (i, j, k)), Operand(Value("t0", (i, j))), Operand(Value("t1", (k,)))),
        Contract(Value("t3", ("b", j, k)), Operand(plan.ports[0]), Operand(Value("t2", (i, j, k)))),
    )
    output = replace(plan.outputs[0], operand=Operand(steps[-1].result))
    wrong = replace(plan, steps=steps, outputs=(output,)).verify()
    assert "step t0: legs ['e3'] are summed too early" in check_plan(wrong, graph)
    assert not computes(wrong, graph)


def test_a_term_that_is_left_out() -> None:
    """A factor that changes no leg must not be forgotten."""
    net = tn.Network()
    net.input(i=3)
    net.output("i")
    net.tensor("A", "i")
    net.tensor("B", "i")
    graph = canonicalise(net.freeze()).graph
    plan = make_plan(graph)
    first, second = plan.steps
    (stem,) = (step for step in (first, second) if "x0" in [o.value.name for o in step.operands])
    short = plan.outputs[0]
    if stem is second:  # A * B comes first: then x times one of them instead
        x = Operand(plan.ports[0])
        stem = Contract(Value("t5", stem.result.legs), x, first.operands[0])
    short = replace(short, operand=Operand(stem.result))
    assert "2 values are left" in check_plan(replace(plan, steps=(stem,), outputs=(short,)), graph)


def renamed(plan: Plan, old: str, new: str) -> Plan:
    """The same plan with another name for a value."""
    text = canonical_json(document_from_plan(plan)).replace(f'"{old}"', f'"{new}"')
    return plan_from_document(parse_json(text))


def test_another_networks_plan_does_not_pass() -> None:
    """A plan of any other network of the list is refused."""
    for name in NETWORKS:
        plan, _ = planned(name)
        for other in NETWORKS:
            _, graph = planned(other)
            assert (check_plan(plan, graph) == "") == (other == name)


def test_a_step_too_large_does_not_pass() -> None:
    """A right plan with an intermediate that no machine holds is refused before it runs."""
    net = tn.Network()
    net.input(i=2**12)
    net.output(j=2**12)
    net.bond(r=2**14, s=2**14)
    net.tensor("A", "i r")
    net.tensor("B", "r s")
    net.tensor("C", "s j")
    graph = canonicalise(net.freeze()).graph
    plan = make_plan(graph, batch=1)
    assert check_plan(plan, graph) == ""
    by_name = {value.name: value for value in plan.parameters}
    e = {tensor.name: tensor.legs for tensor in graph.tensors}
    first, last = (n for n in e if set(e[n]) & {*graph.output, *graph.inputs[0].legs})
    (middle,) = set(e) - {first, last}
    outer = Value("t0", (*e[first], *e[last]))
    rest = Value("t1", tuple(leg for leg in outer.legs if leg not in e[middle]))
    x = plan.ports[0]
    y = Value("t2", ("b", *graph.output))
    slow = replace(
        plan,
        steps=(
            Contract(outer, Operand(by_name[first]), Operand(by_name[last])),
            Contract(rest, Operand(outer), Operand(by_name[middle])),
            Contract(y, Operand(x), Operand(rest)),
        ),
        outputs=(replace(plan.outputs[0], operand=Operand(y)),),
    )
    assert "entries a sample" in check_plan(slow, graph)


def test_mutations_do_not_touch_the_original() -> None:
    """The helper copies."""
    document = document_from_plan(everything())
    before = copy.deepcopy(document)
    for seed in range(50):
        mutated(document, seed)
    assert document == before
