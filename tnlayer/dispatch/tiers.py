"""Two tiers: torch's calls run at once, while the plan that stays is searched and its kernels are
built in the background; between two calls the second takes the place of the first."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field

import torch

from ..graph.canonical import canonicalise
from ..graph.graph import Graph
from ..hardware.profile.load import is_overridden, look_again
from ..lowering.cpu.kernel_batch import kernel_batch
from ..planning.batch_ranges import probe_below
from ..planning.request import Request
from ..support.debug import logger
from .background import Job, Wanted, build, can_build


def tiers_fit(request: Request, *, log_scale: bool) -> bool:
    """Whether a layer may run torch's calls first.

    Not where a backend was asked for by name or a memory limit has to be kept, nor on a GPU, where
    that was never run.
    """
    is_free = request.is_free and request.memory_limit is None and not log_scale
    return is_free and request.device == "cpu" and not is_overridden()


@dataclass
class Change:
    """From one tier to the next, for a range of batch sizes.

    Arguments:
        batch: samples of the call that asked first.
        is_batched: whether calls have samples.
        began: when that was.
        calls: that ran as torch's calls.
        seconds: after which the second tier was there; None: it is not yet.
        error: why it will not come; "" where it may.
        job: what builds it.
    """

    batch: int
    is_batched: bool = True
    began: float = field(default_factory=time.monotonic)
    calls: int = 0
    seconds: float | None = None
    error: str = ""
    job: Job | None = None

    def __str__(self) -> str:
        """In words."""
        calls = f"{self.calls:,} call{'' if self.calls == 1 else 's'}"
        where = f"around batch {self.batch:,}: " if self.is_batched else ""
        ran = f"{where}{calls} ran as torch's calls"
        if self.error:
            return f"{ran}, and so will all others: {self.error}"
        if self.seconds is None:
            return f"{ran} so far; what stays is being built in the background"
        return f"{ran} in the {self.seconds:.1f} s before what stays was built"


class Tiers:
    """Which calls of a network run as torch's calls.

    Arguments:
        graph: the network.
        request: what its plan is for, as it was asked for.
        one_plan: whether one plan serves all batch sizes.
        has_trials: whether plans that are close by prediction are wanted, too.
    """

    def __init__(
        self, graph: Graph, request: Request, *, one_plan: bool, has_trials: bool = False
    ) -> None:
        self.graph, self.request, self.one_plan = graph, request, one_plan
        self.has_trials = has_trials
        # Those to come, one a group of batch sizes that is planned together, and those that came.
        self._open: dict[int, Change] = {}
        self._over: list[Change] = []

    @property
    def changes(self) -> tuple[Change, ...]:
        """What came about so far."""
        return (*self._over, *self._open.values())

    @property
    def open_changes(self) -> tuple[Change, ...]:
        """Those to come, and those that will not come."""
        return tuple(self._open.values())

    def close(self, serves: Callable[[int], bool]) -> None:
        """Note that what was to come is there: somebody waited for it.

        Arguments:
            serves: whether a batch size has a program that stays.
        """
        for group, change in list(self._open.items()):
            if serves(change.batch):
                change.seconds, change.error = time.monotonic() - change.began, ""
                self._over.append(self._open.pop(group))

    def error(self, batch: int) -> str:
        """Why calls with so many samples stay torch's calls; "" where they may not."""
        change = self._open.get(self._group(batch))
        return "" if change is None else change.error

    def _group(self, batch: int) -> int:
        """What batch sizes have in common that are planned together."""
        return kernel_batch(batch) if self.one_plan else probe_below(batch)

    def serve(self, batch: int, take: Callable[..., bool]) -> bool:
        """Whether a call runs as torch's calls.

        Arguments:
            batch: samples of the call.
            take: takes the program that stays for so many samples, if the stores have all of it;
                it is told whether that was built just now.
        """
        if torch.are_deterministic_algorithms_enabled():
            return False  # they would be others before and after
        group = self._group(batch)
        change = self._open.get(group)
        if change is None:
            if take(batch, is_built=False) or not can_build():
                return False
            change = self._open[group] = Change(batch, self.graph.is_batched)
        if change.error:
            return True
        if self._is_over(change, take):
            self._over.append(self._open.pop(group))
            # Its plan may serve a part of the group alone, and this call be of another part.
            return batch != change.batch and self.serve(batch, take)
        change.calls += 1
        return True

    def _is_over(self, change: Change, take: Callable[..., bool]) -> bool:
        """Whether the second tier is there, for the batch size that the change is about."""
        job = change.job
        if job is not None and job.is_running():
            return False
        if job is not None and not job.error:
            look_again()  # the worker plans by a profile of this machine, which it may have made
            if take(change.batch, is_built=True):
                change.seconds = time.monotonic() - change.began
                return True
        if job is not None and job.done:
            change.error = job.error or "what was built is not in the cache (is it writable?)"
            logger.warning("%s runs as torch's calls: %s", self.graph.label, change.error)
            return False
        # The first time, and in a forked child, whose parent's worker does not answer to it.
        wanted = Wanted(self.graph, self.request, self.one_plan, change.batch, self.has_trials)
        # Where each range has a plan of its own, what is built for one size may not serve another.
        batch = (self.request.batch, kernel_batch(change.batch)) if self.one_plan else change.batch
        key = canonicalise(self.graph).key(), self.request, batch, self.has_trials, wanted.threads
        change.job = build(wanted, key)
        return False
