"""Layers side by side: dense, tnlayer, and what people use today, in one process and run.

    python -m benchmarks.layers --device cpu [--quick] [--cases mera-2 tt-3] [--batches 1 256]

Each method is checked against float64 before it is timed, forward and gradients. The methods of a
cell take turns in shuffled order; the tables show medians, the JSON file all statistics. A method
that cannot run a case is listed with its reason, and a cell that tnlayer loses is marked.
"""

from __future__ import annotations

import argparse
import json
import math
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from benchmarks.common.baselines import (
    METHODS,
    OURS,
    CannotRun,
    Runner,
    dense_matrix,
    tnlayer_layer,
)
from benchmarks.common.problem import Problem
from benchmarks.common.report import RESULTS, format_table, headline, provenance, write_json
from benchmarks.common.search import Path as TreePath
from benchmarks.common.timing import Timing, time_alternating
from benchmarks.common.workloads import BATCHES, TINY_WORKLOADS, WORKLOADS
from tnlayer.graph.graph import Graph

MODES = ("forward", "forward+backward")
QUICK_CASES = ("mera-2", "tt-3", "tt16-8", "btt")
QUICK_BATCHES = (1, 50)
Method = Callable[[Problem], Runner]
# fp32 sums of thousands of terms: beyond this the result is wrong and not only rounded.
TOLERANCE = 1e-4


@dataclass(frozen=True)
class Settings:
    """What a run measures.

    Arguments:
        cases: names of workloads.
        batches: rows of x.
        budget: seconds of timed calls a method and cell.
        slow_limit: calls longer than this many seconds are timed once or twice.
        backend: what our layer is asked to run on.
    """

    cases: tuple[str, ...]
    batches: tuple[int, ...]
    budget: float
    slow_limit: float
    backend: str = "torch"


@dataclass
class Entry:
    """One method in one case at one batch: ready to be timed, or the reason why not."""

    runner: Runner | None = None
    reason: str = ""
    errors: dict[str, float] = field(default_factory=dict)
    first_calls: dict[str, float] = field(default_factory=dict)

    @property
    def wrong(self) -> bool:
        """Whether a result or a gradient is off by more than rounding (or is NaN)."""
        return any(not error <= TOLERANCE for error in self.errors.values())


# -- correctness ---------------------------------------------------------------------------


class Reference:
    """The layer in float64, through its whole matrix, contracted by opt_einsum.

    Arguments:
        problem: any problem of the case; its parameters hold for all batches.
    """

    def __init__(self, problem: Problem) -> None:
        self.leaves = {
            name: value.double().requires_grad_() for name, value in problem.parameters.items()
        }
        self.matrix = dense_matrix(problem, self.leaves)

    def expected(self, problem: Problem) -> dict[str, Tensor]:
        """y, and the gradients of x, of each parameter and of the matrix ("dense")."""
        x, grad = problem.x.double(), problem.grad.double()
        matrix = self.matrix.detach()
        matrix_grad = grad.T @ x
        gradients = torch.autograd.grad(
            self.matrix, list(self.leaves.values()), matrix_grad, retain_graph=True
        )
        return {
            "y": x @ matrix.T,
            "grad x": grad @ matrix,
            "grad dense": matrix_grad,
            **{f"grad {name}": g for name, g in zip(self.leaves, gradients, strict=True)},
        }


def relative_error(actual: Tensor, expected: Tensor) -> float:
    """Largest absolute deviation over the largest absolute entry that is expected."""
    if actual.shape != expected.shape:
        msg = f"result has shape {tuple(actual.shape)}, expected {tuple(expected.shape)}"
        raise ValueError(msg)
    scale = expected.abs().max().item() or 1.0
    return (actual.double() - expected).abs().max().item() / scale


def calls_of(runner: Runner, problem: Problem) -> dict[str, Callable[[], Any]]:
    """The two calls that are timed, by mode."""
    x = problem.x.clone().requires_grad_()
    wanted = [x, *(leaf.tensor for leaf in runner.leaves)]

    def forward() -> Tensor:
        with torch.no_grad():
            return runner.infer(problem.x)

    def forward_backward() -> tuple[Tensor, ...]:
        y = runner.train(x)
        return (y.detach(), *torch.autograd.grad(y, wanted, problem.grad))

    return {MODES[0]: forward, MODES[1]: forward_backward}


def prepare(method: Method, problem: Problem, expected: dict[str, Tensor]) -> Entry:
    """Build a method and check it; what it raises becomes the reason why it cannot run."""
    try:
        runner = method(problem)
        calls = calls_of(runner, problem)
        start = time.perf_counter()
        y = calls[MODES[0]]()
        middle = time.perf_counter()
        trained_y, x_grad, *gradients = calls[MODES[1]]()
        end = time.perf_counter()
    except CannotRun as error:
        return Entry(reason=str(error))
    except Exception as error:  # any failure of a rival is a result of this benchmark
        first_line = str(error).strip().partition("\n")[0]
        return Entry(reason=f"{type(error).__name__}: {first_line}"[:300])
    entry = Entry(runner, first_calls={MODES[0]: middle - start, MODES[1]: end - middle})
    entry.errors["y"] = relative_error(y, expected["y"])
    entry.errors["y in training"] = relative_error(trained_y, expected["y"])
    entry.errors["grad x"] = relative_error(x_grad, expected["grad x"])
    for leaf, gradient in zip(runner.leaves, gradients, strict=True):
        key = f"grad {leaf.name}"
        entry.errors[key] = relative_error(leaf.restore(gradient), expected[key])
    return entry


# -- measuring -----------------------------------------------------------------------------


def measure(problem: Problem, reference: Reference, settings: Settings) -> list[dict[str, Any]]:
    """Check and time all methods on one problem; one record a mode."""
    expected = reference.expected(problem)
    methods = {**METHODS, OURS: lambda problem: tnlayer_layer(problem, settings.backend)}
    entries = {name: prepare(method, problem, expected) for name, method in methods.items()}
    del expected
    running = {name: entry.runner for name, entry in entries.items() if entry.runner is not None}
    calls = {name: calls_of(runner, problem) for name, runner in running.items()}
    records = []
    for mode in MODES:
        timings = time_alternating(
            {name: calls[name][mode] for name in calls},
            budget=settings.budget,
            slow_limit=settings.slow_limit,
            known={name: entries[name].first_calls[mode] for name in calls},
        )
        methods = {name: method_record(entry, timings.get(name)) for name, entry in entries.items()}
        records.append({"batch": problem.batch, "mode": mode, "methods": methods})
    return [{**record, **ratios(record["methods"])} for record in records]


def method_record(entry: Entry, timing: Timing | None) -> dict[str, Any]:
    """What the JSON says of one method in one cell; seconds."""
    if entry.runner is None or timing is None:
        return {"status": "cannot", "reason": entry.reason}
    finite = {key: error if math.isfinite(error) else None for key, error in entry.errors.items()}
    worst = max(finite, key=lambda key: entry.errors[key] if finite[key] is not None else math.inf)
    return {
        "status": "wrong" if entry.wrong else "ok",
        **asdict(timing),
        "max_relative_error": finite[worst],
        "worst_result": worst,
        "notes": _finite(entry.runner.notes),
    }


def _finite(value: Any) -> Any:
    """Notes with None for infinities, which JSON lacks."""
    if isinstance(value, dict):
        return {key: _finite(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def ratios(methods: dict[str, dict[str, Any]]) -> dict[str, Any]:
    """Our time over dense's and over the best rival's; over 1 we lose. None if not both ran."""
    medians = {name: m["median"] for name, m in methods.items() if m["status"] == "ok"}
    ours = medians.pop(OURS, None)
    if ours is None or not medians:
        return {"ours_over_dense": None, "best_baseline": None, "ours_over_best": None}
    best = min(medians, key=lambda name: medians[name])
    over_dense = ours / medians["dense"] if "dense" in medians else None
    return {
        "ours_over_dense": over_dense,
        "best_baseline": best,
        "ours_over_best": ours / medians[best],
    }


def run(settings: Settings, stored: dict[tuple[str, int], tuple[TreePath, ...]]) -> list[Any]:
    """All cells of a run, as JSON-ready records."""
    known = {**WORKLOADS, **TINY_WORKLOADS}
    cells: list[dict[str, Any]] = []
    for case in settings.cases:
        graph: Graph = known[case].build().freeze()
        reference = Reference(Problem.draw(graph, 1))
        for batch in settings.batches:
            start = time.perf_counter()
            problem = Problem.draw(graph, batch, stored.get((case, batch), ()))
            for record in measure(problem, reference, settings):
                cells.append({"case": case, **record})
            took = time.perf_counter() - start
            print(f"{case}, batch {batch}: measured in {took:.1f} s", file=sys.stderr, flush=True)
    return cells


def stored_trees(path: Path) -> dict[tuple[str, int], tuple[TreePath, ...]]:
    """The trees that an earlier run found fastest, by case and batch; none without the file."""
    if not path.exists():
        return {}
    found: dict[tuple[str, int], tuple[TreePath, ...]] = {}
    for cell in json.loads(path.read_text())["cells"]:
        notes = cell["methods"].get("cotengra", {}).get("notes", {})
        best = {tuple(map(tuple, ranked[0]["tree"]["path"])): None for ranked in notes.values()}
        found[cell["case"], cell["batch"]] = tuple(best)
    return found


# -- tables --------------------------------------------------------------------------------


def tables(cells: Sequence[dict[str, Any]]) -> str:
    """One table a mode, with the reasons of the methods that could not run below."""
    reasons: dict[str, int] = {}
    parts = []
    header = ["case", "batch", *METHODS, "ours ran", "ours/dense", "ours/best", "best rival"]
    for mode in MODES:
        rows = [_row(cell, reasons) for cell in cells if cell["mode"] == mode]
        parts.append(f"{mode}, median ms\n{format_table(header, rows)}")
    parts.append(
        "ours/dense, ours/best: our time over theirs; (!) marks a cell that tnlayer loses.\n"
        "~ marks a call too slow to repeat: one or two samples. WRONG: differs from float64."
    )
    notes = [f"[{number}] cannot: {reason}" for reason, number in reasons.items()]
    return "\n\n".join([*parts, *(["\n".join(notes)] if notes else [])])


def _row(cell: dict[str, Any], reasons: dict[str, int]) -> list[str]:
    times = [_time_text(method, reasons) for method in cell["methods"].values()]
    shares = [_ratio_text(cell[key]) for key in ("ours_over_dense", "ours_over_best")]
    ran = cell["methods"][OURS].get("notes", {}).get("backend", "-")
    return [cell["case"], str(cell["batch"]), *times, ran, *shares, cell["best_baseline"] or "-"]


def _time_text(method: dict[str, Any], reasons: dict[str, int]) -> str:
    if method["status"] == "cannot":
        return f"cannot[{reasons.setdefault(method['reason'], len(reasons) + 1)}]"
    milliseconds = method["median"] * 1e3
    text = f"{milliseconds:.3g}" if milliseconds < 1000 else f"{milliseconds:.0f}"
    mark = "~" if method["slow"] else ""
    return text + mark + (" WRONG" if method["status"] == "wrong" else "")


def _ratio_text(ratio: float | None) -> str:
    if ratio is None:
        return "-"
    return f"{ratio:.2f}" + (" (!)" if ratio > 1 else "")


# -- command line --------------------------------------------------------------------------


def parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.layers", description=__doc__)
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.add_argument("--device", choices=["cpu"], default="cpu")
    parser.add_argument("--backend", choices=["auto", "torch", "cpp"], default="torch", help="ours")
    parser.add_argument("--quick", action="store_true", help="few cases and samples: a minute")
    parser.add_argument("--cases", nargs="+", choices=[*WORKLOADS, *TINY_WORKLOADS])
    parser.add_argument("--batches", nargs="+", type=int)
    parser.add_argument("--budget", type=float, help="seconds of timed calls a method and cell")
    parser.add_argument("--slow-limit", type=float, default=3.0, help="seconds a call")
    parser.add_argument("--threads", type=int, help="threads of torch; default: torch's own")
    parser.add_argument("--output", type=Path, help="the JSON file")
    default_trees = RESULTS / "layers-cpu.json"
    parser.add_argument(
        "--trees",
        type=Path,
        default=default_trees,
        help="earlier result whose contraction trees join as candidates for cotengra "
        "(default: %(default)s, if there is one)",
    )
    return parser.parse_args(arguments)


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure, print the tables, write the JSON; 1 if tnlayer cannot run or a result is wrong."""
    options = parse(arguments)
    if options.threads:
        torch.set_num_threads(options.threads)
    torch.backends.opt_einsum.enabled = True
    settings = Settings(
        cases=tuple(options.cases or (QUICK_CASES if options.quick else WORKLOADS)),
        batches=tuple(options.batches or (QUICK_BATCHES if options.quick else BATCHES)),
        budget=options.budget or (0.05 if options.quick else 0.5),
        slow_limit=options.slow_limit,
        backend=options.backend,
    )
    given = list(sys.argv[1:] if arguments is None else arguments)
    record = {"schema": 1, **provenance(given), "settings": asdict(settings)}
    record["cells"] = cells = run(settings, stored_trees(options.trees))
    name = f"layers-{options.device}{'-quick' if options.quick else ''}.json"
    output = options.output or RESULTS / name
    write_json(output, record)
    print(headline(record), tables(cells), f"written: {output}", sep="\n\n")
    statuses = [(name, m["status"]) for cell in cells for name, m in cell["methods"].items()]
    failed = (OURS, "cannot") in statuses or any(status == "wrong" for _, status in statuses)
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
