"""What the paper states, held against the runs."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from benchmarks.paper.results import Difference, Results

HOLDS, DOES_NOT, OPEN = "holds", "does not", "not decided by these runs"


@dataclass(frozen=True, slots=True)
class Statement:
    """A statement about differences of accuracy.

    Arguments:
        text: what the paper states, with its numbers.
        pairs: rows whose difference in accuracy, first less second, must exceed ``bound``.
        bound: as a share of the test images.
    """

    text: str
    pairs: tuple[tuple[str, str], ...]
    bound: float = 0.0


STATEMENTS = (
    Statement(
        "MERA beats tensor trains at equal parameters "
        "(MERA-2 over TT-3 by 0.82, MERA-3 over TT-5 by 0.88 points)",
        (("MERA-2", "TT-3"), ("MERA-3", "TT-5")),
    ),
    Statement(
        "Disentanglers are essential: a tree has none (no number in the paper)",
        (("MERA-3", "tree-3"),),
    ),
    Statement(
        "MERA-3 has 3,900 times fewer parameters and is less than 1 point below FC-1 (0.99)",
        (("MERA-3", "FC-1"),),
        bound=-0.01,
    ),
    Statement(
        "MERA beats naive compression with 70 to 100 times its parameters (MERA-2 over FC-2 by "
        "4.65 points)",
        (("MERA-2", "FC-2"),),
    ),
)


def verdict(difference: Difference | None, bound: float) -> str:
    """Whether a difference exceeds a bound, by its 95% interval.

    >>> verdict(Difference(0.02, 0.01), bound=0.0)
    'holds'
    >>> verdict(Difference(-0.02, 0.01), bound=0.0)
    'does not'
    >>> verdict(Difference(0.02, None), bound=0.0)
    'not decided by these runs'
    """
    if difference is None or difference.margin is None:
        return OPEN
    if difference.mean - difference.margin > bound:
        return HOLDS
    return DOES_NOT if difference.mean + difference.margin < bound else OPEN


def joint_verdict(verdicts: Sequence[str]) -> str:
    """A statement about several pairs: one that fails is enough against it."""
    if DOES_NOT in verdicts:
        return DOES_NOT
    return HOLDS if all(found == HOLDS for found in verdicts) else OPEN


def answer(statement: Statement, results: Results) -> str:
    """The verdict on a statement by one protocol, with the numbers."""
    found = [(pair, results.difference(*pair)) for pair in statement.pairs]
    answered = joint_verdict([verdict(each, statement.bound) for _, each in found])
    numbers = [f"{first} - {second}: {points(each)}" for (first, second), each in found if each]
    return f"**{answered}**" + (f" ({'; '.join(numbers)})" if numbers else "")


def points(difference: Difference) -> str:
    """A difference in points of a percent, with its margin.

    >>> points(Difference(0.0123, 0.0045))
    '+1.23 ± 0.45'
    """
    text = f"{100 * difference.mean:+.2f}"
    if difference.margin is None:
        return f"{text}, too few seeds for an interval"
    return f"{text} ± {100 * difference.margin:.2f}"


def time_answer(ratio: Callable[[str], float | None]) -> str:
    """Whether networks with MERA layers take longer to train than FC-1.

    Arguments:
        ratio: the time of a training step of a row's whole network over FC-1's.
    """
    found = {row: ratio(row) for row in ("MERA-2", "MERA-3")}
    known = {row: value for row, value in found.items() if value is not None}
    if len(known) < len(found):
        return f"**{OPEN}**"
    longer = [value > 1 for value in known.values()]
    answered = HOLDS if all(longer) else OPEN if any(longer) else DOES_NOT
    numbers = "; ".join(f"{row}: {value:.2f} of FC-1's step" for row, value in known.items())
    return f"**{answered}** ({numbers})"
