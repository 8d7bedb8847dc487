"""Training of one row with one seed, which a kill does not change: it goes on at its checkpoint."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from benchmarks.paper.data import Data, Part, as_channels_last, augmented, centred, epoch_order
from benchmarks.paper.protocols import Protocol

TEST_BATCH = 500

Checkpoint = dict[str, Any]


@dataclass(slots=True)
class Progress:
    """Where a run stands; what a checkpoint holds beside weights and random states.

    Arguments:
        step: steps done.
        curve: one entry a test: steps done, mean loss of training since the last test, accuracy on
            the test images.
        loss_sum, loss_steps: of the steps since the last test.
        step_seconds: what each step took.
        test_seconds: what all tests took.
    """

    step: int = 0
    curve: list[dict[str, float]] = field(default_factory=list[dict[str, float]])
    loss_sum: float = 0.0
    loss_steps: int = 0
    step_seconds: list[float] = field(default_factory=list[float])
    test_seconds: float = 0.0

    @property
    def accuracies(self) -> list[float]:
        """Test accuracies so far."""
        return [entry["accuracy"] for entry in self.curve]


@dataclass(slots=True)
class Training:
    """A run: the network, its optimiser, and all that its numbers depend on.

    Arguments:
        model: images to logits.
        data: images of both parts, on the model's device.
        protocol: how long and by which rate.
        seed: of the order of images, their shifts and dropout; weights are the caller's.
        checkpoint: file that keeps the state, or None.
    """

    model: nn.Module
    data: Data
    protocol: Protocol
    seed: int
    checkpoint: Path | None = None
    progress: Progress = field(default_factory=Progress)
    optimizer: torch.optim.Optimizer = field(init=False)
    shifts: torch.Generator = field(init=False)

    def __post_init__(self) -> None:
        self.optimizer = torch.optim.Adam(
            self.model.parameters(), lr=self.protocol.learning_rate, fused=True
        )
        self.shifts = torch.Generator().manual_seed(self.seed)
        # Dropout takes torch's own generator.
        torch.manual_seed(self.seed)
        if self.checkpoint is not None and self.checkpoint.is_file():
            self._load(self.checkpoint)

    @property
    def steps(self) -> int | None:
        """Steps of the whole training, or None where the tests decide."""
        return self.protocol.steps(len(self.data.train))

    @property
    def is_over(self) -> bool:
        """Whether nothing is left to do."""
        return self.protocol.is_over(self.progress.step, self.steps, self.progress.accuracies)

    def run(self, stopped: Callable[[], bool], report: Callable[[Training], None]) -> bool:
        """Train until the protocol ends it, or until it is stopped.

        Arguments:
            stopped: asked after each step; a run that is stopped writes a checkpoint first.
            report: called after each step.

        Returns:
            whether the run is over.

        Raises:
            FloatingPointError: the loss is not finite.
        """
        while not self.is_over:
            self._train_step()
            report(self)
            at_test = self.progress.step % self.protocol.test_every == 0
            if at_test or self.progress.step == self.steps:
                self._test()
                report(self)
                self._save()
            if not self.is_over and stopped():
                self._save()
                return False
        return True

    # -- inside ------------------------------------------------------------------------------------

    def _train_step(self) -> None:
        start = time.perf_counter()
        progress, batch = self.progress, self.protocol.batch
        per_epoch = len(self.data.train) // batch
        epoch, position = divmod(progress.step, per_epoch)
        order = epoch_order(len(self.data.train), self.seed, epoch)
        images, labels = self._batch(
            self.data.train, order[position * batch : (position + 1) * batch]
        )
        images = augmented(images, self.shifts)
        for group in self.optimizer.param_groups:
            group["lr"] = self.protocol.rate(progress.step, self.steps)
        self.model.train()
        self.optimizer.zero_grad(set_to_none=True)
        loss = cross_entropy(self.model(as_channels_last(images)), labels)
        loss.backward()
        self.optimizer.step()
        value = loss.item()
        if value != value or value in (float("inf"), float("-inf")):
            msg = f"the loss is {value} at step {progress.step + 1}: the training diverged"
            raise FloatingPointError(msg)
        progress.step += 1
        progress.loss_sum += value
        progress.loss_steps += 1
        progress.step_seconds.append(time.perf_counter() - start)

    def _batch(self, part: Part, chosen: Tensor) -> tuple[Tensor, Tensor]:
        """Centred images and labels."""
        chosen = chosen.to(part.labels.device)
        return centred(part.images[chosen], self.data.mean), part.labels[chosen]

    @torch.no_grad()
    def _test(self) -> None:
        """Accuracy on all test images; a new entry of the curve."""
        start = time.perf_counter()
        self.model.eval()
        right = 0
        for chosen in torch.arange(len(self.data.test)).split(TEST_BATCH):
            images, labels = self._batch(self.data.test, chosen)
            found = self.model(as_channels_last(images)).argmax(1)
            right += int((found == labels).sum())
        progress = self.progress
        progress.curve.append(
            {
                "step": progress.step,
                "loss": progress.loss_sum / progress.loss_steps,
                "accuracy": right / len(self.data.test),
            }
        )
        progress.loss_sum, progress.loss_steps = 0.0, 0
        progress.test_seconds += time.perf_counter() - start

    def _save(self) -> None:
        """Write all that the rest of the run depends on; the old file stays until then."""
        if self.checkpoint is None:
            return
        progress = self.progress
        state: Checkpoint = {
            "model": self.model.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "shifts": self.shifts.get_state(),
            "dropout": torch.get_rng_state(),
            "dropout_cuda": torch.cuda.get_rng_state() if self._is_on_cuda() else None,
            "progress": {name: getattr(progress, name) for name in Progress.__slots__},
        }
        self.checkpoint.parent.mkdir(parents=True, exist_ok=True)
        scratch = self.checkpoint.with_suffix(f".{os.getpid()}.tmp")
        torch.save(state, scratch)
        scratch.replace(self.checkpoint)

    def _load(self, file: Path) -> None:
        state: Checkpoint = torch.load(file, map_location="cpu", weights_only=True)
        self.model.load_state_dict(state["model"])
        self.optimizer.load_state_dict(state["optimizer"])
        self.shifts.set_state(state["shifts"])
        torch.set_rng_state(state["dropout"])
        if state["dropout_cuda"] is not None and self._is_on_cuda():
            torch.cuda.set_rng_state(state["dropout_cuda"])
        self.progress = Progress(**state["progress"])

    def _is_on_cuda(self) -> bool:
        return next(self.model.parameters()).is_cuda
