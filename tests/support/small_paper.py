"""The paper's reproduction in small: the same code on tiny images and widths."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import torch

from benchmarks.paper.data import Data, Part
from benchmarks.paper.model import Shape
from benchmarks.paper.protocols import Protocol
from benchmarks.paper.rows import ROWS
from benchmarks.paper.runs import Clock, Setting, run_one

# 16 channels of 2 x 2 pixels are 64 features: six legs.
SMALL = Shape(side=16, channels=8, last_channels=16, batch=16)
BRIEF = Protocol("brief", "two epochs, a test every three steps", epochs=2, batch=16, test_every=3)


def small_data(images: int = 96) -> Data:
    """Random images whose class can be seen: the first channel's mean follows it."""
    generator = torch.Generator().manual_seed(5)
    labels = torch.arange(images) % 10
    pixels = torch.randint(0, 100, (images, 16, 16, 3), generator=generator)
    pixels[..., 0] += 15 * labels[:, None, None]
    part = Part(pixels.to(torch.uint8), labels)
    return Data("random", part, part, torch.tensor([0.4, 0.2, 0.2]))


def setting(folder: Path, protocol: Protocol = BRIEF) -> Setting:
    """A setting of small runs below a folder."""
    return Setting(small_data(), protocol, folder / "cache", folder / "out", SMALL)


class DyingClock(Clock):
    """Kills its own process when it is asked for the nth time."""

    def __init__(self, asked: int) -> None:
        super().__init__(None)
        self._left = asked

    def __call__(self) -> bool:
        self._left -= 1
        if not self._left:
            os.kill(os.getpid(), signal.SIGKILL)
        return False


def run_and_die(folder: str, row: str, steps: int) -> None:
    """Train a row until the process is killed after so many steps."""
    torch.set_num_threads(1)
    run_one(setting(Path(folder)), ROWS[row], 1, DyingClock(steps))
