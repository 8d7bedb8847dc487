"""Calls that had to run anyway decide between plans whose predictions are close.

Each candidate runs a few calls of one batch size; the one with the fastest call stays. Results of
candidates differ by rounding only.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from time import perf_counter
from typing import Any

import torch

from ..ir.batch_range import BatchRange
from ..lowering.calls.training_schedules import Mask
from ..planning.mixture import plan_name
from ..planning.planner import PlannedGraph
from ..planning.request import TRAIN
from ..runtime.generated_functions import Kernels
from ..runtime.program import Program
from ..support.locks import Lock

# Calls of each candidate; those after which it is settled with what is known.
CALLS, _MOST_CALLS = 3, 200
# What another plan has to take at most beside the chosen one: machines are noisy.
_CLEARLY = 0.95


@dataclass(eq=False)
class Candidate:
    """A plan that calls try.

    Arguments:
        planned: the plan.
        program: that runs it.
        seconds: of its calls so far.
        begun: calls that were given to it.
    """

    planned: PlannedGraph
    program: Program
    seconds: list[float] = field(default_factory=list[float])
    begun: int = 0


class Trial:
    """The candidates for a range of batch sizes.

    Arguments:
        batches: that range.
        candidates: the chosen plan first.
        objective: what counts: forward and backward for "train", forwards without gradients for
            "infer".
    """

    def __init__(
        self, batches: BatchRange, candidates: Sequence[Candidate], objective: str
    ) -> None:
        self.batches, self.candidates = batches, tuple(candidates)
        self.trains = objective == TRAIN
        self.batch: int | None = None
        self.calls = 0
        self._lock = Lock()

    @property
    def is_settled(self) -> bool:
        """Whether each candidate had its calls, or too many calls told nothing."""
        done = all(len(one.seconds) >= CALLS for one in self.candidates)
        return done or self.calls >= _MOST_CALLS

    @property
    def winner(self) -> Candidate:
        """The candidate with the fastest call; the chosen plan where not all were tried, or where
        none is clearly faster."""
        first = self.candidates[0]
        if not all(one.seconds for one in self.candidates):
            return first
        best = min(self.candidates, key=lambda one: min(one.seconds))
        return best if min(best.seconds) < _CLEARLY * min(first.seconds) else first

    @property
    def reason(self) -> str:
        """What was found, in words."""
        order = sorted(self.candidates, key=lambda one: min(one.seconds, default=0.0))
        found = ", ".join(
            f"{plan_name(one.planned.plan)} {1e3 * min(one.seconds):.3g} ms"
            for one in order
            if one.seconds
        )
        return f"tried in the first calls, at batch {self.batch}: {found}"

    def program(self, batch: int) -> Any:
        """What runs a call: the candidate whose turn it is, timed, or the chosen plan.

        Arguments:
            batch: samples of the call. Calls of one size are compared, the first that comes.
        """
        with self._lock:
            self.calls += 1
            self.batch = self.batch or batch
            is_timed = batch == self.batch and torch.is_grad_enabled() == self.trains
            if not is_timed:
                return self.candidates[0].program
            open_ones = [one for one in self.candidates if len(one.seconds) < CALLS]
            turn = min(open_ones or self.candidates, key=lambda one: one.begun)
            turn.begun += 1
        return Timed(turn, trains=self.trains)


class Timed:
    """A program for one call, which tells its candidate how long the call took.

    Arguments:
        candidate: that is told.
        trains: whether the backward counts, too.
    """

    def __init__(self, candidate: Candidate, *, trains: bool) -> None:
        self._candidate, self._trains, self._forward = candidate, trains, 0.0

    def __getattr__(self, name: str) -> Any:
        return getattr(self._candidate.program, name)

    def kernels(self, mask: Mask) -> Kernels:
        """The functions for a mask of wanted gradients, timed."""
        known = self._candidate.program.kernels(mask)
        unchecked = known.unchecked and self._timed_forward(known.unchecked)
        return replace(
            known,
            forward=self._timed_forward(known.forward),
            backward=self._timed_backward(known.backward),
            unchecked=unchecked,
            quick=None,  # each is timed
        )

    @property
    def infer_checked(self) -> Callable[..., Any]:
        """The forward where no gradient is wanted, timed."""
        return self._timed_forward(self._candidate.program.infer_checked)

    def infer(self, *arrays: torch.Tensor) -> Any:
        """The same of any arrays."""
        return self._timed_forward(self._candidate.program.infer)(*arrays)

    def _timed_forward(self, function: Callable[..., Any]) -> Callable[..., Any]:
        def run(*arrays: Any) -> Any:
            began = perf_counter()
            result = function(*arrays)
            self._forward = perf_counter() - began
            if not self._trains:
                self._candidate.seconds.append(self._forward)
            return result

        return run

    def _timed_backward(self, function: Callable[..., Any]) -> Callable[..., Any]:
        def run(*arrays: Any) -> Any:
            began = perf_counter()
            result = function(*arrays)
            self._candidate.seconds.append(self._forward + perf_counter() - began)
            return result

        return run
