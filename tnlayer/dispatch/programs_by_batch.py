"""The programs of one network for all batch sizes, each made when a size first asks for it."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import torch

from ..graph.graph import Graph
from ..ir.batch_range import BatchRange
from ..planning.planner import PlannedGraph, plan_graph
from ..planning.request import Request
from ..runtime.program import Program
from ..support.locks import Lock
from ..targets.backend import asked_backend, backend_of, same_code
from .available_backends import request_for
from .build_program import program_of
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
    """

    batches: BatchRange
    planned: PlannedGraph


class RangedProgram:
    """A network's programs by batch size.

    Arguments:
        graph: the network.
        request: as for the planner. Where ``request.batch`` was named by the user, one plan serves
            all sizes; else each size gets that of its range.
        one_plan: whether the user named it.
        arch: what CUDA kernels are built for; None: the device of a call.
        log_scale: whether programs give a mantissa and the log of a scale.

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
    ) -> None:
        self.graph = graph
        # What was asked for is pickled: another machine may have other backends.
        self.asked = request
        self.arch = arch
        self.log_scale = log_scale
        self.request = request = request_for(request, arch)
        asked = asked_backend(request.backend)
        # Where only kernels are wanted one plan serves all sizes: a layer compiles them twice at
        # most, for few samples and for many, each when a call first needs it.
        self.one_plan = one_plan = one_plan or (asked is not None and asked.one_plan)
        self.planned = plan_graph(graph, request)
        self.main = self._program_of(self.planned)
        self._lock = Lock()
        self._table = _Table()
        if one_plan:
            self._table = self._with_served(self._table, self.main)
        # Larger batches are checked for room at each call; found when a program is first used.
        self._free = -1
        self._tuning = Lock()
        self._tuned: tuple[TunedRange, ...] = ()

    def at(self, batch: int) -> Program:
        """The program for a batch size."""
        table = self._table
        # As in _Table.find, without a call: this runs at each call of a layer.
        place = bisect_right(table.lows, batch) - 1
        is_made = place >= 0 and batch <= table.highs[place]
        if is_made and batch <= self._free:
            return table.programs[place]
        program = table.programs[place] if is_made else self._make(batch)
        device = torch.device(self.request.device)
        program.check_room(batch, program.plan, device)
        free = program.free_samples(device)
        self._free = free if self._free < 0 else min(self._free, free)
        return program

    @property
    def ranges(self) -> tuple[tuple[BatchRange, Program], ...]:
        """The ranges made so far, each with its program."""
        return tuple(zip(self._table.ranges, self._table.programs, strict=True))

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
            self.main, self.planned = program, tuned.planned
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
            if found is None and self.has_one_plan(batch):
                # The same plan, with kernels for few samples where it has those for many.
                planned = self.planned
                made_for = backend_of(planned.lowered.backend).made_for(batch)
                lowered = replace(planned.lowered, plan=replace(planned.plan, batch=made_for))
                found = self._program_of(replace(planned, lowered=lowered))
                self._table = self._with_served(self._table, found)
            elif found is None:
                request = replace(self.request, batch=max(1, batch))
                planned = plan_graph(self.graph, request, whole_range=True)
                found = self._known(planned) or self._program_of(planned)
                batches, last = planned.choice.batches, planned.choice.batches.greatest
                if last is not None and last < batch:
                    batches = BatchRange(batches.least, batch)
                self._table = self._table.with_range(batches, found)
            return found

    def _program_of(self, planned: PlannedGraph) -> Program:
        return program_of(planned, self.arch, log_scale=self.log_scale)

    def _known(self, planned: PlannedGraph) -> Program | None:
        """A program that runs the same code: neighbouring ranges may differ in batch only."""
        for program in (*self._table.programs, self.main):
            if self.request.memory_limit is not None and program.plan.batch < planned.plan.batch:
                continue  # for other gradients it keeps the limit up to its own batch size
            if same_code(program.lowered, planned.lowered):
                return program
        return None

    def __getstate__(self) -> dict[str, Any]:
        """Pickle what is asked for, and plans that were timed; others are made again, or read."""
        names = ("graph", "asked", "one_plan", "arch", "log_scale", "tuned")
        return {name: getattr(self, name) for name in names}

    def __setstate__(self, state: dict[str, Any]) -> None:
        graph, asked = state["graph"], state["asked"]
        given = {name: state[name] for name in ("one_plan", "arch", "log_scale")}
        self.__init__(graph, asked, **given)  # type: ignore[misc]
        for tuned in reversed(state["tuned"]):
            self._use_tuned(tuned)

    def __deepcopy__(self, memo: dict[int, Any]) -> RangedProgram:
        """Programs are values: a copy of a layer shares them."""
        copy = object.__new__(RangedProgram)
        copy.__dict__ = {**self.__dict__, "_lock": Lock(), "_tuning": Lock()}
        return copy


def _served(program: Program) -> BatchRange:
    """The batch sizes for which a program's code is made: compiled C++ is made for few samples or
    for many, all else for any."""
    plan = program.plan
    names = {program.backend, *(region.backend for region in plan.regions)}
    served = [backend_of(name).serves(plan.batch) for name in names]
    ends = [one.greatest for one in served if one.greatest is not None]
    return BatchRange(max(one.least for one in served), min(ends, default=None))
