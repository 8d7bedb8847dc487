"""Tables for documents: what prints as a table as Markdown, and as LaTeX."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from ..support.markdown import markdown
from ..support.tex import tex
from .table_text import numeric_columns


class WrittenTable:
    """What prints as a table, and so can be written as one into a document."""

    __slots__ = ()

    def _table(self) -> Sequence[tuple[str, ...]]:
        """A header and rows, as they are printed."""
        raise NotImplementedError

    def to_markdown(self) -> str:
        r"""The printed table as one of Markdown, with numbers to the right; without the lines above
        and below it.

        >>> import tnlayer as tn
        >>> plan = tn.plan(tn.topologies.low_rank(8, 6, rank=2), batch=16, minimize="flops")
        >>> print(plan.to_markdown())
        | runs | result | legs | operation | FLOPs | bytes |
        | --- | --- | --- | --- | ---: | ---: |
        | each sample | t0 | b r | x x V, sum i | 32\*B | 40\*B + 64 |
        | each sample | t1 | b j | t0 x U, sum r | 24\*B | 32\*B + 48 |
        """
        head, *body = self._table()
        right = numeric_columns([head, *body])
        rows = [_markdown(head), _row("---:" if number else "---" for number in right)]
        return "\n".join((*rows, *map(_markdown, body)))

    def to_latex(self) -> str:
        r"""The same as a ``tabular`` of LaTeX, which needs no package.

        >>> import tnlayer as tn
        >>> plan = tn.plan(tn.topologies.low_rank(8, 6, rank=2), batch=16, minimize="flops")
        >>> print(plan.to_latex().replace("\\\\", "[end]"))
        \begin{tabular}{llllrr}
        runs & result & legs & operation & FLOPs & bytes [end] \hline
        each sample & t0 & b r & x x V, sum i & 32*B & 40*B + 64 [end]
        each sample & t1 & b j & t0 x U, sum r & 24*B & 32*B + 48 [end]
        \end{tabular}
        """
        head, *body = self._table()
        columns = "".join("r" if number else "l" for number in numeric_columns([head, *body]))
        rows = [_latex(row) for row in (head, *body)]
        rows[0] += r" \hline"
        return "\n".join((rf"\begin{{tabular}}{{{columns}}}", *rows, r"\end{tabular}"))


def _markdown(cells: Sequence[str]) -> str:
    """A row in which nothing is markup."""
    return _row(map(markdown, cells))


def _latex(cells: Sequence[str]) -> str:
    """A row in which nothing is a command."""
    text = " & ".join(map(tex, cells))
    # What ends the row above would take a bracket or a star as its own.
    return ("{}" if text[:1] in ("[", "*") else "") + text + r" \\"


def _row(cells: Iterable[str]) -> str:
    return f"| {' | '.join(cells)} |"
