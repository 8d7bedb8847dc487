"""What networks do to the variance: mean |y|^2 for inputs of mean |x|^2 = 1, measured.

All in logarithms and float64, by log_scale_run.py. Up to 1,024 features the mean over all x is
exact, from one basis state a feature. Else it is exact where the doubled network is small
(doubled_network.py); where it is not, it is that of seeded random vectors.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import torch

from ...graph.graph import Graph
from ...ir.counts import elements
from ...ir.plan import Plan
from .doubled_network import exact_log_gain
from .log_scale_run import LogScaled, Run, Size, log_scaled, run_scaled, total

# Up to so many features W's norm is exact (one basis state a sample).
_EXACT_FEATURES = 1024
_SAMPLES = 256
# Where the mean is known exactly samples only tell how large values are.
_FEW_SAMPLES = 4
# Entries of x and y, and of the largest value of a plan, that are held at once; entries of that
# value in all, above which basis states would take too long.
_PORT_ENTRIES = 2**19
_VALUE_ENTRIES = 2**24
_EXACT_ENTRIES = 2**28
# A port without a batch is one vector a call: so many are tried.
_UNBATCHED_DRAWS = 16
_SEED = 20210


@dataclass(frozen=True, slots=True)
class Planned:
    """A network with a plan of it.

    Arguments:
        graph: the network.
        plan: a forward plan.
        names: the user's name of each parameter of the plan, in the plan's order.
    """

    graph: Graph
    plan: Plan
    names: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Part:
    """The features that are used of a layer's ports: the first ones; x is zero in the others.

    Arguments:
        in_features, out_features: how many; None: all.
    """

    in_features: int | None = None
    out_features: int | None = None


WHOLE = Part()


@dataclass(frozen=True, slots=True)
class Measured:
    """What networks, or their sum, do to the variance.

    Arguments:
        log_gain: logarithm of mean |y|^2 for mean |x|^2 = 1; -inf where y is 0; None: unknown.
        sizes: for each network how large each value of its plan is, by name.
        sampled: the same logarithm for the x that were tried: those that one meets. For a product
            of hundreds of tensors it is far below that of all x, in which rare ones count most.
    """

    log_gain: float | None
    sizes: tuple[Mapping[str, Size], ...]
    sampled: float | None = None


def measure(
    networks: Sequence[Planned],
    stored: Mapping[str, LogScaled],
    part: Part = WHOLE,
    grid: torch.dtype | None = None,
) -> Measured:
    """What the sum of networks with equal ports does to the variance.

    Arguments:
        networks: at least one.
        stored: the arrays by the user's names.
        part: the features that are used.
        grid: a dtype to which every value is rounded, as a layer of that dtype does; then the
            doubled network, which has other values, tells nothing.
    """
    exact = exact_gain(networks, stored, part) if grid is None else None
    return measure_by_samples(networks, stored, part, grid, exact)


def measure_by_samples(
    networks: Sequence[Planned],
    stored: Mapping[str, LogScaled],
    part: Part,
    grid: torch.dtype | None,
    exact: float | None,
) -> Measured:
    """The same where it is known what the doubled network tells; None: nothing."""
    samples = _SAMPLES if exact is None else _FEW_SAMPLES
    gains: list[float] = []
    weights: list[int] = []
    sizes: list[dict[str, list[Size]]] = [{} for _ in networks]
    for x, weight in _probes(networks, stored, part, samples):
        runs = [_run(one, x, stored, grid) for one in networks]
        y = total([run.y for run in runs])
        if part.out_features is not None:
            y = log_scaled(y.mantissa[..., : part.out_features], y.log)
        gains.append(y.size.mean_square)
        weights.append(weight)
        for found, run in zip(sizes, runs, strict=True):
            for name, size in run.sizes.items():
                found.setdefault(name, []).append(size)
    merged = tuple({n: _merge(found, weights) for n, found in each.items()} for each in sizes)
    sampled = _log_mean(gains, weights)
    return Measured(sampled if exact is None else exact, merged, sampled)


def exact_gain(
    networks: Sequence[Planned], stored: Mapping[str, LogScaled], part: Part = WHOLE
) -> float | None:
    """The logarithm of mean |y|^2 over all x by the doubled network; arguments as for a measure.

    None where basis states do, where that network is too large, where not all features are used, or
    where the result is no finite number: squares of entries may vanish where the entries do not.
    """
    if part != WHOLE or not networks[0].graph.inputs or _has_basis(networks, part):
        return None
    gain = exact_log_gain([one.graph for one in networks], stored)
    return gain if gain is not None and math.isfinite(gain) else None


def _log_mean(logs: Sequence[float], weights: Sequence[int]) -> float:
    """Logarithm of the weighted mean of numbers that are given as logarithms."""
    if any(map(math.isnan, logs)):
        return math.nan
    top = max(logs)
    if not math.isfinite(top):
        return top
    parts = (w * math.exp(log - top) for log, w in zip(logs, weights, strict=True))
    return top + math.log(sum(parts) / sum(weights))


def _merge(sizes: Sequence[Size], weights: Sequence[int]) -> Size:
    if len(sizes) == 1:
        return sizes[0]
    mean = _log_mean([size.mean_square for size in sizes], weights)
    return Size(mean, max(size.peak for size in sizes))


def _run(
    network: Planned,
    x: Sequence[LogScaled],
    stored: Mapping[str, LogScaled],
    grid: torch.dtype | None,
) -> Run:
    plan = network.plan
    pairs = zip(plan.parameters, network.names, strict=True)
    return run_scaled(plan, x, {value.name: stored[name] for value, name in pairs}, grid)


def _probes(
    networks: Sequence[Planned], stored: Mapping[str, LogScaled], part: Part, most: int
) -> Iterator[tuple[tuple[LogScaled, ...], int]]:
    """Inputs of mean |x|^2 = 1, on product ports of norm 1 a leg, with their weights.

    Basis states where these are few; else random vectors, so many at most.
    """
    graph = networks[0].graph
    device = next((array.mantissa.device for array in stored.values()), torch.device("cpu"))
    is_complex = any(array.mantissa.is_complex() for array in stored.values())
    dtype = torch.complex128 if is_complex else torch.float64
    largest = max(_largest_value(one.plan) for one in networks)
    if _has_basis(networks, part):
        used = part.in_features or graph.in_features
        for low in range(0, used, step := max(1, min(used, _VALUE_ENTRIES // largest))):
            rows = min(step, used - low)
            x = torch.zeros(rows, graph.in_features, dtype=dtype, device=device)
            x.diagonal(offset=low).fill_(1)
            # Each basis state stands for all: its square is the number of features.
            yield (log_scaled(x, math.log(used) / 2),), rows
        return
    features = [math.prod(graph.input_shape(port)) for port in graph.inputs]
    room = min(_PORT_ENTRIES // max(*features, graph.out_features, 1), _VALUE_ENTRIES // largest)
    samples = max(1, min(most, room))
    draws = 1 if all(port.batched for port in graph.inputs) else _UNBATCHED_DRAWS
    generator = torch.Generator().manual_seed(_SEED)
    for _ in range(draws):
        inputs: list[LogScaled] = []
        for port in graph.inputs:
            lead = (max(1, samples // draws),) if port.batched else ()
            x = torch.randn(
                (*lead, *graph.input_shape(port)), generator=generator, dtype=dtype, device="cpu"
            )
            if port.product:
                # One vector of norm 1 a leg, in all directions alike: local features.
                norms = torch.linalg.vector_norm(x, dim=-1, keepdim=True)
                inputs.append(log_scaled((x / norms).to(device)))
                continue
            x[..., part.in_features or x.shape[-1] :] = 0
            mean = float(x[..., : part.in_features].abs().square().mean())
            inputs.append(log_scaled(x.to(device), -math.log(mean) / 2))
        yield tuple(inputs), 1


def _has_basis(networks: Sequence[Planned], part: Part) -> bool:
    """Whether the inputs are all basis states: of one port, and few enough."""
    graph = networks[0].graph
    if len(graph.inputs) != 1 or graph.inputs[0].product or not graph.inputs[0].batched:
        return False
    used = part.in_features or graph.in_features
    largest = max(_largest_value(one.plan) for one in networks)
    return used <= _EXACT_FEATURES and used * largest <= _EXACT_ENTRIES


def _largest_value(plan: Plan) -> int:
    """Entries a sample of the largest value that carries the batch."""
    values = (*plan.ports, *(step.result for step in plan.steps))
    return max((elements(value.legs, plan.sizes).per_sample for value in values), default=1) or 1
