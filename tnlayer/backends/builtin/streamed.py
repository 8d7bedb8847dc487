"""Backend "streamed": plans that rebuild W, as a product that makes it in tiles."""

from __future__ import annotations

from collections.abc import Mapping

from ...graph.graph import Graph
from ...ir.backend_names import STREAMED
from ...ir.plan import Plan
from ...lowering.calls.training_schedules import Mask
from ...targets.backend import Backend, Build
from ...targets.lowered import Lowered
from ...targets.target import Machine, Target
from ...time_models import streamed_kernels
from ..cpp_program import this_cpu
from ..lowered_streamed import LoweredStreamed
from ..streamed_program import StreamedProgram


class StreamedBackend(Backend):
    """A dense map in tiles, on this machine's CPU. "auto" considers it where torch's calls would
    rebuild W; nobody asks for it by name, for few plans have its form."""

    name = STREAMED
    can_be_asked = False
    device, where = "cpu", "the CPU"
    streams_on = "cpu"
    may_use_torch = True
    handicap = 1.0  # compiled once for all layers of a machine
    runs_alone = False
    keeps_values = False

    def lower(self, plan: Plan, mask: Mask, target: Target) -> LoweredStreamed:
        """The plan as a product."""
        return LoweredStreamed(STREAMED, plan, mask, target)

    def key(self, target: Target) -> str:
        """Costs; vectors stand in the key of the kernels beside it."""
        del target
        costs = (streamed_kernels.SAMPLES, streamed_kernels.FACTORS, streamed_kernels.MOVED)
        return f", streamed {costs}"

    def machine(self, arch: str | None = None) -> Machine:
        """This CPU, as the compiler uses it."""
        del arch
        return Machine(cpu=this_cpu())

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
