"""Any plan, forward or backward, run with numpy: one call a step, in the dtype of its arrays."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, cast

import numpy as np
import torch

from tnlayer.ir import steps
from tnlayer.ir.plan import Plan
from tnlayer.ir.steps import BATCH


def do_step(step: steps.Step, made: Mapping[str, Any], sizes: Mapping[str, int]) -> Any:
    """The result of a step."""
    values = [np.conj(made[o.value.name]) if o.conj else made[o.value.name] for o in step.operands]
    numbers = {leg: n for n, leg in enumerate(dict.fromkeys((*step.loop_legs, *step.result.legs)))}
    target = [numbers[leg] for leg in step.result.legs]
    result = np.zeros([sizes[leg] for leg in step.result.legs], values[0].dtype)
    match step:
        case steps.Add():
            return sum(values)
        case steps.Select():
            return values[0][_index(step.pins, values[0])]
        case steps.Scatter():
            for value, part in zip(values, step.parts, strict=True):
                result[_index(part.pins, result)] += value
        case steps.Embed():
            own = [numbers[leg] for leg in step.operand.legs]
            diagonal: Any = np.einsum(cast(Any, result), target, own)
            diagonal[...] = values[0]
        case _:
            uses = zip(values, step.operands, strict=True)
            terms = [one for v, o in uses for one in (v, [numbers[leg] for leg in o.legs])]
            for leg in set(step.result.legs) - {leg for o in step.operands for leg in o.legs}:
                terms += [np.ones(sizes[leg], result.dtype), [numbers[leg]]]
            return np.einsum(*terms, target)
    return result


def _index(pins: Sequence[tuple[int, int]], array: Any) -> tuple[int | slice, ...]:
    """The place of a slice."""
    return tuple(dict(pins).get(axis, slice(None)) for axis in range(array.ndim))


def do_plan(plan: Plan, arrays: Sequence[torch.Tensor]) -> tuple[torch.Tensor, ...]:
    """The outputs of a plan for its inputs, in order."""
    shaped = [(value, plan.axes_of(value), x) for value, x in zip(plan.inputs, arrays, strict=True)]
    batches = [x.shape[axes.index((BATCH,))] for _, axes, x in shaped if (BATCH,) in axes]
    sizes = {**plan.sizes, BATCH: batches[0] if batches else 1}
    made: dict[str, Any] = {}
    for value, _, x in shaped:
        array = x.detach().resolve_conj().resolve_neg().numpy()
        made[value.name] = array.reshape([sizes[leg] for leg in value.legs])
    for step in plan.steps:
        made[step.result.name] = do_step(step, made, sizes)
    found: list[torch.Tensor] = []
    for output in plan.outputs:
        value = made[output.operand.value.name]
        value = value.conj() if output.operand.conj else value
        if output.legs != output.operand.legs:  # where a leg stands twice they are equal
            value = value.transpose([output.operand.legs.index(leg) for leg in output.legs])
        shape = [int(np.prod([sizes[leg] for leg in axis])) for axis in output.axes]
        found.append(torch.from_numpy(np.array(value).reshape(shape)))
    return tuple(found)
