"""Random networks, forward and gradient, against the oracle: 1,000 always, 10,000 with -m full."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable

import numpy as np
import pytest
import torch
from hypothesis import given

import tnlayer as tn
from tests.support import oracle
from tests.support.strategies import LEADS, Case, cases, fixed_series, networks, random_array
from tnlayer import topologies
from tnlayer.graph.graph import Graph, Port

KINDS = {"float64": torch.float64, "complex128": torch.complex128}
SHARDS, CASES_A_SHARD = 5, 100
FULL_SHARDS, CASES_A_FULL_SHARD = 10, 500


def run_examples(
    check: Callable[[Case], None], is_complex: bool, first_seed: int, count: int
) -> None:
    """Run a check on a fixed series of random cases, and make sure that none was left out."""
    seen = 0

    @fixed_series(first_seed, count)
    @given(case=cases(is_complex))
    def check_one(case: Case) -> None:
        nonlocal seen
        seen += 1
        check(case)

    check_one()
    assert seen >= count, f"only {seen} of {count} cases were tried"


# -- what one case checks ----------------------------------------------------------------------


def laid_out(array: np.ndarray, layout: str) -> torch.Tensor:
    """A tensor with these entries in an unusual layout; what lies between them is NaN.

    An expanded one repeats its first entries, for else it could not have stride 0.
    """
    x = torch.from_numpy(np.array(array))
    if layout == "strided" and x.ndim:
        wide = torch.full((*x.shape[:-1], 2 * x.shape[-1]), torch.nan, dtype=x.dtype)
        wide[..., ::2] = x
        return wide[..., ::2]
    if layout == "transposed" and x.ndim > 1:
        return x.transpose(0, -1).contiguous().transpose(0, -1)
    if layout == "expanded" and x.ndim and x.shape[0]:
        return x[:1].expand_as(x)
    if layout == "offset":
        padded = torch.full((x.numel() + 3,), torch.nan, dtype=x.dtype)
        padded[3:] = x.flatten()
        return padded[3:].view(x.shape)
    return x


def draw_inputs(
    graph: Graph,
    case: Case,
    lead: tuple[int, ...],
    random: np.random.Generator,
    is_complex: bool,
    single: bool = False,
) -> list[torch.Tensor]:
    """One input a port; in a complex network about half of those that may be real are real.

    In single precision if ``single``, where a port names no other dtype, else in double.
    """

    def draw(port: Port, layout: str) -> torch.Tensor:
        shape = (*(lead if port.batched else ()), *oracle.input_shapes(graph)[port.name])
        dtype_is_complex = is_complex and (port.dtype is not None or random.random() < 0.5)
        entries = random_array(random, shape, dtype_is_complex)
        if single and port.dtype is None:
            entries = entries.astype(np.complex64 if dtype_is_complex else np.float32)
        return laid_out(entries, layout)

    return [draw(port, layout) for port, layout in zip(graph.inputs, case.layouts, strict=False)]


def fill(
    layer: tn.Layer, graph: Graph, random: np.random.Generator, is_complex: bool
) -> dict[str, np.ndarray]:
    """Check what the layer stores, put random entries into all but constants, return a copy."""
    state = layer.state_dict()
    assert {name: tuple(t.shape) for name, t in state.items()} == oracle.stored_shapes(graph)
    for name, value in oracle.stored_values(graph).items():
        entries = state[name].numpy()
        np.testing.assert_array_equal(entries, value.astype(entries.dtype))
    assert {name for name, _ in layer.named_buffers()} == {
        t.name for t in graph.tensors if t.value is not None and not t.trainable
    }
    with torch.no_grad():
        for _, parameter in layer.named_parameters():
            entries = random_array(random, tuple(parameter.shape), is_complex)
            parameter.copy_(torch.from_numpy(entries))
    return {name: numpy_of(tensor) for name, tensor in layer.state_dict().items()}


def freeze_some(layer: tn.Layer, inputs: list[torch.Tensor], frozen_seed: int) -> None:
    """Let all inputs and parameters take gradients, save a random subset."""
    random = np.random.default_rng(frozen_seed)
    trainable = {name for name, p in layer.named_parameters() if p.requires_grad}
    assert trainable == {t.name for t in layer.graphs[0].tensors if t.share is None and t.trainable}
    for tensor in (*inputs, *(layer.get_parameter(name) for name in sorted(trainable))):
        tensor.requires_grad_(frozen_seed == 0 or random.random() < 0.5)


def numpy_of(tensor: torch.Tensor) -> np.ndarray:
    """The entries, copied; in double precision, as the oracle computes."""
    wide = torch.complex128 if tensor.is_complex() else torch.float64
    return tensor.detach().resolve_conj().to(wide, copy=True).numpy()


def allowed(dtype: torch.dtype) -> float:
    """The largest error that the oracle's comparison allows, as a part of the terms' sizes."""
    return 1e-10 if torch.finfo(dtype).bits == 64 else 1e-5


def check_forward(
    graph: Graph, y: torch.Tensor, inputs: list[torch.Tensor], stored: dict[str, np.ndarray]
) -> None:
    """The value of y must be the oracle's."""
    arrays = [numpy_of(x) for x in inputs]
    magnitude = oracle.evaluate(
        graph, [np.abs(x) for x in arrays], {name: np.abs(w) for name, w in stored.items()}
    )
    expected = oracle.evaluate(graph, arrays, stored)
    oracle.assert_close(numpy_of(y), expected, magnitude, "y", allowed(y.dtype))


def check_backward(
    layer: tn.Layer,
    graph: Graph,
    inputs: list[torch.Tensor],
    stored: dict[str, np.ndarray],
    grad_y: torch.Tensor,
) -> None:
    """Each gradient must be the oracle's, and there must be none where none was asked for."""
    arrays, slope = [numpy_of(x) for x in inputs], numpy_of(grad_y)
    of_inputs, of_stored = oracle.gradients(graph, arrays, stored, slope)
    sizes_of_inputs, sizes_of_stored = oracle.gradients(
        graph,
        [np.abs(x) for x in arrays],
        {name: np.abs(w) for name, w in stored.items()},
        np.abs(slope),
    )
    compared = [
        *zip([p.name for p in graph.inputs], inputs, of_inputs, sizes_of_inputs, strict=True),
        *((n, p, of_stored[n], sizes_of_stored[n]) for n, p in layer.named_parameters()),
    ]
    for name, tensor, expected, magnitude in compared:
        if not tensor.requires_grad:
            assert tensor.grad is None, f"{name} is frozen and has a gradient"
            continue
        assert tensor.grad is not None, f"{name} has no gradient"
        assert tensor.grad.dtype == tensor.dtype
        # A real array in a complex network has the real part of its complex gradient.
        real = expected if tensor.is_complex() else np.real(expected)
        what = f"gradient of {name}"
        oracle.assert_close(numpy_of(tensor.grad), real, magnitude, what, allowed(layer.dtype))


def check_case(case: Case, dtype: torch.dtype, backend: str = "torch") -> None:
    """Value, gradients, and the value once more at another batch size without gradients."""
    graph, is_complex = case.net.freeze(), dtype.is_complex
    random = np.random.default_rng(case.seed)
    layer = tn.Layer(case.net, dtype=dtype, backend=backend)
    assert layer.graphs == (graph,)
    stored = fill(layer, graph, random, is_complex)
    inputs = draw_inputs(graph, case, case.lead, random, is_complex)
    freeze_some(layer, inputs, case.frozen)
    y = layer(*inputs)
    assert y.dtype == dtype
    check_forward(graph, y, inputs, stored)
    takers = [*inputs, *layer.parameters()]
    assert y.requires_grad == any(tensor.requires_grad for tensor in takers)
    if y.requires_grad:
        slope = random_array(random, tuple(y.shape), is_complex)
        grad_y = laid_out(slope, case.layouts[-1])
        y.backward(grad_y)
        check_backward(layer, graph, inputs, stored, grad_y)
    other_lead = LEADS[case.seed % len(LEADS)]
    inputs = draw_inputs(graph, case, other_lead, random, is_complex)
    with torch.no_grad():
        check_forward(graph, layer(*inputs), inputs, stored)


# -- the tests ---------------------------------------------------------------------------------


@pytest.mark.parametrize("shard", range(SHARDS))
@pytest.mark.parametrize("kind", KINDS)
def test_random_networks_equal_the_oracle(kind: str, shard: int) -> None:
    """Value and all gradients of a random network must be the oracle's: 1,000 cases in all."""
    dtype = KINDS[kind]
    run_examples(
        lambda case: check_case(case, dtype), dtype.is_complex, 1000 + shard, CASES_A_SHARD
    )


@pytest.mark.full
@pytest.mark.parametrize("shard", range(FULL_SHARDS))
@pytest.mark.parametrize("kind", KINDS)
def test_many_random_networks_equal_the_oracle(kind: str, shard: int) -> None:
    """The same for 10,000 other cases."""
    dtype = KINDS[kind]
    run_examples(
        lambda case: check_case(case, dtype), dtype.is_complex, 2000 + shard, CASES_A_FULL_SHARD
    )


# More tensors than are searched exhaustively, so that the plan comes from a seeded search.
MANY_TENSORS: dict[str, Callable[[], tn.Network]] = {
    "brickwall": lambda: topologies.brickwall(6, dim=2, depth=6),
    "mera": lambda: topologies.mera(9, dim=2, bond=3, fix_first_level=True),
    "tensor_ring": lambda: topologies.tensor_ring((2, 1) * 7, (1, 2) * 7, 2),
    "peps": lambda: topologies.peps(4, 4, dim=1, bond=2),
    "block_term": lambda: topologies.block_term((2,) * 6, (2,) * 6, terms=2, rank=2),
}


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("name", MANY_TENSORS)
def test_networks_of_many_tensors_equal_the_oracle(name: str, kind: str, backend: str) -> None:
    """Value and all gradients of networks of more than twelve tensors must be the oracle's."""
    net = MANY_TENSORS[name]()
    assert len(net.freeze().tensors) > 12
    check_case(
        Case(net, lead=(2,), layouts=("contiguous",), frozen=0, seed=1), KINDS[kind], backend
    )


def features_of(graph: Graph) -> set[str]:
    """What is special about a graph, of the things that the random cases must contain."""
    nodes = [*(t.legs for t in graph.tensors), *(p.legs for p in graph.inputs), graph.output]
    ends = Counter(leg for legs in nodes for leg in set(legs))
    axes = Counter(leg for legs in nodes for leg in legs)
    fixed = dict(graph.fixed)
    groups = {leg: {leg} for leg in ends}
    for legs in nodes:
        joined = set().union(*(groups[leg] for leg in legs), legs)
        groups.update(dict.fromkeys(joined, joined))
    input_legs = {leg for port in graph.inputs for leg in port.legs}
    sharers = [t for t in graph.tensors if t.share is not None]
    found = {
        "hyperedge": any(count > 2 for count in ends.values()),
        "trace": any(axes[leg] == 2 and count == 1 for leg, count in ends.items()),
        "diagonal": any(axes[leg] > count > 1 for leg, count in ends.items()),
        "three ends on one tensor": any(t.legs.count(e) > 2 for t in graph.tensors for e in t.legs),
        "leg twice on an input": any(len(set(p.legs)) < len(p.legs) for p in graph.inputs),
        "shared": bool(sharers),
        "shared conjugate": any(t.conj != graph.nodes[t.share or ""].conj for t in sharers),
        "shared and fixed": any(leg in fixed for t in sharers for leg in t.legs),
        "fixed input": any(leg in input_legs for leg in fixed),
        "fixed output": any(leg in graph.output for leg in fixed),
        "size 1": any(size == 1 for _, size in graph.leg_sizes),
        "disconnected": len({frozenset(group) for group in groups.values()}) > 1,
        "several inputs": len(graph.inputs) > 1,
        "mixed batch": len({port.batched for port in graph.inputs}) > 1,
        "only unbatched": bool(graph.inputs) and not any(p.batched for p in graph.inputs),
        "product port": any(port.product for port in graph.inputs),
        "complex port": any(port.dtype is not None for port in graph.inputs),
        "constant": any(t.value is not None and not t.trainable for t in graph.tensors),
        "first value": any(t.value is not None and t.trainable for t in graph.tensors),
        "frozen": any(t.value is None and not t.trainable for t in graph.tensors),
        "scalar": any(not t.legs for t in graph.tensors),
        "summed": bool(graph.summed),
        "pass-through": any(leg in input_legs for leg in graph.output),
        "no tensors": not graph.tensors,
        "no inputs": not graph.inputs,
        "no outputs": not graph.output,
        "six tensors": len(graph.tensors) == 6,
        "wires": any("." in leg for leg, _ in graph.leg_sizes),
    }
    return {name for name, is_found in found.items() if is_found}


def test_random_networks_contain_every_feature() -> None:
    """Among 500 random networks each feature of a network must occur at least five times."""
    seen: Counter[str] = Counter()

    @fixed_series(3000, 500, shrink=False)
    @given(net=networks(is_complex=True))
    def count(net: tn.Network) -> None:
        graph = net.freeze()
        assert oracle.loop_space(graph) <= 20_000
        seen.update(features_of(graph))

    count()
    everything = features_of(Graph("", (), (), (), ()))
    assert "no tensors" in everything
    rare = {name: seen[name] for name in FEATURES if seen[name] < 5}
    assert not rare, f"too rare: {rare}"


FEATURES = (
    "hyperedge", "trace", "diagonal", "three ends on one tensor", "leg twice on an input",
    "shared", "shared conjugate", "shared and fixed", "fixed input", "fixed output", "size 1",
    "disconnected", "several inputs", "mixed batch", "only unbatched", "product port",
    "complex port", "constant", "first value", "frozen", "scalar", "summed", "pass-through",
    "no tensors", "no inputs", "no outputs", "six tensors", "wires",
)  # fmt: skip
