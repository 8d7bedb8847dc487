"""Predictions: seconds of a network's plan, of its steps, and of the dense layer beside it."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import torch

from ..graph.graph import Graph
from ..hardware.profile.load import load_profile, op_times, scale_nearest
from ..hardware.profile.op_times import OpTimes
from ..ir.backend_names import MIXED
from ..targets.lowered import Lowered
from ..time_models.torch_calls import dense_seconds
from .request import INFER, Request

DENSE = "dense"


@dataclass(frozen=True, slots=True)
class Prediction:
    """Predicted seconds of one call.

    Arguments:
        backend: what runs it, or "dense".
        forward: a forward that keeps what the backward needs.
        backward: the backward of a training step; 0 where nothing is trained.
        inference: a forward without grad.
    """

    backend: str
    forward: float
    backward: float
    inference: float

    @property
    def training(self) -> float:
        """Forward and backward."""
        return self.forward + self.backward

    def wanted(self, objective: str) -> float:
        """What an objective counts: inference for "infer", forward and backward for "train"."""
        return self.inference if objective == INFER else self.training


def seconds_by_name(predictions: Iterable[Prediction]) -> dict[str, float]:
    """Predictions as plain values, for a file."""
    return {
        f"{one.backend}_{part}_seconds": getattr(one, part)
        for one in predictions
        for part in ("forward", "backward", "inference")
    }


def predict(training: Lowered, batch: int) -> Prediction:
    """A plan that was lowered for a training step, at a batch size."""
    seconds, alone = training.seconds(batch), training.inference.seconds(batch)
    return Prediction(training.backend, seconds.forward, seconds.backward, alone.forward)


def added(each: Sequence[Prediction]) -> Prediction:
    """Of networks that run one after the other."""
    backends = {one.backend for one in each}
    return Prediction(
        backends.pop() if len(backends) == 1 else MIXED,
        sum(one.forward for one in each),
        sum(one.backward for one in each),
        sum(one.inference for one in each),
    )


def has_dense(graph: Graph) -> bool:
    """Whether one dense layer does what the network does: one batched input that is no product."""
    ports = graph.inputs
    return len(ports) == 1 and ports[0].batched and not ports[0].product


def predict_dense(graph: Graph, batch: int, times: OpTimes) -> Prediction:
    """The dense layer with the ports of a network that ``has_dense``; it trains x and W."""
    seconds = dense_seconds(batch, graph.in_features, graph.out_features, times)
    alone = seconds.forward - times.call["forward"]
    return Prediction(DENSE, seconds.forward, seconds.backward, alone)


def profile_text(request: Request) -> str:
    """The profile that predictions for a request rest on, and where it does not fit."""
    loaded = load_profile(request.dtype, request.device)
    profile = loaded.profile
    remarks: Sequence[str] = [
        *([] if profile.device == request.device else [f"none for {request.device}"]),
        *([] if profile.dtype == request.dtype else [f"scaled to {request.dtype}"]),
    ]
    now = torch.get_num_threads()
    if profile.device == request.device == "cpu" and profile.threads != now:
        remarks = [*remarks, f"torch now has {now}"]
    threads = f"{profile.threads} thread{'s' if profile.threads > 1 else ''}"
    measured = f"{loaded.source}; {profile.device}, {profile.dtype}, {threads}"
    return f"{measured} ({', '.join(remarks)})" if remarks else measured


def times_of(request: Request) -> OpTimes:
    """The device's operations for a request."""
    scale_nearest(request.dtype, request.device)
    return op_times(request.dtype, request.device)
