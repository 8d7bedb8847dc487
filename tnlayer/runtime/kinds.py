"""Programs by backend."""

from __future__ import annotations

from collections.abc import Mapping

from tnlayer.planning.planner import PlannedGraph
from tnlayer.runtime.cpp import CppProgram
from tnlayer.runtime.mixed import MixedProgram
from tnlayer.runtime.program import Program

KINDS: Mapping[str, type[Program]] = {
    "torch": Program,
    "cpp": CppProgram,
    "mixed": MixedProgram,
}


def program_of(planned: PlannedGraph) -> Program:
    """The program of a planned graph, on the backends of its plan.

    Raises:
        BuildError: the backend that was asked for cannot run it.
    """
    asked, plan = planned.request.backend, planned.plan
    kind = KINDS["cpp" if asked == "cpp" else plan.backend]
    reuse = planned.request.memory_limit is None
    return kind(planned.graph, plan, planned.form.tensor_names, reuse=reuse)
