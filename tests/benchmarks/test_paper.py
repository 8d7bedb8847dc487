"""Table 1 of the paper: what comes out exactly, what does not, and what the printout says."""

from __future__ import annotations

import pytest

from benchmarks.paper.__main__ import main
from benchmarks.paper.parameters import (
    COLUMNS,
    CONSTANT,
    Cell,
    Row,
    convolution_parameters,
    print_parameters,
    table_cells,
    table_rows,
)

PARAMETERS, TOTAL, COMPRESSION, TOTAL_COMPRESSION = COLUMNS
ROWS: dict[str, Row] = {row.name: row for row in table_rows()}
CELLS: dict[str, dict[str, Cell]] = table_cells(table_rows())
EXACT = ("FC-1", "MERA-3", "TT-5", "TT-7")


def layer_parameters(name: str) -> int:
    """Parameters of a row's two layers, counted by the topologies, without the constant."""
    return sum(layer.parameter_count for layer in ROWS[name].layers)


def test_convolutions() -> None:
    """3x3 kernels without bias on the text's channels have 296,640 parameters."""
    assert convolution_parameters() == 296640


@pytest.mark.parametrize("name", EXACT)
def test_exact_rows_agree_in_both_parameter_columns(name: str) -> None:
    """FC-1, MERA-3, TT-5 and TT-7 come out as the paper prints them."""
    assert str(ROWS[name].fully_connected) == CELLS[name][PARAMETERS].paper
    assert {CELLS[name][column].verdict for column in (PARAMETERS, TOTAL)} == {"="}


@pytest.mark.parametrize("name", EXACT)
def test_the_constant_is_what_the_paper_leaves_over(name: str) -> None:
    """The paper's cell less the two layers' parameters is 2,560 in each row that comes out."""
    assert int(CELLS[name][PARAMETERS].paper) - layer_parameters(name) == CONSTANT == 2560


@pytest.mark.parametrize("name", list(ROWS))
def test_layers_have_the_shape_that_the_text_says(name: str) -> None:
    """All layers are 4096 to 4096 and 4096 to 64, but for FC-2 with its ten nodes between."""
    shapes = [(g.in_features, g.out_features) for g in ROWS[name].layers]
    width = 10 if name == "FC-2" else 4096
    assert shapes == [(4096, width), (width, 64)]


@pytest.mark.parametrize(
    ("name", "ours", "paper"),
    [("FC-2", 44160, "305664"), ("MERA-2", 3120, "3112"), ("TT-3", 3232, "3168")],
)
def test_mismatching_counts_stay_visible(name: str, ours: int, paper: str) -> None:
    """The three counts that do not come out are ours by formula and marked as mismatches."""
    cell = CELLS[name][PARAMETERS]
    assert (cell.ours, cell.paper, cell.verdict) == (ours, paper, "X")


def test_mismatches_are_exactly_the_known_ones() -> None:
    """No other cell is marked, each mark has a note, and no note stands without a mark."""
    marked = {
        (name, column)
        for name, row in CELLS.items()
        for column, cell in row.items()
        if cell.verdict == "X"
    }
    known = {(name, column) for name in ("FC-2", "MERA-2") for column in COLUMNS}
    assert marked == known | {("TT-3", PARAMETERS), ("TT-3", TOTAL)}
    noted = {(n, column) for n, row in CELLS.items() for column, cell in row.items() if cell.note}
    assert noted == marked


def test_what_the_notes_say() -> None:
    """The figures in the notes follow from our counts and the paper's cells."""
    base = ROWS["FC-1"].fully_connected
    convolutions = convolution_parameters()
    assert int(CELLS["FC-2"][PARAMETERS].paper) == 4096 * (10 + 64) + CONSTANT
    assert int(base / int(CELLS["FC-2"][PARAMETERS].paper) * 100) / 100 == 55.75
    assert ROWS["MERA-2"].fully_connected - int(CELLS["MERA-2"][PARAMETERS].paper) == 8
    total = int(CELLS["MERA-2"][TOTAL].paper)
    assert f"{(base + convolutions) / total:.2f}" == "57.84"
    assert CELLS["MERA-2"][TOTAL_COMPRESSION].paper == "57.85"
    assert int(CELLS["TT-3"][COMPRESSION].paper) == base // ROWS["TT-3"].fully_connected
    assert ROWS["TT-3"].fully_connected - int(CELLS["TT-3"][PARAMETERS].paper) == 64
    assert int(CELLS["TT-3"][TOTAL].paper) - convolutions == 3214


@pytest.mark.parametrize(
    ("paper", "verdict"), [("2.67", "="), ("3", "="), ("2", "~"), ("2.66", "~"), ("2.65", "X")]
)
def test_verdict_tells_rounded_cut_and_wrong_apart(paper: str, verdict: str) -> None:
    """8/3 is 2.67 rounded, 2.66 cut, and 2.65 is wrong."""
    count = CELLS["FC-1"][PARAMETERS].ours
    assert Cell(count * 8 / (count * 3), paper, "").verdict == verdict


def test_printed_table_shows_every_cell(capsys: pytest.CaptureFixture[str]) -> None:
    """The command prints a line a row with four pairs and marks, aligned, and every note."""
    main(["--params"])
    text = capsys.readouterr().out
    assert text.strip() == print_parameters().strip()
    lines = [line for line in text.splitlines() if line.startswith(tuple(ROWS))]
    assert len(lines) == len(ROWS)
    for line, (name, row) in zip(lines, CELLS.items(), strict=True):
        words = line.replace(",", "").split()
        assert words[0] == name
        assert words[2::3] == [cell.paper for cell in row.values()]
        assert words[3::3] == [cell.verdict for cell in row.values()]
        assert words[1:5:3] == [str(cell.ours) for cell in list(row.values())[:2]]
        for cell in row.values():
            assert cell.note in text
    assert len(set(map(len, lines))) == 1


def test_command_without_a_table_is_an_error(capsys: pytest.CaptureFixture[str]) -> None:
    """Without --params the command says what to pass."""
    with pytest.raises(SystemExit):
        main([])
    assert "--params" in capsys.readouterr().err
