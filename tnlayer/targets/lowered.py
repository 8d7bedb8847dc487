"""A plan lowered for a target: forward and backward as a value, with its cost and its bytes.

Search prices it, reports describe it, programs build from it. What a backend makes of a plan is a
subclass; what is costly in it is made when first asked for.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields, replace
from functools import cached_property
from typing import Any, ClassVar, Self

from ..ir.counts import Amount
from ..ir.cuts import batched_steps
from ..ir.plan import Plan
from ..ir.plan_text import amount_text, at_batch, milliseconds
from ..lowering.calls.training_schedules import Mask
from ..time_models.torch_calls import Seconds, with_autograd
from .target import Target


@dataclass(frozen=True, slots=True)
class Room:
    """Bytes that a call takes beside x, y, the parameters and their gradients.

    Arguments:
        kept: from the forward to the backward.
        at_once: by calls of torch at once, what is kept included.
        standing: workspace of kernels, which stays between calls.
    """

    kept: int = 0
    at_once: int = 0
    standing: int = 0


@dataclass(frozen=True, eq=False)
class Lowered(ABC):
    """Forward and backward of one plan on one target.

    Arguments:
        backend: the name of what runs it.
        plan: a forward plan.
        mask: for each input of the plan, whether its gradient is wanted.
        target: what it was lowered for.
    """

    backend: str
    plan: Plan
    mask: Mask
    target: Target

    # Whether it is compiled: nothing of the batch's size is kept but inputs.
    is_compiled: ClassVar[bool] = True
    # Cached properties that hold for every plan with the same code.
    shared: ClassVar[tuple[str, ...]] = ()

    def __getstate__(self) -> dict[str, Any]:
        """Pickle what it was lowered from; the rest is made again."""
        return {one.name: getattr(self, one.name) for one in fields(self)}

    @property
    def why_not(self) -> str:
        """Why its backend cannot run the plan; "" if it can."""
        return ""

    @property
    def gains_alone(self) -> bool:
        """Whether a part of the plan may be lowered better than it is inside the whole."""
        return False

    @property
    def code(self) -> object:
        """What is equal for plans that run the same code."""
        return plain(self.plan, 1)

    def with_plan(self, plan: Plan) -> Self:
        """The same for a plan that runs the same code, one with other names, say; what was made
        already is kept."""
        found, own = replace(self, plan=plan), vars(self)
        # A cached property keeps its value there.
        vars(found).update({name: own[name] for name in self.shared if name in own})
        return found

    @cached_property
    def spans(self) -> Sequence[Lowered]:
        """The parts that one backend each runs, in order."""
        return (self,)

    @cached_property
    def inference(self) -> Lowered:
        """The same plan where no gradient is wanted."""
        return self.without_gradients() if any(self.mask) else self

    def without_gradients(self) -> Lowered:
        """Made anew; a subclass may share what both have in common."""
        return replace(self, mask=(False,) * len(self.mask))

    # -- seconds ---------------------------------------------------------------------------

    @abstractmethod
    def own_seconds(self, batch: int) -> Seconds:
        """Predicted seconds of forward and backward, without what autograd adds."""

    def seconds(self, batch: int) -> Seconds:
        """Predicted seconds of forward and backward, through autograd."""
        found = self.own_seconds(batch)
        if not any(self.mask):
            return found
        return with_autograd(found.forward, found.backward, self.passed, self.target.times)

    @property
    def passed(self) -> int:
        """Arrays that autograd passes on."""
        return len(self.plan.inputs)

    def shares(self, batch: int) -> dict[str, float]:
        """Predicted seconds of each step with its part of the backward, by the forward step's
        result; by default all the same."""
        names = [step.result.name for step in self.plan.steps]
        return dict.fromkeys(names, self.own_seconds(batch).total / max(1, len(names)))

    def step_seconds(self, batch: int) -> dict[str, float]:
        """Predicted seconds of each step, in training with its backward; "" has the rest."""
        found = self.shares(batch)
        found = {step.result.name: found[step.result.name] for step in self.plan.steps}
        return found | {"": self.seconds(batch).total - sum(found.values())}

    # -- bytes and calls -------------------------------------------------------------------

    @property
    def saved(self) -> Amount:
        """Bytes kept from the forward to the backward, beside the inputs."""
        return Amount()

    @property
    def workspace(self) -> int:
        """Bytes that kernels allocate beside x, y, the parameters and their gradients."""
        return 0

    def room(self, batch: int) -> Room:
        """What a call takes."""
        return Room(standing=self.workspace)

    def peak_bytes(self, batch: int) -> int:
        """Bytes allocated at once, y and the gradients included; an upper bound."""
        values = zip(self.plan.inputs, self.mask, strict=True)
        gradients = sum(self.plan.bytes_of(value).at(batch) for value, asked in values if asked)
        y = self.plan.bytes_of(self.plan.outputs[0].operand.value).at(batch)
        room = self.room(batch)
        return y + gradients + room.standing + room.at_once + self.saved.at(batch)

    @property
    def calls(self) -> tuple[int, int]:
        """Calls of a forward and of a backward: one a kernel, else those of torch."""
        return 1, int(any(self.mask))

    # -- in words --------------------------------------------------------------------------

    @property
    def how(self) -> str:
        """How it runs, for reports."""
        return f"{self.backend} runs it"

    @property
    def remarks(self) -> tuple[str, ...]:
        """Where counts of the plan are not what runs: what stands below each table of them; by
        default what the spans say."""
        spans = (span for span in self.spans if span is not self)
        return tuple(dict.fromkeys(remark for span in spans for remark in span.remarks))

    def lines(self, batch: int, steps: Mapping[str, float]) -> list[str]:
        """What stands below a table of the plan's steps.

        Arguments:
            batch: samples of a call.
            steps: predicted seconds of the steps, as ``step_seconds`` gives them.
        """
        del steps
        spans = self._span_lines(batch)
        # What a region says of how it runs is not said again.
        more = [remark for remark in self.remarks if not any(remark in line for line in spans)]
        return ["times of steps have their backward in them", *spans, *more]

    def _span_lines(self, batch: int) -> list[str]:
        """A line for each span: its steps, its times, how it runs, what its cut keeps."""
        lines: list[str] = []
        for number, span in enumerate(self.spans):
            spent = span.own_seconds(batch)
            names = [step.result.name for step in batched_steps(span.plan)]
            ends = names[0] if len(names) == 1 else f"{names[0]} to {names[-1]}" if names else ""
            text = (
                f"region {number + 1}, {span.backend}: {ends or 'none'}, "
                f"{milliseconds(spent.forward)} ms forward, "
                f"{milliseconds(spent.backward)} ms backward; {span.how}"
            )
            if span.is_compiled:
                text += "; keeps nothing of the batch's size but its input"
            lines.append(text)
            if number + 1 < len(self.spans):
                value = span.plan.outputs[0].operand.value
                kept = amount_text(span.plan.bytes_of(value))
                lines.append(
                    f"cut at {value.name}: {kept} bytes are written and kept for the backward"
                )
        return lines

    def memory_line(self, batch: int, limit: int) -> str:
        """How a memory limit is kept."""
        room = self.room(batch)
        if not room.at_once:
            used = f"{room.standing:,} of {limit:,} bytes at every batch"
            return f"memory: {used}: the workspace of the kernels"
        used = f"{room.standing + room.at_once:,} of {limit:,} bytes{at_batch(self.plan, batch)}"
        return f"memory: {used}: the workspace of the kernels, and arrays of calls around them"


def plain(plan: Plan, batch: int) -> Plan:
    """A plan without what its kernels do not depend on, made for a batch size that stands for all
    with the same kernels: what is counted for it serves all others."""
    return replace(
        plan, batch=batch, regions=(), names=(), minimize="flops", proven_optimal=False,
        aborted=False,
    )  # fmt: skip
