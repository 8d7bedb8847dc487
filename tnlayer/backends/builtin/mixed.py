"""Backend "mixed": spans of a plan, each lowered by its own backend."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

from ...graph.graph import Graph
from ...ir.backend_names import MIXED
from ...ir.counts import Amount, amount
from ...ir.cuts import cuts
from ...ir.plan import Plan
from ...lowering.calls.training_schedules import Mask
from ...lowering.cpu.kernel_batch import kernel_batch
from ...passes.partition import region_masks, split
from ...targets.backend import Backend, Build, backend_of
from ...targets.lowered import Lowered, plain
from ...targets.target import Target
from ...time_models.torch_calls import CUT, Seconds
from ..mixed_program import MixedProgram


@dataclass(frozen=True, eq=False)
class LoweredSpans(Lowered):
    """A plan as the values of its spans."""

    @cached_property
    def spans(self) -> Sequence[Lowered]:
        """Each as a plan of its own, on its backend."""
        regions = self.plan.regions
        parts = split(self.plan, [region.steps for region in regions])
        masks = region_masks(self.plan, parts, self.mask)
        return tuple(
            backend_of(region.backend).lower(part, own, self.target)
            for region, part, own in zip(regions, parts, masks, strict=True)
        )

    @property
    def code(self) -> object:
        """The regions, and the plan that stands for all with the same kernels."""
        return self.plan.regions, plain(self.plan, kernel_batch(self.plan.batch))

    def with_plan(self, plan: Plan) -> LoweredSpans:
        """The same spans, with the names of the plan."""
        found = super().with_plan(plan)
        if "spans" in vars(self):  # where a cached property keeps its value
            names = dict(plan.names)
            named = (span.with_plan(span.plan.with_names(names)) for span in self.spans)
            vars(found)["spans"] = tuple(named)
        return found

    def own_seconds(self, batch: int) -> Seconds:
        """Those of the spans, and what cuts cost between them."""
        parts = [span.own_seconds(batch) for span in self.spans]
        between = len(parts) - 1
        forward = sum(one.forward for one in parts) + between * CUT.forward
        backward = sum(one.backward for one in parts) + between * CUT.backward
        return Seconds(forward, backward) if any(self.mask) else Seconds(forward)

    @property
    def passed(self) -> int:
        """Inputs and cut values."""
        return len(self.plan.inputs) + len(self.spans) - 1

    def shares(self, batch: int) -> dict[str, float]:
        """Of the spans; a step on parameters may be done in several."""
        found = dict.fromkeys((step.result.name for step in self.plan.steps), 0.0)
        for span in self.spans:
            steps = span.shares(batch)
            for step in span.plan.steps:
                found[step.result.name] += steps[step.result.name]
        return found

    @property
    def saved(self) -> Amount:
        """Values at cuts, and what spans of torch's calls save."""
        at_cuts, regions = cuts(self.plan), self.plan.regions
        ends = [sum(r.steps for r in regions[:n]) for n in range(1, len(regions))]
        kept = [self.plan.bytes_of(at_cuts[end]) for end in ends] if any(self.mask) else []
        return amount([*kept, *(span.saved for span in self.spans)])

    @property
    def workspace(self) -> int:
        """Of all kernels."""
        return sum(span.workspace for span in self.spans)

    @property
    def calls(self) -> tuple[int, int]:
        """Of all spans."""
        each = [span.calls for span in self.spans]
        return sum(forward for forward, _ in each), sum(backward for _, backward in each)


class MixedBackend(Backend):
    """Regions of several backends, one after the other."""

    name = MIXED
    can_be_asked = False
    handicap = 1.15  # kernels have to be compiled, and values at cuts are kept
    runs_alone = False

    def lower(self, plan: Plan, mask: Mask, target: Target) -> LoweredSpans:
        """The values of its spans."""
        return LoweredSpans(MIXED, plan, mask, target)

    def made_for(self, batch: int) -> int:
        """As those of its kernels that are made for the fewest sizes."""
        return kernel_batch(batch)

    def program(
        self, graph: Graph, lowered: Lowered, tensor_names: Mapping[str, str], build: Build
    ) -> MixedProgram:
        """The programs of the regions, composed."""
        return MixedProgram(
            graph,
            lowered.plan,
            tensor_names,
            limit=build.limit,
            device=build.device,
            arch=build.arch,
            lowered=lowered,
        )
