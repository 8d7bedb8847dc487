"""The cpp backend's rounding errors beside those of torch's own arithmetic in the same dtype."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from torch.autograd import gradcheck

import tnlayer as tn
from tests.support.cpp_units import build_together, has_compiler, programs_of
from tests.support.small_topologies import ALIKE, NETWORKS, filled
from tests.support.strategies import SMALL_BOUNDS, fixed_series, networks
from tnlayer import topologies

pytestmark = pytest.mark.skipif(not has_compiler(), reason="no C++ compiler")

HALF = {"bfloat16": torch.bfloat16, "float16": torch.float16}
RANDOM, FULL_RANDOM = 14, 60
SERIES = [(7000, RANDOM), pytest.param(7001, FULL_RANDOM, marks=pytest.mark.full)]
# Draws of weights and inputs for each network.
DRAWS = 12


def test_every_topology_is_held_to_torch() -> None:
    """A topology that is added must come into the list of networks, or be like one of them."""
    names = {"ring": "tensor_ring"}
    listed = {names.get(name, name) for name in NETWORKS}
    assert set(ALIKE.values()) <= listed
    assert set(topologies.__all__) <= listed | set(ALIKE)


def random_nets(seed: int, count: int) -> list[tn.Network]:
    """A fixed series of small random networks."""
    found: list[tn.Network] = []

    @fixed_series(seed, count, shrink=False)
    @given(net=networks(False, SMALL_BOUNDS))
    def take(net: tn.Network) -> None:
        found.append(net)

    take()
    return found


def errors(
    layer: tn.Layer, net: tn.Network, inputs: list[torch.Tensor]
) -> list[tuple[float, float]]:
    """Errors of y and of each gradient, the layer's and torch's own in the same dtype.

    Measured against float64, as a part of the sum of the terms' absolute values: a sum that cancels
    tells nothing of who adds.
    """
    dtype, wide = layer.dtype, torch.float64
    state = layer.state_dict()
    reference, exact, large = (
        tn.Layer(net, backend="torch", dtype=kind) for kind in (dtype, wide, wide)
    )
    reference.load_state_dict(state)
    exact.load_state_dict({key: value.double() for key, value in state.items()})
    large.load_state_dict({key: value.double().abs() for key, value in state.items()})
    rows: list[list[torch.Tensor]] = []
    slope = torch.randn(layer(*inputs).shape).to(dtype)
    for one in (layer, reference, exact, large):
        positive = one is large
        given_ = [(x.abs() if positive else x).to(one.dtype).requires_grad_() for x in inputs]
        leaves = [*given_, *(p for p in one.parameters() if p.requires_grad)]
        y = one(*given_)
        direction = (slope.abs() if positive else slope).to(one.dtype)
        found = torch.autograd.grad(y, leaves, direction, allow_unused=True)
        rows.append([y.detach(), *(g for g in found if g is not None)])
    assert all(result.dtype == dtype for result in rows[0])

    def error(result: torch.Tensor, true: torch.Tensor, size: torch.Tensor) -> float:
        return float((result.double() - true).norm() / size.norm().clamp_min(1e-300))

    return [(error(a, c, d), error(b, c, d)) for a, b, c, d in zip(*rows, strict=True)]


def root_mean_square(values: list[float]) -> float:
    return (sum(value**2 for value in values) / len(values)) ** 0.5


# The others take a compiler longest.
SMALL = ("tree", "tensor_train", "btt", "cp", "low_rank", "block_term", "odd", "peps")


@pytest.mark.parametrize("names", [SMALL, pytest.param(tuple(NETWORKS), marks=pytest.mark.full)],
                         ids=["small", "all"])  # fmt: skip
@pytest.mark.parametrize("kind", HALF)
def test_half_precision_is_as_exact_as_torch(kind: str, names: tuple[str, ...]) -> None:
    """bfloat16 and float16 in and out: arithmetic is float32, so errors stay below torch's own."""
    layers = {name: filled(NETWORKS[name](), "cpp", HALF[kind]) for name in names}
    programs = [program for layer in layers.values() for program in programs_of(layer)]
    build_together([(program, program.training_mask()) for program in programs])
    for name, layer in layers.items():
        x = torch.randn(19, layer.in_features).to(HALF[kind])
        for ours, own in errors(layer, NETWORKS[name](), [x]):
            # Results that torch rounds once, too, are rounded alike up to ties.
            assert ours <= 1.05 * own, name


@pytest.mark.parametrize(("seed", "count"), SERIES)
def test_random_networks_are_as_exact_as_torch(seed: int, count: int) -> None:
    """In float32, each result: y at most twice, a gradient at most three times torch's own error.

    Both are root mean squares over some draws of weights and inputs. One draw says little: an error
    of half a unit in the last place of a gradient of few entries may be near zero in one of two
    equally good sums, by chance.
    """
    nets = [net for net in random_nets(seed, count) if net.freeze().inputs]
    assert len(nets) > count // 2
    layers = [tn.Layer(net, backend="cpp", dtype=torch.float32) for net in nets]
    programs = [programs_of(layer)[0] for layer in layers]
    build_together([(program, program.training_mask()) for program in programs])
    torch.manual_seed(0)
    for number, (net, layer) in enumerate(zip(nets, layers, strict=True)):
        drawn = [drawn_errors(net, layer) for _ in range(DRAWS)]
        for result, pairs in enumerate(zip(*drawn, strict=True)):
            ours, own = (root_mean_square(list(side)) for side in zip(*pairs, strict=True))
            most = 2 if result == 0 else 3
            assert ours <= most * own, f"result {result} of network {number}: {ours}, not {own}"


def drawn_errors(net: tn.Network, layer: tn.Layer) -> list[tuple[float, float]]:
    """Errors with new weights and inputs."""
    with torch.no_grad():
        for parameter in layer.parameters():
            parameter.copy_(torch.randn(parameter.shape))
    graph = net.freeze()
    inputs = [
        torch.randn(*((33,) if port.batched else ()), *graph.input_shape(port))
        for port in graph.inputs
    ]
    return errors(layer, net, inputs)


@pytest.mark.parametrize(("seed", "count"), SERIES)
def test_gradcheck_on_random_networks(seed: int, count: int) -> None:
    """Compiled gradients of random networks are those of finite differences, in float64."""
    checked = 0
    nets = random_nets(seed + 500, count)
    layers = [tn.Layer(net, backend="cpp", dtype=torch.float64) for net in nets]
    programs = [programs_of(layer)[0] for layer in layers]
    build_together([(p, (True,) * len(p.plan.inputs)) for p in programs])
    for program in programs:
        arrays = [
            torch.randn([2 if n is None else n for n in map(program.plan.axis_size, axes)],
                        dtype=torch.float64, requires_grad=True)
            for axes in map(program.plan.axes_of, program.plan.inputs)
        ]  # fmt: skip
        if not arrays:
            continue

        def call(*arrays: torch.Tensor, program: tn.Program = program) -> torch.Tensor:
            ports = len(program.plan.ports)
            named = dict(zip(program.parameter_order, arrays[ports:], strict=True))
            return program(*arrays[:ports], parameters=named)

        assert gradcheck(call, arrays, fast_mode=True)
        checked += 1
    assert checked > count // 2


@pytest.mark.parametrize("name", ["mera", "tensor_train"])
def test_sums_over_many_samples_are_as_exact_as_torch(name: str) -> None:
    """At 4096 samples each gradient is within three times torch's error: long sums are carried."""
    net = topologies.mera(6) if name == "mera" else topologies.tensor_train((2,) * 6, (2,) * 6, 3)
    torch.manual_seed(0)
    layer = tn.Layer(net, backend="cpp", batch=4096)
    drawn = [errors(layer, net, [torch.randn(4096, 64)]) for _ in range(4)]
    for ours, theirs in (zip(*result, strict=True) for result in zip(*drawn, strict=True)):
        assert root_mean_square(list(ours)) <= 3 * root_mean_square(list(theirs))


@pytest.mark.parametrize(("features", "legs", "rank"), [(2, 10, 4), (4, 5, 8)])
def test_gradients_of_long_trains_are_as_exact_as_torch(
    features: int, legs: int, rank: int
) -> None:
    """Each gradient, a sum over samples and many legs, is within twice torch's error in float32.

    A sample brings thousands of terms to an entry; added one by one to the sum over all samples
    they had up to 8 times torch's error.
    """
    shape = (features,) * legs
    net = topologies.tensor_train(shape, shape, rank)
    torch.manual_seed(0)
    layer = tn.Layer(net, backend="cpp", batch=256, effort="fast")
    (program,) = programs_of(layer)
    build_together([(program, program.training_mask())])
    drawn = [errors(layer, net, [torch.randn(256, layer.in_features)]) for _ in range(2)]
    for ours, theirs in (zip(*result, strict=True) for result in zip(*drawn, strict=True)):
        assert root_mean_square(list(ours)) <= 2 * root_mean_square(list(theirs))


@pytest.mark.crossed
@pytest.mark.parametrize("kind", ["float32", "float64", "complex64", "complex128"])
@pytest.mark.parametrize("lanes", ["legs", "samples"])
def test_carried_sums_lose_no_sample(kind: str, lanes: str) -> None:
    """Gradients of batches around the number of samples after which sums are carried, exactly.

    Entries are small whole numbers, so that all sums are exact in each dtype.
    """
    legs = (2,) * 4 if lanes == "legs" else (3, 5)
    net = topologies.tensor_train(legs, legs, rank=2)
    dtype = getattr(torch, kind)
    layers = [tn.Layer(net, backend=backend, batch=64, dtype=dtype) for backend in ("cpp", "torch")]
    torch.manual_seed(0)
    with torch.no_grad():
        for ours, theirs in zip(*(layer.parameters() for layer in layers), strict=True):
            theirs.copy_(torch.randint(-1, 2, theirs.shape))
            ours.copy_(theirs)
    features = layers[0].in_features
    for batch in (257, 512, 513, 1023, 1024, 2049, 2065, 4113):
        x = torch.randint(-1, 2, (batch, features)).to(dtype)
        found = []
        for layer in layers:
            layer.zero_grad()
            layer(x).real.sum().backward()
            found.append([array.grad for array in layer.parameters()])
        for ours, theirs in zip(*found, strict=True):
            assert torch.equal(ours, theirs), batch
