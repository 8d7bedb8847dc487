"""Fit the time model of compiled kernels (tnlayer/time_models/cpu_kernels.py), and judge it.

    python -m benchmarks.calibration --measure                      # minutes, nothing beside it
    python -m benchmarks.calibration --measure --cases btt tt16-32  # a part; it joins the file
    python -m benchmarks.calibration             # fit to the stored timings and judge

Costs are in units that a machine's profile has, so timings of several machines are fitted together.
Judged three times: on the data of the fit; on networks that were left out of it, one after another,
on all machines; and by choices: where kernels and torch's calls of the best plan for those were
both timed, which one the model takes. Left out is what a network of the user's may expect.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from scipy.optimize import lsq_linear

from benchmarks.calibration.cases import NETWORKS
from benchmarks.common.report import RESULTS, provenance, write_json
from benchmarks.common.timing import keep_freed_memory, time_alternating
from tnlayer.dispatch.build_program import program_of
from tnlayer.hardware.cpu import Cpu
from tnlayer.hardware.profile.load import shipped_profiles, use_profile
from tnlayer.hardware.profile.op_times import OpTimes
from tnlayer.hardware.profile.profile import Profile
from tnlayer.ir.backend_names import CPP, TORCH
from tnlayer.ir.plan import Plan
from tnlayer.lowering.cpu.kernel_batch import kernel_batch
from tnlayer.planning.planner import PlannedGraph, Request, plan_graph
from tnlayer.runtime.autograd import run
from tnlayer.targets.backend import backend_of, lower
from tnlayer.targets.target import Target
from tnlayer.time_models.cpu_kernels import (
    COST_NAMES,
    COSTS,
    STARTS,
    Costs,
    call_counts,
    cost_seconds,
    fused_seconds,
)

TIMINGS = RESULTS / "fused-timings.json"
# Timings of another machine, with the kernels of that day.
XEON = RESULTS / "fused-timings-xeon.json"
# The kernels' tables: torch's calls and kernels through layers.
TABLES = {TIMINGS: RESULTS / "cpu-kernels.json", XEON: RESULTS / "cpu-kernels-xeon.json"}
BATCHES = (1, 16, 50, 256)
# Of two cores with 512-bit vectors, as both machines have them.
CPU = Cpu(threads=2)
# What one would expect of each cost without any data. Counts go together (a step with more products
# has more loads), so that a fit alone would put some costs to zero and others too high.
EXPECTED = Costs(
    product=1.0,
    store=0.5,
    weight=1.0,
    second=1.5,
    moved=10.0,
    partial=4.0,
    far_partial=0.5,
    cleared=0.5,
    step=60.0,
    branch=4.0,
    branch_step=500.0,
    forward=5.0,
    backward=5.0,
)
# Weight of what is expected, beside one timing's squared relative error. Larger values cost
# accuracy on networks that were left out, smaller ones make costs of what few networks have wild.
PULL = 0.01
ROUNDS = 8


Times = dict[str, dict[str, float]]


@dataclass(frozen=True, slots=True)
class Row:
    """One timing: seconds = counts @ costs + known.

    Arguments:
        machine: the processor.
        name: the network.
        batch: samples.
        part: "forward", without grad, or "training".
        counts: what multiplies each cost, in seconds a unit.
        known: seconds that are not fitted: autograd's.
        seconds: the measured median.
        outdated: whether kernels of that kind are faster since it was taken.
    """

    machine: str
    name: str
    batch: int
    part: str
    counts: tuple[float, ...]
    known: float
    seconds: float
    outdated: bool = False


def planned_of(name: str, batch: int) -> PlannedGraph:
    """What kernels of this network follow for few, or for many samples."""
    options = Request(batch=kernel_batch(batch), minimize="combo-4", backend=CPP, cpu=CPU)
    return plan_graph(NETWORKS[name]().freeze(), options)


def torch_plan(name: str, batch: int) -> PlannedGraph:
    """The plan that torch's calls would follow instead."""
    return plan_graph(NETWORKS[name]().freeze(), Request(batch=batch, backend=TORCH))


def measure(names: Sequence[str], budget: float, keep: Callable[[Times], object]) -> None:
    """Medians of raw programs through autograd: seconds by "name batch" and part.

    Arguments:
        names: of networks.
        budget: seconds a timing.
        keep: called with the times of each network.
    """
    for name in names:
        found: Times = {}
        for batch in BATCHES:
            calls = calls_of(planned_of(name, batch), batch, "")
            calls |= calls_of(torch_plan(name, batch), batch, "torch_")
            times = time_alternating(calls, budget=budget)
            found[f"{name} {batch}"] = {part: one.median for part, one in times.items()}
        print(name, found, flush=True)
        keep(found)


def calls_of(planned: PlannedGraph, batch: int, before: str) -> dict[str, Callable[[], object]]:
    """A forward without grad, and a training step, by their names."""
    program = program_of(planned)
    program.prepare()
    torch.manual_seed(0)
    x = torch.randn(batch, planned.graph.in_features, requires_grad=True)
    made = {one.name: 0.1 * torch.randn(one.shape) for one in planned.graph.parameters}
    arrays = (x, *(made[one].requires_grad_() for one in program.parameter_order))
    ones = torch.ones_like(run(program, arrays))

    def forward() -> object:
        with torch.no_grad():
            return run(program, arrays)

    def training() -> object:
        return torch.autograd.grad(run(program, arrays), arrays, ones)

    training()  # the first one maps the pages of sums, which may take seconds
    return {f"{before}forward": forward, f"{before}training": training}


def profile_of(record: Mapping[str, Any]) -> Profile:
    """The profile that ships for the machine of some timings."""
    name, threads = record["machine"]["cpu"], record["machine"]["torch_threads"]
    for profile in shipped_profiles():
        if (profile.name, profile.dtype, profile.threads) == (name, "float32", threads):
            return profile
    msg = (
        f"no profile ships that was measured on {name!r} with {threads} threads: write one with "
        "`python -m tnlayer profile --output` into tnlayer/hardware/profile/shipped"
    )
    raise SystemExit(msg)


def rows_of(record: Mapping[str, Any]) -> list[Row]:
    """Each timing as an equation for the costs, by the profile of its machine."""
    profile = profile_of(record)
    outdated = {tuple(one) for one in record.get("outdated", ())}
    calls, found = profile.call_seconds, list[Row]()
    for key, times in record["seconds"].items():
        name, text = key.split()
        batch = int(text)
        plan = planned_of(name, batch).plan
        arrays, units = len(plan.inputs), units_of(plan, profile)
        wanted = tuple(value.name for value in plan.inputs)

        def counts(gradients: tuple[str, ...], plan: Plan = plan, batch: int = batch) -> Any:
            made = call_counts(plan, gradients, batch, profile.threads, CPU)
            return np.array([made.get(one, 0.0) for one in COST_NAMES])

        def started(*times: float) -> Any:
            made: dict[str, float] = dict(zip(STARTS, times, strict=True))
            return np.array([made.get(one, 0.0) for one in COST_NAMES])

        once = (counts(()) + started(1.0, 0.0)) * units
        both = once + (counts(wanted) + started(0.0, 1.0)) * units
        known = calls["forward"] + calls["backward"]
        known += arrays * (calls["forward_array"] + calls["backward_array"])
        for part, row, added in (("forward", once, 0.0), ("training", both, known)):
            old = (name, part) in outdated
            found.append(Row(profile.name, name, batch, part, tuple(row), added, times[part], old))
    return found


def units_of(plan: Plan, profile: Profile) -> np.ndarray:
    """Seconds of the unit of each cost."""
    ones = cost_seconds(plan, profile, CPU, Costs(**dict.fromkeys(COST_NAMES, 1.0)))
    return np.array([getattr(ones, one) for one in COST_NAMES])


def fit(rows: Sequence[Row]) -> np.ndarray:
    """The costs with the least relative errors; timings that no costs explain weigh less, and
    outdated ones nothing."""
    rows = [row for row in rows if not row.outdated]
    counts = np.array([row.counts for row in rows])
    seconds = np.array([row.seconds for row in rows])
    known = np.array([row.known for row in rows])
    expected = np.array([getattr(EXPECTED, one) for one in COST_NAMES])
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


@dataclass(frozen=True, slots=True)
class Chosen:
    """What the model takes for one network and batch size, kernels or torch's calls.

    Arguments:
        name: network, batch size and part.
        foreseen: predicted seconds of kernels over those of torch's calls.
        measured: the same, measured.
    """

    name: str
    foreseen: float
    measured: float

    @property
    def wrong(self) -> bool:
        """Whether the slower one is taken."""
        return (self.foreseen * backend_of(CPP).handicap < 1) != (self.measured < 1)

    @property
    def regret(self) -> float:
        """Measured seconds of the one that is taken over those of the faster one."""
        return max(self.measured, 1 / self.measured) if self.wrong else 1.0


def choices(profile: Profile, seconds: Times, costs: Costs) -> list[Chosen]:
    """All choices where both were timed.

    Arguments:
        profile: of the machine.
        seconds: by "name batch" and part, those of torch's calls as "torch_" and the part.
        costs: of the model.
    """
    target, found = Target(OpTimes(profile, profile.dtype), profile, CPU), list[Chosen]()
    for key, times in seconds.items():
        if "torch_training" not in times:
            continue
        name, batch = key.split()
        with use_profile(profile):
            kernels, calls = planned_of(name, int(batch)), torch_plan(name, int(batch))
        for part in ("forward", "training"):
            mask = (part == "training",) * len(kernels.plan.inputs)
            ours = fused_seconds(kernels.plan, mask, int(batch), profile, CPU, costs).total
            theirs = lower(calls.plan, mask, target).seconds(int(batch)).total
            found.append(
                Chosen(f"{key} {part}", ours / theirs, times[part] / times[f"torch_{part}"])
            )
    return found


def table_times(path: Path) -> Times:
    """The cells of a kernels' table as timings."""
    found: Times = {}
    for cell in json.loads(path.read_text())["cells"]:
        part = "forward" if cell["mode"] == "forward" else "training"
        times = found.setdefault(f"{cell['case']} {cell['batch']}", {})
        times |= {
            f"{before}{part}": cell["methods"][method]["median"]
            for before, method in (("", CPP), ("torch_", TORCH))
        }
    return found


def tell_choices(title: str, found: Sequence[Chosen]) -> None:
    """How many are wrong, and which."""
    for part in ("training", "forward"):
        ones = [one for one in found if one.name.endswith(part)]
        wrong = [one for one in ones if one.wrong]
        worst = max((one.regret for one in ones), default=1.0)
        print(f"{title}, {part}: {len(wrong)} of {len(ones)} wrong, at worst {worst:.2f} x")
        for one in wrong:
            print(f"    {one.name}: kernels / torch {one.measured:.2f}, told {one.foreseen:.2f}")


def main() -> None:
    """Measure if asked, then fit and judge."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.calibration",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--measure", action="store_true")
    parser.add_argument("--budget", type=float, default=0.1, help="seconds a timing")
    parser.add_argument("--cases", nargs="+", choices=list(NETWORKS), default=list(NETWORKS))
    parser.add_argument("--worst", type=int, default=12, help="how many errors to name")
    asked = parser.parse_args()
    if asked.measure:
        keep_freed_memory()  # pages that are mapped anew at each call are no work of the kernels
        measure(asked.cases, asked.budget, keep)
        return
    records = {path: json.loads(path.read_text()) for path in TABLES if path.exists()}
    if TIMINGS not in records:
        parser.error(f"there are no timings in {TIMINGS}: run it with --measure first")
    rows = [row for record in records.values() for row in rows_of(record)]
    costs = fit(rows)
    for name, value in zip(COST_NAMES, costs, strict=True):
        print(f"    {name}: float = {value:.3g}")
    today = np.array([getattr(COSTS, one) for one in COST_NAMES])
    apart = left_out(rows)
    for machine in dict.fromkeys(row.machine for row in rows):
        own = [number for number, row in enumerate(rows) if row.machine == machine]
        here = [rows[number] for number in own]
        print(f"{machine}, {len(own)} timings")
        print(f"    costs of the package: {summary(errors_of(here, today))}")
        print(f"    this fit: {summary(errors_of(here, costs))}")
        print(f"    networks left out: {summary([apart[number] for number in own])}")
    for path, record in records.items():
        profile = profile_of(record)
        tell_choices(f"{profile.name}", choices(profile, record["seconds"], COSTS))
        tell_choices(f"{TABLES[path].name}", choices(profile, table_times(TABLES[path]), COSTS))
    ranked = sorted(zip(apart, rows, strict=True), key=lambda pair: -abs(pair[0]))
    for error, row in ranked[: asked.worst]:
        what = f"{row.machine}, {row.name} batch {row.batch} {row.part}"
        print(f"{error:+.0%} {what}: {row.seconds * 1e3:.3g} ms")


def keep(found: Times) -> None:
    """Add timings to the file."""
    old = json.loads(TIMINGS.read_text())["seconds"] if TIMINGS.exists() else {}
    write_json(TIMINGS, provenance(sys.argv[1:]) | {"seconds": {**old, **found}})
