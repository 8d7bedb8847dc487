"""What one module costs: parameters, FLOPs, predicted seconds and memory, dense or factorized."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

from ..graph.graph import Graph, count_parameters
from ..hardware.profile.op_times import OpTimes
from ..nn.derived_graphs import matrix_of, rows_of
from ..planning.predictions import times_of
from ..planning.request import INFER, Request
from ..report.cost import Cost
from ..report.cost_of_network import cost
from ..support.option_words import Effort, Objective
from ..time_models.torch_calls import dense_seconds


@dataclass(frozen=True, slots=True)
class Setting:
    """How modules are run, for predictions.

    Arguments:
        objective: "train" or "infer": what is predicted, a training step or a forward.
        device, dtype, effort: as for :func:`tnlayer.cost`.
    """

    objective: Objective = "train"
    device: str = "cpu"
    dtype: str = "float32"
    effort: Effort = "fast"

    @property
    def is_inference(self) -> bool:
        """Whether only forwards count."""
        return self.objective == INFER

    @property
    def times(self) -> OpTimes:
        """The device's operations."""
        return times_of(Request(device=self.device, dtype=self.dtype, effort=self.effort))


@dataclass(frozen=True, slots=True)
class ModuleCost:
    """Counts and predictions of one call of a module.

    Arguments:
        parameters: trainable entries, the bias too.
        flops: of the forward.
        seconds: predicted, of a forward, or of a forward and backward.
        memory: bytes that a call allocates at once, y and gradients included.
    """

    parameters: int
    flops: int
    seconds: float
    memory: int

    def __add__(self, other: ModuleCost) -> ModuleCost:
        return ModuleCost(
            self.parameters + other.parameters,
            self.flops + other.flops,
            self.seconds + other.seconds,
            max(self.memory, other.memory),
        )


NO_COST = ModuleCost(0, 0, 0.0, 0)


def dense_cost(
    kind: str, in_features: int, out_features: int, rows: int, setting: Setting, *, bias: bool
) -> ModuleCost:
    """A module of torch that is a matrix.

    Arguments:
        kind: as of DenseModule.
        in_features, out_features: of the matrix.
        rows: samples that it meets in one call: of a convolution positions, of a table indices.
        setting: how it is run.
        bias: whether it has one.
    """
    times, entries = setting.times, in_features * out_features
    parameters = entries + (out_features if bias else 0)
    itemsize = times.itemsize
    y = rows * out_features
    if kind == "Embedding":
        # Rows are copied; a training step writes a gradient as large as the table.
        move = times.move(2 * y) + times.call["copy"]
        seconds = move if setting.is_inference else 2 * move + times.move(2 * entries)
        memory = y if setting.is_inference else y + entries
        return ModuleCost(parameters, 0, seconds, memory * itemsize)
    found = dense_seconds(rows, in_features, out_features, times)
    if setting.is_inference:
        return ModuleCost(parameters, 2 * rows * entries, found.forward, y * itemsize)
    memory = (y + rows * in_features + entries) * itemsize
    return ModuleCost(parameters, 2 * rows * entries, found.total, memory)


def network_cost(
    kind: str,
    graphs: Sequence[Graph],
    rows: int,
    setting: Setting,
    *,
    bias: int = 0,
    options: Mapping[str, Any] | None = None,
) -> ModuleCost:
    """A module with networks in place of the matrix.

    Arguments:
        kind: of the module that it replaces, as of DenseModule.
        graphs: the networks that are summed.
        rows: samples that it meets in one call.
        setting: how it is run.
        bias: entries of the bias.
        options: of the factorized module, such as groups and kernel_size.
    """
    parameters = ModuleCost(count_parameters(graphs) + bias, 0, 0.0, 0)
    found = [_one(kind, graph, rows, setting, options or {}) for graph in graphs]
    return sum(found, parameters)


def _one(
    kind: str, graph: Graph, rows: int, setting: Setting, options: Mapping[str, Any]
) -> ModuleCost:
    match kind:
        case "Embedding":
            return _counted(_cost(rows_of(graph).graph, rows, setting), setting)
        case "Conv2d":
            return _conv2d(graph, rows, setting, options)
        case _:
            return _counted(_cost(graph, rows, setting), setting)


def _conv2d(graph: Graph, rows: int, setting: Setting, options: Mapping[str, Any]) -> ModuleCost:
    """The faster of both ways of tn.Conv2d."""
    kernel = _counted(_cost(matrix_of(graph).graph, 1, setting), setting)
    groups = options.get("groups", 1)
    features, outputs = graph.in_features, graph.out_features
    dense = dense_cost("Conv2d", features, outputs // groups, rows, setting, bias=False)
    scaled = ModuleCost(0, dense.flops * groups, dense.seconds * groups, dense.memory)
    built = kernel + scaled
    if groups > 1:
        return built
    patches = _counted(_cost(graph, rows, setting), setting)
    if tuple(options.get("kernel_size", (1, 1))) != (1, 1):
        copied = rows * features
        seconds = setting.times.move(2 * copied) * (1 if setting.is_inference else 2)
        patches = ModuleCost(
            0,
            patches.flops,
            patches.seconds + seconds,
            patches.memory + copied * setting.times.itemsize,
        )
    return min(built, patches, key=lambda one: one.seconds)


@lru_cache(maxsize=1024)
def _cost(graph: Graph, rows: int, setting: Setting) -> Cost:
    return cost(
        graph,
        batch=rows,
        device=setting.device,
        dtype=setting.dtype,
        objective=setting.objective,
        effort=setting.effort,
    )


def _counted(found: Cost, setting: Setting) -> ModuleCost:
    return ModuleCost(
        0,
        found.forward_flops,
        found.fastest.wanted(setting.objective),
        found.forward_peak if setting.is_inference else found.training_peak,
    )
