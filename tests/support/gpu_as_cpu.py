"""A GPU's program as one for the CPU's printer: points one after another, in memory of a thread.

So the schedules of a GPU run compiled, hundreds of them in a minute and without a GPU. How they are
printed as CUDA is for the emulator to tell.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from typing import cast

from tnlayer.ir.loops import (
    Barrier,
    Buffer,
    For,
    LoopProgram,
    LoopRegion,
    Space,
    Statement,
    SumThreads,
    Threads,
    Tile,
    statements,
)
from tnlayer.ir.loops_verify import verified
from tnlayer.lowering.cpu.call_workspace import lay_out_workspace

# What becomes memory of a thread, one after the other.
OWN: tuple[Space, ...] = ("block", "blockspace", "register")


def as_cpu_program(program: LoopProgram) -> LoopProgram:
    """The same program without threads and barriers.

    What a block does before its samples is done again for each group of them: it depends on
    parameters only. Registers get places of their own, as they have no offset.
    """
    buffers: list[Buffer] = []
    starts = {"block": 0, "blockspace": program.size_of("block")}
    end = starts["blockspace"] + program.size_of("blockspace")
    for buffer in program.buffers:
        if buffer.space == "register":
            buffer, end = replace(buffer, offset=end), end + buffer.size
        elif buffer.space in OWN:
            buffer = replace(buffer, offset=buffer.offset + starts[buffer.space])
        buffers.append(replace(buffer, space="thread") if buffer.space in OWN else buffer)
    plain = verified(
        replace(
            program,
            buffers=tuple(buffers),
            before=_steps(program.before),
            prologue=(),
            samples=(*_steps(program.prologue), *_steps(program.samples)),
            after=_steps(program.after),
            threads=1,
            launches=(),
        )
    )
    return lay_out_workspace(plain)


def _steps(part: Iterable[Statement]) -> tuple[LoopRegion, ...]:
    return tuple(
        replace(cast(LoopRegion, step), body=_plain(cast(LoopRegion, step).body)) for step in part
    )


def _plain(body: Iterable[Statement]) -> tuple[Statement, ...]:
    found: list[Statement] = []
    for statement in body:
        match statement:
            case LoopRegion():
                found += _plain(statement.body)
            case Threads():
                found += _points(statement)
            case Barrier():
                pass  # no point waits for another one inside a loop
            case _:
                found.append(statement)
    return tuple(found)


def _points(loop: Threads) -> tuple[Statement, ...]:
    """A loop for each index. Where a sum leaves out points of samples that do not exist, the loop
    over samples ends before them."""
    counted = {s.samples for s in statements(loop.body) if isinstance(s, SumThreads)}
    body = tuple(_added(s) if isinstance(s, SumThreads) else s for s in loop.body)
    for index, count in reversed(loop.indices):
        body = (For(index, count, body, of_samples=index in counted),)
    return body


def _added(add: SumThreads) -> Tile:
    """target[k] += source[k]."""
    rows = tuple((k, k) for k in range(add.count))
    return Tile(add.target, add.source, None, rows, adds=True)
