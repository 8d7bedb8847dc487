"""cost.draw(): forward and backward side by side, with predicted times."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from matplotlib.axes import Axes

import tnlayer as tn
from tnlayer.ir.plan_text import milliseconds
from tnlayer.report.costs import Costs

T = tn.topologies


def texts(axes: Axes) -> list[str]:
    """All texts of a picture."""
    return [text.get_text() for text in axes.texts]


def test_steps_have_the_times_that_are_predicted(tmp_path: Path) -> None:
    """Of torch's calls each step of both has its own."""
    cost = tn.cost(T.tensor_train((4, 4, 4), (4, 4, 4), rank=3), batch=64, backend="torch")
    figure = cost.draw(tmp_path / "both.png")
    assert (tmp_path / "both.png").read_bytes().startswith(b"\x89PNG")
    seconds = cost.step_seconds()
    for axes, plan in zip(figure.axes, (cost.plan, cost.backward_plan), strict=True):
        shown = texts(axes)
        assert "ms" in shown and "share" not in shown
        kind = "Forward" if plan is cost.plan else "Backward"
        assert any(text.startswith(f"{kind}: {len(plan.steps)} steps") for text in shown)
        for step in plan.steps:
            assert milliseconds(seconds[step.result.name]) in shown
    first, second = (axes.get_position() for axes in figure.axes)
    assert first.x1 == pytest.approx(second.x0) and first.y1 == pytest.approx(second.y1) == 1


def test_both_halves_tell_what_runs_once_a_call() -> None:
    """Also the backward, where W is rebuilt: its steps on what was summed over the samples."""
    cost = tn.cost(T.peps(2, 2, 2, 2), batch=64, backend="torch", minimize="rebuild")
    for axes in cost.draw().axes:
        shown = texts(axes)
        assert any(text.startswith("once a call") for text in shown)
        assert any(text.startswith("each sample") for text in shown)


def test_kernels_have_one_time_for_both() -> None:
    """It stands with the forward; the backward tells the share of its FLOPs."""
    cost = tn.cost(T.mera(6, 2, 2), batch=64, backend="cpp")
    forward, backward = cost.draw(labels="names", title=False, legend=False).axes
    assert "ms, both" in texts(forward)
    assert "share" in texts(backward) and "ms" not in texts(backward)
    assert not any(text.startswith("Forward") for text in texts(forward))


def test_where_nothing_is_learned_there_is_a_forward_alone() -> None:
    """A state of constants has no gradients, and no backward to draw."""
    net = tn.Network("constants")
    net.output(j=3)
    net.bond(a=2)
    net.tensor("A", "j a", value=np.ones((3, 2)), trainable=False)
    net.tensor("B", "a", value=np.ones(2), trainable=False)
    (axes,) = tn.cost(net, batch=1).draw().axes
    assert any(text.startswith("Forward: 1 step") for text in texts(axes))


def test_what_cannot_be_drawn_is_told(tmp_path: Path) -> None:
    """Both plans for TeX are two files; formats and colours as for plan.draw."""
    cost = tn.cost(T.low_rank(64, 64, rank=4), batch=16)
    with pytest.raises(tn.SpecError, match=r"a file for TeX holds one plan; draw them one by one"):
        cost.draw(tmp_path / "both.tikz")
    with pytest.raises(tn.SpecError, match="cannot be saved"):
        cost.draw(tmp_path / "both.nothing")
    with pytest.raises(tn.SpecError, match="cannot be saved"):
        cost.plan.draw(tmp_path / "one.nothing")
    with pytest.raises(tn.SpecError, match="no kind and no name 'stem'"):
        cost.draw(style={"stem": "#123456"})


def test_costs_of_a_sum_are_drawn_a_row_a_network(tmp_path: Path) -> None:
    """Each with its name, its times and its own size; of more than twelve the first ones."""
    both = T.tensor_train((4, 4, 4), (4, 4, 4), rank=3) + T.low_rank(64, 64, rank=4)
    costs = tn.cost(both, batch=64, backend="torch")
    figure = costs.draw(tmp_path / "sum.svg", labels="names")
    assert (tmp_path / "sum.svg").read_text().startswith("<?xml")
    plans = [plan for cost in costs for plan in (cost.plan, cost.backward_plan)]
    heads = ["tensor train, forward", "tensor train, backward", "low rank, forward"]
    for axes, plan, head in zip(figure.axes, plans, [*heads, "low rank, backward"], strict=True):
        assert any(text.startswith(f"{head}: {len(plan.steps)} step") for text in texts(axes))
        assert "ms" in texts(axes)
    places = [axes.get_position() for axes in figure.axes]
    assert places[0].y1 == pytest.approx(1) and places[2].y1 <= min(p.y0 for p in places[:2]) + 1e-9
    assert places[2].x0 == places[0].x0 == 0
    (alone,) = tn.cost(both[:1], batch=64, backend="torch")
    assert [texts(axes) for axes in alone.draw(labels="names", title=False).axes] == [
        texts(axes) for axes in costs.draw(labels="names", title=False).axes[:2]
    ]
    many = Costs((costs[1],) * 13)
    assert len(many.draw(title=False, legend=False).axes) == 24
    with pytest.raises(
        tn.SpecError, match=r"costs\[0\]\.plan\.draw\(\.\.\.\) and costs\[0\]\.backward"
    ):
        costs.draw(tmp_path / "sum.tikz")
