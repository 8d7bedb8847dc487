"""What a block of threads does for a group of samples, counted from its loop program.

From the counts follow cycles of a multiprocessor, by what bounds them on paper: instructions that
it issues, words of its shared memory and first cache, bytes from L2, loops that wait for each
other. So schedules of one plan can be compared. Nothing is fitted: no kernel was ever timed for it.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from ...ir.launches import WARP, MemoryMap
from ...ir.loops import (
    At,
    Fill,
    LoopProgram,
    Statement,
    SumPartials,
    SumThreads,
    Threads,
    Tile,
    steps_of,
)
from ...support.dtypes import DTYPES


@dataclass(frozen=True, slots=True)
class Multiprocessor:
    """What one multiprocessor does in a cycle; no datasheet has the last three.

    Arguments:
        issue: instructions of a warp.
        cache_bytes: bytes from L2, its share of what all get.
        first_bytes: bytes that its shared memory and first cache divide.
        warps: warps that it needs to issue that many instructions.
        first_cache: cycles of a load from the first cache, where one from shared memory takes one.
        wait: cycles for which a thread loop waits at its barrier and for its first loads.
    """

    issue: float = 4.0
    cache_bytes: float = 19.0
    first_bytes: int = 256 * 1024
    warps: float = 8.0
    first_cache: float = 2.0
    wait: float = 600.0


@dataclass(slots=True)
class Count:
    """What one group of samples costs a block, in instructions of whole warps and in bytes.

    Arguments:
        products: multiply-adds.
        moves: other instructions.
        shared: words of shared memory that a warp reads or writes, each for all lanes.
        cached: the same of global memory that all samples share, in the first cache if it fits.
        far_bytes: bytes from and to L2: states of blocks that shared memory does not hold.
    """

    products: float = 0.0
    moves: float = 0.0
    shared: float = 0.0
    cached: float = 0.0
    far_bytes: float = 0.0

    def add(self, other: Count) -> None:
        """Sum up."""
        for name in ("products", "moves", "shared", "cached", "far_bytes"):
            setattr(self, name, getattr(self, name) + getattr(other, name))


@dataclass(slots=True)
class BlockWork:
    """What a block does for one group of samples.

    Arguments:
        program: with placed buffers.
        layout: where they lie.
        loops: a count for each thread loop, with the plan steps it has and the share of each in its
            multiply-adds.
        group: all of them together.
        weights: bytes of global memory that each group reads again.
    """

    program: LoopProgram
    layout: MemoryMap
    loops: list[tuple[Count, dict[str, float]]] = field(
        default_factory=list[tuple[Count, dict[str, float]]]
    )
    group: Count = field(default_factory=Count)
    weights: float = 0.0

    def cycles(self, count: Count, loops: int, resident: int, of: Multiprocessor) -> float:
        """Cycles until a multiprocessor has done something for one group of samples.

        Arguments:
            count: what it does: of one loop or of all.
            loops: thread loops that it does it in.
            resident: blocks that work side by side.
            of: its rates.
        """
        program = self.program
        size = DTYPES[program.scalar].itemsize
        # An instruction takes some cycles until it is done. Other warps hide that, if there are
        # enough.
        warps = resident * program.threads / WARP
        issued = (DTYPES[program.scalar].work * count.products + count.moves) / of.issue
        issued /= min(1.0, warps / of.warps)
        # Shared memory and the first cache serve words of 32 bits by the same ports.
        ports = size / 4 * (count.shared + of.first_cache * count.cached)
        # What the first cache does not hold is read again from L2 by each group, in its share.
        room = of.first_bytes - resident * self.layout.block * size
        far = count.far_bytes
        if self.weights > max(0, room):
            far += self.weights * count.cached / max(1.0, self.group.cached)
        # These go on side by side, so the slowest bounds all. Waiting comes on top, the less the
        # more blocks there are that go on meanwhile.
        return max(issued, ports, far / of.cache_bytes) + loops * of.wait / resident


def count_samples(program: LoopProgram, layout: MemoryMap) -> BlockWork:
    """Count the loops over samples of a program whose buffers are placed."""
    # Where an access goes: x and y, shared memory, a block's own piece of global memory, or what
    # all blocks read.
    spaces = {
        buffer.name: "samples"
        if buffer.batched
        else "block"
        if buffer.name in layout.partials
        else buffer.space
        for buffer in program.buffers
    }
    found = BlockWork(program, layout)
    read: set[str] = set()
    for step in steps_of(program.samples):
        for loop in step.body:
            if isinstance(loop, Threads):
                count, shares = _loop(loop, spaces, program, read)
                found.loops.append((count, shares))
                found.group.add(count)
    size = DTYPES[program.scalar].itemsize
    found.weights = size * sum(buffer.size for buffer in program.buffers if buffer.name in read)
    return found


def products_of(body: Iterable[Statement]) -> float:
    """Products of one point; a cleared or copied entry counts as one."""
    return sum(
        float(_terms(s) * len(s.rows) * len(s.columns)) for s in body if isinstance(s, Tile)
    ) + sum(1.0 for s in body if isinstance(s, SumPartials | Fill))


def made_by(loop: Threads, values: Mapping[str, str]) -> str:
    """The value that a loop makes, by its first statement that writes one; "" if none does.

    Arguments:
        loop: of a program.
        values: the value that each of the program's buffers holds.
    """
    targets = (s.target for s in loop.body if isinstance(s, Tile | SumPartials | Fill))
    return next((values[target.buffer] for target in targets), "")


def _terms(tile: Tile) -> int:
    found = len(tile.sums)
    for axis in tile.loops:
        found *= axis.count
    return found


def _loop(
    loop: Threads, spaces: dict[str, str], program: LoopProgram, read: set[str]
) -> tuple[Count, dict[str, float]]:
    """A thread loop: its count, and the share of each result in it; notes weights that are read."""
    count, shares = Count(), dict[str, float]()
    values = program.values
    warps = -(-loop.points // WARP)
    size = DTYPES[program.scalar].itemsize

    def access(at: At, times: float, wide: int = 1, loads: float | None = None) -> None:
        """So many entries of each point, by so many instructions where that is another number."""
        space = spaces[at.buffer]
        if space == "register":
            return
        loads = times / (wide if space == "samples" else 1) if loads is None else loads
        count.moves += warps * loads
        if space == "block":
            # What all lanes read is one word, however wide.
            count.shared += warps * (times if at.terms else loads)
        elif space in ("blockspace", "partial"):
            count.far_bytes += loop.points * times * size
        elif space != "samples":
            count.cached += warps * (times if at.terms else loads)
            read.add(at.buffer)

    seen: set[tuple[object, ...]] = set()

    def read_once(
        at: At, offsets: Sequence[int], times: int, strides: Iterable[int], wide: int = 1
    ) -> None:
        """Entries that the loop has not loaded yet: a compiler loads each of them once, and
        neighbours together."""
        # x and y have a pass of their own that makes accesses wide (coalescing.py).
        if spaces[at.buffer] == "samples":
            access(at, times * len(offsets), wide)
            return
        together = max(1, 16 // size)
        places = [at.offset + offset for offset in offsets]
        # Inside a loop of the tile an entry is another one in each turn.
        if times == 1:
            key = (at.buffer, at.terms)
            places = [place for place in places if (*key, place) not in seen]
            seen.update((*key, place) for place in places)
        # Neighbours are one load of 16 bytes only where it begins at a multiple of 16 each time.
        if any(stride % together for stride in (*strides, *(s for _, s in at.terms))):
            together = 1
        loads = len({place // together for place in places})
        access(at, times * len(places), loads=times * loads)

    for statement in loop.body:
        match statement:
            case Tile():
                terms, repeats = _terms(statement), _terms(statement) // len(statement.sums)
                wide = statement.wide  # so many entries of x or y in one instruction
                left = [r + k for r, _ in statement.rows for k, _ in statement.sums]
                strides = [axis.left for axis in statement.loops]
                read_once(statement.left, left, repeats, strides, wide)
                made = len(statement.rows) * len(statement.columns)
                if statement.right is not None:
                    right = [c + k for c, _ in statement.columns for _, k in statement.sums]
                    strides = [axis.right for axis in statement.loops]
                    read_once(statement.right, right, repeats, strides)
                    count.products += warps * made * terms
                access(statement.target, made * (2 if statement.adds else 1), wide)
                name = values[statement.target.buffer]
                shares[name] = shares.get(name, 0.0) + made * terms
            case SumThreads():
                # Halving: about one exchange an entry, with its addition, and one to memory.
                count.shared += 3 * warps * statement.count
                count.moves += 4 * warps * statement.count
                name = values[statement.target.buffer]
                shares[name] = shares.get(name, 0.0) + 4 * statement.count
            case Fill():
                access(statement.target, statement.count)
            case _:
                pass
    return count, shares
