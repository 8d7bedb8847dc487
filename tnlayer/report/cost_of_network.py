"""``cost``: plan a network and count it, without running or allocating anything."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import replace
from typing import overload

from torch import nn

from ..dispatch.available_backends import foreseen_request
from ..graph.as_graph import AnyNetwork, AnySum, as_graph, as_sum, dtype_asked_for, is_sum
from ..ir.counts import Counts
from ..lowering.calls.training_schedules import wanted_names
from ..passes.differentiate import adjoint
from ..planning.planner import DEFAULT_MINIMIZE, PlannedGraph, plan_graph, with_path
from ..planning.predictions import has_dense, predict, predict_dense, profile_text, times_of
from ..planning.request import (
    DEFAULT_BATCH,
    Request,
    arithmetic_of,
    device_option,
    dtype_option,
    memory_option,
)
from ..runtime.module_arrays import frozen_names
from ..support.option_words import (
    Backend,
    ContractionPath,
    Device,
    Dtype,
    Effort,
    Minimize,
    Objective,
)
from ..targets.backend import check_option_name
from .cost import Cost
from .costs import Costs


@overload
def cost(
    net: AnySum,
    *,
    batch: int = ...,
    device: Device = ...,
    objective: Objective = ...,
    memory_limit: int | str | None = ...,
    effort: Effort = ...,
    dtype: Dtype | None = ...,
    minimize: Minimize = ...,
    path: ContractionPath | None = ...,
    backend: Backend = ...,
) -> Costs: ...
@overload
def cost(
    net: AnyNetwork,
    *,
    batch: int = ...,
    device: Device = ...,
    objective: Objective = ...,
    memory_limit: int | str | None = ...,
    effort: Effort = ...,
    dtype: Dtype | None = ...,
    minimize: Minimize = ...,
    path: ContractionPath | None = ...,
    backend: Backend = ...,
) -> Cost: ...
def cost(
    net: AnyNetwork | AnySum,
    *,
    batch: int = DEFAULT_BATCH,
    device: Device = "cpu",
    objective: Objective = "train",
    memory_limit: int | str | None = None,
    effort: Effort = "default",
    dtype: Dtype | None = None,
    minimize: Minimize = DEFAULT_MINIMIZE,
    path: ContractionPath | None = None,
    backend: Backend = "auto",
) -> Cost | Costs:
    """Count and predict what a network costs, without running or allocating anything.

    Printing it may search for plans at other batch sizes, to say from which on it beats dense.

    Arguments:
        net: the network; of a layer its network and dtype: what the layer itself runs, with its
            own options, is in ``layer.costs()``. Of a sum, ``net1 + net2`` or ``tn.energy(...)``,
            the costs of all its networks and their sum; a memory limit is one for each of them.
        batch: samples of one call; nothing is made of it where no input has some.
        device, objective, memory_limit, effort, dtype, minimize, path: as for
            :func:`tnlayer.plan`.
        backend: "torch", "cpp", "cuda", or "auto", whose choice is predicted here as a Layer makes
            it.

    Raises:
        SpecError: an option is unknown, or this is no network.
        PlanError: no plan fits.

    >>> import tnlayer as tn
    >>> c = tn.cost(tn.topologies.tensor_train((16, 16, 16), (16, 16, 16), rank=8), batch=1)
    >>> c.parameters, c.dense_parameters, round(c.compression)
    (20480, 16777216, 819)

    >>> both = tn.topologies.low_rank(16, 16, rank=1) + tn.topologies.cp((4, 4), (4, 4), rank=2)
    >>> costs = tn.cost(both, batch=1)
    >>> [one.parameters for one in costs], costs.parameters
    ([32, 32], 64)
    """
    check_option_name(backend)
    where, own = device_option(device), dtype_option(dtype_asked_for(net, dtype))
    limit = memory_option(memory_limit)
    request = Request(batch, objective, where, limit, effort, own, minimize, backend)
    request = with_path(foreseen_request(request), net, path)
    if is_sum(net):
        graphs = as_sum(net)
        request = replace(request, dtype=arithmetic_of(graphs, own))
        return Costs(cost_of(plan_graph(graph, request), batch) for graph in graphs)
    frozen = frozen_names(net) if isinstance(net, nn.Module) else frozenset[str]()
    return cost_of(plan_graph(as_graph(net), request), batch, frozen=frozen)


def cost_of(
    planned: PlannedGraph,
    batch: int,
    *,
    one_plan: bool = False,
    frozen: Collection[str] = frozenset(),
) -> Cost:
    """Counts and predictions of a planned graph at a batch size; ``one_plan`` as for Cost, and
    ``frozen`` the arrays of a layer that want no gradient now."""
    graph, plan, request = planned.graph, planned.plan, planned.request
    mask = planned.training_mask
    times = times_of(request)
    lowered = planned.trained
    inference = lowered.inference
    backward_plan = adjoint(plan, wanted_names(plan, mask)).verify() if any(mask) else plan
    dense_in = graph.dense_parameter_count // graph.out_features
    samples = batch if graph.is_batched else 1
    entries = samples * (graph.out_features + dense_in) + graph.dense_parameter_count
    predictions = [predict(lowered, batch)]
    if has_dense(graph):
        predictions.append(predict_dense(graph, batch, times))
    return Cost(
        label=graph.label,
        batch=batch,
        parameters=graph.parameter_count,
        stored=graph.stored_count,
        dense_parameters=graph.dense_parameter_count,
        forward=plan.counts,
        backward=backward_plan.counts if any(mask) else Counts(),
        saved=lowered.saved,
        forward_peak=inference.peak_bytes(batch),
        training_peak=lowered.peak_bytes(batch),
        dense_training_peak=entries * plan.itemsize,
        forward_calls=inference.calls[0],
        backward_calls=lowered.calls[1],
        plan=plan,
        backward_plan=backward_plan,
        predictions=tuple(predictions),
        profile=profile_text(request),
        planned=planned,
        lowered=lowered,
        one_plan=one_plan,
        frozen=tuple(p.name for p in graph.parameters if p.node.trainable and p.name in frozen),
    )
