"""Sums over the blocks of a grid as CUDA C++: which results a block makes, and how. A printer.

A warp's lanes are 32 results of one sum, next to each other in the blocks' rows; the warps of a
block share the rows. The first block may make several such groups, for steps that it does after.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from ...ir.loops import At, Buffer, SumLanes, Threads
from ...lowering.gpu.bank_conflicts import WARP
from ...lowering.gpu.merge_kernels import SUM_THREADS, groups_of
from ...lowering.gpu.place import Layout
from .statements import indented, sum_text

WARPS = SUM_THREADS // WARP
# Of the first block four warps take no part in sums: they bring meanwhile what the steps after them
# need. First thread of these, and how many they are.
HELPERS = (SUM_THREADS - 4 * WARP, 4 * WARP)


@dataclass(frozen=True, slots=True)
class SumPrinter:
    """Prints the sums of one kernel.

    Arguments:
        layout: where partials lie.
        buffers: of the program by name.
        digits: prints the indices of a point.
        own: sums that the first block makes for itself; () if it is like the others.
        others: all other sums, a block for each group of 32.
    """

    layout: Layout
    buffers: dict[str, Buffer]
    digits: Callable[[Sequence[tuple[str, int]], str], list[str]]
    own: tuple[Threads, ...]
    others: tuple[Threads, ...]

    @property
    def blocks(self) -> int:
        """Of the kernel: one for its own sums, and one for each group of the others."""
        return bool(self.own) + groups_of(self.others)

    def first_half(self) -> list[str]:
        """Each thread adds up its part of the rows."""
        groups = groups_of(self.own)
        lines = [
            f"__shared__ entry rows[{SUM_THREADS}];",
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
            *self.chosen([*self.own, *self.others], 0),
            "entry v = entry{};",
            "if (place >= 0 && slice < slices)",
            f"  v = sum_rows(workspace + place, {self.layout.row}, slice, slices, blocks);",
            "rows[threadIdx.x] = v;",
        ]

    def slices(self) -> str:
        """Warps that share the rows of one result."""
        if not self.own:
            return str(WARPS)
        return f"blockIdx.x ? {WARPS} : {HELPERS[0] // WARP // groups_of(self.own)}"

    def second_half(self) -> list[str]:
        """The parts are added in order, by the warps that have the first ones."""
        return [
            "if (place >= 0 && slice == 0) {",
            f"  for (int k = 1; k < slices; k++) v += rows[k * groups * {WARP} + threadIdx.x];",
            "  if (outside) outside[to] = narrow(v);",
            "  else inside[to] = v;",
            "}",
        ]

    def chosen(self, sums: Sequence[Threads], before: int) -> list[str]:
        """What the group of a warp is: found by halves, for there may be thousands of sums.

        Arguments:
            sums: of which one is chosen.
            before: groups of the sums before these.
        """
        if len(sums) > 1:
            half = len(sums) // 2
            between = before + groups_of(sums[:half])
            return [
                f"if (group < {between}) {{",
                *indented(self.chosen(sums[:half], before)),
                "} else {",
                *indented(self.chosen(sums[half:], between)),
                "}",
            ]
        (loop,) = sums
        add = next(statement for statement in loop.body if isinstance(statement, SumLanes))
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


def _offset(at: At, more: int = 0) -> str:
    terms = [str(at.offset + more)] if at.offset + more else []
    return sum_text([*terms, *(f"{i} * {s}" if s != 1 else i for i, s in at.terms)])
