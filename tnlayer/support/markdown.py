"""Markdown: text in which nothing is a mark."""

from __future__ import annotations

import re

# Underscores inside words are no marks, as in low_rank.
_MARKS = re.compile(r"[\\|*`<\[\]]|(?<![^\W_])_|_(?![^\W_])")


def markdown(value: object) -> str:
    r"""A value as text of Markdown: nothing in it is a mark, in a cell of a table neither.

    >>> print(markdown("low_rank *x* a|b"))
    low_rank \*x\* a\|b
    """
    return _MARKS.sub(r"\\\g<0>", str(value))
