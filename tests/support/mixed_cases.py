"""Plans cut into regions of two backends, held against the oracle."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from itertools import pairwise

import numpy as np
import torch

import tnlayer as tn
from tests.support.against_oracle import (
    check_backward,
    check_forward,
    draw_inputs,
    fill,
    freeze_some,
)
from tests.support.strategies import Case, random_array
from tnlayer.backends.mixed_program import MixedProgram
from tnlayer.ir.batch_range import BatchRange
from tnlayer.ir.cuts import batched_steps, cuts
from tnlayer.ir.plan import Plan
from tnlayer.ir.plan_parts import BackendSpan
from tnlayer.lowering.calls.training_schedules import Mask
from tnlayer.runtime.program import Program


def divisions(plan: Plan, backends: tuple[str, str]) -> Iterator[tuple[BackendSpan, ...]]:
    """One cut at each place where there can be one, both ways round; and all cuts at once."""
    total, allowed = len(batched_steps(plan)), sorted(cuts(plan))
    for at in allowed:
        for first, second in (backends, backends[::-1]):
            yield (BackendSpan(first, at), BackendSpan(second, total - at))
    if len(allowed) > 1:
        ends = [0, *allowed, total]
        sizes = [end - start for start, end in pairwise(ends)]
        yield tuple(BackendSpan(backends[k % 2], size) for k, size in enumerate(sizes))


def mixed(program: Program, regions: tuple[BackendSpan, ...]) -> MixedProgram:
    """The same plan in these regions."""
    plan = replace(program.plan, regions=regions).verify()
    return MixedProgram(program.graph, plan, program.tensor_names)


class MixedCase:
    """A case with its layer filled and its inputs drawn."""

    def __init__(self, case: Case, dtype: torch.dtype) -> None:
        self.case, self.graph = case, case.net.freeze()
        self.random = np.random.default_rng(case.seed)
        self.layer = tn.Layer(case.net, dtype=dtype, backend="torch", batch=16)
        self.stored = fill(self.layer, self.graph, self.random, dtype.is_complex)
        self.inputs = draw_inputs(self.graph, case, case.lead, self.random, dtype.is_complex)
        freeze_some(self.layer, self.inputs, case.frozen)
        (self.ranged,) = self.layer._programs_for(dtype)
        # By FLOPs, so that there are many steps on samples, and many cuts.
        name = str(dtype).removeprefix("torch.")
        self.program = tn.compile(case.net, backend="torch", dtype=name, minimize="flops")

    @property
    def mask(self) -> Mask:
        """Which gradients the call will ask for."""
        arrays = [
            *self.inputs,
            *(self.layer._stored.of(self.layer)[n] for n in self.program.parameter_order),
        ]
        return tuple(array.requires_grad for array in arrays)

    def check(self, program: Program) -> None:
        """Value and gradients of the layer with another program, against the oracle."""
        self.ranged.replace_range(BatchRange(), program)
        for array in (*self.inputs, *self.layer.parameters()):
            array.grad = None
        y = self.layer(*self.inputs)
        check_forward(self.graph, y, self.inputs, self.stored)
        if y.requires_grad:
            slope = random_array(self.random, tuple(y.shape), y.is_complex())
            grad_y = torch.from_numpy(slope)
            y.backward(grad_y)
            check_backward(self.layer, self.graph, self.inputs, self.stored, grad_y)
        with torch.no_grad():
            check_forward(self.graph, self.layer(*self.inputs), self.inputs, self.stored)
