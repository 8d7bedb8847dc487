"""Describe any tensor network as a graph and get a torch layer with every cost known."""

from tnlayer import topologies
from tnlayer.budget.fit import Fit, fit_budget
from tnlayer.compare import Comparison, compare
from tnlayer.counting import cost
from tnlayer.errors import BuildError, PlanError, SpecError, TnlayerError
from tnlayer.graph import Graph
from tnlayer.near_identity import near_identity
from tnlayer.network import Network
from tnlayer.nn.entries import register_initialiser
from tnlayer.nn.layer import Layer
from tnlayer.plan.plan import Plan
from tnlayer.planning.planner import backward_plan, plan
from tnlayer.report import Cost
from tnlayer.runtime.compile import compile
from tnlayer.runtime.program import Program

__version__ = "0.1.0"

__all__ = [
    "BuildError",
    "Comparison",
    "Cost",
    "Fit",
    "Graph",
    "Layer",
    "Network",
    "Plan",
    "PlanError",
    "Program",
    "SpecError",
    "TnlayerError",
    "backward_plan",
    "compare",
    "compile",
    "cost",
    "fit_budget",
    "near_identity",
    "plan",
    "register_initialiser",
    "topologies",
]
