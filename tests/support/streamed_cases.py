"""Plans that rebuild W, as products that make it in tiles."""

from __future__ import annotations

from dataclasses import replace

import torch

import tnlayer as tn
from tnlayer.backends.cpu_program import this_cpu
from tnlayer.backends.streamed_program import StreamedProgram
from tnlayer.hardware.cpu import Cpu
from tnlayer.ir.backend_names import STREAMED
from tnlayer.planning.mixture import whole_plan
from tnlayer.planning.planner import plan_graph
from tnlayer.planning.request import Request
from tnlayer.report.cost import Cost
from tnlayer.report.cost_of_network import cost_of
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


def cost_in_tiles(net: tn.Network, batch: int) -> Cost:
    """What a network costs whose W is made in tiles; nothing is compiled for it."""
    planned = plan_graph(net, Request(batch, minimize="rebuild", backend="torch"))
    plan = whole_plan(planned.plan, batch, backend_of(STREAMED))
    target = replace(planned.lowered.target, cpu=Cpu())
    lowered = backend_of(STREAMED).lower(plan, planned.training_mask, target)
    assert not lowered.why_not
    return cost_of(planned.with_lowered(lowered), batch)


def rebuilt(net: tn.Network, dtype: torch.dtype) -> Program:
    """A program whose plan rebuilds W."""
    name = str(dtype).removeprefix("torch.")
    return tn.compile(net, backend="torch", dtype=name, minimize="rebuild")
