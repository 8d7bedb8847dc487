"""fit_budget: the leg shapes and bond sizes of a topology that use a budget best."""

from __future__ import annotations

import math
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from ..errors import SpecError
from ..graph.argument_checks import as_number, check_whole, did_you_mean, shown
from ..graph.graph import MAX_PORT_FEATURES, Graph
from ..graph.network import Network
from ..graph.told_calls import told
from ..ir.table_text import wrapped_lines
from ..nn.layer import Layer
from ..nn.padded import Padded
from ..planning.planner import plan_graph
from ..planning.request import DEFAULT_BATCH, Request, device_option, dtype_option
from ..report.cost_of_network import cost
from ..support.option_words import Device, Dtype, Effort
from .search import Found, Limit, Measure, best_network
from .topology import (
    Topology,
    call_text,
    candidates,
    check_topology,
    name_of,
    port_shapes,
    read_question,
)

BUDGETS = ("params", "flops", "compression", "time")


@dataclass(frozen=True, slots=True)
class Fit:
    """What fit_budget chose: arguments of a topology, and what the network comes to.

    Arguments:
        topology: the function.
        chosen: the arguments by name, as ``topology`` takes them.
        in_features, out_features: what was asked for.
        padded_in, padded_out: features of the network's ports; as large, or a little larger.
        in_shape, out_shape: sizes of the ports' legs.
        bonds: size of each leg that the rank, bond or depth sets.
        parameters: trainable entries.
        flops: FLOPs a sample of the forward at ``batch``, those of its contractions, by plan.
        batch: samples of one call.
        budget: "params", "flops", "compression" or "time".
        amount: the budget, as it was given.
        used: share of the budget that is used, at most 1.
        seconds: predicted seconds of a forward and backward call, for a time budget.
        remarks: what a user should know about the choice.

    >>> import tnlayer as tn
    >>> fit = tn.fit_budget(tn.topologies.low_rank, 60, 40, compression=4)
    >>> fit.arguments, fit.padding, round(fit.compression, 2)
    ({'in_features': 60, 'out_features': 40, 'rank': 6}, (0, 0), 4.0)
    >>> fit.call
    'low_rank(60, 40, rank=6)'
    >>> fit.network().parameter_count, fit.numbers()["parameters"]
    (600, 600)
    >>> fit.layer(bias=True, backend="torch").out_features
    40
    """

    topology: Topology
    chosen: tuple[tuple[str, Any], ...]
    in_features: int
    out_features: int
    padded_in: int
    padded_out: int
    in_shape: tuple[int, ...]
    out_shape: tuple[int, ...]
    bonds: tuple[tuple[str, int], ...]
    parameters: int
    flops: float
    batch: int
    budget: str
    amount: float
    used: float
    seconds: float | None
    remarks: tuple[str, ...]

    @property
    def arguments(self) -> dict[str, Any]:
        """The arguments chosen: ``topology(**fit.arguments)`` is the network."""
        return dict(self.chosen)

    @property
    def call(self) -> str:
        """The topology with its arguments, as the command line takes it: "low_rank(8, 8, rank=2)",
        and Python behind ``tn.topologies.``"""
        return call_text(self.topology, self.arguments)

    @property
    def padding(self) -> tuple[int, int]:
        """Zeros appended to x, and entries of y that are cut off."""
        return (self.padded_in - self.in_features, self.padded_out - self.out_features)

    @property
    def compression(self) -> float:
        """Parameters of the dense layer without padding for one of the network."""
        return self.in_features * self.out_features / max(1, self.parameters)

    def network(self) -> Network:
        """The network, between ports of the padded sizes; one to go on editing."""
        return self.topology(**self.arguments)

    def layer(self, *, bias: bool = False, **options: Any) -> Layer | Padded:
        """A module from in_features to out_features: a Layer, Padded where sizes differ.

        Arguments:
            bias: whether to add a learned vector.
            options: as for :class:`tnlayer.Layer`; batch is that of the fit, if it is left out.
        """
        settings: dict[str, Any] = {"batch": self.batch, **options}
        if self.padding == (0, 0):
            return Layer(self.network(), bias=bias, **settings)
        return Padded(self.network(), self.in_features, self.out_features, bias=bias, **settings)

    def numbers(self) -> dict[str, Any]:
        """The fit as plain values, for a file."""
        fields = {
            name: getattr(self, name)
            for name in self.__dataclass_fields__
            if name not in ("topology", "chosen", "bonds", "remarks")
        }
        return {
            "topology": name_of(self.topology),
            "arguments": self.arguments,
            **fields,
            "bonds": dict(self.bonds),
            "compression": self.compression,
            "remarks": list(self.remarks),
        }

    def __str__(self) -> str:
        zeros, cut = self.padding
        rows = [
            *((name, _shown(value)) for name, value in self.chosen),
            ("legs of x", f"{_product(self.in_shape)} = {self.padded_in}"),
            ("legs of y", f"{_product(self.out_shape)} = {self.padded_out}"),
            ("padding", f"{zeros} appended to x, {cut} cut from y"),
            ("parameters", f"{self.parameters:,}"),
            ("compression", f"{self.compression:,.2f}"),
            ("FLOPs a sample, forward", f"{self.flops:,.0f} at batch {self.batch}"),
            *([] if self.seconds is None else [("ms a call", f"{1e3 * self.seconds:.3g}")]),
            ("budget used", f"{100 * self.used:.1f} %"),
        ]
        title = (
            f"{name_of(self.topology)} for {self.in_features} -> {self.out_features}, "
            f"{self.budget}={self.amount:,.6g}"
        )
        width = max(len(name) for name, _ in rows)
        lines = [f"{name:<{width}}  {value}" for name, value in rows]
        return "\n".join((title, *lines, *wrapped_lines(self.remarks)))


def _shown(value: object) -> str:
    return str(value) if not isinstance(value, tuple) else " ".join(map(str, value))


def _product(shape: tuple[int, ...]) -> str:
    return " x ".join(map(str, shape)) or "1"


@told("tn.fit_budget(tn.topologies.btt, 256, 1024, compression=8), of in_features, out_features")
def fit_budget(
    topology: Topology,
    in_features: int,
    out_features: int,
    *,
    params: float | None = None,
    flops: float | None = None,
    compression: float | None = None,
    time: float | None = None,
    batch: int = DEFAULT_BATCH,
    legs: int | None = None,
    device: Device = "cpu",
    dtype: Dtype | None = None,
    effort: Effort = "default",
    **arguments: Any,
) -> Fit:
    """Find the leg shapes and bond sizes of a topology that use a budget best.

    The network is one that uses the budget well: bonds grow together up to the useful size of each
    (no larger bond describes more maps), then in turn where the topology takes one size a bond, for
    params and compression until none can be raised. Among networks within 5 percent of the fullest
    found the one with the least padding is taken, then the one with the fewest legs. One with less
    equal bonds may be larger.
    Legs are balanced: where a size has no factors for that, x is padded with the fewest zeros that
    help, and y is cut. A shape is padded if its largest leg is above twice the geometric mean.

    Arguments:
        topology: a function that returns a Network: one of tn.topologies, or one with parameters
            of the same names: in_shape and out_shape; legs and dim; rows, columns and dim;
            in_features and out_features; or features; and rank, bond or depth, or none of these. Of
            other names all have to be given. A shape for which it raises is left out.
        in_features, out_features: sizes that the layer shall have.
        params: most trainable entries, or
        flops: most FLOPs a sample of a forward call (as ``tn.cost`` counts them), or
        compression: fewest parameters of the dense layer for one of the network, biases not
            counted, or
        time: most seconds, as predicted, of one forward and backward call.
        batch: samples of one call; a plan shares what depends on parameters only between them.
        legs: number of legs of each port; by default all from 2 to 12 are tried. For flops and
            time, which need plans, those of at most 8 tensors.
        device, dtype, effort: as for :func:`tnlayer.plan`.
        arguments: parameters of the topology that are not to be chosen.

    Raises:
        SpecError: there is not exactly one budget, it is too small for the smallest network (the
            message says how small that is), or the topology has parameters that are not known.

    >>> import tnlayer as tn
    >>> fit = tn.fit_budget(tn.topologies.tensor_train, 4096, 4096, params=20_480, legs=3)
    >>> fit.arguments
    {'in_shape': (16, 16, 16), 'out_shape': (16, 16, 16), 'rank': 8}
    >>> fit = tn.fit_budget(tn.topologies.low_rank, 1000, 4099, compression=10)
    >>> fit.arguments["rank"], fit.parameters, round(fit.used, 3)
    (80, 407920, 0.995)
    """
    _check_order(topology, in_features, out_features)
    given = {"params": params, "flops": flops, "compression": compression, "time": time}
    kind, amount = _one_budget(given, arguments)
    for size, name in ((in_features, "in_features"), (out_features, "out_features")):
        if not 1 <= check_whole(size, f"fit_budget: {name}") <= MAX_PORT_FEATURES:
            msg = f"fit_budget: {name}={shown(size)}, expected 1 to {MAX_PORT_FEATURES}"
            raise SpecError(msg)
    others = (*BUDGETS, "batch", "legs", "device", "dtype", "effort")
    question = read_question(topology, in_features, out_features, legs, arguments, others)
    where, own = device_option(device), dtype_option(dtype)
    request = Request(batch=batch, device=where, dtype=own, effort=effort)
    limit = _limit(kind, amount, in_features * out_features, request)
    found = best_network(candidates(question), limit)
    in_shape, out_shape = port_shapes(found.graph)
    flops_found = _flops_a_sample(found.graph, request)
    return Fit(
        topology=topology,
        chosen=tuple(found.candidate.with_sizes(found.sizes).items()),
        in_features=in_features,
        out_features=out_features,
        padded_in=found.graph.in_features,
        padded_out=found.graph.out_features,
        in_shape=in_shape,
        out_shape=out_shape,
        bonds=tuple((bond, found.graph.sizes[bond]) for bond in found.bonds),
        parameters=found.graph.parameter_count,
        flops=flops_found,
        batch=batch,
        budget=kind,
        amount=amount,
        used=found.value / limit.most,
        seconds=found.value if kind == "time" else None,
        remarks=tuple(_remarks(found, in_features * out_features, flops_found, arguments)),
    )


def smallest_parameters(
    topology: Topology, in_features: int, out_features: int, *, legs: int | None = None
) -> int:
    """Parameters of the smallest network that fit_budget has for these features.

    Raises:
        SpecError: the topology has none.

    >>> from tnlayer.topologies import low_rank
    >>> smallest_parameters(low_rank, 60, 40)
    100
    """
    question = read_question(topology, in_features, out_features, legs, {})
    return min(candidate.build().parameter_count for candidate in candidates(question))


def _check_order(topology: object, *sizes: object) -> None:
    """Refuse features that stand before the topology."""
    later = next((one for one in sizes if callable(one)), None)
    if callable(topology) or later is None:
        check_topology(topology, "fit_budget")
        return
    numbers = [shown(one) for one in (topology, *sizes) if one is not later]
    msg = (
        f"fit_budget: the topology comes first: write fit_budget({name_of(later)}, "
        f"{', '.join(numbers)}, ...)"
    )
    raise SpecError(msg)


def _one_budget(
    given: Mapping[str, float | None], arguments: Mapping[str, Any]
) -> tuple[str, float]:
    """The one budget and its amount."""
    budgets = [(kind, amount) for kind, amount in given.items() if amount is not None]
    if len(budgets) != 1:
        got = ", ".join(kind for kind, _ in budgets) or "none"
        for name in () if budgets else arguments:
            hint = did_you_mean(name, BUDGETS)
            if hint:
                msg = f"fit_budget: {name}= is no argument of it{hint}"
                raise SpecError(msg)
        msg = f"fit_budget: expected exactly one of {', '.join(BUDGETS)}, got {got}"
        raise SpecError(msg)
    kind, value = budgets[0]
    amount = as_number(value)
    if amount is None or not 0 < amount <= sys.float_info.max:
        msg = f"fit_budget: {kind}={shown(value)}, expected a positive finite number"
        raise SpecError(msg)
    return kind, amount


def _limit(kind: str, amount: float, dense: int, request: Request) -> Limit:
    """The budget as a limit of what it counts."""
    match kind:
        case "flops":
            return Limit(
                lambda graph: _flops_a_sample(graph, request),
                amount,
                lambda value: f"flops={math.ceil(value):,} a sample",
                is_planned=True,
            )
        case "time":
            return Limit(
                _seconds(request),
                amount,
                lambda value: f"time={value:.3g} seconds",
                is_planned=True,
            )
        case "compression":
            # Rounded down: what the message names can be asked for.
            return Limit(
                lambda graph: graph.parameter_count,
                dense / amount,
                lambda value: f"compression={math.floor(1e3 * dense / value) / 1e3:,}",
                is_inverse=True,
            )
        case _:
            return Limit(
                lambda graph: graph.parameter_count,
                amount,
                lambda value: f"params={math.ceil(value):,}",
            )


def _flops_a_sample(graph: Graph, request: Request) -> float:
    """FLOPs of the contractions of one forward call, for one of its samples."""
    return plan_graph(graph, request).plan.counts.flops.at(request.batch) / request.batch


def _seconds(request: Request) -> Measure:
    """Predicted seconds of a forward and backward call on the fastest backend."""

    def measure(graph: Graph) -> float:
        counted = cost(
            graph,
            batch=request.batch,
            device=request.device,
            dtype=request.dtype or None,
            effort=request.effort,
        )
        return counted.fastest.training

    return measure


def _remarks(found: Found, dense: int, flops: float, arguments: Mapping[str, Any]) -> list[str]:
    """What a user should know about the choice."""
    graph, question = found.graph, found.candidate.question
    remarks = [
        f"{name}={value} is a default: pass {name}= for another"
        for name, value in question.given.items()
        if name not in arguments
    ]
    if graph.parameter_count > dense:
        remarks.append(
            f"compression is below 1: a dense layer has {dense:,} parameters, "
            f"{graph.parameter_count - dense:,} fewer"
        )
    if flops > 2 * dense:
        remarks.append(
            f"a sample takes {flops / (2 * dense):.1f} times the FLOPs of the dense layer "
            f"({2 * dense:,}): expect no speed from it; try another number of legs (legs=) or a "
            "smaller budget"
        )
    growth = graph.dense_parameter_count / dense
    if growth > 2:
        remarks.append(
            f"padding makes the map {growth:.1f} times as large: all legs of {question.name} are "
            "of one size, try another number of legs or another topology"
        )
    sizes = [(graph.sizes[bond], found.useful[bond]) for bond in found.bonds]
    if sizes and all(size >= useful for size, useful in sizes):
        remarks.append("every bond has its largest useful size: a larger budget adds nothing here")
    wasteful = sum(size > useful for size, useful in sizes)
    if wasteful:
        remarks.append(
            f"{wasteful} of {len(sizes)} bonds are larger than is useful: {question.name} takes "
            f"one {question.growth} for all"
        )
    return remarks
