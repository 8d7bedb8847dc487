"""tn.sweep: the rows are those of tn.cost at each point, with times and scores where asked for."""

from __future__ import annotations

from typing import Any

import pytest

import tnlayer as tn

T = tn.topologies
SHAPES: dict[str, Any] = {"in_shape": (4, 4), "out_shape": (4, 2)}


def test_rows_are_costs_in_the_order_of_the_grid() -> None:
    """All combinations, the last argument fastest, with the numbers of tn.cost."""
    grid = {"rank": [1, 3], "in_shape": [(4, 4), (2, 8)]}
    found = tn.sweep(T.tensor_train, grid, out_shape=(4, 2), batch=8, backend="torch")
    points = [dict(row.arguments) for row in found.rows]
    assert points == [{"rank": r, "in_shape": s} for r in (1, 3) for s in ((4, 4), (2, 8))]
    for row, point in zip(found.rows, points, strict=True):
        net = T.tensor_train(out_shape=(4, 2), **point)
        counted = tn.cost(net, batch=8, backend="torch")
        assert row.cost.numbers() == counted.numbers()
    assert "measured ms" not in str(found) and "score" not in str(found)


def test_times_and_scores() -> None:
    """A median of calls, and what a function of a fresh layer gives, in the table and the plot."""
    seen: list[tn.Layer] = []

    def score(layer: tn.Layer) -> float:
        seen.append(layer)
        return float(layer.out_features)

    found = tn.sweep(
        T.tensor_train, {"rank": [1, 2]}, measure=True, score=score, batch=4, backend="torch",
        **SHAPES,
    )  # fmt: skip
    assert len(seen) == 2 and [row.score for row in found.rows] == [8.0, 8.0]
    assert all(row.measured is not None and row.measured > 0 for row in found.rows)
    head = str(found).splitlines()[1]
    assert "measured ms" in head and "score" in head
    axes = found.plot("parameters", "score")
    assert (axes.get_xlabel(), axes.get_ylabel()) == ("parameters", "score")
    assert {text.get_text() for text in axes.texts} == {"rank=1", "rank=2"}


@pytest.mark.parametrize(
    ("grid", "options", "message"),
    [
        ({}, SHAPES, "grid has 1 points"),
        ({"rank": []}, SHAPES, "grid has 0 points"),
        ({"rank": range(200), "in_shape": range(200)}, {}, "grid has 40000 points"),
        ([("rank", 1)], SHAPES, "expected a mapping"),
        ({"rank": 2}, SHAPES, r"grid\['rank'\]: expected a list of values, got 2; write \[2\]"),
        ({"rank": "12"}, SHAPES, r"expected a list of values, got '12'; write \['12'\]"),
        ({"rank": [1]}, {"in_shape": (4,), "out_shape": (4, 2)}, "tensor_train: got in_shape"),
    ],
)
def test_grids_that_are_none(grid: Any, options: dict[str, Any], message: str) -> None:
    """A SpecError says why."""
    with pytest.raises(tn.SpecError, match=message):
        tn.sweep(T.tensor_train, grid, **options)


def test_errors_name_the_point() -> None:
    """What a topology, a plan or a score refuses is told with the arguments of its point; what is
    no error of the package stays what it is, with a note."""
    grid = {"rank": [2, 0], "in_shape": [(4, 4)]}
    with pytest.raises(tn.SpecError, match=r"^sweep: at rank=0, in_shape=\(4, 4\): .*got 0"):
        tn.sweep(T.tensor_train, grid, out_shape=(4, 2), backend="torch")

    def failing(layer: tn.Layer) -> float:
        if layer.parameter_count > 40:
            raise KeyError("fig")
        return 1.0

    with pytest.raises(KeyError, match="fig") as caught:
        tn.sweep(T.tensor_train, {"rank": [1, 2]}, score=failing, backend="torch", **SHAPES)
    assert caught.value.__notes__ == ["in tn.sweep at rank=2"]


def test_a_number_that_is_not_there() -> None:
    """A plot of scores needs some, and says what there is."""
    found = tn.sweep(T.low_rank, {"rank": [1]}, in_features=4, out_features=4, backend="torch")
    with pytest.raises(tn.SpecError, match=r"no number 'score'.*parameters"):
        found.plot(y="score")


def test_a_plot_shows_what_there_is() -> None:
    """The score, else the measured time, else the predicted one; and the table tells of dense."""
    found = tn.sweep(T.low_rank, {"rank": [1]}, in_features=4, out_features=4, backend="torch")
    assert found.plot().get_ylabel() == "predicted_seconds"
    assert "of dense" in str(found).splitlines()[1]
