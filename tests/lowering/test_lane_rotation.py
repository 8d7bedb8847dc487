"""Steps that rotate lanes, groups of steps, blocks of samples: numbers are the float64 oracle's."""

from __future__ import annotations

import pytest

import tnlayer as tn
from tests.support.loop_programs import CPU, checked_by_interpreter, tiles
from tnlayer import topologies
from tnlayer.ir.loops import For, LoopProgram, LoopRegion, Tile, statements
from tnlayer.lowering.array_layout import in_lanes
from tnlayer.lowering.cpu import fuse_loops
from tnlayer.lowering.cpu.pipeline import backward_program, schedule_lanes

BITS = (2,) * 8


@pytest.mark.parametrize("rank", [2, 3])
def test_turned_lanes_give_the_oracles_numbers(rank: int) -> None:
    """A train turns its lanes: parts of vectors are repeated, lanes stored in another order, and no
    state is moved in the forward."""
    net = topologies.tensor_train(BITS, BITS, rank)
    assert schedule_lanes(tn.plan(net, batch=64, minimize="combo-4"), CPU).stored
    forward, _ = checked_by_interpreter(net)
    assert any(t.left.form in ("repeat", "splat") for t in tiles(forward))
    assert len(tiles(forward)) == len([s for s in statements(forward.samples)
                                       if not isinstance(s, LoopRegion | For)])  # fmt: skip


def test_turns_store_lanes_in_another_order() -> None:
    """Some network of the tests above needs the order of lanes that a store may change."""
    programs = [
        checked_by_interpreter(topologies.tensor_train(BITS, BITS, rank)) for rank in (2, 3)
    ]
    assert any(t.order for pair in programs for program in pair for t in tiles(program))


def test_groups_give_the_oracles_numbers(monkeypatch: pytest.MonkeyPatch) -> None:
    """With an L1 cache of a few vectors steps run in groups, and results are the same."""
    monkeypatch.setattr(fuse_loops, "MOST_UNGROUPED", 8)
    monkeypatch.setattr(fuse_loops, "MOST_GROUPED", 128)
    for program in checked_by_interpreter(topologies.butterfly(1024)):
        assert grouped(program)


def grouped(program: LoopProgram) -> list[LoopRegion]:
    """The steps that are groups."""
    return [
        step for step in program.samples if isinstance(step, LoopRegion) and ";" in step.comment
    ]


def test_gradients_pass_through_groups(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where weights have all legs of the state, a gradient inside a group exists in part only."""
    monkeypatch.setattr(fuse_loops, "MOST_UNGROUPED", 8)
    monkeypatch.setattr(fuse_loops, "MOST_SUMMED", 256)
    _, backward = checked_by_interpreter(topologies.butterfly(1024))
    both = [step for step in grouped(backward) if step.comment.count("sum b") > 1]
    assert both, "gradients of two weights and what lies between them"
    sizes = {buffer.name: buffer.size for buffer in backward.of("thread")}
    for step in both:
        inside = {t.target.buffer for t in statements(step.body) if isinstance(t, Tile)}
        parts = [sizes[name] for name in inside if name.startswith("d_t") and name in sizes]
        assert min(parts) < 1024 * backward.block


def test_no_loop_of_a_group_is_summed_by_a_gradient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Partial sums of a gate's gradient would be read and written in each turn of such a loop."""
    monkeypatch.setattr(fuse_loops, "MOST_UNGROUPED", 64)
    monkeypatch.setattr(fuse_loops, "MOST_SUMMED", 128)
    seen = 0
    for net in (topologies.mera(10, 2, 3), topologies.butterfly(256)):
        plan = tn.plan(net, batch=64, minimize="combo-4")
        wanted = [value.name for value in plan.inputs]
        for step in grouped(backward_program(plan, wanted, CPU)):
            loop, depth = step.body[-1], set[str]()
            while isinstance(loop, For) and len(loop.body) == 1:
                depth.add(loop.index)
                loop = loop.body[0]
            assert isinstance(loop, For), "the loop around all of a group's steps"
            depth.add(loop.index)
            sums = [t for t in statements(step.body) if isinstance(t, Tile) and t.adds]
            assert all(depth <= {index for index, _ in t.target.terms} for t in sums)
            seen += len(sums)
    assert seen, "some group has gradients of weights"


def test_samples_of_a_block_lie_in_different_sets_of_the_cache() -> None:
    """Places a page apart share a set, and loads wait there for stores: strides avoid it."""
    sizes = {"b": 8, "i": 4, "j": 4, "k": 64, "l": 16}
    plain, _ = in_lanes("s", ["b", "i", "j", "k", "l"], ("l",), sizes, 16)
    array, size = in_lanes("s", ["b", "i", "j", "k", "l"], ("l",), sizes, 16, 1024)
    assert plain.stride("j") % 1024 == 0
    # A page has 64 lines: what one tile touches of 4 samples and two legs has one each.
    near = array.offsets(["i", "j"], sizes)
    places = {(sample * array.stride("b") + at) % 1024 for sample in range(4) for at in near}
    assert len(places) == 64
    places = array.offsets(["b", "i", "j", "k", "l"], sizes)
    assert len(set(places)) == len(places) and max(places) < size


def test_a_block_of_samples_is_stored_with_such_strides() -> None:
    """A butterfly's states, a page each: no two samples at the same place of a page."""
    for program in checked_by_interpreter(topologies.butterfly(1024)):
        assert program.block > 1
        states = [b for b in program.of("thread") if b.size > 1024 * program.block]
        assert states and all(b.size % 1024 for b in states)
