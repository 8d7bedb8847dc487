"""Explanation: what a layer runs, why, and what it costs, as a frozen printable value."""

from __future__ import annotations

from dataclasses import dataclass

from ..ir.plan_text import milliseconds, table
from ..planning.break_even import BreakEven, find_break_even
from ..planning.predictions import DENSE, Prediction
from ..planning.rank import INFER
from ..targets.backend import asked_backend, backend_of
from .report import Cost
from .verdict import verdict

_SCALED = (
    "log_scale: values are divided by powers of two on the way; times and memory are those of the "
    "plan without that"
)


@dataclass(frozen=True, slots=True)
class PlannedRange:
    """Batch sizes that one plan serves.

    Arguments:
        low, high: the least and the greatest; None: no bound.
        origin: the search objective that found the plan.
        batch: a batch size of the range, for the times.
        predicted: predicted times at that size.
    """

    low: int
    high: int | None
    origin: str
    batch: int
    predicted: Prediction


@dataclass(frozen=True, slots=True)
class Explanation:
    """What a layer runs and why; ``print`` shows it, ``text in explanation`` searches in that.

    Arguments:
        layer: the layer in one line.
        backend: what runs it; asked: what was asked for.
        why: why "auto" does not choose between backends; "" where it does.
        batch: the batch size that the costs are for.
        memory_limit: bytes, or None.
        costs: one a network; the layer's y is the sum of theirs.
        ranges: for each network, the batch ranges that have a plan so far.
        timed: whether plans were timed on the device, and the fastest taken.
        log_scale: whether values are scaled on the way, which no time here counts.
        parameters: trainable entries of all networks, those that several share counted once.
    """

    layer: str
    backend: str
    asked: str
    why: str
    batch: int
    memory_limit: int | None
    costs: tuple[Cost, ...]
    ranges: tuple[tuple[PlannedRange, ...], ...]
    timed: bool = False
    log_scale: bool = False
    parameters: int = 0

    @property
    def one_plan(self) -> bool:
        """Whether one plan serves all batch sizes."""
        return all(cost.one_plan for cost in self.costs)

    @property
    def predicted(self) -> Prediction:
        """Predicted times of one call at ``batch``: the sum over the networks."""
        each = [cost.fastest for cost in self.costs]
        return Prediction(
            self.backend,
            sum(one.forward for one in each),
            sum(one.backward for one in each),
            sum(one.inference for one in each),
        )

    def break_even(self) -> BreakEven | None:
        """The batch sizes at which the layer is predicted to beat one dense layer."""
        planned = [cost.planned for cost in self.costs]
        return find_break_even(planned, one_plan=self.one_plan)

    def __contains__(self, text: str) -> bool:
        return text in str(self)

    def __str__(self) -> str:
        blocks = [[self.layer, self._backend_text()]]
        if self.log_scale:
            blocks[0].append(_SCALED)
        for cost, ranges in zip(self.costs, self.ranges, strict=True):
            blocks.append(self._range_lines(cost, ranges))
            if self.memory_limit is not None:
                blocks[-1].append(_memory_line(cost, self.memory_limit))
            blocks += [cost.table_lines(), [cost.steps_text(), f"why this plan: {cost.reason}"]]
        blocks.append(self._verdict())
        return "\n\n".join("\n".join(lines) for lines in blocks)

    def _backend_text(self) -> str:
        if self.why:
            return f"backend: {self.backend} (asked for {self.asked!r}; {self.why})"
        notes = dict.fromkeys(note for cost in self.costs for note in cost.notes)
        later = "".join(f"; {note}" for note in notes)
        if self.asked == self.backend:
            return f"backend: {self.backend}, as asked for{later}"
        asked = asked_backend(self.asked)
        if asked is not None and asked.beaten and not backend_of(self.backend).is_compiled:
            return (
                f"backend: {self.backend} at batch {self.batch:,} (asked for {self.asked!r}: "
                f"{asked.beaten})"
            )
        return (
            f"backend: {self.backend} at batch {self.batch:,} (asked for {self.asked!r}: the "
            f"fastest {'of those timed' if self.timed else 'by prediction'}){later}"
        )

    def _verdict(self) -> list[str]:
        total = verdict(
            self.batch, self.predicted, self.costs[0].predicted(DENSE), self.break_even()
        )
        if len(self.costs) == 1:
            return total
        head = [f"the sum of {len(self.costs)} networks against one dense layer"]
        each = sum(cost.parameters for cost in self.costs)
        if self.parameters != each:
            head.append(
                f"parameters: {self.parameters:,}; those that networks share count once here, and "
                "in the table of each network"
            )
        return [*head, *total]

    def _range_lines(self, cost: Cost, ranges: tuple[PlannedRange, ...]) -> list[str]:
        """The batch ranges so far."""
        if cost.one_plan:
            return [f"plans of {cost.label or 'network'}: one for every batch size"]
        head = (
            f"plans of {cost.label or 'network'}: one a range of batch sizes, made when it is met"
        )
        if not ranges:
            return [f"{head}; none was met yet"]
        several = any(backend_of(one.predicted.backend).is_compiled for one in ranges)
        backend = ("backend",) if several else ()
        rows = [("batch", "plan", *backend, "at batch", "ms forward", "ms backward")]
        for one in ranges:
            times = milliseconds(one.predicted.forward), milliseconds(one.predicted.backward)
            backend = (one.predicted.backend,) if several else ()
            rows.append((_span(one.low, one.high), one.origin, *backend, f"{one.batch:,}", *times))
        return [head, *table(rows)]


def _span(low: int, high: int | None) -> str:
    if high is None:
        return f"{low:,} or more"
    return f"{low:,}" if low == high else f"{low:,} to {high:,}"


def _memory_line(cost: Cost, limit: int) -> str:
    """How a memory limit is kept."""
    mask = cost.planned.training_mask
    # A plan for "infer" keeps the limit of a forward without grad.
    mask = (False,) * len(mask) if cost.objective == INFER else mask
    return cost.lowered_for(mask).memory_line(cost.batch, limit)
