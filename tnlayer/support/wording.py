"""Counts and ratios in words, as all texts for users have them."""

from __future__ import annotations


def counted(count: int, what: str, several: str = "") -> str:
    """A count with its noun.

    Arguments:
        count: how many.
        what: of what, for one.
        several: the same for several; by default with an s.

    >>> counted(1, "tensor"), counted(2000, "tensor"), counted(2, "entry", "entries")
    ('1 tensor', '2,000 tensors', '2 entries')
    """
    return f"{count:,} {what if count == 1 else several or what + 's'}"


def times(ratio: float) -> str:
    """How many times as much, with three digits.

    >>> times(55188.2), times(819.2), times(2.0), times(0.256)
    ('55,188x', '819x', '2x', '0.256x')
    """
    return f"{ratio:,.0f}x" if ratio >= 100 else f"{ratio:.3g}x"


def fewer(dense: int, count: int, than: str = "dense") -> str:
    """Parameters beside those of the dense layer, in words.

    Arguments:
        dense: entries of the dense layer, or of what else it is held against.
        count: of parameters.
        than: what it is held against.

    >>> fewer(1000, 10), fewer(10, 25), fewer(10, 10), fewer(10, 0)
    ('100x fewer than dense', '2.5x as many as dense', 'as many as dense', 'no parameters')
    """
    if not count:
        return "no parameters"
    if count == dense:
        return f"as many as {than}"
    return (
        f"{times(dense / count)} fewer than {than}"
        if count < dense
        else (f"{times(count / dense)} as many as {than}")
    )
