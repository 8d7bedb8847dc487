"""opt_einsum's own test equations, taken from its test modules at run time, through from_einsum."""

from __future__ import annotations

import itertools
from collections.abc import Sequence

import numpy as np
import pytest
import torch
from opt_einsum.testing import build_shapes
from opt_einsum.tests import test_backends, test_blas, test_contract, test_sharing

import tnlayer as tn
from tests.support import oracle
from tests.support.cpp_units import build_together, has_compiler, programs_of

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


def make_layer(equation: str, inputs: tuple[int, ...], backend: str = "torch") -> tn.Layer:
    """A layer that takes these operands as inputs."""
    net = tn.Network.from_einsum(equation, sizes=SIZES, inputs=inputs, batch=None)
    return tn.Layer(net, dtype=torch.float64, backend=backend)


def run_layer(equation: str, arrays: list[np.ndarray], inputs: tuple[int, ...]) -> None:
    """Compare a new layer that takes these operands as inputs with numpy."""
    check_layer(make_layer(equation, inputs), equation, arrays, inputs)


def check_layer(
    layer: tn.Layer, equation: str, arrays: list[np.ndarray], inputs: tuple[int, ...]
) -> None:
    """Compare a layer with numpy, for each of two samples."""
    rest = [position for position in range(len(arrays)) if position not in inputs]
    assert [t.name for t in layer.graph.tensors] == [f"t_{position}" for position in rest]
    with torch.no_grad():
        for position in rest:
            layer.get_parameter(f"t_{position}").copy_(torch.from_numpy(arrays[position]))
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


def check_compiled(equations: Sequence[str], everything: bool) -> None:
    """Build many layers together, then hold each against numpy."""
    trials: list[tuple[tn.Layer, str, tuple[int, ...]]] = []
    for equation in equations:
        count = len(operands_of(equation))
        choices = [(position,) for position in range(count)]
        chosen = [*choices, tuple(reversed(range(count))), ()] if everything else choices[-1:]
        trials += [(make_layer(equation, inputs, "cpp"), equation, inputs) for inputs in chosen]
    programs = [programs_of(layer)[0] for layer, _, _ in trials]
    build_together([(program, program.nothing) for program in programs])
    for layer, equation, inputs in trials:
        with torch.no_grad():
            check_layer(layer, equation, draw_arrays(equation), inputs)


@pytest.mark.skipif(not has_compiler(), reason="no C++ compiler")
def test_compiled_equals_numpy() -> None:
    """On the cpp backend: each equation, with its last operand as the input."""
    check_compiled(EQUATIONS, everything=False)


@pytest.mark.full
@pytest.mark.skipif(not has_compiler(), reason="no C++ compiler")
@pytest.mark.parametrize("shard", range(4))
def test_compiled_equals_numpy_however_it_is_called(shard: int) -> None:
    """On the cpp backend: whichever operand is x, and with all operands as inputs or none."""
    check_compiled(EQUATIONS[shard::4], everything=True)


def test_ellipsis_is_refused() -> None:
    """An ellipsis has no meaning here, for the batch is the layer's: the error says so."""
    with pytest.raises(tn.SpecError, match="ellipsis"):
        tn.Network.from_einsum("...a,ab->...b", sizes={"a": 2, "b": 3})


def test_greek_letters_are_legs() -> None:
    """opt_einsum takes any letters; so must from_einsum, which makes names of them."""
    alpha, beta, gamma = map(chr, (945, 946, 947))
    equation = f"{alpha}{beta},{beta}{gamma}->{alpha}{gamma}"
    net = tn.Network.from_einsum(equation, sizes={alpha: 2, beta: 2, gamma: 2}, batch=None)
    assert net.parameter_count == 4
    assert (net.in_features, net.out_features) == (4, 4)
