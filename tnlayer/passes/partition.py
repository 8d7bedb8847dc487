"""Regions: a plan cut at batched values into plans of their own, each for one backend.

A plan can be cut wherever a single batched value is alive. What comes before the cut ends in that
value, what comes behind starts from it: it is the port of the next region. Steps without samples go
to the region that reads them; one that two regions read is done in both.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

from ..ir.cuts import batched_steps, cuts, is_batched
from ..ir.plan import Plan
from ..ir.plan_parts import Memory, Output
from ..ir.steps import BATCH, Operand, Step, Value, with_operands


def split(plan: Plan, counts: Sequence[int]) -> tuple[Plan, ...]:
    """The regions of a forward plan as plans; one after the other they are the whole.

    A cut value has the batch first, all its other legs are one axis.

    Arguments:
        plan: a forward plan.
        counts: how many batched steps each region has, in order.

    Raises:
        ValueError: a plan cannot be cut there, or the counts are not those of all batched steps.
    """
    allowed = cuts(plan)
    steps = batched_steps(plan)
    ends = [sum(counts[: number + 1]) for number in range(len(counts))]
    if not counts or ends[-1] != len(steps) or any(end not in allowed for end in ends[:-1]):
        msg = (
            f"regions of {list(counts)} batched steps: expected {len(steps)} with cuts at {allowed}"
        )
        raise ValueError(msg)
    found: list[Plan] = []
    for start, end in zip((0, *ends), ends, strict=False):
        source = allowed[start] if start else None
        target = allowed[end] if end < len(steps) else None
        found.append(_region(plan, steps[start:end], source, target))
    return tuple(found)


def _region(plan: Plan, steps: Sequence[Step], source: Value | None, target: Value | None) -> Plan:
    """The plan of some batched steps, from a cut value (None: the ports) to another (None: y)."""
    used = {operand.value.name for step in steps for operand in step.operands}
    if target is None:
        used.add(plan.outputs[0].operand.value.name)
    before: list[Step] = []
    for step in reversed(plan.steps):
        if not is_batched(step) and step.result.name in used:
            before.append(step)
            used.update(operand.value.name for operand in step.operands)
    whole = (*reversed(before), *steps)
    ports = tuple(port for port in plan.ports if port.name in used)
    axes = tuple(item for item in plan.port_axes if item[0] in used)
    if source is not None:
        port = _as_port(source)
        whole = tuple(
            with_operands(step, lambda value: port if value == source else value) for step in whole
        )
        ports, axes = (port, *ports), ((port.name, _axes(port)), *axes)
    output = plan.outputs[0]
    if target is not None:
        output = Output(output.name, Operand(target), _axes(_as_port(target)))
    return replace(
        plan,
        ports=ports,
        port_axes=axes,
        parameters=tuple(value for value in plan.parameters if value.name in used),
        steps=whole,
        outputs=(output,),
        memory=Memory(),
        regions=(),
    ).verify()


def _as_port(value: Value) -> Value:
    """A cut value with the batch first."""
    return Value(value.name, (BATCH, *(leg for leg in value.legs if leg != BATCH)))


def _axes(port: Value) -> tuple[tuple[str, ...], ...]:
    return ((BATCH,), port.legs[1:])


def region_masks(
    plan: Plan, parts: Sequence[Plan], mask: Sequence[bool]
) -> tuple[tuple[bool, ...], ...]:
    """Which gradients each region gives: that of a cut is wanted if one before it is.

    Arguments:
        plan: the whole.
        parts: its regions as plans.
        mask: for each input of the whole, whether its gradient is wanted.
    """
    asked = dict(zip((value.name for value in plan.inputs), mask, strict=True))
    flows = False
    found: list[tuple[bool, ...]] = []
    for part in parts:
        found.append(tuple(asked.get(value.name, flows) for value in part.inputs))
        flows = any(found[-1])
    return tuple(found)


def stem_owners(plan: Plan) -> dict[str, str]:
    """For each step of a forward plan the batched step it belongs to, by their results.

    A step without samples belongs to the first batched step that reads what comes of it; "" is the
    owner of what no batched step reads.
    """
    owners: dict[str, str] = {}
    for step in reversed(plan.steps):
        name = step.result.name
        owners[name] = name if is_batched(step) else owners.get(name, "")
        for operand in step.operands:
            if is_batched(step) or operand.value.name not in owners:
                owners[operand.value.name] = owners[name]
    steps = {step.result.name for step in plan.steps}
    owners = {name: owners[name] for name in owners if name in steps}
    return owners | {step.result.name: step.result.name for step in batched_steps(plan)}


def with_branches(plan: Plan, seconds: Mapping[str, float]) -> dict[str, float]:
    """Seconds of each batched step, with those of the steps on parameters that belong to it."""
    found = dict.fromkeys((step.result.name for step in batched_steps(plan)), 0.0)
    for name, owner in stem_owners(plan).items():
        if owner in found:
            found[owner] += seconds[name]
    return found
