"""``explain()``: what a layer runs for a batch size, why, and what it costs, as a printable value.

Nothing is built for it. Plans that were not asked for yet are made, for the batch size may be one
that no call had so far.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace

from ..dispatch.available_backends import taken_backend
from ..dispatch.programs_by_batch import RangedProgram
from ..dispatch.running import Running, are_built, running_now
from ..dispatch.tiers import Change
from ..errors import SpecError
from ..graph.argument_checks import check_whole, shown
from ..graph.graph import count_parameters
from ..ir.backend_names import MIXED, TORCH
from ..ir.batch_range import BatchRange
from ..ir.plan_text import at_batch, milliseconds, search_words
from ..ir.table_text import table
from ..planning.break_even import BreakEven
from ..planning.planner import PlannedGraph, plan_graph
from ..planning.predictions import DENSE, Prediction, predict
from ..planning.request import INFER, MAX_BATCH
from ..runtime.program import Program
from ..targets.backend import asked_backend, backend_of, same_code
from .cost import Cost
from .cost_of_network import cost_of
from .costs import Costs
from .verdict import verdict as verdict_lines

_SCALED = (
    "log_scale: values are divided by powers of two on the way; times and memory are those of the "
    "plan without that"
)


# Of so many networks each is told in full; of more there is a row each, and so many lines of how a
# limit is kept, and of first calls.
_IN_FULL, _KEPT = 3, 8


@dataclass(frozen=True, slots=True)
class PlannedRange:
    """Batch sizes that one plan serves.

    Arguments:
        batches: those sizes.
        origin: the search that found the plan, as ``minimize`` of :func:`tnlayer.plan` names it.
        batch: a batch size of the range, for the times.
        predicted: predicted times at that size.
    """

    batches: BatchRange
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
        changes: how calls came from torch's calls to what stays, where they did or do.
        running: what runs now, a row for each range of batch sizes that was met.
        built: whether the kernels that calls at ``batch`` need are compiled.
    """

    layer: str
    backend: str
    asked: str
    why: str
    batch: int
    memory_limit: int | None
    costs: Costs
    ranges: tuple[tuple[PlannedRange, ...], ...]
    timed: bool = False
    log_scale: bool = False
    parameters: int = 0
    changes: tuple[Change, ...] = ()
    running: tuple[Running, ...] = ()
    built: bool = False

    @property
    def one_plan(self) -> bool:
        """Whether one plan serves all batch sizes."""
        return all(cost.one_plan for cost in self.costs)

    @property
    def predicted(self) -> Prediction:
        """Predicted times of one call at ``batch``: the sum over the networks."""
        return replace(self.costs.fastest, backend=self.backend)

    def break_even(self) -> BreakEven | None:
        """The batch sizes at which the layer is predicted to beat one dense layer."""
        return self.costs.break_even()

    def __contains__(self, text: str) -> bool:
        return text in str(self)

    def head(self) -> list[str]:
        """The layer, its backend and why that, and what runs now."""
        scaled = [_SCALED] if self.log_scale else []
        rows = [str(row) for row in self.running[:_KEPT]]
        if len(self.running) > _KEPT:
            rows.append(f"and {len(self.running) - _KEPT} more ranges of batch sizes")
        over = [change for change in self.changes if change.seconds is not None]
        rows += [f"first calls: {change}" for change in over[:_KEPT]]
        if len(over) > _KEPT:
            rows.append(f"first calls: and {len(over) - _KEPT} more such ranges")
        return [self.layer, self._backend_text(), *scaled, *rows]

    def __str__(self) -> str:
        if len(self.costs) > _IN_FULL:
            more = (
                "costs[k] tells of one: print(found.costs[0]), print(found.costs[0].steps_text())"
            )
            limit = self.memory_limit
            kept = [] if limit is None else [_memory_line(cost, limit) for cost in self.costs]
            blocks = [self.head(), kept[:_KEPT], [str(self.costs)], [more]]
            return "\n\n".join("\n".join(lines) for lines in blocks if lines)
        blocks = [self.head()]
        for cost, ranges in zip(self.costs, self.ranges, strict=True):
            blocks.append(self._range_lines(cost, ranges))
            if self.memory_limit is not None:
                blocks[-1].append(_memory_line(cost, self.memory_limit))
            counts = cost.table_lines()
            # What is told below the counts holds for the steps, too, and is told once.
            steps = [line for line in cost.steps_text().splitlines() if line not in counts]
            blocks += [counts, [*steps, f"why this plan: {cost.reason}"]]
        blocks.append(self.verdict())
        return "\n\n".join("\n".join(lines) for lines in blocks)

    def _backend_text(self) -> str:
        if self.why:
            return f"backend: {self.backend} (asked for {self.asked!r}; {self.why})"
        later = "".join(f"; {note}" for note in self._notes())
        if self.asked == self.backend:
            return f"backend: {self.backend}, as asked for{later}"
        where = at_batch(self.costs[0].plan, self.batch)
        asked = asked_backend(self.asked)
        if asked is not None and asked.beaten and not backend_of(self.backend).is_compiled:
            return f"backend: {self.backend}{where} (asked for {self.asked!r}: {asked.beaten})"
        return (
            f"backend: {self.backend}{where} (asked for {self.asked!r}: the "
            f"fastest {'of those timed' if self.timed else 'by prediction'}){later}"
        )

    def _notes(self) -> list[str]:
        """What the backends say of themselves, but for what is over."""
        names = dict.fromkeys(r.backend for cost in self.costs for r in cost.plan.regions)
        is_coming = any(row.is_pending and self.batch in row.batches for row in self.running)
        is_over = self.built or is_coming
        over = {backend_of(name).until_built for name in names if is_over}
        notes = dict.fromkeys(note for cost in self.costs for note in cost.notes)
        return [note for note in notes if note not in over]

    def verdict(self) -> list[str]:
        """Whether the layer or one dense layer is faster by prediction, in some lines."""
        first = self.costs[0]
        total = verdict_lines(
            first.graph, self.batch, self.predicted, first.predicted(DENSE), self.break_even()
        )
        if len(self.costs) == 1:
            return total
        head = [f"the sum of {len(self.costs)} networks against one dense layer"]
        if first.predicted(DENSE) is None:
            head = []
        each = sum(cost.parameters for cost in self.costs)
        if self.parameters != each:
            head.append(
                f"parameters: {self.parameters:,}; those that networks share count once here, and "
                "in the table of each network"
            )
        return [*head, *total]

    def _range_lines(self, cost: Cost, ranges: tuple[PlannedRange, ...]) -> list[str]:
        """The batch ranges so far."""
        if not cost.graph.is_batched:
            return [f"plan of {cost.label or 'network'}: one, for there are no samples"]
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
            rows.append(
                (str(one.batches), search_words(one.origin), *backend, f"{one.batch:,}", *times)
            )
        return [head, *table(rows)]


def _memory_line(cost: Cost, limit: int) -> str:
    """How a memory limit is kept."""
    mask = cost.planned.training_mask
    # A plan for "infer" keeps the limit of a forward without grad.
    mask = (False,) * len(mask) if cost.objective == INFER else mask
    return cost.lowered_for(mask).memory_line(cost.batch, limit)


# -- what runs, or would run ---------------------------------------------------------------------


def explain(
    layer: str,
    asked: str,
    programs: Sequence[RangedProgram],
    batch: int,
    frozen: Collection[str] = frozenset(),
) -> Explanation:
    """What a layer runs and why, at a batch size.

    Arguments:
        layer: the layer in one line.
        asked: the backend that was asked for.
        programs: those of the networks whose results the layer adds.
        batch: samples of one call.
        frozen: arrays of the layer that want no gradient now.

    Raises:
        SpecError: batch is no positive whole number.
    """
    if not 1 <= check_whole(batch, "explain: batch") <= MAX_BATCH:
        msg = f"explain: batch={shown(batch)}, expected a positive number of samples"
        raise SpecError(msg)
    first = programs[0]
    costs = Costs(
        cost_of(planned_at(r, batch), batch, one_plan=r.one_plan, frozen=frozen) for r in programs
    )
    backends = {cost.backend for cost in costs}
    failure = next((f for ranged in programs if (f := _failure(ranged, batch))), "")
    return Explanation(
        layer=layer,
        backend=TORCH if failure else backends.pop() if len(backends) == 1 else MIXED,
        asked=asked,
        why=failure or taken_backend(asked, first.request.device)[1],
        batch=batch,
        memory_limit=first.request.memory_limit,
        costs=costs,
        ranges=tuple(batch_ranges(ranged) for ranged in programs),
        timed=all(ranged.is_tuned(batch) for ranged in programs),
        log_scale=first.log_scale,
        parameters=count_parameters(ranged.graph for ranged in programs),
        changes=tuple(replace(c, job=None) for r in programs if r.tiers for c in r.tiers.changes),
        running=running_now(programs),
        built=are_built(programs, batch),
    )


def _failure(ranged: RangedProgram, batch: int) -> str:
    """Why torch runs a plan for kernels that could not be built; "" where that is not so."""
    serving = [program for batches, program in ranged.ranges if batch in batches]
    failure = next((p.failure for p in (*serving, ranged.known) if p.failure), "")
    if not (failure or serving) and ranged.tiers is not None:
        failure = ranged.tiers.error(batch)
    return failure and f"kernels could not be built: {failure}"


def planned_at(ranged: RangedProgram, batch: int) -> PlannedGraph:
    """What runs, or would run, for a batch size; plans it if it was not asked for yet."""
    if ranged.has_one_plan(batch):
        planned = ranged.planned
    else:
        request = replace(ranged.request, batch=batch)
        planned = plan_graph(ranged.graph, request, whole_range=True)
    for batches, program in ranged.ranges:
        inside = batch in batches
        reason = _timed(ranged, program, batch) if inside else ""
        if reason:
            return planned.with_lowered(program.lowered, reason)
        if ranged.one_plan and replace(program.plan, batch=planned.plan.batch) == planned.plan:
            continue  # the same plan, whose kernels are made for other batch sizes
        if inside and not same_code(program.lowered, planned.lowered):
            reason = f"it was put in the place of the planner's choice ({planned.choice.reason})"
            return planned.with_lowered(program.lowered, reason)
    return planned


def _timed(ranged: RangedProgram, program: Program, batch: int) -> str:
    """What was timed when a program was chosen; "" if it was not chosen so."""
    for tuned in ranged.tuned:
        if batch in tuned.batches and same_code(program.lowered, tuned.planned.lowered):
            return tuned.planned.choice.reason
    return ""


def batch_ranges(ranged: RangedProgram) -> tuple[PlannedRange, ...]:
    """The ranges that have a program so far, with predicted times at one size of each."""
    found: list[PlannedRange] = []
    for batches, program in ranged.ranges:
        batch = max(1, batches.least, program.plan.batch)
        if batches.greatest is not None:
            batch = max(1, min(batch, batches.greatest))
        predicted = predict(program.trained, batch)
        found.append(PlannedRange(batches, program.plan.minimize, batch, predicted))
    return tuple(found)
