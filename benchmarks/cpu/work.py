"""What a compiled kernel executes and moves, counted from its loop program; which bound holds."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from benchmarks.cpu.peaks import Peaks
from tnlayer.ir import loops
from tnlayer.support.dtypes import DTYPES


@dataclass(frozen=True, slots=True)
class Work:
    """What a call does.

    Arguments:
        flops: two for each multiply-add that is executed: lanes that are padding and steps that are
            made again count as well.
        bytes: x, y, their gradients, the parameters and theirs, each once a kernel.
    """

    flops: int
    bytes: int

    def __add__(self, other: Work) -> Work:
        return Work(self.flops + other.flops, self.bytes + other.bytes)


@dataclass(frozen=True, slots=True)
class Bound:
    """How near a call comes to what the machine allows.

    Arguments:
        name: "multiply-adds" or "bandwidth": which of the two takes longer at its peak.
        share: time that this one takes at its peak over the time measured.
        share_of_peak, share_of_bandwidth: the same of each.
    """

    name: str
    share: float
    share_of_peak: float
    share_of_bandwidth: float


def bound_of(work: Work, seconds: float, peaks: Peaks) -> Bound:
    """The roofline of a call that took so long."""
    arithmetic, traffic = work.flops / peaks.flops / seconds, work.bytes / peaks.bandwidth / seconds
    name = "multiply-adds" if arithmetic >= traffic else "bandwidth"
    return Bound(name, max(arithmetic, traffic), arithmetic, traffic)


def work_of(programs: Sequence[loops.LoopProgram], batch: int) -> Work:
    """The work of kernels that run one after the other."""
    return sum((_work(program, batch) for program in programs), Work(0, 0))


def _work(program: loops.LoopProgram, batch: int) -> Work:
    blocks = -(-batch // program.block)
    products = sum(
        times * _multiply_adds(part, program.width)
        for times, part in ((1, program.before), (blocks, program.samples), (1, program.after))
    )
    entries = sum(
        buffer.size * (batch if buffer.batched else 1) for buffer in program.of("input", "output")
    )
    dtype = DTYPES[program.scalar]
    return Work(
        # A product of complex numbers is four of real ones.
        2 * products * (4 if dtype.is_complex else 1),
        entries * dtype.itemsize,
    )


def _multiply_adds(body: Iterable[loops.Statement], width: int) -> int:
    """Multiply-adds of a body, all lanes of a vector counted. Additions alone are not counted."""
    total = 0
    for statement in body:
        match statement:
            case loops.LoopRegion():
                total += _multiply_adds(statement.body, width)
            case loops.For():
                total += statement.count * _multiply_adds(statement.body, width)
            case loops.Tile() if statement.right is not None:
                lanes = width if statement.target.form == "vector" else 1
                turns = math.prod(axis.count for axis in statement.loops)
                terms = len(statement.sums) * turns
                total += len(statement.rows) * len(statement.columns) * terms * lanes
            case _:
                # Moves, zeros and sums over lanes or threads.
                assert not hasattr(statement, "body"), statement
    return total
