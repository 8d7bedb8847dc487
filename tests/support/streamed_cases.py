"""Plans that rebuild W, as products that make it in tiles."""

from __future__ import annotations

from dataclasses import replace

import torch

import tnlayer as tn
from tnlayer.backends.cpu_program import this_cpu
from tnlayer.backends.streamed_program import StreamedProgram
from tnlayer.ir.backend_names import STREAMED
from tnlayer.planning.mixture import whole_plan
from tnlayer.runtime.program import Program
from tnlayer.targets.backend import Build, backend_of


def streamed(program: Program) -> StreamedProgram | None:
    """The same plan with W in tiles; None where it has not that form."""
    backend = backend_of(STREAMED)
    plan = whole_plan(program.plan, program.plan.batch, backend)
    target = replace(program.target(), cpu=this_cpu())
    lowered = backend.lower(plan, program.training_mask(), target)
    if lowered.why_not:
        return None
    found = backend.program(program.graph, lowered, program.tensor_names, Build())
    assert isinstance(found, StreamedProgram)
    return found


def rebuilt(net: tn.Network, dtype: torch.dtype) -> Program:
    """A program whose plan rebuilds W."""
    name = str(dtype).removeprefix("torch.")
    return tn.compile(net, backend="torch", dtype=name, minimize="rebuild")
