"""Tables that fit on a page: what is too wide goes on below."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence

from .plan_text import table

PAGE = 100


def paged_table(
    rows: Sequence[Sequence[str]], groups: Sequence[int] = (), width: int = PAGE
) -> list[str]:
    """Rows as aligned lines; columns that do not fit are a table below, with the first one again.

    Arguments:
        rows: the first is the header.
        groups: how many columns stay together, from the second on; left out, each stands by itself.
        width: of the page, in characters; a last cell that is longer goes over several lines.
    """
    widths = [max(len(row[column]) for row in rows) + 2 for column in range(len(rows[0]))]
    sizes = list(groups) or [1] * (len(widths) - 1)
    blocks: list[list[int]] = [[]]
    used, column = widths[0] - 2, 1
    for size in sizes:
        together = list(range(column, column + size))
        wanted = sum(widths[one] for one in together)
        if blocks[-1] and used + wanted > width:
            blocks.append([])
            used = widths[0] - 2
        blocks[-1] += together
        used += wanted
        column += size
    lines: list[str] = []
    for block in blocks:
        own = [[row[0], *(row[column] for column in block)] for row in rows]
        found = table(own)
        if max(map(len, found)) > width:
            found = table(with_last_column_wrapped(own, width))
        lines += ["", *found] if lines else found
    return lines


def with_last_column_wrapped(
    rows: Sequence[Sequence[str]], width: int = PAGE
) -> list[tuple[str, ...]]:
    """Rows whose last cell goes over several lines where it is long; the other cells of these
    further rows are empty.

    Arguments:
        rows: the first is the header.
        width: of the page, in characters; the last column has 20 at least.
    """
    others = range(len(rows[0]) - 1)
    left = width - sum(max(len(row[column]) for row in rows) + 2 for column in others)
    found: list[tuple[str, ...]] = []
    for row in rows:
        lines = textwrap.wrap(row[-1], max(20, left), break_long_words=False) or [""]
        found.append((*row[:-1], lines[0]))
        found += [(*("" for _ in others), line) for line in lines[1:]]
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
