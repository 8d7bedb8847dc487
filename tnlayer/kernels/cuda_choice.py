"""Which of several lowerings for tensor cores is taken: by what they count, the worst first."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Generic, Protocol, TypeVar

from tnlayer.errors import PlanError
from tnlayer.kernels.cuda_exchange import extent
from tnlayer.kernels.cuda_mma import ADVICE, MmaLowering
from tnlayer.kernels.cuda_place import UNIT, Layout
from tnlayer.kernels.loops import Precision, Program
from tnlayer.plan.plan import Plan
from tnlayer.plan.steps import BATCH

# Entries after which arrays in shared memory leave one out.
PADDINGS = ((), (32,), (16,), (64,), (8,), (32, 1024), (16, 256), (8, 64))
# Entries of all copies of a gradient to which warps add that share its terms, by preference.
COPIED = (4096, 1024, 0)


class Placed(Protocol):
    """A program whose buffers have their places."""

    @property
    def program(self) -> Program: ...
    @property
    def layout(self) -> Layout: ...


Found = TypeVar("Found", bound=Placed)


@dataclass(frozen=True, slots=True)
class _Tried(Generic[Found]):
    """A lowering with its rank: entries of states in global memory, instructions of the busiest
    warps, the worst conflict, entries of weights that samples read from global memory, cycles."""

    lowering: MmaLowering
    placed: Found
    rank: tuple[int, int, int, int, int]


def best_lowering(
    plan: Plan,
    samples: int,
    threads: int,
    precision: Precision,
    entries: int,
    placed: Callable[[MmaLowering], Found | None],
) -> Found:
    """The placed program of the lowering that ranks first.

    Arguments:
        plan: a forward plan with merged blocks, or its adjoint.
        samples: that a block takes at once, a power of two.
        threads: of a block.
        precision: of operands.
        entries: of shared memory that a block may have.
        placed: lowers; None where sums of warps leave no room for states.

    Raises:
        PlanError: no step can use tensor cores.
    """

    def tried(
        periods: tuple[int, ...], copied: int, kept: frozenset[str] = frozenset()
    ) -> Iterator[_Tried[Found]]:
        lowering = MmaLowering(
            plan, samples, threads, precision=precision, periods=periods, most_copied=copied,
            kept=kept,
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
            yield _Tried(lowering, found, (outside, busiest, worst, far, cycles))

    def all_tried() -> Iterator[_Tried[Found]]:
        for periods in PADDINGS:
            before: int | None = None
            for copied in COPIED:
                outside = before
                for one in tried(periods, copied):
                    yield one
                    # Where a state goes to global memory for a weight, this ranks behind.
                    kept = frozenset(_fitting(one, entries))
                    yield from tried(periods, copied, kept) if kept else ()
                    outside = one.rank[0]
                if outside == 0 or (before is not None and outside == before):
                    break  # fewer copies only help where they make room for states
                before = outside

    return min(all_tried(), key=lambda one: one.rank).placed


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
