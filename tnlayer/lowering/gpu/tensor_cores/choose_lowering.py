"""Which of several lowerings for tensor cores is taken: by what they count, the worst first.

Three things are chosen at once, for each takes shared memory from the others: how arrays are
padded, how many copies of a gradient warps may add to, and which weights each block keeps by
itself. All combinations of the first two are lowered and placed; weights fill the room that is
left::

    shared memory of a block   | states, padded | copies of gradients | kept weights | free |
                                 PADDINGS         COPIED                _fitting
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from fractions import Fraction
from typing import Generic, Protocol, TypeVar

from ....errors import PlanError
from ....ir.launches import MemoryMap
from ....ir.loops import LoopProgram, Precision
from ....ir.plan import Plan
from ....ir.steps import BATCH
from ..padded_strides import extent
from ..place_buffers import UNIT
from .matrices import ADVICE, MmaLowering

# Entries after which arrays in shared memory leave one out.
PADDINGS = ((), (32,), (16,), (64,), (8,), (32, 1024), (16, 256), (8, 64))
# Entries of all copies of a gradient to which warps add that share its terms, by preference.
COPIED = (4096, 1024, 0)


class Placed(Protocol):
    """A program whose buffers have their places."""

    @property
    def program(self) -> LoopProgram: ...
    @property
    def layout(self) -> MemoryMap: ...
    @property
    def together(self) -> int: ...


Found = TypeVar("Found", bound=Placed)


@dataclass(frozen=True, slots=True)
class _Tried(Generic[Found]):
    """A lowering with its rank: entries of states in global memory; the worst conflict, down to
    two ways; instructions of the busiest warps, for each block that a multiprocessor holds; entries
    of weights that samples read from global memory; cycles."""

    lowering: MmaLowering
    placed: Found
    rank: tuple[int, int, Fraction, int, int]


def best_lowering(
    plan: Plan,
    samples: int,
    threads: int,
    precision: Precision,
    entries_of: Callable[[int], int],
    placed: Callable[[MmaLowering], Found | None],
) -> Found:
    """The placed program of the lowering that ranks first.

    Arguments:
        plan: a forward plan with merged blocks, or its adjoint.
        samples: that a block takes at once, a power of two.
        threads: of a block.
        precision: of operands.
        entries_of: entries of shared memory of each block, of so many on a multiprocessor.
        placed: lowers; None where sums of warps leave no room for states.

    Raises:
        PlanError: no step can use tensor cores.
    """

    def tried(
        periods: tuple[int, ...],
        copied: int,
        kept: frozenset[str] = frozenset(),
        kept_periods: tuple[int, ...] = (),
    ) -> Iterator[_Tried[Found]]:
        lowering = MmaLowering(
            plan, samples, threads, precision=precision, periods=periods, most_copied=copied,
            kept=kept, kept_periods=kept_periods,
        )  # fmt: skip
        found = placed(lowering)
        if not lowering.products and any(BATCH in value.legs for value in plan.ports):
            raise PlanError(
                f"tensor_cores={precision!r}: no step of the plan has 16 rows, 8 columns and "
                f"8 (bf16: 16) terms of sizes that are powers of two; {ADVICE}"
            )
        if found is not None:
            outside = sum(lowering.volumes[b.name] for b in found.program.of("blockspace"))
            busiest, worst, cycles = lowering.cost()
            far = sum(lowering.volumes_far().values())
            busy = Fraction(busiest, found.together)
            yield _Tried(lowering, found, (outside, worst, busy, far, cycles))

    def all_tried() -> Iterator[_Tried[Found]]:
        for periods in PADDINGS:
            # A limit that the one before did not use up gives the same lowering: it is left out.
            used = COPIED[0] + 1
            for copied in (limit for limit in COPIED if limit < used):
                for one in tried(periods, copied):
                    yield one
                    used = one.lowering.copied
                    # No weight that would cost a block or move a state to global memory.
                    kept = frozenset(_fitting(one, entries_of(one.placed.together)))
                    yield from tried(periods, copied, kept, periods) if kept else ()

    def with_other_copies(best: _Tried[Found]) -> Iterator[_Tried[Found]]:
        yield best
        # How kept weights are padded moves nothing else: it is chosen last, for the best one only.
        one = best.lowering
        for periods in PADDINGS if one.kept else ():
            yield from tried(one.periods, one.most_copied, one.kept, periods)

    best = min(all_tried(), key=lambda one: one.rank)
    return min(with_other_copies(best), key=lambda one: one.rank).placed


def _fitting(tried: _Tried[Found], entries: int) -> Iterator[str]:
    """Weights in global memory that fit beside everything else, those first that save the most
    reads for their size."""
    lowering, room = tried.lowering, entries - tried.placed.layout.block
    reads = lowering.volumes_far()
    sizes: dict[str, int] = {}
    for name in reads:
        array = lowering.local[name]
        strides = lowering.strides_of(array.legs, "block")
        sizes[name] = -(-extent(strides, lowering.sizes) // UNIT) * UNIT
    for name in sorted(reads, key=lambda name: (-reads[name] / sizes[name], sizes[name], name)):
        if sizes[name] <= room:
            room -= sizes[name]
            yield name
