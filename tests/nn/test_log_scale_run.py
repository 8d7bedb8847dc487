"""A plan run with scales apart: the oracle's values, and none lost to the range of a float."""

from __future__ import annotations

import math
from collections.abc import Mapping

import numpy as np
import pytest
import torch
from hypothesis import given, settings

import tnlayer as tn
from tests.support import oracle
from tests.support.plan_numbers import random_data
from tests.support.strategies import networks
from tnlayer.graph.canonical import canonicalise
from tnlayer.graph.graph import Graph
from tnlayer.nn.initialisation.log_scale_run import LogScaled, Run, log_scaled, run_scaled, total
from tnlayer.planning.plan_of_order import make_plan


def run(graph: Graph, inputs: list[np.ndarray], stored: Mapping[str, np.ndarray]) -> Run:
    """A graph's value by way of a plan of it."""
    form = canonicalise(graph)
    is_complex = any(np.iscomplexobj(array) for array in (*inputs, *stored.values()))
    plan = make_plan(form.graph, dtype="complex128" if is_complex else "float64", effort="fast")
    user = {canonical: name for name, canonical in form.tensor_names.items()}
    arrays = {value.name: as_scaled(stored[user[value.name]]) for value in plan.parameters}
    return run_scaled(plan, [as_scaled(x) for x in inputs], arrays)


def as_scaled(array: np.ndarray) -> LogScaled:
    """An array of numpy, which has a type of its own for one without axes."""
    return log_scaled(torch.from_numpy(np.asarray(array)))


def value(array: LogScaled) -> np.ndarray:
    """The entries, where they are floats."""
    return (array.mantissa * math.exp(array.log)).numpy()


@pytest.mark.parametrize("is_complex", [False, True])
def test_any_network(is_complex: bool) -> None:
    """Hyperedges, traces, shared, conjugated and fixed tensors: what the oracle gives."""

    @settings(max_examples=60)
    @given(networks())
    def check(net: tn.Network) -> None:
        graph = net.freeze()
        if (graph.is_complex and not is_complex) or not (graph.tensors or graph.inputs):
            return
        inputs, stored = random_data(graph, is_complex)
        expected = oracle.evaluate(graph, inputs, stored)
        found = run(graph, inputs, stored)
        np.testing.assert_allclose(value(found.y), expected, rtol=1e-9, atol=1e-6)
        mean = np.mean(np.abs(expected) ** 2)
        if mean > 0:
            assert found.y.size.mean_square == pytest.approx(math.log(mean), abs=1e-9)
            peak = np.abs(expected).max()
            assert found.y.size.peak == pytest.approx(math.log(peak), abs=1e-9)

    check()


@pytest.mark.parametrize("factor", [1e30, 1e-30, 1e300, 5e-324])
def test_no_range_is_left(factor: float) -> None:
    """The product of 400 tensors of entries far from 1 has the logarithm that it must have."""
    net = tn.Network("chain")
    (wire,) = net.input([3])
    for k in range(400):
        (wire,) = net.tensor(f"A{k}", (wire,), out=(3,))
    net.output((wire,))
    one = factor * np.eye(3)
    x = np.array([[1.0, -2.0, 0.0]])
    y = run(net.freeze(), [x], {f"A{k}": one for k in range(400)}).y
    assert y.size.peak == pytest.approx(math.log(2) + 400 * math.log(factor), rel=1e-12)
    np.testing.assert_allclose(y.mantissa / y.mantissa[0, 0], x, rtol=1e-12)


def test_zeros_and_what_is_not_finite() -> None:
    """Zeros have a size of exp(-inf); inf and nan are told as nan, and neither raises."""
    zero, bad = log_scaled(torch.zeros(2, 2)), log_scaled(torch.tensor([1.0, math.inf]))
    assert zero.size.mean_square == zero.size.peak == -math.inf
    assert math.isnan(bad.size.mean_square) and math.isnan(bad.size.peak)
    assert log_scaled(torch.zeros(0)).size.peak == -math.inf


def test_sums() -> None:
    """The sum of arrays of far apart scales is that of the numbers; of zeros it is zero."""
    parts = [log_scaled(torch.tensor([1.0, 2.0]), log) for log in (1000.0, 999.0, -1000.0)]
    y = total(parts)
    assert y.size.peak == pytest.approx(1000 + math.log(2 + 2 / math.e))
    assert total([log_scaled(torch.zeros(2)), log_scaled(torch.ones(2), -900.0)]).size.peak == -900
    assert total([log_scaled(torch.zeros(2)), log_scaled(torch.zeros(2))]).size.peak == -math.inf
