"""The tensor-core mode's shared memory: banks of every access, blocks that are kept there."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace

import pytest

import tnlayer as tn
from tests.support.cuda_case import CudaCase
from tests.support.tensor_core_cases import (
    BOUNDS,
    NETWORKS,
    PADDED,
    distance,
    gpu,
    place_of_a,
    place_of_b,
    place_of_c,
)
from tnlayer import topologies
from tnlayer.ir.loops import At, Fill, LoopRegion, Mma, Precision, Threads, Tile, statements
from tnlayer.ir.loops_interpret import interpret
from tnlayer.ir.plan import Plan
from tnlayer.lowering.gpu.pipeline import schedule_backward, schedule_forward
from tnlayer.lowering.gpu.schedule import GpuSchedule
from tnlayer.lowering.gpu.tensor_cores import choose_lowering
from tnlayer.lowering.gpu.tensor_cores.thread_loop_lanes import order_points

FULL = pytest.mark.full
# One network of each kind; scheduling the long ones takes a second or two.
ALWAYS = {
    ("tf32", name)
    for name in ("mera", "mera_12", "brickwall", "direct", "long", "three", "tree_wide", "tucker",
                 "block_term", "ring")
} | {("bf16", "tree_wide")}  # fmt: skip
CASES = [
    pytest.param(precision, name, marks=[] if (precision, name) in ALWAYS else FULL)
    for precision in ("tf32", "bf16")
    for name in PADDED
    if (precision, name) != ("bf16", "tucker")
]
# Of each network one architecture, and of each architecture one network.
COPIES = [
    pytest.param(arch, name, marks=[] if (arch, name) in (
        ("sm_80", "mera_12"), ("sm_86", "tree_wide"), ("sm_90", "train"), ("sm_90", "long")
    ) else FULL)
    for arch in ("sm_80", "sm_86", "sm_90")
    for name in ("mera_12", "tree_wide", "train", "long")
]  # fmt: skip


def pair(plan: Plan, precision: Precision, arch: str = "sm_90") -> tuple[GpuSchedule, GpuSchedule]:
    wanted = [value.name for value in plan.inputs]
    device = gpu(precision, arch)
    return schedule_forward(plan, device), schedule_backward(plan, wanted, device)


def busiest_bank(places: Iterator[int]) -> int:
    """Words of one bank that lanes touch."""
    banks: dict[int, set[int]] = {}
    for place in places:
        banks.setdefault(place % 32, set()).add(place)
    return max(map(len, banks.values()))


def ways(mma: Mma, side: str) -> int:
    """Words of the busiest bank in the worst access of an operand or the target."""
    packs = mma.precision == "bf16"
    rows, columns, sums = mma.rows, mma.columns, mma.sums
    places: dict[str, Callable[[int, int], int]] = {
        "left": lambda lane, i: (
            rows[place_of_a(lane, i, packs)[0]][0] + sums[place_of_a(lane, i, packs)[1]][0]
        ),
        "right": lambda lane, i: (
            sums[place_of_b(lane, i, packs)[0]][1] + columns[place_of_b(lane, i, packs)[1]][0]
        ),
        "target": lambda lane, i: (
            rows[place_of_c(lane, i)[0]][1] + columns[place_of_c(lane, i)[1]][1]
        ),
    }
    registers = {"left": 8 if packs else 4, "right": 4 if packs else 2, "target": 4}[side]
    return max(busiest_bank(places[side](lane, i) for lane in range(32)) for i in range(registers))


def ways_of_points(loop: Threads, at: At, start: int = 0) -> int:
    """The same for threads that are points, from thread ``start`` on: what all lanes add to a place
    does not matter."""
    worst = 0
    for first in range(-(start % 32), loop.points, 32):
        points = range(max(0, first), min(first + 32, loop.points))
        worst = max(worst, busiest_bank(_place(loop, at, point) for point in points))
    return worst


def _place(loop: Threads, at: At, point: int) -> int:
    index: dict[str, int] = {}
    for name, count in reversed(loop.indices):
        point, index[name] = divmod(point, count)
    return at.offset + sum(index[name] * stride for name, stride in at.terms)


def accesses(scheduled: GpuSchedule) -> Iterator[tuple[str, int]]:
    """What touches shared memory in the persistent kernel, and how many ways it conflicts."""
    program = scheduled.program
    shared = {buffer.name for buffer in program.of("block")} | set(scheduled.layout.partials)
    for part in (program.prologue, program.samples):
        for step in part:
            assert isinstance(step, LoopRegion)
            for loop in step.body:
                if not isinstance(loop, Threads):
                    continue
                assert loop.spread is not None
                start = loop.spread.first  # short loops have threads of their own
                for statement in loop.body:
                    assert isinstance(statement, Mma | Tile | Fill), "a new statement: count it"
                    if isinstance(statement, Fill):
                        sides = [("target", statement.target)]
                    else:
                        named = [(n, getattr(statement, n)) for n in ("target", "left", "right")]
                        sides = [(name, at) for name, at in named if at is not None]
                    for name, at in sides:
                        if at.buffer in shared:
                            text = f"{step.comment}: {name} {at}"
                            if isinstance(statement, Mma):
                                yield text, ways(statement, name)
                            else:
                                yield text, ways_of_points(loop, at, start)


@pytest.mark.parametrize(("precision", "name"), CASES)
def test_accesses_conflict_at_most_two_ways(name: str, precision: Precision) -> None:
    """Lanes meet in a bank of shared memory at most in pairs: when they load fragments, when they
    store or add results, in steps that are no products on tensor cores, and in copies of x, y and
    weights; forward and backward. Partials are cleared and summed by neighbours."""
    plan = tn.plan(PADDED[name](), batch=64, minimize="flops")
    found = [access for scheduled in pair(plan, precision) for access in accesses(scheduled)]
    assert len(found) >= 4
    assert not [access for access in found if access[1] > 2]


def test_points_come_in_the_order_of_fewest_conflicts() -> None:
    """Threads that write each fourth entry meet four ways; other digits of their number do not."""
    target = At("T", 0, (("i0", 129), ("i1", 4)), "scalar")
    left = At("L", 0, (("i0", 40), ("i1", 1)), "scalar")
    loop = Threads((("i0", 8), ("i1", 32)), (Tile(target, left, None),))
    assert ways_of_points(loop, target) == 4 and ways_of_points(loop, left) == 1
    ordered, (worst, cycles) = order_points(loop, {"T", "L"})
    (tile,) = ordered.body
    assert isinstance(tile, Tile) and ordered.points == loop.points
    assert worst == 2 and cycles == sum(
        ways_of_points(ordered, at) * 8 for at in (tile.target, tile.left)
    )
    seen = {(_place(ordered, tile.target, p), _place(ordered, tile.left, p)) for p in range(256)}
    assert seen == {(_place(loop, target, p), _place(loop, left, p)) for p in range(256)}
    fine = Threads(
        (("i0", 256),), (Tile(At("T", 0, (("i0", 1),)), At("L", 0, (("i0", 1),)), None),)
    )
    assert order_points(fine, {"T", "L"}) == (fine, (2, 16))


# -- blocks that are kept ------------------------------------------------------------------------


def weights_outside(scheduled: GpuSchedule) -> set[str]:
    """Weights that products of samples read from global memory."""
    program = scheduled.program
    outside = {buffer.name for buffer in program.buffers
               if buffer.space in ("shared", "input") and not buffer.batched}  # fmt: skip
    found: set[str] = set()
    for statement in statements(program.samples):
        if isinstance(statement, Mma | Tile):
            operands = {at.buffer for at in (statement.left, statement.right) if at is not None}
            found |= operands & outside
    return found


def test_blocks_are_kept_where_they_cost_no_block() -> None:
    """MERA-2's blocks are made before, and copied into shared memory: all of them forward. Backward
    as many as leave room for two blocks of threads on a multiprocessor, and the others are read
    from global memory; without copies there would be as many blocks and states in shared memory."""
    plan = tn.plan(topologies.mera(12, 2), batch=64, minimize="flops")
    forward, backward = pair(plan, "tf32")
    assert forward.program.before and not weights_outside(forward) and forward.together == 2
    assert len(weights_outside(backward)) == 2 and backward.together == 2
    assert not backward.program.of("blockspace")
    forward, backward = pair(plan, "tf32", "sm_86")
    assert len(weights_outside(forward)) == 2 and forward.together == 2
    assert len(weights_outside(backward)) == 2 and backward.together == 1
    assert not backward.program.of("blockspace")


@pytest.mark.parametrize(("arch", "name"), COPIES)
def test_copies_push_nothing_out(name: str, arch: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """With copies of weights as many entries of states lie in shared memory as without, and as many
    blocks fit a multiprocessor; fewer weights are read from global memory, or as many."""
    plan = tn.plan(PADDED[name](), batch=64, minimize="flops")
    kept = pair(plan, "tf32", arch)
    monkeypatch.setattr(choose_lowering, "_fitting", lambda *_: iter(()))
    for with_copies, without in zip(kept, pair(plan, "tf32", arch), strict=True):
        # Which of two equal states it is does not matter, nor how they are padded.
        outside = [
            sorted(buffer.size.bit_length() for buffer in scheduled.program.of("blockspace"))
            for scheduled in (with_copies, without)
        ]
        assert outside[0] == outside[1]
        assert with_copies.together == without.together
        assert weights_outside(with_copies) <= weights_outside(without)


def test_a_kept_weight_is_the_one_that_was_made() -> None:
    """A copy in shared memory, of a block or of a large parameter, gives what the oracle gives."""
    for number, name in enumerate(("kronecker", "long")):
        trial = CudaCase(NETWORKS[name](), "float32", gpu("3xtf32"), number, 3)
        assert not weights_outside(trial.programs[0])
        for scheduled in trial.programs:
            given = trial.inputs_of(scheduled.program)
            for out, entries in interpret(scheduled.program, given, trial.batch).items():
                assert distance(entries, trial.exact[out]) < BOUNDS["3xtf32"], out
    few = replace(gpu("3xtf32"), shared_bytes=48 * 1024)
    trial = CudaCase(NETWORKS["mera"](), "float32", few, 3, 3)
    assert weights_outside(trial.programs[1])
    given = trial.inputs_of(trial.programs[1].program)
    for out, entries in interpret(trial.programs[1].program, given, trial.batch).items():
        assert distance(entries, trial.exact[out]) < BOUNDS["3xtf32"], out
