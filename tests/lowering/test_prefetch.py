"""Prefetches of the next block: every line once, in pieces, and results stay what they are."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest

import tnlayer as tn
from tests.support.cpp_units import has_compiler
from tests.support.loop_programs import CPU, run_compiled
from tnlayer import topologies
from tnlayer.codegen.cpp.printer import print_cpp
from tnlayer.ir.loops import (
    At,
    Buffer,
    For,
    LoopProgram,
    LoopRegion,
    Prefetch,
    Statement,
    statements,
)
from tnlayer.ir.loops_interpret import interpret
from tnlayer.ir.loops_text import program_text
from tnlayer.ir.loops_verify import verified
from tnlayer.lowering.cpu.pipeline import backward_program, forward_program
from tnlayer.lowering.cpu.prefetch import prefetch_next


def asked_for(body: Sequence[Statement], at: dict[str, int]) -> list[int]:
    """Entries that prefetches ask for, in the order in which they run."""
    found: list[int] = []
    for statement in body:
        match statement:
            case LoopRegion():
                found += asked_for(statement.body, at)
            case For():
                for turn in range(statement.count):
                    found += asked_for(statement.body, at | {statement.index: turn})
            case Prefetch():
                first = statement.source.offset
                first += sum(at[index] * stride for index, stride in statement.source.terms)
                found += range(first, first + statement.count)
            case _:
                pass
    return found


def programs() -> tuple[LoopProgram, LoopProgram]:
    """Forward and backward of a layer whose samples are 64 lines each."""
    plan = tn.plan(topologies.mera(10, 2, 2), batch=64, minimize="combo-4")
    wanted = [value.name for value in plan.inputs]
    return forward_program(plan, CPU), backward_program(plan, wanted, CPU)


def test_each_line_of_a_sample_is_asked_for() -> None:
    """Inputs to read, outputs to write; no step asks for much at once."""
    for program in programs():
        batched = [b for b in program.of("input", "output") if b.batched]
        for buffer in batched:
            own = [s for s in statements(program.samples)
                   if isinstance(s, Prefetch) and s.source.buffer == buffer.name]  # fmt: skip
            assert {s.writes for s in own} == {buffer.space == "output"}
            assert max(s.count for s in own) <= 40 * 16
        lines = {entry // 16 for entry in asked_for(program.samples, {})}
        assert lines == set(range(batched[0].size // 16))


def test_shares_go_into_the_loops_of_a_step() -> None:
    """A step with loops asks for a piece in each turn, one without for all of its share before."""
    tiny = Prefetch(At("x"), 1, False)
    loop = For("i0", 4, (For("i1", 3, (tiny,)),))
    steps = (LoopRegion("a", "", (loop,)), LoopRegion("b", "", (tiny,)))
    found = prefetch_next(steps, [Buffer("x", 1024, "input", batched=True)], 1, 4)
    (outer,) = found[0].body  # type: ignore[union-attr]
    assert isinstance(outer, For) and isinstance(outer.body[0], For)
    assert outer.body[0].body[0] == Prefetch(
        At("x", 0, (("i0", 128), ("i1", 42)), "scalar"), 42, False
    )
    assert found[1].body[0] == Prefetch(At("x", 512, (), "scalar"), 512, False)  # type: ignore


@pytest.mark.parametrize("size", [256, 16384])
def test_little_and_much_are_not_asked_for(size: int) -> None:
    """Few lines come by themselves; many at once would wait for each other."""
    steps = (LoopRegion("a", "", ()),)
    assert prefetch_next(steps, [Buffer("x", size, "input", batched=True)], 1, 4) == steps


def test_text_and_code_show_them() -> None:
    """The text names what is asked for; compiled code asks for the thread's own next block."""
    forward, _ = programs()
    assert "prefetch" in program_text(forward)
    assert "of .out_y[" in program_text(forward) and "] to write" in program_text(forward)
    text = print_cpp(forward)
    assert "f.next_x0 = whole.x0 + (size_t)next * 1024;" in text
    assert "next = turn + 1 < end ? block + 1 : block" in text


def test_a_prefetch_stays_in_a_batched_argument() -> None:
    """Places outside a block, and buffers that are no argument, are refused."""
    buffers = (Buffer("x", 64, "input", batched=True), Buffer("t", 64, "thread"))

    def program(ahead: Prefetch) -> LoopProgram:
        return LoopProgram("p", "float32", 4, 1, buffers, (), (LoopRegion("t0", "", (ahead,)),), ())

    assert verified(program(Prefetch(At("x", form="scalar"), 64, False)))
    with pytest.raises(tn.BuildError, match="entries 1 to 64 of x"):
        verified(program(Prefetch(At("x", 1, form="scalar"), 64, False)))
    with pytest.raises(tn.BuildError, match="prefetches t, no batched argument"):
        verified(program(Prefetch(At("t", form="scalar"), 64, False)))


@pytest.mark.skipif(not has_compiler(), reason="no C++ compiler")
@pytest.mark.parametrize("batch", [0, 1, 2, 7])
def test_every_sample_is_done_at_any_batch(batch: int) -> None:
    """Threads share the blocks, whatever their number; what is asked for never matters."""
    forward, _ = programs()
    random = np.random.default_rng(2)
    given = {
        b.name: random.standard_normal(b.size * (batch if b.batched else 1)).astype(np.float32)
        for b in forward.of("input")
    }
    expected, found = interpret(forward, given, batch), run_compiled(forward, given, batch)
    np.testing.assert_allclose(found["out_y"], expected["out_y"], 1e-3, 1e-3)
