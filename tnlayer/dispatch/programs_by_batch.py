"""The programs of one network for all batch sizes, each made when a size first asks for it."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import torch

from ..errors import PlanError
from ..graph.graph import Graph
from ..ir.batch_range import BatchRange
from ..planning.close_choices import find_close, keep_called, known_called, known_close
from ..planning.first_plan import first_plan
from ..planning.planner import PlannedGraph, known_plan, plan_graph, planned_with
from ..planning.request import Request
from ..runtime.program import Program
from ..support.locks import Lock
from ..support.outside_graphs import do, number_of
from ..targets.backend import asked_backend, backend_of, same_code
from .available_backends import is_found_at_once, request_for
from .build_program import program_of
from .tiers import Tiers, tiers_fit
from .trials import Candidate, Trial
from .tune import random_inputs, tune_graph

_NO_BOUND = 2**63 - 1


@dataclass(frozen=True)
class _Table:
    """Ranges in ascending order; replaced as a whole, so that readers need no lock."""

    ranges: tuple[BatchRange, ...] = ()
    programs: tuple[Program, ...] = ()
    # The ends of the ranges: each call of a layer looks into them.
    lows: tuple[int, ...] = field(init=False)
    highs: tuple[int, ...] = field(init=False)

    def __post_init__(self) -> None:
        highs = (_NO_BOUND if one.greatest is None else one.greatest for one in self.ranges)
        object.__setattr__(self, "lows", tuple(one.least for one in self.ranges))
        object.__setattr__(self, "highs", tuple(highs))

    def find(self, batch: int) -> Program | None:
        """The program whose range has a batch size."""
        place = bisect_right(self.lows, batch) - 1
        if place >= 0 and batch <= self.highs[place]:
            return self.programs[place]
        return None

    def with_range(self, batches: BatchRange, program: Program) -> _Table:
        """The table with one range more; what others have already is left to them."""
        new = [(part, program) for part in batches.without(*self.ranges)]
        rows = [*zip(self.ranges, self.programs, strict=True), *new]
        rows.sort(key=lambda row: row[0].least)
        return _Table(tuple(one for one, _ in rows), tuple(program for _, program in rows))


@dataclass(frozen=True, slots=True)
class TunedRange:
    """A range of batch sizes with the plan that was the fastest when timed.

    Arguments:
        batches: those batch sizes.
        planned: the plan, with what was measured in its choice.
        by_calls: whether first calls timed it: the store has that, for the machine that ran them.
    """

    batches: BatchRange
    planned: PlannedGraph
    by_calls: bool = False


class RangedProgram:
    """A network's programs by batch size.

    Arguments:
        graph: the network.
        request: as for the planner. Where ``request.batch`` was named by the user, one plan serves
            all sizes; else each size gets that of its range.
        one_plan: whether the user named it.
        arch: what CUDA kernels are built for; None: the device of a call.
        log_scale: whether programs give a mantissa and the log of a scale.
        has_tiers: whether torch's calls may run while plans are searched and kernels are built.
        has_trials: whether first calls then decide between plans whose predictions are close.

    ``main`` is the program for ``request.batch``: torch traces, exports and transforms that one.
    """

    def __init__(
        self,
        graph: Graph,
        request: Request,
        *,
        one_plan: bool,
        arch: str | None = None,
        log_scale: bool = False,
        has_tiers: bool = True,
        has_trials: bool = False,
    ) -> None:
        self.graph = graph
        # What was asked for is pickled: another machine may have other backends.
        self.asked = request
        self.arch = arch
        self.log_scale = log_scale
        self.asked_one_plan = one_plan
        self.has_tiers, self.has_trials = has_tiers, has_trials
        self._trials: tuple[Trial, ...] = ()
        # Whether a plan is searched when a call needs it, and not when a layer is made.
        self._is_lazy = tiers_fit(request, log_scale=log_scale)
        self._lock = Lock(reentrant=True)
        self._number = number_of(self)
        self._request: Request | None = None
        self._planned: PlannedGraph | None = None
        self._main: Program | None = None
        self._first: Program | None = None
        self._table = _Table()
        # Larger batches are checked for room at each call; found when a program is first used.
        self._free = -1
        self._tuning = Lock()
        self._tuned: tuple[TunedRange, ...] = ()
        self.tiers = (
            Tiers(graph, request, one_plan=one_plan, has_trials=has_trials)
            if has_tiers and self._is_lazy
            else None
        )
        # What cannot be planned or built is refused where a layer is made.
        _ = self.known

    @property
    def request(self) -> Request:
        """What plans are for, with what kernels are compiled for here."""
        if self._request is None:
            self._request = request_for(self.asked, self.arch)
        return self._request

    @property
    def one_plan(self) -> bool:
        """Whether one plan serves all sizes: where only kernels are wanted, too: a layer compiles
        them twice at most, for few samples and for many, each when a call first needs it."""
        asked = asked_backend(self.request.backend)
        return self.asked_one_plan or (asked is not None and asked.one_plan)

    @property
    def planned(self) -> PlannedGraph:
        """The plan for ``request.batch``."""
        if self._planned is None:
            with self._lock:
                self._planned = self._planned or plan_graph(self.graph, self.request)
        return self._planned

    @property
    def main(self) -> Program:
        """The program for ``request.batch``."""
        do(self._number, "make_main")
        found: Any = self._main
        return found

    def make_main(self) -> None:
        """Plan for ``request.batch``, if that was not done yet."""
        if self._main is None:
            with self._lock:
                if self._main is None:
                    self._use(self.planned)

    def _use(self, planned: PlannedGraph) -> None:
        """Take a plan for ``request.batch``."""
        self._planned, self._main = planned, self._program_of(planned)
        # With tiers a call does not run it before its kernels are there.
        if self.one_plan and self.tiers is None:
            self._table = self._with_served(self._table, self._main)

    @property
    def first(self) -> Program:
        """A program that is there in milliseconds, torch's calls: with the parameters, in their
        order, and the dtype of all others."""
        if self._first is None:
            with self._lock:
                if self._first is None:
                    self._first = self._found_first()
        return self._first

    @property
    def first_tier(self) -> Program | None:
        """What runs while kernels are built; None where nothing else does."""
        return None if self.tiers is None else self.first

    def _found_first(self) -> Program:
        try:
            return program_of(first_plan(self.graph, self.asked))
        except PlanError:  # a longer search may find a smaller one, or say what is too large
            return self.main

    @property
    def known(self) -> Program:
        """A program that is there, or is to be: with the parameters and the dtype of all others."""
        return self._main or (self.first if self._is_lazy else self.main)

    def at(self, batch: int) -> Program:
        """The program for a batch size."""
        table = self._table
        # As in _Table.find, without a call: this runs at each call of a layer.
        place = bisect_right(table.lows, batch) - 1
        is_made = place >= 0 and batch <= table.highs[place]
        if is_made and batch <= self._free:
            return table.programs[place]
        program = table.programs[place] if is_made else self._make(batch)
        device = torch.device(self.asked.device)
        program.check_room(batch, program.plan, device)
        free = program.free_samples(device)
        self._free = free if self._free < 0 else min(self._free, free)
        return program

    @property
    def ranges(self) -> tuple[tuple[BatchRange, Program], ...]:
        """The ranges made so far, each with its program."""
        return tuple(zip(self._table.ranges, self._table.programs, strict=True))

    @property
    def trials(self) -> tuple[Trial, ...]:
        """What calls decide now."""
        table = self._table
        return tuple(
            one for one in self._trials if table.find(one.batch or one.batches.least) is None
        )

    def replace_range(self, batches: BatchRange, program: Program) -> None:
        """Let a program serve a range, whatever served it before."""
        with self._lock:
            table = _Table().with_range(batches, program)
            for one, known in zip(self._table.ranges, self._table.programs, strict=True):
                table = table.with_range(one, known)
            self._table, self._free = table, -1

    # -- tuning ----------------------------------------------------------------------------

    @property
    def tuned(self) -> tuple[TunedRange, ...]:
        """The ranges whose plans were timed on the device."""
        return self._tuned

    def is_tuned(self, batch: int) -> bool:
        """Whether the program for a batch size was chosen by timing."""
        return any(batch in found.batches for found in self._tuned)

    def tune(
        self,
        inputs: Sequence[torch.Tensor],
        parameters: Mapping[str, torch.Tensor],
        batch: int,
        wanted: Sequence[bool],
    ) -> None:
        """Time candidate plans for the range of a batch size and let the fastest serve it.

        Where one plan was asked for, and this is its batch size, it serves all sizes. Nothing is
        done for an empty batch.

        Arguments:
            inputs, parameters, wanted: as for :func:`tnlayer.dispatch.tune.tune_graph`.
            batch: samples of the inputs.
        """
        # One at a time: two that time at once would time each other.
        with self._tuning:
            self._tune(inputs, parameters, batch, wanted)

    def tune_first(
        self, inputs: tuple[torch.Tensor, ...], parameters: Mapping[str, torch.Tensor], batch: int
    ) -> None:
        """Tune where a first call comes, on a real device, in a range that was not tuned yet."""
        arrays = (*inputs, *parameters.values())
        device = arrays[0].device if arrays else torch.device("cpu")
        if device.type == "meta":
            return
        # A first call without gradients may well come before training.
        wanted = [x.requires_grad or not torch.is_grad_enabled() for x in inputs]
        if self.one_plan and batch != self.request.batch:
            batch = self.request.batch
            inputs = random_inputs(self.graph, batch, self.main.dtype, device)
        with self._tuning:
            if not self.is_tuned(batch):
                self._tune(inputs, parameters, batch, wanted)

    def _tune(
        self,
        inputs: Sequence[torch.Tensor],
        parameters: Mapping[str, torch.Tensor],
        batch: int,
        wanted: Sequence[bool],
    ) -> None:
        if not batch:
            return
        whole_range = not (self.one_plan and batch == self.request.batch)
        planned = tune_graph(
            self.graph,
            replace(self.request, batch=batch),
            inputs,
            parameters,
            wanted,
            whole_range=whole_range,
        )
        batches = planned.choice.batches if whole_range else BatchRange()
        self._use_tuned(TunedRange(batches, planned))

    def _use_tuned(self, tuned: TunedRange) -> None:
        with self._lock:
            program = self._known(tuned.planned) or self._program_of(tuned.planned)
        self.replace_range(tuned.batches, program)
        if self.one_plan and tuned.batches == BatchRange():
            # It serves the sizes that its kernels are made for; others are made when needed.
            with self._lock:
                self._table = self._with_served(_Table(), program)
        if self.request.batch in tuned.batches:
            self._main, self._planned = program, tuned.planned
        kept = (known for known in self._tuned if not tuned.batches.covers(known.batches))
        self._tuned = (tuned, *kept)

    # -- inside ----------------------------------------------------------------------------

    def has_one_plan(self, batch: int) -> bool:
        """Whether the plan that was asked for serves a batch size: with a memory limit it keeps
        that up to its own, and larger ones are planned by themselves."""
        limited = self.request.memory_limit is not None
        return self.one_plan and not (limited and batch > self.request.batch)

    def _with_served(self, table: _Table, program: Program) -> _Table:
        """A table with the batch sizes that a program of the one plan serves."""
        limited = self.request.memory_limit is not None
        kept = BatchRange(0, self.request.batch) if limited else BatchRange()
        batches = _served(program).common(kept)
        return table if batches is None else table.with_range(batches, program)

    def _make(self, batch: int) -> Program:
        with self._lock:
            found = self._table.find(batch)
            if found is not None:
                return found
            if self.tiers is not None and self.tiers.serve(batch, self._take):
                return self.first
            return self._table.find(batch) or self._tried(batch) or self._final(batch)

    def _tried(self, batch: int) -> Program | None:
        """What runs a call while candidates are tried; the winner once they have been."""
        trial = next((one for one in self._trials if batch in one.batches), None)
        if trial is None or torch.are_deterministic_algorithms_enabled():
            return None  # results of candidates differ by rounding
        if not trial.is_settled:
            return trial.program(batch)
        winner = trial.winner
        one_plan = self.has_one_plan(batch)
        # A program may be that of another range, whose plan was made for a batch size there.
        lowered = winner.program.lowered if one_plan else winner.planned.lowered
        planned = winner.planned.with_lowered(lowered, trial.reason)
        keep_called(planned.form, planned.request, planned.choice, whole_range=not one_plan)
        self._trials = tuple(one for one in self._trials if one is not trial)
        self._tuned = (TunedRange(trial.batches, planned, by_calls=True), *self._tuned)
        self._table = self._table.with_range(trial.batches, winner.program)
        return winner.program

    def settled(self, batch: int) -> Program:
        """The program that stays for a batch size; it is planned now if need be."""
        if self._table.find(batch) is None:
            with self._lock:
                _ = self._table.find(batch) or self._final(batch)
        return self.at(batch)

    def prepare(self, batch: int) -> None:
        """Plan and build all that calls with so many samples need, in training and in inference."""
        self._prepare(self.settled(batch))
        if self.tiers is not None:
            with self._lock:  # what the background was asked for is there
                self.tiers.close(lambda size: self._table.find(size) is not None)

    def prepare_close(self, batch: int) -> None:
        """Build plans that are close to the chosen one by prediction, for other processes."""
        whole_range = not self.has_one_plan(batch)
        planned = plan_graph(self.graph, self._request_at(batch), whole_range=whole_range)
        for choice in find_close(planned.form, planned.request, whole_range=whole_range):
            other = planned_with(self.graph, planned.form, planned.request, choice)
            self._prepare(self._program_for(other, batch))

    def _prepare(self, program: Program) -> None:
        for mask in program.usual_masks(self.asked.objective):
            program.prepare(mask)

    def _final(self, batch: int) -> Program:
        """The program that stays; it is planned now."""
        if self.has_one_plan(batch):
            self._table = self._with_served(self._table, self.main)
            found = self._table.find(batch)
            if found is None:
                found = self._program_for(self.planned, batch)
                self._table = self._with_served(self._table, found)
            return found
        return self._ranged(
            plan_graph(self.graph, self._request_at(batch), whole_range=True), batch
        )

    def _take(self, batch: int, *, is_built: bool) -> bool:
        """Take the program that stays for a batch size, or begin to try several, if the stores have
        all of it; nothing is planned or built.

        Arguments:
            batch: samples of a call.
            is_built: whether it was built just now, with a compiler that was found.
        """
        if not (is_built or is_found_at_once(self.asked)):
            return False
        if any(batch in trial.batches for trial in self._trials):
            return True
        one_plan = self.has_one_plan(batch)
        planned = known_plan(self.graph, self._request_at(batch), whole_range=not one_plan)
        if planned is None:
            return False
        known = None
        if self.has_trials:
            known = known_called(planned.form, planned.request, whole_range=not one_plan)
        if known is not None:
            planned = planned_with(self.graph, planned.form, planned.request, known)
        program = self._stored_program(planned, batch)
        if program is None:
            return False
        if self.has_trials and known is None and self._try(planned, program, batch):
            return True
        if known is not None:
            self._tuned = (TunedRange(known.batches, planned, by_calls=True), *self._tuned)
        if one_plan:
            self._planned = planned
            self._table = self._with_served(self._table, program)
        else:
            self._ranged(planned, batch, program)
        return True

    def _stored_program(self, planned: PlannedGraph, batch: int) -> Program | None:
        """The program of a plan, if the store has the kernels that calls usually need."""
        program = self._program_for(planned, batch)
        stored = map(program.is_stored, program.usual_masks(self.asked.objective))
        return program if all(stored) else None

    def _try(self, planned: PlannedGraph, program: Program, batch: int) -> bool:
        """Let calls decide, if the stores have other plans that predictions do not tell apart."""
        one_plan = self.has_one_plan(batch)
        found = [Candidate(planned, program)]
        for choice in known_close(planned.form, planned.request, whole_range=not one_plan):
            other = planned_with(self.graph, planned.form, planned.request, choice)
            own = self._stored_program(other, batch)
            if own is not None:
                found.append(Candidate(other, own))
        if len(found) < 2:
            return False
        batches = _served(program) if one_plan else planned.choice.batches
        self._trials = (*self._trials, Trial(batches, found, self.asked.objective))
        return True

    def _request_at(self, batch: int) -> Request:
        """What the plan for a batch size is wanted for: that of the user's size, if one serves."""
        one_plan = self.has_one_plan(batch)
        return self.request if one_plan else replace(self.request, batch=max(1, batch))

    def _program_for(self, planned: PlannedGraph, batch: int) -> Program:
        """The program of a plan for a batch size: where one plan serves all, with kernels for few
        samples or for many."""
        if self.has_one_plan(batch):
            made_for = backend_of(planned.lowered.backend).made_for(batch)
            lowered = replace(planned.lowered, plan=replace(planned.plan, batch=made_for))
            planned = replace(planned, lowered=lowered)
        return self._known(planned) or self._program_of(planned)

    def _ranged(self, planned: PlannedGraph, batch: int, program: Program | None = None) -> Program:
        """The program of a plan, which serves the range of a batch size from now on."""
        found = program or self._known(planned) or self._program_of(planned)
        batches, last = planned.choice.batches, planned.choice.batches.greatest
        if last is not None and last < batch:
            batches = BatchRange(batches.least, batch)
        self._table = self._table.with_range(batches, found)
        return found

    def _program_of(self, planned: PlannedGraph) -> Program:
        return program_of(planned, self.arch, log_scale=self.log_scale)

    def _known(self, planned: PlannedGraph) -> Program | None:
        """A program that runs the same code: neighbouring ranges may differ in batch only."""
        for program in (*self._table.programs, *([self._main] if self._main else ())):
            if self.request.memory_limit is not None and program.plan.batch < planned.plan.batch:
                continue  # for other gradients it keeps the limit up to its own batch size
            if same_code(program.lowered, planned.lowered):
                return program
        return None

    def __getstate__(self) -> dict[str, Any]:
        """Pickle what is asked for, and plans that were timed; others are made again, or read."""
        names = (
            "graph", "asked", "asked_one_plan", "arch", "log_scale", "has_tiers", "has_trials",
        )  # fmt: skip
        state = {name: getattr(self, name) for name in names}
        return {**state, "tuned": tuple(one for one in self._tuned if not one.by_calls)}

    def __setstate__(self, state: dict[str, Any]) -> None:
        graph, asked, one_plan = state["graph"], state["asked"], state["asked_one_plan"]
        given = {name: state[name] for name in ("arch", "log_scale", "has_tiers", "has_trials")}
        self.__init__(graph, asked, one_plan=one_plan, **given)  # type: ignore[misc]
        for tuned in reversed(state["tuned"]):
            self._use_tuned(tuned)

    def __deepcopy__(self, memo: dict[int, Any]) -> RangedProgram:
        """Programs are values: a copy of a layer shares them."""
        copy = object.__new__(RangedProgram)
        own = {"_lock": Lock(reentrant=True), "_tuning": Lock(), "_number": number_of(copy)}
        copy.__dict__ = {**self.__dict__, **own}
        return copy


def _served(program: Program) -> BatchRange:
    """The batch sizes for which a program's code is made: compiled C++ is made for few samples or
    for many, all else for any."""
    plan = program.plan
    names = {program.backend, *(region.backend for region in plan.regions)}
    served = [backend_of(name).serves(plan.batch) for name in names]
    ends = [one.greatest for one in served if one.greatest is not None]
    return BatchRange(max(one.least for one in served), min(ends, default=None))
