"""A plan lowered to one product with a matrix that is made in tiles, and calls around it."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property

import torch

from ..hardware.cpu import PAGE_BYTES, Cpu
from ..ir.counts import elements
from ..ir.plan import Plan
from ..ir.steps import owner_of
from ..lowering.streamed.factor_plans import FactorSchedules, factor_schedules
from ..lowering.streamed.product_form import Legs, ProductForm, product_form
from ..lowering.streamed.tile_sizes import kernel_entries, tile_sizes
from ..support.dtypes import DTYPES
from ..targets.lowered import Lowered, Room, plain
from ..targets.target import target_for
from ..time_models.streamed_kernels import streamed_seconds
from ..time_models.torch_calls import Seconds, schedule_seconds, step_seconds


@dataclass(frozen=True, eq=False)
class LoweredStreamed(Lowered):
    """A plan as a product that never stores its matrix."""

    shared = ("calls_around",)

    @property
    def cpu(self) -> Cpu:
        """What the kernels are made for."""
        return self.target.compiled_cpu

    @cached_property
    def found(self) -> ProductForm | str:
        """The form of the plan, or why it has none."""
        return product_form(self.plan, self.cpu.width(DTYPES[self.plan.dtype].arithmetic))

    @property
    def form(self) -> ProductForm:
        """The form of a plan that has one."""
        assert not isinstance(self.found, str), self.found
        return self.found

    @property
    def why_not(self) -> str:
        """Few plans are such a product."""
        return self.found if isinstance(self.found, str) else ""

    @property
    def code(self) -> Plan:
        """The plan: one set of kernels serves all batch sizes."""
        return plain(self.plan, 1)

    @cached_property
    def in_arithmetic(self) -> LoweredStreamed:
        """The same in the dtype in which kernels compute."""
        arithmetic = DTYPES[self.plan.dtype].arithmetic
        if arithmetic == self.plan.dtype:
            return self
        target = target_for(arithmetic, self.target.device, self.target.cpu)
        return replace(self, plan=replace(self.plan, dtype=arithmetic), target=target)

    @cached_property
    def calls_around(self) -> FactorSchedules:
        """The calls that make the factors, and take their gradients further."""
        return factor_schedules(self.plan, self.form, self.mask, self.target.times)

    def own_seconds(self, batch: int) -> Seconds:
        """Of the kernels and of the calls around them."""
        around, target = self.calls_around, self.target
        kernels = self._kernel_seconds(batch)
        factors = schedule_seconds(around.forward, batch, target.times)
        if not any(self.mask):
            return Seconds(kernels.forward + factors)
        # The backward makes the factors again.
        backward = kernels.backward + factors
        if around.backward is not None:
            backward += schedule_seconds(around.backward, batch, target.times)
        return Seconds(kernels.forward + factors, backward)

    def shares(self, batch: int) -> dict[str, float]:
        """The step with samples has what samples take, W what it is made and taken further in; the
        steps before have their calls of torch, forward and backward."""
        found = dict.fromkeys((step.result.name for step in self.plan.steps), 0.0)
        around, times = self.calls_around, self.target.times
        ahead = step_seconds(around.forward, batch, times)
        turns = 2 if any(self.mask) else 1  # the backward makes the factors again
        for name, spent in ahead.items():
            if name in found:
                found[name] += turns * spent
        if around.backward is not None:
            owners = {step.result.name: owner_of(step) for step in around.backward.plan.steps}
            for name, spent in step_seconds(around.backward, batch, times).items():
                if owners.get(name, "") in found:
                    found[owners[name]] += spent
        kernels = self._kernel_seconds(batch).total
        # Without samples kernels do nothing but make W and take its gradient further.
        making = min(kernels, self._kernel_seconds(0).total)
        found[self.form.matrix.name] += making
        found[self.form.y.name] += kernels - making
        return found

    def _kernel_seconds(self, batch: int) -> Seconds:
        """Of the kernels alone."""
        profile = self.target.profile
        return streamed_seconds(self.plan, self.form, self.wanted, batch, profile, self.cpu)

    @property
    def wanted(self) -> tuple[bool, bool, bool]:
        """Whether the gradients of x, of left and of right are wanted."""
        around = self.calls_around
        return around.wants_x, around.wants_left, around.wants_right

    @property
    def workspace(self) -> int:
        """Bytes that a call takes beside x, y, parameters and their gradients, at the batch size of
        the plan."""
        room = self.room(self.plan.batch)
        return room.standing + room.at_once

    def room(self, batch: int) -> Room:
        """Kernels keep the workspace of the largest call; calls of torch make arrays around it."""
        if self.in_arithmetic is not self:
            found = self.in_arithmetic.room(batch)
            return replace(found, at_once=found.at_once + self._copies_at(batch))
        rows = elements(self.form.rows, self.plan.sizes).at(batch)
        threads = max(self.target.profile.threads, torch.get_num_threads())
        width, sizes = self.cpu.width(self.plan.dtype), tile_sizes(self.cpu)
        kept = kernel_entries(self.form, rows, width, sizes, self.wanted, threads)
        pages = PAGE_BYTES * (1 + threads)
        standing = kept * self.plan.itemsize + pages
        return Room(at_once=self._arrays_at(batch), standing=standing)

    def _copies_at(self, batch: int) -> int:
        """Bytes of what comes and goes in 16 bits: inputs become wider once a call, and y and the
        gradients are there before they are rounded."""
        plan = self.in_arithmetic.plan
        gradients = zip(plan.inputs, self.mask, strict=True)
        values = [*plan.inputs, *(value for value, asked in gradients if asked)]
        values += [plan.outputs[0].operand.value] * 2  # and its gradient
        return sum(plan.bytes_of(value).at(batch) for value in values)

    def _arrays_at(self, batch: int) -> int:
        """Bytes of arrays that calls of torch make in a forward or a backward, at most: the factors
        and what makes them, x, y and their gradients in other orders, the factors' gradients."""
        form, plan, around = self.form, self.plan, self.calls_around

        def moved(legs: Legs, wanted: Legs) -> int:
            return self._bytes(legs, batch) if legs != wanted else 0

        made = around.forward.peak_bytes(batch)
        held = around.forward.saved_bytes.at(batch)
        x = moved(form.x.legs, form.x_legs)
        y = moved(plan.outputs[0].legs, form.y_legs)
        forward = max(made, held + x + y)
        if not any(self.mask):
            return forward
        wants_x, wants_left, wants_right = self.wanted
        held += x * ((wants_left or wants_right) + wants_x)
        held += self._bytes(form.left_legs, batch) * wants_left
        held += self._bytes(form.right_legs, batch) * wants_right
        if around.backward is not None:
            held += around.backward.workspace_bytes(batch)
        return max(forward, y + max(made, held))

    def _bytes(self, legs: Legs, batch: int) -> int:
        """Of an array with these legs."""
        return elements(legs, self.plan.sizes).at(batch) * self.plan.itemsize

    @property
    def calls(self) -> tuple[int, int]:
        """Calls of kernels and of torch."""
        around = self.calls_around
        ahead = 1 + around.forward.kernel_count
        if not any(self.mask):
            return ahead, 0
        return ahead, ahead + (0 if around.backward is None else around.backward.kernel_count)

    @property
    def remarks(self) -> tuple[str, ...]:
        """What counts of the plan do not say."""
        again = ", and make it again in the backward" if any(self.mask) else ""
        counts = "FLOPs, bytes moved and the largest intermediate are the plan's, with W stored"
        return self.how, f"{counts}; these kernels do not move it{again}"

    @property
    def how(self) -> str:
        """How it runs, for reports."""
        return "W is made in tiles and used in a cache: neither it nor its gradient is stored"
