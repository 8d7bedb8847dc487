"""Whether values surely stay in range is told without running a network, and is right."""

from __future__ import annotations

import math
from collections.abc import Callable
from unittest.mock import patch

import pytest
import torch

import tnlayer as tn
from tnlayer.graph.graph import Graph
from tnlayer.nn.initialisation import log_scale_run, measure_variance, variance_rule
from tnlayer.nn.initialisation.log_scale_run import log_scaled
from tnlayer.nn.initialisation.measure_variance import Planned, exact_gain, measure_by_samples
from tnlayer.nn.initialisation.scale_tensors import Range, narrowed, range_of
from tnlayer.nn.initialisation.sure_range import surely_stays_within

T = tn.topologies
LARGE: dict[str, Callable[[], tn.Network]] = {
    "mera": lambda: T.mera(11, 2, 2),
    "train": lambda: T.tensor_train((2,) * 11, (2,) * 11, 3),
    "btt": lambda: T.btt((36, 36), (36, 36), 2),
    "cp": lambda: T.cp((36, 36), (36, 36), 3),
    "tree": lambda: T.tree(11, 2, 2),
}


def planned(graph: Graph) -> Planned:
    """A network with torch's plan."""
    program = tn.compile(graph, backend="torch", effort="fast", batch=4)
    return Planned(graph, program.plan, program.parameter_order)


@pytest.mark.parametrize("name", LARGE)
def test_values_are_as_large_as_bounds_allow(name: str) -> None:
    """The narrowest range that a network surely keeps to has all sizes that are measured, and is
    not wide beyond use: within half of float32's."""
    graph = LARGE[name]().freeze()
    network = planned(graph)
    torch.manual_seed(0)
    stored = {p.name: log_scaled(torch.randn(p.shape)) for p in graph.parameters}
    gain = exact_gain([network], stored)
    assert gain is not None
    for end in range(1, 88):
        room = Range(-float(end), float(end))
        if surely_stays_within(network, stored, gain, room):
            break
    else:
        raise AssertionError
    assert room.high < 44
    (sizes,) = measure_by_samples([network], stored, measure_variance.WHOLE, None, gain).sizes
    for step in network.plan.steps:
        size = sizes[step.result.name]
        assert room.low < size.peak and size.mean_square / 2 < room.high


@pytest.mark.parametrize("name", ["train", "btt"])
def test_entries_are_those_of_a_network_that_was_run(name: str) -> None:
    """A layer of a few tensors is drawn without running its network, with the same entries."""
    net = LARGE[name]()
    torch.manual_seed(0)
    with patch.object(variance_rule, "measure_by_samples", side_effect=AssertionError):
        layer = tn.Layer(net, backend="torch")
    torch.manual_seed(0)
    with patch.object(variance_rule, "surely_stays_within", return_value=False):
        other = tn.Layer(net, backend="torch")
    for one, two in zip(layer.parameters(), other.parameters(), strict=True):
        assert torch.equal(one, two)


def test_what_is_not_sure_is_measured() -> None:
    """Long chains, half precision, several inputs and product ports."""
    room = narrowed(range_of(torch.float32))
    pair = tn.Network("two inputs")
    pair.input("x", {"i": 4})
    pair.input("z", {"k": 4})
    pair.output(o=4)
    pair.tensor("T", "i k o")
    for net, within, sure in (
        (T.tensor_train((2,) * 11, (2,) * 11, 3), room, True),
        (T.tensor_train((2,) * 11, (2,) * 11, 3), narrowed(range_of(torch.float16)), False),
        (T.tensor_train((2, *(1,) * 199), (2, *(1,) * 199), 2), room, False),
        (T.mps_classifier(8, 2, classes=3, bond=2), room, False),
        (pair, room, False),
    ):
        graph = net.freeze()
        network = planned(graph)
        stored = {p.name: log_scaled(torch.randn(p.shape)) for p in graph.parameters}
        assert surely_stays_within(network, stored, 0.0, within) == sure, graph.label


@pytest.mark.parametrize("dtype", [torch.float32, torch.complex64])
def test_products_of_stored_arrays_are_exact_in_their_dtype(dtype: torch.dtype) -> None:
    """The exact gain of single precision is that of the same entries in double to 1e-6, and its
    largest products are made of arrays as they are stored."""
    graph = T.btt((36, 36), (36, 36), 2).freeze()
    network = planned(graph)
    torch.manual_seed(0)
    arrays = {p.name: torch.randn(p.shape, dtype=dtype) for p in graph.parameters}
    seen: list[torch.dtype] = []
    real = torch.matmul

    def counted(left: torch.Tensor, right: torch.Tensor) -> torch.Tensor:
        seen.append(left.dtype)
        return real(left, right)

    with patch.object(log_scale_run.torch, "matmul", counted):
        single = exact_gain([network], {n: log_scaled(array) for n, array in arrays.items()})
    assert seen.count(dtype) == 2
    double = exact_gain(
        [network], {n: log_scaled(log_scale_run.wide(array)) for n, array in arrays.items()}
    )
    assert single is not None and double is not None
    assert math.isclose(single, double, abs_tol=1e-6)
