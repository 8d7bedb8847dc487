"""What running a model takes, beside the dense one: time in turns, and memory."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from statistics import median
from typing import Any

import torch
from torch import nn

from benchmarks.common.memory import allocator_peak
from tnlayer.nn.layer import Layer

from .workload import Workload

BATCHES = (1, 256)
# Processor seconds of timed calls of each of the two models, and the least of one turn.
SECONDS, TURN = 0.5, 0.005
_FEWEST, _MOST = 3, 25


@dataclass(frozen=True)
class Times:
    """Processor times of a model's forward in inference: with one thread they are the elapsed ones
    of a machine that does nothing else.

    Arguments:
        seconds: the median.
        dense: that of the dense model, measured in turns with it.
    """

    seconds: float
    dense: float

    @property
    def ratio(self) -> float:
        """Of both: above 1 the compressed model is faster."""
        return self.dense / self.seconds


def times(work: Workload, model: nn.Module) -> tuple[Times, ...]:
    """Times at one sample and at 256, layers prepared before and both models in turns.

    Arguments:
        work: has the dense model.
        model: the compressed one; set to eval().
    """
    found: list[Times] = []
    for batch in BATCHES:
        x = work.inputs(batch)
        _prepare(work, model, x)
        calls = {
            name: _infer(work, one.eval(), x) for name, one in (("new", model), ("old", work.model))
        }
        timed = in_turns(calls, SECONDS)
        found.append(Times(timed["new"], timed["old"]))
    return tuple(found)


def in_turns(calls: Mapping[str, Callable[[], object]], budget: float) -> dict[str, float]:
    """Median processor seconds of callables that take turns, each called twice before.

    Arguments:
        calls: by name.
        budget: processor seconds for each, about.
    """
    estimates: dict[str, float] = {}
    for name, call in calls.items():
        call()
        estimates[name] = max(1e-6, _processor_seconds(call, 1))
    repeats = {name: max(1, int(TURN / one)) for name, one in estimates.items()}
    turn = max(repeats[name] * one for name, one in estimates.items())
    samples: dict[str, list[float]] = {name: [] for name in calls}
    for _ in range(max(_FEWEST, min(_MOST, int(budget / turn)))):
        for name, call in calls.items():
            samples[name].append(_processor_seconds(call, repeats[name]))
    return {name: median(found) for name, found in samples.items()}


def _processor_seconds(call: Callable[[], object], repeats: int) -> float:
    began = time.process_time()
    for _ in range(repeats):
        call()
    return (time.process_time() - began) / repeats


def _infer(work: Workload, model: nn.Module, x: Any) -> Callable[[], object]:
    def call() -> object:
        with torch.no_grad():
            return work.call(model, x)

    return call


@torch.no_grad()
def _prepare(work: Workload, model: nn.Module, x: Any) -> None:
    """Have the layers plan, and build their kernels, for the rows that they will meet."""
    rows: dict[nn.Module, int] = {}

    def note(module: Any, inputs: tuple[Any, ...]) -> None:
        # Convolutions meet the positions of an image that are their own outputs' as well: strides
        # of compressed ones are 1.
        x = inputs[0]
        rows[module] = x.numel() // (x.shape[1] if x.dim() == 4 else x.shape[-1])

    layers = [module for module in model.modules() if isinstance(module, Layer)]
    hooks = [layer.register_forward_pre_hook(note) for layer in layers]
    work.call(model, x)
    for hook in hooks:
        hook.remove()
    for layer, count in rows.items():
        layer.prepare((count,))  # type: ignore[operator]


def training_memory(work: Workload, model: nn.Module) -> int:
    """Bytes that a training step allocates at once: activations, gradients and workspaces."""
    model.train()
    work.step(model)
    for array in model.parameters():
        array.grad = None
    peak = allocator_peak(lambda: work.step(model))
    for array in model.parameters():
        array.grad = None
    return peak
