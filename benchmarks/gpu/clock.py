"""Timing on a CUDA device, in CUDA graphs and eager; on a CPU for tests of the script."""

from __future__ import annotations

import signal
import statistics
import time
from collections.abc import Callable, Generator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch

Call = Callable[[int], object]
WARM_UP = 3


class OutOfTime(Exception):
    """A cell took longer than it may, or the run has no time left for it."""


@dataclass(frozen=True, slots=True)
class Sample:
    """Seconds of one call: median and quartiles of several measurements."""

    median: float
    lower: float
    upper: float
    runs: int


def _sample(seconds: list[float]) -> Sample:
    if len(seconds) < 2:
        return Sample(seconds[0], seconds[0], seconds[0], len(seconds))
    lower, middle, upper = statistics.quantiles(seconds, n=4, method="inclusive")
    return Sample(middle, lower, upper, len(seconds))


class Clock:
    """Times calls; a call takes the number of the input set that it reads.

    Arguments:
        device: "cuda" or "cpu"; on a CPU there are no graphs.
        repeat: measurements of a cell.
    """

    def __init__(self, device: str, repeat: int = 20) -> None:
        self.device, self.repeat = device, repeat

    @property
    def is_cuda(self) -> bool:
        """Whether there is a device."""
        return self.device == "cuda"

    def wait(self) -> None:
        """Until all that was launched is done."""
        if self.is_cuda:
            torch.cuda.synchronize()

    def is_healthy(self) -> bool:
        """Whether the device still takes work: after a fault in a kernel a process gets none."""
        try:
            self.wait()
        except RuntimeError:
            return False
        return True

    def seconds(self, run: Callable[[], object]) -> float:
        """Of one run, between events on the device."""
        if not self.is_cuda:
            start = time.perf_counter()
            run()
            return time.perf_counter() - start
        first, last = (torch.cuda.Event(enable_timing=True) for _ in range(2))
        first.record()
        run()
        last.record()
        last.synchronize()
        return first.elapsed_time(last) * 1e-3

    def eager(self, call: Call, sets: int) -> Sample:
        """Calls one after the other from Python."""
        for number in range(max(WARM_UP, sets)):
            call(number % sets)
        self.wait()
        inner = max(sets, self._calls_in(lambda: call(0), 2e-3))

        def run() -> None:
            for number in range(inner):
                call(number % sets)

        return _sample([self.seconds(run) / inner for _ in range(self.repeat)])

    def graph(self, call: Call, sets: int) -> Sample:
        """Calls captured in a CUDA graph, each set of inputs as often as any other."""
        if not self.is_cuda:
            raise RuntimeError("CUDA graphs need a CUDA device")
        side = torch.cuda.Stream()
        side.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(side):
            for number in range(max(WARM_UP, sets)):
                call(number % sets)
        torch.cuda.current_stream().wait_stream(side)
        self.wait()
        graph = torch.cuda.CUDAGraph()
        inner = sets * max(1, 8 // sets)
        with torch.cuda.graph(graph):
            for number in range(inner):
                call(number % sets)
        for _ in range(WARM_UP):
            graph.replay()
        self.wait()
        found = _sample([self.seconds(graph.replay) / inner for _ in range(self.repeat)])
        graph.reset()
        return found

    def _calls_in(self, run: Callable[[], object], seconds: float) -> int:
        """How many runs take so long, at most 50."""
        once = max(self.seconds(run), 1e-6)
        return max(1, min(50, int(seconds / once)))


@contextmanager
def at_most(seconds: float) -> Generator[None]:
    """Raise OutOfTime in a body that takes longer.

    The signal is seen between two lines of Python: a call that never returns is not stopped, but
    what was measured before it is on disk.
    """

    def stop(*_: Any) -> None:
        raise OutOfTime(f"took longer than {seconds:.0f} s")

    if seconds <= 0:
        raise OutOfTime("no time left in this run")
    before = signal.signal(signal.SIGALRM, stop)
    signal.setitimer(signal.ITIMER_REAL, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
