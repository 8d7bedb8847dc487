"""What a report says of a batch size agrees with what it says of ranges, and with what runs."""

from __future__ import annotations

import random

import pytest

import tnlayer as tn
from tnlayer import topologies as T
from tnlayer.planning.planner import plan_graph
from tnlayer.planning.request import Request

BATCHES = (1, 3, 7, 16, 32, 50, 100, 256, 700, 5000)
# 15 and 20 were slower at batch 3 than the plan of their range, by the order of what is stored.
FEW = (*range(12), 15, 20)
ALL = tuple(seed for seed in range(100) if seed not in FEW)


def drawn(seed: int) -> tn.Network:
    """A topology with sizes and bonds at random."""
    choose = random.Random(seed)
    legs, bond = choose.choice((3, 4, 5, 6)), choose.choice((2, 3, 4, 8))
    side, bits = choose.choice((4, 8, 16)), (2,) * legs
    match choose.randrange(9):
        case 0:
            return T.tensor_train(bits, bits, bond)
        case 1:
            return T.tensor_train((side,) * 2, (side,) * 2, bond)
        case 2:
            return T.tree(legs, 2, min(bond, 4))
        case 3:
            return T.mera(4 if legs < 6 else 6, 2, min(bond, 3))
        case 4:
            return T.btt((side, side), (side, side), bond)
        case 5:
            return T.kronecker((side, side), (side, side), bond)
        case 6:
            return T.low_rank(side * 8, side * 4, bond)
        case 7:
            return T.tensor_ring(bits, bits, min(bond, 3))
        case _:
            return T.tucker((side, 4), (4, side), 3)


def check(seed: int) -> None:
    """A network at all batch sizes."""
    net = drawn(seed)
    for batch in BATCHES:
        check_report(tn.cost(net, batch=batch, effort="fast"), batch)
        request = Request(batch=batch, effort="fast")
        named, ranged = plan_graph(net, request), plan_graph(net, request, whole_range=True)
        own, other = (p.lowered.seconds(batch).total for p in (named, ranged))
        assert own <= 1.1 * other, (batch, own, other)
        assert ranged.choice.batches.covers(type(ranged.choice.batches)(batch, batch))


def check_report(cost: tn.Cost, batch: int) -> None:
    """The batch sizes that are said to be faster than dense are those where the times beside it
    say so."""
    found = cost.break_even()
    assert found is not None
    dense = cost.predicted("dense")
    assert dense is not None
    for name, ranges in (("training", found.training), ("inference", found.inference)):
        ours, theirs = getattr(cost.fastest, name), getattr(dense, name)
        inside = any(low <= batch and (high is None or batch <= high) for low, high in ranges)
        assert inside == (ours < theirs), (name, batch, ranges, ours, theirs)


@pytest.mark.parametrize("seed", FEW)
def test_a_report_agrees_with_itself(seed: int) -> None:
    """No batch size is dense's in one line and the network's in the next; a plan for one size is
    not slower there than that of its range."""
    check(seed)


@pytest.mark.full
@pytest.mark.parametrize("seed", ALL)
def test_more_reports_agree(seed: int) -> None:
    """The same for the rest of a hundred networks."""
    check(seed)
