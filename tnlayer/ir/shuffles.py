"""Networks of two-input shuffles: how vectors in registers become other vectors.

A register is a tuple of entries, an entry the pair (source register, its lane) that it came from.
Every instruction picks entries of two registers. How few of them are enough is found in
lowering/cpu/shuffle_network.py.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

Entry = tuple[int, int]
Register = tuple[Entry | None, ...]


@dataclass(frozen=True, slots=True)
class Shuffle:
    """result[k] = (left ++ right)[picks[k]]; names of registers are their numbers."""

    result: int
    left: int
    right: int
    picks: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class ShuffleNetwork:
    """Shuffles in order.

    Arguments:
        shuffles: each makes one register.
        results: the registers that hold the wanted vectors; None for a vector of zeros.
    """

    shuffles: tuple[Shuffle, ...]
    results: tuple[int | None, ...]


def wanted_registers(
    rows: Iterable[Sequence[Entry]], width: int, *, is_complex: bool
) -> list[Register]:
    """What the registers of vectors hold; a complex vector has two, of numbers in turn.

    Arguments:
        rows: for each vector its entries, of vectors that are read.
        width: entries of a vector: numbers of one register.
        is_complex: whether an entry is two numbers.
    """
    unit = 2 if is_complex else 1
    found: list[Register] = []
    for row in rows:
        numbers = [(s, unit * lane + k) for s, lane in row for k in range(unit)]
        entries = [(unit * s + at // width, at % width) for s, at in numbers]
        for part in range(unit):
            own = entries[part * width : (part + 1) * width]
            found.append((*own, *([None] * (width - len(own)))))
    return found


def apply(
    network: ShuffleNetwork, sources: Sequence[Sequence[object]]
) -> list[list[object] | None]:
    """What a network makes of given registers: its meaning, for the verifier and for tests."""
    holds: dict[int, list[object]] = {n: list(source) for n, source in enumerate(sources)}
    for shuffle in network.shuffles:
        both = [*holds[shuffle.left], *holds[shuffle.right]]
        holds[shuffle.result] = [both[pick] for pick in shuffle.picks]
    return [None if number is None else holds[number] for number in network.results]


def makes(network: ShuffleNetwork, sources: int, wanted: Sequence[Register]) -> bool:
    """Whether a network makes wanted vectors; where an entry is None anything may stand.

    Arguments:
        network: of registers that exist.
        sources: registers that are read.
        wanted: for each result its entries.
    """
    width = len(wanted[0])
    symbols = [[(number, lane) for lane in range(width)] for number in range(sources)]
    try:
        made = apply(network, symbols)
    except (KeyError, IndexError):  # it names a register or an entry that is not there
        return False
    return len(made) == len(wanted) and all(
        not any(register)
        if found is None
        else all(entry in (None, there) for entry, there in zip(register, found, strict=True))
        for found, register in zip(made, wanted, strict=True)
    )
