"""Whether all values of a plan stay in a range, by norms alone: without running it.

The norm of a product is at most the product of the norms, whatever is summed, and that of a sum
over a leg of n indices at most sqrt(n) times the norm. So each value v is at most its bound u(v).
And y is linear in v (or of a higher power), so that what y lacks of its own bound is the most that
v can lack of its bound. Networks of a few dozen tensors are far from both ends of float32.
"""

from __future__ import annotations

import math
from collections.abc import Mapping

from ...ir.counts import elements
from ...ir.steps import Reduce
from .log_scale_run import LogScaled
from .measure_variance import Planned
from .scale_tensors import Range


def surely_stays_within(
    network: Planned, stored: Mapping[str, LogScaled], log_gain: float, room: Range
) -> bool:
    """Whether no scale that the variance rule gives brings a value of a plan near a range's ends.

    False where that is not sure: for several inputs, product ports, or long chains.

    Arguments:
        network: with its plan.
        stored: the arrays by the user's names; free ones have variance 1.
        log_gain: logarithm of mean |y|^2 over all x of mean |x|^2 = 1; y is linear in x.
        room: the range.
    """
    ports = network.graph.inputs
    if len(ports) != 1 or ports[0].product or not ports[0].batched:
        return False
    plan = network.plan
    # The factors of all free tensors together bring the gain to 1.
    shift = abs(log_gain) / 2
    bounds = {plan.ports[0].name: math.log(network.graph.in_features) / 2}
    entries: dict[str, float] = {}
    for value, name in zip(plan.parameters, network.names, strict=True):
        array = stored[name]
        bounds[value.name] = array.size.mean_square / 2 + math.log(array.mantissa.numel()) / 2
    for step in plan.steps:
        found = sum(bounds[operand.value.name] for operand in step.operands)
        if isinstance(step, Reduce):
            gone = set(step.operand.legs) - set(step.result.legs)
            found += sum(math.log(plan.sizes[leg]) for leg in gone) / 2
        bounds[step.result.name] = found
        size = elements(step.result.legs, plan.sizes)
        entries[step.result.name] = math.log(max(size.fixed, size.per_sample)) / 2
    y = (math.log(network.graph.out_features) + log_gain) / 2
    lacking = bounds[plan.outputs[0].operand.value.name] - y
    if not all(map(math.isfinite, (*bounds.values(), lacking))):
        return False
    return all(
        bounds[name] + shift < room.high and bounds[name] - lacking - many - shift > room.low
        for name, many in entries.items()
    ) and all(
        bounds[value.name] + shift < room.high and stored[name].size.peak - shift > room.low
        for value, name in zip(plan.parameters, network.names, strict=True)
    )
