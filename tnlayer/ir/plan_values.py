"""What a plan says, and what follows from it alone: sizes, branch and stem, counts.

Its text, its drawing and its legality are read off this; so a :class:`tnlayer.ir.plan.Plan` can
offer them, and what makes them need not know a plan.
"""

from __future__ import annotations

from dataclasses import dataclass, field, fields
from functools import cached_property
from typing import Any

from ..support.dtypes import DTYPES
from .backend_names import MIXED, TORCH
from .counts import Amount, Counts, count_step, elements, total
from .plan_parts import KEEP_ALL, BackendSpan, Memory, Output
from .steps import BATCH, Select, Step, Value

# What ``minimize`` says where the order is the user's own.
GIVEN = "path"


@dataclass(frozen=True)
class PlanValues:
    """A contraction plan: inputs, steps in order, outputs.

    Arguments:
        leg_sizes: size of each leg but the batch.
        ports: values that come from outside at each call: inputs of the network, or gradients.
        parameters: values that are stored arrays.
        saved: values that the forward kept for this plan; () in a forward plan.
        steps: the steps in order of execution.
        outputs: what leaves the plan.
        port_axes: for each port of the network, the legs of each axis that x comes with.
        dtype: name of the dtype of the arithmetic.
        batch: the batch size that the plan was chosen for.
        minimize: the search objective, as handed to the search; "path": the order was given.
        proven_optimal: whether the search was exhaustive, so that no tree is cheaper by it.
        aborted: whether planning was cut short by its deadline: this is the best until then.
        memory: what is recomputed, chunked or sliced to keep a memory limit.
        regions: which backend does which batched steps of a forward plan; (): torch does all.
        names: user's name of each canonical name; for display only, not part of equality.
    """

    leg_sizes: tuple[tuple[str, int], ...]
    ports: tuple[Value, ...]
    parameters: tuple[Value, ...]
    saved: tuple[Value, ...]
    steps: tuple[Step, ...]
    outputs: tuple[Output, ...]
    port_axes: tuple[tuple[str, tuple[tuple[str, ...], ...]], ...] = ()
    dtype: str = "float32"
    batch: int = 1
    minimize: str = "flops"
    proven_optimal: bool = False
    aborted: bool = False
    memory: Memory = KEEP_ALL
    regions: tuple[BackendSpan, ...] = ()
    names: tuple[tuple[str, str], ...] = field(default=(), compare=False)

    def __hash__(self) -> int:
        return self._hash

    @cached_property
    def _hash(self) -> int:
        """Asked for whenever something is looked up that was made from a plan."""
        compared = (one.name for one in fields(self) if one.compare)
        return hash(tuple(getattr(self, name) for name in compared))

    @cached_property
    def sizes(self) -> dict[str, int]:
        """Size of each leg but the batch."""
        return dict(self.leg_sizes)

    def axes_of(self, value: Value) -> tuple[tuple[str, ...], ...]:
        """Legs of each axis with which an input comes: merged for ports, one each otherwise.

        Arguments:
            value: one of ``inputs``.
        """
        return self._axes.get(value.name) or tuple((leg,) for leg in value.legs)

    @cached_property
    def _axes(self) -> dict[str, tuple[tuple[str, ...], ...]]:
        return dict(self.port_axes)

    def axis_size(self, legs: tuple[str, ...]) -> int | None:
        """Size of an axis; None if it is the batch.

        Arguments:
            legs: canonical names of the legs that the axis merges.
        """
        size = elements(legs, self.sizes)
        return None if size.per_sample else size.fixed

    @property
    def is_complex(self) -> bool:
        """Whether the arithmetic is complex."""
        return DTYPES[self.dtype].is_complex

    @property
    def itemsize(self) -> int:
        """Bytes of one entry."""
        return DTYPES[self.dtype].itemsize

    @cached_property
    def inputs(self) -> tuple[Value, ...]:
        """Everything that the plan starts from: ports, parameters, saved values."""
        return self.ports + self.parameters + self.saved

    @cached_property
    def is_batched(self) -> bool:
        """Whether any port carries the batch."""
        return any(BATCH in port.legs for port in self.ports)

    @cached_property
    def recomputed(self) -> frozenset[str]:
        """Names of the steps' results that a backward makes again, by ``memory``.

        A chunk keeps nothing of its samples, a slice nothing that has the sliced leg. What a
        sliced leg is summed into is kept: the backward loops over that leg only once.
        """
        memory = self.memory
        names, kept = set(memory.recompute), set[str]()
        gone = {*memory.slices, *((BATCH,) if memory.chunk is not None else ())}
        for step in self.steps:
            if gone & set(step.result.legs):
                names.add(step.result.name)
            if any(set(o.legs) & set(memory.slices) - set(step.result.legs) for o in step.operands):
                kept.add(step.result.name)
        return frozenset(names - kept)

    @cached_property
    def branch(self) -> frozenset[str]:
        """Names of the values that depend on parameters only."""
        names = {value.name for value in self.parameters}
        for step in self.steps:
            if all(operand.value.name in names for operand in step.operands):
                names.add(step.result.name)
        return frozenset(names)

    @cached_property
    def branch_steps(self) -> tuple[Step, ...]:
        """Steps on parameters only: once a call, whatever the batch."""
        return tuple(step for step in self.steps if step.result.name in self.branch)

    @cached_property
    def stem_steps(self) -> tuple[Step, ...]:
        """Steps that an input of the network enters."""
        return tuple(step for step in self.steps if step.result.name not in self.branch)

    # -- counts ----------------------------------------------------------------------------

    def counts_of(self, step: Step) -> Counts:
        """FLOPs and bytes of one step.

        Arguments:
            step: one of ``steps``.
        """
        return count_step(step, self.sizes, self.itemsize, is_complex=self.is_complex)

    @property
    def backend(self) -> str:
        """What runs it: the backend of its regions, or "mixed"."""
        backends = {region.backend for region in self.regions} or {TORCH}
        return backends.pop() if len(backends) == 1 else MIXED

    @cached_property
    def counts(self) -> Counts:
        """FLOPs and bytes of the whole plan."""
        return total(self.counts_of(step) for step in self.steps)

    def largest_intermediate(self, batch: int | None = None) -> int:
        """Entries of the largest value that a step makes, y included; x and tensors are none.

        What is looped over counts once: a leg of a slice, and of a chunk its samples. The
        contraction width is log2 of it.

        Arguments:
            batch: samples of a call, by default those that the plan was chosen for.
        """
        memory, samples = self.memory, self.batch if batch is None else batch
        sizes = self.sizes | dict.fromkeys(memory.slices, 1)
        at_once = samples if memory.chunk is None else min(samples, memory.chunk)
        # A Select takes a part of an array, or renames its legs: it makes none.
        steps = (step for step in self.steps if not isinstance(step, Select))
        made = [elements(step.result.legs, sizes).at(at_once) for step in steps]
        y = [elements(output.legs, self.sizes).at(samples) for output in self.outputs]
        return max((*made, *y), default=1)

    def bytes_of(self, value: Value) -> Amount:
        """Bytes of a value.

        Arguments:
            value: an input, or the result of a step.
        """
        return elements(value.legs, self.sizes) * self.itemsize

    @cached_property
    def saved_bytes(self) -> Amount:
        """Bytes of the forward's values that a backward plan needs kept."""
        return sum((self.bytes_of(value) for value in self.saved), start=Amount())

    def __getstate__(self) -> dict[str, Any]:
        """Pickle the content only, never what was cached from it."""
        return {name: getattr(self, name) for name in self.__dataclass_fields__}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
