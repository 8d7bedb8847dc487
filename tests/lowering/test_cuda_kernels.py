"""CUDA kernels as text: segments, places in memory, golden files, and what NVRTC makes of them."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace
from functools import lru_cache
from itertools import product

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import tnlayer as tn
from benchmarks.gpu.machine_code import between_barriers, disassembled, share
from benchmarks.gpu_static import gates
from tests.support.golden import Golden
from tests.support.nvidia_tools import compiled, needs_nvdisasm
from tests.support.small_topologies import CHAINS
from tests.support.small_topologies import NETWORKS as TOPOLOGIES
from tnlayer import topologies
from tnlayer.backends.cuda_source import backward_source, forward_source, printed
from tnlayer.codegen.cuda.prelude import cuda_prelude
from tnlayer.codegen.cuda.source import CudaSource
from tnlayer.errors import PlanError
from tnlayer.hardware.gpu import LARGE, gpu_of
from tnlayer.ir.loops import (
    At,
    Barrier,
    Buffer,
    LoopProgram,
    LoopRegion,
    SumThreads,
    Threads,
    Tile,
    buffers_of,
    is_wide,
    statements,
)
from tnlayer.ir.loops_text import program_text
from tnlayer.ir.loops_verify import verified
from tnlayer.ir.plan import Plan
from tnlayer.ir.steps import Operand, Value
from tnlayer.lowering.array_layout import volume
from tnlayer.lowering.gpu.bank_conflicts import choose_strides, conflicts
from tnlayer.lowering.gpu.barriers import find_race
from tnlayer.lowering.gpu.coalescing import direct, goes_direct, run_width, staged
from tnlayer.lowering.gpu.padded_strides import extent, is_injective, padded
from tnlayer.lowering.gpu.pipeline import schedule_backward, schedule_forward
from tnlayer.lowering.gpu.register_segments import Limits, find_register_segments
from tnlayer.lowering.gpu.schedule import GpuSchedule
from tnlayer.lowering.gpu.sums_over_blocks import loads_together
from tnlayer.passes.stem import Stem, StemStep, find_stem

GPU = gpu_of("sm_90")
NETWORKS: dict[str, Callable[[], tn.Network]] = {
    "segments": lambda: topologies.brickwall(5, dim=2, depth=2),
    "steps": lambda: topologies.cp((2, 3), (3, 2), rank=2),
}


MERA = topologies.mera(12, 2)


@lru_cache
def _plan(text: str) -> Plan:
    return tn.plan(tn.Network.from_json(text), batch=64, minimize="flops")


def plan_of(net: tn.Network) -> Plan:
    """The plan of fewest FLOPs; found once."""
    return _plan(net.to_json())


def sources(net: tn.Network, arch: str = "sm_90") -> tuple[CudaSource, CudaSource]:
    """Forward, and backward with all gradients."""
    plan, gpu = plan_of(net), gpu_of(arch)
    wanted = [value.name for value in plan.inputs]
    return forward_source(plan, gpu), backward_source(plan, wanted, gpu)


@pytest.mark.parametrize("name", NETWORKS)
def test_golden_loops(name: str, golden: Golden) -> None:
    """The loop programs are the text in the golden file."""
    golden.check("\n".join(program_text(s.program) for s in sources(NETWORKS[name]())))


@pytest.mark.parametrize("name", NETWORKS)
def test_golden_cuda(name: str, golden: Golden) -> None:
    """The printed CUDA C++ behind the prelude is the text in the golden file; the prelude has its
    own, in tests/codegen/test_preludes.py."""
    pair = sources(NETWORKS[name]())
    heads = [cuda_prelude(s.scalar, s.stored, loads_together(s.scalar)) for s in pair]
    assert all(s.text.startswith(head) for s, head in zip(pair, heads, strict=True))
    kernels = [s.text.removeprefix(head) for s, head in zip(pair, heads, strict=True)]
    golden.check("\n".join(kernels), suffix="cu")


# -- segments ----------------------------------------------------------------------------------


def circuit(legs: int, count: int) -> Stem:
    """The circuit of kernels' prototype: gates on two neighbours of ever fewer legs."""
    now = [f"q{leg}" for leg in range(legs)]
    start, steps, waits = tuple(now), list[StemStep](), list[frozenset[int]]()
    maker: dict[str, int] = {}
    for number, (a, b) in enumerate(gates(legs, count)):
        old = (now[a], now[b])
        now[a], now[b] = f"q{a}_{number}", f"q{b}_{number}"
        weight = Operand(Value(f"w{number}", (now[a], now[b], *old)))
        steps.append(StemStep(f"t{number}", weight, old, (now[a], now[b]), ()))
        waits.append(frozenset(maker[leg] for leg in old if leg in maker))
        maker |= {now[a]: number, now[b]: number}
    port = Value("x0", ("b", *start))
    return Stem(port, Operand(port), start, tuple(steps), tuple(waits), tuple(now))


class _Twos(dict[str, int]):
    def __missing__(self, leg: str) -> int:
        return 2


def test_25_gates_take_at_most_7_segments() -> None:
    """Of 25 gates on 12 legs, with 32 entries a thread; MERA-2's 19 tensors take fewer."""
    segments = find_register_segments(circuit(12, 25), _Twos(), Limits(32))
    assert len(segments) <= 7
    assert sorted(n for s in segments for n in s.steps) == list(range(25))
    mera = schedule_forward(plan_of(topologies.mera(12, 2)), GPU)
    assert 0 < mera.segments < len(segments)


@pytest.mark.parametrize("limits", [Limits(8), Limits(32), Limits(32, 128)])
def test_segments_keep_order_and_limits(limits: Limits) -> None:
    """Steps come after those they wait for, and no state in registers is above the limit."""
    stem = circuit(8, 20)
    done: set[int] = set()
    for segment in find_register_segments(stem, _Twos(), limits):
        assert segment.registers and 2 ** len(segment.registers) <= limits.state
        legs = set(segment.registers)
        for number in segment.steps:
            assert stem.waits[number] <= done
            step = stem.steps[number]
            assert set(step.contracted) <= legs
            legs = (legs - set(step.contracted)) | set(step.made)
            done.add(number)
    assert done == set(range(20))


def test_large_steps_are_no_segments() -> None:
    """A step that makes more than a thread can hold has no register legs; the rest has."""
    net = topologies.tensor_train((16, 4, 4), (16, 4, 4), rank=4)
    stem = find_stem(plan_of(net))
    if isinstance(stem, str):
        pytest.skip(stem)
    segments = find_register_segments(stem, plan_of(net).sizes, Limits(32))
    assert sorted(n for s in segments for n in s.steps) == list(range(len(stem.steps)))


def test_edges_are_counted() -> None:
    """Sectors, lines and instructions of the ways in which a state of 2^10 entries may come in.

    Neighbours with one entry each and neighbours with 16 bytes each fill whole lines; a thread with
    32 bytes takes two instructions that touch each sector once more; runs that are far apart touch
    a line each, so that a copy through shared memory is faster.
    """
    legs, sizes = tuple("abcdefghij"), _Twos()
    single, wide = direct(legs, "abcde", sizes), direct(legs, "abcij", sizes)
    assert (single.instructions, single.sectors) == (32, 128)
    assert (wide.instructions, wide.sectors) == (8, 128)
    assert wide.cycles < single.cycles < staged(legs, sizes).cycles
    double = direct(legs, "abhij", sizes)
    assert (double.instructions, double.sectors) == (8, 256)
    assert goes_direct(legs, "abhij", sizes) and not goes_direct(legs, "fghij", sizes)
    assert direct(legs, "abcij", sizes, stored=8).instructions == 16
    assert direct(legs, "abhij", sizes, stored=2).instructions == 4


def test_odd_runs_are_not_wide() -> None:
    """A run of three entries, or one that begins anywhere, is no access of 16 bytes."""
    sizes = {"a": 8, "b": 3, "c": 4}
    assert run_width(("a", "b"), "b", sizes) == 1
    assert run_width(("b", "c"), "c", sizes) == 4
    at = At("x", 0, (("i0", 4),), "scalar")
    copy = Tile(At("r", form="scalar"), at, None, tuple((k, k) for k in range(4)))
    assert is_wide(copy, 0, 4, 16)
    assert not is_wide(copy, 0, 4, 18)
    assert not is_wide(replace(copy, left=replace(at, offset=2)), 0, 4, 16)
    assert not is_wide(replace(copy, left=replace(at, terms=(("i0", 6),))), 0, 4, 16)
    assert not is_wide(replace(copy, rows=tuple((2 * k, k) for k in range(4))), 0, 4, 16)


# -- places ------------------------------------------------------------------------------------


@given(st.lists(st.integers(1, 7), min_size=1, max_size=6), st.sampled_from([0, 8, 16, 32, 64]))
def test_padded_strides_are_injective(counts: list[int], period: int) -> None:
    """No two entries of a padded state have one place, whatever the sizes of the legs."""
    sizes = {f"e{n}": count for n, count in enumerate(counts)}
    strides = padded(list(sizes), sizes, period)
    assert is_injective(strides, sizes)
    places = [
        sum(strides[leg] * k for leg, k in zip(sizes, index, strict=True))
        for index in product(*(range(count) for count in counts))
    ]
    assert len(set(places)) == math.prod(counts)
    assert max(places) == extent(strides, sizes) - 1


def test_overlapping_strides_are_refused() -> None:
    """Strides that let two entries meet are not called injective."""
    assert not is_injective({"a": 2, "b": 1}, {"a": 2, "b": 3})


def test_conflicts_by_simulation() -> None:
    """Lanes a power of two apart meet in a bank; padding parts them."""
    sizes = _Twos()
    legs = tuple("abcdefghij")
    plain, spread = padded(legs, sizes, 0), padded(legs, sizes, 32)
    fast, slow = legs[-5:], legs[:5]
    assert conflicts(plain, fast, sizes) == 1
    assert conflicts(plain, slow, sizes) == 32
    assert conflicts(spread, slow, sizes) == 1
    assert max(conflicts(choose_strides(legs, [fast, slow], sizes), s, sizes)
               for s in (fast, slow)) == 1  # fmt: skip


def shared_accesses(program: LoopProgram) -> list[tuple[Threads, At]]:
    """All places in shared memory that a thread loop moves registers to or from."""
    spaces = {buffer.name: buffer.space for buffer in program.buffers}
    found: list[tuple[Threads, At]] = []
    for loop in statements(program.samples):
        if isinstance(loop, Threads):
            for tile in loop.body:
                if isinstance(tile, Tile) and tile.right is None:
                    places = (tile.target, tile.left)
                    if {spaces[p.buffer] for p in places} == {"register", "block"}:
                        found += [(loop, p) for p in places if spaces[p.buffer] == "block"]
    return found


def written(loop: Threads, program: LoopProgram) -> dict[str, list[np.ndarray]]:
    """For each buffer all places that the points of a loop write, where they do not add."""
    buffers = {buffer.name: buffer for buffer in program.buffers}
    grid = np.indices([count for _, count in loop.indices]).reshape(len(loop.indices), -1)
    index = dict(zip((name for name, _ in loop.indices), grid, strict=True))
    found: dict[str, list[np.ndarray]] = {}
    for tile in loop.body:
        if not isinstance(tile, Tile) or tile.adds:
            continue
        at, buffer = tile.target, buffers[tile.target.buffer]
        if buffer.space == "register":
            continue  # each point has its own
        places = np.full(loop.points, at.offset)
        for name, stride in at.terms:
            places = places + stride * index[name]
        offsets = [r + c for _, r in tile.rows for _, c in tile.columns]
        found.setdefault(at.buffer, []).extend(places + offset for offset in offsets)
    return found


@pytest.mark.parametrize("name", {**CHAINS, **TOPOLOGIES})
def test_no_two_points_write_one_place(name: str) -> None:
    """The index maps of every store of every loop are injective, by enumeration, forward and
    backward; and what is written stays inside its buffer."""
    plan = plan_of({**CHAINS, **TOPOLOGIES}[name]())
    wanted = [value.name for value in plan.inputs]
    stores = 0
    for scheduled in (schedule_forward(plan, GPU), schedule_backward(plan, wanted, GPU)):
        program = scheduled.program
        sizes = {buffer.name: buffer.size for buffer in program.buffers}
        batched = {buffer.name for buffer in program.buffers if buffer.batched}
        parts = (program.before, program.prologue, program.samples, program.after)
        for loop in (s for part in parts for s in statements(part) if isinstance(s, Threads)):
            for buffer, places in written(loop, program).items():
                every = np.concatenate(places)
                assert len(np.unique(every)) == len(every), f"{program.name}: {buffer}"
                room = sizes[buffer] * (program.block if buffer in batched else 1)
                assert every.min() >= 0 and every.max() < room
                stores += 1
    assert stores > 1


@pytest.mark.parametrize("name", {**CHAINS, **TOPOLOGIES})
def test_exchanges_conflict_at_most_two_ways(name: str) -> None:
    """Of all exchanges, forward and backward, counted by simulating the banks."""
    plan = plan_of({**CHAINS, **TOPOLOGIES}[name]())
    wanted = [value.name for value in plan.inputs]
    worst = 1
    for scheduled in (schedule_forward(plan, GPU), schedule_backward(plan, wanted, GPU)):
        for loop, at in shared_accesses(scheduled.program):
            legs = [index for index, _ in loop.indices]
            worst = max(worst, conflicts(dict(at.terms), legs, dict(loop.indices)))
    assert worst <= 2


# -- barriers ----------------------------------------------------------------------------------


def test_every_barrier_is_needed_and_none_is_missing() -> None:
    """Without any of its barriers a program has a race, with all of them none."""
    scheduled = schedule_backward(plan_of(topologies.mera(8, 2)), ["x0"], GPU)
    program = scheduled.program
    assert find_race(program) == ""
    steps = [step for step in program.samples if isinstance(step, LoopRegion)]
    for number, step in enumerate(steps):
        if any(isinstance(inner, Barrier) for inner in step.body):
            bare = replace(step, body=tuple(s for s in step.body if not isinstance(s, Barrier)))
            samples = (*steps[:number], bare, *steps[number + 1 :])
            assert find_race(replace(program, samples=samples)), step.name


def row_after(program: LoopProgram) -> tuple[LoopRegion, LoopRegion]:
    """The one kernel after MERA-2's backward, and the steps that one of its blocks does."""
    (kernel,) = program.after
    assert isinstance(kernel, LoopRegion)
    (row,) = (inner for inner in kernel.body if isinstance(inner, LoopRegion))
    return kernel, row


def test_steps_after_the_sums_share_their_kernel() -> None:
    """One kernel follows MERA-2's backward: sums over blocks, and in one block five steps on
    gradients with two barriers, one after the sums and one between what depends on each other. None
    of them can be missing, and what the steps read is summed by that block itself."""
    scheduled = schedule_backward(plan_of(MERA), [v.name for v in plan_of(MERA).inputs], GPU)
    program = scheduled.program
    assert find_race(program) == ""
    kernel, row = row_after(program)
    assert [isinstance(inner, Barrier) for inner in row.body].count(True) == 2
    for number, inner in enumerate(row.body):
        if isinstance(inner, Barrier):
            bare = replace(row, body=(*row.body[:number], *row.body[number + 1 :]))
            broken = replace(kernel, body=(*kernel.body[:-1], bare))
            assert "without a barrier" in find_race(replace(program, after=(broken,)))
    apart = replace(kernel, body=(*kernel.body[:-1], row.body[0], replace(row, body=row.body[1:])))
    assert "blocks of sums touch" in find_race(replace(program, after=(apart,)))


def test_steps_wait_for_what_they_read_only() -> None:
    """Of two chains of steps on parameters, written one after the other, each block does the first
    steps of both before one barrier and the second steps after it."""
    net = topologies.tree(8, dim=2, bond=2)
    for scheduled in (schedule_forward(plan_of(net), GPU), schedule_forward(plan_of(MERA), GPU)):
        prologue = [step for step in scheduled.program.prologue if isinstance(step, LoopRegion)]
        depth: dict[str, int] = {}
        for step in prologue:
            read = buffers_of(step.body) - {step.name}
            depth[step.name] = 1 + max((depth.get(name, 0) for name in read), default=0)
        barriers = sum(isinstance(inner, Barrier) for step in prologue for inner in step.body)
        assert barriers == max(depth.values()) - 1


def one_loop(*body: Tile | SumThreads | Barrier | Threads) -> LoopProgram:
    buffers = (
        Buffer("x", 8, "input"),
        Buffer("s", 8, "block"),
        Buffer("r", 2, "register"),
        Buffer("p", 2, "partial"),
    )
    step = LoopRegion("t0", "", (Threads((("i0", 4),), body),))
    return LoopProgram("p", "float32", 1, 1, buffers, (), (step,), (), (), 32)


LOAD = Tile(At("r", form="scalar"), At("x", 0, (("i0", 2),), "scalar"), None, ((0, 0), (1, 1)))
SUM = SumThreads(At("p", form="scalar"), At("r", form="scalar"), 2)


def test_verify_accepts_a_thread_loop() -> None:
    """What the next test breaks is legal."""
    program = one_loop(LOAD, SUM)
    assert verified(program) is program


@pytest.mark.parametrize(
    ("body", "message"),
    [
        ((replace(LOAD, target=At("r", 0, (("i0", 1),), "scalar")),), "moving place"),
        ((Barrier(),), "barrier inside"),
        ((Threads((("i1", 2),), ()),), "inside another loop"),
        ((replace(SUM, target=At("s", form="scalar")),), "SumThreads of a register into a block"),
        ((replace(SUM, count=3),), "entries 0 to 2 of r"),
        ((replace(LOAD, left=At("x", 2, (("i0", 2),), "scalar")),), "entries 2 to 9 of x"),
    ],
)  # fmt: skip
def test_verify_names_what_is_illegal(body: tuple[Tile, ...], message: str) -> None:
    """Faults of thread loops are found."""
    with pytest.raises(tn.BuildError, match=message):
        verified(one_loop(*body))


def test_states_above_shared_memory_go_to_global_memory() -> None:
    """Nothing is refused for its size: a state of 2^17 entries has a place for each block."""
    plan = plan_of(topologies.tensor_train((2**9, 2**8), (2**9, 2**8), rank=1))
    source = forward_source(plan, GPU)
    assert source.block_entries >= 2**8
    assert max(entry.shared_bytes for entry in source.entries) <= GPU.shared_bytes


def test_offsets_beyond_an_int() -> None:
    """Where an array has more than 2^31 entries a sample its indices are 64 bits wide, and only
    where it has."""
    net = tn.Network("wide")
    net.input(a=2**16, b=2**16)
    net.sum("a")
    net.output(c=2)
    net.tensor("W", "b c")
    text = forward_source(plan_of(net), GPU).text
    assert "for (long long k0 = 0; k0 < 1024" in text
    small = tn.Network("small")
    small.input(a=2**8, b=2**8)
    small.sum("a")
    small.output(c=2)
    small.tensor("W", "b c")
    assert "for (int k0 = 0; k0 < 4" in forward_source(plan_of(small), GPU).text


def test_more_arrays_than_a_kernel_takes() -> None:
    """They are refused by number: 4093 pointers, a workspace and two counts fill what the arguments
    of a kernel may take."""
    scheduled = schedule_forward(plan_of(topologies.low_rank(4, 4, 2)), GPU)
    count = len(scheduled.program.of("input", "output"))

    def with_arrays(total: int) -> GpuSchedule:
        more = tuple(Buffer(f"n{k + 9}", 1, "input") for k in range(total - count))
        program = scheduled.program
        return replace(scheduled, program=replace(program, buffers=(*program.buffers, *more)))

    assert len(printed(with_arrays(4093)).arguments) == 4093
    with pytest.raises(PlanError, match=r"'forward' has 4094 arrays.*at most 4093"):
        printed(with_arrays(4094))


def test_several_samples_share_a_weight() -> None:
    """A butterfly has a weight for each entry of its state, so a thread makes the results of all
    samples of a block: a sample then reads less than a half of what it reads alone."""
    plan = plan_of(topologies.butterfly(1024))
    found = schedule_forward(plan, GPU)
    counts = found.counts
    assert 1 < found.program.block <= LARGE.rows
    weights = sum(volume(value.legs, plan.sizes) for value in plan.parameters)
    assert 0 < counts.group.cached / found.program.block < weights / 32 / 2


# -- NVRTC -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "least", "whole"), [("forward", 0.8, 0.75), ("backward", 0.6, 0.7)]
)
@needs_nvdisasm
def test_most_instructions_multiply(name: str, least: float, whole: float) -> None:
    """Of MERA-2's loop over samples at least 60% of each segment's instructions go through the FMA
    pipe, forward more; what runs once a block is not counted. Shuffles are written once, not again
    for lanes that have parted, and nothing is added to zero to move it."""
    source = sources(topologies.mera(12, 2))[name == "backward"]
    code, _ = compiled(source, "sm_90")
    kernel = disassembled(code)[name]
    loop = kernel.loop()
    # Copies between global and shared memory are no segments.
    segments = [
        part for part in between_barriers(loop) if any(n in ("FFMA", "FMUL") for n, _ in part)
    ]
    assert len(segments) == source.segments
    for part in segments:
        assert share(part) >= least, (len(part), share(part))
    assert share(loop) >= whole, share(loop)
    assert not any(n.startswith("BRA.DIV") for n, _ in kernel.code)
    assert not any(n == "FADD" and ", RZ, R" in operands for n, operands in loop)
    if name == "forward":
        stores = [n for n, _ in kernel.code if n.startswith("STG")]
        assert stores and all("128" in n for n in stores)


@needs_nvdisasm
def test_what_follows_the_sums_stays_in_shared_memory() -> None:
    """The kernel after MERA-2's backward goes to memory once: sixteen loads of a thread are under
    way before the first is waited for, and no load comes after its first barrier."""
    source = sources(MERA)[1]
    assert [entry.name for entry in source.entries] == ["backward", "backward_after0"]
    code, _ = compiled(source, "sm_90")
    kernel = disassembled(code)["backward_after0"]
    first, *rest = between_barriers(kernel.code)
    loads = [n for n, (name, _) in enumerate(first) if name.startswith("LDG")]
    added = [n for n, (name, _) in enumerate(first) if name == "FADD"]
    assert sum(n < added[0] for n in loads) >= 16
    assert not any(name.startswith("LDG") for part in rest for name, _ in part)
