"""Describe any tensor network as a graph and get a torch layer with every cost known."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from . import topologies
from .backends.builtin.register import register_builtin
from .budget.fit import Fit, fit_budget
from .budget.sweep import Sweep, sweep
from .convert.from_linear import from_linear
from .dispatch.compile import compile
from .errors import BuildError, PlanError, SpecError, TnlayerError
from .fitting.covariance import Covariance
from .fitting.fit import fit
from .fitting.fitted import Fitted
from .graph.argument_checks import did_you_mean
from .graph.energy import energy
from .graph.graph import Graph
from .graph.near_identity import near_identity
from .graph.network import Network
from .graph.sum_of_networks import SumOfNetworks
from .hardware.profile.load import register_measure
from .ir.plan import Plan
from .measure.machine_factors import machine_factors
from .models.budget_rule import Budget
from .models.compress import compress
from .models.suggest import suggest
from .models.summary import summary
from .nn.conv2d import Conv2d
from .nn.embedding import Embedding
from .nn.initialisation.entries import register_initialiser
from .nn.layer import Layer
from .nn.retract import retract_
from .planning.planner import backward_plan, plan
from .planning.search_workers import search_workers
from .report.compare import Comparison, compare
from .report.cost import Cost
from .report.cost_of_network import cost
from .report.costs import Costs
from .runtime.program import Program
from .saving.load import load
from .saving.save import save

if TYPE_CHECKING:
    from .nn.leg_parallel import LegParallel

__version__ = "0.1.0"

register_builtin()
register_measure(machine_factors)

__all__ = [
    "Budget",
    "BuildError",
    "Comparison",
    "Conv2d",
    "Cost",
    "Costs",
    "Covariance",
    "Embedding",
    "Fit",
    "Fitted",
    "Graph",
    "Layer",
    "LegParallel",
    "Network",
    "Plan",
    "PlanError",
    "Program",
    "SpecError",
    "SumOfNetworks",
    "Sweep",
    "TnlayerError",
    "backward_plan",
    "compare",
    "compile",
    "compress",
    "cost",
    "energy",
    "fit",
    "fit_budget",
    "from_linear",
    "load",
    "near_identity",
    "plan",
    "register_initialiser",
    "retract_",
    "save",
    "search_workers",
    "suggest",
    "summary",
    "sweep",
    "topologies",
]


def __dir__() -> list[str]:
    return sorted([*__all__, "__version__"])


if not TYPE_CHECKING:  # else a type checker would take every name for one that is there

    def __getattr__(name: str) -> Any:
        if name == "LegParallel":  # torch.distributed takes a second to import
            from .nn.leg_parallel import LegParallel

            return LegParallel
        if name in topologies.__all__:
            hint = f": it is tnlayer.topologies.{name}"
        else:
            hint = did_you_mean(name, __all__)
        msg = f"module 'tnlayer' has no attribute {name!r}{hint}"
        raise AttributeError(msg)
