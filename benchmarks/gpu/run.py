"""CUDA kernels on a GPU: first right, then timed, against dense and chains of einsum calls.

    python -m benchmarks.gpu                      # everything, within 8 minutes
    python -m benchmarks.gpu --cases mera-2 --batches 4096 --output found.json
    python -m benchmarks.gpu --trees              # on any machine: search the chains' trees anew
    python -m benchmarks.gpu --dry                # the script itself, on a CPU; no times

Three parts. *Checks*: every topology, forward and all gradients, fresh random inputs and memory
filled with NaN beforehand, against float64 by torch. *Memory*: guards around all memory of the
kernels of small networks (benchmarks/gpu/guards.py), and compute-sanitizer, where it is installed.
*Times*: forward and forward+backward, in CUDA graphs and eager, of our kernels (fp32, bf16),
nn.Linear in fp32, TF32 and bf16, and the best of many chains of einsum calls, eager, in graphs and
under torch.compile. Inputs rotate through more memory than the L2 cache has.
Each cell is guarded: a failure or a cell that takes too long is recorded as such, and what was
found so far is written after each cell. Where a kernel hangs or faults, so that this process gets
nothing more from the device, a fresh one goes on behind that cell. Nothing that loses is left out.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import signal
import sys
import threading
import time
import traceback
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

import tnlayer as tn
from benchmarks.common.problem import Problem
from benchmarks.common.report import RESULTS, provenance, write_json
from benchmarks.common.workloads import TINY_WORKLOADS
from benchmarks.gpu.checks import (
    SANITIZER_SECONDS,
    SMALL,
    TOOLS,
    check,
    guard,
    resources,
    run_sanitized,
    sanitize,
)
from benchmarks.gpu.clock import Clock, OutOfTime, Sample, at_most
from benchmarks.gpu.device import describe_device, extra_versions
from benchmarks.gpu.methods import CASES, DENSE, TREES, Method, chain, dense, ours, search_trees
from benchmarks.gpu.methods import stored_trees as read_trees
from benchmarks.gpu.report import summary, targets
from tnlayer.runtime import cuda_devices

BATCHES = (4096, 64, 512)
MODES = ("forward", "forward+backward")
BUDGET = 450.0
CELL_SECONDS, CHAIN_SECONDS, COMPILE_SECONDS = 25.0, 20.0, 100.0
# Seconds after its limit until a cell counts as hanging, and processes that may be given up.
HANGS, MOST_RESTARTS = 15.0, 8
# More than an H100's L2 cache, x and y together.
ROTATE_BYTES, MOST_SETS = 64 * 2**20, 32


@dataclass
class Run:
    """One run: what it found so far, and how much time is left.

    Arguments:
        clock: times calls on the device.
        output: the file that is written after each cell.
        record: its content.
        budget: seconds of the whole run.
        backend: of our layers.
        chains: the best chains of a case and batch, by mode.
        earlier: seconds that earlier processes of this run took.
        restart: starts the run again in a fresh process.
    """

    clock: Clock
    output: Path
    record: dict[str, Any]
    budget: float = BUDGET
    backend: str = "cuda"
    chains: dict[tuple[str, int], dict[str, Method]] = field(default_factory=dict)
    earlier: float = 0.0
    restart: Callable[[], None] = field(default_factory=lambda: restart)
    started: float = field(default_factory=time.monotonic)

    @property
    def left(self) -> float:
        """Seconds until the run should end."""
        return self.budget - self.spent

    @property
    def spent(self) -> float:
        """Seconds since the run began, those of processes that were given up included."""
        return self.earlier + time.monotonic() - self.started

    def cell(self, part: str, labels: dict[str, Any], work: Callable[[], Any], limit: float) -> Any:
        """Do a part of the work; whatever happens is recorded, and nothing ends the run.

        What is on record already is not done again.
        """
        if any(labels.items() <= entry.items() for entry in self.record[part]):
            return None
        entry, found = dict(labels), None
        limit = min(limit, self.left)
        watch = threading.Timer(max(0.0, limit) + HANGS, self._give_up, (part, entry))
        watch.daemon = True
        watch.start()
        try:
            with at_most(limit):
                found = work()
                self.clock.wait()
            entry["result"] = asdict(found) if isinstance(found, Sample) else found
        except OutOfTime as error:
            entry["failed"] = str(error)
        except Exception as error:  # the next cell may well run
            entry["failed"] = f"{type(error).__name__}: {str(error)[:600]}"
            entry["where"] = traceback.format_exc(limit=-3)[-1200:]
        finally:
            watch.cancel()
        self._keep(part, entry)
        shown = entry.get("failed") or _shown(found)
        print(f"{part[:6]} {' '.join(map(str, labels.values()))}: {shown}"[:160], flush=True)
        if "failed" in entry and not self.clock.is_healthy():
            self.go_on_elsewhere()
        return found

    def _keep(self, part: str, entry: dict[str, Any]) -> None:
        self.record[part].append(entry)
        self.record["seconds"] = round(self.spent, 1)
        write_json(self.output, self.record)

    def _give_up(self, part: str, entry: dict[str, Any]) -> None:
        """Called beside a cell that hangs: no signal reaches a wait for the device."""
        self._keep(part, {**entry, "failed": "hangs: given up"})
        self.go_on_elsewhere()

    def go_on_elsewhere(self) -> None:
        """Replace this process by a fresh one that goes on with the next cell."""
        self.record["restarts"] += 1
        write_json(self.output, self.record)
        print("a fresh process goes on", flush=True)
        if self.record["restarts"] <= MOST_RESTARTS:
            self.restart()


def restart() -> None:
    """Start this script again, in the place of this process."""
    signal.setitimer(signal.ITIMER_REAL, 0)
    words = [word for word in sys.orig_argv if word != "--resume"]
    os.execv(sys.executable, [*words, "--resume"])


def _shown(found: Any) -> str:
    if isinstance(found, Sample):
        return f"{found.median * 1e6:.1f} us"
    return str(found)[:100]


# -- times ---------------------------------------------------------------------------------


@dataclass(frozen=True)
class Inputs:
    """Sets of x and one gradient of y for a batch; more than the cache holds."""

    x: tuple[Tensor, ...]
    slope: Tensor

    @classmethod
    def draw(cls, problem: Problem, dtype: torch.dtype, device: str) -> Inputs:
        """Random inputs."""
        graph, batch = problem.graph, problem.batch
        size = batch * (graph.in_features + graph.out_features) * 4
        sets = max(2, min(MOST_SETS, math.ceil(ROTATE_BYTES / size))) if device == "cuda" else 2
        x = [
            torch.randn(batch, graph.in_features, device=device, dtype=dtype).requires_grad_()
            for _ in range(sets)
        ]
        slope = torch.randn(batch, graph.out_features, device=device, dtype=dtype)
        return cls(tuple(x), slope)


def calls_of(method: Method, inputs: Inputs) -> dict[str, Callable[[int], object]]:
    """What is timed, by mode; a call takes the number of its input set."""

    def forward(number: int) -> object:
        with torch.no_grad(), method.precision():
            return method.call(inputs.x[number].detach())

    def both(number: int) -> object:
        x = inputs.x[number]
        with method.precision():
            return torch.autograd.grad(method.call(x), [x, *method.leaves], inputs.slope)

    return dict(zip(MODES, (forward, both), strict=True))


def time_method(
    run: Run,
    case: str,
    batch: int,
    name: str,
    make: Callable[[], Method],
    limit: float = CELL_SECONDS,
) -> None:
    """Time a method in both modes, in graphs and eager."""
    problem = Problem.draw(_workloads(run)[case].build().freeze(), batch)
    method = _made(run, {"case": case, "batch": batch, "method": name}, make, limit)
    if method is None:
        return
    inputs = Inputs.draw(problem, method.dtype, run.clock.device)
    for mode, call in calls_of(method, inputs).items():
        for way, clock in (("graph", run.clock.graph), ("eager", run.clock.eager)):
            if way == "graph" and not run.clock.is_cuda:
                continue
            labels = {"case": case, "batch": batch, "method": name, "mode": mode, "way": way}
            run.cell("times", labels, lambda c=clock, f=call: c(f, len(inputs.x)), limit)


def _made(
    run: Run, labels: dict[str, Any], make: Callable[[], Method], limit: float
) -> Method | None:
    """Build a method in a cell of its own, so that a failure is on record."""
    made: list[Method] = []

    def work() -> dict[str, Any]:
        made.append(make())
        layer = made[0].call
        taken = resources(layer) if isinstance(layer, tn.Layer) else []
        return {**made[0].notes, "resources": taken}

    run.cell("built", labels, work, limit)
    return made[0] if made else None


def best_chains(run: Run, case: str, problem: Problem) -> dict[str, Method]:
    """The fastest chain for each mode, all stored trees tried in this process."""
    quick = Clock(run.clock.device, repeat=3)
    best: dict[str, tuple[float, Method]] = {}
    inputs = Inputs.draw(problem, torch.float32, run.clock.device)
    begun = time.monotonic()
    for number, path in enumerate(_trees(run, case)):
        if best and time.monotonic() - begun > CHAIN_SECONDS:
            print(f"{case}: no time for tree {number} and those after it")
            break
        method = chain(problem, path, run.clock.device)
        for mode, call in calls_of(method, inputs).items():
            try:
                once = (quick.graph if quick.is_cuda else quick.eager)(call, 2).median
            except RuntimeError as error:  # out of memory, most likely; other trees need less
                print(f"tree {number} of {case}: {str(error)[:80]}")
                continue
            if mode not in best or once < best[mode][0]:
                best[mode] = (once, method)
    return {mode: method for mode, (_, method) in best.items()}


def time_case(run: Run, case: str, batch: int) -> None:
    """All methods of a case and batch but those that torch compiles."""
    problem = Problem.draw(_workloads(run)[case].build().freeze(), batch)
    device = run.clock.device
    own = f"tnlayer {run.backend}"
    makers: dict[str, Callable[[], Method]] = {
        own: lambda: ours(problem, device, run.backend),
        f"{own} bf16": lambda: ours(problem, device, run.backend, "bfloat16"),
        **{name: lambda n=name: dense(problem, device, n) for name in DENSE},
        "tnlayer torch": lambda: ours(problem, device, "torch"),
    }
    for name, make in makers.items():
        time_method(run, case, batch, name, make)
    for mode in MODES:
        name = f"chain, best {mode}"
        time_method(run, case, batch, name, lambda m=mode: _chain(run, case, problem, m), 60)


def _chain(run: Run, case: str, problem: Problem, mode: str) -> Method:
    """The best chain of a mode; found once for both modes."""
    key = (case, problem.batch)
    if key not in run.chains:
        run.chains[key] = best_chains(run, case, problem)
    return run.chains[key][mode]


def time_compiled(run: Run, case: str, batch: int) -> None:
    """The best chain under torch.compile: last, since it takes a minute to compile."""
    problem = Problem.draw(_workloads(run)[case].build().freeze(), batch)

    def make() -> Method:
        torch._dynamo.reset()
        found = _chain(run, case, problem, "forward+backward")
        return replace(found, call=torch.compile(found.call, dynamic=False))

    time_method(run, case, batch, "chain, torch.compile", make, COMPILE_SECONDS)


# -- the run -------------------------------------------------------------------------------


def _workloads(run: Run) -> dict[str, Any]:
    return CASES if run.clock.is_cuda else TINY_WORKLOADS


def _trees(run: Run, case: str) -> list[Any]:
    if run.clock.is_cuda:
        return read_trees()[case]
    count = len(TINY_WORKLOADS[case].build().freeze().tensors)
    return [tuple((0, 1) for _ in range(count))]  # x with one tensor after the other


def measure(run: Run, cases: Sequence[str], batches: Sequence[int], parts: Sequence[str]) -> None:
    """All parts, the most important cells first."""
    where = (run.clock.device, run.backend)
    if "check" in parts:
        nets = SMALL if run.clock.is_cuda else {k: SMALL[k] for k in ("kronecker", "low_rank")}
        for name, net in nets.items():
            run.cell("checks", {"net": name}, lambda n=net: check(n(), *where), CELL_SECONDS)
        for case in cases:
            net = _workloads(run)[case].build
            run.cell("checks", {"net": case}, lambda n=net: check(n(), *where), 2 * CELL_SECONDS)
    if "time" in parts:
        for case in cases[:1]:
            for batch in batches:
                time_case(run, case, batch)
    if "memory" in parts:
        few = {} if run.clock.is_cuda else {"names": ("kronecker", "low_rank")}
        run.cell("memory", {"tool": "guards"}, lambda: guard(*where, **few), 2 * CELL_SECONDS)
        for tool in TOOLS:
            run.cell("memory", {"tool": tool}, lambda t=tool: sanitize(t), SANITIZER_SECONDS + 5)
    if "compile" in parts:
        time_compiled(run, cases[0], batches[0])
    if "time" in parts:
        for case in cases[1:]:
            for batch in batches:
                time_case(run, case, batch)
    if "compile" in parts:
        for batch in batches[1:]:
            time_compiled(run, cases[0], batch)


def options_of(arguments: Sequence[str]) -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.gpu", description=(__doc__ or "").splitlines()[0]
    )
    parser.add_argument("--cases", nargs="+", help=f"of {', '.join(CASES)}")
    parser.add_argument("--batches", nargs="+", type=int)
    parser.add_argument("--parts", nargs="+", default=["check", "memory", "time", "compile"])
    parser.add_argument("--budget", type=float, default=BUDGET, help="seconds of the whole run")
    parser.add_argument("--output", type=Path)
    parser.add_argument("--commit", help="where there is no git: what is measured")
    parser.add_argument("--dry", action="store_true", help="on a CPU, tiny networks")
    parser.add_argument("--trees", action="store_true", help="search the chains' trees, then end")
    parser.add_argument("--resume", action="store_true", help="go on with what --output has")
    parser.add_argument("--sanitized", action="store_true", help=argparse.SUPPRESS)
    return parser.parse_args(arguments)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the benchmark; 0 unless a check failed or there is no GPU."""
    arguments = sys.argv[1:] if arguments is None else arguments
    options = options_of(arguments)
    if options.trees:
        found = search_trees(options.cases or list(CASES), options.batches or BATCHES)
        write_json(options.output or TREES, {**provenance(arguments), "trees": found})
        return 0
    if not options.dry and not torch.cuda.is_available():
        print("no CUDA device: nothing was measured (--dry runs the script itself)")
        return 2
    if options.sanitized:
        run_sanitized()
        return 0
    device = "cpu" if options.dry else "cuda"
    clock = Clock(device, repeat=3 if options.dry else 20)
    # A dry run has our kernels only where tests put an emulated GPU in place.
    backend = "cuda" if clock.is_cuda or cuda_devices.is_on_gpu(torch.empty(0)) else "torch"
    name = torch.cuda.get_device_name().replace(" ", "-").lower() if clock.is_cuda else "dry"
    output = options.output or RESULTS / f"gpu-{name}.json"
    if options.resume:
        record = json.loads(output.read_text())
    else:
        record = _fresh_record(arguments, options, backend)
    run = Run(clock, output, record, options.budget, backend, earlier=record["seconds"])
    run.cell("device", {"what": "device"}, lambda: describe_device(clock), CELL_SECONDS)
    cases = options.cases or (list(CASES) if clock.is_cuda else list(TINY_WORKLOADS))
    measure(run, cases, options.batches or BATCHES, options.parts)
    run.record["targets"] = targets(run.record)
    write_json(output, run.record)
    print(summary(run.record))
    print(*run.record["targets"], f"{run.record['seconds']} s", output, sep="\n")
    return int(any("failed" in entry for entry in run.record["checks"]))


def _fresh_record(
    arguments: Sequence[str], options: argparse.Namespace, backend: str
) -> dict[str, Any]:
    record = provenance(arguments)
    record["commit"] = options.commit or record["commit"] or "unknown: no git here"
    record["versions"] |= extra_versions()
    parts: dict[str, Any] = {p: [] for p in ("device", "checks", "memory", "built", "times")}
    return {**record, "backend": backend, "seconds": 0.0, "restarts": 0, **parts}
