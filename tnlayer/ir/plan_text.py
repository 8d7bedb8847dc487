"""A Plan as readable text: one line a step."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from .counts import Amount
from .plan_parts import Memory
from .plan_values import GIVEN, PlanValues
from .steps import BATCH, Contract, Operand, Scatter, Select, Step
from .table_text import table, with_columns_wrapped, wrapped_lines

# How often a step runs: once a call, whatever the batch, where no sample is in it: on parameters
# alone, and in a backward on what was summed over the samples.
ONCE, EACH = "once a call", "each sample"
# The columns that grow with the network: a step of a grid has dozens of legs.
_LEGS, _OPERATION = 2, 3


def plan_text(plan: PlanValues, seconds: Mapping[str, float] | None = None, batch: int = 0) -> str:
    """The plan as a table: how often a step runs, its result with its legs, how it is made, FLOPs,
    bytes.

    Arguments:
        plan: the plan.
        seconds: predicted time of steps by the name of their result, for one more column.
        batch: the batch size of those times.
    """
    rows = plan_rows(plan, seconds, batch)
    lines = table(with_columns_wrapped(rows, (_LEGS, _OPERATION)))
    # An amount is not broken: spaces that no line ends at hold it together meanwhile.
    totals = wrapped_lines([line.replace(" + ", "\xa0+\xa0") for line in plan_totals(plan)])
    return "\n".join((plan_headline(plan), *lines, *totals)).replace("\xa0", " ")


def plan_headline(plan: PlanValues) -> str:
    """One line: what the plan is for, and what it was searched for."""
    made_for = f"for batch {plan.batch}, {plan.dtype}" if plan.is_batched else f"in {plan.dtype}"
    return f"plan {made_for}, the order of {search_words(plan.minimize)} ({how_good(plan)})"


def how_good(plan: PlanValues) -> str:
    """How near its order is to the best one, in words."""
    if plan.minimize == GIVEN:
        return "as given"
    if plan.aborted:
        return "best until planning was cut short"
    return "proven optimal" if plan.proven_optimal else "best found"


def plan_rows(
    plan: PlanValues, seconds: Mapping[str, float] | None = None, batch: int = 0
) -> list[tuple[str, ...]]:
    """A header and a row a step; arguments as for :func:`plan_text`."""
    names = dict(plan.names)
    last = () if seconds is None else (f"ms{at_batch(plan, batch)}",)
    rows: list[tuple[str, ...]] = [("runs", "result", "legs", "operation", "FLOPs", "bytes", *last)]
    for step in plan.steps:
        counts = plan.counts_of(step)
        moved = counts.bytes_read + counts.bytes_written
        name = step.result.name
        rows.append(
            (
                EACH if has_samples(step) else ONCE,
                names.get(name, name),
                " ".join(names.get(leg, leg) for leg in step.result.legs) or "-",
                _operation(step, names),
                amount_text(counts.flops + counts.elementwise),
                amount_text(moved),
                *(() if seconds is None else (milliseconds(seconds.get(name, 0.0)),)),
            )
        )
    return rows


def has_samples(step: Step) -> bool:
    """Whether the work of a step grows with the batch."""
    return any(BATCH in value.legs for value in (step.result, *step.operands))


def plan_totals(plan: PlanValues) -> list[str]:
    """The lines below the table of steps: sums, what is kept, how a memory limit is kept."""
    total = plan.counts
    lines = [
        f"{'B samples a call' if plan.is_batched else 'a call'}: FLOPs {amount_text(total.flops)}, "
        f"elementwise {amount_text(total.elementwise)}, "
        f"bytes read {amount_text(total.bytes_read)}, written {amount_text(total.bytes_written)}"
    ]
    if plan.saved:
        lines.append(f"saved by the forward: {amount_text(plan.saved_bytes)} bytes")
    if plan.memory != Memory():
        lines.append(f"memory: {memory_text(plan)}")
    return lines


def at_batch(plan: PlanValues, batch: int) -> str:
    """ " at batch 64", where calls have samples."""
    return f" at batch {batch:,}" if plan.is_batched else ""


def search_words(minimize: str) -> str:
    """What a search looked for, in words; docs/glossary.md explains them.

    Arguments:
        minimize: the word of :func:`tnlayer.plan`.

    >>> search_words("flops"), search_words("combo-64")
    ('fewest FLOPs', 'fewest FLOPs + 64 x writes')
    """
    kind, _, number = minimize.partition("-")
    match kind:
        case "flops":
            return "fewest FLOPs"
        case "write":
            return "fewest writes"
        case "size":
            return "smallest values"
        case "max":
            return "cheapest longest step"
        case "combo":
            return f"fewest FLOPs + {number or 64} x writes"
        case "limit":
            return f"fewest max(FLOPs, {number or 64} x writes)"
        case "rebuild":
            return "the dense map first"
        case "path":
            return "your path"
        case _:
            return minimize


def milliseconds(seconds: float) -> str:
    """Seconds as milliseconds, with three digits where there is a fraction.

    >>> milliseconds(0.0012345), milliseconds(12.3456), milliseconds(0.0)
    ('1.23', '12,346', '0.00')
    """
    shown = 1e3 * seconds
    if shown >= 100:
        return f"{shown:,.0f}"
    return (
        f"{shown:.1f}"
        if shown >= 10
        else f"{shown:.2f}"
        if shown >= 1 or not shown
        else f"{shown:.3g}"
    )


def memory_text(plan: PlanValues) -> str:
    """What a plan does to keep a memory limit."""
    memory, names = plan.memory, dict(plan.names)
    parts: list[str] = []
    if memory.chunk is not None:
        parts.append(f"chunks of {memory.chunk} samples")
    if memory.recompute:
        parts.append(f"made again in the backward: {', '.join(memory.recompute)}")
    if memory.slices:
        legs = ", ".join(names.get(leg, leg) for leg in memory.slices)
        parts.append(f"looped over, one index at a time: {legs}")
    if not parts:
        whole = ", the whole batch at once" if plan.is_batched else ""
        parts.append(f"everything kept{whole}")
    if memory.adds:
        parts.append("added to what the networks before it gave")
    return "; ".join(parts)


def amount_text(quantity: Amount) -> str:
    """An amount as ``fixed + rate*B``."""
    parts = [f"{quantity.per_sample:,}*B"] if quantity.per_sample else []
    if quantity.fixed or not parts:
        parts.append(f"{quantity.fixed:,}")
    return " + ".join(parts)


def steps_text(plan: PlanValues) -> tuple[str, ...]:
    """Each step in a line, with the user's names where the plan has them."""
    names = dict(plan.names)

    def told(step: Step) -> str:
        name, *legs = (names.get(one, one) for one in (step.result.name, *step.result.legs))
        return f"{name}[{' '.join(legs)}] = {_operation(step, names)}"

    return tuple(map(told, plan.steps))


def plan_numbers(plan: PlanValues) -> list[dict[str, Any]]:
    """What the printed steps tell as plain values, one dict a step; a count of B samples is
    ``fixed + per_sample * B``."""
    names = dict(plan.names)
    found: list[dict[str, Any]] = []
    for step in plan.steps:
        counts = plan.counts_of(step)
        row: dict[str, Any] = {
            "result": names.get(step.result.name, step.result.name),
            "runs": EACH if has_samples(step) else ONCE,
            "legs": [names.get(leg, leg) for leg in step.result.legs],
            "operation": _operation(step, names),
        }
        for kind in ("flops", "elementwise", "bytes_read", "bytes_written"):
            amount: Amount = getattr(counts, kind)
            row |= {f"{kind}_per_sample": amount.per_sample, f"{kind}_fixed": amount.fixed}
        found.append(row)
    return found


def _operation(step: Step, names: dict[str, str]) -> str:
    """How a result is made, with the user's names of tensors."""

    def show(operand: Operand) -> str:
        name = operand.value.name
        text = names.get(name, name)
        return f"conj({text})" if operand.conj else text

    def listed(operands: Iterable[Operand], between: str) -> str:
        return between.join(show(operand) for operand in operands)

    match step:
        case Contract():
            summed = " ".join(names.get(leg, leg) for leg in step.summed_legs)
            over = f", sum {summed}" if summed else ""
            return f"{listed(step.operands, ' x ')}{over}"
        case Select() if step.pins:
            pins = ", ".join(f"axis {axis} at {index}" for axis, index in step.pins)
            return f"{show(step.operand)}, {pins}"
        case Select():
            return f"{show(step.operand)}, legs renamed"
        case Scatter():
            return f"scatter {listed(step.operands, ' + ')}"
        case _:
            return f"{type(step).__name__.lower()} {listed(step.operands, ' + ')}"
