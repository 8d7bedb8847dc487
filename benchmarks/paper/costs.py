"""What the hidden layers cost: FLOPs, counted, and time per training step, measured."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

import tnlayer as tn
from benchmarks.common.report import provenance, write_json
from benchmarks.common.timing import time_alternating
from benchmarks.paper.data import as_channels_last
from benchmarks.paper.model import PaperNetwork, Shape
from benchmarks.paper.rows import ROWS, Row

BASE = "FC-1"


def flops(row: Row, shape: Shape) -> int:
    """FLOPs a sample of the two hidden layers, forward; a dense layer's are 2 x in x out."""
    graphs = row.graphs(shape.legs)
    if row.dense:
        return sum(2 * graph.in_features * graph.out_features for graph in graphs)
    total = sum(tn.cost(graph, batch=shape.batch).forward_flops for graph in graphs)
    return total // shape.batch


def write_flops(rows: Sequence[Row], file: Path) -> None:
    """Count every row and write one file."""
    counts: dict[str, int] = {}
    for row in rows:
        counts[row.name] = flops(row, Shape())
        print(f"{row.name}: {counts[row.name]:,} FLOPs a sample", flush=True)
    # Plans are chosen by time, so that the count depends on what they are chosen for.
    record = {"schema": 1, "threads": torch.get_num_threads(), "flops_a_sample": counts}
    write_json(file, record)


def hidden_step(model: PaperNetwork, shape: Shape) -> Callable[[], object]:
    """A training step of the two hidden layers alone: both ways, and Adam's update."""
    layers = nn.ModuleList([model.first, model.second])
    optimizer = torch.optim.Adam(layers.parameters(), lr=1e-3, fused=True)
    device = next(layers.parameters()).device
    x = torch.randn(shape.batch, shape.features, device=device, requires_grad=True)

    def step() -> None:
        optimizer.zero_grad(set_to_none=True)
        with torch.autocast(device.type, dtype=torch.bfloat16, enabled=model.in_bfloat16):
            y: Tensor = model.second(model.first(x))
        y.float().square().sum().backward()
        optimizer.step()

    return step


def network_step(model: PaperNetwork, shape: Shape) -> Callable[[], object]:
    """A training step of the whole network, on images that are there already."""
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-3, fused=True)
    device = next(model.parameters()).device
    images = as_channels_last(torch.randn(shape.batch, shape.side, shape.side, 3, device=device))
    labels = torch.arange(shape.batch, device=device) % 10

    def step() -> None:
        optimizer.zero_grad(set_to_none=True)
        nn.functional.cross_entropy(model(images), labels).backward()
        optimizer.step()

    return step


def measure(
    rows: Sequence[Row], shape: Shape, device: torch.device, budget: float
) -> dict[str, dict[str, Any]]:
    """Time both kinds of step, each row in turns with FC-1 in one process.

    Arguments:
        rows: FC-1 among them or not: it is always timed beside.
        shape: sizes.
        device: what trains.
        budget: seconds for each row and kind.
    """
    base = PaperNetwork(ROWS[BASE], shape).to(device)
    found: dict[str, dict[str, Any]] = {}
    for row in rows:
        if row.name == BASE:
            continue
        model = PaperNetwork(row, shape).to(device)
        found[row.name] = {}
        for kind, make in (("hidden", hidden_step), ("network", network_step)):
            steps = {
                BASE: _waiting(make(base, shape), device),
                row.name: _waiting(make(model, shape), device),
            }
            # The first step compiles what is not stored: a minute of that is no slow step.
            for step in steps.values():
                step()
            timings = time_alternating(steps, budget=budget)
            ratio = timings[row.name].median / timings[BASE].median
            found[row.name][kind] = {
                "ratio": ratio,
                "row": asdict(timings[row.name]),
                "base": asdict(timings[BASE]),
            }
            milliseconds = 1e3 * timings[row.name].median
            print(f"{row.name}, {kind}: {milliseconds:.1f} ms, {ratio:.3f} of {BASE}", flush=True)
    return found


def write_times(
    rows: Sequence[Row], file: Path, device: torch.device, budget: float, arguments: Sequence[str]
) -> None:
    """Measure rows and write one file; rows that it has from before, and are not asked for, stay.

    Raises:
        ValueError: the file is of another machine, whose times do not belong beside these.
    """
    record = provenance(arguments)
    device_name = (
        torch.cuda.get_device_name() if device.type == "cuda" else record["machine"]["cpu"]
    )
    before = json.loads(file.read_text()) if file.is_file() else {"times": {}}
    if before["times"] and before["device"] != device_name:
        msg = f"{file} was measured on {before['device']}, this is {device_name}: use another --out"
        raise ValueError(msg)
    times = {**before["times"], **measure(rows, Shape(), device, budget)}
    write_json(file, {"schema": 1, "device": device_name, **record, "times": times})


def _waiting(step: Callable[[], object], device: torch.device) -> Callable[[], object]:
    """A step that is over when it returns."""
    if device.type != "cuda":
        return step

    def waiting() -> None:
        step()
        torch.cuda.synchronize()

    return waiting
