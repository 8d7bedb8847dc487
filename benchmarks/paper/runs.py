"""Runs of rows with seeds: one after the other, each going on where it stopped, one JSON each."""

from __future__ import annotations

import fcntl
import hashlib
import json
import signal
import statistics
import sys
import time
from collections.abc import Generator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from types import FrameType
from typing import Any

import torch
from torch import nn

import tnlayer as tn
from benchmarks.common.report import provenance, write_json
from benchmarks.paper.data import Data
from benchmarks.paper.model import PaperNetwork, Shape
from benchmarks.paper.parameters import CONSTANT
from benchmarks.paper.protocols import Protocol
from benchmarks.paper.rows import Row
from benchmarks.paper.train import Training

REPORT_EVERY = 30.0


@dataclass(frozen=True, slots=True)
class Setting:
    """What all runs of a call have in common.

    Arguments:
        data: images of both parts.
        protocol: how long and by which rate.
        cache: folder of checkpoints.
        out: folder of results; each protocol has a folder in it.
        shape: sizes of the network.
        device: what trains.
        bfloat16: whether convolutions run in bfloat16.
        arguments: the command line, for the record.
    """

    data: Data
    protocol: Protocol
    cache: Path
    out: Path
    shape: Shape = field(default_factory=Shape)
    device: torch.device = field(default_factory=lambda: torch.device("cpu"))
    bfloat16: bool = True
    arguments: Sequence[str] = ()

    def result_file(self, row: Row, seed: int) -> Path:
        """Where the result of a run lies once it is over."""
        return self.out / self.protocol.name / f"{row.name}.seed{seed}.json"

    def checkpoint_file(self, row: Row, seed: int) -> Path:
        """Where the state of a run lies until then; other data or sizes are another run."""
        what = repr((self.data.name, self.protocol, self.shape, self.device.type, self.bfloat16))
        key = hashlib.sha256(what.encode()).hexdigest()[:8]
        return self.cache / "runs" / f"{self.protocol.name}-{key}" / f"{row.name}.seed{seed}.pt"


class Clock:
    """Tells when to stop: after so many minutes, or at the first SIGTERM or Ctrl-C."""

    def __init__(self, minutes: float | None) -> None:
        self._end = None if minutes is None else time.monotonic() + 60 * minutes
        self._asked = False

    def __call__(self) -> bool:
        """Whether to stop."""
        return self._asked or (self._end is not None and time.monotonic() >= self._end)

    @contextmanager
    def listening(self) -> Generator[None]:
        """Take a signal as a wish to stop after the step; the second one ends at once."""
        signals = (signal.SIGTERM, signal.SIGINT)
        before = {number: signal.getsignal(number) for number in signals}

        def ask(number: int, _frame: FrameType | None) -> None:
            self._asked = True
            signal.signal(number, before[signal.Signals(number)])

        for number in signals:
            signal.signal(number, ask)
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)


def run_all(setting: Setting, rows: Sequence[Row], seeds: Sequence[int], clock: Clock) -> bool:
    """Run every row with the first seed, then with the next.

    What is over already is passed by, and so is what another process works on: the same command,
    started twice, shares the runs.

    Returns:
        whether all are over.
    """
    all_over = True
    for seed in seeds:
        for row in rows:
            with _alone(setting.checkpoint_file(row, seed)) as is_alone:
                if setting.result_file(row, seed).is_file():
                    print(f"{row.name} seed {seed}: done before", flush=True)
                elif not is_alone:
                    print(f"{row.name} seed {seed}: another process runs it", flush=True)
                    all_over = False
                elif not run_one(setting, row, seed, clock):
                    return False
    return all_over


@contextmanager
def _alone(checkpoint: Path) -> Generator[bool]:
    """Whether no other process holds this run; it is held until the end of the block.

    The system lets go of the lock when a process dies, however that comes.
    """
    checkpoint.parent.mkdir(parents=True, exist_ok=True)
    with checkpoint.with_suffix(".lock").open("w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            yield False
        else:
            yield True


def run_one(setting: Setting, row: Row, seed: int, clock: Clock) -> bool:
    """Train one row with one seed, and write its result; returns whether it is over."""
    name = f"{row.name} seed {seed}"
    print(f"{name}: planning", flush=True)
    torch.manual_seed(seed)
    model = PaperNetwork(row, setting.shape, setting.bfloat16).to(setting.device)
    data = setting.data.first(setting.protocol.images).to(setting.device)
    checkpoint = setting.checkpoint_file(row, seed)
    sessions_file = checkpoint.with_suffix(".sessions.json")
    training = Training(model, data, setting.protocol, seed, checkpoint)
    sessions: list[dict[str, Any]] = []
    if training.progress.step:
        sessions = json.loads(sessions_file.read_text())["sessions"]
    sessions.append(_session(setting, model, training.progress.step))
    write_json(sessions_file, {"sessions": sessions})
    with clock.listening():
        over = training.run(clock, _Reporter(name, setting.shape.batch))
    if not over:
        print(f"{name}: stopped after step {training.progress.step}; the next call goes on")
        return False
    write_json(setting.result_file(row, seed), _result(setting, row, seed, training, sessions))
    checkpoint.unlink(missing_ok=True)
    sessions_file.unlink(missing_ok=True)
    return True


def _session(setting: Setting, model: PaperNetwork, step: int) -> dict[str, Any]:
    """One process of a run: where it began, on what, and with which code."""
    record = provenance(setting.arguments)
    record["from_step"] = step
    # The same plan gives the same rounding; a run that another plan took over is told by this.
    sources = [layer.source() for layer in _tensor_networks(model)]
    record["layers_sha256"] = hashlib.sha256("".join(sources).encode()).hexdigest()[:12]
    return record


def _tensor_networks(model: PaperNetwork) -> list[tn.Layer]:
    return [layer for layer in (model.first, model.second) if isinstance(layer, tn.Layer)]


def _result(
    setting: Setting, row: Row, seed: int, training: Training, sessions: list[dict[str, Any]]
) -> dict[str, Any]:
    """What is kept of a run that is over."""
    progress, model = training.progress, training.model
    graphs = row.graphs(setting.shape.legs)
    quartiles = statistics.quantiles(progress.step_seconds, n=4, method="inclusive")
    return {
        "schema": 1,
        "row": row.name,
        "seed": seed,
        "protocol": setting.protocol.name,
        "data": setting.data.name,
        "hidden_parameters": [graph.parameter_count for graph in graphs],
        "fully_connected_parameters": sum(g.parameter_count for g in graphs) + CONSTANT,
        "learned_parameters": _count(model),
        "bfloat16_convolutions": setting.bfloat16,
        "device": setting.device.type,
        "best_accuracy": max(progress.accuracies),
        "final_accuracy": progress.accuracies[-1],
        "steps": progress.step,
        "curve": progress.curve,
        "seconds_per_step": dict(zip(("lower", "median", "upper"), quartiles, strict=True)),
        "train_seconds": sum(progress.step_seconds),
        "test_seconds": progress.test_seconds,
        "sessions": sessions,
    }


def _count(model: nn.Module) -> int:
    return sum(parameter.numel() for parameter in model.parameters())


class _Reporter:
    """Prints how a run goes: at each test, and every half minute between."""

    def __init__(self, name: str, batch: int) -> None:
        self._name, self._batch = name, batch
        self._tests = 0
        self._last = time.monotonic()
        self._first_step: int | None = None
        self._start = self._last

    def __call__(self, training: Training) -> None:
        progress, now = training.progress, time.monotonic()
        if self._first_step is None:
            self._first_step, self._tests = progress.step, len(progress.curve)
        tested = len(progress.curve) > self._tests
        if not tested and now - self._last < REPORT_EVERY:
            return
        self._last, self._tests = now, len(progress.curve)
        steps = training.steps
        recent = progress.step_seconds[-100:]
        rate = self._batch * len(recent) / sum(recent)
        parts = [f"{self._name}: step {progress.step}" + (f"/{steps}" if steps else "")]
        if progress.loss_steps:
            parts.append(f"loss {progress.loss_sum / progress.loss_steps:.3f}")
        else:
            parts.append(f"loss {progress.curve[-1]['loss']:.3f}")
        if progress.accuracies:
            best = max(progress.accuracies)
            parts.append(f"accuracy {progress.accuracies[-1]:.2%}, best {best:.2%}")
        parts.append(f"{rate:.0f} images/s")
        if steps:
            left = (steps - progress.step) * sum(recent) / len(recent) / 60
            parts.append(f"{left:.0f} min left")
        print(", ".join(parts), flush=True)
        sys.stdout.flush()
