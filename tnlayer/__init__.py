"""Describe any tensor network as a graph and get a torch layer with every cost known."""

from typing import TYPE_CHECKING, Any

from . import topologies
from .backends.builtin.register import register_builtin
from .budget.fit import Fit, fit_budget
from .convert.from_linear import from_linear
from .dispatch.compile import compile
from .errors import BuildError, PlanError, SpecError, TnlayerError
from .fitting.covariance import Covariance
from .fitting.fit import fit
from .fitting.fitted import Fitted
from .graph.graph import Graph
from .graph.near_identity import near_identity
from .graph.network import Network
from .ir.plan import Plan
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
from .report.compare import Comparison, compare
from .report.cost import Cost
from .report.cost_of_network import cost
from .runtime.program import Program
from .saving.load import load
from .saving.save import save

if TYPE_CHECKING:
    from .nn.leg_parallel import LegParallel

__version__ = "0.1.0"

register_builtin()

__all__ = [
    "Budget",
    "BuildError",
    "Comparison",
    "Conv2d",
    "Cost",
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
    "TnlayerError",
    "backward_plan",
    "compare",
    "compile",
    "compress",
    "cost",
    "fit",
    "fit_budget",
    "from_linear",
    "load",
    "near_identity",
    "plan",
    "register_initialiser",
    "retract_",
    "save",
    "suggest",
    "summary",
    "topologies",
]


def __getattr__(name: str) -> Any:
    """What needs torch.distributed is loaded when it is asked for."""
    if name == "LegParallel":
        from .nn.leg_parallel import LegParallel

        return LegParallel
    msg = f"module {__name__!r} has no attribute {name!r}"
    raise AttributeError(msg)
