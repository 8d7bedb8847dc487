"""The variance rule: how free tensors are scaled so that Var(y) = Var(x).

With independent zero-mean entries and no shared tensors, the variance of an entry of the dense map
W is (product of the summed legs' sizes) x (product of the tensors' variances). Products of many
tensors are heavy-tailed, and tensors may be shared, given or constant. So what the network does to
the variance is measured (measure_variance.py), and the free tensors get the scales that make it 1
(scale_tensors.py); all of them the same, unless a value of the plan would then come near the ends
of the dtype's range. The rule above stands where nothing can be measured.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import torch

from ...errors import SpecError
from ...graph.graph import Graph
from .log_scale_run import LogScaled, Size
from .measure_variance import Measured, Part, Planned, exact_gain, measure, measure_by_samples
from .scale_tensors import Range, Sized, Wanted, balance, narrowed, range_of, solve
from .sure_range import surely_stays_within

# Networks that share free tensors are measured together, in a few rounds, until the logarithm of
# their gain is so close.
_ROUNDS, _CLOSE = 3, 1e-6


@dataclass(frozen=True, slots=True)
class Solved:
    """How free tensors are scaled.

    Arguments:
        scales: the logarithm of each one's scale, by name.
        gains: the logarithm of the gain that a network has then, by its place; of those only whose
            gain was measured and can be set.
        sampled: the places whose gain is that of samples, though the mean over all x is known.
    """

    scales: Mapping[str, float]
    gains: Mapping[int, float]
    sampled: frozenset[int] = frozenset()


def find_scales(
    networks: Sequence[Planned],
    free: Sequence[str],
    stored: Mapping[str, LogScaled],
    part: Part,
    dtype: torch.dtype,
    *,
    is_scaled: bool = False,
) -> Solved:
    """The scales of the free tensors, all of which have variance 1 so far.

    Arguments:
        networks, part: as for :func:`tnlayer.nn.initialisation.initialise.initialise`.
        free: names of the free tensors.
        stored: all arrays by name.
        dtype: of the layer.
        is_scaled: whether calls keep values in range themselves, so that only entries have to be.
    """
    powers = [count_uses(network.graph, free) for network in networks]
    room = narrowed(range_of(dtype))
    measured = [
        _measured(network, stored, part, room) if len(networks) > 1 or power else Measured(None, ())
        for network, power in zip(networks, powers, strict=True)
    ]
    sampled = frozenset(place for place, one in enumerate(measured) if _vanishes(one, room))
    measured = [
        replace(one, log_gain=one.sampled) if place in sampled else one
        for place, one in enumerate(measured)
    ]
    growing = [place for place, power in enumerate(powers) if power]
    live = [place for place in growing if measured[place].log_gain != -math.inf]
    others = [one.log_gain for one, power in zip(measured, powers, strict=True) if not power]
    share = math.log(_share(others, len(live)))
    wanted: dict[int, Wanted] = {}
    for place in growing:
        gain = measured[place].log_gain
        if gain is None or not math.isfinite(gain):
            gain = _expected_log_gain(networks[place].graph, stored)
        target = share if place in live else 0.0
        wanted[place] = Wanted(powers[place], (target - gain) / 2)
    scales = solve([*wanted.values()])
    for _ in range(_ROUNDS if _have_common(powers, live) else 0):
        now = {name: array.times(scales.get(name, 0.0)) for name, array in stored.items()}
        together = measure([networks[place] for place in live], now, part)
        gain = together.sampled if sampled else together.log_gain
        if gain is None or not math.isfinite(gain):
            break
        missing = share + math.log(len(live)) - gain
        if abs(missing) < _CLOSE:
            break
        for place in live:
            more = wanted[place].log_factor + missing / 2
            wanted[place] = replace(wanted[place], log_factor=more)
        scales = solve([*wanted.values()])
    sized = [
        (networks[place].graph, _sized(networks[place], sizes, is_scaled))
        for place in growing
        for sizes in measured[place].sizes
    ]
    scales = _kept_in_range(sized, [*wanted.values()], scales, dtype)
    gains: dict[int, float] = {}
    for place in live:
        gain = measured[place].log_gain
        if gain is not None and math.isfinite(gain):
            gains[place] = gain + 2 * sum(n * scales[name] for name, n in powers[place].items())
    return Solved(scales, gains, sampled)


def _measured(
    network: Planned, stored: Mapping[str, LogScaled], part: Part, room: Range
) -> Measured:
    """What a network does to the variance; it is run only where its values may leave the room."""
    exact = exact_gain([network], stored, part)
    if exact is not None and surely_stays_within(network, stored, exact, room):
        return Measured(exact, ())
    return measure_by_samples([network], stored, part, None, exact)


def _vanishes(measured: Measured, room: Range) -> bool:
    """Whether the y that one meets would leave the dtype's range where the mean over all x is 1.

    The mean over all x is that of rare ones, far from all samples, for hundreds of random tensors.
    """
    exact, sampled = measured.log_gain, measured.sampled
    if exact is None or sampled is None or not math.isfinite(sampled):
        return False
    return (sampled - exact) / 2 < room.low


def _sized(network: Planned, sizes: Mapping[str, Size], is_scaled: bool) -> Sized:
    """A network with the sizes of its values; of those that are stored alone, if calls scale."""
    plan = replace(network.plan, steps=()) if is_scaled else network.plan
    stored = {value.name for value in plan.parameters}
    kept = {name: size for name, size in sizes.items() if name in stored or not is_scaled}
    return Sized(plan, network.names, kept)


def count_uses(graph: Graph, free: Sequence[str]) -> Counter[str]:
    """How often a network uses each free tensor."""
    wanted = set(free)
    uses = Counter(tensor.share or tensor.name for tensor in graph.tensors)
    return Counter({name: count for name, count in uses.items() if name in wanted})


def _share(others: Sequence[float | None], live: int) -> float:
    """The variance of y that each network with free tensors shall give.

    Arguments:
        others: log gains of the networks without any, which stay as they are.
        live: number of the networks with some.
    """
    if not live:
        return 1.0
    gains = [math.exp(min(g, 1.0)) for g in others if g is not None and not math.isnan(g)]
    moving = sum(gain > 0 for gain in gains)
    return max(1 - sum(gains), live / (live + moving)) / live


def _have_common(powers: Sequence[Mapping[str, int]], live: Sequence[int]) -> bool:
    """Whether two of the networks use one free tensor."""
    counts = Counter(name for one in live for name in powers[one])
    return any(count > 1 for count in counts.values())


def _expected_log_gain(graph: Graph, stored: Mapping[str, LogScaled]) -> float:
    """The variance of an entry of W by the rule for independent entries, in logarithms.

    It stands where nothing can be measured; a tensor of zeros counts as one of variance 1.
    """
    uses = Counter(tensor.share or tensor.name for tensor in graph.tensors)
    logs = ((count, stored[name].size.mean_square) for name, count in uses.items())
    return _log_fan(graph) + sum(count * log for count, log in logs if math.isfinite(log))


def _log_fan(graph: Graph) -> float:
    """Logarithm of (input legs that are not in the output) x (all other summed legs).

    A vector of norm 1 on a leg of a product port brings 1 over its size: such legs count as 1.
    """
    product = (leg for port in graph.inputs if port.product for leg in port.legs)
    kept = {*graph.output, *graph.pinned, *product}
    return sum(math.log(size) for leg, size in graph.leg_sizes if leg not in kept)


def _kept_in_range(
    sized: Sequence[tuple[Graph, Sized]],
    wanted: Sequence[Wanted],
    scales: dict[str, float],
    dtype: torch.dtype,
) -> dict[str, float]:
    """The scales, balanced if a value of a plan would come near the ends of the dtype's range."""
    within = range_of(dtype)
    room = narrowed(within)
    if any(one.out_of(room, scales) for _, one in sized):
        scales = balance(wanted, [one for _, one in sized], scales, room)
    for graph, one in sized:
        for name, log in one.out_of(within, scales).items():
            raise SpecError(_out_of_range(graph, one, name, log, scales, dtype))
    return scales


def _out_of_range(
    graph: Graph,
    sized: Sized,
    value: str,
    log: float,
    scales: Mapping[str, float],
    dtype: torch.dtype,
) -> str:
    """The message for a value that no scales keep in range."""
    known: dict[str, tuple[str, ...]] = {
        v.name: (n,) for v, n in zip(sized.plan.parameters, sized.names, strict=True)
    }
    known |= {port.name: (port.name,) for port in sized.plan.ports}
    for step in sized.plan.steps:
        parts = (name for o in step.operands for name in known[o.value.name])
        known[step.result.name] = tuple(dict.fromkeys(parts))
    users = dict(sized.plan.names)
    of = [users.get(name, name) for name in known[value]]
    shown = ", ".join(of[:6]) + (f" and {len(of) - 6} more" if len(of) > 6 else "")
    free = ", ".join([*scales][:6]) + (", ..." if len(scales) > 6 else "")
    return (
        f"network {graph.label!r} cannot start in {dtype}: the product of {shown} would have "
        f"entries of about 1e{log / math.log(10):.0f}, and no scale of the free tensors ({free}) "
        "keeps y and all products in range; scale the tensors with a value or an init of their "
        "own, or make the layer with a dtype of a wider range"
    )
