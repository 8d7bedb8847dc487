"""tn.from_linear: a trained nn.Linear as a layer of a network, near it."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from typing import Any, cast

import torch
from torch import nn
from torch.nn.parameter import is_lazy

from ..budget.fit import BUDGETS, fit_budget
from ..errors import SpecError
from ..fitting.doubles import as_double
from ..fitting.fit import fit_part
from ..fitting.fitted import Fitted
from ..graph.argument_checks import shown
from ..graph.graph import Graph
from ..graph.network import Network
from ..graph.told_calls import told
from ..nn.dense_modules import follow_gradients
from ..nn.dense_weight import DenseWeight
from ..nn.layer import Layer
from ..nn.layer_inputs import as_graphs
from ..nn.padded import Padded
from ..support.dtypes import DTYPES

NetOrTopology = Network | Graph | Sequence[Network | Graph] | Callable[..., Network]

# What is meant for the fit, for fit_budget and for the layer; all else is the topology's.
_OF_FIT = ("steps", "starts", "tol", "start", "seconds")
# Parameters of the matrix for one of a topology's network, where nothing else says its size.
COMPRESSION = 4.0
_OF_BUDGET = (*BUDGETS, "legs")
_OF_LAYER = (
    "batch", "backend", "objective", "memory_limit", "effort", "tune", "log_scale", "shared",
    "tiers", "autocast", "isometries",
)  # fmt: skip
# Taken from the module itself.
_OF_MODULE = ("bias", "dtype", "device")


@told("tn.from_linear(linear, tn.topologies.btt, compression=4), and inputs by name, data=x")
def from_linear(
    linear: nn.Module,
    net_or_topology: NetOrTopology,
    *,
    data: Any = None,
    progress: bool = True,
    seed: int = 0,
    **options: Any,
) -> Layer | Padded:
    """A layer of a network that is near a trained nn.Linear.

    The network's tensors are fitted to the weight (:func:`tnlayer.fit`); the bias is kept as it is.
    ``layer.fit`` tells how near it comes. Dtype, device, training mode and whether parameters want
    gradients are those of the module, whose storage is not shared. Where the network has more
    features, the layer pads x and cuts y, and what is cut does not count for the fit.

    Arguments:
        linear: an nn.Linear, or a Layer that is compressed once more. A parametrized or pruned one
            is taken as it computes now.
        net_or_topology: a network, several to be summed, or a topology, such as
            ``tn.topologies.btt`` with ``compression=8`` or another budget of
            :func:`tnlayer.fit_budget`, or with ``rank=4`` and other arguments of the topology;
            without any ``compression=4``, as for :func:`tnlayer.compress`.
        data: inputs of the layer, by whose covariance errors are weighted; as for a fit.
        progress: whether to show a bar on a terminal.
        seed: of random starts.
        options: of a budget (params, compression, flops, time, legs), of the topology (rank, ...),
            of the fit (steps, starts, tol, start, seconds), of the layer (backend, tiers, ...).

    Returns:
        a Layer, or Padded where features differ.

    Raises:
        SpecError: the module is no linear one, has entries that are not finite or none (on the meta
            device), or features that are more than the network's.

    >>> import torch, tnlayer as tn
    >>> linear = torch.nn.Linear(64, 48)
    >>> layer = tn.from_linear(linear, tn.topologies.low_rank, compression=2)
    >>> layer(torch.zeros(3, 64)).shape, 0 < layer.fit.residual < 1
    (torch.Size([3, 48]), True)
    >>> exact = tn.from_linear(linear, tn.topologies.monarch((48, 64), (1, 48)))
    >>> exact.fit.residual < 1e-12
    True
    """
    # A layer of tensors that were made in inference mode could never be trained.
    with torch.inference_mode(False):
        return _from_linear(linear, net_or_topology, data, progress, seed, options)


def _from_linear(
    linear: nn.Module,
    net_or_topology: NetOrTopology,
    data: Any,
    progress: bool,
    seed: int,
    options: dict[str, Any],
) -> Layer | Padded:
    weight, bias = _read(linear)
    out_features, in_features = weight.shape
    fitting = {name: options.pop(name) for name in _OF_FIT if name in options}
    graphs, layer_options, remark = _networks(net_or_topology, in_features, out_features, options)
    layer = _made(graphs, weight, bias, layer_options)
    frozen = {
        name: array.detach()
        for name, array in layer.named_parameters()
        if name in _frozen(graphs) and not isinstance(fitting.get("start"), Fitted)
    }
    start = {**frozen, **_started(fitting.pop("start", None))}
    found = fit_part(
        graphs,
        weight,
        data=data,
        seed=seed,
        progress=progress,
        start=start or None,
        shared=layer_options.get("shared", False) is not False,
        **fitting,
    )
    _take(layer, replace(found, remark=remark), bias)
    layer.train(linear.training)
    follow_gradients(layer, linear)
    return layer


def _read(linear: Any) -> tuple[torch.Tensor, torch.Tensor | None]:
    """Weight and bias of a linear module."""
    if not isinstance(linear, nn.Linear | DenseWeight):
        msg = (
            f"from_linear: expected an nn.Linear, got {type(linear).__name__}; tn.fit(net, weight) "
            "fits a network to any matrix"
        )
        raise SpecError(msg)
    if isinstance(linear, nn.LazyLinear) and is_lazy(linear.weight):
        msg = "from_linear: the LazyLinear has no weight yet; call it once before"
        raise SpecError(msg)
    try:
        weight = linear.weight
    except AttributeError as error:
        msg = f"from_linear: {shown(linear)} has no dense matrix: {error}"
        raise SpecError(msg) from error
    bias = getattr(linear, "bias", None)
    if not isinstance(weight, torch.Tensor) or weight.dim() != 2:
        msg = (
            f"from_linear: the weight of {type(linear).__name__} is no matrix; got {shown(weight)}"
        )
        raise SpecError(msg)
    name = str(weight.dtype).removeprefix("torch.")
    if name not in DTYPES:
        msg = (
            f"from_linear: the weight has dtype {weight.dtype}; expected one of {', '.join(DTYPES)}"
        )
        raise SpecError(msg)
    if not weight.numel():
        msg = f"from_linear: the weight has shape {tuple(weight.shape)}, no entries to be near to"
        raise SpecError(msg)
    # Before a layer is planned: entries that are not finite, or none.
    as_double(weight, "the weight")
    if bias is not None:
        as_double(bias, "the bias")
    return weight, bias


def _networks(
    net: Any, in_features: int, out_features: int, options: Mapping[str, Any]
) -> tuple[tuple[Graph, ...], dict[str, Any], str]:
    """The networks, what is left for the layer, and what the user should know of their size."""
    for name in _OF_MODULE:
        if name in options:
            msg = f"from_linear: {name}={shown(options[name])} is the module's own; leave it out"
            raise SpecError(msg)
    layer = {name: value for name, value in options.items() if name in _OF_LAYER}
    rest = {name: value for name, value in options.items() if name not in _OF_LAYER}
    if not callable(net) or isinstance(net, Network | Graph):
        graphs = as_graphs(net, where="from_linear")
        if rest:
            msg = (
                f"from_linear: {', '.join(rest)}: a network has no such argument; pass a topology, "
                "such as tn.topologies.btt, to choose its sizes"
            )
            raise SpecError(msg)
        return graphs, layer, ""
    batch = {"batch": layer["batch"]} if "batch" in layer else {}
    topology = cast(Callable[..., Network], net)
    sizes = (in_features, out_features)
    if any(name in rest for name in BUDGETS):
        return (fit_budget(topology, *sizes, **batch, **rest).network().freeze(),), layer, ""
    remark = ""
    if not set(rest) - {"legs"}:
        default = f"compression={COMPRESSION:g}"
        with suppress(SpecError):
            chosen = fit_budget(topology, *sizes, **batch, **rest, compression=COMPRESSION)
            remark = f"{default} is the default; pass another, params= or rank="
            return (chosen.network().freeze(),), layer, remark
        remark = (
            f"{default}, the default, cannot be had; the largest that is smaller than the matrix"
        )
    most = in_features * out_features
    try:
        # The sizes are given, or small: the largest that is smaller than the dense layer.
        chosen = fit_budget(topology, *sizes, **batch, **rest, params=most)
    except SpecError as error:
        msg = (
            f"{error} (without a budget, such as params=, it is that of the dense layer, {most:,})"
        )
        raise SpecError(msg) from error
    return (chosen.network().freeze(),), layer, remark


def _made(
    graphs: tuple[Graph, ...],
    weight: torch.Tensor,
    bias: torch.Tensor | None,
    options: Mapping[str, Any],
) -> Layer | Padded:
    """The layer, with entries as they start."""
    out_features, in_features = weight.shape
    graph = graphs[0]
    ports = graph.inputs
    if len(ports) != 1 or ports[0].product or not ports[0].batched:
        msg = (
            f"from_linear: {graph.label!r} takes no matrix: it needs one batched input that is no "
            "product"
        )
        raise SpecError(msg)
    if graph.in_features < in_features or graph.out_features < out_features:
        msg = (
            f"from_linear: {graph.label!r} has {graph.in_features} -> {graph.out_features} "
            f"features; expected at least those of the module, {in_features} -> {out_features}: "
            "make its legs larger, or pass the topology, tn.topologies...., with a budget"
        )
        raise SpecError(msg)
    settings: dict[str, Any] = {**options, "dtype": weight.dtype, "bias": bias is not None}
    # Nothing of the module is computed with where it has no entries.
    settings["device"] = weight.device
    if (graph.in_features, graph.out_features) == (in_features, out_features):
        return Layer(graphs, **settings)
    return Padded(graphs, in_features, out_features, **settings)


def _frozen(graphs: Sequence[Graph]) -> set[str]:
    """Tensors that keep the entries which a layer gives them."""
    return {
        p.name
        for graph in graphs
        for p in graph.parameters
        if not p.node.trainable and p.node.value is None
    }


def _started(start: Any) -> dict[str, Any]:
    return dict(start.parameters if isinstance(start, Fitted) else start or {})


@torch.no_grad()
def _take(layer: Layer, found: Fitted, bias: torch.Tensor | None) -> None:
    """Put what was found into the layer."""
    state = {name: found.parameters[name] for name, _ in layer.named_arrays()}
    # Not into the arrays: isometries that are kept are made from others, which this finds.
    layer.load_state_dict(state if bias is None else {**state, "bias": bias})
    layer.keep_fit(found.without_parameters())
