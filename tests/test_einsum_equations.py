"""opt_einsum's own test equations, taken from its test modules at run time, through from_einsum."""

from __future__ import annotations

import itertools

import numpy as np
import oracle
import pytest
import torch
from opt_einsum.testing import build_shapes
from opt_einsum.tests import test_backends, test_blas, test_contract, test_sharing

import tnlayer as tn

# In order and each once. The BLAS list holds operands and output apart.
EQUATIONS = tuple(
    dict.fromkeys(
        [
            *test_contract.tests,
            *test_backends.tests,
            *test_sharing.equations,
            *(f"{','.join(terms)}->{output}" for (terms, output, _), _ in test_blas.blas_tests),
        ]
    )
)
SIZES = dict(zip("abcdefghijklmnopABC", itertools.cycle((2, 3, 2, 4, 3)), strict=False))
LEAD = (2,)
EQUATION_COUNT = 106


def operands_of(equation: str) -> tuple[str, ...]:
    """The letters of each operand."""
    return tuple(equation.partition("->")[0].split(","))


def draw_arrays(equation: str) -> list[np.ndarray]:
    """One random array an operand."""
    random = np.random.default_rng(len(equation))
    shapes = build_shapes(equation, SIZES)
    return [np.asarray(random.standard_normal(shape)) for shape in shapes]


def by_numpy(equation: str, arrays: list[np.ndarray]) -> np.ndarray:
    """What numpy makes of the equation, flat."""
    return np.asarray(np.einsum(equation, *arrays)).reshape(-1)


def run_layer(equation: str, arrays: list[np.ndarray], inputs: tuple[int, ...]) -> None:
    """Compare a layer that takes these operands as inputs with numpy, for each of two samples."""
    net = tn.Network.from_einsum(equation, sizes=SIZES, inputs=inputs)
    layer = tn.Layer(net, dtype=torch.float64, backend="torch")
    rest = [position for position in range(len(arrays)) if position not in inputs]
    graph = net.freeze()
    assert [t.name for t in graph.tensors] == [f"T{position}" for position in rest]
    with torch.no_grad():
        for position in rest:
            layer.get_parameter(f"T{position}").copy_(torch.from_numpy(arrays[position]))
    samples = {
        position: np.stack([arrays[position], 2.0 - arrays[position]]) for position in inputs
    }
    y = layer(*(torch.from_numpy(samples[p]).reshape(*LEAD, -1) for p in inputs))
    y = y.detach().numpy()
    if not inputs:
        y = y[None]
    for number in range(LEAD[0] if inputs else 1):
        chosen = [samples[p][number] if p in inputs else a for p, a in enumerate(arrays)]
        magnitude = by_numpy(equation, [np.abs(array) for array in chosen])
        oracle.assert_close(y[number], by_numpy(equation, chosen), magnitude, equation)


def test_no_equation_is_missing() -> None:
    """All lists of equations must be there: their number is known, and none has an ellipsis."""
    assert len(test_contract.tests) == 70
    assert len(EQUATIONS) == EQUATION_COUNT
    assert not any("." in equation for equation in EQUATIONS)


@pytest.mark.parametrize("equation", EQUATIONS)
def test_equals_numpy_with_each_operand_as_the_input(equation: str) -> None:
    """Whichever operand is x, the layer must be numpy's einsum for every sample."""
    arrays = draw_arrays(equation)
    for position in range(len(arrays)):
        run_layer(equation, arrays, (position,))


@pytest.mark.parametrize("equation", EQUATIONS)
def test_equals_numpy_with_all_operands_as_inputs_or_none(equation: str) -> None:
    """With all operands as inputs (in turned order) there are no parameters, with none no batch."""
    arrays = draw_arrays(equation)
    run_layer(equation, arrays, tuple(reversed(range(len(arrays)))))
    run_layer(equation, arrays, ())


def test_ellipsis_is_refused() -> None:
    """An ellipsis has no meaning here, for the batch is the layer's: the error says so."""
    with pytest.raises(tn.SpecError, match="ellipsis"):
        tn.Network.from_einsum("...a,ab->...b", sizes={"a": 2, "b": 3})


def test_greek_letters_are_legs() -> None:
    """opt_einsum takes any letters; so must from_einsum, which makes names of them."""
    alpha, beta, gamma = map(chr, (945, 946, 947))
    equation = f"{alpha}{beta},{beta}{gamma}->{alpha}{gamma}"
    net = tn.Network.from_einsum(equation, sizes={alpha: 2, beta: 2, gamma: 2})
    assert net.parameter_count == 4
    assert (net.in_features, net.out_features) == (4, 4)
