"""log_scale=True: results beyond the range of the dtype, as a mantissa and the log of a scale."""

from __future__ import annotations

import copy
import ctypes
import math
import pickle
import warnings
from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch

import tnlayer as tn
from tests.support.against_oracle import (
    check_backward,
    check_forward,
    draw_inputs,
    fill,
    freeze_some,
)
from tests.support.cpp_units import build_together, has_compiler
from tests.support.emulated import emulated_gpu, launches
from tests.support.nvidia_tools import needs_nvrtc
from tests.support.series import short_and_full
from tests.support.strategies import Case, collect, random_array
from tnlayer import topologies
from tnlayer.backends.cpp_program import CppProgram
from tnlayer.backends.cuda_program import CudaProgram
from tnlayer.backends.log_scale_program import ScaledProgram
from tnlayer.errors import SpecError
from tnlayer.ir.batch_range import BatchRange
from tnlayer.ir.cuts import batched_steps, cuts
from tnlayer.ir.plan_parts import BackendSpan
from tnlayer.ir.steps import Contract
from tnlayer.passes.log_scale_spans import degrees, spans

__all__ = ["emulated_gpu"]  # the fixture

needs_compiler = pytest.mark.skipif(not has_compiler(), reason="no C++ compiler")
ISING_SIDE, BETA = 11, 0.44
KINDS = {
    "float32": torch.float32,
    "float64": torch.float64,
    "complex64": torch.complex64,
    "complex128": torch.complex128,
}


# -- networks and what is right for them ---------------------------------------------------------


def boltzmann(beta: float) -> np.ndarray:
    """The weights of one pair of neighbouring spins."""
    return np.exp(beta * np.array([[1.0, -1.0], [-1.0, 1.0]]))


def ising(side: int, beta: float) -> tn.Network:
    """An open square lattice of spins: one matrix on every bond."""
    net = tn.Network("ising")
    net.output()
    net.bond(**{f"s{i}_{j}": 2 for i in range(side) for j in range(side)})
    pairs = [
        (f"s{i}_{j}", f"s{a}_{b}")
        for i in range(side)
        for j in range(side)
        for a, b in ((i, j + 1), (i + 1, j))
        if a < side and b < side
    ]
    for number, legs in enumerate(pairs):
        kind: dict[str, Any] = {"share": "W0"} if number else {"value": boltzmann(beta)}
        net.tensor(f"W{number}", legs, **kind)
    return net


def ising_log_z(side: int, w: torch.Tensor) -> torch.Tensor:
    """log Z by a transfer matrix in float64, a site at a time, normalised a row at a time."""
    state = torch.ones((2,) * side, dtype=torch.float64)
    total = torch.zeros((), dtype=torch.float64)
    for row in range(side):
        for column in range(side):
            if row:
                state = (state.movedim(column, -1) @ w).movedim(-1, column)
            if column:
                shape = [1] * side
                shape[column - 1] = shape[column] = 2
                state = state * w.reshape(shape)
        largest = state.detach().max()
        state, total = state / largest, total + largest.log()
    return state.sum().log() + total


def ring(sites: int, value: np.ndarray, **kind: Any) -> tn.Network:
    """The trace of a power of one matrix."""
    net = tn.Network("ring")
    net.output()
    net.bond(**{f"s{k}": len(value) for k in range(sites)})
    for k in range(sites):
        given: dict[str, Any] = {"share": "W0"} if k else {"value": value, **kind}
        net.tensor(f"W{k}", [f"s{k}", f"s{(k + 1) % sites}"], **given)
    return net


def product_state_train(sites: int, bond: int, features: int = 2, out: int = 3) -> tn.Network:
    """A matrix product state over local features, with an output leg in the middle."""
    net = tn.Network("mps")
    net.port("x", product=True)
    net.input("x", {f"i{k}": features for k in range(sites)})
    net.output(j=out)
    net.bond(**{f"a{k}": bond for k in range(1, sites)})
    for k in range(sites):
        left, right = [f"a{k}"] if k else [], [f"a{k + 1}"] if k < sites - 1 else []
        label = ["j"] if k == sites // 2 else []
        net.tensor(f"A{k}", [*left, f"i{k}", *label, *right], init="ones")
    return net


def log_of_train(x: torch.Tensor, cores: list[torch.Tensor]) -> tuple[torch.Tensor, torch.Tensor]:
    """The same state site by site in float64: y over its largest entry, and the log of that."""
    middle, sites = len(cores) // 2, len(cores)
    state = torch.ones((len(x), 1, 1), dtype=torch.float64)  # sample, label, bond
    total = torch.zeros(len(x), dtype=torch.float64)
    for k, core in enumerate(cores):
        left = 1 if not k else core.shape[0]
        right = 1 if k == sites - 1 else core.shape[-1]
        label = core.shape[2 if k else 1] if k == middle else 1
        full = core.reshape(left, x.shape[-1], label, right)
        state = torch.einsum("bla,bi,aimr->blmr", state, x[:, k], full).flatten(1, 2)
        largest = state.detach().abs().amax((1, 2), keepdim=True)
        state, total = state / largest, total + largest.flatten().log()
    return state.squeeze(-1), total


def logarithm(pair: tuple[torch.Tensor, torch.Tensor]) -> torch.Tensor:
    """log|y| of each entry, in float64."""
    mantissa, log_scale = pair
    return mantissa.abs().log().double() + log_scale.unsqueeze(-1)


def pair_of(layer: tn.Layer, *inputs: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """A call, whose result is a pair."""
    result = layer(*inputs)
    assert isinstance(result, tuple)
    return result


def scaled_program(layer: tn.Layer) -> ScaledProgram:
    """The program that serves all sizes of a layer from now on."""
    (ranged,) = layer._programs_for(layer.dtype)
    assert isinstance(ranged.main, ScaledProgram)
    ranged.replace_range(BatchRange(), ranged.main)
    return ranged.main


# -- partition functions and norms ---------------------------------------------------------------


def check_partition_function(
    layer: tn.Layer, right: torch.Tensor, slope: torch.Tensor, relative: float = 1e-6
) -> None:
    """log Z and its gradient, with respect to the one matrix."""
    mantissa, log_scale = pair_of(layer)
    assert mantissa.shape == (1,) and 0.5 <= mantissa.item() < 1
    assert log_scale.shape == () and log_scale.dtype == torch.float64
    log_z = logarithm((mantissa, log_scale))
    assert log_z.item() == pytest.approx(right.item(), rel=relative)
    log_z.sum().backward()
    gradient = layer.get_parameter("W0").grad
    assert gradient is not None and gradient.dtype == layer.dtype
    torch.testing.assert_close(gradient.double(), slope, rtol=20 * relative, atol=0)


def test_the_partition_function_of_ising() -> None:
    """log Z of 11 x 11 spins near the critical point in float32, and d log Z / dW."""
    w = torch.tensor(boltzmann(BETA), requires_grad=True)
    right = ising_log_z(ISING_SIDE, w)
    assert right.item() == pytest.approx(108.772389, rel=1e-8)
    (slope,) = torch.autograd.grad(right, w)
    net = ising(ISING_SIDE, BETA)
    layer = tn.Layer(net, dtype=torch.float32, backend="torch", effort="fast", log_scale=True)
    check_partition_function(layer, right, slope)
    with torch.no_grad():
        assert logarithm(pair_of(layer)).item() == pytest.approx(right.item(), rel=1e-6)


@needs_compiler
def test_the_partition_function_of_ising_compiled() -> None:
    """The same for 6 x 6 spins with matrices of 1e30 as compiled kernels: log Z moves by log 1e30
    a bond."""
    w = torch.tensor(boltzmann(BETA), requires_grad=True)
    right = ising_log_z(6, w)
    (slope,) = torch.autograd.grad(right, w)
    layer = tn.Layer(ising(6, BETA), backend="cpp", effort="fast", log_scale=True)
    build_spans(layer)
    with torch.no_grad():
        layer.get_parameter("W0").mul_(1e30)
    check_partition_function(layer, right + 60 * math.log(1e30), slope * 1e-30)


def test_a_ring_of_hundreds() -> None:
    """log Z of a ring of 600 spins in float32, whose Z is 4e293, and its gradient."""
    n, value = 600, boltzmann(1.0)
    right = n * math.log(2 * math.cosh(1)) + math.log1p(math.tanh(1) ** n)
    power = np.linalg.matrix_power(value / np.linalg.norm(value), n - 1)
    slope = n * power.T / np.trace(power @ value)
    layer = tn.Layer(ring(n, value), backend="torch", effort="fast", log_scale=True)
    check_partition_function(layer, torch.tensor(right), torch.tensor(slope))


def test_equal_spans_are_one_program() -> None:
    """A ring of matrices of one shape needs a handful of programs, however long it is."""
    n = 100
    net = tn.Network("ring of its own matrices")
    net.output()
    net.bond(**{f"s{k}": 2 for k in range(n)})
    for k in range(n):
        net.tensor(f"W{k}", [f"s{k}", f"s{(k + 1) % n}"])
    layer = tn.Layer(net, backend="torch", effort="fast", log_scale=True)
    program = scaled_program(layer)
    fine = {id(own) for _, own in program.fine}
    assert len(program.fine) == n - 1 and len(fine) < 20


@pytest.mark.parametrize("kind", ["float32", "complex64"])
def test_norms_of_states(kind: str) -> None:
    """The norm of a matrix product state over 100 sites, and its gradients."""
    dtype, sites, bond = KINDS[kind], 100, 4
    net = tn.Network("norm")
    net.output()
    for k in range(sites):
        net.bond(**{f"p{k}": 2}, **({f"a{k}": bond, f"b{k}": bond} if k else {}))
        for copied, letter in enumerate("ab"):
            left, right = [f"{letter}{k}"], [f"{letter}{k + 1}"]
            legs = [*(left if k else []), f"p{k}", *(right if k < sites - 1 else [])]
            share: dict[str, Any] = {"share": f"A{k}", "conj": True} if copied else {}
            net.tensor(f"{'C' if copied else 'A'}{k}", legs, **share)
    layer = tn.Layer(net, dtype=dtype, backend="torch", effort="fast", log_scale=True)
    random = np.random.default_rng(5)
    with torch.no_grad():
        for k in range(sites):
            array = layer.get_parameter(f"A{k}")
            entries = 30 * random_array(random, tuple(array.shape), dtype.is_complex)
            array.copy_(torch.from_numpy(entries))
    wide = torch.complex128 if dtype.is_complex else torch.float64
    cores = [layer.get_parameter(f"A{k}").detach().to(wide).requires_grad_() for k in range(sites)]
    right = log_norm(cores)
    slopes = torch.autograd.grad(right, cores)
    log_z = logarithm(pair_of(layer))
    assert right.item() > 88  # beyond float32
    assert log_z.item() == pytest.approx(right.item(), rel=1e-6)
    log_z.sum().backward()
    for k, slope in enumerate(slopes):
        found = layer.get_parameter(f"A{k}").grad
        assert found is not None
        torch.testing.assert_close(
            found.to(wide), slope, rtol=1e-4, atol=1e-4 * float(slope.abs().max())
        )


def log_norm(cores: list[torch.Tensor]) -> torch.Tensor:
    """The log of a state's squared norm, site by site in double precision."""
    state = torch.ones((1, 1), dtype=cores[0].dtype)
    total = torch.zeros((), dtype=torch.float64)
    for k, core in enumerate(cores):
        full = core.reshape(1 if not k else core.shape[0], 2, -1)
        state = torch.einsum("ab,apc,bpd->cd", state, full, full.conj())
        largest = state.detach().abs().max()
        state, total = state / largest, total + largest.log()
    return state.sum().abs().log() + total


@pytest.mark.parametrize("sites", [64, 200])
def test_product_states_in_float32(sites: int) -> None:
    """A matrix product state gives each sample its own scale, from 1e-50 to 1e50, with the
    gradients of log|y| for cores and features."""
    torch.manual_seed(sites)
    layer = tn.Layer(
        product_state_train(sites, 5), batch=8, backend="torch", effort="fast", log_scale=True
    )
    with torch.no_grad():
        for parameter in layer.parameters():
            parameter.normal_()
    size = torch.logspace(-50 / sites, 50 / sites, 6)
    x = (torch.randn(6, sites, 2) * size[:, None, None]).requires_grad_()
    cores = [p.detach().double().requires_grad_() for p in layer.parameters()]
    again = x.detach().double().requires_grad_()
    state, total = log_of_train(again, cores)
    right = state.abs().log() + total.unsqueeze(-1)
    mantissa, log_scale = pair_of(layer, x)
    assert mantissa.shape == (6, 3) and log_scale.shape == (6,)
    peaks = mantissa.abs().amax(-1)
    assert ((peaks >= 0.5) & (peaks < 1)).all()
    assert log_scale.max() - log_scale.min() > 200
    found = logarithm((mantissa, log_scale))
    torch.testing.assert_close(found, right, rtol=0, atol=1e-4 * state.abs().amin().item() ** -1)
    weights = torch.softmax(right.detach(), -1)  # small where y is, as its rounding is not
    (found * weights).sum().backward()
    expected = torch.autograd.grad((right * weights).sum(), [again, *cores])
    for tensor, slope in zip([x, *layer.parameters()], expected, strict=True):
        assert tensor.grad is not None
        scale = slope.abs().max().item()
        torch.testing.assert_close(tensor.grad.double(), slope, rtol=1e-3, atol=1e-3 * scale)


def test_what_shrinks_is_right_too() -> None:
    """A chain of gates, two of which shrink a state by 1e10, ends right: values that vanish within
    a span are found by scaling after every contraction."""
    gates = 40
    net = tn.Network("chain")
    legs = net.input([2])
    for k in range(gates):
        legs = net.tensor(f"A{k}", legs, out=(2,), value=np.diag([1.0, 1e-10][:: 1 - 2 * (k % 2)]))
    net.output(legs)
    layer = tn.Layer(net, backend="torch", effort="fast", batch=4, log_scale=True)
    x = torch.tensor([[0.0, 1.0], [2.0, 1.0], [0.0, -3.0]])
    mantissa, log_scale = pair_of(layer, x)
    found = logarithm((mantissa, log_scale))
    low = gates * math.log(1e-10) / 2
    assert found[0, 1].item() == pytest.approx(low, rel=1e-6)
    assert found[1, 0].item() == pytest.approx(low + math.log(2), rel=1e-6)
    assert found[2, 1].item() == pytest.approx(low + math.log(3), rel=1e-6)
    assert mantissa[2, 1] < 0 and (mantissa[[0, 2], 0] == 0).all()
    mantissa[0, 1].log().backward()
    slope = layer.get_parameter("A7").grad
    assert slope is not None and slope[1, 1].item() == pytest.approx(1, rel=1e-5)


def test_results_that_are_zero() -> None:
    """A sample that gives 0 has a mantissa of 0, a finite scale, and finite gradients; the others
    are as if it were not there."""
    torch.manual_seed(0)
    layer = tn.Layer(
        product_state_train(40, 3), batch=8, backend="torch", effort="fast", log_scale=True
    )
    x = torch.rand(3, 40, 2)
    alone = pair_of(layer, x[[0, 2]])
    x[1, 20] = 0
    x.requires_grad_()
    mantissa, log_scale = pair_of(layer, x)
    assert (mantissa[1] == 0).all() and log_scale.isfinite().all()
    torch.testing.assert_close(mantissa[[0, 2]], alone[0])
    torch.testing.assert_close(log_scale[[0, 2]], alone[1])
    mantissa.sum().backward()
    assert x.grad is not None and x.grad.isfinite().all()


# -- random networks -----------------------------------------------------------------------------


class Trial:
    """A random network with arrays that are 1e30 or 1e-30 times (1e200 in double precision) what
    the oracle is asked about."""

    def __init__(self, case: Case, dtype: torch.dtype, backend: str) -> None:
        self.case, self.graph, self.dtype = case, case.net.freeze(), dtype
        self.random = np.random.default_rng(case.seed)
        self.single = torch.finfo(dtype).bits == 32
        self.layer = tn.Layer(case.net, dtype=dtype, backend=backend, batch=16, log_scale=True)
        self.program = scaled_program(self.layer)
        stored = fill(self.layer, self.graph, self.random, dtype.is_complex)
        self.stored = stored
        self.inputs = draw_inputs(
            self.graph, case, case.lead, self.random, dtype.is_complex, self.single
        )
        freeze_some(self.layer, self.inputs, case.frozen)
        most = 30 if self.single else 200
        self.digits = {name: int(self.random.choice([-most, most])) for name in stored}

    @property
    def mask(self) -> tuple[bool, ...]:
        """Which gradients the call will ask for."""
        found = self.layer._stored.of(self.layer)
        arrays = [*self.inputs, *(found[n] for n in self.program.parameter_order)]
        return tuple(array.requires_grad for array in arrays)

    def cut(self, bits: float, compiled: str | None = None) -> None:
        """Scale more often than the dtype needs: these networks are small."""
        self.program.spans = self.program._with_programs(spans(self.program.plan, bits), compiled)

    def check(self) -> None:
        """Value and gradients against the oracle."""
        uses = Counter(tensor.share or tensor.name for tensor in self.graph.tensors)
        digits = sum(count * self.digits[name] for name, count in uses.items())
        with torch.no_grad():
            for name, power in self.digits.items():
                self.layer._stored.of(self.layer)[name].mul_(10.0**power)
        mantissa, log_scale = pair_of(self.layer, *self.inputs)
        wide = mantissa.to(torch.complex128 if self.dtype.is_complex else torch.float64)
        # In float64 the power of ten alone costs digits where it is large.
        y = wide * torch.exp(log_scale - digits * math.log(10)).unsqueeze(-1)
        close = y.to(self.dtype) if self.single else y
        check_forward(self.graph, close, self.inputs, self.stored)
        if y.requires_grad:
            slope = torch.from_numpy(random_array(self.random, tuple(y.shape), y.is_complex()))
            y.backward(slope)
            for name, parameter in self.layer.named_parameters():
                if parameter.grad is not None:
                    parameter.grad.mul_(10.0 ** self.digits[name])
            check_backward(self.layer, self.graph, self.inputs, self.stored, slope)


@pytest.mark.parametrize("count", short_and_full(16, 40))
@pytest.mark.parametrize("bits", [0, 3])
@pytest.mark.parametrize("kind", KINDS)
def test_random_networks_of_large_and_small_tensors(kind: str, bits: int, count: int) -> None:
    """Value and gradients of random networks whose tensors are scaled by 1e30 or 1e-30 are the
    oracle's, however often they are scaled on the way."""
    dtype = KINDS[kind]
    several = 0
    for case in collect(dtype.is_complex, 7100 + bits, count):
        trial = Trial(case, dtype, "torch")
        trial.cut(bits)
        several += len(trial.program.spans) > 1
        trial.check()
    assert several > count / 3


@needs_compiler
@pytest.mark.parametrize("count", short_and_full(6, 15))
@pytest.mark.parametrize("kind", ["float32", "complex128"])
def test_random_networks_compiled(kind: str, count: int) -> None:
    """The same through compiled kernels."""
    dtype = KINDS[kind]
    trials = [Trial(case, dtype, "cpp") for case in collect(dtype.is_complex, 7200, count)]
    builds: list[tuple[CppProgram, tuple[bool, ...]]] = []
    for trial in trials:
        trial.program._programs = {}  # a program each, for each has kernels of its own name
        trial.cut(2, "cpp")
        builds += cpp_builds(trial.program, trial.mask)
    assert len(builds) > 2 * len(trials)
    build_together(builds)
    for trial in trials:
        trial.check()


def cpp_builds(
    program: ScaledProgram, mask: tuple[bool, ...]
) -> list[tuple[CppProgram, tuple[bool, ...]]]:
    """The compiled programs of the spans, with every mask that a call needs at once."""
    found: dict[CppProgram, tuple[bool, ...]] = {}
    for own, wanted in program._builds(mask):
        assert isinstance(own, CppProgram)
        before = found.get(own, wanted)
        found[own] = tuple(a or b for a, b in zip(before, wanted, strict=True))
    return list(found.items())


def build_spans(layer: tn.Layer) -> None:
    """Compile all that a training step of a layer needs, in few units."""
    program = scaled_program(layer)
    build_together(cpp_builds(program, program.training_mask()))


@needs_nvrtc
@pytest.mark.parametrize("name", ["train", "shared", "norm"])
def test_cuda_kernels(emulated_gpu: ctypes.CDLL, name: str) -> None:
    """Spans run as CUDA kernels, between which values are scaled; value and gradients are those of
    the network in double precision."""
    del emulated_gpu
    nets: dict[str, Callable[[], tn.Network]] = {
        "train": lambda: topologies.tensor_train((2,) * 6, (2,) * 6, rank=3),
        "shared": shared,
        "norm": lambda: ring(30, boltzmann(0.7)),
    }
    net = nets[name]()
    program = tn.compile(
        net, backend="cuda", arch="sm_90", minimize="flops", effort="fast", log_scale=True
    )
    assert isinstance(program, ScaledProgram)
    program.spans = program._with_programs(spans(program.plan, 4), "cuda")
    assert len(program.spans) > 1
    assert all(isinstance(own, CudaProgram) for _, own in program.spans)
    exact = tn.compile(net, backend="torch", dtype="float64", effort="fast")
    torch.manual_seed(1)
    graph = net.freeze()
    inputs = [torch.randn(5, graph.in_features, requires_grad=True) for _ in graph.inputs]
    arrays = {p.name: torch.rand(p.shape) + 0.1 for p in graph.parameters}
    large = {name: (array * 1e30).requires_grad_() for name, array in arrays.items()}
    count = len(graph.tensors)
    mantissa, log_scale = program(*inputs, parameters=large)
    assert len(launches()) >= len(program.spans)
    y = mantissa * torch.exp(log_scale - count * math.log(1e30)).unsqueeze(-1)
    slope = torch.randn_like(y)
    found = torch.autograd.grad(y, [*inputs, *large.values()], slope)
    double = {name: array.double().requires_grad_() for name, array in arrays.items()}
    again = [x.detach().double().requires_grad_() for x in inputs]
    right = exact(*again, parameters=double)
    expected = torch.autograd.grad(right, [*again, *double.values()], slope)
    torch.testing.assert_close(y.detach(), right.detach(), rtol=1e-4, atol=1e-5)
    uses = [1.0] * len(inputs) + [1e30] * len(large)
    for one, other, factor in zip(found, expected, uses, strict=True):
        scale = other.abs().max().item()
        torch.testing.assert_close(one.double() * factor, other, rtol=1e-4, atol=1e-5 * scale)


def shared() -> tn.Network:
    """A chain with one tensor twice."""
    net = tn.Network("shared")
    (b,) = net.tensor("A", net.input([4]), out=(4,))
    (c,) = net.tensor("B", [b], out=(4,))
    (d,) = net.tensor("A2", [c], out=(4,), share="A")
    net.output([d])
    return net


@needs_compiler
def test_mixed_plans() -> None:
    """Spans run on the backend of the region that their steps lie in."""
    net = topologies.mera(6, 2, 2)
    plan = tn.compile(net, backend="torch", minimize="flops").plan
    at = sorted(cuts(plan))[1]
    regions = (BackendSpan("cpp", at), BackendSpan("torch", len(batched_steps(plan)) - at))
    program = tn.compile(net, backend="torch", minimize="flops", log_scale=True)
    plan = replace(program.plan, regions=regions).verify()
    mixed = ScaledProgram(program.graph, plan, program.tensor_names)
    assert [span.backend for span, _ in mixed.spans] == ["cpp", "torch"]
    assert [own.backend for _, own in mixed.spans] == ["cpp", "torch"]
    torch.manual_seed(2)
    arrays = {p.name: torch.randn(p.shape) for p in net.freeze().parameters}
    x = torch.randn(5, 64)
    for one, other in zip(mixed(x, parameters=arrays), program(x, parameters=arrays), strict=True):
        torch.testing.assert_close(one, other)


# -- the pass ------------------------------------------------------------------------------------


def test_spans_hold_every_contraction_once() -> None:
    """Spans have all contractions of a plan, each once; of few bits none sums more; each starts
    from inputs and from results of spans before it."""
    plan = tn.plan(ising(5, BETA), minimize="flops", effort="fast")
    for bits in (0, 4, 12, 1000):
        parts = spans(plan, bits)
        known = {value.name for value in plan.inputs}
        total = 0
        for span in parts:
            assert set(span.sources) <= known
            known.add(span.result)
            contractions = [s for s in span.plan.steps if isinstance(s, Contract)]
            total += len(contractions)
            sizes = span.plan.sizes
            grown = [
                max(1.0, sum(math.log2(sizes[leg]) for leg in step.summed_legs))
                for step in contractions
            ]
            assert sum(grown) <= bits or len(contractions) == 1
        assert total == sum(isinstance(step, Contract) for step in plan.steps)
        assert parts[-1].result == plan.outputs[0].operand.value.name
    # Where no product is used twice, one span may hold all.
    own = tn.plan(tn.topologies.tensor_train((2,) * 5, (2,) * 5, rank=2))
    assert len(spans(own, 1000)) == 1


def test_what_is_used_twice_is_a_span() -> None:
    """A value that two steps read is made and scaled once, and counts as often in the scale."""
    plan = tn.plan(ring(64, boltzmann(1.0)), effort="fast")
    twice = {name for name, count in degrees(plan).items() if count > 1}
    assert twice & {span.result for span in spans(plan, 1000)}


def test_degrees_count_factors() -> None:
    """A parameter enters y as often as nodes share it."""
    plan = tn.plan(ring(7, boltzmann(1.0)), effort="fast")
    assert degrees(plan)[plan.parameters[0].name] == 7


# -- beside the kernels --------------------------------------------------------------------------


@pytest.fixture(scope="module")
def small() -> tn.Layer:
    """A train whose y is beyond float32, made once; tests do not change it."""
    torch.manual_seed(3)
    net = topologies.tensor_train((2,) * 6, (2,) * 6, rank=3)
    layer = tn.Layer(net, batch=8, backend="torch", log_scale=True)
    with torch.no_grad():
        for parameter in layer.parameters():
            parameter.mul_(1e20)
    return layer


def double_of(layer: tn.Layer) -> tn.Layer:
    """The same network without log_scale in float64, where y fits."""
    wide = tn.Layer(layer.graph, batch=8, backend="torch", dtype=torch.float64)
    wide.load_state_dict({name: p.double() for name, p in layer.state_dict().items()})
    return wide


def close_to(
    pair: tuple[torch.Tensor, torch.Tensor], right: torch.Tensor, relative: float = 1e-5
) -> None:
    """The pair is y."""
    y = pair[0].double() * pair[1].exp().unsqueeze(-1)
    torch.testing.assert_close(
        y.detach(), right.detach(), rtol=relative, atol=relative * float(right.detach().abs().max())
    )


@pytest.mark.parametrize("lead", [(), (1,), (7,), (2, 3), (0,), (2, 0)])
def test_leading_dimensions(small: tn.Layer, lead: tuple[int, ...]) -> None:
    """The mantissa has y's shape, log_scale the leading dimensions."""
    x = torch.randn(*lead, 64)
    mantissa, log_scale = pair_of(small, x)
    assert mantissa.shape == (*lead, 64) and log_scale.shape == lead
    if x.numel():
        close_to((mantissa, log_scale), double_of(small)(x.double()))


def test_gradients_of_both_uses(small: tn.Layer) -> None:
    """With the scale as a constant, log|mantissa| + log_scale and mantissa * exp(log_scale) have
    the gradients of log|y| and of y."""
    wide = double_of(small)
    x = torch.randn(4, 64)
    for use in (
        lambda m, s: (m.abs().log() + s.unsqueeze(-1)).sum(),
        lambda m, s: (m.double() * (s - 250).exp().unsqueeze(-1)).sum(),
    ):
        given = x.clone().requires_grad_()
        use(*pair_of(small, given)).backward()
        again = x.double().requires_grad_()
        y = wide(again)
        use(y, torch.zeros(4, dtype=torch.float64)).backward()
        assert given.grad is not None and again.grad is not None
        torch.testing.assert_close(given.grad.double(), again.grad, rtol=1e-3, atol=1e-2)
    for parameter in small.parameters():
        parameter.grad = None


def test_programs_return_the_pair(small: tn.Layer) -> None:
    """tn.compile(log_scale=True) gives (mantissa, log_scale) of a batch, and 0-dimensional ones."""
    program = tn.compile(small.graph, batch=8, backend="torch", log_scale=True)
    x = torch.randn(5, 64)
    parameters = dict(small.named_parameters())
    mantissa, log_scale = program(x, parameters=parameters)
    assert mantissa.shape == (5, 64) and log_scale.shape == (5,)
    close_to((mantissa, log_scale), double_of(small)(x.double()))
    again = pickle.loads(pickle.dumps(program))
    torch.testing.assert_close(again(x, parameters=parameters)[0], mantissa)
    none = tn.compile(ring(5, boltzmann(1.0)), backend="torch", log_scale=True)
    mantissa, log_scale = none(parameters={"W0": torch.eye(2)})
    assert mantissa.shape == (1,) and log_scale.shape == ()
    assert (mantissa.log() + log_scale).item() == pytest.approx(math.log(2))
    with pytest.raises(SpecError, match="expected shape"):
        program(x[:, :60], parameters=parameters)


def test_transforms(small: tn.Layer) -> None:
    """torch.func.vmap and grad, forward mode, double backward and torch.jit.trace give the pair and
    its gradients."""
    wide = double_of(small)
    x = torch.randn(3, 4, 64)
    close_to(torch.func.vmap(small)(x), wide(x.double()))

    def log_of(layer: tn.Layer, one: torch.Tensor) -> torch.Tensor:
        mantissa, log_scale = pair_of(layer, one)
        return (mantissa[0].abs().log() + log_scale).double()

    given = x[0, 0]
    right = torch.func.grad(lambda one: wide(one)[0].abs().log())(given.double())
    found = torch.func.grad(lambda one: log_of(small, one))(given)
    torch.testing.assert_close(found.double(), right, rtol=1e-3, atol=1e-3)
    found_along: Any = torch.func.jvp(lambda one: log_of(small, one), (given,), (given,))
    along = found_along[1]
    assert along.item() == pytest.approx(1, rel=1e-4)  # log|y| of t x has the derivative 1
    again = given.clone().requires_grad_()
    (first,) = torch.autograd.grad(log_of(small, again), again, create_graph=True)
    (second,) = torch.autograd.grad(first @ given, again)
    torch.testing.assert_close(second, -first.detach(), rtol=1e-2, atol=1e-3)  # homogeneous
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch.jit itself is deprecated
        traced: Any = torch.jit.trace(small, (x[0],))
    close_to(traced(x[1]), wide(x[1].double()))


def test_export_and_torch_compile(small: tn.Layer) -> None:
    """torch.export and torch.compile without a graph break give the pair."""
    x = torch.randn(4, 64)
    right = double_of(small)(x.double())
    exported = torch.export.export(small, (x,))
    close_to(exported.module()(x), right)
    compiled = torch.compile(small, backend="eager", fullgraph=True)
    close_to(compiled(x), right)


def test_autocast(small: tn.Layer) -> None:
    """Under autocast the layer computes in its own dtype."""
    x = torch.randn(4, 64)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        mantissa, log_scale = pair_of(small, x)
    assert mantissa.dtype == torch.float32
    close_to((mantissa, log_scale), double_of(small)(x.double()))


def test_copies(small: tn.Layer) -> None:
    """deepcopy and pickle keep log_scale."""
    x = torch.randn(4, 64)
    for other in (copy.deepcopy(small), pickle.loads(pickle.dumps(small))):
        torch.testing.assert_close(pair_of(other, x), pair_of(small, x))
    assert "log_scale=True" in repr(small)
    assert "powers of two" in small.explain()
    assert "divided by a power of two" in small.source()


def test_half_precision() -> None:
    """bfloat16 and float16 layers give the partition function within their rounding."""
    w = torch.tensor(boltzmann(BETA))
    right = ising_log_z(5, w).item()
    for dtype, relative in ((torch.bfloat16, 0.02), (torch.float16, 0.005)):
        layer = tn.Layer(
            ising(5, BETA), dtype=dtype, backend="torch", effort="fast", log_scale=True
        )
        assert logarithm(pair_of(layer)).item() == pytest.approx(right, rel=relative)


def test_sums_and_bias() -> None:
    """Several networks and the bias are added at one scale, also where one of them is 0 or far
    larger than the others."""
    torch.manual_seed(4)
    first, second = topologies.low_rank(6, 4, 2), topologies.low_rank(6, 4, 3)
    second = renamed(second, 6, 4, 3)
    layer = tn.Layer([first, second], bias=True, batch=8, backend="torch", log_scale=True)
    wide = tn.Layer([first, second], bias=True, batch=8, backend="torch", dtype=torch.float64)
    names = [name for name, _ in layer.named_parameters()]
    x = torch.randn(5, 6)
    for powers in ((0, 0, 0), (10, 10, 15), (20, -20, 0), (-25, -25, -50), (-20, -20, -35)):
        with torch.no_grad():
            for name in names:
                which = 2 if name == "bias" else int(name in ("C", "D"))
                layer.get_parameter(name).normal_().mul_(10.0 ** powers[which])
        wide.load_state_dict({n: p.double() for n, p in layer.state_dict().items()})
        right = wide(x.double())
        close_to(pair_of(layer, x), right)
        layer.zero_grad()
        wide.zero_grad()
        largest = right.detach().abs().amax(-1, keepdim=True)
        mantissa, log_scale = pair_of(layer, x)
        (mantissa.double() * log_scale.exp().unsqueeze(-1) / largest).sum().backward()
        (right / largest).sum().backward()
        for name in names:
            found, slope = layer.get_parameter(name).grad, wide.get_parameter(name).grad
            assert found is not None and slope is not None
            if 1e-30 < slope.abs().max() < 1e30:
                scale = float(slope.abs().max())
                torch.testing.assert_close(found.double(), slope, rtol=1e-4, atol=1e-4 * scale)
    with torch.no_grad():
        layer.get_parameter(names[0]).zero_()
        layer.get_parameter("bias").zero_()
    wide.load_state_dict({n: p.double() for n, p in layer.state_dict().items()})
    close_to(pair_of(layer, x), wide(x.double()))
    mantissa, log_scale = pair_of(layer, torch.zeros(2, 6))
    assert (mantissa == 0).all() and log_scale.isfinite().all()


@pytest.mark.parametrize("lead", [(0,), (2, 0), (0, 3)])
@pytest.mark.parametrize("bias", [False, True])
def test_sums_of_no_samples(lead: tuple[int, ...], bias: bool) -> None:
    """A batch of 0 has the shapes of any other, forward and backward."""
    first, second = topologies.low_rank(6, 4, 2), renamed(topologies.low_rank(6, 4, 3), 6, 4, 3)
    for nets in (first, [first, second]):
        layer = tn.Layer(nets, bias=bias, backend="torch", log_scale=True)
        mantissa, log_scale = pair_of(layer, torch.zeros(*lead, 6))
        assert (mantissa.shape, log_scale.shape) == ((*lead, 4), lead)
        mantissa.sum().backward()
        assert all(not p.grad.any() for p in layer.parameters() if p.grad is not None)


def renamed(net: tn.Network, in_features: int, out_features: int, rank: int) -> tn.Network:
    """low_rank with other names."""
    del net
    other = tn.Network("other")
    other.input(i=in_features)
    other.output(j=out_features)
    other.bond(a=rank)
    other.tensor("C", "i a")
    other.tensor("D", "a j")
    return other


def test_symbolic_trace() -> None:
    """torch.fx takes a layer within a module as one node; the layer itself it cannot trace, and a
    SpecError says so."""
    layer = tn.Layer(topologies.low_rank(6, 4, 2), backend="torch", log_scale=True)
    x = torch.randn(3, 6)
    traced = torch.fx.symbolic_trace(torch.nn.Sequential(layer))
    torch.testing.assert_close(traced(x), pair_of(layer, x))
    with pytest.raises(SpecError, match="cannot look into log_scale"):
        torch.fx.symbolic_trace(layer)


def test_to_dense() -> None:
    """The dense matrix is that of the network, as long as it fits."""
    layer = tn.Layer(topologies.low_rank(6, 4, 2), backend="torch", log_scale=True)
    plain = tn.Layer(topologies.low_rank(6, 4, 2), backend="torch")
    plain.load_state_dict(layer.state_dict())
    torch.testing.assert_close(layer.to_dense(), plain.to_dense())


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"memory_limit": 10**9}, "memory_limit=1000000000"),
        ({"log_scale": 1}, "expected True or False"),
    ],
)
def test_what_is_refused(options: dict[str, Any], words: str) -> None:
    """What cannot be had with log_scale is a SpecError that names it, of Layer and of compile."""
    net = topologies.low_rank(6, 4, 2)
    given: dict[str, Any] = {"log_scale": True, **options}
    makers: tuple[Any, ...] = (tn.Layer, tn.compile)
    for make in makers:
        with pytest.raises(SpecError, match=words):
            make(net, **given)
    with pytest.raises(SpecError, match="tensor_cores"):
        tn.compile(net, backend="cuda", log_scale=True, tensor_cores="tf32")


def test_constants_out_of_range_between_free_tensors() -> None:
    """Constants whose product overflows float32 are no reason to refuse a layer that scales: its
    free tensors make up for them, and y has the size of x."""
    count = 12
    net = tn.Network("constants")
    (leg,) = net.input([3])
    for k in range(count):
        (leg,) = net.tensor(f"C{k}", [leg], out=(3,), value=1e30 * np.eye(3), trainable=False)
        if k % 4 == 3:
            for n in range(4):
                (leg,) = net.tensor(f"A{k}_{n}", [leg], out=(3,))
    net.output([leg])
    torch.manual_seed(6)
    layer = tn.Layer(net, backend="torch", batch=8, effort="fast", log_scale=True)
    x = torch.eye(3)
    mantissa, log_scale = pair_of(layer, x)
    y = mantissa.double() * log_scale.exp().unsqueeze(-1)
    assert float(y.detach().square().sum()) / 3 == pytest.approx(1, rel=1e-3)


# -- without it ----------------------------------------------------------------------------------


def test_an_overflow_of_given_values_is_told() -> None:
    """A layer whose values make y too large warns when it is called, with the size of y; so does
    one whose values make it 0; a program says so when it is compiled."""
    net = ring(400, boltzmann(1.0))
    layer = tn.Layer(net, backend="torch", effort="fast", dtype=torch.float32)
    with pytest.warns(RuntimeWarning, match=r"too large for float32: 1e\+19\d.*log_scale=True"):
        assert layer().isinf().all()
    with pytest.warns(RuntimeWarning, match="too large for float32"):
        tn.compile(net, backend="torch", effort="fast")
    layer = tn.Layer(ring(400, boltzmann(1.0) / 20), backend="torch", effort="fast")
    with pytest.warns(RuntimeWarning, match=r"too small for float32: 1e-3\d\d"):
        assert (layer() == 0).all()


def test_an_overflow_of_a_constant_on_the_way_is_told() -> None:
    """Constants whose product is harmless but not what is between them: the warning says so."""
    net = tn.Network("constants")
    net.output()
    net.bond(a=2, b=2, c=2)
    for name, legs, size in (("A", "c a", 1e30), ("B", "a b", 1e30), ("C", "b c", 1e-30)):
        net.tensor(name, legs, value=np.full((2, 2), size), trainable=False)
    net.tensor("D", "", value=np.array(1e-30), trainable=False)
    layer = tn.Layer(net, backend="torch", dtype=torch.float32)
    found: list[str] = []
    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always")
        y = layer()
        found = [str(one.message) for one in told]
    assert y.isfinite().all() != bool(found)
    scaled = tn.Layer(net, backend="torch", dtype=torch.float32, log_scale=True)
    assert logarithm(pair_of(scaled)).item() == pytest.approx(math.log(8))


def test_no_warning_where_nothing_overflows() -> None:
    """A layer whose values fit, one that was moved to a dtype that holds y, and one whose values
    were replaced do not warn."""
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        tn.Layer(ring(50, boltzmann(1.0)), backend="torch", effort="fast")()
        layer = tn.Layer(ring(400, boltzmann(1.0)), backend="torch", effort="fast")
        assert layer.double()().isfinite().all()
        layer = layer.float()
        with torch.no_grad():
            layer.get_parameter("W0").copy_(torch.eye(2))
        assert layer().item() == 2
