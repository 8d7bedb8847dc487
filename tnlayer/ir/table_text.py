"""Rows of cells as text: columns stand below each other, and long cells go over several lines."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence
from itertools import zip_longest

PAGE = 100
# A column that is wrapped keeps so much, whatever stands beside it.
_LEAST = 20


def table(rows: Sequence[Sequence[str]]) -> list[str]:
    """Rows as aligned lines; numbers stand right, the first row is the header."""
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    numeric = numeric_columns(rows)
    lines = []
    for row in rows:
        cells = (
            cell.rjust(width) if right else cell.ljust(width)
            for cell, width, right in zip(row, widths, numeric, strict=True)
        )
        lines.append("  ".join(cells).rstrip())
    return lines


def numeric_columns(rows: Sequence[Sequence[str]]) -> list[bool]:
    """For each column, whether it has numbers, which stand right; the first row is the header."""
    return [all(_is_number(row[c]) for row in rows[1:]) for c in range(len(rows[0]))]


def with_columns_wrapped(
    rows: Sequence[Sequence[str]], columns: Sequence[int], width: int = PAGE
) -> list[tuple[str, ...]]:
    """Rows whose cells in some columns go over several lines where the table is wider than the
    page; the other cells of these further rows are empty.

    Arguments:
        rows: the first is the header.
        columns: which ones may be wrapped; they share what the others leave, and have 20 at least.
        width: of the page, in characters.
    """
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    if sum(widths) + 2 * (len(widths) - 1) <= width:
        return [tuple(row) for row in rows]
    left = width - sum(w + 2 for c, w in enumerate(widths) if c not in columns)
    left -= 2 * (len(columns) - 1)
    # What needs less than its share leaves the rest to the others.
    for number, column in enumerate(sorted(columns, key=lambda column: widths[column])):
        share = max(_LEAST, left // (len(columns) - number))
        widths[column] = min(widths[column], share)
        left -= widths[column]
    found: list[tuple[str, ...]] = []
    for row in rows:
        cells = [
            textwrap.wrap(cell, widths[c], break_long_words=False, break_on_hyphens=False) or [""]
            if c in columns
            else [cell]
            for c, cell in enumerate(row)
        ]
        found += [tuple(line) for line in zip_longest(*cells, fillvalue="")]
    return found


def wrapped_lines(lines: Sequence[str], width: int = PAGE) -> list[str]:
    """Lines of text, each over several where it is long, the further ones indented.

    Arguments:
        lines: of text.
        width: of the page, in characters.
    """
    return [
        part
        for line in lines
        for part in textwrap.wrap(line, width, subsequent_indent="  ", break_long_words=False)
    ]


def _is_number(text: str) -> bool:
    return text[:1].isdigit() or text in ("", "-")
