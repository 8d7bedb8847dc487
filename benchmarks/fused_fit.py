"""Fit the time model of compiled kernels (tnlayer/planning/fused_model.py), and judge it.

    python -m benchmarks.fused_fit --measure   # about 10 min with nothing else on the machine
    python -m benchmarks.fused_fit             # fit to the stored timings and judge

Judged twice: on the data of the fit, and on networks that were left out of it, one after another.
The second figure is what a network of the user's may expect.
"""

from __future__ import annotations

import argparse
import json
import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from scipy.optimize import lsq_linear

from benchmarks.fused_cases import NETWORKS
from benchmarks.report import RESULTS, provenance, write_json
from benchmarks.timing import keep_freed_memory, time_alternating
from tnlayer.device.load import load_profile
from tnlayer.kernels.cpu import Cpu, kernel_batch
from tnlayer.plan.plan import Plan
from tnlayer.planning.fused_model import (
    COSTS,
    SECONDS,
    Costs,
    call_counts,
    cost_names,
    vector_seconds,
)
from tnlayer.planning.planner import PlannedGraph, PlanOptions, plan_graph
from tnlayer.runtime.autograd import run
from tnlayer.runtime.available import options_for
from tnlayer.runtime.kinds import program_of

TIMINGS = RESULTS / "fused-timings.json"
BATCHES = (1, 16, 256)
# What one would expect of each cost without any data. Counts go together (a step with more products
# has more loads), so that a fit alone would put some costs to zero and others too high.
EXPECTED = Costs(
    product=1.0,
    load=0.4,
    store=0.5,
    weight=20.0,
    second=1.5,
    third=4.0,
    moved=10.0,
    partial=4.0,
    far_partial=10.0,
    cleared=10.0,
    step=60.0,
    branch=4.0,
    branch_step=500.0,
    line=4.0,
    forward=10e-6,
    backward=10e-6,
    threads=2e-6,
)
# Weight of what is expected, beside one timing's squared relative error. Larger values cost
# accuracy on networks that were left out, smaller ones make costs of what few networks have wild.
PULL = 0.01
ROUNDS = 8


@dataclass(frozen=True, slots=True)
class Row:
    """One timing: seconds = counts @ costs + known.

    Arguments:
        name: the network.
        batch: samples.
        part: "forward", without grad, or "training".
        counts: what multiplies each cost, in seconds a unit.
        known: seconds that are not fitted: autograd's.
        seconds: the measured median.
    """

    name: str
    batch: int
    part: str
    counts: tuple[float, ...]
    known: float
    seconds: float


def planned_of(name: str, batch: int) -> PlannedGraph:
    """What kernels of this network follow for few, or for many samples."""
    options = PlanOptions(batch=kernel_batch(batch), minimize="combo-4", backend="cpp")
    return plan_graph(NETWORKS[name]().freeze(), options_for(options))


def measure(names: Sequence[str], budget: float) -> dict[str, dict[str, float]]:
    """Medians of raw programs through autograd: seconds by "name batch" and part."""
    found: dict[str, dict[str, float]] = {}
    for name in names:
        net = NETWORKS[name]().freeze()
        for batch in BATCHES:
            program = program_of(planned_of(name, batch))
            program.prepare()
            torch.manual_seed(0)
            x = torch.randn(batch, net.in_features, requires_grad=True)
            made = {one.name: 0.1 * torch.randn(one.shape) for one in net.parameters}
            arrays = (x, *(made[one].requires_grad_() for one in program.parameter_order))
            ones = torch.ones_like(run(program, arrays))

            def forward(program: Any = program, arrays: Any = arrays) -> object:
                with torch.no_grad():
                    return run(program, arrays)

            def training(program: Any = program, arrays: Any = arrays, g: Any = ones) -> object:
                return torch.autograd.grad(run(program, arrays), arrays, g)

            training()  # the first one maps the pages of sums, which may take seconds
            times = time_alternating({"forward": forward, "training": training}, budget=budget)
            found[f"{name} {batch}"] = {part: one.median for part, one in times.items()}
        print(name, {k: v for k, v in found.items() if k.startswith(f"{name} ")}, flush=True)
    return found


def rows_of(timings: dict[str, dict[str, float]]) -> list[Row]:
    """Each timing as an equation for the costs, by the profile of this device."""
    profile, cpu = load_profile("float32", "cpu").profile, Cpu()
    calls, found = dict(profile.calls), list[Row]()
    for key, times in timings.items():
        name, text = key.split()
        batch = int(text)
        plan = planned_of(name, batch).plan
        unit, arrays = vector_seconds(plan, profile, cpu), len(plan.inputs)
        wanted = tuple(value.name for value in plan.inputs)
        threads = 1.0 if batch > 1 else 0.0

        def counts(gradients: tuple[str, ...], plan: Plan = plan, batch: int = batch) -> Any:
            made = call_counts(plan, gradients, batch, profile.threads, cpu)
            return np.array([made.get(one, 0.0) for one in cost_names()])

        once = unit * counts(())
        both = once + unit * counts(wanted)
        known = calls["forward"] + calls["backward"]
        known += arrays * (calls["forward_array"] + calls["backward_array"])
        found += [
            Row(name, batch, "forward", (*once, 1.0, 0.0, threads), 0.0, times["forward"]),
            Row(name, batch, "training", (*both, 1.0, 1.0, 2 * threads), known, times["training"]),
        ]
    return found


def fit(rows: Sequence[Row]) -> np.ndarray:
    """The costs with the least relative errors; timings that no costs explain weigh less."""
    counts = np.array([row.counts for row in rows])
    seconds = np.array([row.seconds for row in rows])
    known = np.array([row.known for row in rows])
    expected = np.array([getattr(EXPECTED, one) for one in (*cost_names(), *SECONDS)])
    weights, costs = 1 / seconds, expected
    pull = np.sqrt(PULL) * np.eye(len(expected))
    for _ in range(ROUNDS):
        scaled = counts * expected * weights[:, None]
        left, right = np.vstack([scaled, pull]), [*(seconds - known) * weights, *np.diag(pull)]
        costs = expected * lsq_linear(left, right, bounds=(0.0, np.inf)).x
        errors = np.abs(predict(rows, costs) - seconds) / seconds
        weights = 1 / seconds / np.sqrt(np.maximum(1.0, errors / 0.2))
    return costs


def predict(rows: Sequence[Row], costs: np.ndarray) -> np.ndarray:
    """Seconds of each row."""
    return np.array([row.counts for row in rows]) @ costs + [row.known for row in rows]


def errors_of(rows: Sequence[Row], costs: np.ndarray) -> list[float]:
    """Relative errors, predicted too high is positive."""
    measured = np.array([row.seconds for row in rows])
    return [float(one) for one in (predict(rows, costs) - measured) / measured]


def left_out(rows: Sequence[Row]) -> list[float]:
    """Errors of each network with costs that were fitted to all others."""
    found: dict[int, float] = {}
    for name in dict.fromkeys(row.name for row in rows):
        costs = fit([row for row in rows if row.name != name])
        mine = [number for number, row in enumerate(rows) if row.name == name]
        found |= dict(zip(mine, errors_of([rows[n] for n in mine], costs), strict=True))
    return [found[number] for number in range(len(rows))]


def summary(errors: Sequence[float]) -> str:
    """Median and worst tenth of absolute errors."""
    sizes = sorted(map(abs, errors))
    tenth = sizes[9 * len(sizes) // 10]
    return f"median {statistics.median(sizes):.0%}, worst tenth above {tenth:.0%}"


def main() -> None:
    """Measure if asked, then fit and judge."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.fused_fit",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--measure", action="store_true")
    parser.add_argument("--budget", type=float, default=0.2, help="seconds a timing")
    parser.add_argument("--cases", nargs="+", choices=list(NETWORKS), default=list(NETWORKS))
    parser.add_argument("--worst", type=int, default=12, help="how many errors to name")
    asked = parser.parse_args()
    record = json.loads(TIMINGS.read_text()) if TIMINGS.exists() else {"seconds": {}}
    if asked.measure:
        keep_freed_memory()  # pages that are mapped anew at each call are no work of the kernels
        found = measure(asked.cases, asked.budget)
        record = provenance(["--measure"]) | {"seconds": {**record["seconds"], **found}}
        write_json(TIMINGS, record)
    if not record["seconds"]:
        parser.error(f"there are no timings in {TIMINGS}: run it with --measure first")
    rows = rows_of(record["seconds"])
    costs = fit(rows)
    for name, value in zip((*cost_names(), *SECONDS), costs, strict=True):
        print(f"    {name}: float = {value:.3g}")
    today = np.array([getattr(COSTS, one) for one in (*cost_names(), *SECONDS)])
    apart = left_out(rows)
    print(f"{len(rows)} timings, costs of the package: {summary(errors_of(rows, today))}")
    print(f"this fit: {summary(errors_of(rows, costs))}; networks left out: {summary(apart)}")
    ranked = sorted(zip(apart, rows, strict=True), key=lambda pair: -abs(pair[0]))
    for error, row in ranked[: asked.worst]:
        print(f"{error:+.0%} {row.name} batch {row.batch} {row.part}: {row.seconds * 1e3:.3g} ms")


if __name__ == "__main__":
    main()
