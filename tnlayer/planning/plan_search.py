"""One search for plans of a network: what it is for, until when, and what it has lowered so far."""

from __future__ import annotations

from dataclasses import dataclass, field
from math import inf

from ..graph.graph import Graph
from ..ir.plan import Plan
from ..lowering.calls.training_schedules import Mask
from ..targets.backend import Backend, Contest, backend_of, calls_backend
from ..targets.lowered import Lowered
from ..targets.lowered_calls import LoweredCalls
from ..targets.target import Target
from .deadline import DEADLINES, Deadline
from .request import Request, training_mask, wanted_mask


@dataclass(frozen=True, eq=False)
class Search:
    """A search that goes over several batch sizes; each plan is lowered once.

    Arguments:
        graph: a canonical network.
        request: what plans are for.
        deadline: that of all stages.
    """

    graph: Graph
    request: Request
    deadline: Deadline
    target: Target = field(init=False)
    contest: Contest = field(init=False)
    _lowered: dict[tuple[str, Plan, Mask], Lowered] = field(
        init=False, default_factory=dict[tuple[str, Plan, Mask], Lowered]
    )

    def __post_init__(self) -> None:
        object.__setattr__(self, "target", self.request.target())
        object.__setattr__(self, "contest", self.request.contest())

    @classmethod
    def begin(cls, graph: Graph, request: Request) -> Search:
        """A search with a deadline of its own, as the effort sets it."""
        return cls(graph, request, Deadline(DEADLINES.get(request.effort, inf)))

    def lowered(self, plan: Plan, backend: Backend | None = None) -> Lowered:
        """A plan with the gradients that the objective wants.

        Arguments:
            plan: a forward plan.
            backend: the one to lower it; None: that of its regions.
        """
        mask = wanted_mask(self.graph, plan, self.request.objective)
        return self._once(plan, mask, backend or backend_of(plan.backend))

    def trained(self, plan: Plan) -> Lowered:
        """A plan with the gradients of a training step."""
        return self._once(plan, training_mask(self.graph, plan), backend_of(plan.backend))

    def calls(self, plan: Plan) -> LoweredCalls:
        """A plan as calls of torch."""
        found = self.lowered(plan, calls_backend())
        assert isinstance(found, LoweredCalls), "torch's backend lowers to calls"
        return found

    def note(self, lowered: Lowered) -> None:
        """Know a plan that was lowered elsewhere."""
        self._lowered.setdefault((lowered.backend, lowered.plan, lowered.mask), lowered)

    def _once(self, plan: Plan, mask: Mask, backend: Backend) -> Lowered:
        key = backend.name, plan, mask
        if key not in self._lowered:
            self._lowered[key] = backend.lower(plan, mask, self.target)
        return self._lowered[key]
