"""Calls whose arrays are all too small for kept memory run without asking for it.

Asking takes a Python call for each array, as long as a small product of matrices.
"""

from __future__ import annotations

from collections.abc import Callable

import torch

from ..ir.counts import elements
from ..ir.plan import Plan
from ..ir.steps import BATCH
from .scratch import LEAST_ENTRIES

_Function = Callable[..., tuple[torch.Tensor, ...]]


def most_samples(plan: Plan) -> int:
    """The greatest batch size at which no array of a plan, nor a gradient of one, takes kept
    memory; -1: there is none."""
    values = (*plan.inputs, *(step.result for step in plan.steps))
    found = [elements(value.legs, plan.sizes) for value in values]
    fixed = max((one.fixed for one in found), default=0)
    sample = max((one.per_sample for one in found), default=0)
    if fixed >= LEAST_ENTRIES:
        return -1
    return (LEAST_ENTRIES - 1) // sample if sample else LEAST_ENTRIES


def by_samples(few: _Function, many: _Function, place: int, most: int) -> _Function:
    """One function up to a batch size, and another above.

    Arguments:
        few, many: the functions.
        place: of an argument that has the batch.
        most: samples that the first one takes.
    """

    def call(*arrays: torch.Tensor) -> tuple[torch.Tensor, ...]:
        return (few if arrays[place].size(0) <= most else many)(*arrays)

    return call


def batch_place(plan: Plan) -> int | None:
    """Which port has the batch; None: none has."""
    return next((place for place, port in enumerate(plan.ports) if BATCH in port.legs), None)
