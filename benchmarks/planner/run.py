"""How well the planner plans: predicted against measured time, and what its choice costs.

    python -m benchmarks.planner [--backend auto] [--quick] [--every N] [--output FILE]

For each case all candidate plans are built and timed, forward and backward, in shuffled turns; with
``--backend auto`` those with compiled kernels, too. Then
the chosen plan and the fastest one are timed again in alternation, so that the winner's luck does
not count: their ratio is the regret. What the choice costs after the trials of a layer's first
calls is worked out from the same times, for the profile that holds here and for profiles that are
wrong on purpose (falsified.py): as they are, and scaled to this machine as those of other machines
are. A second part compares layers with nn.Linear.
"""

from __future__ import annotations

import argparse
import math
import statistics
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from benchmarks.common.report import RESULTS, format_table, headline, provenance, write_json
from benchmarks.common.timing import time_alternating
from benchmarks.common.workloads import draw_parameters
from benchmarks.planner.cases import PlannerCase, planner_cases
from benchmarks.planner.falsified import falsified
from tnlayer import topologies
from tnlayer.graph.canonical import canonicalise
from tnlayer.graph.graph import Graph
from tnlayer.graph.network import Network
from tnlayer.hardware.profile.load import (
    load_profile,
    op_times,
    scale_nearest,
    shipped_profiles,
    use_profile,
)
from tnlayer.hardware.profile.profile import Profile
from tnlayer.hardware.profile.scaling import scaled_by
from tnlayer.ir.backend_names import AUTO
from tnlayer.ir.plan import Plan
from tnlayer.measure.machine_factors import machine_factors
from tnlayer.nn.layer import Layer
from tnlayer.planning.candidates import candidates
from tnlayer.planning.mixture import plan_name
from tnlayer.planning.plan_search import Search
from tnlayer.planning.planner import backward_plan
from tnlayer.planning.rank import rank
from tnlayer.planning.request import Request
from tnlayer.runtime.autograd import run
from tnlayer.runtime.program import Program
from tnlayer.targets.backend import Build, auto_kernels, backend_of, same_code
from tnlayer.time_models.torch_calls import dense_seconds

# Candidates that are predicted to take longer than this are counted and not timed.
SLOW = 0.6
MOST_BYTES = 6 * 2**30
BUDGET = 0.12
# As the trials of dispatch/trials.py and planning/close_choices.py: which plans are tried, how many
# beside the chosen one, and what another must take at most.
CLOSE, MOST_CLOSE, CLEARLY = 2.0, 2, 0.95
# Calls of a layer after which its trials are over, three of each plan.
TRIALS = 3 * (MOST_CLOSE + 1) + 1
FALSE_SEEDS = range(5)


@dataclass(frozen=True, slots=True)
class Timed:
    """One candidate: how it was found, what was predicted and measured (seconds, f+b)."""

    origin: str
    flops: int
    predicted: float
    measured: float | None
    chosen: bool


@dataclass(frozen=True, slots=True)
class CaseResult:
    """One case: its candidates, and the chosen plan against the best one, timed again."""

    name: str
    batch: int
    backend: str
    candidates: tuple[Timed, ...]
    regret: float | None
    planning_seconds: float
    after_trials: float | None
    falsified: tuple[float, ...]
    scaled: tuple[float, ...]
    scaled_after_trials: tuple[float, ...]

    @property
    def timed(self) -> list[Timed]:
        """The candidates that were measured."""
        return [one for one in self.candidates if one.measured is not None]

    def correlation(self, by_flops: bool) -> float | None:
        """Spearman's correlation of prediction (or FLOPs) and time; None below three candidates."""
        timed = self.timed
        if len(timed) < 3:
            return None
        keys = [float(one.flops) if by_flops else one.predicted for one in timed]
        return spearman(keys, [one.measured or 0.0 for one in timed])


def spearman(first: Sequence[float], second: Sequence[float]) -> float | None:
    """Rank correlation, equal values sharing their mean rank; None if one side is constant.

    >>> spearman([1, 2, 3], [10, 30, 20])
    0.5
    """
    ranks = [_ranks(first), _ranks(second)]
    means = [statistics.fmean(r) for r in ranks]
    centred = [[value - mean for value in r] for r, mean in zip(ranks, means, strict=True)]
    norms = [math.sqrt(sum(value**2 for value in r)) for r in centred]
    if not norms[0] or not norms[1]:
        return None
    return sum(a * b for a, b in zip(*centred, strict=True)) / (norms[0] * norms[1])


def _ranks(values: Sequence[float]) -> list[float]:
    ordered = sorted(values)
    first = {value: ordered.index(value) for value in set(values)}
    counts = {value: ordered.count(value) for value in set(values)}
    return [first[value] + (counts[value] - 1) / 2 for value in values]


# -- one case ------------------------------------------------------------------------------------


def training_call(program: Program, graph: Graph, batch: int) -> Callable[[], object]:
    """Forward and backward of a program with fixed numbers."""
    parameters = draw_parameters(graph, 0)
    x = torch.randn(batch, graph.in_features).requires_grad_()
    arrays = [parameters[name].requires_grad_() for name in program.parameter_order]
    gradient = torch.randn(batch, graph.out_features)

    def call() -> tuple[Tensor, ...]:
        y = run(program, (x, *arrays))
        return torch.autograd.grad(y, [x, *arrays], gradient)

    return call


@dataclass(frozen=True, slots=True)
class Wrong:
    """A profile that is wrong on purpose, as it is and as it would be used."""

    as_it_is: Profile
    scaled: Profile


def wrong_profiles() -> list[Wrong]:
    """Profiles of other machines, as far as the planner knows, each scaled to this one."""
    alone = min(shipped_profiles(), key=lambda one: (one.dtype != "float32", one.threads))
    found: list[Wrong] = []
    for seed in FALSE_SEEDS:
        profile = falsified(load_profile().profile, seed)
        # Factors are measured on one thread, whatever the profile is for.
        found.append(Wrong(profile, scaled_by(profile, machine_factors(falsified(alone, seed)))))
    return found


def request_for(backend: str) -> Request:
    """What plans are for where a backend was asked for, or "auto"."""
    kernels = auto_kernels("cpu") if backend == AUTO else None
    cpu = None if kernels is None else kernels.machine().cpu
    return Request(dtype="float32", backend=backend, cpu=cpu)


def measure_case(
    case: PlannerCase, request: Request, budget: float, wrong: Sequence[Wrong]
) -> CaseResult:
    """Time all candidates of a case, then the chosen and the best again."""
    graph = case.build().freeze()
    form = canonicalise(graph)
    start = time.perf_counter()
    search = Search.begin(form.graph, request)
    plans = [ranked.plan for ranked in rank(search, case.batch)]
    planning = time.perf_counter() - start
    chosen, known = plans[0], [search.lowered(plan) for plan in plans]
    for plan in candidates(form.graph, case.batch, request.dtype, request.effort):
        lowered = search.lowered(plan)
        if not any(same_code(lowered, one) for one in known):
            plans.append(plan)
            known.append(lowered)
    predicted = [one.seconds(case.batch).total for one in known]
    programs: dict[int, Program] = {}
    for number, lowered in enumerate(known):
        peak = lowered.peak_bytes(case.batch)
        if predicted[number] <= SLOW and peak <= MOST_BYTES:
            maker = backend_of(lowered.backend)
            programs[number] = maker.program(graph, lowered, form.tensor_names, Build())
    calls = {str(n): training_call(p, graph, case.batch) for n, p in programs.items()}
    for call in calls.values():
        call()  # what is compiled at a first call is no part of its time
    timings = time_alternating(calls, budget=budget)
    measured = {int(name): timing.median for name, timing in timings.items()}
    picked = plans.index(chosen)
    regret = None
    if picked in measured:
        best = min(measured, key=lambda n: measured[n])
        regret = 1.0 if best == picked else _again(calls, picked, best, budget)
    rows = tuple(
        Timed(plan_name(plan), _flops(plan, case.batch), predicted[n], measured.get(n), n == picked)
        for n, plan in enumerate(plans)
    )
    quickest = {int(name): timing.minimum for name, timing in timings.items()}

    def falsely(profile: Profile) -> list[float]:
        return _falsely(search.graph, request, plans, case.batch, profile)

    as_it_is = [falsely(one.as_it_is) for one in wrong if measured]
    scaled = [falsely(one.scaled) for one in wrong if measured]
    return CaseResult(
        case.name,
        case.batch,
        request.backend,
        rows,
        regret,
        planning,
        _after_trials(predicted, measured, quickest)[1] if measured else None,
        tuple(_after_trials(one, measured, quickest)[0] for one in as_it_is),
        tuple(_after_trials(one, measured, quickest)[0] for one in scaled),
        tuple(_after_trials(one, measured, quickest)[1] for one in scaled),
    )


def _falsely(
    graph: Graph, request: Request, plans: Sequence[Plan], batch: int, profile: Profile
) -> list[float]:
    """What another profile predicts for plans."""
    with use_profile(profile):
        search = Search.begin(graph, request)
        return [search.lowered(plan).seconds(batch).total for plan in plans]


def _after_trials(
    predicted: Sequence[float], measured: Mapping[int, float], quickest: Mapping[int, float]
) -> tuple[float, float]:
    """What the plan that is predicted to be the fastest costs over the fastest one; and what the
    one costs that a layer's first calls would take: of those predicted within a factor of two, the
    one with the fastest call, if it is clearly faster.

    Plans that were too slow to be timed cannot be tried; where the prediction picks one of them,
    the best timed one stands for it.
    """
    order = sorted(measured, key=lambda n: predicted[n])
    picked = order[0]
    close = [n for n in order if predicted[n] <= CLOSE * predicted[picked]][: 1 + MOST_CLOSE]
    best = min(close, key=lambda n: quickest[n])
    taken = best if quickest[best] < CLEARLY * quickest[picked] else picked
    fastest = min(measured.values())
    return measured[picked] / fastest, measured[taken] / fastest


def _again(
    calls: Mapping[str, Callable[[], object]], picked: int, best: int, budget: float
) -> float:
    """The chosen plan over the best one, in alternation."""
    two = {name: calls[name] for name in (str(picked), str(best))}
    timings = time_alternating(two, budget=2 * budget, seed=1)
    return timings[str(picked)].median / timings[str(best)].median


def _flops(plan: Plan, batch: int) -> int:
    """FLOPs of forward and backward."""
    return plan.counts.flops.at(batch) + backward_plan(plan).counts.flops.at(batch)


# -- against dense -------------------------------------------------------------------------------


def dense_cases() -> dict[str, Callable[[], Network]]:
    """The layers that are compared with nn.Linear."""
    T, cube = topologies, (16,) * 3
    trains = {
        f"tensor_train 16^3 rank {r}": lambda r=r: T.tensor_train(cube, cube, r)
        for r in (1, 2, 4, 8, 16, 32, 64)
    }
    blocks = {
        f"btt 64x64 rank {r}": lambda r=r: T.btt((64, 64), (64, 64), r) for r in (1, 2, 4, 8, 16)
    }
    others = {
        "tucker 16^3 rank 8": lambda: T.tucker(cube, cube, 8),
        "cp 16^3 rank 32": lambda: T.cp(cube, cube, 32),
    }
    return {**trains, **blocks, **others}


def measure_dense(name: str, net: Network, batch: int, budget: float) -> dict[str, Any]:
    """Forward and backward of a layer and of nn.Linear, and one rebuild of W, side by side."""
    graph = net.freeze()
    layer = Layer(graph, batch=batch, tiers=False)
    layer.prepare((batch,))
    linear = torch.nn.Linear(graph.in_features, graph.out_features, bias=False)
    x = torch.randn(batch, graph.in_features).requires_grad_()
    gradient = torch.randn(batch, graph.out_features)

    def step(module: torch.nn.Module) -> Callable[[], object]:
        arrays = [x, *module.parameters()]
        return lambda: torch.autograd.grad(module(x), arrays, gradient)

    form = canonicalise(graph)
    plans = candidates(form.graph, batch, "float32", "default")
    rebuilt = next((p for p in plans if len(p.stem_steps) == 1), None)
    calls: dict[str, Callable[[], object]] = {"layer": step(layer), "dense": step(linear)}
    # The first calls try plans of close predictions, which may have to be compiled.
    for _ in range(TRIALS):
        calls["layer"]()
    if rebuilt is not None:
        calls["rebuild"] = _rebuild_call(rebuilt, graph, form.tensor_names)
    timings = time_alternating(calls, budget=budget)
    medians = {key: timing.median for key, timing in timings.items()}
    own = rank(Search.begin(form.graph, request_for(AUTO)), batch)[0]
    times = op_times("float32")
    expected = dense_seconds(batch, graph.in_features, graph.out_features, times)
    limit = 1.05 * medians["dense"] + 3 * medians.get("rebuild", 0.0)
    return {
        "name": name,
        "batch": batch,
        **medians,
        "over_limit": medians["layer"] / limit,
        "plan": plan_name(own.plan),
        "predicted": own.seconds.total,
        "predicted_dense": expected.total,
        "dense_wins": medians["dense"] < medians["layer"],
        "dense_called": expected.total < own.seconds.total,
    }


def _rebuild_call(
    plan: Plan, graph: Graph, tensor_names: Mapping[str, str]
) -> Callable[[], object]:
    """The branch of the plan that rebuilds W: its forward at no samples at all."""
    program = Program(graph, replace(plan, batch=1), tensor_names)
    parameters = draw_parameters(graph, 0)
    arrays = [parameters[name] for name in program.parameter_order]
    x = torch.zeros(0, graph.in_features)

    def call() -> object:
        with torch.no_grad():
            return run(program, (x, *arrays))

    return call


# -- tables --------------------------------------------------------------------------------------


def summary(results: Sequence[CaseResult]) -> dict[str, Any]:
    """The figures that the targets are about."""
    timed = [one for result in results for one in result.timed]
    errors = sorted(abs(one.predicted / (one.measured or 1.0) - 1) for one in timed)
    chosen = [abs(one.predicted / (one.measured or 1.0) - 1) for one in timed if one.chosen]
    model = [c for r in results if (c := r.correlation(by_flops=False)) is not None]
    flops = [c for r in results if (c := r.correlation(by_flops=True)) is not None]
    regrets = sorted(r.regret for r in results if r.regret is not None)
    tried = sorted(r.after_trials for r in results if r.after_trials is not None)
    wrong = sorted(one for r in results for one in r.falsified)
    scaled = sorted(one for r in results for one in r.scaled)
    mended = sorted(one for r in results for one in r.scaled_after_trials)
    return {
        "cases": len(results),
        "candidates_timed": len(timed),
        "median_error": statistics.median(errors),
        "median_error_of_the_chosen": statistics.median(chosen),
        "median_correlation": statistics.median(model),
        "median_correlation_of_flops": statistics.median(flops),
        "share_of_regrets_up_to_1.10": sum(r <= 1.10 for r in regrets) / len(regrets),
        "largest_regret": regrets[-1],
        "after_trials_up_to_1.10": _share(tried),
        "falsified_up_to_1.10": _share(wrong),
        "scaled_up_to_1.10": _share(scaled),
        "scaled_after_trials_up_to_1.10": _share(mended),
        "scaled_after_trials_largest": mended[-1],
    }


def _share(regrets: Sequence[float]) -> float:
    return sum(one <= 1.10 for one in regrets) / max(1, len(regrets))


def tables(results: Sequence[CaseResult], dense: Sequence[dict[str, Any]]) -> str:
    """One row a case, then one a comparison with dense."""
    rows = [_row(result) for result in results]
    header = ["case", "batch", "plans", "chosen", "predicted ms", "ms", "rank corr.", "regret"]
    parts = [format_table(header, rows)]
    if dense:
        header = ["layer", "batch", "ms", "dense ms", "rebuild ms", "of limit", "plan", "called"]
        parts.append(format_table(header, [_dense_row(cell) for cell in dense]))
    return "\n\n".join(parts)


def _row(result: CaseResult) -> list[str]:
    chosen = next(one for one in result.candidates if one.chosen)
    correlation = result.correlation(by_flops=False)
    return [
        result.name,
        str(result.batch),
        str(len(result.candidates)),
        chosen.origin,
        f"{chosen.predicted * 1e3:.3g}",
        "-" if chosen.measured is None else f"{chosen.measured * 1e3:.3g}",
        "-" if correlation is None else f"{correlation:.2f}",
        "-" if result.regret is None else f"{result.regret:.2f}",
    ]


def _dense_row(cell: dict[str, Any]) -> list[str]:
    right = cell["dense_wins"] == cell["dense_called"]
    return [
        cell["name"],
        str(cell["batch"]),
        f"{cell['layer'] * 1e3:.3g}",
        f"{cell['dense'] * 1e3:.3g}",
        f"{cell['rebuild'] * 1e3:.3g}" if "rebuild" in cell else "-",
        f"{cell['over_limit']:.2f}",
        cell["plan"],
        ("dense" if cell["dense_called"] else "layer") + ("" if right else " (wrong)"),
    ]


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure, print, write the JSON."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.planner", description=__doc__)
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.add_argument("--quick", action="store_true", help="every eighth case, short samples")
    parser.add_argument("--no-dense", action="store_true", help="leave out the second part")
    parser.add_argument("--only", help="cases whose name contains this")
    parser.add_argument("--output", type=Path, default=None)
    parser.add_argument("--backend", choices=("torch", AUTO), default="torch")
    parser.add_argument("--every", type=int, help="every so many cases (1; 8 with --quick)")
    options = parser.parse_args(arguments)
    budget = 0.05 if options.quick else BUDGET
    given = list(sys.argv[1:] if arguments is None else arguments)
    record: dict[str, Any] = {"schema": 2, **provenance(given)}
    scale_nearest()
    wrong = wrong_profiles()
    record["profile"] = load_profile().source
    cases = [c for c in planner_cases() if options.only is None or options.only in c.name]
    results: list[CaseResult] = []
    request = request_for(options.backend)
    for case in cases[:: options.every or (8 if options.quick else 1)]:
        results.append(measure_case(case, request, budget, wrong))
        print(*_row(results[-1]), sep="  ", file=sys.stderr, flush=True)
    dense: list[dict[str, Any]] = []
    if not options.no_dense:
        for name, build in dense_cases().items():
            for batch in (1, 64, 1024):
                dense.append(measure_dense(name, build(), batch, budget))
                print(*_dense_row(dense[-1]), sep="  ", file=sys.stderr, flush=True)
    record["summary"] = found = summary(results)
    record["cases"] = [
        {
            **asdict(r),
            "correlation": r.correlation(False),
            "correlation_of_flops": r.correlation(True),
        }
        for r in results
    ]
    record["against_dense"] = dense
    kind = "-auto" if options.backend == AUTO else ""
    name = f"planner-cpu{kind}{'-quick' if options.quick else ''}.json"
    write_json(options.output or RESULTS / name, record)
    print(headline(record), tables(results, dense), sep="\n\n")
    print("\n".join(f"{key}: {value:.4g}" for key, value in found.items()))
    return 0
