"""What the passes on a plan hand on: the plan, and how it will run in vectors."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from ...hardware.cpu import Cpu
from ...ir.plan import Plan
from ...ir.steps import BATCH
from ..array_layout import Lanes
from .fuse_loops import FusedLoop


@dataclass(frozen=True, slots=True)
class CpuSchedule:
    """A plan made ready for fusing.

    Arguments:
        plan: its stem in the order in which it will run.
        cpu: what it is scheduled for.
        name: name of the program's entry point.
        wanted: inputs whose gradients the program gives; None for a forward.
        lanes: lanes of each stem step by its result; empty where samples are the lanes.
        block: samples that are taken at once.
        reason: why samples are the lanes; "" where legs are.
        stored: the order in which each result's lanes are stored, where steps rotate lanes.
        groups: steps that run together, a part of the state at a time.
        arguments: dtype of inputs and outputs where it is another than the plan's; "" where not.
    """

    plan: Plan
    cpu: Cpu
    name: str
    wanted: tuple[str, ...] | None = None
    lanes: Mapping[str, Lanes] = field(default_factory=dict[str, Lanes])
    block: int = 1
    reason: str = ""
    stored: Mapping[str, Lanes] = field(default_factory=dict[str, Lanes])
    groups: tuple[FusedLoop, ...] = ()
    arguments: str = ""

    @property
    def width(self) -> int:
        """Entries of a vector."""
        return self.cpu.width(self.plan.dtype)

    @property
    def step_lanes(self) -> Mapping[str, Lanes]:
        """Lanes of each step by its result, also where samples are the lanes."""
        return self.lanes or {step.result.name: (BATCH,) for step in self.plan.steps}

    @property
    def sizes(self) -> dict[str, int]:
        """Size of each leg; the batch has that of a block."""
        return {**self.plan.sizes, BATCH: self.block}

    def __str__(self) -> str:
        """The plan, then what was decided."""
        lines = [str(self.plan), f"blocks of {self.block}, vectors of {self.width}"]
        lines += [f"inputs and outputs in {self.arguments}"] if self.arguments else []
        lines += [f"samples are the lanes: {self.reason}"] if self.reason else []
        for name, lanes in self.lanes.items():
            stored = self.stored.get(name, lanes)
            order = f", stored {' '.join(stored)}" if stored != lanes else ""
            lines.append(f"{name}: lanes {' '.join(lanes)}{order}")
        for group in self.groups:
            lines.append(f"together over {' '.join(group.outer)}: {' '.join(group.results)}")
        return "\n".join(lines)
