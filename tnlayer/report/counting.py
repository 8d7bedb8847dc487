"""``cost``: plan a network and count it, without running or allocating anything."""

from __future__ import annotations

from dataclasses import replace

from ..dispatch.available import foreseen_options
from ..graph.checks import check_option
from ..graph.graph import Graph
from ..graph.network import Network
from ..ir.backend_names import AUTO, CPP, CUDA, TORCH
from ..ir.counts import Counts
from ..lowering.calls.pair import schedule_pair
from ..planning.planner import (
    DEFAULT_BATCH,
    DEFAULT_MINIMIZE,
    PlannedGraph,
    PlanOptions,
    check_device,
    plan_graph,
)
from ..planning.predictions import has_dense, predict_dense, predict_plan, profile_text, times_of
from ..planning.spans_text import region_calls, region_kept, region_kernel_bytes
from .report import Cost


def cost(
    net: Network | Graph,
    *,
    batch: int = DEFAULT_BATCH,
    device: str = "cpu",
    objective: str = "train",
    memory_limit: int | None = None,
    effort: str = "default",
    dtype: str | None = None,
    minimize: str = DEFAULT_MINIMIZE,
    backend: str = "auto",
) -> Cost:
    """Count and predict what a network costs, without running or allocating anything.

    Printing it may search for plans at other batch sizes, to say from which on it beats dense.

    Arguments:
        net: the network.
        batch: samples of one call.
        device, objective, memory_limit, effort, dtype, minimize: as for :func:`tnlayer.plan`.
        backend: "torch", "cpp", "cuda", or "auto", whose choice is predicted here as a Layer makes
            it.

    >>> import tnlayer as tn
    >>> c = tn.cost(tn.topologies.tensor_train((16, 16, 16), (16, 16, 16), rank=8), batch=1)
    >>> c.parameters, c.dense_parameters, round(c.compression)
    (20480, 16777216, 819)
    """
    check_option(backend, "backend", (AUTO, TORCH, CPP, CUDA))
    check_device(device)
    options = PlanOptions(batch, objective, device, memory_limit, effort, dtype, minimize, backend)
    return cost_of(plan_graph(net, foreseen_options(options)), batch)


def cost_of(planned: PlannedGraph, batch: int, *, one_plan: bool = False) -> Cost:
    """Counts and predictions of a planned graph at a batch size; ``one_plan`` as for Cost."""
    graph, plan, request = planned.graph, planned.plan, planned.request
    mask = planned.training_mask
    times = times_of(request)
    pair = schedule_pair(plan, mask, times)
    inference = schedule_pair(plan, (False,) * len(mask), times)
    backward = pair.backward
    backward_plan = backward.plan if backward is not None else plan
    dense_in = graph.dense_parameter_count // graph.out_features
    entries = batch * (graph.out_features + dense_in) + graph.dense_parameter_count
    predictions = [predict_plan(plan, mask, batch, request.rates())]
    if has_dense(graph):
        predictions.append(predict_dense(graph, batch, times))
    counted = Cost(
        label=graph.label,
        batch=batch,
        parameters=graph.parameter_count,
        stored=graph.stored_count,
        dense_parameters=graph.dense_parameter_count,
        forward=plan.counts,
        backward=backward_plan.counts if backward is not None else Counts(),
        saved=pair.forward.saved_bytes,
        forward_peak=inference.peak_bytes(batch),
        training_peak=pair.peak_bytes(batch),
        dense_training_peak=entries * plan.itemsize,
        forward_calls=inference.forward.kernel_count,
        backward_calls=backward.kernel_count if backward is not None else 0,
        plan=plan,
        backward_plan=backward_plan,
        predictions=tuple(predictions),
        profile=profile_text(request),
        planned=planned,
        one_plan=one_plan,
    )
    return counted if plan.backend == TORCH else _with_kernels(counted)


def _with_kernels(counted: Cost) -> Cost:
    """Counts of memory and calls where regions of the plan are compiled: kernels keep nothing of
    the batch's size, cuts do. Peaks are upper bounds: all regions at once."""
    plan, batch, mask = counted.plan, counted.batch, counted.planned.training_mask
    rates = counted.planned.request.rates()
    kept = region_kept(plan, mask, rates)
    y = counted.dense_forward_peak
    values = zip(plan.inputs, mask, strict=True)
    gradients = sum(plan.bytes_of(value).at(batch) for value, asked in values if asked)
    training = region_kernel_bytes(plan, mask, rates) + kept.at(batch)
    calls = region_calls(plan, mask, rates)
    return replace(
        counted,
        saved=kept,
        forward_peak=y + region_kernel_bytes(plan, (False,) * len(mask), rates),
        training_peak=y + gradients + training,
        forward_calls=calls[0],
        backward_calls=calls[1],
    )
