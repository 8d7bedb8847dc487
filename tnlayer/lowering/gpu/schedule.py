"""What the passes on a GPU's program end in: the program, where its buffers lie, and its cycles."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property

from ...ir.loops import LoopProgram
from .block_work import BlockWork, Multiprocessor, count_samples
from .place_buffers import MemoryMap


@dataclass(frozen=True)
class GpuSchedule:
    """A loop program whose buffers are placed.

    Arguments:
        program: with barriers.
        layout: where its buffers lie.
        stored: dtype of the arguments.
        segments: thread loops in registers.
        together: blocks that a multiprocessor should hold at once.
        owners: the forward step that each value of the plan belongs to.
    """

    program: LoopProgram
    layout: MemoryMap
    stored: str
    segments: int
    together: int
    owners: Mapping[str, str]

    @cached_property
    def counts(self) -> BlockWork:
        """What a block does for a group of samples."""
        return count_samples(self.program, self.layout)

    @cached_property
    def cycles(self) -> float:
        """Cycles of a multiprocessor for a sample, counted, where there are samples enough."""
        counts = self.counts
        every = counts.cycles(counts.group, len(counts.loops), self.together, Multiprocessor())
        return every / self.program.block
