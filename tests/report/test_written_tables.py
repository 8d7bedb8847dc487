"""What prints as a table, written as Markdown and as LaTeX."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from typing import Any

import pytest
import torch

import tnlayer as tn
from tnlayer.ir.written_table import WrittenTable

T = tn.topologies
QUICK: dict[str, Any] = {"batch": 16, "effort": "fast", "backend": "torch"}


def small_model() -> torch.nn.Module:
    """A matrix and a network."""
    layer = tn.Layer(T.low_rank(16, 16, rank=2), backend="torch")
    return torch.nn.Sequential(layer, torch.nn.Linear(16, 8))


def sweep() -> tn.Sweep:
    """Two points."""
    sizes = {"in_shape": (4, 4), "out_shape": (4, 4)}
    return tn.sweep(T.tensor_train, {"rank": [1, 2]}, **sizes, **QUICK)


TABLES: dict[str, Callable[[], WrittenTable]] = {
    "plan": lambda: tn.plan(T.peps(2, 2, 2, 2), batch=16, effort="fast"),
    "cost": lambda: tn.cost(T.low_rank(16, 8, rank=2), **QUICK),
    "costs": lambda: tn.cost(T.low_rank(16, 16, 2) + T.cp((4, 4), (4, 4), 2), **QUICK),
    "comparison": lambda: tn.compare(T.low_rank(16, 16, 2), T.cp((4, 4), (4, 4), 2), **QUICK),
    "sweep": sweep,
    "suggestions": lambda: tn.suggest(16, 8, compression=2, topologies=[T.low_rank], batch=16),
    "summary": lambda: tn.summary(small_model(), batch=16),
    "compress": lambda: tn.compress(small_model(), T.low_rank, compression=2, dry_run=True),
}


@pytest.mark.parametrize("name", TABLES)
def test_each_cell_that_is_printed_is_in_the_document(name: str) -> None:
    """One row a line, as many cells in each, numbers to the right; and the same in LaTeX."""
    found = TABLES[name]()
    rows = found._table()
    lines = found.to_markdown().splitlines()
    assert len(lines) == len(rows) + 1
    split = [re.split(r"(?<!\\)\|", line)[1:-1] for line in lines]
    assert {len(cells) for cells in split} == {len(rows[0])}
    plain = [[re.sub(r"\\(.)", r"\1", cell).strip() for cell in cells] for cells in split]
    assert plain[:1] + plain[2:] == [[cell.strip() for cell in row] for row in rows]
    assert set(plain[1]) <= {"---", "---:"} and "---:" in plain[1]
    latex = found.to_latex().splitlines()
    columns = "".join("r" if mark.endswith(":") else "l" for mark in plain[1])
    assert latex[0] == rf"\begin{{tabular}}{{{columns}}}" and latex[-1] == r"\end{tabular}"
    body = latex[1:-1]
    assert len(body) == len(rows) and body[0].endswith(r"\\ \hline")
    assert all(line.endswith(r"\\") for line in body[1:])
    assert {len(re.findall(r"(?<!\\)&", line)) for line in body} == {len(rows[0]) - 1}


class Marked(WrittenTable):
    """A table whose cells are full of marks."""

    def _table(self) -> Sequence[tuple[str, ...]]:
        return [("a|b", "n"), ("<MPS|0,1> *x* `y` _z_ low_rank \\", "1"), ("[1] 50% & $", "-")]


def test_nothing_in_a_cell_is_markup() -> None:
    """Names of the user's stay what they are."""
    assert Marked().to_markdown().splitlines() == [
        r"| a\|b | n |",
        "| --- | ---: |",
        r"| \<MPS\|0,1> \*x\* \`y\` \_z\_ low_rank \\ | 1 |",
        r"| \[1\] 50% & $ | - |",
    ]
    *_, first, second, _ = Marked().to_latex().splitlines()
    assert r"\textless{}MPS\textbar{}0,1\textgreater{}" in first and r"low\_rank" in first
    assert second == r"{}[1] 50\% \& \$ & - \\"
