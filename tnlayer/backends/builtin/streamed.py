"""Backend "streamed": plans that rebuild W, as a product that makes it in tiles."""

from __future__ import annotations

from collections.abc import Mapping

from ...graph.graph import Graph
from ...ir.backend_names import STREAMED
from ...ir.plan import Plan
from ...lowering.calls.training_schedules import Mask
from ...targets.backend import Backend, Build
from ...targets.lowered import Lowered
from ...targets.target import Target
from ...time_models import streamed_kernels
from ..lowered_streamed import LoweredStreamed
from ..streamed_program import StreamedProgram


class StreamedBackend(Backend):
    """A dense map in tiles, on this machine's CPU. "auto" considers it where torch's calls would
    rebuild W; nobody asks for it by name, for few plans have its form."""

    name = STREAMED
    can_be_asked = False
    streams_on = "cpu"
    keeps_values = False

    def lower(self, plan: Plan, mask: Mask, target: Target) -> LoweredStreamed:
        """The plan as a product."""
        return LoweredStreamed(STREAMED, plan, mask, target)

    def key(self, target: Target) -> str:
        """Costs; vectors stand in the key of the kernels beside it."""
        del target
        costs = (streamed_kernels.SAMPLES, streamed_kernels.FACTORS, streamed_kernels.MOVED)
        return f", streamed {costs}"

    def program(
        self, graph: Graph, lowered: Lowered, tensor_names: Mapping[str, str], build: Build
    ) -> StreamedProgram:
        """The kernels, and calls of torch around them."""
        return StreamedProgram(
            graph,
            lowered.plan,
            tensor_names,
            limit=build.limit,
            device=build.device,
            lowered=lowered,
        )
