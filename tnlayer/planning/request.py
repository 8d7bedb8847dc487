"""What a plan is wanted for, and the gradients that are wanted then."""

from __future__ import annotations

from dataclasses import dataclass

from ..graph.graph import Graph
from ..hardware.cpu import Cpu
from ..hardware.gpu import Gpu
from ..ir.backend_names import TORCH
from ..ir.plan import Plan
from ..lowering.calls.training_schedules import Mask
from ..targets.backend import Contest, contest_of, is_free
from ..targets.target import Machine, Target, target_for

TRAIN, INFER = "train", "infer"
OBJECTIVES = (TRAIN, INFER)

# The search objective that stands for: several, ranked by the time model.
BY_TIME = "time"


@dataclass(frozen=True, slots=True)
class Request:
    """What a plan is wanted for.

    Arguments:
        dtype: dtype of the arithmetic.
        objective: "train" or "infer".
        device: "cpu" or "cuda".
        effort: "fast", "default" or "high".
        minimize: "time", or one search objective whose tree is taken as it is.
        memory_limit: bytes that forward and backward may allocate beyond x, y, the parameters and
            their gradients; None: no limit.
        backend: the name of the one that was asked for, which says what competes with it, or
            "auto" for the fastest of all and of mixtures.
        cpu, gpu: what kernels are compiled for, one of them at most; None: they are not considered.
        keeps: whether the forward may keep values for the backward beside a memory limit: not where
            the backwards of several networks stand between.
        adds: whether beside a memory limit y and the gradients of the inputs are those of networks
            that ran before, and what this one gives is added to them.
    """

    dtype: str = "float32"
    objective: str = TRAIN
    device: str = "cpu"
    effort: str = "default"
    minimize: str = BY_TIME
    memory_limit: int | None = None
    backend: str = TORCH
    cpu: Cpu | None = None
    gpu: Gpu | None = None
    keeps: bool = True
    adds: bool = False

    @property
    def is_free(self) -> bool:
        """Whether no backend was asked for by name."""
        return is_free(self.backend)

    def contest(self) -> Contest:
        """Which plans compete."""
        return contest_of(self.backend, self.device, Machine(self.cpu, self.gpu))

    def target(self) -> Target:
        """What plans are lowered for."""
        return target_for(self.dtype, self.device, self.cpu, self.gpu)


def training_mask(graph: Graph, plan: Plan) -> Mask:
    """Wanted gradients of a training step: every input but whole numbers, every trainable
    parameter."""
    nodes = graph.nodes
    trainable = (nodes[value.name].trainable for value in plan.parameters)
    return (*(not port.is_whole for port in graph.inputs), *trainable)


def wanted_mask(graph: Graph, plan: Plan, objective: str) -> Mask:
    """Wanted gradients for an objective: none at all for "infer"."""
    mask = training_mask(graph, plan)
    return mask if objective == TRAIN else (False,) * len(mask)
