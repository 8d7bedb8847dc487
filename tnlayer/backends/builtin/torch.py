"""Backend "torch": a plan as calls of torch."""

from __future__ import annotations

from collections.abc import Mapping

from ...graph.graph import Graph
from ...ir.backend_names import TORCH
from ...ir.plan import Plan
from ...lowering.calls.training_schedules import Mask
from ...runtime.program import Program
from ...targets.backend import Backend, Build, Contest
from ...targets.lowered import Lowered
from ...targets.lowered_calls import LoweredCalls
from ...targets.target import Target


class TorchBackend(Backend):
    """Calls of torch: every plan, every device, and what stands in for other backends."""

    name = TORCH
    is_compiled = False
    stands_for_auto = True
    runs_alone = False

    def lower(self, plan: Plan, mask: Mask, target: Target) -> LoweredCalls:
        """The plan as calls."""
        return LoweredCalls(TORCH, plan, mask, target)

    def contest(self) -> Contest:
        """Its own plans only."""
        return Contest(None, calls=True)

    def program(
        self, graph: Graph, lowered: Lowered, tensor_names: Mapping[str, str], build: Build
    ) -> Program:
        """The generated calls."""
        return Program(
            graph,
            lowered.plan,
            tensor_names,
            limit=build.limit,
            device=build.device,
            lowered=lowered,
        )
