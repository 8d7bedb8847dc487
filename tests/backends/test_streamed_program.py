"""Products with a matrix that is made in tiles, against the oracle and beside torch's calls."""

from __future__ import annotations

import copy
import ctypes
import pickle
from collections.abc import Callable, Iterator

import numpy as np
import pytest
import torch

import tnlayer as tn
from benchmarks.common.memory import allocator_peak
from tests.support.cpp_units import has_compiler
from tests.support.mixed_cases import MixedCase
from tests.support.series import short_and_full
from tests.support.strategies import LAYOUTS, LEADS, Case, collect
from tests.support.streamed_cases import cost_in_tiles, rebuilt, streamed
from tnlayer import topologies
from tnlayer.backends.log_scale_program import ScaledProgram
from tnlayer.backends.streamed_program import StreamedProgram
from tnlayer.errors import SpecError
from tnlayer.hardware.cpu import Cpu
from tnlayer.ir.backend_names import STREAMED
from tnlayer.ir.batch_range import BatchRange
from tnlayer.ir.plan import Plan
from tnlayer.lowering.streamed.product_form import ProductForm, product_form
from tnlayer.passes.log_scale_spans import spans
from tnlayer.planning.mixture import whole_plan
from tnlayer.report.compare import Comparison
from tnlayer.report.costs import Costs
from tnlayer.runtime.program import Program
from tnlayer.runtime.scratch import SCRATCH
from tnlayer.targets.backend import backend_of

needs_compiler = pytest.mark.skipif(not has_compiler(), reason="no C++ compiler")

# Ragged vectors, legs of one index, factors of many legs, x and y in other orders than the cores.
NETWORKS: dict[str, Callable[[], tn.Network]] = {
    "train": lambda: topologies.tensor_train((16, 16, 3), (5, 16, 16), rank=9),
    "long train": lambda: topologies.tensor_train((4, 3, 2, 5), (3, 4, 7, 2), rank=6),
    "small legs": lambda: topologies.tensor_train((2,) * 6, (2,) * 6, rank=5),
    "wide": lambda: topologies.tensor_train((3, 70), (2, 90), rank=4),
    "low rank": lambda: topologies.low_rank(40, 24, rank=7),
    "mera": lambda: topologies.mera(6, 2, 2),
    "crossed": lambda: crossed(),
    "shared": lambda: shared(),
}


def crossed() -> tn.Network:
    """Two tensors with legs that alternate in x and in y."""
    net = tn.Network("crossed")
    net.input("x", a=3, b=5, c=4)
    net.output(f=6, d=3, e=2)
    net.bond(s=3, t=2)
    net.tensor("L", "a s f c t")
    net.tensor("R", "d t b s e")
    return net


def shared() -> tn.Network:
    """One tensor in both factors of W."""
    net = tn.Network("shared")
    net.input("x", a=4, b=4)
    net.output(c=4, d=4)
    net.bond(k=3)
    net.tensor("A", "a c k")
    net.tensor("B", "b d k", share="A")
    return net


def product_case(number: int) -> Case:
    """A random network of that form: two or three tensors, legs of all values in any order, some
    without a leg of x or of y; leading dimensions, layouts and frozen arrays of all kinds."""
    random = np.random.default_rng(number)
    sizes: dict[str, int] = {}

    def legs(kind: str, least: int) -> list[str]:
        names = [f"{kind}{k}" for k in range(random.integers(least, 3))]
        sizes.update({name: int(random.integers(1, 7)) for name in names})
        return names

    a1, b1, a2, b2, s = legs("a", 0), legs("b", 0), legs("c", 1), legs("d", 1), legs("s", 1)

    def mixed(names: list[str]) -> list[str]:
        return [str(name) for name in random.permutation(names)]

    net = tn.Network(f"product {number}")
    net.input("x", **{name: sizes[name] for name in mixed([*a1, *a2])})
    net.output(**{name: sizes[name] for name in mixed([*b1, *b2])})
    net.bond(**{name: sizes[name] for name in s}, t=2)
    if number % 2:
        net.tensor("L", " ".join(mixed([*a1, *s[:1], "t"])))
        net.tensor("M", " ".join(mixed([*b1, *s[1:], "t"])))
        net.tensor("R", " ".join(mixed([*s, *a2, *b2])))
    else:
        net.tensor("L", " ".join(mixed([*a1, *b1, *s, "t"])))
        net.tensor("R", " ".join(mixed(["t", *s, *a2, *b2])))
    lead = LEADS[number % len(LEADS)]
    layouts = (LAYOUTS[number % len(LAYOUTS)], LAYOUTS[number // 2 % len(LAYOUTS)])
    return Case(net, lead, layouts, number % 4, number)


@needs_compiler
@pytest.mark.parametrize("count", short_and_full(80, 400))
def test_random_networks_are_the_oracles(count: int) -> None:
    """Values and gradients of random networks, those that have the form by accident among them."""
    ran = 0
    cases = [product_case(number) for number in range(count)]
    for case in [*cases, *collect(False, 8100, count // 4)]:
        program = streamed(rebuilt(case.net, torch.float64))
        if program is not None:
            MixedCase(case, torch.float64).check(program)
            ran += 1
    assert ran > 0.8 * count


@needs_compiler
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16, torch.float16])
@pytest.mark.parametrize("name", NETWORKS)
def test_results_are_those_of_calls(name: str, dtype: torch.dtype) -> None:
    """y and all gradients, for fewer and more samples than a panel has, and in two threads; 16 bits
    round y and gradients once."""
    net = NETWORKS[name]()
    calls = rebuilt(net, dtype)
    program = streamed(calls)
    assert program is not None
    exact = rebuilt(net, torch.float64)
    generator = torch.Generator().manual_seed(5)
    shapes = {p.name: p.shape for p in net.freeze().parameters}
    entries = {n: torch.randn(s, generator=generator, dtype=dtype) for n, s in shapes.items()}
    for batch in (0, 1, 13, 31):
        x = torch.randn(batch, net.freeze().in_features, generator=generator, dtype=dtype)
        slope = torch.randn(batch, net.freeze().out_features, generator=generator, dtype=dtype)
        found = [with_gradients(one, x, entries, slope) for one in (program, exact)]
        for own, expected in zip(*found, strict=True):
            assert own.dtype == dtype
            size = max(float(expected.abs().max()), 1e-30) if expected.numel() else 1.0
            error = (own.double() - expected).abs().max() / size if own.numel() else 0.0
            rounded_once = torch.finfo(dtype).bits == 16
            assert error < (1 if rounded_once else 64) * torch.finfo(dtype).eps


def case_of(name: str) -> tuple[StreamedProgram, dict[str, torch.Tensor]]:
    """The program of a network in float32, with entries for its parameters."""
    program = streamed(rebuilt(NETWORKS[name](), torch.float32))
    assert program is not None
    return program, {p.name: torch.randn(p.shape) for p in program.graph.parameters}


def with_gradients(
    program: Program,
    x: torch.Tensor,
    entries: dict[str, torch.Tensor],
    slope: torch.Tensor,
) -> list[torch.Tensor]:
    """y, then the gradients of x and of all parameters."""
    own = x.to(program.dtype).requires_grad_()
    arrays = {n: a.to(program.dtype).clone().requires_grad_() for n, a in entries.items()}
    y = program(own, parameters=arrays)
    grads = torch.autograd.grad(y, (own, *arrays.values()), slope.to(program.dtype))
    return [y.detach(), *grads]


@needs_compiler
def test_it_is_the_same_again_and_pickled() -> None:
    """Two calls agree bit by bit, and so does a program that was pickled or copied."""
    program, entries = case_of("train")
    x, slope = torch.randn(40, 768), torch.randn(40, 1280)
    first = with_gradients(program, x, entries, slope)
    for again in (program, pickle.loads(pickle.dumps(program)), copy.deepcopy(program)):
        for one, other in zip(first, with_gradients(again, x, entries, slope), strict=True):
            assert torch.equal(one, other)


@needs_compiler
def test_inputs_are_held_to_the_plan_again() -> None:
    """A hook for saved tensors that gives back a part is told, and nothing is read."""
    program, drawn = case_of("train")
    entries = {name: array.requires_grad_() for name, array in drawn.items()}
    x = torch.randn(4, 768)
    with torch.autograd.graph.saved_tensors_hooks(lambda t: t, lambda t: t[..., :1]):
        y = program(x, parameters=entries)
    with pytest.raises(SpecError):
        y.sum().backward()


@needs_compiler
def test_gradients_of_gradients_go_through_torch() -> None:
    """Double backward is that of the reference."""
    calls = rebuilt(NETWORKS["crossed"](), torch.float64)
    program = streamed(calls)
    assert program is not None
    shapes = {p.name: p.shape for p in calls.graph.parameters}
    names = list(shapes)
    x = torch.randn(3, 60, dtype=torch.float64, requires_grad=True)
    arrays = [torch.randn(s, dtype=torch.float64, requires_grad=True) for s in shapes.values()]

    def function(x: torch.Tensor, *arrays: torch.Tensor) -> torch.Tensor:
        return program(x, parameters=dict(zip(names, arrays, strict=True)))

    assert torch.autograd.gradcheck(function, (x, *arrays))
    assert torch.autograd.gradgradcheck(function, (x, *arrays))


def plan_of(net: tn.Network, **options: object) -> Plan:
    """The plan that rebuilds W."""
    return tn.plan(net, minimize="rebuild", **options)  # type: ignore[arg-type]


def test_why_a_plan_is_no_such_product() -> None:
    """Complex entries, several inputs, legs that x and W both keep, steps on samples before."""
    two = tn.Network("two")
    two.input("x", a=3)
    two.input("z", b=4)
    two.output(c=5)
    two.bond(k=2)
    two.tensor("A", "a k")
    two.tensor("B", "b k c")
    words = {
        "complex": product_form(plan_of(NETWORKS["train"](), dtype="complex64"), 16),
        "2 inputs": product_form(plan_of(two), 16),
        "not rebuilt": product_form(tn.plan(NETWORKS["low rank"](), minimize="flops"), 16),
        "keep a leg": product_form(plan_of(topologies.btt((4, 4), (4, 4), rank=2)), 16),
    }
    for text, found in words.items():
        assert isinstance(found, str) and text in found, (text, found)


def test_the_factor_that_fills_vectors_stands_right() -> None:
    """Of two factors that of whole vectors is right; of two such the smaller one."""
    plan = plan_of(topologies.tensor_train((16, 3), (16, 3), rank=2))
    form = product_form(plan, 16)
    assert isinstance(form, ProductForm)
    assert form.sizes == (3, 16, 3, 16, 2)
    form = product_form(plan_of(topologies.tensor_train((16, 32), (16, 32), rank=2)), 16)
    assert isinstance(form, ProductForm)
    assert form.sizes == (32, 16, 32, 16, 2)


@needs_compiler
def test_source_shows_both_parts() -> None:
    """The calls that make the factors, and the C++ of the product."""
    program, _ = case_of("train")
    parts = program.sources()
    assert parts["forward"].startswith("def factors(")
    assert 'extern "C" int forward' in parts["forward"]
    assert parts["backward"].startswith("def gradients(")
    assert program.source().startswith(parts["forward"])
    program.prepare()
    assert program.is_stored(program.nothing)


@needs_compiler
def test_narrow_vectors_and_few_registers() -> None:
    """The panels of a processor with 16 registers of 32 bytes give the same."""
    wide, entries = case_of("long train")
    x, slope = torch.randn(20, 120), torch.randn(20, 168)
    narrow = pickle.loads(pickle.dumps(wide))
    vars(narrow)["cpu"] = Cpu(vector_bytes=32, registers=16)
    found = [with_gradients(one, x, entries, slope) for one in (wide, narrow)]
    for one, other in zip(*found, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-4)


@needs_compiler
def test_a_layer_runs_it_and_falls_back() -> None:
    """In a layer it serves 1-dimensional x and vmap; under torch.func torch's calls run."""
    net = NETWORKS["long train"]()
    layer = tn.Layer(net, dtype=torch.float64, backend="torch", batch=16)
    program = streamed(rebuilt(net, torch.float64))
    assert program is not None
    expected = layer.to_dense()
    ranged = layer._programs_for(torch.float64)[0]
    ranged.replace_range(BatchRange(), program)
    x = torch.randn(2, 3, 120, dtype=torch.float64)
    torch.testing.assert_close(layer(x), x @ expected.T)
    torch.testing.assert_close(layer(x[0, 0]), x[0, 0] @ expected.T)
    torch.testing.assert_close(torch.func.vmap(layer)(x), x @ expected.T)
    tangent = torch.func.jvp(layer, (x,), (x,))[1]
    torch.testing.assert_close(tangent, x @ expected.T)


@pytest.fixture
def fresh() -> Iterator[None]:
    """No memory that calls reuse."""
    before, SCRATCH.limit = SCRATCH.limit, 0
    SCRATCH.clear()
    yield
    SCRATCH.limit = before


def test_tables_say_that_w_is_not_stored() -> None:
    """Below each table of counts: of one network, of a sum and of several, as text, HTML and JSON;
    what runs as torch's calls says nothing of it."""
    net = NETWORKS["train"]()
    calls = tn.cost(net, batch=64, backend="torch")
    cost = cost_in_tiles(net, 64)
    how, counts = cost.lowered.remarks
    assert how.endswith("neither it nor its gradient is stored")
    assert counts.startswith("FLOPs, bytes moved and the largest intermediate are the plan's")
    assert cost.largest_intermediate == cost.dense_parameters  # W, which is not stored
    table, html = cost.table_lines(), cost._repr_html_()
    assert table[-3:-1] == [how, counts] and how in html and counts.split(";")[1] in html
    assert cost.numbers()["remarks"] == [how, counts]
    assert calls.lowered.remarks == () and calls.numbers()["remarks"] == []
    assert how not in str(calls)
    for several in (Costs((calls, cost)), Comparison(64, (calls, Costs((cost, cost))), True)):
        text, html = str(several).replace("\n  ", " "), several._repr_html_()
        assert text.count(how) == html.count(how) == 1
    assert f"\n{cost.label}: {how}" in str(Costs((calls, cost)))


@needs_compiler
def test_explain_says_it_once() -> None:
    """It prints the counts and the steps, and one remark is of both."""
    net = NETWORKS["long train"]()
    layer = tn.Layer(net, backend="torch", batch=16)
    program = streamed(rebuilt(net, torch.float32))
    assert program is not None
    layer._programs_for(torch.float32)[0].replace_range(BatchRange(), program)
    text = str(layer.explain(16))
    how, counts = program.lowered_for(program.training_mask()).remarks
    assert text.count(counts) == 1 and f"\n{how}\n" in text and "region 1, streamed" in text


@needs_compiler
@pytest.mark.usefixtures("fresh")
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("name", NETWORKS)
@pytest.mark.parametrize("batch", [1, 40, 700])
def test_arrays_around_kernels_are_counted(name: str, dtype: torch.dtype, batch: int) -> None:
    """What torch allocates beside y and the gradients is within what is told, and told no more
    than three times too high; whatever gradients are wanted."""
    net = NETWORKS[name]()
    program = streamed(rebuilt(net, dtype))
    assert program is not None
    graph = net.freeze()
    entries = {p.name: torch.randn(p.shape).to(dtype) for p in graph.parameters}
    for wants_x, wants_rest in ((True, True), (True, False), (False, True), (False, False)):
        x = torch.randn(batch, graph.in_features).to(dtype).requires_grad_(wants_x)
        arrays = {n: a.clone().requires_grad_(wants_rest) for n, a in entries.items()}
        slope = torch.randn(batch, graph.out_features).to(dtype)
        leaves = [one for one in (x, *arrays.values()) if one.requires_grad]

        def calls(
            x: torch.Tensor = x,
            arrays: dict[str, torch.Tensor] = arrays,
            slope: torch.Tensor = slope,
            leaves: list[torch.Tensor] = leaves,
        ) -> tuple[torch.Tensor, ...]:
            y = program(x, parameters=arrays)
            return (y.detach(), *(torch.autograd.grad(y, leaves, slope) if leaves else ()))

        results = sum(one.numel() * one.itemsize for one in calls())
        ports = program.plan.ports
        mask = tuple(wants_x if one in ports else wants_rest for one in program.plan.inputs)
        told = program.lowered_for(mask).room(batch).at_once
        used = allocator_peak(calls)
        assert used <= told + results, (wants_x, wants_rest)
        assert told <= 3 * used + 4096


# What all calls of a library keep, in bytes.
KEPT = """
extern "C" long kept() {
  long bytes = 0;
  for (Room* room : rooms)
    if (room) {
      bytes += room->call.size;
      for (int t = 0; t < room->threads; t++) bytes += room->own[t].size;
    }
  return bytes;
}
"""


@needs_compiler
@pytest.mark.parametrize(
    "sizes", [(31, 8, 31, 8), (16, 16, 16, 16), (5, 3, 7, 9), (64, 64, 70, 33)]
)
@pytest.mark.parametrize("batch", [1, 40, 700])
def test_calls_keep_no_more_than_is_told(sizes: tuple[int, ...], batch: int) -> None:
    """The rooms of a forward and a backward, read from the library, are within what is told."""
    net = topologies.tensor_train(sizes[:2], sizes[2:], rank=11)
    program = streamed(rebuilt(net, torch.float32))
    assert program is not None
    own = f"{program.library_source}\n// {sizes} {batch}\n{KEPT}"
    vars(program)["library_source"] = own
    entries = {p.name: torch.randn(p.shape) for p in program.graph.parameters}
    graph = net.freeze()
    x, slope = torch.randn(batch, graph.in_features), torch.randn(batch, graph.out_features)
    with_gradients(program, x, entries, slope)
    kept = program.load()["kept"]
    kept.restype = ctypes.c_long
    told = program.lowered_for(program.training_mask()).room(batch).standing
    assert 0 < kept() <= told


@needs_compiler
@pytest.mark.parametrize("bits", [None, 0])
def test_values_beyond_the_range_pass_in_parts(bits: int | None) -> None:
    """With a log scale a plan is cut into spans, some of which have the form and some have not."""
    net = NETWORKS["long train"]()
    calls = rebuilt(net, torch.float64)
    whole = whole_plan(calls.plan, 16, backend_of(STREAMED))
    program = ScaledProgram(calls.graph, whole, calls.tensor_names)
    if bits is not None:
        program.spans = program._with_programs(spans(whole, bits), None)
    shapes = {p.name: p.shape for p in calls.graph.parameters}
    arrays = {n: torch.randn(s, dtype=torch.float64).requires_grad_() for n, s in shapes.items()}
    x = torch.randn(5, 120, dtype=torch.float64, requires_grad=True)
    expected = calls(x, parameters=arrays)
    mantissa, log_scale = program(x, parameters=arrays)
    found = mantissa * log_scale.exp().unsqueeze(-1)
    torch.testing.assert_close(found, expected)
    slope = torch.randn_like(expected)
    leaves = (x, *arrays.values())
    pairs = [torch.autograd.grad(y, leaves, slope) for y in (found, expected)]
    for one, other in zip(*pairs, strict=True):
        torch.testing.assert_close(one, other)


@needs_compiler
def test_each_step_has_its_share_of_the_time() -> None:
    """The factors' calls, the making of W and its use; together what is predicted for the plan."""
    program, _ = case_of("long train")
    lowered = program.lowered_for(program.training_mask())
    shares = lowered.shares(64)
    assert set(shares) == {step.result.name for step in lowered.plan.steps}
    assert all(share > 0 for share in shares.values())
    assert sum(shares.values()) <= lowered.own_seconds(64).total * 1.001
    *_, region, last = lowered.lines(64, lowered.step_seconds(64))
    how, counts = lowered.remarks
    assert how in region and last == counts
    assert "do not move it, and make it again in the backward" in last
    *_, last = lowered.inference.lines(64, lowered.inference.step_seconds(64))
    assert last.endswith("do not move it")
