"""Tables that fit on a page: what is too wide goes on below."""

from __future__ import annotations

from collections.abc import Sequence

from .table_text import PAGE, table, with_columns_wrapped


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
            found = table(with_columns_wrapped(own, (len(own[0]) - 1,), width))
        lines += ["", *found] if lines else found
    return lines
