"""What a cost foresees is what a layer takes: both plan for the machine that one finder found."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import pytest
import torch
from hypothesis import given

import tnlayer as tn
from tests.support.strategies import DEFAULT_BOUNDS, fixed_series, networks
from tnlayer.hardware.cpu import Cpu
from tnlayer.lowering.cpu.supported_plans import can_fuse
from tnlayer.planning.planner import PlannedGraph

COUNT = 50


@pytest.fixture(params=[1, 3])
def threads(request: pytest.FixtureRequest) -> Iterator[int]:
    """Another number of torch's threads than kernels were once foreseen for."""
    before = torch.get_num_threads()
    torch.set_num_threads(request.param)
    yield request.param
    torch.set_num_threads(before)


def planned_of(net: tn.Network, batch: int) -> PlannedGraph:
    """What a layer of a network runs at a batch size."""
    layer = tn.Layer(net, batch=batch, device="meta", effort="fast")
    (cost,) = layer.costs()
    return cost.planned


def some_networks() -> list[tn.Network]:
    """Random networks, the same in every run."""
    found: list[tn.Network] = []

    @given(networks(False, DEFAULT_BOUNDS))
    def collect(net: tn.Network) -> None:
        found.append(net)

    fixed_series(31, COUNT, shrink=False)(collect)()
    return found[:COUNT]


def test_cost_and_layer_agree(threads: int) -> None:
    """Backend, CPU and plan of 50 networks are the same, whatever the number of threads."""
    found = 0
    for number, net in enumerate(some_networks()):
        batch = (1, 16, 64)[number % 3]
        foreseen, taken = tn.cost(net, batch=batch, effort="fast").planned, planned_of(net, batch)
        assert foreseen.request == taken.request, net
        assert foreseen.plan == taken.plan, net
        assert foreseen.request.cpu is None or foreseen.request.cpu.threads == threads
        found += 1
    assert found == COUNT


def test_narrow_vectors_fit_larger_plans() -> None:
    """The partial sums of a CPU with narrow vectors take less room: it can fuse what one with wide
    ones cannot."""
    plan = tn.plan(tn.topologies.low_rank(2**13, 2**13, rank=2**11), minimize="combo-4")
    wide, narrow = Cpu(64, 32), Cpu(16, 16)
    assert "partial sums" in can_fuse(plan, wide)
    assert can_fuse(plan, narrow) == ""
    assert can_fuse(plan, replace(narrow, threads=1)) == ""
