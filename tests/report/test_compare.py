"""tn.compare: several costs side by side, as text, as numbers and on the command line."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

import tnlayer as tn
from tnlayer.cli.commands import main
from tnlayer.ir.plan_text import milliseconds
from tnlayer.planning.predictions import Prediction
from tnlayer.report.compare import Comparison, predicted_seconds

NETS = [
    tn.topologies.tensor_train((8, 8), (8, 8), rank=4),
    tn.topologies.low_rank(64, 64, rank=4),
    tn.topologies.cp((4, 4, 4), (8, 8), rank=5),
]


def rows_of(text: str) -> dict[str, list[str]]:
    """Cells of each row of a printed table by the row's name; cells stand two spaces apart."""
    lines = [
        [cell.strip() for cell in line.split("  ") if cell.strip()] for line in text.split("\n")
    ]
    # The verdict below the table may go over two lines.
    end = next((n for n, cells in enumerate(lines) if cells[0].startswith("training: ")), None)
    return {cells[0]: cells[1:] for cells in lines[2:end]}


def test_costs_are_those_of_cost() -> None:
    """Each cost equals tn.cost of the network with the same options, in the order given."""
    found = tn.compare(NETS, batch=12, dtype="float64", minimize="flops")
    expected = tuple(tn.cost(n, batch=12, dtype="float64", minimize="flops") for n in NETS)
    assert found.costs == expected
    assert [one.label for one in found.costs] == ["tensor train", "low rank", "CP"]
    assert found.batch == 12


def test_printed_numbers() -> None:
    """One column a network and one for dense; one row a quantity, with the numbers of the costs."""
    found = tn.compare(NETS, batch=10)
    rows = rows_of(str(found))
    first = found.costs[0]
    assert rows["parameters"] == [f"{c.parameters:,}" for c in found.costs] + ["4,096"]
    assert rows["compression"] == ["8.0", "8.0", "29.3", "1.0"]
    assert rows["FLOPs a sample, forward"][0] == f"{first.forward_flops / 10:,.0f}"
    assert rows["FLOPs a sample, backward"][-1] == "16,384"
    assert rows["peak bytes, training"][-1] == f"{first.dense_training_peak:,}"
    assert rows["bytes saved for backward"][1] == f"{found.costs[1].saved.at(10):,}"
    assert rows["calls, forward"] == [str(c.forward_calls) for c in found.costs] + ["1"]
    assert {name for name in rows if name.startswith("ms ")} == {
        "ms forward, torch",
        "ms backward, torch",
        "ms training, torch",
    }
    last = " ".join(str(found)[str(found).index("training: ") :].split())
    least = min(c.fastest.training for c in found.costs)
    assert last.startswith("training: ") and f"{milliseconds(least)} ms" in last
    head = str(found).splitlines()
    assert "3 networks at batch 10, float32" in head[0]
    assert head[1].split("  ")[-1].strip() == "dense"


def test_no_dense_column_for_different_ports() -> None:
    """Networks between different features have no dense layer in common."""
    other = tn.topologies.low_rank(64, 32, rank=4)
    found = tn.compare([NETS[1], other], batch=3)
    assert not found.same_ports
    assert "dense" not in str(found)
    assert all(len(cells) == 2 for cells in rows_of(str(found)).values())


def test_features_make_a_port_not_legs() -> None:
    """Ports with the same features and other legs are the same; a product port is not."""
    assert tn.compare([NETS[0], NETS[1]], batch=1).same_ports
    product = tn.Network("product")
    legs = product.input("x", [2, 2])
    product.port("x", product=True)
    product.output(product.tensor("A", legs, out=(4,)))
    plain = tn.topologies.low_rank(4, 4, rank=1)
    assert not tn.compare([product, plain], batch=1).same_ports


def test_equal_labels_are_numbered() -> None:
    """Columns can be told apart, whatever the labels are."""
    nets = [tn.topologies.low_rank(8, 8, rank=r) for r in (1, 2)]
    head = str(tn.compare(nets, batch=1)).splitlines()[1]
    cells = [cell.strip() for cell in head.split("  ") if cell.strip()]
    assert cells == ["low rank (1)", "low rank (2)", "dense"]


def test_numbers_are_json() -> None:
    """numbers() holds the numbers of each cost and can be written to a file."""
    found = tn.compare(NETS, batch=2)
    numbers = json.loads(json.dumps(found.numbers()))
    assert numbers["networks"] == [json.loads(json.dumps(c.numbers())) for c in found.costs]
    assert (numbers["batch"], numbers["same_ports"]) == (2, True)


def test_predicted_times() -> None:
    """Three rows a backend in ms, dense in its column; a hyphen where nothing is known."""
    first, second = tn.compare(NETS[:2], batch=2).costs
    assert isinstance(first, tn.Cost) and isinstance(second, tn.Cost)
    dense = Prediction("dense", 0.003, 0.006, 0.002)
    times = (Prediction("torch", 0.001, 0.0025, 0.001), Prediction("cpp", 0.0004, 0.0005, 0.0003))
    predicted = (
        replace(first, predictions=(*times, dense)),
        replace(second, predictions=(Prediction("torch", 0.01, 0.02, 0.01), dense)),
    )
    assert predicted_seconds(predicted[1]) == {"torch": (0.01, 0.02), "dense": (0.003, 0.006)}
    rows = rows_of(str(Comparison(2, predicted, True)))
    assert rows["ms forward, torch"] == ["1.00", "10.0", "3.00"]
    assert rows["ms backward, torch"] == ["2.50", "20.0", "6.00"]
    assert rows["ms training, torch"] == ["3.50", "30.0", "9.00"]
    assert rows["ms forward, cpp"] == ["0.4", "-", "3.00"]
    assert not any("dense" in name for name in rows)


@pytest.mark.parametrize(
    ("nets", "message"),
    [
        ([], "got none"),
        ("ab", "got the text 'ab'"),
        ([NETS[0], "x"], "expected a network, got 'x'"),
    ],
)
def test_wrong_lists(nets: Any, message: str) -> None:
    """No network, a text and something else are errors that say so."""
    with pytest.raises(tn.SpecError, match=message):
        tn.compare(nets)


@pytest.fixture
def files(tmp_path: Path) -> list[str]:
    """Two networks as files."""
    paths = [tmp_path / f"{k}.json" for k in range(2)]
    for path, net in zip(paths, NETS, strict=False):
        path.write_text(net.to_json(), encoding="utf-8")
    return [str(path) for path in paths]


def test_command_line(files: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    """compare prints the table of the networks, or its numbers."""
    expected = tn.compare(NETS[:2], batch=8)
    assert main(["compare", *files, "--batch", "8"]) == 0
    assert capsys.readouterr().out == f"{expected}\n"
    assert main(["compare", *files, "--batch", "8", "--json"]) == 0
    assert json.loads(capsys.readouterr().out) == json.loads(json.dumps(expected.numbers()))


def test_command_line_errors(
    files: list[str], capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    """A file that is not there is named in one line."""
    missing = str(tmp_path / "missing.json")
    assert main(["compare", files[0], missing]) == 2
    assert "missing.json" in capsys.readouterr().err
