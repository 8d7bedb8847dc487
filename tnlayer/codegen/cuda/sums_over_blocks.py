"""Sums over the blocks of a grid as CUDA C++: which results a block makes, and how.

A printer: who adds up which rows, lowering/gpu/sums_over_blocks.py decides.

A warp's lanes are 32 results of one sum, next to each other in the blocks' rows; the warps of a
block share the rows. The first block may make several such groups, for steps that it does after.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from ...ir.launches import WARP, MemoryMap, Reduction
from ...ir.loops import At, Buffer, SumPartials, Threads
from .statements import indented, sum_text


@dataclass(frozen=True, slots=True)
class SumPrinter:
    """Prints the sums of one kernel.

    Arguments:
        layout: where partials lie.
        buffers: of the program by name.
        digits: prints the indices of a point.
        reduction: which warps share what.
        own: sums that the first block makes for itself; () if it is like the others.
        others: all other sums, a block for each group of 32.
    """

    layout: MemoryMap
    buffers: dict[str, Buffer]
    digits: Callable[[Sequence[tuple[str, int]], str], list[str]]
    reduction: Reduction
    own: tuple[Threads, ...]
    others: tuple[Threads, ...]

    def first_half(self) -> list[str]:
        """Each thread adds up its part of the rows."""
        groups = self.reduction.own
        lines = [
            f"__shared__ entry rows[{self.reduction.warps * WARP}];",
            f"const int lane = threadIdx.x % {WARP}, warp = threadIdx.x / {WARP};",
        ]
        if self.own:
            lines += [
                "// The first block makes several groups of results, each with some of its warps.",
                f"const int groups = blockIdx.x ? 1 : {groups};",
                f"const int group = blockIdx.x ? {groups - 1} + blockIdx.x : warp % {groups};",
            ]
        else:
            lines += ["const int groups = 1, group = blockIdx.x;"]
        return [
            *lines,
            f"const int slices = {self.slices()}, slice = warp / groups;",
            "long long place = -1;",
            "int to = 0;",
            "stored* outside = nullptr;",
            "entry* inside = nullptr;",
            *self.chosen([*self.own, *self.others]),
            "entry v = entry{};",
            "if (place >= 0 && slice < slices)",
            f"  v = sum_rows(workspace + place, {self.layout.row}, slice, slices, blocks);",
            "rows[threadIdx.x] = v;",
        ]

    def slices(self) -> str:
        """Warps that share the rows of one result."""
        if not self.own:
            return str(self.reduction.warps)
        return f"blockIdx.x ? {self.reduction.warps} : {self.reduction.own_warps}"

    def second_half(self) -> list[str]:
        """The parts are added in order, by the warps that have the first ones."""
        return [
            "if (place >= 0 && slice == 0) {",
            f"  for (int k = 1; k < slices; k++) v += rows[k * groups * {WARP} + threadIdx.x];",
            "  if (outside) outside[to] = narrow(v);",
            "  else inside[to] = v;",
            "}",
        ]

    def chosen(self, sums: Sequence[Threads]) -> list[str]:
        """What the group of a warp is: found by halves, for there may be thousands of sums."""
        if len(sums) > 1:
            half = len(sums) // 2
            return [
                f"if (group < {_first_group(sums[half])}) {{",
                *indented(self.chosen(sums[:half])),
                "} else {",
                *indented(self.chosen(sums[half:])),
                "}",
            ]
        (loop,) = sums
        before = _first_group(loop)
        add = next(statement for statement in loop.body if isinstance(statement, SumPartials))
        number = f"(group - {before})" if before else "group"
        source = self.buffers[add.source.buffer].offset + self.layout.partials_at + self.layout.call
        target = add.target.buffer
        kind = "outside" if self.buffers[target].space == "output" else "inside"
        return [
            f"const int p = {number} * {WARP} + lane;",
            f"if (p < {loop.points}) {{",
            *(f"  {line}" for line in self.digits(loop.indices, "p")),
            f"  place = {_offset(add.source, source)}, to = {_offset(add.target)}, "
            f"{kind} = {target};",
            "}",
        ]


def _first_group(loop: Threads) -> int:
    assert loop.spread is not None, "groups are chosen before printing"
    return loop.spread.first_block


def _offset(at: At, more: int = 0) -> str:
    terms = [str(at.offset + more)] if at.offset + more else []
    return sum_text([*terms, *(f"{i} * {s}" if s != 1 else i for i, s in at.terms)])
