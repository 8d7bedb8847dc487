"""Table 1 of the paper, its parameter columns: our formula beside the paper's cell.

Paper: Hallam et al., Compact neural networks based on the multiscale entanglement renormalization
ansatz, arXiv:1711.03357, in the version submitted to ICLR 2018 (later ones have other tables).

``python -m benchmarks.paper --params`` prints the table. Nothing is fitted: the counts come from
the topologies, and a cell that does not come out is marked and explained, not hidden.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction

from benchmarks.paper.rows import LEGS, ROWS
from tnlayer.graph.network import Network

# Section 3: three pairs of convolutions with 3x3 kernels and no bias, (channels in, out).
CONVOLUTIONS = ((3, 64), (64, 64), (64, 64), (64, 64), (64, 64), (64, 256))
# What each row of the fully connected column holds beside the two layers under study.
CONSTANT = 2560
COLUMNS = (
    "Parameters (FC)",
    "Parameters (total)",
    "Compression (FC)",
    "Compression (total)",
)


@dataclass(frozen=True, slots=True)
class Cell:
    """One cell of the table.

    Arguments:
        ours: the value by our formula, exact.
        paper: the paper's cell as it is printed.
        note: why the two differ, or empty.
    """

    ours: Fraction
    paper: str
    note: str

    @property
    def decimals(self) -> int:
        """Digits after the point in the paper's cell."""
        return len(self.paper.partition(".")[2])

    @property
    def verdict(self) -> str:
        """ "=" where ours rounds to the paper's cell, "~" where it is cut to it, else "X"."""
        scale = 10**self.decimals
        printed = Fraction(self.paper) * scale
        if round(self.ours * scale) == printed:
            return "="
        return "~" if math.floor(self.ours * scale) == printed else "X"


@dataclass(frozen=True, slots=True)
class Row:
    """One network of the table.

    Arguments:
        name: the paper's name of it.
        layers: the two fully connected layers, or what stands in their place.
        text: what these layers are, in words.
        paper: the paper's cells, in the order of COLUMNS.
        notes: why a cell differs, by its column.
    """

    name: str
    layers: tuple[Network, Network]
    text: str
    paper: tuple[str, str, str, str]
    notes: dict[str, str]

    @property
    def fully_connected(self) -> int:
        """Parameters of both layers and the constant."""
        return sum(layer.parameter_count for layer in self.layers) + CONSTANT

    @property
    def formula(self) -> str:
        """How the parameters of the fully connected column add up."""
        terms = [layer.parameter_count for layer in self.layers] + [CONSTANT]
        return " + ".join(f"{term:,}" for term in terms) + f" = {sum(terms):,}"


def convolution_parameters() -> int:
    """Parameters of all convolutions: 3 x 3 x channels in x channels out each.

    >>> convolution_parameters()
    296640
    """
    return sum(3 * 3 * channels_in * channels_out for channels_in, channels_out in CONVOLUTIONS)


def table_rows() -> tuple[Row, ...]:
    """The rows of Table 1, with our networks and the paper's cells."""
    parameters, total, compression, total_compression = COLUMNS
    follows = "follows from the parameters"

    def row(name: str, paper: tuple[str, str, str, str], notes: dict[str, str]) -> Row:
        return Row(name, ROWS[name].build(LEGS), ROWS[name].text, paper, notes)

    return (
        row(
            "FC-1",
            ("17041920", "17338560", "1", "1"),
            {},
        ),
        row(
            "FC-2",
            ("305664", "602304", "55", "28.79"),
            {
                parameters: "the paper's cell is 4096 x 74 + 2,560, that is 4096 x 10 and "
                "4096 x 64: the second layer counted at 4096 inputs, not at the text's 10",
                total: follows,
                compression: f"{follows}; the paper's 55 is 55.75 cut",
                total_compression: follows,
            },
        ),
        row(
            "MERA-2",
            ("3112", "299752", "5476", "57.85"),
            {
                parameters: "8 more than the paper's; unexplained: the same rule at bond 3 "
                "gives MERA-3 exactly",
                total: follows,
                compression: follows,
                total_compression: "the paper's own total, 299,752, gives 57.84, too",
            },
        ),
        row(
            "MERA-3",
            ("4342", "300982", "3924", "57.61"),
            {},
        ),
        row(
            "TT-3",
            ("3168", "299854", "5272", "57.82"),
            {
                parameters: "64 more than the paper's; its compression, 5,272, is "
                "17,041,920 / 3,232 cut, so it rests on our count",
                total: "the paper's cell less the convolutions is 3,214: neither 3,232 nor 3,168",
            },
        ),
        row(
            "TT-5",
            ("4380", "301020", "3891", "57.60"),
            {},
        ),
        row(
            "TT-7",
            ("6088", "302728", "2799", "57.27"),
            {},
        ),
    )


def table_cells(rows: Sequence[Row]) -> dict[str, dict[str, Cell]]:
    """All cells by row name and column; compression is against the first row, FC-1."""
    convolutions = convolution_parameters()
    base = rows[0].fully_connected
    cells: dict[str, dict[str, Cell]] = {}
    for row in rows:
        count = row.fully_connected
        values = (
            Fraction(count),
            Fraction(count + convolutions),
            Fraction(base, count),
            Fraction(base + convolutions, count + convolutions),
        )
        cells[row.name] = {
            column: Cell(value, paper, row.notes.get(column, ""))
            for column, value, paper in zip(COLUMNS, values, row.paper, strict=True)
        }
    return cells


def print_parameters() -> str:
    """The printed table: every cell by our formula and in the paper, then formulas and notes."""
    rows = table_rows()
    cells = table_cells(rows)
    verdicts = [cell.verdict for row in cells.values() for cell in row.values()]
    counts = (verdicts.count("="), verdicts.count("~"), verdicts.count("X"), len(verdicts))
    lines = [
        "Table 1, parameter columns: by our formula, then in the paper",
        "= equal   ~ equal if ours is cut instead of rounded   X MISMATCH",
        "",
        *_cell_lines(cells),
        "",
        "{} equal, {} equal if cut, {} mismatches, of {} cells".format(*counts),
        "",
        "How our counts add up:",
        f"  convolutions  {_convolution_formula()}",
        *(f"  {row.name:13} {row.formula:42}  {row.text}" for row in rows),
        "",
        "The constant 2,560 is what the paper's cells leave over in FC-1, MERA-3, TT-5 and TT-7.",
        "The text does not explain it: its last layer, 64 to 10 without bias, has 640 weights.",
        "256 x 10 is 2,560: a last layer on 256 features would have as many. This is a guess.",
        "Batch normalisation is in no count.",
        "",
        "Mismatches:",
    ]
    for name, row_cells in cells.items():
        lines += [
            f"  {name:7} {column:20} {cell.note}"
            for column, cell in row_cells.items()
            if cell.verdict == "X"
        ]
    return "\n".join(line.rstrip() for line in lines)


def _cell_lines(cells: dict[str, dict[str, Cell]]) -> list[str]:
    """The cells as aligned lines below two lines of headings."""
    width = 10
    lines = [
        " " * 8 + "   ".join(f"{column:^{2 * width + 3}}" for column in COLUMNS),
        " " * 8 + "   ".join(f"{'ours':>{width}} {'paper':>{width}}  " for _ in COLUMNS),
    ]
    for name, row_cells in cells.items():
        texts: list[str] = []
        for column, cell in row_cells.items():
            # Ratios show two decimals, so that rounding and cutting can be told apart.
            ours = f"{float(cell.ours):,.{2 if column.startswith('Compression') else 0}f}"
            paper = f"{float(cell.paper):,.{cell.decimals}f}"
            texts.append(f"{ours:>{width}} {paper:>{width}} {cell.verdict}")
        lines.append(f"{name:8}" + "   ".join(texts))
    return lines


def _convolution_formula() -> str:
    """The convolutions' parameters as a sum, equal layers taken together."""
    terms: dict[tuple[int, int], int] = {}
    for layer in CONVOLUTIONS:
        terms[layer] = terms.get(layer, 0) + 1
    text = " + ".join(
        (f"{count} x " if count > 1 else "") + f"9 x {channels_in} x {channels_out}"
        for (channels_in, channels_out), count in terms.items()
    )
    return f"{text} = {convolution_parameters():,}"
