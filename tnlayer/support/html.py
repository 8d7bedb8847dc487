"""HTML for notebooks: tables and pictures, in which every text of a user is escaped."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape
from typing import Protocol, runtime_checkable

_CELL = "padding:2px 10px 2px 0;text-align:{align};vertical-align:top;border:none"


def text(value: object) -> str:
    """A value as text of HTML or SVG: nothing in it is markup.

    >>> text('<b> & "c"')
    '&lt;b&gt; &amp; &quot;c&quot;'
    """
    # Characters that XML has no form for, even escaped, become a question mark.
    plain = "".join(c if c.isprintable() or c in "\n\t" else "?" for c in str(value))
    return escape(plain, quote=True)


def heading(title: str) -> str:
    """A line above a table."""
    return f'<div style="font-weight:bold;margin:4px 0">{text(title)}</div>'


def lines(several: Sequence[str]) -> str:
    """Lines of plain text, such as remarks below a table."""
    return "".join(f'<div style="margin:2px 0">{text(line)}</div>' for line in several)


def html_table(rows: Sequence[Sequence[str]]) -> str:
    """Rows as a table, the first of them the header; numbers stand right.

    Arguments:
        rows: of equal length; texts, which are escaped.
    """
    if not rows:
        return ""
    right = [all(_is_number(row[k]) for row in rows[1:]) for k in range(len(rows[0]))]

    def row_of(cells: Sequence[str], tag: str) -> str:
        styles = (_CELL.format(align="right" if number else "left") for number in right)
        made = (
            f'<{tag} style="{style}">{text(cell)}</{tag}>'
            for cell, style in zip(cells, styles, strict=True)
        )
        return f"<tr>{''.join(made)}</tr>"

    head, *body = rows
    return (
        '<table style="border-collapse:collapse;font-size:90%"><thead>'
        f"{row_of(head, 'th')}</thead><tbody>{''.join(row_of(row, 'td') for row in body)}"
        "</tbody></table>"
    )


@runtime_checkable
class HasHtml(Protocol):
    """What notebooks show as HTML."""

    def _repr_html_(self) -> str: ...


def html_of(one: HasHtml) -> str:
    """The HTML that a notebook shows of it."""
    return one._repr_html_()  # pyright: ignore[reportPrivateUsage]


def block(*parts: str) -> str:
    """Parts of HTML below one another, as one piece of a page."""
    return f'<div class="tnlayer" style="max-width:100%;overflow-x:auto">{"".join(parts)}</div>'


def _is_number(cell: str) -> bool:
    return cell[:1].isdigit() or cell in ("", "-")


def bars_svg(rows: Sequence[tuple[str, Sequence[float]]], parts: Sequence[str]) -> str:
    """Numbers as bars, each of several parts one behind the other, as an SVG element.

    Arguments:
        rows: a name for each bar, and the sizes of its parts.
        parts: what the parts are.

    >>> bars_svg([("torch", (1.0, 2.0))], ("ms forward", "ms backward")).count("<rect")
    4
    """
    colours = ("#edae49", "#66a182", "#a9cbe8")
    longest = max((sum(sizes) for _, sizes in rows), default=0.0) or 1.0
    name_width = 12 + 6.5 * max((len(name) for name, _ in rows), default=0)
    drawn: list[str] = []
    x = name_width
    for what, colour in zip(parts, colours, strict=False):
        drawn.append(
            f'<rect x="{x:.1f}" y="4" width="10" height="10" fill="{colour}"/>'
            f'<text x="{x + 14:.1f}" y="13">{text(what)}</text>'
        )
        x += 26 + 6.5 * len(what)
    for number, (name, sizes) in enumerate(rows):
        y, x = 22.0 + 18 * number, name_width
        drawn.append(f'<text x="0" y="{y + 11:.1f}">{text(name)}</text>')
        for size, colour in zip(sizes, colours, strict=False):
            width = 260 * size / longest
            drawn.append(
                f'<rect x="{x:.1f}" y="{y:.1f}" width="{width:.1f}" height="13" fill="{colour}">'
                f"<title>{size:.3g}</title></rect>"
            )
            x += width
        drawn.append(f'<text x="{x + 5:.1f}" y="{y + 11:.1f}">{sum(sizes):.3g}</text>')
    height = 26 + 18 * len(rows)
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{name_width + 330:.0f}" height="{height}" '
        f'font-family="sans-serif" font-size="11" role="img">{"".join(drawn)}</svg>'
    )
