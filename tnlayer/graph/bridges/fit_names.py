"""Names for what comes from elsewhere, by one rule in all bridges: a name stays, and what is made
stands beside it."""

from __future__ import annotations

import re
from collections.abc import Collection, Sequence

from ..argument_checks import IDENTIFIER, LEG_NAME, RESERVED_NAMES


def tensor_names(wanted: Sequence[str]) -> list[str]:
    """A tensor's name for each text; see :func:`_fit`.

    >>> tensor_names(["A", "0", "", "t_0", "A", "core 1", "bias"])
    ['A', 't_0_1', 't_2', 't_0', 'A_1', 'core_1', 'bias_1']
    """
    return _fit(wanted, "t", IDENTIFIER, RESERVED_NAMES)


def leg_names(wanted: Sequence[str], *, dots: bool = False) -> list[str]:
    """A leg's name for each text; see :func:`_fit`.

    Arguments:
        wanted: the texts.
        dots: whether names of wires, such as "gate.2", are names.

    >>> leg_names(["a-b", "3", "a_b"])
    ['a_b_1', 'e_3', 'a_b']
    """
    return _fit(wanted, "e", LEG_NAME if dots else IDENTIFIER, ())


def _fit(
    wanted: Sequence[str], prefix: str, pattern: re.Pattern[str], reserved: Collection[str]
) -> list[str]:
    """What is a name stays, the first time that it stands. Of all else the letters, digits and
    underscores are taken, after a prefix where these begin with no letter, or its position where
    there are none; with a number behind where that is taken."""
    found: list[str | None] = [None] * len(wanted)
    used = set(reserved)
    for position, text in enumerate(wanted):
        if pattern.fullmatch(text) and text not in used:
            found[position] = text
            used.add(text)
    for position, text in enumerate(wanted):
        if found[position] is None:
            name = made = _made(text, position, prefix, pattern)
            number = 0
            while made in used:
                number += 1
                made = f"{name}_{number}"
            found[position] = made
            used.add(made)
    return [name for name in found if name is not None]


def _made(text: str, position: int, prefix: str, pattern: re.Pattern[str]) -> str:
    if pattern.fullmatch(text):
        return text
    plain = re.sub(r"\W+", "_", text, flags=re.ASCII).strip("_") or str(position)
    return plain if IDENTIFIER.fullmatch(plain) else f"{prefix}_{plain}"
