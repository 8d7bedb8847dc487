"""A backend from outside the package, in numpy: a name, a value with a time, and a program."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch

from tests.support.plan_in_numpy import do_plan
from tnlayer.graph.graph import Graph
from tnlayer.ir.plan import Plan
from tnlayer.lowering.calls.training_schedules import Mask, wanted_names
from tnlayer.passes.rematerialise import backward_without_saved
from tnlayer.runtime.array_checks import PLAIN
from tnlayer.runtime.autograd import is_traced
from tnlayer.runtime.generated_functions import Kernels
from tnlayer.runtime.program import GRADIENT, Program
from tnlayer.targets.backend import Backend, Build
from tnlayer.targets.lowered import Lowered
from tnlayer.targets.target import Target
from tnlayer.time_models.torch_calls import Seconds


class ToyProgram(Program):
    """Runs on the CPU; under torch.func and the like the generated calls of torch run instead."""

    backend = "toy"

    def can_take(self, arrays: Sequence[torch.Tensor]) -> bool:
        """Whether numpy can read these arrays."""
        return not is_traced() and all(type(a) in PLAIN and a.device.type == "cpu" for a in arrays)

    def infer(self, *arrays: torch.Tensor) -> tuple[torch.Tensor, ...]:
        """The forward where no gradient is wanted."""
        return do_plan(self.plan, arrays) if self.can_take(arrays) else self.reference(*arrays)

    def build(self, mask: Mask) -> Kernels:
        """Forward and backward."""
        backward = backward_without_saved(self.plan, wanted_names(self.plan, mask))
        names = [value.name for value in self.plan.inputs]
        needed = tuple(names.index(v.name) for v in backward.inputs if v.name != GRADIENT)
        return Kernels(
            lambda *arrays: do_plan(self.plan, arrays),
            lambda *arrays: do_plan(backward, arrays),
            needed,
            f"numpy.einsum, {len(self.plan.steps)} steps",
        )


class ToyLowered(Lowered):
    """Costs a microsecond a sample."""

    def own_seconds(self, batch: int) -> Seconds:
        """As promised."""
        return Seconds(1e-6 * batch, 2e-6 * batch if any(self.mask) else 0.0)

    @property
    def how(self) -> str:
        """For reports."""
        return "numpy does each step"


class ToyBackend(Backend):
    """numpy."""

    name = "toy"
    notes = ("a toy: do not trust its times",)

    def lower(self, plan: Plan, mask: Mask, target: Target) -> ToyLowered:
        """Nothing to do."""
        return ToyLowered("toy", plan, mask, target)

    def program(
        self, graph: Graph, lowered: Lowered, tensor_names: Mapping[str, str], build: Build
    ) -> ToyProgram:
        """The program."""
        plan, limit = lowered.plan, build.limit
        return ToyProgram(graph, plan, tensor_names, limit=limit, device=build.device)
