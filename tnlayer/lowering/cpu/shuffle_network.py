"""The search for a network of two-input shuffles (ir/shuffles.py) with few of them.

k registers that exchange entries all with all
take log2(k) rounds of k shuffles instead of k - 1 shuffles for each result. A transposition of four
registers of four::

    a0 a1 a2 a3      a0 a1 b0 b1      a0 b0 c0 d0     first pairs (a b) and (c d) exchange halves,
    b0 b1 b2 b3  ->  c0 c1 d0 d1  ->  a1 b1 c1 d1     then what came of them: 2 rounds of 4,
    c0 c1 c2 c3      a2 a3 b2 b3      a2 b2 c2 d2     where 4 results of 3 shuffles each would
    d0 d1 d2 d3      c2 c3 d2 d3      a3 b3 c3 d3     take 12
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace

from ...ir.loops import For, LoopProgram, LoopRegion, Permute, Statement
from ...ir.shuffles import Entry, Register, Shuffle, ShuffleNetwork, wanted_registers
from ...support.dtypes import DTYPES


def find_shuffles(program: LoopProgram) -> LoopProgram:
    """Each Permute of a CPU's program with the network that does it."""
    is_complex = DTYPES[program.scalar].is_complex
    known: dict[tuple[object, ...], ShuffleNetwork] = {}

    def network(permute: Permute) -> ShuffleNetwork:
        # Steps of one kind move their states alike.
        key = (len(permute.sources), permute.entries)
        if key not in known:
            wanted = wanted_registers(permute.entries, program.width, is_complex=is_complex)
            known[key] = find_network((1 + is_complex) * len(permute.sources), wanted)
        return known[key]

    def found(body: Sequence[Statement]) -> tuple[Statement, ...]:
        return tuple(map(with_networks, body))

    def with_networks(statement: Statement) -> Statement:
        match statement:
            case Permute():
                return replace(statement, network=network(statement))
            case LoopRegion() | For():
                return replace(statement, body=found(statement.body))
            case _:
                return statement

    return replace(
        program,
        before=found(program.before),
        samples=found(program.samples),
        after=found(program.after),
    )


def find_network(sources: int, wanted: Sequence[Register]) -> ShuffleNetwork:
    """Shuffles that make wanted vectors from source registers 0, 1, ..., sources - 1.

    Arguments:
        sources: number of source registers.
        wanted: for each result its entries; where an entry is None anything may stand.
    """
    width = len(wanted[0])
    start = {n: tuple((n, lane) for lane in range(width)) for n in range(sources)}
    building = _Building(width, dict(start))
    found: dict[int, int | None] = {}
    # Results that need the same sources exchange entries with each other, and with no others.
    groups: dict[tuple[int, ...], list[int]] = {}
    for number, register in enumerate(wanted):
        needed = tuple(sorted({entry[0] for entry in register if entry is not None}))
        groups.setdefault(needed, []).append(number)
    for needed, numbers in groups.items():
        results = building.exchange(list(needed), [wanted[n] for n in numbers])
        found.update(zip(numbers, results, strict=True))
    results = tuple(found[n] for n in range(len(wanted)))
    return ShuffleNetwork(tuple(building.shuffles), results)


def shuffles_needed(sources: int, wanted: Sequence[Register]) -> int:
    """How many shuffles the network takes."""
    return len(find_network(sources, wanted).shuffles)


@dataclass(slots=True)
class _Building:
    """Registers made so far, by number."""

    width: int
    holds: dict[int, Register]
    shuffles: list[Shuffle] = field(default_factory=list)

    def exchange(self, sources: list[int], wanted: list[Register]) -> list[int | None]:
        """Registers with the wanted entries: by rounds while they pay, then one after another."""
        # The smallest factor first: rounds of pairs take fewest shuffles.
        share = _least_factor(len(sources))
        if not sources or len(sources) == share or len(wanted) % share:
            return [self.merge(sources, register) for register in wanted]
        # Wanted vectors in as many parts as sources are taken at once; what one part needs of some
        # sources is packed into one register.
        size = len(wanted) // share
        parts = [wanted[at : at + size] for at in range(0, len(wanted), size)]
        taken = [sources[at : at + share] for at in range(0, len(sources), share)]
        # A register holds one vector's worth: where more is needed of a few sources, no round pays.
        packs = [[self.pack(few, part) for few in taken] for part in parts]
        if any(pack is None for row in packs for pack in row):
            return [self.merge(sources, register) for register in wanted]
        results: list[int | None] = []
        for part, row in zip(parts, packs, strict=True):
            inner: list[int] = []
            for few, pack in zip(taken, row, strict=True):
                assert pack is not None
                made = self.merge(few, pack)
                assert made is not None
                inner.append(made)
            results += self.exchange(inner, part)
        return results

    def pack(self, sources: list[int], part: list[Register]) -> Register | None:
        """What vectors need of some sources, as one register; None if it does not fit."""
        there = {entry for source in sources for entry in self.holds[source]} - {None}
        needed = dict.fromkeys(e for register in part for e in register if e in there)
        if not needed or len(needed) > self.width:
            return None
        return (*needed, *([None] * (self.width - len(needed))))

    def merge(self, sources: list[int], wanted: Register) -> int | None:
        """One register from several: the first two are shuffled, each further one is let in."""
        if all(entry is None for entry in wanted):
            return None
        left, *others = sources
        others = others or [left]
        for right in others:
            first, second = self.holds[left], self.holds[right]
            picks: list[int] = []
            holds: list[Entry | None] = []
            for lane, entry in enumerate(wanted):
                if entry is not None and entry in first:
                    # In its place if it can be: then the shuffle may be none, or a blend.
                    at = lane if first[lane] == entry else first.index(entry)
                elif entry is not None and entry in second:
                    at = self.width + (lane if second[lane] == entry else second.index(entry))
                else:
                    at, entry = lane, None
                picks.append(at)
                holds.append(entry)
            # All entries are where they were: the left register is the result.
            if picks != list(range(self.width)):
                number = len(self.holds)
                self.shuffles.append(Shuffle(number, left, right, tuple(picks)))
                self.holds[number] = tuple(holds)
                left = number
        return left


def _least_factor(number: int) -> int:
    return next((k for k in range(2, number) if number % k == 0), max(number, 1))
