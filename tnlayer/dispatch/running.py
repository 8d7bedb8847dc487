"""What calls of a layer run now, for each batch size that was met: nothing is planned or built."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass, replace

from ..ir.backend_names import MIXED, TORCH
from ..ir.batch_range import BatchRange
from ..planning.request import TRAIN
from ..runtime.program import Program
from ..support.wording import counted
from ..targets.backend import backend_of, calls_backend
from .available_backends import taken_backend
from .programs_by_batch import RangedProgram
from .tiers import Change
from .trials import Trial


@dataclass(frozen=True, slots=True)
class Running:
    """What calls with some batch sizes run now; ``str`` says it in a line.

    Arguments:
        batches: those sizes.
        backend: what runs them now: "torch" while kernels are being built.
        told: the same in words, with why.
        is_batched: whether calls have samples.
        is_pending: whether something else takes over later.
    """

    batches: BatchRange
    backend: str
    told: str
    is_batched: bool = True
    is_pending: bool = False

    def __str__(self) -> str:
        return f"batch {self.batches}: {self.told}" if self.is_batched else f"now: {self.told}"


def running_now(programs: Sequence[RangedProgram]) -> tuple[Running, ...]:
    """What runs now, for each range of batch sizes that was met, in ascending order; what several
    networks have in common is told once.

    Arguments:
        programs: those of the networks whose results a layer adds.
    """
    each = [_of_network(ranged) for ranged in programs]
    # Of several networks none runs kernels before all do.
    waiting = [one.batches for rows in each for one in rows if one.is_pending]
    found = [_waits(one, waiting) for rows in each for one in rows]
    return tuple(sorted(dict.fromkeys(found), key=lambda one: one.batches.least))


def backend_at(rows: Sequence[Running], batch: int) -> str:
    """The backend that runs a batch size now; "" where no call had such a size."""
    found = {one.backend for one in rows if batch in one.batches}
    return found.pop() if len(found) == 1 else MIXED if found else ""


def are_built(programs: Sequence[RangedProgram], batch: int) -> bool:
    """Whether the kernels that calls with a batch size need are compiled."""
    for ranged in programs:
        serving = [program for batches, program in ranged.ranges if batch in batches]
        if not serving or not _has_training(serving[0], ranged.asked.objective):
            return False
    return True


def _has_training(program: Program, objective: str) -> bool:
    """Whether a training step, or an inference where that is the objective, compiles nothing."""
    masks = program.usual_masks(objective)
    return any(program.has_built(mask) for mask in masks if any(mask) or objective != TRAIN)


def _waits(row: Running, waiting: Sequence[BatchRange]) -> Running:
    """A row where another network's kernels are not there yet."""
    is_ready = not _runs_calls(row.backend) and not row.is_pending
    if is_ready and any(one.common(row.batches) for one in waiting):
        told = "torch's calls run while kernels of the other networks are built"
        return replace(row, backend=TORCH, told=told, is_pending=True)
    return row


def _of_network(ranged: RangedProgram) -> list[Running]:
    """The rows of one network."""
    is_batched = ranged.graph.is_batched
    rows = [
        Running(batches, _backend(program), _told(ranged, program), is_batched)
        for batches, program in ranged.ranges
    ]
    rows += [
        Running(one.batches, one.candidates[0].program.backend, _tried(one), is_batched)
        for one in ranged.trials
    ]
    met = [row.batches for row in rows]
    changes = ranged.tiers.open_changes if ranged.tiers is not None else ()
    for change in changes:
        if not any(change.batch in batches for batches in met):
            alone = BatchRange(change.batch, change.batch)
            pending = not change.error
            rows.append(Running(alone, TORCH, _first(change), is_batched, is_pending=pending))
    return rows


def _backend(program: Program) -> str:
    return TORCH if program.failure else program.backend


def _runs_calls(backend: str) -> bool:
    """Whether a backend is torch's calls."""
    return backend_of(backend) is calls_backend()


def _told(ranged: RangedProgram, program: Program) -> str:
    """What a program runs, in words."""
    if program.failure:
        return f"torch's calls: kernels could not be built: {program.failure}"
    if _runs_calls(program.backend):
        asked = ranged.asked.backend
        if asked == program.backend:
            return "torch's calls, as asked for"
        why = taken_backend(asked, ranged.asked.device)[1]
        timed = any(one.planned.plan == program.plan for one in ranged.tuned)
        found = "the fastest when timed" if timed else "the fastest by prediction"
        return f"torch's calls: {why or found}"
    what = "compiled kernels"
    if any(_runs_calls(region.backend) for region in program.plan.regions):
        what = "compiled kernels and torch's calls, by turns,"
    if program.has_built(program.nothing):
        return f"{what} run"
    return f"{what} run; the first call that needs them compiles them"


def _tried(trial: Trial) -> str:
    """What is tried."""
    plans = counted(len(trial.candidates), "plan")
    calls = counted(trial.calls, "call")
    return f"{plans} run in turn, and the fastest stays ({calls} so far)"


def _first(change: Change) -> str:
    """What runs while nothing else is there."""
    if change.error:
        return f"torch's calls: {change.error}"
    job = change.job
    if job is not None and not job.is_running() and not job.error:
        return "torch's calls ran while kernels were built; they are there, for the next call"
    seconds = time.monotonic() - change.began
    return f"torch's calls run while kernels are built ({seconds:.0f} s so far)"
