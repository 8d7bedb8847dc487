"""summary and suggest: tables of what is known before anything runs."""

from __future__ import annotations

import copy
import inspect
from typing import Any

import pytest
import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

import tnlayer as tn
from tnlayer.cli.networks import load_network
from tnlayer.nn.padded import Padded
from tnlayer.report.cost import Cost

T = tn.topologies


class Model(nn.Module):
    """A table tied to the head, a norm, an image part, and layers of ours."""

    def __init__(self) -> None:
        super().__init__()
        self.table = nn.Embedding(12, 8)
        self.first = tn.Layer(T.low_rank(8, 8, rank=2), bias=True, backend="torch")
        self.second = Padded(T.tensor_train((3, 3), (3, 3), rank=2), 8, 8, backend="torch")
        self.norm = nn.LayerNorm(8)
        self.conv = nn.Conv2d(1, 2, 3, groups=1)
        self.head = nn.Linear(8, 12, bias=False)
        self.head.weight = self.table.weight

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y = self.norm(self.second(self.first(self.table(x))))
        return self.head(y) + self.conv(y[:, None]).mean()


X = torch.randint(12, (2, 5))


def test_counts_are_those_of_the_model() -> None:
    """Parameters add up to the model's, tied arrays once; FLOPs are those of the plans, and those
    that torch counts for dense modules."""
    model = Model()
    state = copy.deepcopy(model.state_dict())
    found = tn.summary(model, data=X, objective="infer")
    assert found.total.parameters == sum(array.numel() for array in model.parameters())
    rows = {row.name: row for row in found.rows}
    assert rows["head"].own.parameters == 0
    assert rows["head"].rows == rows["first"].rows == 10
    assert rows["conv"].rows == 2 * 3 * 6
    assert not rows["norm"].is_counted
    assert rows["first"].dense.parameters == 72
    inner = tn.cost(T.low_rank(8, 8, rank=2), batch=10, objective="infer", effort="fast")
    assert rows["first"].own.flops == inner.forward_flops
    dense = nn.Sequential(model.conv, nn.Linear(6, 7))
    x = torch.randn(2, 1, 5, 8)
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        dense(x)
    assert tn.summary(dense, data=x).total.flops == counter.get_total_flops()
    assert found.numbers()["total"]["parameters"] == found.total.parameters
    assert all(torch.equal(array, state[key]) for key, array in model.state_dict().items())
    assert "total" in str(found).splitlines()[-1]


def test_a_layer_is_a_model() -> None:
    """Of a single layer the summary is its cost."""
    layer = tn.Layer(T.tree(4, 2, 2), backend="torch")
    found = tn.summary(layer, batch=32)
    (row,) = found.rows
    cost: Cost = tn.cost(T.tree(4, 2, 2), batch=32, effort="fast")
    assert (row.own.flops, row.own.seconds) == (cost.forward_flops, cost.fastest.training)
    assert row.own.memory == cost.training_peak
    assert row.dense.parameters == 256


def test_the_total_of_memory_is_the_largest_and_says_so() -> None:
    """Layers run one after the other, each with its own peak, so that the row of sums has no sum of
    memory."""
    found = tn.summary(nn.Sequential(nn.Linear(64, 32), nn.Linear(32, 8)), batch=64)
    assert found.total.memory == max(row.own.memory for row in found.rows)
    assert found.total.flops == sum(row.own.flops for row in found.rows)
    last = str(found).splitlines()[-1]
    assert last.startswith("total; KiB: the largest")
    assert last.split()[-2:] == [f"{found.total.memory / 1024:,.0f}"] * 2


def test_wrong_arguments() -> None:
    """No model, no batch, no budget."""
    model = nn.Linear(2, 2)
    for call in (
        lambda: tn.summary(torch.zeros(2)),  # type: ignore[arg-type]
        lambda: tn.summary(model, batch=0),
        lambda: tn.summary(model, objective="x"),  # pyright: ignore[reportArgumentType]
        lambda: tn.summary(model, data=3),
        lambda: tn.suggest(4, 4),
        lambda: tn.suggest(4, 4, compression=2, params=3),
        lambda: tn.suggest(0, 4, compression=2),
        lambda: tn.suggest(4, 4, compression=2, objective="x"),  # pyright: ignore[reportArgumentType]
    ):
        with pytest.raises(tn.SpecError):
            call()


def test_suggestions_keep_the_budget() -> None:
    """Each network keeps it, dense is among them, the fastest comes first, and what cannot keep it
    is named with the reason."""
    topologies: Any = [T.low_rank, T.tensor_train, T.btt, T.monarch, T.kronecker, T.butterfly]
    found = tn.suggest(96, 64, params=500, topologies=topologies, batch=16)
    names = [row.name for row in found.rows]
    left = [name for name, _ in found.left_out]
    assert sorted([*names, *left]) == sorted(["dense", *(one.__name__ for one in topologies)])
    assert left
    seconds = [row.cost.seconds for row in found.rows]
    assert seconds == sorted(seconds)
    assert found.best is found.rows[0]
    for row in found.rows:
        if row.fit is None:
            assert row.cost.parameters == 96 * 64
            continue
        assert row.fit.network().parameter_count == row.cost.parameters <= 500
        counted = tn.cost(row.fit.network(), batch=16, effort="fast")
        assert counted.fastest.training == row.cost.seconds
        assert row.name in str(found)
    assert found.numbers()["rows"][0]["parameters"] == found.best.cost.parameters


def test_suggestions_are_taken_by_number_and_by_what_is_printed() -> None:
    """Rows in their order; each prints as what the command line takes; the best makes a layer."""
    topologies: Any = [T.low_rank, T.tensor_train, T.btt, T.kronecker, T.butterfly, T.peps]
    found = tn.suggest(96, 64, params=2500, topologies=topologies, batch=16)
    assert len(found) == len(list(found)) == len(found.rows)
    assert found[0] is found.best and found[-1] is found.rows[-1]
    said = " ".join(str(found).split())
    for row in found:
        made = row.layer(bias=True)
        assert made(torch.zeros(2, 96)).shape == (2, 64)
        if row.fit is None:
            assert isinstance(made, torch.nn.Linear)
            continue
        assert row.call in said
        assert load_network(row.call).freeze() == row.fit.network().freeze()
    assert "sorted by predicted time; low_rank is nearest to trained weights" in said
    first = next(number for number, row in enumerate(found) if row.fit is not None)
    name = "found.best" if first == 0 else f"dense is the fastest; found[{first}]"
    assert f"{name}.layer(bias=True) makes {found[first].call}" in said
    assert " at 0x" not in str(inspect.signature(tn.suggest))
    others = tn.suggest(96, 64, params=2500, topologies=[T.kronecker], batch=16)
    assert "low_rank" not in str(others) and "how near to trained weights" in str(others)


def test_a_budget_of_time() -> None:
    """What is suggested for a time is predicted within it."""
    dense = tn.suggest(512, 512, compression=2, topologies=[T.low_rank], objective="train")
    limit = dense.rows[-1].cost.seconds
    found = tn.suggest(512, 512, time=limit, topologies=[T.low_rank])
    assert all(row.cost.seconds <= limit for row in found.rows if row.fit is not None)


def test_layers_within_layers_are_no_rows() -> None:
    """A table and a convolution are a row each: what they are made of is not told beside them."""
    model = nn.Sequential(
        tn.Embedding(T.low_rank(12, 6, rank=2)), tn.Conv2d(T.low_rank(18, 4, 2), kernel_size=3)
    )
    found = tn.summary(model)
    assert [row.name for row in found.rows] == ["0", "1"]
    assert found.total.parameters == sum(p.numel() for p in model.parameters())
