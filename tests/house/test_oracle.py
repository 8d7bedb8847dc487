"""The oracle is itself held against loops in plain Python, finite sums and torch's autograd."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
import torch

from tests.support import oracle
from tnlayer.graph.graph import ArrayValue, Graph, Port, TensorNode


def build(
    sizes: dict[str, int],
    tensors: dict[str, str],
    x: str | None = None,
    y: str = "",
    inputs: tuple[Port, ...] = (),
    **fixed: int,
) -> Graph:
    """A graph of one-letter legs; a trailing * marks a conjugate, "name=owner" a sharer."""
    nodes: list[TensorNode] = []
    for key, legs in tensors.items():
        name, _, owner = key.rstrip("*").partition("=")
        nodes.append(TensorNode(name, tuple(legs), owner or None, conj=key.endswith("*")))
    ports = inputs if x is None else (Port("x", tuple(x)),)
    legs, pins = tuple(sizes.items()), tuple(fixed.items())
    return Graph("", legs, ports, tuple(y), tuple(nodes), fixed=pins)


TENSOR_TRAIN = build(
    {"i": 2, "j": 3, "k": 2, "l": 3, "a": 4}, {"A": "ika", "B": "ajl"}, x="ij", y="kl"
)
GRAPHS = {
    "matrix": build({"i": 3, "j": 2}, {"A": "ij"}, x="i", y="j"),
    "tensor train": TENSOR_TRAIN,
    "hyperedge": build({"i": 3, "a": 2, "j": 2}, {"A": "ia", "B": "ja", "C": "a"}, x="i", y="j"),
    "hyperedge to output": build({"i": 3, "j": 2}, {"A": "ij", "B": "j"}, x="ij", y="j"),
    "trace": build({"i": 3, "a": 2}, {"A": "aia"}, x="i"),
    "diagonal": build({"i": 3, "j": 2}, {"A": "iij"}, x="i", y="j"),
    "diagonal of x": build({"i": 3, "j": 2}, {"A": "ij"}, x="iji", y="j"),
    "pass-through": build({"i": 3, "j": 2, "k": 2}, {"A": "ij"}, x="ik", y="jk"),
    "one-ended sums": build({"i": 3, "j": 2, "a": 2}, {"A": "ja"}, x="i", y="j"),
    "disconnected": build({"i": 2, "j": 2, "a": 3}, {"A": "ij", "B": "a", "C": "a"}, x="i", y="j"),
    "scalars": build({"i": 2}, {"A": "", "B": "", "C=A": ""}, x="i", y="i"),
    "size 1": build({"i": 1, "j": 2, "a": 1}, {"A": "ia", "B": "aj"}, x="i", y="j"),
    "no tensors": build({"i": 2, "j": 3}, {}, x="ij", y="ji"),
    "no inputs": build({"i": 2, "j": 3}, {"A": "ij", "B": "i"}, y="j"),
    "nothing": build({}, {}),
    "no outputs": build({"i": 2}, {"A": "i"}, x="i"),
    "shared": build({"i": 2, "j": 2, "k": 2}, {"A": "ij", "B=A": "kj"}, x="i", y="k"),
    "shared diagonal": build({"i": 2}, {"A": "ii", "B=A": "ii"}, x="i", y="i"),
    "shared conjugate": build({"i": 2, "j": 2, "k": 2}, {"A": "ij", "B=A*": "kj"}, x="i", y="k"),
    "fixed": build({"i": 2, "j": 3}, {"A": "ij"}, x="i", y="j", j=2),
    "fixed pass-through": build({"i": 2, "j": 3}, {"A": "i"}, x="ij", y="j", j=1),
    "fixed for all sharers": build(
        {"i": 2, "j": 3, "k": 2, "l": 3}, {"A": "ij", "B=A": "kl"}, x="ijkl", j=2, l=2
    ),
    "fixed for one sharer": build(
        {"i": 2, "j": 3, "k": 2, "l": 3}, {"A": "ij", "B=A*": "kl"}, x="ijkl", j=2
    ),
    "fixed apart": build(
        {"i": 2, "j": 3, "k": 2, "l": 3}, {"A": "ij", "B=A": "kl"}, x="ijkl", j=2, l=0
    ),
    "two inputs": build(
        {"i": 2, "j": 3, "k": 2},
        {"A": "ijk"},
        y="k",
        inputs=(Port("x", ("i",)), Port("z", ("j",))),
    ),
    "unbatched input": build(
        {"i": 2, "j": 3},
        {"A": "ij"},
        y="j",
        inputs=(Port("x", ("i",)), Port("z", ("i", "j"), batched=False)),
    ),
    "only unbatched": build(
        {"i": 2, "j": 3}, {"A": "ij"}, y="j", inputs=(Port("z", ("i", "j"), batched=False),)
    ),
    "product input": build(
        {"i": 3, "j": 3, "k": 2},
        {"A": "ijk"},
        y="k",
        inputs=(Port("x", ("i", "j"), product=True),),
    ),
    "unbatched product input, a leg twice": build(
        {"i": 3, "k": 2},
        {"A": "ik"},
        y="k",
        inputs=(Port("x", ("i", "i"), product=True, batched=False),),
    ),
}


def arrays_for(
    graph: Graph, lead: tuple[int, ...], kind: str, seed: int = 0
) -> tuple[list[np.ndarray], dict[str, np.ndarray], np.ndarray]:
    """Random inputs, stored arrays and a gradient of y."""
    random = np.random.default_rng(seed)

    def draw(shape: tuple[int, ...]) -> np.ndarray:
        real = random.standard_normal(shape)
        imaginary = random.standard_normal(shape) if kind == "complex" else 0.0
        return np.asarray(real + 1j * imaginary if kind == "complex" else real)

    inputs = [
        draw(((*lead,) if port.batched else ()) + oracle.input_shapes(graph)[port.name])
        for port in graph.inputs
    ]
    stored = {name: draw(shape) for name, shape in oracle.stored_shapes(graph).items()}
    return inputs, stored, draw(oracle.evaluate(graph, inputs, stored).shape)


def by_loops(
    graph: Graph, inputs: list[np.ndarray], stored: dict[str, np.ndarray], lead: tuple[int, ...]
) -> np.ndarray:
    """The definition, term by term: every value of every leg, one sample at a time."""
    sizes, fixed = dict(graph.leg_sizes), dict(graph.fixed)
    pins = oracle.stored_pins(graph)
    legs = list(sizes)
    out_dims = [sizes[leg] for leg in graph.output if leg not in fixed]
    some_batched = any(port.batched for port in graph.inputs)
    y = np.zeros((*(lead if some_batched else ()), math.prod(out_dims)), np.complex128)
    ranges = [[fixed[leg]] if leg in fixed else range(sizes[leg]) for leg in legs]
    for sample in np.ndindex(*(lead if some_batched else ())):
        for values in itertools.product(*ranges):
            at = dict(zip(legs, values, strict=True))
            term = 1.0 + 0j
            for port, x in zip(graph.inputs, inputs, strict=True):
                mine = x[sample] if port.batched else x
                open_legs = [leg for leg in port.legs if leg not in fixed]
                index = [at[leg] for leg in open_legs]
                if port.product:
                    term *= math.prod([mine[k, i] for k, i in enumerate(index)], start=1.0 + 0j)
                else:
                    term *= mine.reshape([sizes[leg] for leg in open_legs])[tuple(index)]
            for tensor in graph.tensors:
                owner = tensor.share or tensor.name
                kept = zip(tensor.legs, pins[owner], strict=True)
                entry = stored[owner][tuple(at[leg] for leg, pin in kept if pin is None)]
                term *= np.conj(entry) if tensor.conj else entry
            flat = [at[leg] for leg in graph.output if leg not in fixed]
            y[(*sample, np.ravel_multi_index(flat, out_dims) if flat else 0)] += term
    return y


@pytest.mark.parametrize("kind", ["real", "complex"])
@pytest.mark.parametrize("lead", [(), (2,), (2, 1), (0,)], ids=str)
@pytest.mark.parametrize("name", GRAPHS)
def test_equals_loops_over_all_legs(name: str, lead: tuple[int, ...], kind: str) -> None:
    """The oracle must equal the sum written out term by term."""
    graph = GRAPHS[name]
    inputs, stored, _ = arrays_for(graph, lead, kind)
    y = oracle.evaluate(graph, inputs, stored)
    expected = by_loops(graph, inputs, stored, lead)
    assert y.shape == expected.shape
    np.testing.assert_allclose(y, expected, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("name", GRAPHS)
def test_pairs_equal_one_call(name: str) -> None:
    """Contraction in pairs, for what numpy cannot do at once, must equal one call of einsum."""
    graph = GRAPHS[name]
    inputs, stored, _ = arrays_for(graph, (3,), "complex")
    at_once = oracle.evaluate(graph, inputs, stored, whole=True)
    in_pairs = oracle.evaluate(graph, inputs, stored, whole=False)
    np.testing.assert_allclose(in_pairs, at_once, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("kind", ["real", "complex"])
@pytest.mark.parametrize("name", GRAPHS)
def test_gradient_is_that_of_finite_differences(name: str, kind: str) -> None:
    """The gradient must be dL/dRe + i dL/dIm of L = Re(sum(conj(g) * y)), entry by entry."""
    graph = GRAPHS[name]
    inputs, stored, grad_y = arrays_for(graph, (2,), kind)
    of_inputs, of_stored = oracle.gradients(graph, inputs, stored, grad_y)

    def loss() -> float:
        return float(np.sum(grad_y.conj() * oracle.evaluate(graph, inputs, stored)).real)

    step = 1e-5
    steps = (step, 1j * step) if kind == "complex" else (step,)
    pairs = [*zip(inputs, of_inputs, strict=True), *((stored[k], of_stored[k]) for k in stored)]
    for array, gradient in pairs:
        assert gradient.shape == array.shape
        assert np.iscomplexobj(gradient) == (kind == "complex")
        for index in np.ndindex(*array.shape):
            slope = 0j
            for move in steps:
                keep = array[index]
                array[index] = keep + move
                above = loss()
                array[index] = keep - move
                slope += move / step * (above - loss()) / (2 * step)
                array[index] = keep
            np.testing.assert_allclose(gradient[index], slope, rtol=1e-6, atol=1e-6)


TORCH_CASES = {
    "matrix": (build({"i": 3, "j": 2}, {"A": "ij"}, x="i", y="j"), "bi,ij->bj", [("A", 0)]),
    "tensor train": (TENSOR_TRAIN, "bij,ika,ajl->bkl", [("A", 0), ("B", 0)]),
    "conjugate": (
        build({"i": 2, "j": 3}, {"A*": "ij"}, x="i", y="j"),
        "bi,ij->bj",
        [("A", 1)],
    ),
    "shared conjugate": (
        build({"i": 2, "j": 2, "k": 2}, {"A": "ij", "B=A*": "kj"}, x="i", y="k"),
        "bi,ij,kj->bk",
        [("A", 0), ("A", 1)],
    ),
    "shared, trace and diagonal": (
        build({"i": 3, "a": 2}, {"A": "iaa", "B=A": "iaa", "C": "ii"}, x="ii", y="i"),
        "bii,iaa,iaa,ii->bi",
        [("A", 0), ("A", 0), ("C", 0)],
    ),
}


@pytest.mark.parametrize("kind", ["real", "complex", "real x, complex tensors"])
@pytest.mark.parametrize("name", TORCH_CASES)
def test_gradient_convention_is_that_of_torch(name: str, kind: str) -> None:
    """Value and gradients must equal those of torch.einsum under torch's own autograd."""
    graph, equation, factors = TORCH_CASES[name]
    inputs, stored, _ = arrays_for(graph, (3,), "real" if kind == "real" else "complex")
    if kind.startswith("real x"):
        inputs = [np.real(x).copy() for x in inputs]
    sizes = dict(graph.leg_sizes)
    x = torch.tensor(inputs[0].reshape(3, *(sizes[leg] for leg in graph.inputs[0].legs)))
    x.requires_grad_()
    tensors = {name: torch.tensor(array, requires_grad=True) for name, array in stored.items()}
    operands = [tensors[key].conj() if conj else tensors[key] for key, conj in factors]
    y = torch.einsum(equation, x.to(operands[0].dtype), *operands).flatten(1)
    grad_y = torch.randn(y.shape, dtype=y.dtype, generator=torch.Generator().manual_seed(0))
    y.backward(grad_y)
    np.testing.assert_allclose(oracle.evaluate(graph, inputs, stored), y.detach(), rtol=1e-12)
    of_inputs, of_stored = oracle.gradients(graph, inputs, stored, grad_y.numpy())
    assert np.iscomplexobj(of_inputs[0]) == np.iscomplexobj(inputs[0])
    compared = [(x, of_inputs[0]), *((tensors[key], of_stored[key]) for key in tensors)]
    for tensor, gradient in compared:
        assert tensor.grad is not None
        expected = tensor.grad.resolve_conj().reshape(gradient.shape)
        np.testing.assert_allclose(gradient, expected, rtol=1e-12, atol=1e-13)


@pytest.mark.parametrize("name", GRAPHS)
def test_stored_shapes_are_those_of_the_graph(name: str) -> None:
    """What the oracle works out from the legs must be what the Graph says of its parameters."""
    graph = GRAPHS[name]
    assert oracle.stored_shapes(graph) == {p.name: p.shape for p in graph.parameters}
    assert oracle.stored_pins(graph) == {p.name: p.pins for p in graph.parameters}
    for port in graph.inputs:
        assert oracle.input_shapes(graph)[port.name] == graph.input_shape(port)


def test_sharer_keeps_a_slice_that_another_needs() -> None:
    """A slice may go only if every sharer pins that axis at that index."""
    assert oracle.stored_shapes(GRAPHS["fixed for all sharers"]) == {"A": (2,)}
    assert oracle.stored_shapes(GRAPHS["fixed for one sharer"]) == {"A": (2, 3)}
    assert oracle.stored_shapes(GRAPHS["fixed apart"]) == {"A": (2, 3)}


def test_stored_value_is_the_kept_slice() -> None:
    """Of a value at full shape only the slice at the fixed index is stored."""
    value = np.arange(6.0).reshape(2, 3)
    node = TensorNode("A", ("i", "j"), value=ArrayValue(value))
    ports = (Port("x", ("i",)),)
    graph = Graph("", (("i", 2), ("j", 3)), ports, ("j",), (node,), fixed=(("j", 1),))
    np.testing.assert_array_equal(oracle.stored_values(graph)["A"], [1.0, 4.0])
    y = oracle.evaluate(graph, [np.array([2.0, 3.0])], oracle.stored_values(graph))
    np.testing.assert_array_equal(y, [14.0])


def test_many_legs_go_in_pairs() -> None:
    """A chain with more labels than one call of einsum can hold must still be right."""
    count = 70
    legs = [f"e{number}" for number in range(count + 1)]
    nodes = tuple(TensorNode(f"M{n}", (legs[n], legs[n + 1])) for n in range(count))
    sizes = tuple((leg, 2) for leg in legs)
    graph = Graph("", sizes, (Port("x", (legs[0],)),), (legs[-1],), nodes)
    inputs, stored, _ = arrays_for(graph, (3,), "real")
    expected = inputs[0]
    for node in nodes:
        expected = expected @ stored[node.name]
    np.testing.assert_allclose(oracle.evaluate(graph, inputs, stored), expected, rtol=1e-10)


def test_assert_close_sees_a_wrong_entry() -> None:
    """One wrong entry, one wrong shape and one NaN must each be refused."""
    expected = np.ones(4)
    oracle.assert_close(expected, expected, expected, "y")
    for wrong in (np.array([1, 1, 1, 1.001]), np.ones((4, 1)), np.array([1, 1, np.nan, 1])):
        with pytest.raises(AssertionError, match="y"):
            oracle.assert_close(wrong, expected, expected, "y")
