"""How long a network is trained, and by which learning rate."""

from __future__ import annotations

import math
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Protocol:
    """One way to train.

    Arguments:
        name: as the command line takes it.
        text: what it is, in words.
        epochs: passes over the training images, or None: until tests stop to improve.
        patience: tests in a row without a better accuracy after which training ends, or None.
        most_steps: bound on steps, or None.
        images: how many images of each part are used, or None: all.
        batch: images of a step.
        learning_rate: Adam's at the start.
        test_every: steps between tests.
    """

    name: str
    text: str
    epochs: int | None = None
    patience: int | None = None
    most_steps: int | None = None
    images: int | None = None
    batch: int = 50
    learning_rate: float = 1e-3
    test_every: int = 500

    def steps(self, images: int) -> int | None:
        """Steps of the whole training, or None where the tests decide."""
        bounds = [self.most_steps, self.epochs and self.epochs * (images // self.batch)]
        return min((bound for bound in bounds if bound is not None), default=None)

    def rate(self, step: int, steps: int | None) -> float:
        """The learning rate of a step: a cosine down to 0 where the number of steps is fixed."""
        if self.patience is not None or steps is None:
            return self.learning_rate
        return self.learning_rate * (1 + math.cos(math.pi * step / steps)) / 2

    def is_over(self, step: int, steps: int | None, accuracies: list[float]) -> bool:
        """Whether training ends after ``step`` steps, with these test accuracies so far."""
        if steps is not None and step >= steps:
            return True
        if self.patience is None or not accuracies:
            return False
        best = accuracies.index(max(accuracies))
        return len(accuracies) - 1 - best >= self.patience


PROTOCOLS = {
    protocol.name: protocol
    for protocol in (
        Protocol(
            "paper",
            "until ten tests in a row, one every 500 steps, bring no better accuracy; Adam at 1e-3",
            patience=10,
        ),
        Protocol("short", "12 epochs, Adam from 1e-3 down to 0 along a cosine", epochs=12),
        Protocol(
            "smoke", "2 steps on 64 images: does it run?", most_steps=2, images=64, test_every=1
        ),
    )
}
