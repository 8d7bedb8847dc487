"""What the table needs to know of a trained model."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from torch import nn

# Divergences below this are rounding: a model that is healed towards the original is the original,
# and Adam would make steps of nothing.
SAME = 1e-5


@dataclass(frozen=True)
class Workload:
    """A trained model with its data.

    Arguments:
        name: of it, in the file of its results.
        title: what it is, in a line.
        sample: what one of a batch is, such as "sequence".
        model: the trained one; never changed.
        data: batches of inputs, by which fits are weighted.
        is_matrix: (module, name): which matrices are compressed.
        scores: figures of a model on held-out data; the first is the one to read.
        heal: trains a compressed model on, in place.
        inputs: a batch of so many samples, for times.
        step: one training step on a model, for its memory.
        call: (model, batch): how a model is run.
        levels: compressions that are compared.
        notes: sizes and the like, for the file.
    """

    name: str
    title: str
    sample: str
    model: nn.Module
    data: list[Any]
    is_matrix: Callable[[nn.Module, str], bool]
    scores: Callable[[nn.Module], dict[str, float]]
    heal: Callable[[nn.Module], None]
    inputs: Callable[[int], Any]
    step: Callable[[nn.Module], None]
    call: Callable[[nn.Module, Any], Any]
    levels: tuple[float, ...] = (4.0,)
    notes: Mapping[str, Any] = field(default_factory=dict[str, Any])
