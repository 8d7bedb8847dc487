"""Tables that fit on a page of 100 columns, and what users print of them."""

from __future__ import annotations

import pytest
import torch

import tnlayer as tn
from tnlayer.ir.paged_table import paged_table
from tnlayer.ir.table_text import PAGE, table, with_columns_wrapped, wrapped_lines

T = tn.topologies
ROWS = [("name", "one", "two", "three"), ("first", "1", "22", "333"), ("second", "4", "5", "6")]


def widest(text: object) -> int:
    """Characters of the longest line."""
    return max(map(len, str(text).splitlines()))


def test_a_table_that_fits_is_one_table() -> None:
    """As it is without pages."""
    assert paged_table(ROWS) == table(ROWS)


def test_columns_that_do_not_fit_stand_below() -> None:
    """With the first column again; those of a group stay together."""
    lines = paged_table(ROWS, (1, 2), width=16)
    assert lines == [
        "name    one", "first     1", "second    4", "",
        "name    two  three", "first    22    333", "second    5      6",
    ]  # fmt: skip
    assert paged_table(ROWS, width=13)[4] == "name    two"


def test_a_long_last_cell_goes_over_lines() -> None:
    """Words are not cut, other cells are empty there."""
    rows = [("name", "why"), ("first", "because of many words that are long"), ("second", "so")]
    found = with_columns_wrapped(rows, (1,), width=28)
    assert found == [
        ("name", "why"), ("first", "because of many"), ("", "words that are long"),
        ("second", "so"),
    ]  # fmt: skip
    assert wrapped_lines(["one two three", "four"], width=8) == ["one two", "  three", "four"]


def test_long_cells_share_what_the_others_leave() -> None:
    """What one column does not need is the other's; a table that fits stays as it is."""
    rows = [("legs", "n", "how"), ("a b " * 6, "1", "x " * 40), ("c", "2", "y")]
    found = with_columns_wrapped(rows, (0, 2), width=60)
    assert found[0] == ("legs", "n", "how") and found[-1] == ("c", "2", "y")
    widths = [max(len(row[column]) for row in found) for column in range(3)]
    assert widths[0] == 23 and 30 <= widths[2] <= 32
    assert sum(row[2].count("x") for row in found) == 40
    assert with_columns_wrapped(rows, (0, 2), width=200) == [tuple(row) for row in rows]


@pytest.mark.parametrize("net", [T.mera(10), T.peps(3, 3, 2, 2), T.brickwall(6, dim=2, depth=3)])
def test_plans_fit_on_a_page(net: tn.Network) -> None:
    """A step of many legs goes over several lines, and none is lost."""
    plan = tn.plan(net, batch=64, effort="fast")
    text = str(plan)
    # FLOPs, bytes and names take what they take; the two columns beside have 20 at least.
    assert widest(text) <= 112
    cells = text.split()
    for line in plan.steps_in_words():
        for leg in line.split("[")[1].split("]")[0].split():
            assert leg in cells


@pytest.mark.parametrize("sizes", [(768, 768), (1000, 4099)])
def test_suggestions_fit_on_a_page(sizes: tuple[int, int]) -> None:
    """With all sizes and reasons, in their order."""
    topologies = [T.btt, T.tucker, T.low_rank, T.butterfly]
    found = tn.suggest(*sizes, compression=60, topologies=topologies)
    text = str(found)
    assert widest(text) <= PAGE
    words = " ".join(text.split())
    for row in found.rows:
        assert f"{row.cost.flops:,}" in text and f"{row.cost.parameters:,}" in text
    for _, why in found.left_out:
        assert " ".join(why.split()) in words
    shape = found.rows[0].fit
    assert shape is None or all(str(value) in words for value in shape.arguments.values()
                                if isinstance(value, int))  # fmt: skip


def test_summaries_and_comparisons_fit_on_a_page() -> None:
    """Of modules with long names, and of many networks."""
    block = torch.nn.ModuleDict(
        {
            "attention_projection": tn.Layer(
                T.tensor_train((32, 24), (24, 32), 4), backend="torch", effort="fast"
            ),
            "feed_forward": torch.nn.Linear(768, 3072),
        }
    )
    model = torch.nn.ModuleDict({"transformer": torch.nn.ModuleDict({"blocks": block})})
    text = str(tn.summary(model))
    assert widest(text) <= PAGE and text.count("attention_projection") == 2
    nets = [T.low_rank(64, 64, rank) for rank in range(1, 12)]
    options = {"effort": "fast", "minimize": "flops", "backend": "torch"}
    text = str(tn.compare(nets, **options))  # type: ignore[arg-type]
    assert widest(text) <= PAGE and "low rank (11)" in text and text.count("dense") == 1
    grid = {"rank": [1], "in_shape": [(2,) * 12], "out_shape": [(2,) * 12]}
    text = str(tn.sweep(T.tensor_train, grid, effort="fast", backend="torch"))
    assert widest(text) <= PAGE and "parameters" in text


def test_printed_networks_fit_on_a_page() -> None:
    """Legs of wide ports go over several lines; each is there."""
    graph = T.mera(12, 2, 2).freeze()
    text = str(graph)
    assert widest(text) <= PAGE
    assert all(f"{leg}={size}" in text for leg, size in graph.leg_sizes)
    fit = tn.fit_budget(T.tensor_train, 4096, 4096, compression=50)
    assert widest(fit) <= PAGE
